"""Requests of one session at once: no update is lost, nothing comes back, and nobody else waits."""

from __future__ import annotations

import asyncio
import contextvars
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from session_support import Answer, RecordingCache, Script, Site, Sites, as_async_def, as_def
from waiting import until

from cmdlets import get_kr_session_int32, get_kr_session_string, set_kr_session_int32, write_kr_json_response
from kestrun_py.context import KestrunContext
from kestrun_py.errors import CacheUnavailableError, SessionNotLoadedError
from kestrun_py.sessions import Session
from kestrun_py.sessions.store import SessionStore

JSON = '{"result":'


def bump(session: Session) -> int:
    count = (session.get_int32("counter") or 0) + 1
    session.set_int32("counter", count)
    return count


def slow_def(work: Callable[[Session], Any], seconds: float = 0.001) -> Script:
    """A ``def`` script that takes its time between reading and writing."""

    def script(context: KestrunContext) -> None:
        before = context.session.get_int32("counter") or 0
        time.sleep(seconds)
        assert (context.session.get_int32("counter") or 0) == before
        context.response.write_json({"result": work(context.session)}, compress=True)

    return script


def slow_async_def(work: Callable[[Session], Any], seconds: float = 0.001) -> Script:
    async def script(context: KestrunContext) -> None:
        before = context.session.get_int32("counter") or 0
        await asyncio.sleep(seconds)
        assert (context.session.get_int32("counter") or 0) == before
        context.response.write_json({"result": work(context.session)}, compress=True)

    return script


KINDS = pytest.mark.parametrize("kind", [slow_def, slow_async_def], ids=["def", "async def"])


def results(answers: list[Answer]) -> list[str]:
    assert {answer.status for answer in answers} == {200}
    return [answer.text.removeprefix(JSON).removesuffix("}") for answer in answers]


@KINDS
async def test_fifty_increments(sites: Sites, kind: Any) -> None:
    site = await sites.serve({"/bump": kind(bump), "/start": as_async_def(lambda s: s.set_int32("counter", 0))})
    cookie = await site.login("/start")
    answers = await asyncio.gather(*(site.get("/bump", cookie) for _ in range(50)))
    assert sorted(map(int, results(answers))) == list(range(1, 51))
    assert results([await site.get("/bump", cookie)]) == ["51"]
    assert site.cache.leases == 0


async def test_fifty_increments_by_both_kinds_in_turn(sites: Sites) -> None:
    site = await sites.serve({"/a": slow_async_def(bump, 0), "/d": slow_def(bump, 0)})
    cookie = (await site.get("/a")).cookie
    answers = await asyncio.gather(*(site.get("/a" if number % 3 else "/d", cookie) for number in range(50)))
    assert sorted(map(int, results(answers))) == list(range(2, 52))


@KINDS
async def test_twenty_different_keys(sites: Sites, kind: Any) -> None:
    def routes(number: int) -> Script:
        script: Script = kind(lambda session: session.set_int32(f"key{number}", number))
        return script

    paths = {f"/{number}": routes(number) for number in range(20)}
    site = await sites.serve({**paths, "/keys": as_async_def(lambda session: len(session.keys))})
    cookie = await site.login("/0")
    results(await asyncio.gather(*(site.get(path, cookie) for path in paths)))
    assert results([await site.get("/keys", cookie)]) == ["20"]


async def test_two_processes_share_a_session_without_losses(sites: Sites) -> None:
    """Two hosts on one cache and one key ring stand for them: each has queues of its own, so the leases decide."""
    cache = RecordingCache()
    one, two = [await sites.serve({"/bump": slow_async_def(bump)}, cache=cache) for _ in range(2)]
    cookie = (await one.get("/bump")).cookie
    answers = await asyncio.gather(*(site.get("/bump", cookie) for _ in range(25) for site in (one, two)))
    assert sorted(map(int, results(answers))) == list(range(2, 52))
    assert cache.leases == 0


