"""A cache that is killed, stopped, slow, emptied or not there yet: what hosts answer meanwhile, and afterwards."""

from __future__ import annotations

import asyncio
import time

import pytest
from heartbeat import heartbeat
from host_nodes import Node, Nodes
from recording_log import Log
from redis_server import SlowProxy
from shared_caches import SharedCache
from shared_site import Answer, Visitor
from waiting import until

from kestrun_py.logging import LogLevel

LATE = 8.0  # seconds that a slow machine may take to notice that the time is up; less than the default I/O timeout

IO_TIMEOUT = 1.0

# Whatever a request does with its session.
PATHS = (
    *("/counter", "/counter-def", "/slow-counter", "/read", "/read-def", "/peek", "/logout", "/renew", "/stream"),
    "/available",
)


async def ask_plain(node: Visitor, cookie: str | None, within: float = IO_TIMEOUT) -> None:
    """Requests that ignore their session are answered, and wait for no cache."""
    answers = [await node.get("/plain", cookie) for _ in range(40)]
    assert {(answer.result, answer.cookie) for answer in answers} == {("plain", None)}
    assert min(answer.seconds for answer in answers) < within


class Site:
    """A host whose sessions are about to be missed: a session for each path, each counted to 3, and a late one."""

    def __init__(self, node: Node) -> None:
        self.node = node
        self.cookies: dict[str, str] = {}

    async def prepare(self) -> None:
        for path in (*PATHS, "again"):
            cookie = self.cookies[path] = await self.node.login()
            for count in (2, 3):
                assert (await self.node.get("/counter-def", cookie)).result == count

    async def ask_all(self) -> list[Answer]:
        """Every path with a session of its own, several at once with one session, and without a session."""
        requests = [self.node.get(path, self.cookies[path]) for path in PATHS]
        requests += [self.node.get("/counter", self.cookies["again"]) for _ in range(5)]
        requests += [self.node.get(path) for path in ("/counter", "/counter-def")]
        return await asyncio.gather(*requests)

    async def assert_refuses(self, within: float) -> None:
        """What needs a session is refused in time; what needs none is answered meanwhile."""
        async with heartbeat():
            asking = asyncio.create_task(self.ask_all())
            await ask_plain(self.node, self.cookies["again"])
            answers = await asking
            # And when some requests have failed already.
            await ask_plain(self.node, None)
        for answer in answers:
            answer.assert_refused(within)
        read = await self.node.get("/read")
        assert (read.result, read.cookie) == (None, None)

    async def assert_works(self) -> None:
        """The first requests after the cache is back find the sessions of before."""
        first = await self.node.get("/counter", self.cookies["again"])
        assert (first.result, first.cookie) == (4, None)
        for path, cookie in self.cookies.items():
            if path != "again":
                answer = await self.node.get("/read", cookie)
                assert (answer.result, answer.cookie) == (3, None), path
        cookie = await self.node.login()
        assert (await self.node.get("/counter", cookie)).result == 2


async def prepared(node: Node) -> Site:
    site = Site(node)
    await site.prepare()
    return site


def assert_no_secrets(log: Log, cache: SharedCache, *cookies: str) -> None:
    text = "\n".join(f"{event.message} {dict(event.properties)!r} {event.exception!r}" for event in log.events)
    for secret in (*cookies, *(key.removeprefix(cache.prefix) for key in cache.entries())):
        assert secret not in text


# Killed


async def test_killed(cache: SharedCache, nodes: Nodes) -> None:
    node = await nodes.start(cache)
    site = await prepared(node)
    await asyncio.to_thread(cache.kill)
    for _ in range(2):
        await site.assert_refuses(within=LATE)
    cache.start()
    await site.assert_works()
    assert node.log.alarms
    for text in ("could not be read", "could not be stored"):  # a Debug line where the cache has logged the outage
        assert any(text in event.message for event in node.log.events)
    assert_no_secrets(node.log, cache, *site.cookies.values())


class Counting:
    """Someone who counts without a pause, and notes what must and what may have been stored."""

    def __init__(self, node: Visitor, cookie: str) -> None:
        self._node = node
        self._cookie = cookie
        self.least = self.most = 1
        self.refused = 0
        self.stopped = False

    async def run(self) -> None:
        while not self.stopped:
            await self._count()
            await asyncio.sleep(0 if self.refused == 0 else 0.02)

    async def _count(self) -> Answer:
        answer = await self._node.get("/slow-counter", self._cookie)
        assert answer.cookie is None
        if answer.status == 200:
            self.least = answer.result
            assert self.least <= self.most + 1
            self.most = self.least
        else:
            answer.assert_refused(within=6 + LATE)
            self.refused += 1
            self.most += 1  # the cache may have stored it and died before it said so
        return answer

    async def finish(self) -> None:
        """The very next request succeeds, and tells what was stored."""
        answer = await self._node.get("/slow-counter", self._cookie)
        assert self.least + 1 <= answer.result <= self.most + 1
        assert answer.cookie is None


