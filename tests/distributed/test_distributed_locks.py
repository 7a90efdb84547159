"""One session, several hosts: one request at a time, none lost, and none blocked for ever."""

from __future__ import annotations

import asyncio
import signal
import time
import uuid

import pytest
from aiohttp import ClientError
from host_nodes import Node, Nodes, ProcessNode
from redis_server import shared_cluster
from shared_caches import SharedCache
from shared_site import SHORTEST_LEASE, Answer, Visitor
from waiting import until

from kestrun_py.logging import LogLevel
from kestrun_py.sessions import SessionOptions

LATE = 8.0  # seconds that a slow machine may take to notice that the time is up


async def two_hosts(cache: SharedCache, nodes: Nodes, **options: float) -> tuple[Node, Node]:
    """Two hosts with caches and queues of their own, as in two processes."""
    return await nodes.start(cache, **options), await nodes.start(cache, **options)


async def holding(node: Visitor, cookie: str) -> asyncio.Task[Answer]:
    """A request that has incremented the counter, and keeps its session until `/let-go`."""
    request = asyncio.create_task(node.get("/hold", cookie))
    await node.until_held()
    return request


@pytest.mark.parametrize("path", ["/counter", "/counter-def"])
async def test_the_other_host_waits_and_sees_what_was_written(cache: SharedCache, nodes: Nodes, path: str) -> None:
    one, two = await two_hosts(cache, nodes, io_timeout=60)
    cookie = await one.login()
    holder = await holding(one, cookie)
    waiter = asyncio.create_task(two.get(path, cookie))
    await asyncio.sleep(0.3)
    assert not waiter.done()
    await one.get("/let-go")
    assert (await holder).result == 2
    assert (await waiter).result == 3
    assert cache.locks() == 0


@pytest.mark.parametrize("path", ["/counter", "/counter-def", "/read", "/logout", "/renew", "/stream"])
async def test_waiting_ends_with_503(cache: SharedCache, nodes: Nodes, path: str) -> None:
    one, two = await two_hosts(cache, nodes, io_timeout=0.5)
    cookie = await one.login()
    holder = await holding(one, cookie)
    refused = await asyncio.gather(*(node.get(path, cookie) for node in (one, two, two)))
    for answer in refused:
        answer.assert_refused(within=0.5 + LATE)
        assert answer.seconds > 0.4
    assert (await two.get("/plain", cookie)).result == "plain"
    assert (await two.get("/peek", cookie)).result == 1
    await one.get("/let-go")
    assert (await holder).result == 2
    assert (await two.get("/counter", cookie)).result == 3
    for node in (one, two):
        assert any("held the session for more than 0.5 seconds" in text for text in node.log.texts(LogLevel.ERROR))


async def test_continue_writes_nothing_without_the_lock_either(cache: SharedCache, nodes: Nodes) -> None:
    one = await nodes.start(cache)
    two = await nodes.start(cache, io_timeout=0.5, on_cache_failure="continue")
    cookie = await one.login()
    holder = await holding(one, cookie)
    (await two.get("/counter", cookie)).assert_refused(within=0.5 + LATE)
    await one.get("/let-go")
    assert (await holder).result == 2
    assert (await two.get("/counter", cookie)).result == 3


async def test_reading_only_does_not_wait(cache: SharedCache, nodes: Nodes) -> None:
    one, two = await two_hosts(cache, nodes)
    cookie = await one.login()
    holder = await holding(one, cookie)
    for node in (one, two):
        answers = await asyncio.gather(*(node.get("/peek", cookie) for _ in range(5)))
        assert [answer.result for answer in answers] == [1] * 5
    assert not holder.done()
    await one.get("/let-go")
    assert (await holder).result == 2
    assert (await two.get("/peek", cookie)).result == 2


async def test_other_sessions_do_not_wait(cache: SharedCache, nodes: Nodes) -> None:
    one, two = await two_hosts(cache, nodes, io_timeout=60)
    hot, other = await one.login(), await two.login()
    holder = await holding(one, hot)
    waiting = [asyncio.create_task(node.get("/counter", hot)) for node in (one, two) for _ in range(20)]
    for count in range(2, 12):
        assert (await two.get("/counter", other)).result == count
    assert not any(request.done() for request in waiting)
    await one.get("/let-go")
    counts = {(await request).result for request in (holder, *waiting)}
    assert counts == set(range(2, 43))


@pytest.mark.parametrize("path", ["/counter", "/counter-def", "/slow-counter"])
async def test_fifty_increments_through_two_hosts(cache: SharedCache, nodes: Nodes, path: str) -> None:
    one, two = await two_hosts(cache, nodes, io_timeout=60)
    cookie = await one.login()
    answers = await asyncio.gather(*(node.get(path, cookie) for _ in range(25) for node in (one, two)))
    assert sorted(answer.result for answer in answers) == list(range(2, 52))
    assert (await two.get("/read", cookie)).result == 51
    assert cache.locks() == 0