async def test_waiting_is_fair(sites: Sites) -> None:
    site = await sites.serve({"/bump": slow_async_def(bump), "/set": as_async_def(bump)})
    cookie = await site.login()
    requests: list[asyncio.Task[Answer]] = []

    def stands_in_line() -> bool:
        return in_line(site) >= len(requests) - 1 or requests[0].done()

    for _ in range(20):
        requests.append(asyncio.create_task(site.get("/bump", cookie)))
        await until(stands_in_line)
        if requests[0].done():
            break
    answers = await asyncio.gather(*requests)
    counts = list(map(int, results(answers)))
    assert counts == sorted(counts)


def in_line(site: Site) -> int:
    """How many requests wait in this process for a session."""
    store = site.host.services.require(SessionStore)
    return sum(len(queue or ()) for queue in store.holds.queues._waiting.values())


# Logout


class Gate:
    """A slow script: tells that it is under way, and waits until it may go on."""

    def __init__(self, *, is_async: bool, work: Callable[[Session], Any]) -> None:
        self.entered = threading.Event()
        self.opened = threading.Event()
        self._work = work
        self.script: Script = self._run_async if is_async else self._run

    def _run(self, context: KestrunContext) -> None:
        result = context.session.get_string("user")
        self.entered.set()
        assert self.opened.wait(30)
        self._work(context.session)
        context.response.write_json({"result": result}, compress=True)

    async def _run_async(self, context: KestrunContext) -> None:
        result = context.session.get_string("user")
        self.entered.set()
        await until(self.opened.is_set)
        self._work(context.session)
        context.response.write_json({"result": result}, compress=True)


READ: Callable[[Session], Any] = lambda session: session.get_string("user")  # noqa: E731
WRITE: Callable[[Session], Any] = lambda session: session.set_string("seen", "yes")  # noqa: E731


@pytest.mark.parametrize("is_async", [False, True], ids=["def", "async def"])
@pytest.mark.parametrize("work", [READ, WRITE], ids=["reading", "writing"])
@pytest.mark.parametrize("lock", ["exclusive", "none"])
@pytest.mark.parametrize("read_only", [False, True], ids=["", "read-only route"])
async def test_logged_out_during_a_slow_request(
    sites: Sites, is_async: bool, work: Callable[[Session], Any], lock: str, read_only: bool
) -> None:
    if read_only and work is WRITE:
        work = READ
    gate = Gate(is_async=is_async, work=work)
    site = await sites.serve(
        {
            "ro:/slow" if read_only else "/slow": gate.script,
            "/login": as_async_def(lambda session: session.set_string("user", "max")),
            "/logout": as_async_def(Session.clear),
            "/who": as_async_def(lambda session: session.get_string("user")),
        },
        lock=lock,
    )
    cookie = await site.login("/login")
    slow = asyncio.create_task(site.get("/slow", cookie))
    await until(gate.entered.is_set)
    logout = asyncio.create_task(site.get("/logout", cookie))
    if lock == "exclusive" and not read_only:
        await until(lambda: in_line(site) == 1)
    else:
        assert (await logout).cookie == ""
    gate.opened.set()
    answer, gone = await asyncio.gather(slow, logout)
    assert gone.cookie == ""
    if lock == "none" and work is WRITE:
        assert answer.status == 503
    else:
        assert results([answer]) == ['"max"']
    assert site.cache.entries == {}
    assert results([await site.get("/who", cookie)]) == ["null"]
    assert site.cache.leases == 0


async def test_a_request_that_waited_for_a_session_that_ended_starts_a_new_one(sites: Sites) -> None:
    gate = Gate(is_async=True, work=Session.clear)
    site = await sites.serve({"/logout": gate.script, "/bump": as_async_def(bump)})
    cookie = (await site.get("/bump")).cookie
    logout = asyncio.create_task(site.get("/logout", cookie))
    await until(gate.entered.is_set)
    waiting = [asyncio.create_task(site.get("/bump", cookie)) for _ in range(3)]
    await until(lambda: in_line(site) == 3)
    gate.opened.set()
    assert (await logout).cookie == ""
    answers = await asyncio.gather(*waiting)
    assert results(answers) == ["1", "1", "1"]
    assert len({answer.cookie for answer in answers} | {cookie}) == 4
    assert len(site.cache.entries) == 3


# Nobody else waits


