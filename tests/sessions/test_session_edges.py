"""Where requests of one session meet at its edges: moved meanwhile, cut short, stuck in line, stuck in an upload."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from aiohttp import web
from aiohttp.typedefs import Handler
from recording_log import Log
from session_support import COOKIE, RecordingCache, Site, Sites, as_async_def, as_def
from waiting import until

from kestrun_py import KestrunHost
from kestrun_py.caching import Expiration
from kestrun_py.context import KestrunContext
from kestrun_py.errors import CacheUnavailableError, LockTimeoutError
from kestrun_py.http import request
from kestrun_py.sessions import Session


def add(session: Session) -> int:
    count = (session.get_int32("cart") or 0) + 1
    session.set_int32("cart", count)
    return count


def look(session: Session) -> dict[str, Any]:
    return {key: session.get_string(key) if key == "user" else session.get_int32(key) for key in session.keys}


def renew(session: Session) -> None:
    session.renew()
    session.set_string("user", "max")


def clear_and_set(session: Session) -> None:
    session.clear()
    session.set_string("user", "max")


class Login:
    """A script that looks at its session, and does what it does when it is told to."""

    def __init__(self, work: Callable[[Session], Any]) -> None:
        self.entered = asyncio.Event()
        self.go_on = asyncio.Event()
        self._work = work

    async def script(self, context: KestrunContext) -> None:
        context.session.get_int32("cart")
        self.entered.set()
        await self.go_on.wait()
        self._work(context.session)


# Moved meanwhile


@pytest.mark.parametrize("hosts", [1, 2])
@pytest.mark.parametrize("kind", [as_def, as_async_def], ids=["def", "async def"])
@pytest.mark.parametrize(("work", "kept"), [(renew, {"cart": 1}), (clear_and_set, {})], ids=["renewed", "set anew"])
async def test_a_request_that_waited_for_a_moved_session_does_not_replace_it(
    sites: Sites, hosts: int, kind: Any, work: Callable[[Session], Any], kept: dict[str, int]
) -> None:
    login = Login(work)
    routes = {"/login": login.script, "/add": kind(add), "/look": kind(look), "/out": kind(Session.abandon)}
    cache = RecordingCache()
    site = await sites.serve(routes, cache=cache)
    other = site if hosts == 1 else await sites.serve(routes, cache=cache)
    await other.login("/add")  # and so it has its keys
    before = len(cache.entries)
    cookie = await site.login("/add")
    moving = asyncio.create_task(site.get("/login", cookie))
    await login.entered.wait()
    locks = cache.calls.count("lock")
    waiting = [asyncio.create_task(other.get(path, cookie)) for path in ("/add", "/look", "/out", "/add")]
    await until(lambda: cache.calls.count("lock") > locks or len(waiting_for(other)) == 4)
    await until(lambda: len(waiting_for(other)) >= 3)
    login.go_on.set()
    new = (await moving).cookie
    assert new
    written, read, ended, *_ = await asyncio.gather(*waiting)
    # What came behind reads nothing, and would have replaced the new cookie by another one.
    assert (read.status, read.text, read.cookie) == (200, '{"result":{}}', None)
    assert [(answer.status, answer.cookie) for answer in (written, ended)] == [(503, None)] * 2
    assert all(1 < int(answer.headers["Retry-After"]) <= 15 for answer in (written, ended))
    assert any("moved the session to a new key" in text for text in other.log.alarms)
    assert (await site.get("/look", new)).text == f'{{"result":{expected(kept)}}}'
    assert len(cache.entries) == before + 1


def waiting_for(site: Site) -> list[object]:
    """The requests of a site that stand in line for a session."""
    from kestrun_py.sessions.store import SessionStore

    queues = site.host.services.require(SessionStore).holds.queues._waiting.values()
    return [turn for queue in queues for turn in queue or ()]


def expected(kept: dict[str, int]) -> str:
    return "{" + "".join(f'"{key}":{value},' for key, value in kept.items()) + '"user":"max"}'


async def test_a_refused_write_is_accepted_after_retry_after(sites: Sites, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kestrun_py.sessions.moves._LATE_SECONDS", 0.5)
    site = await sites.serve({"/add": as_async_def(add), "/renew": as_async_def(renew)}, io_timeout=2)
    cookie = await site.login("/add")
    assert (await site.get("/renew", cookie)).cookie
    moved = time.monotonic()
    refused = await site.get("/add", cookie)
    assert (refused.status, refused.cookie) == (503, None)
    seconds = int(refused.headers["Retry-After"])
    assert 0 < seconds <= 3
    await asyncio.sleep(seconds)
    answer = await site.get("/add", cookie)
    assert (answer.text, bool(answer.cookie)) == ('{"result":1}', True)
    assert time.monotonic() - moved >= 2.4


@pytest.mark.parametrize("hosts", [1, 2])
async def test_a_login_whose_answer_was_lost_can_be_repeated_at_once(sites: Sites, hosts: int) -> None:
    cache = RecordingCache()
    routes = {"/add": as_async_def(add), "/login": as_async_def(renew), "/look": as_async_def(look)}
    served = [await sites.serve(routes, cache=cache) for _ in range(hosts)]
    cookie = await served[0].login("/add")
    lost = await served[0].get("/login", cookie)
    again = await served[-1].get("/login", cookie)
    assert (lost.status, again.status) == (200, 200)
    assert again.cookie not in (None, "", lost.cookie, cookie)
    assert (await served[-1].get("/look", again.cookie)).text == '{"result":{"user":"max"}}'
    assert (await served[-1].get("/add", cookie)).status == 503


@pytest.mark.parametrize("hosts", [1, 2])
@pytest.mark.parametrize("lock", ["exclusive", "none"])
async def test_a_write_after_a_logout_starts_a_new_session(sites: Sites, hosts: int, lock: str) -> None:
    cache = RecordingCache()
    routes = {"/add": as_async_def(add), "/out": as_async_def(Session.abandon)}
    served = [await sites.serve(routes, cache=cache, lock=lock) for _ in range(hosts)]
    cookie = await served[0].login("/add")
    assert (await served[0].get("/out", cookie)).cookie == ""
    assert cache.markers == {}
    answer = await served[-1].get("/add", cookie)
    assert (answer.text, bool(answer.cookie)) == ('{"result":1}', True)


async def test_a_marker_names_no_key_but_the_old_one(sites: Sites) -> None:
    site = await sites.serve({"/add": as_async_def(add), "/renew": as_async_def(renew)}, idle_timeout=3600)
    cookie = await site.login("/add")
    [old] = site.cache.entries
    await site.get("/renew", cookie)
    [new] = site.cache.entries
    [(marked, value)] = site.cache.markers.items()
    assert marked == old
    assert new.encode() not in value
    assert 10 < int.from_bytes(value, "big") / 1000 - time.time() <= 15.1


@pytest.mark.parametrize("marker", [b"", b"poison", b"\xff" * 8, b"\xff" * 9, bytes(8)])
async def test_a_marker_that_is_none_counts_as_none(sites: Sites, marker: bytes) -> None:
    site = await sites.serve({"/add": as_async_def(add), "/out": as_async_def(Session.abandon)})
    cookie = await site.login("/add")
    [key] = site.cache.entries
    await site.get("/out", cookie)
    await site.cache.store(f"kr.moved:{key}", marker, Expiration(60))
    assert (await site.get("/add", cookie)).text == '{"result":1}'


async def test_no_entry_is_removed_before_its_marker_is_stored(sites: Sites) -> None:
    site = await sites.serve({"/add": as_async_def(add), "/renew": as_async_def(renew), "/look": as_async_def(look)})
    cookie = await site.login("/add")
    [key] = site.cache.entries
    site.cache.break_down(CacheUnavailableError("the server is gone"), "store")
    answer = await site.get("/renew", cookie)
    assert (answer.status, answer.cookie) == (503, None)
    site.cache.repair()
    assert list(site.cache.entries) == [key]
    assert (await site.get("/look", cookie)).text == '{"result":{"cart":1}}'
    renewed = await site.get("/renew", cookie)
    names = [k for name, k in zip(site.cache.calls, site.cache.keys, strict=True) if name in ("store", "commit")]
    assert names[-3:] == [f"kr.moved:{key}", *site.cache.entries, key]
    assert renewed.cookie


async def test_without_the_lock_a_refusal_tells_the_true_time(sites: Sites) -> None:
    """The session was moved while another request had read it."""
    slow = Login(add)
    site = await sites.serve(
        {"/slow": slow.script, "/add": as_async_def(add), "/renew": as_async_def(renew)}, lock="none"
    )
    cookie = await site.login("/add")
    writing = asyncio.create_task(site.get("/slow", cookie))
    await slow.entered.wait()
    assert (await site.get("/renew", cookie)).cookie
    slow.go_on.set()
    answer = await writing
    assert (answer.status, answer.cookie) == (503, None)
    assert 1 < int(answer.headers["Retry-After"]) <= 15


async def test_two_requests_may_end_a_session_at_once_without_the_lock(sites: Sites) -> None:
    logins = [Login(Session.abandon) for _ in range(2)]
    site = await sites.serve(
        {"/add": as_async_def(add), "/0": logins[0].script, "/1": logins[1].script},
        lock="none",
    )
    cookie = await site.login("/add")
    ending = [asyncio.create_task(site.get(f"/{number}", cookie)) for number in range(2)]
    for login in logins:
        await login.entered.wait()
    for login, request_ in zip(logins, ending, strict=True):
        login.go_on.set()
        answer = await request_
        assert (answer.status, answer.cookie) == (200, "")


# Cut short


class LateCache(RecordingCache):
    """Does what a commit asks for at once, and answers when it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.answering = asyncio.Event()
        self.answering.set()

    async def commit(self, *arguments: Any, **options: Any) -> None:
        await super().commit(*arguments, **options)
        await self.answering.wait()

    def commit_at_once(self, *arguments: Any) -> bool:
        return False


