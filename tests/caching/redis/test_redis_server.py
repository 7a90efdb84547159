"""What a server says about itself: its version, why it refuses, and how it may lose what it stores."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest
from recording_log import Log
from redis_server import RedisServer, open_redis_cache
from waiting import until

from kestrun_py.caching import Expiration
from kestrun_py.caching.redis import RedisCache, RedisOptions
from kestrun_py.errors import ArgumentError, CacheUnavailableError
from kestrun_py.logging import LogLevel

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def fake_server(handle: Handler) -> AsyncIterator[str]:
    """The address of a server that speaks as `handle` does."""
    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    try:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()


@pytest.mark.parametrize("version", ["3.2.12", "4.0.14"])
async def test_a_version_that_is_too_old_is_named(version: str) -> None:
    async def old(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await reader.read(4096):
                info = f"# Server\r\nredis_version:{version}\r\nrole:master\r\n".encode()
                for command in data.split(b"*")[1:]:
                    writer.write(b"$%d\r\n%s\r\n" % (len(info), info) if b"INFO" in command else b"+OK\r\n")
        writer.close()

    async with fake_server(old) as address, open_redis_cache(address) as cache:
        with pytest.raises(CacheUnavailableError, match=rf"version {version}; Redis 5 or later is needed"):
            await cache.get("key")


async def test_what_the_server_says_before_it_closes_is_shown() -> None:
    async def protected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"-DENIED Redis is running in protected mode\x1b[31m because ...\r\n")
        writer.close()

    async with fake_server(protected) as address, open_redis_cache(address) as cache:
        with pytest.raises(CacheUnavailableError, match=r"DENIED Redis is running in protected mode \[31m because"):
            await cache.get("key")


async def test_a_full_server_is_quoted() -> None:
    with RedisServer("--maxclients", "1") as server, server.client() as client:
        client.ping()  # whose connection stays
        async with open_redis_cache(server.address) as cache:
            with pytest.raises(CacheUnavailableError, match="max number of clients reached"):
                await cache.get("key")


async def test_a_unix_socket_as_stack_exchange_writes_it(tmp_path: Path) -> None:
    path = tmp_path / "redis.sock"
    with RedisServer("--unixsocket", str(path)):
        async with open_redis_cache(f"!{path},connectTimeout=5000") as cache:
            await cache.store("key", b"value", Expiration(60))
            assert await cache.get("key") == b"value"


def test_unix_socket_options() -> None:
    assert RedisOptions(endpoints=["!/run/redis.sock"]).unix_socket == "/run/redis.sock"
    assert RedisOptions(endpoints="!/run/redis.sock").endpoints == ()
    for endpoints in ("!", "!/a,!/b", "!/a,localhost"):
        with pytest.raises(ArgumentError, match="nix"):
            RedisOptions(endpoints=endpoints)


async def problems(cache: RedisCache) -> str:
    return " ".join((await cache.ping()).problems)


async def test_a_server_that_may_lose_sessions_is_a_problem() -> None:
    with RedisServer("--maxmemory-policy", "allkeys-lru") as server, server.client() as client:
        async with open_redis_cache(server.address) as cache:
            both = await problems(cache)
            assert "maxmemory-policy allkeys-lru" in both
            assert "writes nothing to disk" in both
            client.config_set("maxmemory-policy", "noeviction")
            client.config_set("appendonly", "yes")
            assert await problems(cache) == ""
            client.config_set("appendonly", "no")
            client.config_set("save", "3600 1")
            assert await problems(cache) == ""


async def test_a_server_that_goes_and_comes_back_is_two_lines() -> None:
    log = Log()
    with RedisServer() as server:
        cache = RedisCache(server.address, logger=log.logger)
        await cache.store("key", b"value", Expiration(60))
        server.kill()
        for _ in range(20):
            with pytest.raises(CacheUnavailableError) as caught:
                await cache.get("key", timeout=5)
            assert caught.value.reported
        assert len(log.alarms) == 1
        server.start()
        await until(lambda: any("is back" in text for text in log.texts(LogLevel.INFORMATION)))
        assert len(log.alarms) == 1
        await cache.close()