async def test_a_hot_session_does_not_delay_another(sites: Sites) -> None:
    """While 64 requests stand in line for one session, those of another take no more processor time than before."""
    gates: list[Gate] = []

    async def hold(context: KestrunContext) -> None:
        await gates[-1].script(context)

    site = await sites.serve({"/hold": hold, "/bump": as_async_def(bump)})
    hot, other = (await site.get("/bump")).cookie, (await site.get("/bump")).cookie

    async def cost() -> float:
        began = time.process_time()
        results([await site.get("/bump", other) for _ in range(100)])
        return time.process_time() - began

    factors = []
    for _ in range(5):
        gates.append(Gate(is_async=True, work=READ))
        idle = await cost()
        requests = [asyncio.create_task(site.get("/hold", hot))]
        await until(gates[-1].entered.is_set)
        requests += [asyncio.create_task(site.get("/bump", hot)) for _ in range(64)]
        await until(lambda: in_line(site) == 64)
        factors.append(await cost() / idle)
        gates[-1].opened.set()
        results(await asyncio.gather(*requests))
    assert min(factors) < 3, factors


def indirectly(name: str) -> Script:
    """A ``def`` script whose text does not tell that it uses a session."""

    def script(context: KestrunContext) -> None:
        getattr(context, name).get("a")

    return script


@pytest.mark.parametrize("known", [True, False], ids=["its text tells", "its text does not tell"])
@pytest.mark.parametrize("warm", [True, False], ids=["warm", "cold"])
async def test_a_request_that_waits_for_a_session_holds_no_thread(sites: Sites, known: bool, warm: bool) -> None:
    gate = Gate(is_async=True, work=READ)
    user = as_def(bump) if known else indirectly("session")
    others = set(threading.enumerate())
    site = await sites.serve(
        {
            "/hold": gate.script,
            "/use": user,
            "/start": as_async_def(bump),
            "/free": lambda context: context.response.write_text(threading.current_thread().name),
        },
        max_runspaces=2,
    )
    cookie = await site.login("/start")
    if warm:
        assert (await site.get("/use", cookie)).status == 200
    holder = asyncio.create_task(site.get("/hold", cookie))
    await until(gate.entered.is_set)
    waiting = [asyncio.create_task(site.get("/use", cookie)) for _ in range(10)]
    await until(lambda: in_line(site) == 10)
    answers = await asyncio.wait_for(asyncio.gather(*(site.get("/free") for _ in range(20))), 5)
    assert {answer.status for answer in answers} == {200}
    assert all(not request.done() for request in waiting)
    gate.opened.set()
    answers = await asyncio.gather(holder, *waiting)
    assert {answer.status for answer in answers} == {200}
    await until(lambda: len(runspaces() - others) <= 2)


class Choosy:
    """A ``def`` script that looks at the session when it is told to."""

    def __init__(self) -> None:
        self.looks = True

    def script(self, context: KestrunContext) -> None:
        if self.looks:
            context.session.get_string("user")
        context.response.write_text("seen" if self.looks else "left alone")


async def test_a_def_route_that_may_leave_the_session_alone_does(sites: Sites) -> None:
    choosy = Choosy()
    site = await sites.serve({"/choosy": choosy.script, "/start": as_async_def(bump)}, io_timeout=0.2)
    cookie = await site.login("/start")
    assert (await site.get("/choosy", cookie)).calls == ["lock", "release"]
    for looks in (False, True, False):
        choosy.looks = looks
        answer = await site.get("/choosy", cookie)
        assert answer.calls == (["lock", "release"] if looks else [])
        assert answer.headers.get("Vary") == ("Cookie" if looks else None)
    site.cache.break_down(CacheUnavailableError("the server is gone"))
    assert (await site.get("/choosy", cookie)).text == "left alone"
    choosy.looks = True
    assert (await site.get("/choosy", cookie)).status == 503


