"""Servers that die, stop, restart, load and change their role: requests fail in time, and the next ones work."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Iterator

import pytest
from ports import free_port
from redis_server import RedisServer, execute, open_redis_cache
from waiting import until

from kestrun_py.caching import Expiration
from kestrun_py.caching.redis import RedisCache
from kestrun_py.errors import CacheError, CacheTimeoutError, CacheUnavailableError, LeaseLostError

LONG = Expiration(sliding=1200)


@pytest.fixture
def server() -> Iterator[RedisServer]:
    with RedisServer() as server:
        yield server


async def test_server_that_was_never_there() -> None:
    port = free_port()
    async with open_redis_cache(f"127.0.0.1:{port}") as cache:
        await cache.start()
        with pytest.raises(CacheUnavailableError, match=f"127.0.0.1:{port}"):
            await cache.ping()
        with pytest.raises(CacheUnavailableError):
            await cache.get("key")


async def test_server_that_comes_late(server: RedisServer) -> None:
    server.kill()
    async with open_redis_cache(server.address) as cache:
        await cache.start()
        with pytest.raises(CacheUnavailableError):
            await cache.get("key")
        await asyncio.sleep(0.5)  # the background is in a longer pause by now
        server.start()
        assert await cache.get("key") is None


async def test_name_that_nobody_knows() -> None:
    async with open_redis_cache("redis.invalid") as cache:
        with pytest.raises(CacheUnavailableError, match=r"redis\.invalid"):
            await cache.get("key")


async def test_killed_while_requests_run_and_restarted_empty(server: RedisServer) -> None:
    async with open_redis_cache(server.address) as cache:
        await cache.store("key", b"value", LONG)
        lease = await cache.lock("key", lease_time=60, timeout=10)
        assert lease is not None
        server.pause()
        running = [asyncio.create_task(cache.get("key", timeout=60)) for _ in range(20)]
        running.append(asyncio.create_task(cache.store("other", b"value", LONG, timeout=60)))
        await asyncio.sleep(0.1)
        began = time.monotonic()
        server.kill()
        for result in await asyncio.gather(*running, return_exceptions=True):
            assert isinstance(result, CacheUnavailableError)
        with pytest.raises(CacheUnavailableError):
            await cache.get("key", timeout=5)
        assert time.monotonic() - began < 30
        server.start()
        assert await cache.get("key") is None  # the first request after it is back
        with pytest.raises(LeaseLostError):
            await cache.commit(lease, b"ghost", LONG)
        assert await cache.get("key") is None
        await cache.store("key", b"new", LONG)
        assert await cache.get("key") == b"new"


async def test_idle_connection_that_the_server_closed(server: RedisServer) -> None:
    async with open_redis_cache(server.address) as cache:
        await cache.store("key", b"value", LONG)
        with server.client() as client:
            for _ in range(5):
                execute(client, "CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
                assert await cache.get("key") == b"value"


async def test_connection_is_restored_in_the_background(server: RedisServer) -> None:
    async with open_redis_cache(f"{server.address},name=background") as cache:
        await cache.store("key", b"value", LONG)
        server.kill()
        await asyncio.sleep(0.3)
        server.start()
        with server.client() as client:
            await until(lambda: any(one["name"] == "background" for one in client.client_list()))


async def test_stopped_for_longer_than_the_timeout(server: RedisServer) -> None:
    async with open_redis_cache(server.address) as cache:
        await cache.store("key", b"value", LONG)
        server.pause()
        began = time.monotonic()
        results = await asyncio.gather(
            *(cache.get("key", timeout=0.5) for _ in range(10)),
            cache.lock("key", lease_time=60, timeout=0.5),
            cache.store("other", b"value", LONG, timeout=0.5),
            return_exceptions=True,
        )
        assert all(isinstance(result, CacheTimeoutError) for result in results)
        assert 0.4 < time.monotonic() - began < 5
        server.resume()
        assert await cache.get("key", timeout=10) == b"value"
        lease = await cache.lock("key", lease_time=60, timeout=30)  # the grant nobody received was given back
        assert lease is not None


async def test_silent_connection_is_replaced(server: RedisServer) -> None:
    """A server that says nothing for `syncTimeout` counts as gone; a new connection is tried until it answers."""
    async with open_redis_cache(f"{server.address},syncTimeout=300,connectTimeout=300") as cache:
        await cache.store("key", b"value", LONG)
        with server.client() as client:
            before = client.info("stats")["total_connections_received"]
            server.pause()
            with pytest.raises(CacheUnavailableError):
                await cache.get("key", timeout=0.2)
            await asyncio.sleep(1)
            with pytest.raises(CacheUnavailableError):
                await cache.get("key", timeout=0.2)
            server.resume()
            assert await cache.get("key", timeout=10) == b"value"
            assert client.info("stats")["total_connections_received"] > before


@pytest.mark.parametrize("cancelled", [False, True])
async def test_silent_connection_is_replaced_whatever_the_patience_of_the_first(
    server: RedisServer, cancelled: bool
) -> None:
    async with open_redis_cache(f"{server.address},syncTimeout=300,connectTimeout=300") as cache:
        await cache.store("key", b"value", LONG)
        server.pause()
        patient = asyncio.create_task(cache.store("key", b"lost", LONG, timeout=20))
        await asyncio.sleep(0)
        impatient = asyncio.create_task(cache.remove("other", timeout=0.2))
        await asyncio.sleep(0)
        if cancelled:
            impatient.cancel()
        with pytest.raises(CacheUnavailableError, match="silent"):
            await patient
        with pytest.raises(asyncio.CancelledError if cancelled else CacheTimeoutError):
            await impatient
        server.resume()
        await cache.store("key", b"value", LONG)


async def test_loading_server_refuses_until_it_has_loaded(server: RedisServer) -> None:
    async with open_redis_cache(server.address, instance_name="") as cache:
        with server.client() as client:
            execute(client, "DEBUG", "POPULATE", 2000, "filler", 100)
            client.hset("key", mapping={"absexp": "-1", "sldexp": "12000000000", "data": b"value"})
            client.save()
        assert await cache.get("key") == b"value"
        server.kill()
        server.start(*("--key-load-delay", "1000", "--loading-process-events-interval-bytes", "1024"), wait=False)
        refusals = 0
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            try:
                value = await cache.get("key", timeout=5)
            except CacheUnavailableError as error:
                refusals += "oading" in str(error)
                await asyncio.sleep(0.02)
            else:
                break
        assert value == b"value"
        assert refusals > 0


async def test_server_that_becomes_a_replica(server: RedisServer) -> None:
    async with open_redis_cache(server.address) as cache:
        await cache.store("key", b"value", LONG)
        with server.client() as client:
            client.replicaof("127.0.0.1", free_port())
            with pytest.raises(CacheUnavailableError, match=r"read.?only"):
                await cache.store("key", b"lost", LONG)
            with pytest.raises(CacheUnavailableError, match="read-only replica"):
                await cache.get("key")
            client.replicaof("NO", "ONE")
            assert await cache.get("key") == b"value"


@pytest.mark.parametrize(
    "ask",
    [
        lambda cache: cache.get("key"),
        lambda cache: cache.refresh("key"),
        lambda cache: cache.lock("key", lease_time=60, timeout=10),
    ],
    ids=["get", "refresh", "lock"],
)
async def test_demoted_primary_is_not_believed_that_an_entry_is_missing(
    server: RedisServer, ask: Callable[[RedisCache], Awaitable[object]]
) -> None:
    """The connection to it stays open, and it does not know what its successor stores."""
    with RedisServer() as successor, server.client() as client:
        async with (
            open_redis_cache(f"{server.address},{successor.address}", instance_name="") as cache,
            open_redis_cache(successor.address, instance_name="") as other,
        ):
            assert await cache.get("key") is None
            client.replicaof("127.0.0.1", free_port())
            await other.store("key", b"value", LONG)
            with pytest.raises(CacheUnavailableError, match=r"read.?only"):
                await ask(cache)
            assert await cache.get("key") == b"value"


async def test_the_primary_among_several_endpoints(server: RedisServer) -> None:
    dead = free_port()
    with RedisServer() as replica, replica.client() as client:
        client.replicaof("127.0.0.1", server.port)
        async with open_redis_cache(f"127.0.0.1:{dead},{replica.address},{server.address}") as cache:
            await cache.store("key", b"value", LONG)
            await until(lambda: client.dbsize() == 1)
            server.kill()
            client.replicaof("NO", "ONE")
            assert await cache.get("key") == b"value"


async def test_login() -> None:
    with RedisServer(password="geheim, sehr") as server:
        with server.client() as client:
            client.acl_setuser("me", enabled=True, passwords=["+mine"], keys="*", channels="*", commands=["+@all"])
        async with open_redis_cache(
            {"endpoints": server.address, "user": "me", "password": "mine", "default_database": 3}
        ) as cache:
            await cache.store("key", b"value", LONG)
            assert await cache.get("key") == b"value"
        async with open_redis_cache(f"redis://:geheim%2C%20sehr@{server.address}") as cache:
            assert await cache.get("key") is None
        for wrong in ({"password": "hunter2"}, {}):
            async with open_redis_cache({"endpoints": server.address, **wrong}) as cache:
                with pytest.raises(CacheUnavailableError) as caught:
                    await cache.get("key")
                assert "hunter2" not in str(caught.value)


async def test_password_that_changes_while_connected() -> None:
    with RedisServer(password="first") as server, server.client() as client:
        async with open_redis_cache(f"{server.address},password=first") as cache:
            await cache.store("key", b"value", LONG)
            client.config_set("requirepass", "second")
            execute(client, "CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
            with pytest.raises(CacheUnavailableError):
                await cache.get("key")
            client.config_set("requirepass", "first")
            assert await cache.get("key") == b"value"


async def test_user_who_may_neither_ask_nor_publish() -> None:
    """The scripts do without INFO and PUBLISH where an administrator has forbidden them."""
    with RedisServer() as server, server.client() as client:
        client.acl_setuser(
            "me", enabled=True, nopass=True, keys="*", commands=["+@all", "-info", "-publish", "-subscribe"]
        )
        async with open_redis_cache(f"{server.address},user=me,password=x") as cache:
            await cache.store("key", b"value", LONG)
            lease = await cache.lock("key", lease_time=60, timeout=10)
            assert lease is not None
            waiter = asyncio.create_task(cache.lock("key", lease_time=60, timeout=60))
            await asyncio.sleep(0.2)
            await cache.commit(lease, b"after", LONG)
            second = await waiter
            assert second is not None
            assert second.value == b"after"
            assert (await cache.ping()).version == "unknown"


async def test_user_who_may_not_let_keys_expire_leaves_none_for_ever() -> None:
    with RedisServer() as server, server.client() as client:
        allowed = {"enabled": True, "nopass": True, "keys": "*", "channels": "*"}
        client.acl_setuser("me", **allowed, commands=["+@all"])
        async with open_redis_cache(f"{server.address},user=me,password=x", instance_name="") as cache:
            await cache.store("known", b"value", LONG)
            client.hset("endless", mapping={"absexp": "-1", "sldexp": "-1", "data": b"value"})
            endless, known = [await cache.lock(key, lease_time=60, timeout=10) for key in ("endless", "known")]
            assert endless is not None
            assert known is not None
            client.acl_setuser("me", **allowed, commands=["+@all", "-pexpire"])
            for lease in (endless, known):
                with pytest.raises(CacheUnavailableError, match="refuses to serve"):
                    await cache.commit(lease, b"after", LONG)
            for key in ("known", "new"):
                with pytest.raises(CacheUnavailableError, match="refuses to serve"):
                    await cache.store(key, b"after", LONG)
            assert client.keys() == [b"known"]
            assert client.pttl("known") > 0


async def test_full_server_refuses_writes_and_serves_again(server: RedisServer) -> None:
    async with open_redis_cache(server.address) as cache:
        await cache.store("key", b"value", LONG)
        lease = await cache.lock("key", lease_time=60, timeout=10)
        assert lease is not None
        with server.client() as client:
            client.config_set("maxmemory", "1")
            with pytest.raises(CacheUnavailableError, match="maxmemory"):
                await cache.store("key", b"other", LONG)
            with pytest.raises(CacheUnavailableError, match="maxmemory"):
                await cache.commit(lease, b"other", LONG)
            client.config_set("maxmemory", "0")
        assert await cache.get("key") == b"value"
        again = await cache.lock("key", lease_time=60, timeout=10)  # the commit that failed keeps no lock
        assert again is not None


async def test_unix_socket(tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("redis") / "r.sock"
    with RedisServer("--unixsocket", str(path)):
        async with open_redis_cache(f"unix://{path}") as cache:
            await cache.store("key", b"value", LONG)
            assert await cache.get("key") == b"value"
            assert (await cache.ping()).details["address"] == str(path)


async def test_foreign_server() -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await reader.read()
        writer.close()

    web = await asyncio.start_server(talk, "127.0.0.1", 0)
    async with open_redis_cache(f"127.0.0.1:{web.sockets[0].getsockname()[1]},connectTimeout=500") as cache:
        with pytest.raises(CacheUnavailableError):
            await cache.get("key")
    web.close()


async def test_random_kills_lose_no_committed_increment() -> None:
    """Restarts with an append-only file: every acknowledged increment is there, none is counted twice."""
    with RedisServer("--appendonly", "yes", "--appendfsync", "always") as server:
        async with open_redis_cache(server.address) as cache:
            await cache.store("key", b"0", LONG)
            acknowledged = uncertain = 0
            stop = False

            async def increment() -> None:
                nonlocal acknowledged, uncertain
                while not stop:
                    try:
                        lease = await cache.lock("key", lease_time=1, timeout=5)
                        assert lease is not None
                    except CacheError:
                        continue
                    try:
                        await cache.commit(lease, b"%d" % (int(lease.value) + 1), LONG)
                        acknowledged += 1
                    except LeaseLostError:
                        pass
                    except CacheUnavailableError:
                        uncertain += 1

            workers = [asyncio.create_task(increment()) for _ in range(4)]
            for _ in range(4):
                await asyncio.sleep(random.uniform(0.1, 0.4))
                server.kill()
                await asyncio.to_thread(server.start)
            stop = True
            await asyncio.gather(*workers)
            total = int(await cache.get("key") or b"0")
            assert acknowledged <= total <= acknowledged + uncertain
            assert acknowledged > 0