async def test_killed_while_requests_run(cache: SharedCache, nodes: Nodes) -> None:
    node = await nodes.start(cache, io_timeout=6)  # at the end a request waits for half of it: the lease of a lost one
    counters = [Counting(node, await node.login()) for _ in range(8)]
    async with heartbeat():
        running = [asyncio.create_task(counter.run()) for counter in counters]
        await until(lambda: all(counter.least > 3 for counter in counters))
        await asyncio.to_thread(cache.kill)
        await until(lambda: all(counter.refused > 2 for counter in counters))
        for counter in counters:
            counter.stopped = True
        await asyncio.gather(*running)
    cache.start()
    await asyncio.gather(*(counter.finish() for counter in counters))


async def test_killed_between_load_and_commit(cache: SharedCache, nodes: Nodes) -> None:
    node = await nodes.start(cache)
    cookie = await node.login()
    requests = [asyncio.create_task(node.get("/hold", known)) for known in (cookie, None)]
    await node.until_held(2)
    await asyncio.to_thread(cache.kill)
    await node.get("/let-go")
    for request in requests:
        (await request).assert_refused(within=60)
    cache.start()
    answer = await node.get("/counter", cookie)
    assert (answer.result, answer.cookie) == (2, None)
    assert len(cache.entries()) == 1


async def test_restarted_between_requests_unnoticed(cache: SharedCache, nodes: Nodes) -> None:
    node = await nodes.start(cache)
    cookie = await node.login()
    for count in (2, 3):
        await asyncio.to_thread(cache.kill)
        cache.start()
        assert (await node.get("/counter", cookie)).result == count


# Stopped


async def test_stopped_for_longer_than_the_timeout(cache: SharedCache, nodes: Nodes) -> None:
    node = await nodes.start(cache, io_timeout=IO_TIMEOUT)
    site = await prepared(node)
    cache.pause()
    await site.assert_refuses(within=IO_TIMEOUT + LATE)
    cache.resume()
    await site.assert_works()
    await until(lambda: cache.locks() == 0)


async def test_stopped_between_load_and_commit(cache: SharedCache, nodes: Nodes) -> None:
    node = await nodes.start(cache, io_timeout=IO_TIMEOUT)
    cookie = await node.login()
    requests = [asyncio.create_task(node.get("/hold", known)) for known in (cookie, None)]
    await node.until_held(2)
    cache.pause()
    began = time.monotonic()
    await node.get("/let-go")
    for request in requests:
        (await request).assert_refused(within=60)
    assert time.monotonic() - began < IO_TIMEOUT + LATE
    cache.resume()
    # The whole increment is there or nothing of it: the cache may have got the order, but nobody its answer.
    answer = await node.get("/counter", cookie)
    assert answer.cookie is None
    assert answer.result in (2, 3)
    await until(lambda: cache.locks() == 0)


async def test_stopped_under_load(cache: SharedCache, nodes: Nodes) -> None:
    """More requests than a pool has connections go on asking, timeout after timeout."""
    node = await nodes.start(cache, io_timeout=0.3)
    cookies = [await node.login() for _ in range(100)]
    cache.pause()

    async def insist(cookie: str) -> None:
        for _ in range(4):
            (await node.get("/counter", cookie)).assert_refused(within=0.3 + LATE)

    async with heartbeat():
        await asyncio.gather(*(insist(cookie) for cookie in cookies))
    cache.resume()
    answer = await node.get("/read", cookies[0])
    assert (answer.result, answer.cookie) == (1, None)
    answers = await asyncio.gather(*(node.get("/counter", cookie) for cookie in cookies[1:21]))
    assert [answer.result for answer in answers] == [2] * 20


async def test_stopped_for_less_than_the_timeout(cache: SharedCache, nodes: Nodes) -> None:
    node = await nodes.start(cache, io_timeout=60)
    cookies = [await node.login() for _ in range(5)]
    cache.pause()
    requests = [asyncio.create_task(node.get("/counter", cookie)) for cookie in cookies for _ in range(2)]
    await ask_plain(node, cookies[0])
    assert not any(request.done() for request in requests)
    cache.resume()
    assert sorted([(await request).result for request in requests]) == [2] * 5 + [3] * 5