async def test_a_def_route_that_left_the_session_alone_may_wait_for_it_in_many_threads(sites: Sites) -> None:
    """It does not know that it will wait; but only two scripts run at a time, and others are not held up."""
    choosy, gate, gauge = Choosy(), Gate(is_async=True, work=READ), Gauge()

    def script(context: KestrunContext) -> None:
        choosy.script(context)
        gauge.pass_through()

    routes: dict[str, Callable[..., Any]] = {
        "/choosy": script,
        "/hold": gate.script,
        "/start": as_async_def(bump),
        "/free": lambda: None,
    }
    site = await sites.serve(routes, max_runspaces=2)
    cookie = await site.login("/start")
    choosy.looks = False
    await site.get("/choosy", cookie)
    choosy.looks = True
    holder = asyncio.create_task(site.get("/hold", cookie))
    await until(gate.entered.is_set)
    waiting = [asyncio.create_task(site.get("/choosy", cookie)) for _ in range(10)]
    await until(lambda: in_line(site) == 10)
    assert (await asyncio.wait_for(site.get("/free"), 5)).status == 200
    gate.opened.set()
    answers = await asyncio.gather(holder, *waiting)
    assert {answer.status for answer in answers} == {200}
    assert gauge.most <= 2


class Gauge:
    """How many threads are inside at once."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.inside = self.most = 0

    def pass_through(self) -> None:
        with self.lock:
            self.inside += 1
            self.most = max(self.most, self.inside)
        time.sleep(0.002)
        with self.lock:
            self.inside -= 1


def runspaces() -> set[threading.Thread]:
    return {thread for thread in threading.enumerate() if thread.name.startswith("runspace")}


async def test_a_slow_def_script_that_holds_a_session(sites: Sites) -> None:
    gate = Gate(is_async=False, work=READ)
    site = await sites.serve(
        {"/hold": gate.script, "/use": as_def(bump), "/free": lambda context: context.response.write_text("free")},
        max_runspaces=2,
    )
    cookie = await site.login("/use")
    holder = asyncio.create_task(site.get("/hold", cookie))
    await until(gate.entered.is_set)
    waiting = [asyncio.create_task(site.get("/use", cookie)) for _ in range(10)]
    await until(lambda: in_line(site) == 10)
    for _ in range(5):
        assert (await asyncio.wait_for(site.get("/free"), 5)).text == "free"
    gate.opened.set()
    results(await asyncio.gather(holder, *waiting))


# The wait is bounded


@pytest.mark.parametrize("on_cache_failure", ["fail", "continue"])
@pytest.mark.parametrize("kind", [as_def, as_async_def], ids=["def", "async def"])
async def test_a_request_that_waits_too_long_gets_503(sites: Sites, kind: Any, on_cache_failure: str) -> None:
    gate = Gate(is_async=True, work=WRITE)
    site = await sites.serve(
        {"/hold": gate.script, "/use": kind(bump)}, io_timeout=0.1, on_cache_failure=on_cache_failure
    )
    cookie = await site.login("/use")
    stored = dict(site.cache.entries)
    holder = asyncio.create_task(site.get("/hold", cookie))
    await until(gate.entered.is_set)
    answer = await site.get("/use", cookie)
    assert answer.status == 503
    assert answer.headers["Retry-After"] == "1"
    assert answer.set_cookie == []
    assert "Error: The service is unavailable" in answer.text
    assert "Another request held the session for more than 0.1 seconds (io_timeout)" in site.log.alarms[-1]
    assert site.cache.entries == stored
    gate.opened.set()
    assert (await holder).status == 200
    assert results([await site.get("/use", cookie)]) == ["2"]


async def test_the_wait_for_another_process_is_bounded_as_well(sites: Sites) -> None:
    gate = Gate(is_async=True, work=WRITE)
    cache = RecordingCache()
    one, two = [
        await sites.serve({"/hold": gate.script, "/use": as_async_def(bump)}, cache=cache, io_timeout=0.1)
        for _ in range(2)
    ]
    await two.login("/use")  # and so it has its keys
    cookie = await one.login("/use")
    holder = asyncio.create_task(one.get("/hold", cookie))
    await until(gate.entered.is_set)
    answer = await two.get("/use", cookie)
    assert answer.status == 503
    assert answer.headers["Retry-After"] == "1"
    assert "Another request held the session" in two.log.alarms[-1]
    gate.opened.set()
    assert (await holder).status == 200
    assert results([await two.get("/use", cookie)]) == ["2"]


# lock="none"


async def test_without_the_lock_requests_overlap_and_the_last_wins(sites: Sites) -> None:
    gate = Gate(is_async=True, work=lambda session: session.set_string("seen", "first"))
    site = await sites.serve(
        {
            "/slow": gate.script,
            "/set": as_async_def(lambda session: session.set_string("seen", "second")),
            "/other": as_async_def(lambda session: session.set_string("other", "lost")),
            "/get": as_async_def(lambda session: [session.get_string("seen"), session.get_string("other")]),
        },
        lock="none",
    )
    cookie = await site.login("/set")
    slow = asyncio.create_task(site.get("/slow", cookie))
    await until(gate.entered.is_set)
    assert (await site.get("/set", cookie)).calls == ["get", "lock", "commit"]
    assert (await site.get("/other", cookie)).status == 200
    gate.opened.set()
    assert (await slow).status == 200
    assert results([await site.get("/get", cookie)]) == ['["first",null]']
    assert site.cache.leases == 0


async def test_without_the_lock_reading_costs_one_call(sites: Sites) -> None:
    site = await sites.serve({"/get": as_async_def(READ), "/set": as_async_def(WRITE)}, lock="none")
    cookie = await site.login()
    assert (await site.get("/get", cookie)).calls == ["get"]


# Two users


@pytest.mark.parametrize("way", ["to_thread", "executor", "thread", "task", "gather"])
async def test_users_never_see_each_other(sites: Sites, way: str) -> None:
    async def in_another(work: Callable[[], Any]) -> Any:
        loop = asyncio.get_running_loop()
        if way == "to_thread":
            return await asyncio.to_thread(work)
        if way == "executor":
            return await loop.run_in_executor(None, contextvars.copy_context().run, work)
        if way == "thread":
            found: list[Any] = []
            thread = threading.Thread(target=lambda: found.append(work()))
            thread.start()
            await asyncio.to_thread(thread.join)
            return found[0]

        async def run() -> Any:
            await asyncio.sleep(0)
            return work()

        return await asyncio.create_task(run()) if way == "task" else (await asyncio.gather(run(), run()))[0]

    async def who(context: KestrunContext) -> None:
        get_kr_session_string("user")
        seen = [await in_another(lambda: get_kr_session_string("user")) for _ in range(5)]
        write_kr_json_response({"result": sorted(set(seen))}, compress=True)

    async def login(context: KestrunContext) -> None:
        context.session.set_string("user", context.request.query["name"])

    site = await sites.serve({"/who": who, "/login": login})
    users = {name: await site.login(f"/login?name={name}") for name in ("ann", "bob", "cyd")}
    names = [*users] * 8
    answers = await asyncio.gather(*(site.get("/who", users[name]) for name in names))
    assert results(answers) == [f'["{name}"]' for name in names]


async def test_def_scripts_of_two_users_never_see_each_other(sites: Sites) -> None:
    def who() -> None:
        first = get_kr_session_string("user")
        found: list[str | None] = []
        threads = [threading.Thread(target=lambda: found.append(get_kr_session_string("user"))) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        write_kr_json_response({"result": sorted({first, *found}, key=str)}, compress=True)

    def login(context: KestrunContext) -> None:
        context.session.set_string("user", context.request.query["name"])

    site = await sites.serve({"/who": who, "/login": login}, max_runspaces=4)
    users = {name: await site.login(f"/login?name={name}") for name in ("ann", "bob", "cyd")}
    names = [*users] * 8
    answers = await asyncio.gather(*(site.get("/who", users[name]) for name in names))
    assert results(answers) == [f'["{name}"]' for name in names]


# Lazy loads


async def nested(depth: int, context: KestrunContext) -> Any:
    await asyncio.sleep(0)
    return await nested(depth - 1, context) if depth else context.session.get_int32("counter")


async def test_a_lazy_load_deep_within_awaits(sites: Sites) -> None:
    async def script(context: KestrunContext) -> None:
        context.response.write_json({"result": await nested(50, context)}, compress=True)

    site = await sites.serve({"/deep": script, "/bump": as_async_def(bump)})
    cookie = (await site.get("/bump")).cookie
    assert results(await asyncio.gather(*(site.get("/deep", cookie) for _ in range(10)))) == ["1"] * 10


async def test_a_lazy_load_within_generators_and_contexts(sites: Sites) -> None:
    class Uses:
        async def __aenter__(self) -> None:
            await asyncio.sleep(0)

        async def __aexit__(self, *_: object) -> None:
            self.counter = context_now[0].session.get_int32("counter")

    context_now: list[KestrunContext] = []

    async def numbers(context: KestrunContext) -> Any:
        for _ in range(2):
            await asyncio.sleep(0)
            yield context.session.get_int32("counter")

    async def script(context: KestrunContext) -> None:
        context_now[:] = [context]
        uses = Uses()
        async with uses:
            pass
        found = [uses.counter] + [number async for number in numbers(context)]
        context.response.write_json({"result": found}, compress=True)

    site = await sites.serve({"/": script, "/bump": as_async_def(bump)})
    cookie = (await site.get("/bump")).cookie
    assert results([await site.get("/", cookie)]) == ["[1,1,1]"]


async def test_tasks_that_load_first_say_how(sites: Sites) -> None:
    async def script(context: KestrunContext) -> None:
        outcomes = await asyncio.gather(nested(1, context), nested(2, context), return_exceptions=True)
        assert [type(outcome) for outcome in outcomes] == [SessionNotLoadedError] * 2
        assert "access the session once in the script before starting it" in str(outcomes[0])
        with pytest.raises(SessionNotLoadedError):
            await asyncio.to_thread(context.session.get, "a")
        await asyncio.gather(context.session.load(), context.session.load())
        outcomes = await asyncio.gather(nested(1, context), nested(2, context))
        context.response.write_json({"result": outcomes}, compress=True)

    site = await sites.serve({"/": script, "/bump": as_async_def(bump)})
    cookie = (await site.get("/bump")).cookie
    answer = await site.get("/", cookie)
    assert results([answer]) == ["[1,1]"]
    assert answer.calls == ["lock", "release"]


async def test_a_timeout_around_a_lazy_load(sites: Sites) -> None:
    gate = Gate(is_async=True, work=WRITE)

    async def script(context: KestrunContext) -> None:
        tries = 0
        while True:
            tries += 1
            try:
                async with asyncio.timeout(0.02):  # noqa: ASYNC100 - the helper waits without `await`
                    context.session.get("a")
                    break
            except TimeoutError:
                if tries == 3:
                    gate.opened.set()
        context.response.write_json({"result": tries >= 3}, compress=True)

    site = await sites.serve({"/hold": gate.script, "/": script, "/bump": as_async_def(bump)})
    cookie = (await site.get("/bump")).cookie
    holder = asyncio.create_task(site.get("/hold", cookie))
    await until(gate.entered.is_set)
    assert results([await site.get("/", cookie)]) == ["true"]
    assert (await holder).status == 200
    assert results([await site.get("/bump", cookie)]) == ["2"]
    assert in_line(site) == 0


@pytest.mark.parametrize("operation", ["lock", "get"])
async def test_a_timeout_while_the_cache_answers(sites: Sites, operation: str) -> None:
    async def script(context: KestrunContext) -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.02):  # noqa: ASYNC100 - the helper waits without `await`
                context.session.get("a")
        gates.clear()
        context.response.write_json({"result": context.session.get_int32("counter")}, compress=True)

    cache = RecordingCache()
    gates = cache.closed_gates
    read_only = operation == "get"
    site = await sites.serve({"ro:/" if read_only else "/": script, "/bump": as_async_def(bump)}, cache=cache)
    cookie = (await site.get("/bump")).cookie
    gates[operation] = asyncio.Event()
    assert results([await site.get("/", cookie)]) == ["1"]
    assert results([await site.get("/bump", cookie)]) == ["2"]
    assert cache.leases == 0


# Work that outlives its request


@pytest.mark.parametrize("way", ["thread", "task", "to_thread"])
async def test_a_write_after_the_request_is_an_error(sites: Sites, way: str) -> None:
    go_on = threading.Event()
    told: list[BaseException] = []
    kept: list[Any] = []

    def late(context: KestrunContext) -> None:
        writes: list[Callable[[], object]] = [
            lambda: context.session.set_int32("late", 1),
            lambda: set_kr_session_int32("late", 1),
            lambda: get_kr_session_int32("late"),
        ]
        for write in writes:
            try:
                write()
            except Exception as error:
                told.append(error)

    def wait_and_write(context: KestrunContext) -> None:
        assert go_on.wait(30)
        late(context)

    async def wait_and_write_async(context: KestrunContext) -> None:
        await until(go_on.is_set)
        late(context)

    async def script(context: KestrunContext) -> None:
        bump(context.session)
        if way == "thread":
            kept.append(threading.Thread(target=wait_and_write, args=(context,)))
            kept[0].start()
        elif way == "task":
            kept.append(asyncio.create_task(wait_and_write_async(context)))
        else:
            kept.append(asyncio.create_task(asyncio.to_thread(wait_and_write, context)))

    site = await sites.serve({"/": script})
    cookie = (await site.get("/")).cookie
    go_on.set()
    await until(lambda: len(told) == 3)
    assert [type(error).__name__ for error in told] == ["SessionClosedError", "ContextError", "ContextError"]
    assert "set_kr_session_int32 was called for a request that has been answered already" in str(told[1])
    assert site.cache.sessions == [{"counter": b"\0\0\0\1"}]
    assert cookie
    if way == "thread":
        kept[0].join()
    else:
        await kept[0]


async def test_a_load_that_outlives_its_request_keeps_no_lock(sites: Sites) -> None:
    """A task that a script started gets the session's lock when the script has ended: nobody would release it."""
    gate = Gate(is_async=True, work=WRITE)
    tasks: list[asyncio.Task[None]] = []

    async def script(context: KestrunContext) -> None:
        tasks.append(asyncio.create_task(context.session.load()))
        await asyncio.sleep(0)

    site = await sites.serve({"/hold": gate.script, "/": script, "/bump": as_async_def(bump)}, io_timeout=5)
    cookie = (await site.get("/bump")).cookie
    holder = asyncio.create_task(site.get("/hold", cookie))
    await until(gate.entered.is_set)
    assert (await site.get("/", cookie)).status == 200
    await until(lambda: in_line(site) == 1)
    gate.opened.set()
    assert (await holder).status == 200
    with pytest.raises(RuntimeError, match="request has ended"):
        await tasks[0]
    assert results([await site.get("/bump", cookie)]) == ["2"]
    assert site.cache.leases == 0