async def test_a_logout_on_one_host_is_not_undone_by_the_other(cache: SharedCache, nodes: Nodes) -> None:
    one, two = await two_hosts(cache, nodes, io_timeout=60)
    cookie = await one.login()
    holder = await holding(one, cookie)
    logout = asyncio.create_task(two.get("/logout", cookie))
    after = asyncio.create_task(one.get("/counter", cookie))
    await asyncio.sleep(0.1)
    assert not logout.done()
    await one.get("/let-go")
    assert (await holder).result == 2
    assert (await logout).cookie == ""
    counted = await after
    # It came before the logout, or after it.
    assert (counted.result, bool(counted.cookie)) in ((3, False), (1, True))
    assert (await one.get("/read", cookie)).result is None


async def test_a_long_request_keeps_its_lock(cache: SharedCache, nodes: Nodes) -> None:
    """It runs for longer than its lease, which is renewed meanwhile."""
    one, two = await two_hosts(cache, nodes, io_timeout=SHORTEST_LEASE * 2)
    assert one.host.services.require(SessionOptions).lease_time == SHORTEST_LEASE
    cookie = await one.login()
    holder = await holding(one, cookie)
    waiter = asyncio.create_task(two.get("/counter", cookie))
    await asyncio.sleep(SHORTEST_LEASE * 1.5)
    assert not waiter.done()
    await one.get("/let-go")
    assert (await holder).result == 2
    assert (await waiter).result == 3


async def test_hosts_on_a_cluster(nodes: Nodes) -> None:
    """Three nodes share the sessions, and one of them has the key ring."""
    options = {"configuration": shared_cluster().configuration, "instance_name": f"{uuid.uuid4()}:"}
    cache = ("add_distributed_redis_cache", options)
    one, two = await nodes.start(cache, io_timeout=60), await nodes.start(cache, io_timeout=60)
    cookies = await asyncio.gather(*(node.login() for node in (one, two) for _ in range(5)))
    requests = [node.get("/counter", cookie) for cookie in cookies for node in (one, two) for _ in range(3)]
    assert sorted(answer.result for answer in await asyncio.gather(*requests)) == sorted([*range(2, 8)] * 10)


# Processes


async def increment(node: Visitor, cookie: str, times: int, at_once: int) -> None:
    async def some() -> None:
        for _ in range(times // at_once):
            assert (await node.get("/slow-counter", cookie)).status == 200

    await asyncio.gather(*(some() for _ in range(at_once)))


async def test_two_processes_increment_500_times_each(cache: SharedCache, nodes: Nodes) -> None:
    one, two = await asyncio.gather(*(nodes.start_process(cache, io_timeout=90) for _ in range(2)))
    cookie = await one.login("/slow-counter")
    await asyncio.gather(*(increment(node, cookie, times=500, at_once=4) for node in (one, two)))
    assert (await two.get("/read", cookie)).result == 1001
    assert len(cache.entries()) == 1
    assert cache.locks() == 0


async def process_that_holds(nodes: Nodes, cache: SharedCache, cookie: str) -> tuple[ProcessNode, asyncio.Task[Answer]]:
    process = await nodes.start_process(cache, io_timeout=SHORTEST_LEASE * 2)
    return process, await holding(process, cookie)


async def test_the_lock_of_a_killed_process_frees_itself(cache: SharedCache, nodes: Nodes) -> None:
    node = await nodes.start(cache)
    cookie = await node.login()
    process, holder = await process_that_holds(nodes, cache, cookie)
    process.send_signal(signal.SIGKILL)
    killed = time.monotonic()
    answer = await node.get("/counter", cookie)
    assert (answer.result, answer.cookie) == (2, None)
    assert time.monotonic() - killed < SHORTEST_LEASE + LATE
    with pytest.raises(ClientError):
        await holder
    assert cache.locks() == 0


async def test_a_request_that_lost_the_lock_cannot_write(cache: SharedCache, nodes: Nodes) -> None:
    """A process that stood still for longer than its lease finds that another one has taken over."""
    node = await nodes.start(cache)
    cookie = await node.login()
    process, holder = await process_that_holds(nodes, cache, cookie)
    process.send_signal(signal.SIGSTOP)
    assert (await node.get("/counter", cookie)).result == 2
    assert (await node.get("/counter", cookie)).result == 3
    process.send_signal(signal.SIGCONT)
    assert (await process.get("/let-go")).status == 200
    answer = await holder
    answer.assert_refused(within=60)
    assert (await process.get("/read", cookie)).result == 3
    assert (await node.get("/counter", cookie)).result == 4
    await until(lambda: cache.locks() == 0)