# Slow


async def test_slow(cache: SharedCache, nodes: Nodes) -> None:
    """Each answer is later than the timeout."""
    async with SlowProxy(cache.port, 0) as proxy:
        node = await nodes.start(cache.verb(proxy.port), io_timeout=IO_TIMEOUT)
        site = await prepared(node)
        proxy.delay = IO_TIMEOUT * 1.5
        await site.assert_refuses(within=IO_TIMEOUT + LATE)
        proxy.delay = 0
        await until_answered(node, site.cookies["again"])
        await site.assert_works()


async def until_answered(node: Node, cookie: str) -> None:
    """Waits until the answers have passed that were on their way when the cache became quick again."""
    deadline = time.monotonic() + 30
    while (await node.get("/read", cookie)).status != 200:
        assert time.monotonic() < deadline


async def test_slow_but_in_time(cache: SharedCache, nodes: Nodes) -> None:
    async with SlowProxy(cache.port, 0) as proxy:
        node = await nodes.start(cache.verb(proxy.port), io_timeout=60)
        cookies = [await node.login() for _ in range(10)]
        proxy.delay = 0.3
        async with heartbeat():
            counting = [asyncio.create_task(node.get("/counter", cookie)) for cookie in cookies]
            await ask_plain(node, cookies[0], within=proxy.delay)
            answers = await asyncio.gather(*counting)
        assert [answer.result for answer in answers] == [2] * 10
        assert all(answer.seconds > 0.5 for answer in answers)


# Emptied


async def test_restarted_empty(cache: SharedCache, nodes: Nodes) -> None:
    node, other = await nodes.start(cache), await nodes.start(cache)
    cookie = await node.login()
    assert (await other.get("/counter", cookie)).result == 2
    await asyncio.to_thread(cache.kill)
    cache.start()
    await asyncio.to_thread(cache.empty)
    for path in ("/read", "/read-def", "/peek"):
        answer = await node.get(path, cookie)
        assert (answer.result, answer.cookie) == (None, None)
    assert cache.entries() == {}
    answer = await node.get("/counter", cookie)
    assert answer.result == 1
    assert answer.cookie not in (None, "", cookie)
    assert (await other.get("/counter", answer.cookie)).result == 2
    late = await nodes.start(cache)  # it finds no key, and makes one
    new = await late.login()
    assert (await node.get("/counter", new)).result == 2


async def test_emptied_while_requests_run(cache: SharedCache, nodes: Nodes) -> None:
    """Who has read a session that is no more cannot bring it back."""
    node = await nodes.start(cache)
    cookie = await node.login()
    request = asyncio.create_task(node.get("/hold", cookie))
    await node.until_held()
    await asyncio.to_thread(cache.empty)
    await node.get("/let-go")
    (await request).assert_refused(within=60)
    assert cache.entries() == {}
    assert (await node.get("/read", cookie)).result is None


# Not there yet


async def test_started_while_the_cache_is_down(cache: SharedCache, nodes: Nodes) -> None:
    before = await nodes.start(cache)
    cookie = await before.login()
    await asyncio.to_thread(cache.kill)
    node = await nodes.start(cache)
    answers = await asyncio.gather(
        *(node.get(path, cookie) for path in PATHS), *(node.get("/counter") for _ in range(3))
    )
    for answer in answers:
        answer.assert_refused(within=LATE)
    async with heartbeat():
        assert (await node.get("/plain", cookie)).result == "plain"
    cache.start()
    answer = await node.get("/counter", cookie)
    assert (answer.status, answer.cookie) == (200, None)
    assert answer.result == 2


async def test_started_while_the_cache_is_stopped(cache: SharedCache, nodes: Nodes) -> None:
    before = await nodes.start(cache)
    cookie = await before.login()
    cache.pause()
    node = await nodes.start(cache, io_timeout=IO_TIMEOUT)
    async with heartbeat():
        answers = await asyncio.gather(
            *(node.get(path, cookie) for path in PATHS), *(node.get("/counter") for _ in range(3))
        )
        assert (await node.get("/plain", cookie)).result == "plain"
    for answer in answers:
        answer.assert_refused(within=IO_TIMEOUT + LATE)
    cache.resume()
    answer = await node.get("/counter", cookie)
    assert (answer.status, answer.cookie) == (200, None)
    assert answer.result == 2


# on_cache_failure="continue"


