"""Clusters and Sentinels, with real servers."""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest
import redis
from redis.crc import key_slot
from redis_server import (
    RedisCluster,
    RedisServer,
    execute,
    open_redis_cache,
    open_redis_cluster_cache,
    shared_cluster,
)
from waiting import until, wait_until

from kestrun_py.caching import Expiration
from kestrun_py.errors import CacheUnavailableError

LONG = Expiration(sliding=1200)


async def test_entries_are_spread_over_the_nodes() -> None:
    async with open_redis_cluster_cache() as cache:
        await asyncio.gather(*(cache.store(f"key{number}", b"%d" % number, LONG) for number in range(100)))
        values = await asyncio.gather(*(cache.get(f"key{number}") for number in range(100)))
        assert values == [b"%d" % number for number in range(100)]
        assert (await cache.ping()).details["mode"] == "cluster"
    sizes = []
    for server in shared_cluster().servers:
        with server.client() as client:
            sizes.append(client.dbsize())
    assert all(sizes)


async def test_one_endpoint_is_enough() -> None:
    for server in shared_cluster().servers:
        async with open_redis_cache(server.address) as cache:
            for number in range(20):
                await cache.store(f"key{number}", b"value", LONG)
                lease = await cache.lock(f"key{number}", lease_time=30, timeout=10)
                assert lease is not None
                await cache.commit(lease, b"after", LONG)
                assert await cache.get(f"key{number}") == b"after"


async def test_waiter_of_another_node_is_told() -> None:
    name = "wake:"
    configuration = shared_cluster().configuration
    async with (
        open_redis_cache(configuration, instance_name=name) as holder,
        open_redis_cache(configuration, instance_name=name) as waiter,
    ):
        for number in range(6):  # their slots are on all nodes, the listening connection is on one
            key = f"key{number}"
            await holder.store(key, b"value", LONG)
            delays = []
            for _ in range(3):
                lease = await holder.lock(key, lease_time=30, timeout=30)
                assert lease is not None
                waiting = asyncio.create_task(waiter.lock(key, lease_time=30, timeout=30))
                await asyncio.sleep(0.15)
                freed = time.monotonic()
                await holder.release(lease)
                taken = await waiting
                delays.append(time.monotonic() - freed)
                assert taken is not None
                await waiter.release(taken)
            assert min(delays) < 0.05


@pytest.fixture
def cluster() -> Iterator[RedisCluster]:
    cluster = RedisCluster()
    yield cluster
    cluster.close()


def node_id(server: RedisServer) -> str:
    with server.client() as client:
        return str(execute(client, "CLUSTER MYID").decode())


async def test_slot_that_moves(cluster: RedisCluster) -> None:
    """While a slot migrates (ASK) and after it has (MOVED), requests go where the entry is."""
    key = "moving"
    slot = key_slot(key.encode())
    source = cluster.server_of(slot)
    target = next(server for server in cluster.servers if server is not source)
    async with open_redis_cache(cluster.configuration, instance_name="") as cache:
        await cache.store(key, b"before", LONG)
        with source.client() as old, target.client() as new:
            execute(new, "CLUSTER SETSLOT", slot, "IMPORTING", node_id(source))
            execute(old, "CLUSTER SETSLOT", slot, "MIGRATING", node_id(target))
            assert await cache.get(key) == b"before"
            execute(old, "MIGRATE", "127.0.0.1", target.port, key, 0, 10_000)
            assert await cache.get(key) == b"before"
            lease = await cache.lock(key, lease_time=30, timeout=10)
            assert lease is not None
            await cache.commit(lease, b"after", LONG)
            for client in (new, old):
                execute(client, "CLUSTER SETSLOT", slot, "NODE", node_id(target))
            assert await cache.get(key) == b"after"
            assert new.hget(key, "data") == b"after"
            assert await asyncio.gather(*(cache.get(key) for _ in range(20))) == [b"after"] * 20


async def test_nodes_that_disagree_for_a_moment(cluster: RedisCluster) -> None:
    """The node that gives a slot away says so before the other one knows: each sends us to the other."""
    key = "moving"
    slot = key_slot(key.encode())
    source = cluster.server_of(slot)
    target = next(server for server in cluster.servers if server is not source)
    async with open_redis_cache(cluster.configuration, instance_name="") as cache:
        await cache.store(key, b"value", LONG)
        with source.client() as old, target.client() as new:
            execute(new, "CLUSTER SETSLOT", slot, "IMPORTING", node_id(source))
            execute(old, "CLUSTER SETSLOT", slot, "MIGRATING", node_id(target))
            execute(old, "MIGRATE", "127.0.0.1", target.port, key, 0, 10_000)
            execute(old, "CLUSTER SETSLOT", slot, "NODE", node_id(target))
            reading = asyncio.create_task(cache.get(key))
            await asyncio.sleep(0.2)
            execute(new, "CLUSTER SETSLOT", slot, "NODE", node_id(target))
            assert await reading == b"value"


