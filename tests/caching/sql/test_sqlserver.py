"""The cache in a real SQL Server, or one that speaks its protocol: the one that KESTRUN_TEST_SQLSERVER names."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import sys
import time
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pyodbc
import pytest
from postgres_server import open_sqlserver_cache
from sql_rows import LEASE
from tcp_proxy import TcpProxy
from waiting import until

from kestrun_py.caching import Expiration, Lease
from kestrun_py.caching.sql import SqlCache, SqlServerDialect, SqlXmlRepository, create_table, create_table_script
from kestrun_py.caching.sql.connection_string import is_odbc_string
from kestrun_py.caching.sql.link import Link
from kestrun_py.caching.sql.purge import ExpiredItemsPurge
from kestrun_py.errors import (
    CacheError,
    CacheTableMissingError,
    CacheTimeoutError,
    CacheUnavailableError,
    LockTimeoutError,
)
from kestrun_py.logging import default_logger

DIALECT = SqlServerDialect()
LONG = Expiration(600)


def connection_string() -> str:
    value = os.environ.get("KESTRUN_TEST_SQLSERVER")
    if not value:
        pytest.skip("KESTRUN_TEST_SQLSERVER holds no connection string of a SQL Server")
    return value


@contextlib.contextmanager
def connect() -> Iterator[Any]:
    """A connection of pyodbc's, in autocommit mode."""
    with contextlib.closing(pyodbc.connect(DIALECT.settings(connection_string()).odbc, autocommit=True)) as connection:
        yield connection


def execute(statement: str, *parameters: object) -> list[Any]:
    with connect() as connection:
        cursor = connection.execute(statement, *parameters)
        return list(cursor.fetchall()) if cursor.description else []


@pytest.fixture
async def schema() -> AsyncIterator[str]:
    """A schema of the test's own, empty."""
    name = f"test_{uuid.uuid4().hex}"
    execute(f"CREATE SCHEMA [{name}]")
    yield name
    for (table,) in execute("SELECT TABLE_NAME FROM INFORMATION_SCHEMA.TABLES WHERE TABLE_SCHEMA = ?", name):
        execute(f"DROP TABLE [{name}].[{table.replace(']', ']]')}]")
    execute(f"DROP SCHEMA [{name}]")


def beside(cache: SqlCache, options: str = "") -> SqlCache:
    """A cache on the same table, with connections of its own, and ADO.NET's options."""
    database = cache._database
    address = connection_string()
    if options:
        if is_odbc_string(address):
            pytest.skip("KESTRUN_TEST_SQLSERVER holds a connection string of ODBC's")
        address = f"{address};{options}"
    return SqlCache(address, schema_name=database.schema, table_name=database.table, dialect=DIALECT)


@pytest.fixture
async def cache() -> AsyncIterator[SqlCache]:
    async with open_sqlserver_cache() as cache:
        yield cache


@pytest.fixture
async def site(schema: str) -> AsyncIterator[SqlCache]:
    """A cache with a key ring of its own."""
    await create_table(connection_string(), schema_name=schema, table_name="Sessions", dialect=DIALECT)
    cache = SqlCache(connection_string(), schema_name=schema, table_name="Sessions", dialect=DIALECT)
    yield cache
    await cache.close()


def table_of(cache: SqlCache) -> str:
    return f"[{cache._database.schema}].[{cache._database.table}]"


def ids(cache: SqlCache) -> list[str]:
    return sorted(row[0] for row in execute(f"SELECT [Id] FROM {table_of(cache)}"))


def expires_in(cache: SqlCache, key: str) -> float:
    left = "DATEDIFF(MILLISECOND, SYSUTCDATETIME(), CAST([ExpiresAtTime] AS DATETIME2))"
    return int(execute(f"SELECT {left} FROM {table_of(cache)} WHERE [Id] = ?", key)[0][0]) / 1000


def age(cache: SqlCache, key: str, seconds: int) -> None:
    execute(
        f"UPDATE {table_of(cache)} SET [ExpiresAtTime] = DATEADD(SECOND, ?, [ExpiresAtTime]) WHERE [Id] = ?",
        -seconds,
        key,
    )


