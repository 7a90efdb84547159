"""The shared connection: every caller gets its own reply, whatever happens to the other callers."""

from __future__ import annotations

import asyncio
import random

import pytest
from redis_server import RedisServer, SlowProxy, open_redis_cache, shared_server

from kestrun_py.caching import Expiration
from kestrun_py.caching.redis import RedisCache
from kestrun_py.errors import CacheTimeoutError, CacheUnavailableError

LONG = Expiration(sliding=1200)


async def test_cancelled_requests_shift_no_replies() -> None:
    """1,000 requests are cancelled at any moment; all others, and all that follow, get what is theirs."""
    async with open_redis_cache() as cache:
        keys = [f"key{number}" for number in range(100)]
        await asyncio.gather(*(cache.store(key, key.encode() * 20, LONG) for key in keys))
        wrong: list[str] = []
        cancelled = 0

        async def read(key: str) -> None:
            if await cache.get(key) != key.encode() * 20:
                wrong.append(key)

        async def change(key: str) -> None:
            lease = await cache.lock(key, lease_time=60, timeout=60)
            if lease is None or lease.value != key.encode() * 20:
                wrong.append(key)
            else:
                await cache.commit(lease, lease.value, LONG)

        async def load() -> None:
            for _ in range(60):
                await random.choice((read, change))(random.choice(keys))

        async def cancel_one() -> None:
            nonlocal cancelled
            task = asyncio.create_task(random.choice((read, change))(random.choice(keys)))
            for _ in range(random.randrange(12)):
                await asyncio.sleep(0)
            task.cancel()
            try:
                await task
            except asyncio.CancelledError:
                cancelled += 1

        async def cancel() -> None:
            for _ in range(100):
                await cancel_one()

        async def until_a_thousand() -> None:
            while cancelled < 1000:
                await cancel_one()

        await asyncio.gather(*(load() for _ in range(10)), *(cancel() for _ in range(10)))
        await asyncio.gather(*(load() for _ in range(2)), until_a_thousand())
        assert cancelled >= 1000
        for key in keys:
            await read(key)
            await asyncio.wait_for(change(key), 60)
        assert wrong == []


async def test_commands_of_one_turn_travel_together() -> None:
    """A hundred requests at once make a handful of reads on the server's side, over one connection."""
    with RedisServer() as server, server.client() as client:
        async with open_redis_cache(server.address) as cache:
            await cache.store("key", b"value", LONG)
            await cache.get("key")  # so that the server knows the script
            before = client.info("stats")
            values = await asyncio.gather(*(cache.get("key") for _ in range(100)))
            after = client.info("stats")
            assert values == [b"value"] * 100
            if "total_reads_processed" in after:
                assert after["total_reads_processed"] - before["total_reads_processed"] < 20
            assert after["total_connections_received"] == before["total_connections_received"]


async def test_each_caller_has_its_own_deadline() -> None:
    with RedisServer() as server:
        async with (
            SlowProxy(server.port, 0) as proxy,
            open_redis_cache(f"127.0.0.1:{proxy.port}") as cache,
        ):
            await cache.store("key", b"value", LONG)
            await cache.get("key")
            proxy.delay = 2
            patient = asyncio.create_task(cache.get("key", timeout=60))
            await asyncio.sleep(0)
            with pytest.raises(CacheTimeoutError):
                await cache.get("key", timeout=0.1)
            assert not patient.done()
            assert await patient == b"value"
            assert await cache.get("key", timeout=60) == b"value"


async def test_slow_answers_are_no_reason_to_reconnect() -> None:
    """A server whose every answer is 2 seconds late is slow, not gone; its late answers confuse nobody."""
    with RedisServer() as server, server.client() as client:
        async with (
            SlowProxy(server.port, 0) as proxy,
            open_redis_cache(f"127.0.0.1:{proxy.port}") as cache,
        ):
            for key in ("a", "b"):
                await cache.store(key, key.encode(), LONG)
                await cache.get(key)
            connections = client.info("stats")["total_connections_received"]
            proxy.delay = 2
            for _ in range(5):
                with pytest.raises(CacheTimeoutError):
                    await cache.get("a", timeout=0.2)
            values = await asyncio.gather(*(cache.get(key, timeout=60) for key in "abab"))
            assert values == [b"a", b"b", b"a", b"b"]
            with pytest.raises(CacheTimeoutError):
                await cache.lock("a", lease_time=60, timeout=0.2)
            proxy.delay = 0
            # The grant that came too late was given back.
            lease = await cache.lock("a", lease_time=60, timeout=30)
            assert lease is not None
            await cache.release(lease)
            assert client.info("stats")["total_connections_received"] <= connections + 1  # one to listen


async def test_no_connection_before_the_first_request() -> None:
    cache = RedisCache(shared_server().address)
    await cache.close()
    with pytest.raises(CacheUnavailableError, match="closed"):
        await cache.get("key")


async def test_closing_fails_what_is_outstanding() -> None:
    with RedisServer() as server:
        cache = RedisCache(server.address)
        await cache.ping()
        server.pause()
        try:
            outstanding = [asyncio.create_task(cache.get("key", timeout=60)) for _ in range(3)]
            await asyncio.sleep(0.1)
            await cache.close()
            for task in outstanding:
                with pytest.raises(CacheUnavailableError):
                    await task
        finally:
            server.resume()


async def test_scripts_are_loaded_when_the_server_has_forgotten_them() -> None:
    with RedisServer() as server, server.client() as client:
        async with open_redis_cache(server.address) as cache:
            for value in (b"one", b"two"):
                await cache.store("key", value, LONG)
                assert await cache.get("key") == value
                client.script_flush()
            assert await asyncio.gather(*(cache.get("key") for _ in range(20))) == [b"two"] * 20
