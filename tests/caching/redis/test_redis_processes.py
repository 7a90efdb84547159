"""Several processes on one entry: nothing is lost, nobody starves, a dead holder blocks nobody for long."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from redis_server import execute, open_redis_cache, shared_cluster, shared_server
from waiting import until

from kestrun_py.caching import Expiration
from kestrun_py.errors import LeaseLostError, LockTimeoutError

LONG = Expiration(sliding=1200)
ROOT = Path(__file__).parents[3]

INCREMENT = """
import asyncio, sys
from kestrun_py.caching import Expiration
from kestrun_py.caching.redis import RedisCache
from kestrun_py.sessions.locks import FairLocks

async def main(configuration, name, times, tasks, hold):
    cache = RedisCache(configuration, instance_name=name)
    locks = FairLocks()
    longest = 0.0
    loop = asyncio.get_running_loop()

    async def increment():
        nonlocal longest
        for _ in range(times):
            await locks.acquire("key", 100)
            asked = loop.time()
            lease = await cache.lock("key", lease_time=30, timeout=100)
            longest = max(longest, loop.time() - asked)
            await asyncio.sleep(hold)
            await cache.commit(lease, b"%d" % (int(lease.value) + 1), Expiration(sliding=1200))
            locks.release("key")

    await cache.ping()
    print("ready", flush=True)
    await asyncio.to_thread(sys.stdin.readline)
    await asyncio.gather(*(increment() for _ in range(tasks)))
    print(longest, flush=True)
    await cache.close()

configuration, name, times, tasks, hold = sys.argv[1:]
asyncio.run(main(configuration, name, int(times), int(tasks), float(hold)))
"""

HOLD = """
import asyncio, sys
from kestrun_py.caching.redis import RedisCache

async def main(configuration, name):
    cache = RedisCache(configuration, instance_name=name)
    lease = await cache.lock("key", lease_time=2, timeout=10)
    print(lease.token, flush=True)
    await asyncio.sleep(600)

