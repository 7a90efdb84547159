"""Finding a server that serves: silent and slow ones among the endpoints, Sentinels, clusters that are down."""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from redis_server import RedisCluster, RedisServer, SlowProxy, execute, open_redis_cache
from waiting import until

from kestrun_py.caching import Expiration
from kestrun_py.caching.redis import RedisCache
from kestrun_py.errors import CacheUnavailableError

LONG = Expiration(sliding=1200)


@pytest.fixture
def server() -> Iterator[RedisServer]:
    with RedisServer() as server:
        yield server


@pytest.fixture
def silent() -> Iterator[RedisServer]:
    """A server that takes connections and says nothing."""
    with RedisServer() as server:
        server.pause()
        yield server


@contextmanager
def sentinel_of(primary: RedisServer, password: str | None = None) -> Iterator[RedisServer]:
    """A Sentinel that watches a primary as "main"."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "sentinel.conf"
        login = f"requirepass {password}\n" if password else ""
        file.write_text(f"sentinel monitor main 127.0.0.1 {primary.port} 1\n{login}")
        with RedisServer(sentinel=file, password=password) as sentinel:
            yield sentinel


async def works(cache: RedisCache) -> None:
    await cache.store("key", b"value", LONG, timeout=10)
    assert await cache.get("key") == b"value"


# Endpoints that say nothing, or everything late


async def test_silent_endpoint_before_a_healthy_one(server: RedisServer, silent: RedisServer) -> None:
    configuration = f"{silent.address},{server.address},connectTimeout=2000,name=endpoints"
    async with open_redis_cache(configuration) as cache:
        await works(cache)
        with server.client() as client:
            execute(client, "CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        began = time.monotonic()
        assert await cache.get("key") == b"value"
        assert time.monotonic() - began < 2  # the one that was connected last is tried first


async def test_silent_sentinel_beside_a_healthy_one(server: RedisServer, silent: RedisServer) -> None:
    with sentinel_of(server) as sentinel:
        configuration = f"{silent.address},{sentinel.address},serviceName=main,connectTimeout=5000"
        async with open_redis_cache(configuration) as cache:
            began = time.monotonic()
            await works(cache)
            assert time.monotonic() - began < 5


async def test_silent_node_of_a_cluster() -> None:
    cluster = RedisCluster()
    try:
        cluster.servers[0].pause()
        async with open_redis_cache(f"{cluster.configuration},connectTimeout=700", instance_name="") as cache:
            healthy = [name for number in range(30) if served(cluster, name := f"key{number}") > 0]
            await asyncio.gather(*(cache.store(key, b"value", LONG, timeout=10) for key in healthy))
    finally:
        cluster.close()


def served(cluster: RedisCluster, key: str) -> int:
    """The number of the server that serves a key."""
    with cluster.servers[1].client() as client:
        return cluster.servers.index(cluster.server_of(int(execute(client, "CLUSTER KEYSLOT", key))))


@pytest.mark.parametrize("options", ["", ",name=web,defaultDatabase=1"])
async def test_each_answer_of_the_login_may_take_the_time(options: str) -> None:
    with RedisServer(password="geheim") as server:
        async with SlowProxy(server.port, 0.5) as proxy:
            configuration = f"127.0.0.1:{proxy.port},password=geheim,connectTimeout=900{options}"
            async with open_redis_cache(configuration) as cache:
                await works(cache)


# Sentinels that are none, or want another password


async def test_service_name_at_a_server_that_is_no_sentinel(server: RedisServer) -> None:
    async with open_redis_cache(f"{server.address},serviceName=main") as cache:
        for attempt in (cache.ping(), cache.get("key")):
            with pytest.raises(CacheUnavailableError, match=f"{server.address} does not answer as a Sentinel"):
                await attempt


async def test_sentinel_that_refuses_the_login(server: RedisServer) -> None:
    with sentinel_of(server, password="geheim") as sentinel:
        for password in ("", ",password=falsch"):
            async with open_redis_cache(f"{sentinel.address},serviceName=main{password}") as cache:
                with pytest.raises(CacheUnavailableError, match=f"The Sentinel at {sentinel.address}") as caught:
                    await cache.ping()
                assert "<" not in str(caught.value)  # no object of redis-py's
                assert "falsch" not in str(caught.value)
                assert "assword" in str(caught.value) or "uthentication" in str(caught.value)


async def test_primary_that_is_down(server: RedisServer) -> None:
    with sentinel_of(server) as sentinel, sentinel.client() as client:
        execute(client, "SENTINEL", "SET", "main", "down-after-milliseconds", "500")
        server.kill()
        await until(lambda: client.sentinel_masters()["main"]["is_sdown"])
        async with open_redis_cache(f"{sentinel.address},serviceName=main") as cache:
            with pytest.raises(CacheUnavailableError, match="primary 'main' is down"):
                await cache.ping()


# Clusters


async def test_cluster_that_is_wholly_down_and_comes_back() -> None:
    cluster = RedisCluster()
    try:
        async with open_redis_cache(f"{cluster.configuration},name=back") as cache:
            await works(cache)
            for server in cluster.servers:
                server.kill()
            for key in ("key", "other", "third"):
                with pytest.raises(CacheUnavailableError):
                    await cache.get(key, timeout=5)
            with pytest.raises(CacheUnavailableError):
                await cache.ping(timeout=5)
            await asyncio.sleep(1)
            for server in cluster.servers:
                server.start()
            with cluster.servers[0].client() as client:  # the background goes on to connect
                await until(lambda: any(one["name"] == "back" for one in client.client_list()))
            for server in cluster.servers:
                with server.client() as client:
                    await until(lambda: execute(client, "CLUSTER INFO")["cluster_state"] == "ok")
            await works(cache)
    finally:
        cluster.close()


async def test_user_who_may_not_ask_for_the_nodes() -> None:
    cluster = RedisCluster()
    try:
        for server in cluster.servers:
            with server.client() as client:
                client.acl_setuser(
                    "me", enabled=True, passwords=["+mine"], keys="*", channels="*", commands=["+@all", "-cluster"]
                )
        async with open_redis_cache(f"{cluster.configuration},user=me,password=mine") as cache:
            for attempt in (cache.ping(), cache.get("key")):
                with pytest.raises(CacheUnavailableError, match=r"nodes of its cluster: .*permission"):
                    await attempt
    finally:
        cluster.close()


async def test_new_node_is_not_given_up_while_a_request_waits_for_it(silent: RedisServer) -> None:
    """A discovery that knows nothing of a node yet, while a redirection to that node is followed."""
    cluster = RedisCluster()
    try:
        async with open_redis_cache(cluster.configuration) as cache:
            await works(cache)
            slots = cache.client._slots
            node = slots.node_at(("127.0.0.1", silent.port))
            waiting = asyncio.create_task(node.connected(asyncio.get_running_loop().time() + 30))
            await asyncio.sleep(0.1)
            await slots.discover()
            silent.resume()
            assert (await waiting).where == silent.address
            silent.kill()
            await until(lambda: node.wire is None)
            await slots.discover()
            assert slots.node_at(("127.0.0.1", silent.port)) is not node  # nobody waits: it is forgotten
    finally:
        cluster.close()