def about(seconds: float) -> Any:
    return pytest.approx(seconds, abs=3)


async def take(cache: SqlCache, key: str = "key", lease_time: float = 30, timeout: float = 30) -> Lease:
    lease = await cache.lock(key, lease_time=lease_time, timeout=timeout)
    assert lease is not None
    return lease


# Entries


async def test_times_are_the_servers_in_utc(cache: SqlCache) -> None:
    await cache.set("sliding", b"1", sliding_expiration=60)
    await cache.set("absolute", b"1", absolute_expiration_relative_to_now=100)
    await cache.set("both", b"1", sliding_expiration=60, absolute_expiration_relative_to_now=100)
    assert [expires_in(cache, key) for key in ("sliding", "absolute", "both")] == [about(60), about(100), about(60)]
    offsets = execute(f"SELECT DATEPART(TZOFFSET, [ExpiresAtTime]) FROM {table_of(cache)}")
    assert {row[0] for row in offsets} == {0}


async def test_an_entry_slides_after_a_tenth_of_its_window(cache: SqlCache) -> None:
    await cache.set("key", b"1", sliding_expiration=100)
    age(cache, "key", 6)
    assert await cache.get("key") == b"1"
    assert expires_in(cache, "key") == about(94)
    age(cache, "key", 10)
    assert await cache.get("key") == b"1"
    assert expires_in(cache, "key") == about(100)


async def test_a_lease_longer_than_the_window(cache: SqlCache) -> None:
    await cache.set("key", b"1", sliding_expiration=20)
    lease = await take(cache, lease_time=100)
    assert expires_in(cache, "key") == about(100)
    assert expires_in(cache, LEASE + "key") == about(100)
    assert await cache.renew(lease, lease_time=200, timeout=10)
    assert expires_in(cache, "key") == about(200)
    await cache.release(lease)
    assert expires_in(cache, "key") == about(20)
    assert expires_in(cache, LEASE + "key") < 0


async def test_the_longest_windows(cache: SqlCache) -> None:
    await cache.store("key", b"1", Expiration(1e12, None))
    assert await cache.get("key") == b"1"
    await cache.store("key", b"2", Expiration(None, 1e15))
    assert await cache.get("key") == b"2"
    lease = await take(cache, lease_time=1e9)
    await cache.commit(lease, b"3", Expiration(1e12, 1e15))
    assert await cache.get("key") == b"3"


@pytest.mark.parametrize(
    "key", ["a?b", "a'b", 'a"b', "a%b", "ключ", "\U0001f36a", " a", "a ", "  ", "a\\b", "{a}", "a\nb", "k" * 441]
)
async def test_any_text_is_a_key(cache: SqlCache, key: str) -> None:
    await cache.set(key, key.encode())
    assert await cache.get(key) == key.encode()
    lease = await take(cache, key)
    await cache.commit(lease, b"2", LONG)
    assert await cache.get(key) == b"2"
    await cache.remove(key)
    assert ids(cache) == []