# Cancelled requests


@pytest.mark.parametrize("is_async", [False, True], ids=["def", "async def"])
async def test_a_client_that_leaves_frees_the_lock(sites: Sites, is_async: bool) -> None:
    gate = Gate(is_async=is_async, work=WRITE)
    site = await sites.serve({"/hold": gate.script, "/bump": as_async_def(bump)}, cancels=True)
    cookie = (await site.get("/bump")).cookie
    holder = asyncio.create_task(site.get("/hold", cookie))
    await until(gate.entered.is_set)
    holder.cancel()
    assert results([await site.get("/bump", cookie)]) == ["2"]
    gate.opened.set()
    await asyncio.gather(holder, return_exceptions=True)
    assert site.cache.sessions == [{"counter": b"\0\0\0\2"}]
    await until(lambda: site.cache.leases == 0)


async def test_a_client_that_leaves_the_line(sites: Sites) -> None:
    gate = Gate(is_async=True, work=WRITE)
    site = await sites.serve({"/hold": gate.script, "/bump": as_async_def(bump)}, cancels=True)
    cookie = (await site.get("/bump")).cookie
    holder = asyncio.create_task(site.get("/hold", cookie))
    await until(gate.entered.is_set)
    waiting = [asyncio.create_task(site.get("/bump", cookie)) for _ in range(5)]
    await until(lambda: in_line(site) == 5)
    for request in waiting[:4]:
        request.cancel()
    await until(lambda: in_line(site) == 1)
    gate.opened.set()
    assert (await holder).status == 200
    assert results([await waiting[4]]) == ["2"]
    await asyncio.gather(*waiting, return_exceptions=True)