async def test_a_move_is_not_left_half_done(sites: Sites) -> None:
    @web.middleware
    async def deadline(request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            async with asyncio.timeout(0.2):
                return await handler(request)
        except TimeoutError:
            return web.Response(status=504)

    log, cache = Log(), LateCache()
    host = KestrunHost("test", logger=log.logger).use(deadline)
    routes = {"/add": as_async_def(add), "/renew": as_async_def(renew), "/look": as_async_def(look)}
    site = await sites.serve(routes, host=host, cache=cache)
    cookie = await site.login("/add")
    cache.answering.clear()
    moving = asyncio.create_task(site.get("/renew", cookie))
    await until(lambda: "commit" in cache.calls)
    await asyncio.sleep(0.3)
    cache.answering.set()
    answer = await moving
    assert answer.status == 504
    assert answer.cookie
    assert (await site.get("/look", answer.cookie)).text == '{"result":{"cart":1,"user":"max"}}'


@pytest.mark.parametrize("is_async", [False, True], ids=["def", "async def"])
async def test_what_a_script_has_cancelled_is_not_its_request(sites: Sites, is_async: bool) -> None:
    async def cancelled() -> None:
        task = asyncio.create_task(asyncio.sleep(60))
        await asyncio.sleep(0)
        task.cancel()
        await task

    async def awaits(context: KestrunContext) -> None:
        add(context.session)
        await cancelled()

    def runs(context: KestrunContext) -> None:
        add(context.session)
        asyncio.run(cancelled())

    site = await sites.serve({"/fails": awaits if is_async else runs, "/add": as_async_def(add)})
    cookie = await site.login("/add")
    assert (await site.get("/fails", cookie)).status == 500
    assert any("GET /fails failed" in text for text in site.log.alarms)
    assert (await site.get("/add", cookie)).text == '{"result":3}'


async def test_a_middleware_that_has_cancelled_something_fails_like_any_other(sites: Sites) -> None:
    @web.middleware
    async def gives_up(request: web.Request, handler: Handler) -> web.StreamResponse:
        await handler(request)
        raise asyncio.CancelledError

    log = Log()

    def configure(host: KestrunHost) -> None:
        host.use(gives_up)

    host = KestrunHost("test", logger=log.logger)
    site = await sites.serve({"/add": as_async_def(add)}, host=host, configure=configure)
    assert (await site.get("/add")).status == 500
    assert any("GET /add failed" in text for text in log.alarms)
    assert len(site.cache.entries) == 1


async def test_a_failure_is_logged_though_the_session_cannot_be_stored(sites: Sites) -> None:
    @web.middleware
    async def fails(request: web.Request, handler: Handler) -> web.StreamResponse:
        await handler(request)
        raise LookupError("the middleware's own")

    log = Log()
    host = KestrunHost("test", logger=log.logger)
    site = await sites.serve({"/add": as_async_def(add)}, host=host, configure=lambda host: host.use(fails))
    site.cache.break_down(CacheUnavailableError("the server is gone"), "store")
    assert (await site.get("/add")).status == 503
    await until(lambda: "the middleware's own" in log.everything)


async def test_a_stream_that_was_cut_short_before_it_began_leaves_no_trace(sites: Sites) -> None:
    async def stream(context: KestrunContext) -> web.StreamResponse:
        add(context.session)
        response = web.StreamResponse()
        try:
            async with asyncio.timeout(0.1):
                await response.prepare(context.request.raw)
        except TimeoutError:
            return web.Response(text="come again")
        return response

    site = await sites.serve({"/add": as_async_def(add), "/stream": stream}, io_timeout=1)
    cookie = await site.login("/add")
    site.cache.closed_gates["commit"] = asyncio.Event()
    reader, writer = await asyncio.open_connection("127.0.0.1", site.client.port)
    head = f"GET /stream HTTP/1.1\r\nHost: x\r\nConnection: close\r\nCookie: {COOKIE}={cookie}\r\n\r\n"
    writer.write(head.encode())
    answer = await reader.read()
    writer.close()
    assert answer.endswith(b"\r\n\r\ncome again")
    assert b"Content-Length: 10\r\n" in answer


# Stuck


@pytest.mark.parametrize("kind", ["def", "async def"])
async def test_a_session_is_free_while_its_client_still_sends(sites: Sites, kind: str) -> None:
    async def awaits(context: KestrunContext) -> None:
        context.session.set_int32("size", len(context.request.read_text()))

    def runs(context: KestrunContext) -> None:
        context.session.set_int32("size", len(context.request.read_text()))

    site = await sites.serve({"/send": runs if kind == "def" else awaits, "/add": as_async_def(add)}, io_timeout=60)
    cookie = await site.login("/add")
    for _ in range(40):  # until the route has its session loaded before its script runs
        assert (await site.get("/send", cookie, method="POST")).status == 200
    reader, writer = await asyncio.open_connection("127.0.0.1", site.client.port)
    head = (
        f"POST /send HTTP/1.1\r\nHost: x\r\nConnection: close\r\nCookie: {COOKIE}={cookie}\r\nContent-Length: 4\r\n\r\n"
    )
    writer.write(head.encode() + b"ab")
    async with asyncio.timeout(30):
        for count in range(2, 12):
            assert (await site.get("/add", cookie)).text == f'{{"result":{count}}}'
            await asyncio.sleep(0.01)
        writer.write(b"cd")
        assert b" 200 " in (await reader.read()).partition(b"\r\n")[0]
    writer.close()


@pytest.mark.parametrize("kind", ["text", "multipart"])
async def test_a_client_that_falls_silent_is_given_up(sites: Sites, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(request, "_GRACE", 1.0)
    monkeypatch.setattr(request, "_LEAST_RATE", 4)

    def takes(context: KestrunContext) -> None:
        add(context.session)
        context.response.write_json(str(context.request.read_body()))

    site = await sites.serve({"/send": takes, "/add": as_async_def(add)}, io_timeout=60)
    cookie = await site.login("/add")
    media = "text/plain" if kind == "text" else "multipart/form-data; boundary=x"
    head = f"POST /send HTTP/1.1\r\nHost: x\r\nCookie: {COOKIE}={cookie}\r\nContent-Type: {media}\r\n"
    slow, silent = [await asyncio.open_connection("127.0.0.1", site.client.port) for _ in range(2)]
    body = b"x" * 40 if kind == "text" else b"--x\r\nContent-Disposition: form-data; name=a\r\n\r\n1234\r\n--x--\r\n"
    slow[1].write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode())
    for at in range(0, len(body), 6):  # 24 bytes a second, which is slow and no silence
        slow[1].write(body[at : at + 6])
        await asyncio.sleep(0.25)
    assert b" 200 " in await slow[0].readline()
    silent[1].write(f"{head}Content-Length: 1000\r\n\r\n".encode() + b"--x\r\n")
    async with asyncio.timeout(30):
        assert b" 408 " in await silent[0].readline()
    for _, writer in (slow, silent):
        writer.close()
    assert (await site.get("/add", cookie)).text == '{"result":4}'


async def test_a_session_is_free_while_its_script_stands_in_line(sites: Sites) -> None:
    entered, go_on = threading.Event(), threading.Event()

    def busy() -> None:
        entered.set()
        assert go_on.wait(30)

    site = await sites.serve(
        {"/busy": busy, "/def": as_def(add), "/add": as_async_def(add)}, io_timeout=60, max_runspaces=1
    )
    cookie = await site.login("/add")
    await site.get("/def", cookie)
    holding = asyncio.create_task(site.get("/busy"))
    await until(entered.is_set)
    in_line = asyncio.create_task(site.get("/def", cookie))
    await asyncio.sleep(0.1)
    async with asyncio.timeout(30):
        assert (await site.get("/add", cookie)).text == '{"result":3}'
    assert not in_line.done()
    go_on.set()
    await holding
    assert (await in_line).text == '{"result":4}'


async def test_the_wait_for_a_slow_cache_counts_as_well() -> None:
    timeouts: list[float] = []

    class Slow(RecordingCache):
        async def _try_lock(self, key: str, token: str, lease_time: float, timeout: float) -> Any:
            timeouts.append(timeout)
            await asyncio.sleep(min(timeout, 0.4))
            return await super()._try_lock(key, token, lease_time, timeout)

    cache = Slow()
    await cache.store("key", b"value", Expiration(60))
    assert await cache.lock("key", lease_time=30, timeout=5)
    with pytest.raises(LockTimeoutError):
        await cache.lock("key", lease_time=30, timeout=0.5)
    assert all(timeout <= 0.1 for timeout in timeouts[2:])
    await cache.close()