@pytest.mark.parametrize("size", [0, 1, 7999, 8000, 8001, 1024 * 1024])
async def test_values_of_every_size_come_back(cache: SqlCache, size: int) -> None:
    value = (bytes(range(256)) * (size // 256 + 1))[:size]
    await cache.set("key", value)
    assert await cache.get("key") == value
    lease = await take(cache)
    assert lease.value == value
    await cache.commit(lease, value[::-1], LONG)
    assert await cache.get("key") == value[::-1]


async def test_values_of_different_sizes_take_turns(cache: SqlCache) -> None:
    for size in (10, 100_000, 0, 9000, 1):
        await cache.set("key", b"v" * size)
        assert await cache.get("key") == b"v" * size


async def test_many_sets_of_one_key_at_once(cache: SqlCache) -> None:
    for _ in range(10):
        await cache.remove("key")
        await asyncio.gather(*(cache.set("key", str(number).encode()) for number in range(20)))
        assert int(await cache.get("key") or b"") in range(20)


# Locks


async def test_of_many_one_takes_the_lock(cache: SqlCache) -> None:
    async def one(key: str) -> bool:
        try:
            return await cache.lock(key, lease_time=60, timeout=3) is not None
        except LockTimeoutError:
            return False

    # A connection's first statement may take Babelfish as long as all of these locks.
    warm = [f"warm{number}" for number in range(10)]
    await asyncio.gather(*(cache.set(key, b"1") for key in warm))
    await asyncio.gather(*(take(cache, key) for key in warm))
    for key in ("first", "second", "third"):
        await cache.set(key, b"1")
        assert sum(await asyncio.gather(*(one(key) for _ in range(10)))) == 1


async def start_process(cache: SqlCache, key: str, *orders: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable,
        Path(__file__).with_name("counting_process.py"),
        DIALECT.name,
        connection_string(),
        cache._database.schema,
        cache._database.table,
        key,
        *orders,
        stdout=asyncio.subprocess.PIPE,
    )


async def increment(cache: SqlCache, times: int) -> None:
    for _ in range(times):
        lease = await take(cache, timeout=60)
        await cache.commit(lease, str(int(lease.value) + 1).encode(), LONG, timeout=60)


@pytest.mark.parametrize("level", ["READ COMMITTED", "REPEATABLE READ", "SNAPSHOT", "SERIALIZABLE"])
async def test_no_update_is_lost_at_any_isolation_level(
    cache: SqlCache, monkeypatch: pytest.MonkeyPatch, level: str
) -> None:
    setting = f"SET TRANSACTION ISOLATION LEVEL {level}"
    try:
        with connect() as connection:
            connection.execute(setting)
            connection.execute(f"SELECT COUNT(*) FROM {table_of(cache)}")
    except pyodbc.Error as error:
        pytest.skip(f"the server of KESTRUN_TEST_SQLSERVER is not set up for {level}: {error}")
    opened = Link.open

    async def open_at_level(settings: Any) -> Link:
        link = await opened(settings)
        await link.call(lambda link: link.query(setting))
        return link

    monkeypatch.setattr(Link, "open", open_at_level)
    other = beside(cache)
    try:
        await other.set("key", b"0")
        await asyncio.gather(*(increment(other, 10) for _ in range(6)))
        assert await other.get("key") == b"60"
    finally:
        await other.close()


async def test_two_processes_lose_no_update(cache: SqlCache) -> None:
    await cache.set("key", b"0")
    processes = [await start_process(cache, "key", "200") for _ in range(2)]
    for process in processes:
        assert await process.wait() == 0
    assert await cache.get("key") == b"400"


async def test_the_lock_of_a_killed_process_is_free_within_its_lease(cache: SqlCache) -> None:
    await cache.set("key", b"1")
    process = await start_process(cache, "key", "hold", "3")
    assert process.stdout is not None
    assert await process.stdout.readline() == b"held\n"
    begun = time.monotonic()
    with pytest.raises((LockTimeoutError, CacheTimeoutError)):
        await cache.lock("key", lease_time=30, timeout=1)
    process.kill()
    await process.wait()
    lease = await take(cache)
    assert time.monotonic() - begun < 10
    await cache.commit(lease, b"2", LONG)
    assert await cache.get("key") == b"2"


async def test_a_lock_reads_what_was_committed_while_it_waited_in_the_database(cache: SqlCache) -> None:
    """A lease runs out while its holder's last transaction is open: the next one waits for the row itself."""
    await cache.set("key", b"old")
    holder = await take(cache, lease_time=1)
    table = table_of(cache)
    with connect() as connection:
        connection.autocommit = False
        connection.execute(
            f"UPDATE {table} SET [Value] = ?, [ExpiresAtTime] = DATEADD(SECOND, -1, [ExpiresAtTime]) WHERE [Id] = ?",
            b"mark",
            LEASE + "key",
        )
        connection.execute(f"UPDATE {table} SET [Value] = ? WHERE [Id] = ?", b"new", "key")
        await asyncio.sleep(1.1)
        waiting = asyncio.create_task(take(cache))
        await asyncio.sleep(0.5)
        assert not waiting.done()
        connection.commit()
    assert (await waiting).value == b"new"
    assert not await cache.renew(holder, lease_time=30, timeout=10)


async def test_a_cancelled_lock_is_released(cache: SqlCache) -> None:
    await cache.set("key", b"1")
    await cache.release(await take(cache))
    with connect() as connection:
        connection.autocommit = False
        connection.execute(f"UPDATE {table_of(cache)} SET [Value] = 0x02 WHERE [Id] = ?", LEASE + "key")
        waiting = asyncio.create_task(take(cache, lease_time=600))
        await asyncio.sleep(0.5)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        connection.commit()
    await cache.release(await take(cache))


# Purge


def node(cache: SqlCache) -> ExpiredItemsPurge:
    """The purge of a process of its own."""
    return ExpiredItemsPurge(beside(cache)._database, 300.0, default_logger)


def fill(cache: SqlCache, expired: int, live: int = 0) -> None:
    statement = f"INSERT INTO {table_of(cache)} VALUES (?, 0x01, DATEADD(SECOND, ?, SYSUTCDATETIME()), 60, NULL)"
    with connect() as connection, contextlib.closing(connection.cursor()) as cursor:
        connection.autocommit = False
        for number in range(expired):
            cursor.execute(statement, f"old{number}", -1 - number)
        for number in range(live):
            cursor.execute(statement, f"new{number}", 60)
        connection.commit()


async def test_expired_rows_go_in_batches_and_live_ones_stay(cache: SqlCache) -> None:
    fill(cache, expired=1300, live=5)
    assert (await cache._database.query(cache._statements.purge, timeout=60))[0][0] == 1000
    assert await node(cache).run() == 300
    assert ids(cache) == [LEASE + "kr.purge", *(f"new{number}" for number in range(5))]


async def test_one_node_purges_and_the_others_find_it_done(cache: SqlCache) -> None:
    fill(cache, expired=10)
    assert sorted(await asyncio.gather(*(node(cache).run() for _ in range(4)))) == [0, 0, 0, 10]
    fill(cache, expired=10)
    assert await node(cache).run() == 0
    age(cache, LEASE + "kr.purge", 271)
    assert await node(cache).run() == 10


async def test_locked_rows_are_passed_over(cache: SqlCache) -> None:
    if "Babelfish" in execute("SELECT @@VERSION")[0][0]:
        pytest.skip("the server of KESTRUN_TEST_SQLSERVER takes no notice of READPAST")
    fill(cache, expired=10)
    with connect() as connection:
        connection.autocommit = False
        connection.execute(f"UPDATE {table_of(cache)} SET [Value] = 0x02 WHERE [Id] = 'old3'")
        assert await asyncio.wait_for(node(cache).run(), 20) == 9
        connection.rollback()
    assert ids(cache) == [LEASE + "kr.purge", "old3"]


# The key ring


XML = '<key id="5" name="grüße &amp; 🍪">' + "x" * 20_000 + "</key>"


async def test_elements_of_the_key_ring_come_back_in_order(site: SqlCache) -> None:
    keys = site.key_repository()
    assert await keys.read_all() == []
    assert await keys.append(XML, "key-5", 0)
    assert await keys.append("<b/>", "key-6", 1)
    assert not await keys.append("<c/>", "key-7", 1)
    assert [element.xml for element in await keys.read_all()] == [XML, "<b/>"]


async def test_of_many_nodes_that_start_at_once_one_makes_the_key(site: SqlCache) -> None:
    others = [beside(site) for _ in range(4)]
    nodes: list[SqlXmlRepository] = [other.key_repository() for other in others]
    try:
        for expected in range(3):
            added = await asyncio.gather(
                *(keys.append(f"<k{expected}-{number}/>", "k", expected) for number, keys in enumerate(nodes))
            )
            assert sorted(added) == [False] * 3 + [True]
    finally:
        for other in others:
            await other.close()
    assert len(await site.key_repository().read_all()) == 3


# Tables


async def test_a_missing_table_is_an_error_that_names_the_command(schema: str) -> None:
    cache = SqlCache(connection_string(), schema_name=schema, table_name="Nowhere", dialect=DIALECT)
    for use in (
        cache.get("key"),
        cache.set("key", b"1"),
        cache.refresh("key"),
        cache.remove("key"),
        cache.lock("key", lease_time=1, timeout=10),
        cache.key_repository().read_all(),
        cache.key_repository().append("<a/>", "a", 0),
    ):
        with pytest.raises(CacheTableMissingError, match=rf"create-table .* --schema {schema} --table Nowhere"):
            await use
    assert (await cache.ping()).details["table"] == f"{schema}.Nowhere does not exist"
    await cache.close()


def columns(schema: str, table: str) -> list[tuple[object, ...]]:
    statement = (
        "SELECT COLUMN_NAME, DATA_TYPE, IS_NULLABLE, CHARACTER_MAXIMUM_LENGTH FROM INFORMATION_SCHEMA.COLUMNS "
        "WHERE TABLE_SCHEMA = ? AND TABLE_NAME = ? ORDER BY ORDINAL_POSITION"
    )
    return [tuple(row) for row in execute(statement, schema, table)]


async def make(schema: str, table: str = "Sessions") -> None:
    await create_table(connection_string(), schema_name=schema, table_name=table, dialect=DIALECT)


async def test_the_tables_have_aspnet_cores_columns(schema: str) -> None:
    await make(schema)
    assert columns(schema, "Sessions") == [
        ("Id", "nvarchar", "NO", 449),
        ("Value", "varbinary", "NO", -1),
        ("ExpiresAtTime", "datetimeoffset", "NO", None),
        ("SlidingExpirationInSeconds", "bigint", "YES", None),
        ("AbsoluteExpiration", "datetimeoffset", "YES", None),
    ]
    assert columns(schema, "DataProtectionKeys") == [
        ("Id", "int", "NO", None),
        ("FriendlyName", "nvarchar", "YES", -1),
        ("Xml", "nvarchar", "YES", -1),
    ]
    with pytest.raises(CacheError, match=rf"table {schema}\.Sessions exists already"):
        await make(schema)
    await make(schema, "Others")
    assert columns(schema, "Others") == columns(schema, "Sessions")


async def test_of_several_at_once_one_makes_the_table(schema: str) -> None:
    results = await asyncio.gather(*(make(schema) for _ in range(4)), return_exceptions=True)
    assert results.count(None) == 1, results
    assert all("exists already" in str(result) for result in results if result is not None), results


async def test_all_or_nothing_is_made(schema: str) -> None:
    """The last statement fails: the name of the key ring is taken."""
    execute(f"CREATE SEQUENCE [{schema}].[DataProtectionKeys] AS INT START WITH 1")
    with pytest.raises(CacheUnavailableError):
        await make(schema)
    execute(f"DROP SEQUENCE [{schema}].[DataProtectionKeys]")
    assert columns(schema, "Sessions") == []


async def test_the_schema_is_not_made() -> None:
    connection_string()
    with pytest.raises(CacheUnavailableError, match="no_such_schema"):
        await make("no_such_schema")


async def test_the_script_makes_the_same(schema: str) -> None:
    await make(schema)
    with connect() as connection:
        for table in ("Sessions", "DataProtectionKeys"):
            connection.execute(f"DROP TABLE [{schema}].[{table}]")
        cursor = connection.execute(create_table_script(DIALECT, schema, "Sessions"))
        while cursor.nextset():
            pass
        cursor = connection.execute(create_table_script(DIALECT, schema, "Others"))
        while cursor.nextset():
            pass
    assert columns(schema, "Sessions")[0] == ("Id", "nvarchar", "NO", 449)
    assert columns(schema, "Others") == columns(schema, "Sessions")
    assert columns(schema, "DataProtectionKeys")


async def test_odd_names_are_quoted(schema: str) -> None:
    table = "Säs'sions; --{keys}"
    await make(schema, table)
    cache = SqlCache(connection_string(), schema_name=schema, table_name=table, dialect=DIALECT)
    await cache.set("key", b"1")
    await cache.commit(await take(cache), b"2", LONG)
    assert await cache.get("key") == b"2"
    assert await cache.key_repository().append("<key/>", "key-1", 0)
    await cache.close()


# Faults


@contextlib.asynccontextmanager
async def proxied(cache: SqlCache) -> AsyncIterator[tuple[TcpProxy, SqlCache]]:
    server = re.search(
        r"(?i)(?:server|data source)\s*=\s*(?:tcp:)?(?:127\.0\.0\.1|localhost)(?:,(\d+))?", connection_string()
    )
    if server is None:
        pytest.skip("KESTRUN_TEST_SQLSERVER names no server on this machine")
    async with TcpProxy(int(server[1] or 1433)).running() as proxy:
        through = beside(cache, f"Server=127.0.0.1,{proxy.port};Encrypt=False")
        try:
            yield proxy, through
        finally:
            await through.close()


@pytest.mark.parametrize("value", [b"written", None])
async def test_a_commit_whose_answer_was_lost_counts_as_done(cache: SqlCache, value: bytes | None) -> None:
    await cache.set("key", b"1")
    async with proxied(cache) as (proxy, fragile):
        lease = await take(fragile)
        proxy.cut_after = lease.token.encode()
        await fragile.commit(lease, value, LONG)
        assert proxy.cut_after is None
    assert await cache.get("key") == value


async def test_a_lock_whose_answer_was_lost_is_taken_by_the_same_caller(cache: SqlCache) -> None:
    await cache.set("key", b"1")
    async with proxied(cache) as (proxy, fragile):
        proxy.cut_after = (LEASE + "key").encode("utf-16-le")
        lease = await take(fragile)
        assert proxy.cut_after is None
        await fragile.commit(lease, b"2", LONG)
    assert await cache.get("key") == b"2"


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


async def test_a_deadlock_is_tried_again(cache: SqlCache) -> None:
    """The cache removes lease and entry, another transaction takes them the other way round."""
    await cache.set("key", b"1")
    await take(cache)
    table = table_of(cache)
    # A removal is two transactions; this one holds the lease's row until the entry's is gone.
    holder = beside(cache)
    lease = LEASE + "key"

    def remove(link: Link) -> None:
        with link.transaction():
            link.query(holder._statements.remove, "key", lease)

    with connect() as connection:
        connection.autocommit = False
        connection.execute(f"UPDATE {table} SET [Value] = 0x02 WHERE [Id] = 'key'")
        removal = asyncio.create_task(holder._database.run(remove, 60))
        await asyncio.sleep(0.7)
        with contextlib.suppress(pyodbc.Error):  # if this one is the victim
            await asyncio.to_thread(connection.execute, f"DELETE FROM {table} WHERE [Id] = '{lease}'")
        connection.commit()
    await removal
    assert ids(cache) == []
    await holder.close()


async def test_a_statement_that_hangs_is_given_up(cache: SqlCache) -> None:
    hanging = beside(cache, "Command Timeout=2;Max Pool Size=2")
    await cache.set("key", b"1")
    with connect() as connection:
        connection.autocommit = False
        connection.execute(f"UPDATE {table_of(cache)} SET [Value] = 0x02 WHERE [Id] = 'key'")
        with pytest.raises(CacheTimeoutError):
            await hanging.set("key", b"2", timeout=0.3)
        with pytest.raises(CacheTimeoutError):
            await hanging.set("key", b"2", timeout=30)  # ended by the server
        connection.rollback()
    # Babelfish does not notice that it is to end a statement while that waits for a lock.
    assert await cache.get("key") in (b"1", b"2")
    await hanging.close()
    await until(lambda: hanging._database.pool._hanging() == 0)


async def test_a_wrong_password_does_not_show(cache: SqlCache) -> None:
    wrong = beside(cache, "Password=WrongWrong")
    with pytest.raises(CacheUnavailableError, match="gave no connection") as caught:
        await wrong.ping()
    assert "WrongWrong" not in str(caught.value) + repr(caught.value) + repr(wrong._database.settings)
    await wrong.close()


async def test_an_error_of_the_database_is_told_and_harms_nothing(cache: SqlCache) -> None:
    with pytest.raises(CacheUnavailableError, match="8134"):
        await cache._database.query("SELECT 1 / 0", timeout=10)
    assert await cache.get("key") is None