async def test_a_thread_that_waits_for_a_session_when_its_client_leaves(sites: Sites) -> None:
    gate = Gate(is_async=True, work=WRITE)
    site = await sites.serve(
        {"/hold": gate.script, "/use": indirectly("session"), "/bump": as_async_def(bump)}, cancels=True
    )
    cookie = (await site.get("/bump")).cookie
    holder = asyncio.create_task(site.get("/hold", cookie))
    await until(gate.entered.is_set)
    waiting = asyncio.create_task(site.get("/use", cookie))
    await until(lambda: in_line(site) == 1)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    await asyncio.sleep(0.05)
    gate.opened.set()
    assert (await holder).status == 200
    assert results([await site.get("/bump", cookie)]) == ["2"]
    await until(lambda: site.cache.leases == 0)


@pytest.mark.parametrize("operation", ["store", "commit"])
async def test_a_client_that_leaves_during_the_commit(sites: Sites, operation: str) -> None:
    cache = RecordingCache()
    site = await sites.serve(
        {"/bump": as_async_def(bump), "/clear": as_async_def(Session.clear)}, cache=cache, cancels=True, io_timeout=1
    )
    cookie = (await site.get("/bump")).cookie if operation == "commit" else None
    cache.closed_gates[operation] = asyncio.Event()
    calls = len(cache.calls)
    request = asyncio.create_task(site.get("/bump", cookie))
    await until(lambda: operation in cache.calls[calls:])
    request.cancel()
    await asyncio.gather(request, return_exceptions=True)
    await asyncio.sleep(0.05)
    cache.closed_gates.clear()
    await until(lambda: cache.leases == 0)
    assert cache.sessions == ([{"counter": b"\0\0\0\1"}] if cookie else [])
    if cookie:
        assert results([await site.get("/bump", cookie)]) == ["2"]