async def test_continue_while_the_cache_is_down(cache: SharedCache, nodes: Nodes) -> None:
    node = await nodes.start(cache, on_cache_failure="continue")
    cookie = await node.login()
    await asyncio.to_thread(cache.kill)
    expected = {"/counter": 1, "/counter-def": 1, "/read": None, "/peek": None, "/logout": None, "/available": False}
    for path, result in expected.items():
        seen = len(node.log.texts(LogLevel.ERROR))
        answer = await node.get(path, cookie)
        assert (answer.result, answer.cookie) == (result, None), path
        [error] = node.log.texts(LogLevel.ERROR)[seen:]
        assert f"could not be read from the {cache.name} cache" in error
    seen = len(node.log.texts(LogLevel.ERROR))
    new = await node.get("/counter")
    assert (new.result, new.cookie) == (1, None)
    [error] = node.log.texts(LogLevel.ERROR)[seen:]
    assert f"could not be stored in the {cache.name} cache" in error
    cache.start()
    answer = await node.get("/counter", cookie)
    assert (answer.result, answer.cookie) == (2, None)
    assert (await node.get("/available", cookie)).result is True
    assert len(cache.entries()) == 1


async def test_continue_while_the_cache_is_stopped(cache: SharedCache, nodes: Nodes) -> None:
    node = await nodes.start(cache, on_cache_failure="continue", io_timeout=IO_TIMEOUT)
    cookie = await node.login()
    holders = [asyncio.create_task(node.get("/hold", known)) for known in (await node.login(), None)]
    await node.until_held(2)
    cache.pause()
    await node.get("/let-go")
    async with heartbeat():
        answers = await asyncio.gather(
            *(node.get(path, cookie) for path in ("/peek", "/available")), node.get("/counter"), *holders
        )
    assert [answer.result for answer in answers] == [None, False, 1, 2, 1]
    assert [answer.cookie for answer in answers] == [None] * 5
    assert max(answer.seconds for answer in answers[:3]) < IO_TIMEOUT + LATE
    cache.resume()
    answer = await node.get("/counter", cookie)
    assert (answer.result, answer.cookie) == (2, None)


@pytest.mark.parametrize("policy", ["fail", "continue"])
async def test_a_request_queued_behind_one_without_an_answer_blames_the_cache(
    cache: SharedCache, nodes: Nodes, policy: str
) -> None:
    node = await nodes.start(cache, on_cache_failure=policy, io_timeout=IO_TIMEOUT)
    cookie = await node.login()
    cache.pause()
    answers = await asyncio.gather(*(node.get("/available", cookie) for _ in range(20)))
    cache.resume()
    if policy == "fail":
        for answer in answers:
            answer.assert_refused(within=IO_TIMEOUT + LATE)
    else:
        assert [answer.result for answer in answers] == [False] * 20
    errors = [text for text in node.log.texts(LogLevel.ERROR) if "session" in text]
    assert len(errors) == 20
    assert not [text for text in errors if "Another request" in text]
    assert (await node.get("/counter", cookie)).result == 2


async def test_a_request_that_waits_for_another_host_blames_a_cache_that_stops_answering(
    cache: SharedCache, nodes: Nodes
) -> None:
    one = await nodes.start(cache, io_timeout=60)
    two = await nodes.start(cache, io_timeout=2)
    cookie = await one.login()
    holder = asyncio.create_task(one.get("/hold", cookie))
    await one.until_held()
    waiters = [asyncio.create_task(two.get("/counter", cookie)) for _ in range(5)]
    await asyncio.sleep(0.5)  # by then they wait for the lock, not for a first answer
    cache.pause()
    for waiter in waiters:
        (await waiter).assert_refused(within=2 + LATE)
    cache.resume()
    await one.get("/let-go")
    assert (await holder).result == 2
    assert any("could not be read" in text for text in two.log.texts(LogLevel.ERROR))


@pytest.mark.parametrize("policy", ["fail", "continue"])
async def test_no_lock_while_the_cache_is_down(cache: SharedCache, nodes: Nodes, policy: str) -> None:
    node = await nodes.start(cache, lock="none", on_cache_failure=policy)
    cookie = await node.login()
    request = asyncio.create_task(node.get("/hold", cookie))
    await node.until_held()
    await asyncio.to_thread(cache.kill)
    await node.get("/let-go")
    answer = await request
    if policy == "fail":
        answer.assert_refused(within=60)
    else:
        assert (answer.result, answer.cookie) == (2, None)
    cache.start()
    assert (await node.get("/counter", cookie)).result == 2