async def test_dead_node_harms_only_its_slots(cluster: RedisCluster) -> None:
    for server in cluster.servers:
        with server.client() as client:
            client.config_set("cluster-require-full-coverage", "no")
    async with open_redis_cache(cluster.configuration, instance_name="") as cache:
        keys = [f"key{number}" for number in range(60)]
        await asyncio.gather(*(cache.store(key, b"value", LONG) for key in keys))
        dead = cluster.servers[1]
        dead.kill()
        for key in keys:
            if cluster.server_of(key_slot(key.encode())) is dead:
                with pytest.raises(CacheUnavailableError):
                    await cache.get(key, timeout=5)
                break
        healthy = [key for key in keys if cluster.server_of(key_slot(key.encode())) is not dead]
        assert await asyncio.gather(*(cache.get(key, timeout=10) for key in healthy)) == [b"value"] * len(healthy)
        dead.start()
        with dead.client() as client:
            await until(lambda: execute(client, "CLUSTER INFO")["cluster_state"] == "ok")
        assert await cache.get(key) is None


def known_to_all(cluster: RedisCluster, nodes: int) -> None:
    for server in cluster.servers:
        with server.client() as client:
            wait_until(lambda: int(execute(client, "CLUSTER INFO")["cluster_known_nodes"]) == nodes)


async def answered(act: Callable[[], Awaitable[bytes | None]], seconds: float = 30) -> bytes | None:
    """What a request gets once the servers have agreed on who serves it."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            return await act()
        except CacheUnavailableError:
            assert time.monotonic() < deadline


async def test_replica_takes_over(cluster: RedisCluster) -> None:
    for server in cluster.servers:
        with server.client() as client:
            client.config_set("cluster-node-timeout", "2000")
    primary = cluster.servers[0]
    key = next(name for number in range(1000) if key_slot((name := f"key{number}").encode()) < 5000)
    identity = node_id(primary)
    with (
        RedisServer(
            *("--cluster-enabled", "yes", "--cluster-node-timeout", "2000"),
            *("--cluster-replica-validity-factor", "0"),  # or it gives up half a minute after lost elections
        ) as replica,
        replica.client() as client,
    ):
        execute(client, "CLUSTER MEET", "127.0.0.1", primary.port)
        await until(lambda: identity in str(execute(client, "CLUSTER NODES")))
        execute(client, "CLUSTER REPLICATE", identity)
        await until(lambda: client.info("replication")["master_link_status"] == "up")
        known_to_all(cluster, 4)  # or it might not be elected
        async with open_redis_cache(cluster.configuration, instance_name="") as cache:
            await cache.store(key, b"value", LONG)
            await until(lambda: client.dbsize() == 1)
            primary.kill()
            with pytest.raises(CacheUnavailableError):
                await cache.get(key, timeout=2)
            await until(lambda: client.info("replication")["role"] == "master")
            assert await answered(lambda: cache.get(key, timeout=5)) == b"value"
            await cache.store(key, b"after", LONG)
            assert await cache.get(key) == b"after"


@pytest.fixture
def replicated() -> Iterator[tuple[RedisServer, RedisServer, str]]:
    """A primary, its replica, and the configuration text that names the Sentinel that watches them."""
    with (
        RedisServer(password="geheim") as primary,
        tempfile.TemporaryDirectory() as folder,
        RedisServer(
            *("--replicaof", "127.0.0.1", str(primary.port), "--masterauth", "geheim"), password="geheim"
        ) as replica,
    ):
        file = Path(folder) / "sentinel.conf"
        file.write_text(
            f"sentinel monitor main 127.0.0.1 {primary.port} 1\n"
            "sentinel auth-pass main geheim\n"
            "sentinel down-after-milliseconds main 1000\n"
            "sentinel failover-timeout main 5000\n"
        )
        with RedisServer(sentinel=file) as sentinel, sentinel.client() as client:
            wait_until(lambda: _sees_replica(client))
            yield primary, replica, f"{sentinel.address},serviceName=main,password=geheim"


def _sees_replica(client: redis.Redis) -> bool:
    replicas = client.sentinel_slaves("main")
    return len(replicas) == 1 and replicas[0]["master-link-status"] == "ok"


async def test_sentinel_failover(replicated: tuple[RedisServer, RedisServer, str]) -> None:
    primary, replica, configuration = replicated
    async with open_redis_cache(configuration) as cache:
        await cache.store("key", b"value", LONG)
        status = await cache.ping()
        assert status.details["mode"] == "primary by Sentinel"
        with replica.client() as client:
            await until(lambda: client.dbsize() == 1)
        primary.kill()
        with pytest.raises(CacheUnavailableError):
            await cache.get("key", timeout=1)
        with replica.client() as client:
            await until(lambda: client.info("replication")["role"] == "master")
        assert await answered(lambda: cache.get("key", timeout=5)) == b"value"
        lease = await cache.lock("key", lease_time=30, timeout=10)
        assert lease is not None
        await cache.commit(lease, b"after", LONG)
        assert await cache.get("key") == b"after"


async def test_sentinel_that_knows_no_such_primary(replicated: tuple[RedisServer, RedisServer, str]) -> None:
    *_, configuration = replicated
    async with open_redis_cache(configuration.replace("=main", "=other")) as cache:
        with pytest.raises(CacheUnavailableError, match="other"):
            await cache.get("key")