async def test_a_real_server_commits_for_a_client_that_left(sites: Sites) -> None:
    gate = Gate(is_async=True, work=WRITE)
    site = await sites.serve({"/hold": gate.script, "/bump": as_async_def(bump)})
    cookie = (await site.get("/bump")).cookie
    holder = asyncio.create_task(site.get("/hold", cookie))
    await until(gate.entered.is_set)
    holder.cancel()
    await asyncio.gather(holder, return_exceptions=True)
    gate.opened.set()
    await until(lambda: site.cache.sessions == [{"counter": b"\0\0\0\1", "seen": b"yes"}])
    assert results([await site.get("/bump", cookie)]) == ["2"]


# Threads and tasks of a script


@pytest.mark.parametrize("kind", ["def", "async def"])
async def test_helpers_in_threads_that_a_script_starts(sites: Sites, kind: str) -> None:
    def in_thread(number: int) -> None:
        assert get_kr_session_int32("counter") == 1
        set_kr_session_int32(f"thread{number}", number)

    def start(session: Session) -> None:
        bump(session)
        threads = [threading.Thread(target=in_thread, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    site = await sites.serve({"/": (as_def if kind == "def" else as_async_def)(start)})
    assert (await site.get("/")).status == 200
    assert set(site.cache.sessions[0]) == {"counter", "thread0", "thread1", "thread2", "thread3"}


@pytest.mark.parametrize("kind", ["def", "async def"])
async def test_a_thread_that_loads_first_says_how(sites: Sites, kind: str) -> None:
    told: list[BaseException] = []

    def first() -> None:
        try:
            get_kr_session_int32("a")
        except Exception as error:
            told.append(error)

    def start() -> None:
        thread = threading.Thread(target=first)
        thread.start()
        thread.join()

    async def start_async() -> None:
        start()

    site = await sites.serve({"/": start if kind == "def" else start_async, "/bump": as_async_def(bump)})
    cookie = (await site.get("/bump")).cookie
    assert (await site.get("/", cookie)).status == 200
    assert isinstance(told[0], SessionNotLoadedError)
    assert "this task or thread cannot load it" in str(told[0])