asyncio.run(main(*sys.argv[1:]))
"""


@contextmanager
def process(script: str, *arguments: object) -> Iterator[subprocess.Popen[str]]:
    child = subprocess.Popen(
        [sys.executable, "-c", script, *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        yield child
    finally:
        child.kill()
        child.communicate()


async def line_of(child: subprocess.Popen[str]) -> str:
    assert child.stdout is not None
    return (await asyncio.to_thread(child.stdout.readline)).strip()


async def increment_in_two_processes(configuration: str, times: int, tasks: int, hold: float) -> tuple[int, float]:
    """Returns what the entry holds in the end, and the longest wait for its lock as a part of the time it took."""
    name = f"{uuid.uuid4()}:"
    arguments = (INCREMENT, configuration, name, times, tasks, hold)
    async with open_redis_cache(configuration, instance_name=name) as cache:
        await cache.store("key", b"0", LONG)
        with process(*arguments) as first, process(*arguments) as second:
            children = (first, second)
            for child in children:
                assert await line_of(child) == "ready"
            for child in children:
                assert child.stdin is not None
                child.stdin.write("go\n")
                child.stdin.flush()
            began = time.monotonic()
            longest = max([float(await line_of(child)) for child in children])
            elapsed = time.monotonic() - began
            assert [await asyncio.to_thread(child.wait, 60) for child in children] == [0, 0]
        return int(await cache.get("key") or b""), longest / elapsed


@pytest.mark.parametrize("kind", ["one server", "cluster"])
async def test_two_processes_increment_500_times_each(kind: str) -> None:
    configuration = shared_server().address if kind == "one server" else shared_cluster().configuration
    total, _ = await increment_in_two_processes(configuration, times=100, tasks=5, hold=0)
    assert total == 1000


async def test_no_process_starves() -> None:
    """Both processes want the lock all the time, 20 ms each: they take turns."""
    total, longest = await increment_in_two_processes(shared_server().address, times=10, tasks=5, hold=0.02)
    assert total == 100
    assert longest < 0.35  # without turns, one process waits until the other has had enough


async def test_killed_holder_frees_the_lock_within_its_lease() -> None:
    name = f"{uuid.uuid4()}:"
    async with open_redis_cache(shared_server().address, instance_name=name) as cache:
        await cache.store("key", b"value", LONG)
        with process(HOLD, shared_server().address, name) as child:
            assert await line_of(child)
            began = time.monotonic()
            with pytest.raises(LockTimeoutError):
                await cache.lock("key", lease_time=30, timeout=0.2)
            os.kill(child.pid, signal.SIGKILL)
            lease = await cache.lock("key", lease_time=30, timeout=60)
            assert lease is not None
            assert lease.value == b"value"
            assert time.monotonic() - began < 10
            await cache.commit(lease, b"after", LONG)


async def test_waiter_is_told_at_once() -> None:
    """Who waits long asks every 100 ms; told of the release, it has the lock within a fraction of that."""
    name = f"{uuid.uuid4()}:"
    async with open_redis_cache(instance_name=name) as holder, open_redis_cache(instance_name=name) as waiter:
        await holder.store("key", b"value", LONG)
        delays = []
        for _ in range(20):
            lease = await holder.lock("key", lease_time=30, timeout=30)
            assert lease is not None
            waiting = asyncio.create_task(waiter.lock("key", lease_time=30, timeout=30))
            await asyncio.sleep(0.15)
            freed = time.monotonic()
            await holder.commit(lease, b"value", LONG)
            taken = await waiting
            delays.append(time.monotonic() - freed)
            assert taken is not None
            await waiter.release(taken)
        assert sorted(delays)[10] < 0.025


async def test_removal_is_told_at_once() -> None:
    async with open_redis_cache() as cache:
        for end in ("remove", "commit", "store"):
            await cache.store("key", b"value", LONG)
            lease = await cache.lock("key", lease_time=30, timeout=30)
            assert lease is not None
            waiting = asyncio.create_task(cache.lock("key", lease_time=30, timeout=30))
            await asyncio.sleep(0.2)
            if end == "remove":
                await cache.remove("key")
            elif end == "commit":
                await cache.commit(lease, None, LONG)
            else:
                await cache.store("key", b"replaced", LONG)
                with pytest.raises(LeaseLostError):
                    await cache.commit(lease, b"late", LONG)
            taken = await waiting
            if end == "store":
                assert taken is not None
                assert taken.value == b"replaced"
            else:
                assert taken is None


async def test_listening_starts_with_the_first_wait_and_is_not_needed() -> None:
    with shared_server().client() as client:
        async with open_redis_cache(f"{shared_server().address},name=listener") as cache:

            def connections() -> list[str]:
                return [one["id"] for one in client.client_list() if one["name"] == "listener"]

            await cache.store("key", b"value", LONG)
            lease = await cache.lock("key", lease_time=30, timeout=30)
            assert lease is not None
            assert len(connections()) == 1
            waiting = asyncio.create_task(cache.lock("key", lease_time=30, timeout=30))
            await until(lambda: len(connections()) == 2)
            execute(client, "CLIENT", "KILL", "ID", connections()[1])
            await until(lambda: len(connections()) == 1)
            await cache.commit(lease, b"after", LONG)
            taken = await waiting
            assert taken is not None
            assert taken.value == b"after"


@pytest.mark.parametrize("how", ["cancelled", "timed out"])
async def test_turn_of_a_waiter_that_gave_up_is_not_kept(how: str) -> None:
    """Another process has the lock as soon as it is free, and not when the turn of the first one is over."""
    name = f"{uuid.uuid4()}:"
    async with open_redis_cache(instance_name=name) as holder, open_redis_cache(instance_name=name) as waiter:
        await holder.store("key", b"value", LONG)
        delays = []
        for _ in range(10):
            lease = await holder.lock("key", lease_time=30, timeout=30)
            assert lease is not None
            waiting = asyncio.create_task(waiter.lock("key", lease_time=30, timeout=0.2 if how == "timed out" else 30))
            await asyncio.sleep(0.1)
            if how == "cancelled":
                waiting.cancel()
            with pytest.raises((LockTimeoutError, asyncio.CancelledError)):
                await waiting
            await asyncio.sleep(0.01)
            await holder.release(lease)
            freed = time.monotonic()
            again = await holder.lock("key", lease_time=30, timeout=30)
            delays.append(time.monotonic() - freed)
            assert again is not None
            await holder.release(again)
        assert sorted(delays)[5] < 0.03
