"""A redis-py that was not tested with: all works, without the parts that are not its public interface."""

from __future__ import annotations

import asyncio

import pytest
import redis
from recording_log import Log
from redis_server import RedisServer, open_redis_cluster_cache
from waiting import until

from kestrun_py.caching import Expiration
from kestrun_py.caching.redis import RedisCache, _redis_py
from kestrun_py.errors import CacheUnavailableError

LONG = Expiration(1200)


@pytest.mark.parametrize(
    ("version", "tested"),
    [
        ("5.2.0", True),
        ("8.1.0", True),
        ("5.1.9", False),
        ("8.2.0", False),
        ("99.0.0", False),
        ("9", False),
        ("x.y", False),
    ],
)
def test_the_versions_that_were_tested(monkeypatch: pytest.MonkeyPatch, version: str, tested: bool) -> None:
    monkeypatch.setattr(redis, "__version__", version)
    assert _redis_py.is_tested() is tested


async def use(cache: RedisCache) -> None:
    await asyncio.gather(*(cache.store(f"key{number}", b"%d" % number, LONG) for number in range(50)))
    assert await asyncio.gather(*(cache.get(f"key{number}") for number in range(50))) == [
        b"%d" % number for number in range(50)
    ]
    lease = await cache.lock("key1", lease_time=60, timeout=60)
    assert lease is not None
    waiter = asyncio.create_task(cache.lock("key1", lease_time=60, timeout=60))
    await asyncio.sleep(0.05)
    await cache.commit(lease, b"after", LONG)
    second = await waiter
    assert second is not None
    assert second.value == b"after"
    await cache.release(second)


async def test_a_server_and_its_return(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redis, "__version__", "99.0.0")
    log = Log()
    with RedisServer() as server:
        cache = RedisCache(server.address, logger=log.logger)
        assert len([text for text in log.alarms if "redis-py 99.0.0 was not tested with" in text]) == 1
        await use(cache)
        server.kill()
        with pytest.raises(CacheUnavailableError):
            await cache.get("key1", timeout=5)
        server.start()

        async def works() -> bool:
            try:
                await cache.store("key1", b"back", LONG)
            except CacheUnavailableError:
                return False
            return True

        await until(works)
        await use(cache)
        await cache.close()


async def test_a_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redis, "__version__", "99.0.0")
    async with open_redis_cluster_cache() as cache:
        await use(cache)
