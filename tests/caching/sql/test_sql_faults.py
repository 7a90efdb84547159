"""What a SQL cache does when its database is slow, silent, killed, restarted or in its way."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pyodbc
import pytest
from heartbeat import heartbeat
from ports import free_port
from postgres_server import PostgresServer, open_postgres_cache, shared_server
from sql_rows import LEASE
from tcp_proxy import TcpProxy
from waiting import until

from kestrun_py.caching import Expiration
from kestrun_py.caching.sql import PostgresDialect, SqlCache
from kestrun_py.caching.sql.link import Link
from kestrun_py.errors import CacheError, CacheTimeoutError, CacheUnavailableError, LeaseLostError

LATE = 8.0  # seconds that a slow machine may take to notice that the time is up


def cache_beside(cache: SqlCache, port: int, options: str = "") -> SqlCache:
    """A cache on the same table, by another port or with further options."""
    return SqlCache(
        f"Host=127.0.0.1;Port={port};Database=postgres;Username=kestrun;{options}",
        schema_name=cache._database.schema,
        table_name="Sessions",
        dialect=PostgresDialect(),
    )


@contextlib.asynccontextmanager
async def proxied(cache: SqlCache) -> AsyncIterator[tuple[TcpProxy, SqlCache]]:
    async with TcpProxy(shared_server().port).running() as proxy:
        beside = cache_beside(cache, proxy.port)
        try:
            yield proxy, beside
        finally:
            await beside.close()


def terminate_all(server: PostgresServer) -> None:
    server.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()")


async def test_connections_that_the_server_closed_are_replaced(server: PostgresServer) -> None:
    async with open_postgres_cache(server) as cache:
        await cache.set("key", b"1")
        for _ in range(3):
            assert await asyncio.gather(*(cache.get("key") for _ in range(20))) == [b"1"] * 20
            terminate_all(server)
            lease = await cache.lock("key", lease_time=30, timeout=10)
            assert lease is not None
            terminate_all(server)
            await cache.commit(lease, b"1", Expiration(60))
            terminate_all(server)


async def test_a_connection_lost_in_the_middle_of_a_statement_is_replaced(server: PostgresServer) -> None:
    async with open_postgres_cache(server) as cache:
        await cache.set("key", b"1")
        with contextlib.closing(server.connect()) as connection:
            connection.autocommit = False
            connection.execute(f'LOCK TABLE "{cache._database.schema}"."Sessions" IN ACCESS EXCLUSIVE MODE')
            reads = [asyncio.create_task(cache.get("key")) for _ in range(5)]
            await until_waiting(server, 5)
            server.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE wait_event_type = 'Lock'")
            await until_waiting(server, 5)
            connection.rollback()
        assert await asyncio.gather(*reads) == [b"1"] * 5


async def until_waiting(server: PostgresServer, count: int) -> None:
    waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
    await until(lambda: server.execute(waiting)[0][0] >= count)


async def test_a_stopped_server_is_given_up_in_time_and_used_again(server: PostgresServer) -> None:
    async with open_postgres_cache(server) as cache:
        await cache.set("key", b"1")
        lease = await cache.lock("key", lease_time=60, timeout=10)
        assert lease is not None
        await asyncio.gather(*(cache.get("key") for _ in range(10)))
        for _ in range(2):
            server.pause()
            async with heartbeat():
                begun = time.monotonic()
                answers = await asyncio.gather(
                    *(cache.get("key", timeout=0.5) for _ in range(25)),
                    cache.commit(lease, b"2", Expiration(60), timeout=0.5),
                    return_exceptions=True,
                )
                assert time.monotonic() - begun < 0.5 + LATE
            assert {type(answer) for answer in answers} == {CacheTimeoutError}
            server.resume()
            assert await cache.get("key", timeout=10) in (b"1", b"2")
        assert await asyncio.gather(*(cache.get("key") for _ in range(20))) in ([b"1"] * 20, [b"2"] * 20)


async def test_connections_that_hang_are_replaced_while_they_hang(server: PostgresServer) -> None:
    async with open_postgres_cache(server) as cache:
        await cache.set("key", b"1")
        await asyncio.gather(*(cache.get("key") for _ in range(30)))
        backends = server.execute(
            "SELECT pid FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
        )
        for row in backends:
            os.kill(row[0], signal.SIGSTOP)
        answers = await asyncio.gather(*(cache.get("key", timeout=0.5) for _ in range(10)), return_exceptions=True)
        assert CacheTimeoutError in map(type, answers)
        assert await asyncio.gather(*(cache.get("key") for _ in range(20))) == [b"1"] * 20
        server.resume()
        await until(lambda: cache._database.pool._hanging() == 0)


async def test_a_server_that_is_stopped_before_the_first_connection(server: PostgresServer) -> None:
    async with open_postgres_cache(server) as cache:
        server.pause()
        begun = time.monotonic()
        with pytest.raises(CacheTimeoutError):
            await cache.get("key", timeout=0.5)
        assert time.monotonic() - begun < 0.5 + LATE
        server.resume()
        assert await cache.get("key", timeout=10) is None


async def test_a_killed_server_makes_requests_fail_until_it_is_back(server: PostgresServer) -> None:
    async with open_postgres_cache(server) as cache:
        await cache.set("key", b"1")
        reads = [asyncio.create_task(cache.get("key")) for _ in range(50)]
        await asyncio.sleep(0.005)
        server.stop(signal.SIGKILL)
        for answer in await asyncio.gather(*reads, return_exceptions=True):
            assert answer == b"1" or isinstance(answer, CacheUnavailableError)
        async with heartbeat():
            begun = time.monotonic()
            for _ in range(3):
                with pytest.raises(CacheUnavailableError, match="PostgreSQL"):
                    await cache.get("key", timeout=5)
            assert time.monotonic() - begun < 5
        server.start()
        assert await cache.get("key") == b"1"


async def test_a_restarted_server_costs_no_request(server: PostgresServer) -> None:
    async with open_postgres_cache(server) as cache:
        await cache.set("key", b"1")
        await asyncio.gather(*(cache.get("key") for _ in range(10)))
        server.stop()
        server.start()
        assert await asyncio.gather(*(cache.get("key") for _ in range(10))) == [b"1"] * 10


async def test_a_cache_starts_without_its_server(server: PostgresServer) -> None:
    server.stop()
    cache = SqlCache(
        server.connection_string() + ";Min Pool Size=2",
        schema_name="public",
        table_name="Sessions",
        dialect=PostgresDialect(),
    )
    await cache.start()
    with pytest.raises(CacheUnavailableError, match="gave no connection"):
        await cache.ping()
    server.start()
    await cache.ping()
    await cache.close()


@pytest.mark.parametrize(
    "form", ["Host={hosts};Username=kestrun;Database=postgres", "postgresql://kestrun@{hosts}/postgres"]
)
async def test_the_next_host_is_tried(cache: SqlCache, form: str) -> None:
    ports = (free_port(), free_port(), shared_server().port)
    text = form.format(hosts=",".join(f"127.0.0.1:{port}" for port in ports))
    beside = SqlCache(text, schema_name=cache._database.schema, table_name="Sessions", dialect=PostgresDialect())
    await cache.set("key", b"1")
    assert await beside.get("key") == b"1"
    await beside.close()


async def test_the_smallest_pool_is_filled_at_the_start(server: PostgresServer) -> None:
    cache = SqlCache(
        server.connection_string() + ";Min Pool Size=3;Application Name=filled",
        schema_name="public",
        table_name="Sessions",
        dialect=PostgresDialect(),
    )
    await cache.start()
    filled = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'filled'"
    await until(lambda: server.execute(filled)[0][0] == 3)
    await cache.close()
    await until(lambda: server.execute(filled)[0][0] == 0)


async def test_a_slow_server_answers_late_or_not_in_time(cache: SqlCache) -> None:
    await cache.set("key", b"1")
    async with proxied(cache) as (proxy, slow):
        assert await slow.get("key") == b"1"
        proxy.delay = 2.0
        begun = time.monotonic()
        assert await slow.get("key", timeout=20) == b"1"
        assert time.monotonic() - begun >= 2
        with pytest.raises(CacheTimeoutError, match="did not answer in time"):
            await slow.get("key", timeout=0.5)
        proxy.delay = 0.0
        assert await slow.get("key") == b"1"


@pytest.mark.parametrize("value", [b"written", None])
async def test_a_commit_whose_answer_was_lost_counts_as_done(cache: SqlCache, value: bytes | None) -> None:
    await cache.set("key", b"1")
    async with proxied(cache) as (proxy, fragile):
        lease = await fragile.lock("key", lease_time=30, timeout=10)
        assert lease is not None
        proxy.cut_after = lease.token.encode()
        await fragile.commit(lease, value, Expiration(60))
        assert proxy.cut_after is None
    assert await cache.get("key") == value


async def test_a_commit_whose_answer_and_mark_are_lost_does_not_claim_that_nothing_was_written(
    cache: SqlCache,
) -> None:
    await cache.set("key", b"1")
    async with proxied(cache) as (proxy, fragile):
        lease = await fragile.lock("key", lease_time=30, timeout=10)
        assert lease is not None
        proxy.cut_after = lease.token.encode()
        proxy.delay = 0.3
        commit = asyncio.create_task(fragile.commit(lease, b"2", Expiration(60)))
        while await cache.get("key") != b"2":
            pass
        assert await cache.lock("key", lease_time=30, timeout=10) is not None  # takes the mark's place
        with pytest.raises(CacheUnavailableError, match="is not known"):
            await commit


async def test_a_lock_whose_answer_was_lost_is_taken_by_the_same_caller(cache: SqlCache) -> None:
    await cache.set("key", b"1")
    async with proxied(cache) as (proxy, fragile):
        proxy.cut_after = (LEASE + "key").encode()
        lease = await fragile.lock("key", lease_time=30, timeout=5)
        assert lease is not None
        assert proxy.cut_after is None
        await fragile.commit(lease, b"2", Expiration(60))
    assert await cache.get("key") == b"2"


async def test_a_deadlock_is_tried_again(cache: SqlCache) -> None:
    """The cache removes lease and entry, another transaction takes them the other way round."""
    await cache.set("key", b"1")
    assert await cache.lock("key", lease_time=30, timeout=5) is not None
    table = f'"{cache._database.schema}"."Sessions"'
    server = shared_server()
    with contextlib.closing(server.connect()) as connection:
        connection.autocommit = False
        connection.execute(f"UPDATE {table} SET \"Value\" = '2' WHERE \"Id\" = 'key'")
        removal = asyncio.create_task(cache.remove("key", timeout=60))
        await until_waiting(server, 1)
        # This waits for the removal, which waits for this; the removal has waited longer and is the victim.
        await asyncio.to_thread(connection.execute, f"DELETE FROM {table} WHERE \"Id\" = '{LEASE}key'")
        connection.commit()
    await removal
    assert await cache.get("key") is None


class RolledBack:
    """A connection to a server that rolled back by itself, and a driver that passes on what it says to that."""

    autocommit = True

    def __init__(self, answer: str) -> None:
        self._answer = answer

    def rollback(self) -> None:
        raise pyodbc.Error("25000", f"[25000] [FreeTDS][SQL Server]{self._answer} (SQLEndTran)")


async def test_what_ended_a_transaction_is_told_when_there_is_nothing_to_roll_back() -> None:
    link = Link(None, RolledBack("The ROLLBACK TRANSACTION request has no corresponding BEGIN (3903)"), None)  # type: ignore[arg-type]
    with pytest.raises(pyodbc.Error, match="1205"), link.transaction():
        raise pyodbc.Error("40001", "[40001] deadlock victim (1205)")
    link = Link(None, RolledBack("Write to the server failed (20006)"), None)  # type: ignore[arg-type]
    with pytest.raises(pyodbc.Error, match="20006"), link.transaction():
        raise pyodbc.Error("40001", "[40001] deadlock victim (1205)")


async def test_a_process_ends_while_calls_hang(server: PostgresServer) -> None:
    async with open_postgres_cache(server) as cache:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            Path(__file__).with_name("counting_process.py"),
            PostgresDialect.name,
            server.connection_string(),
            cache._database.schema,
            cache._database.table,
            "key",
            "hang",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        assert process.stdin is not None
        assert process.stdout is not None
        assert await process.stdout.readline() == b"ready\n"
        server.pause()
        process.stdin.write(b"\n")
        assert await process.stdout.readline() == b"timeout\n"
        assert await asyncio.wait_for(process.wait(), 20) == 0
        server.resume()


async def test_the_pool_is_bounded(cache: SqlCache) -> None:
    small = cache_beside(cache, shared_server().port, "Max Pool Size=3;Application Name=small")
    await cache.set("key", b"1")
    await asyncio.gather(*(small.get("key") for _ in range(100)))
    count = shared_server().execute("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'small'")[0][0]
    await small.close()
    assert count == 3


async def test_waiting_for_a_connection_has_an_end_and_is_fair(cache: SqlCache) -> None:
    small = cache_beside(cache, shared_server().port, "Max Pool Size=1")
    await cache.set("key", b"1")
    with contextlib.closing(shared_server().connect()) as connection:
        connection.autocommit = False
        connection.execute(f'LOCK TABLE "{cache._database.schema}"."Sessions" IN ACCESS EXCLUSIVE MODE')
        first = asyncio.create_task(small.get("key"))
        await asyncio.sleep(0.1)
        begun = time.monotonic()
        with pytest.raises(CacheTimeoutError):
            await small.get("key", timeout=0.3)
        assert time.monotonic() - begun < 0.3 + LATE
        connection.rollback()
    assert await first == b"1"
    assert await small.get("key") == b"1"
    await small.close()


async def test_without_pooling_no_connection_stays(cache: SqlCache) -> None:
    single = cache_beside(cache, shared_server().port, "Pooling=false;Application Name=single")
    await cache.set("key", b"1")
    assert await asyncio.gather(*(single.get("key") for _ in range(5))) == [b"1"] * 5
    single_ones = "SELECT 1 FROM pg_stat_activity WHERE application_name = 'single'"
    await until(lambda: not shared_server().execute(single_ones))
    await single.close()


async def test_a_statement_that_hangs_is_ended_by_the_server_and_its_thread_with_it(cache: SqlCache) -> None:
    hanging = cache_beside(cache, shared_server().port, "Command Timeout=1;Max Pool Size=2")
    await cache.set("key", b"1")
    assert await hanging.get("key") == b"1"
    with contextlib.closing(shared_server().connect()) as connection:
        connection.autocommit = False
        connection.execute(f'LOCK TABLE "{cache._database.schema}"."Sessions" IN ACCESS EXCLUSIVE MODE')
        # Two calls at a time, and at most twice the pool without an answer.
        answers = await asyncio.gather(*(hanging.get("key", timeout=0.2) for _ in range(8)), return_exceptions=True)
        assert {type(answer) for answer in answers} == {CacheTimeoutError}
        with pytest.raises(CacheTimeoutError):
            await hanging.get("key", timeout=30)  # ended by the server
        connection.rollback()
    assert await hanging.get("key") == b"1"
    await hanging.close()
    await until(lambda: hanging._database.pool._hanging() == 0)


async def test_idle_connections_are_replaced_after_a_while(cache: SqlCache, monkeypatch: pytest.MonkeyPatch) -> None:
    async def pid() -> int:
        return int((await cache._database.query("SELECT pg_backend_pid()", timeout=10))[0][0])

    first = await pid()
    assert await pid() == first
    monkeypatch.setattr("kestrun_py.caching.sql.pool._IDLE_LIMIT_SECONDS", 0.0)
    assert await pid() != first


async def test_threads_end_with_the_cache(cache: SqlCache) -> None:
    def count() -> int:
        return sum(thread.name == "kestrun-sql" for thread in threading.enumerate())

    before = count()
    other = cache_beside(cache, shared_server().port)
    await asyncio.gather(*(other.get("key") for _ in range(10)))
    await other.close()
    await until(lambda: count() <= before)


async def test_closing_waits_for_what_is_under_way(cache: SqlCache) -> None:
    other = cache_beside(cache, shared_server().port)
    write = asyncio.create_task(other.set("key", b"1"))
    await asyncio.sleep(0.02)
    await other.close()
    await write
    assert await cache.get("key") == b"1"


PASSWORDS = [
    "plain",
    "p;w=1",
    "a}b{c}}",
    "quo'te\"s",
    "per%cent+plus %41",
    " spaces ",
    "back\\slash",
    "пароль",
    "=",
    "@:/?#&",
]


@pytest.mark.parametrize("password", PASSWORDS)
async def test_any_password_arrives_and_none_shows(password: str) -> None:
    server = shared_server()
    server.execute("DROP ROLE IF EXISTS guarded")
    server.execute(f"CREATE ROLE guarded LOGIN PASSWORD '{password.replace(chr(39), chr(39) * 2)}'")

    def cache_with(word: str) -> SqlCache:
        quoted = word.replace('"', '""')
        return SqlCache(
            f'Host=127.0.0.1;Port={server.port};Database=postgres;Username=guarded;Password="{quoted}"',
            schema_name="public",
            table_name="Sessions",
            dialect=PostgresDialect(),
        )

    cache = cache_with(password)
    await cache.ping()
    await cache.close()
    wrong = cache_with(password + "WrongWrong")
    with pytest.raises(CacheUnavailableError) as caught:
        await wrong.ping()
    assert "WrongWrong" not in str(caught.value) + repr(caught.value) + repr(wrong._database.settings)
    assert caught.value.__cause__ is None
    await wrong.close()


async def test_an_error_of_the_database_is_told_and_harms_nothing(cache: SqlCache) -> None:
    with pytest.raises(CacheUnavailableError, match="division by zero"):
        await cache._database.query("SELECT 1 / 0", timeout=5)
    assert await cache.get("key") is None


async def test_a_lease_commits_once(cache: SqlCache) -> None:
    await cache.set("key", b"1")
    lease = await cache.lock("key", lease_time=30, timeout=5)
    assert lease is not None
    await cache.commit(lease, b"2", Expiration(60))
    with pytest.raises(LeaseLostError):
        await cache.commit(lease, b"3", Expiration(60))
    with pytest.raises(CacheError):
        await cache.commit(lease, None, Expiration())
    assert await cache.get("key") == b"2"
