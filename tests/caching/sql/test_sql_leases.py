"""Locks in PostgreSQL: exclusive at every isolation level, across processes, and when holders die or give up."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from postgres_server import PostgresServer, open_postgres_cache, shared_server
from sql_rows import LEASE, Rows
from waiting import until

from kestrun_py.caching import Expiration, Lease
from kestrun_py.caching.sql import PostgresDialect, SqlCache, SqlDialect, create_table
from kestrun_py.errors import CacheTimeoutError, LeaseLostError, LockTimeoutError


@pytest.fixture
def dialect(either_dialect: SqlDialect) -> SqlDialect:
    return either_dialect


LEVELS = ["read committed", "repeatable read", "serializable"]


async def take(cache: SqlCache, key: str, lease_time: float = 30, timeout: float = 30) -> Lease:
    lease = await cache.lock(key, lease_time=lease_time, timeout=timeout)
    assert lease is not None
    return lease


async def assert_taken(cache: SqlCache, key: str) -> None:
    # The last attempt may find no time to be answered.
    with pytest.raises((LockTimeoutError, CacheTimeoutError)):
        await cache.lock(key, lease_time=30, timeout=0.5)


async def increment(cache: SqlCache, key: str, times: int) -> None:
    for _ in range(times):
        lease = await take(cache, key, timeout=60)
        await cache.commit(lease, str(int(lease.value) + 1).encode(), Expiration(600), timeout=60)


@contextlib.asynccontextmanager
async def cache_at(level: str, dialect: SqlDialect) -> AsyncIterator[SqlCache]:
    """A cache whose connections run at an isolation level of the database's choice."""
    server = shared_server()
    database = f"level_{time.monotonic_ns()}"
    server.execute(f'CREATE DATABASE "{database}"')
    server.execute(f"ALTER DATABASE \"{database}\" SET default_transaction_isolation = '{level}'")
    names: dict[str, Any] = {"schema_name": "public", "table_name": "Sessions"}
    await create_table(server.connection_string(database), **names, dialect=PostgresDialect())
    cache = SqlCache(server.connection_string(database), **names, dialect=dialect)
    try:
        assert (await cache._database.query("SHOW transaction_isolation", timeout=10))[0][0] == level
        yield cache
    finally:
        await cache.close()
        server.execute(f'DROP DATABASE "{database}" WITH (FORCE)')


async def test_a_lock_is_a_row_that_aspnet_core_would_purge(cache: SqlCache, rows: Rows) -> None:
    await cache.set("key", b"1")
    lease = await take(cache, "key", lease_time=20)
    held = rows.row(LEASE + "key")
    assert held is not None
    assert held == (lease.token.encode(), pytest.approx(20, abs=3), None, None)  # type: ignore[comparison-overlap]
    await cache.commit(lease, b"2", Expiration(60))
    assert rows.expires_in(LEASE + "key") < 0


async def test_taking_a_lock_does_not_hold_a_connection(cache: SqlCache) -> None:
    keys = [f"key{number}" for number in range(30)]  # thrice the pool
    for key in keys:
        await cache.set(key, b"1")
    leases = [await take(cache, key, timeout=5) for key in keys]
    assert await cache.get("key0") == b"1"
    for lease in leases:
        await cache.release(lease)


@pytest.mark.parametrize("level", LEVELS)
async def test_no_update_is_lost_at_any_isolation_level(level: str, either_dialect: SqlDialect) -> None:
    async with cache_at(level, either_dialect) as cache:
        await cache.set("key", b"0")
        times = 15 if isinstance(either_dialect, PostgresDialect) else 2  # a translation takes its time
        await asyncio.gather(*(increment(cache, "key", times) for _ in range(8)))
        assert await cache.get("key") == str(times * 8).encode()


@pytest.mark.parametrize("level", LEVELS)
async def test_a_lock_reads_what_was_committed_while_it_waited_in_the_database(
    level: str, either_dialect: SqlDialect
) -> None:
    """A lease runs out while its holder's last transaction is open: the next one waits for the row itself."""
    async with cache_at(level, either_dialect) as cache:
        await cache.set("key", b"old")
        holder = await take(cache, "key", lease_time=1)
        database = cache._database
        server = shared_server()
        name = database.settings.address.rpartition(" ")[2]
        statement = PostgresDialect().statements("public", "Sessions").commit
        with contextlib.closing(server.connect(name)) as connection, contextlib.closing(connection.cursor()) as cursor:
            connection.autocommit = False
            cursor.execute(statement, "key", LEASE + "key", holder.token.encode(), b"mark", b"new", 60, "")
            assert list(cursor.fetchone())[:2] == [1, 1]
            await asyncio.sleep(1.1)
            waiting = asyncio.create_task(take(cache, "key"))
            count = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = ?"
            await until(lambda: server.execute(count, name)[0][0] == 1)
            connection.commit()
        assert (await waiting).value == b"new"


async def test_two_processes_lose_no_update(cache: SqlCache) -> None:
    await cache.set("key", b"0")
    processes = [await start_process(cache, "key", "500") for _ in range(2)]
    for process in processes:
        assert await process.wait() == 0
    assert await cache.get("key") == b"1000"


async def start_process(cache: SqlCache, key: str, *orders: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable,
        Path(__file__).with_name("counting_process.py"),
        PostgresDialect.name,
        shared_server().connection_string(),
        cache._database.schema,
        cache._database.table,
        key,
        *orders,
        stdout=asyncio.subprocess.PIPE,
    )


async def test_the_lock_of_a_killed_process_is_free_within_its_lease(cache: SqlCache) -> None:
    await cache.set("key", b"1")
    process = await start_process(cache, "key", "hold", "3")
    assert process.stdout is not None
    assert await process.stdout.readline() == b"held\n"
    begun = time.monotonic()
    await assert_taken(cache, "key")
    process.kill()
    await process.wait()
    lease = await take(cache, "key")
    assert time.monotonic() - begun < 10
    await cache.commit(lease, b"2", Expiration(60))
    assert await cache.get("key") == b"2"


async def test_a_lease_that_was_taken_over_cannot_write(cache: SqlCache, rows: Rows) -> None:
    await cache.set("key", b"1")
    late = await take(cache, "key", lease_time=30)
    rows.age(LEASE + "key", 31)
    current = await take(cache, "key")
    assert not await cache.renew(late, lease_time=30, timeout=5)
    for value in (b"late", None):
        with pytest.raises(LeaseLostError):
            await cache.commit(late, value, Expiration(60))
    await cache.release(late)
    await assert_taken(cache, "key")
    await cache.commit(current, b"2", Expiration(60))
    assert await cache.get("key") == b"2"


async def test_an_expired_lease_may_write_while_nobody_took_it(cache: SqlCache, rows: Rows) -> None:
    await cache.set("key", b"1")
    for value in (b"2", None):
        lease = await take(cache, "key", lease_time=30)
        rows.age(LEASE + "key", 31)
        assert await cache.renew(lease, lease_time=30, timeout=5)
        await assert_taken(cache, "key")
        rows.age(LEASE + "key", 31)
        await cache.commit(lease, value, Expiration(60))
        assert await cache.get("key") == value


async def test_an_expired_lease_of_an_expired_entry_cannot_write(cache: SqlCache, rows: Rows) -> None:
    for value in (b"2", None):
        await cache.set("key", b"1", sliding_expiration=60)
        lease = await take(cache, "key", lease_time=30)
        rows.age(LEASE + "key", 31)
        rows.age("key", 61)
        assert not await cache.renew(lease, lease_time=30, timeout=5)
        with pytest.raises(LeaseLostError):
            await cache.commit(lease, value, Expiration(60))
        assert await cache.get("key") is None


async def test_a_lease_that_was_given_back_cannot_write(cache: SqlCache) -> None:
    await cache.set("key", b"1")
    lease = await take(cache, "key")
    await cache.release(lease)
    assert not await cache.renew(lease, lease_time=30, timeout=5)
    with pytest.raises(LeaseLostError):
        await cache.commit(lease, b"2", Expiration(60))
    assert await cache.get("key") == b"1"


async def test_storing_ends_the_lock_of_what_is_replaced(cache: SqlCache, rows: Rows) -> None:
    await cache.set("key", b"1")
    lease = await take(cache, "key")
    await cache.set("key", b"2")
    assert not await cache.renew(lease, lease_time=30, timeout=5)
    with pytest.raises(LeaseLostError):
        await cache.commit(lease, b"lost update", Expiration(60))
    assert await cache.get("key") == b"2"
    await cache.release(await take(cache, "key"))
    await cache.set("new", b"1")  # nobody can hold what was not there
    assert rows.ids() == ["key", LEASE + "key", "new"]


@pytest.mark.parametrize("value", [b"lost update", None])
async def test_storing_ends_a_lock_that_has_outlived_its_entry(
    cache: SqlCache, rows: Rows, value: bytes | None
) -> None:
    await cache.set("key", b"1", absolute_expiration_relative_to_now=600)
    lease = await take(cache, "key")
    rows.execute('DELETE FROM {table} WHERE "Id" = ?', "key")  # as a purge does at its absolute time
    await cache.set("key", b"2")
    assert not await cache.renew(lease, lease_time=30, timeout=5)
    with pytest.raises(LeaseLostError):
        await cache.commit(lease, value, Expiration(60))
    assert await cache.get("key") == b"2"


async def test_a_lock_waits_for_what_is_being_stored(cache: SqlCache) -> None:
    """Between two moments of a store nobody takes a lease that would let the old value be written back."""
    await cache.set("key", b"old")
    database = cache._database
    server = shared_server()
    statement = PostgresDialect().statements(database.schema, "Sessions").store
    with contextlib.closing(server.connect()) as connection, contextlib.closing(connection.cursor()) as cursor:
        connection.autocommit = False
        cursor.execute(statement, "key", LEASE + "key", b"new", 60, "")
        assert cursor.fetchone()[0] == 1
        waiting = asyncio.create_task(take(cache, "key"))
        count = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
        await until(lambda: server.execute(count)[0][0] == 1)
        connection.commit()
    lease = await waiting
    assert lease.value == b"new"
    await cache.commit(lease, b"newer", Expiration(60))


async def test_stores_and_updates_at_once_lose_no_store(cache: SqlCache) -> None:
    """Whoever reads a value under a lease writes over that value alone."""
    await cache.set("key", b"0:0")
    stored = 0

    async def store() -> None:
        nonlocal stored
        for _ in range(8):
            stored += 1
            await cache.set("key", b"%d:0" % stored)
            await asyncio.sleep(0.01)

    async def update() -> None:
        for _ in range(12):
            lease = await cache.lock("key", lease_time=30, timeout=30)
            assert lease is not None
            base, count = lease.value.split(b":")
            with contextlib.suppress(LeaseLostError):
                await cache.commit(lease, base + b":%d" % (int(count) + 1), Expiration(60), timeout=30)

    await asyncio.gather(store(), *(update() for _ in range(3)))
    assert (await cache.get("key") or b"").startswith(b"%d:" % stored)


async def test_an_entry_that_was_removed_is_not_brought_back(cache: SqlCache, rows: Rows) -> None:
    await cache.set("key", b"1")
    lease = await take(cache, "key")
    await cache.remove("key")
    assert not await cache.renew(lease, lease_time=30, timeout=5)
    with pytest.raises(LeaseLostError):
        await cache.commit(lease, b"2", Expiration(60))
    assert rows.ids() == []


async def test_an_entry_that_aspnet_core_removed_is_not_brought_back(cache: SqlCache, rows: Rows) -> None:
    for value in (b"2", None):
        await cache.set("key", b"1")
        lease = await take(cache, "key")
        rows.execute('DELETE FROM {table} WHERE "Id" = ?', "key")
        assert not await cache.renew(lease, lease_time=30, timeout=5)
        with pytest.raises(LeaseLostError):
            await cache.commit(lease, value, Expiration(60))
        assert await cache.get("key") is None


async def test_a_commit_of_nothing_removes_the_entry(cache: SqlCache) -> None:
    await cache.set("key", b"1")
    await cache.commit(await take(cache, "key"), None, Expiration())
    assert await cache.get("key") is None
    assert await cache.lock("key", lease_time=5, timeout=5) is None


async def test_an_entry_does_not_expire_before_its_lease(cache: SqlCache, rows: Rows) -> None:
    await cache.set("key", b"1", sliding_expiration=2)
    lease = await take(cache, "key", lease_time=60)
    assert rows.expires_in("key") == pytest.approx(60, abs=5)
    assert await cache.renew(lease, lease_time=300, timeout=5)
    assert rows.expires_in("key") == pytest.approx(300, abs=5)
    assert rows.expires_in(LEASE + "key") == pytest.approx(300, abs=5)


async def test_a_lock_slides_the_entry_and_tells_its_absolute_time(cache: SqlCache, rows: Rows) -> None:
    await cache.set("key", b"1", sliding_expiration=100, absolute_expiration_relative_to_now=1000)
    rows.age("key", 50)
    lease = await take(cache, "key", lease_time=5)
    assert rows.expires_in("key") == pytest.approx(100, abs=3)
    assert lease.absolute == pytest.approx(time.time() + 950, abs=3)
    await cache.commit(lease, b"2", Expiration(100, lease.absolute))
    again = await take(cache, "key")
    assert again.absolute == pytest.approx(lease.absolute, abs=1e-5)


async def test_a_lock_of_an_expired_entry_leaves_no_row(cache: SqlCache, rows: Rows) -> None:
    await cache.set("key", b"1", sliding_expiration=10)
    rows.age("key", 11)
    assert await cache.lock("key", lease_time=5, timeout=5) is None
    assert rows.ids() == ["key"]


async def test_reads_do_not_wait_for_a_lock(cache: SqlCache) -> None:
    await cache.set("key", b"1")
    await take(cache, "key")
    assert await cache.get("key", timeout=1) == b"1"


async def test_a_cancelled_lock_is_released(cache: SqlCache) -> None:
    """Cancelled at every stage: before, while and after the database grants it."""
    await cache.set("key", b"0")
    for number in range(60):
        task = asyncio.create_task(cache.lock("key", lease_time=600, timeout=30))
        await asyncio.sleep(number * 0.0001)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            lease = await task
            assert lease is not None
            await cache.release(lease)
    lease = await take(cache, "key", timeout=5)
    await cache.release(lease)


async def test_many_cancelled_callers_leave_every_connection_whole(cache: SqlCache) -> None:
    """No caller ever sees another one's answer, whoever was cancelled before."""
    keys = [f"key{number}" for number in range(20)]
    for key in keys:
        await cache.set(key, key.encode())

    async def read(key: str) -> None:
        assert await cache.get(key) == key.encode()

    async def update(key: str) -> None:
        lease = await take(cache, key)
        assert lease.value == key.encode()
        await cache.commit(lease, lease.value, Expiration(600))

    finished = 0
    rounds = 400 if cache.name == "PostgreSQL" else 100
    for number in range(rounds):
        key = keys[number % len(keys)]
        task = asyncio.create_task(update(key) if number % 2 else read(key))
        await asyncio.sleep(0.0002 * (number % 7))
        if number % 4:
            task.cancel()
        try:
            await asyncio.wait_for(task, 30)
            finished += 1
        except asyncio.CancelledError:
            pass
    assert finished >= rounds // 4
    # A commit that was cancelled may leave its lock; it must not leave anything else.
    for key in keys:
        assert await cache.get(key) == key.encode()


async def test_a_lock_that_came_too_late_is_released(cache: SqlCache) -> None:
    """The database grants a lock whose caller no longer waits."""
    await cache.set("key", b"1")
    database = cache._database
    with contextlib.closing(shared_server().connect()) as connection:
        connection.autocommit = False
        connection.execute(f'LOCK TABLE "{database.schema}"."Sessions" IN ACCESS EXCLUSIVE MODE')
        with pytest.raises(CacheTimeoutError):
            await cache.lock("key", lease_time=600, timeout=0.3)
        task = asyncio.create_task(cache.lock("key", lease_time=600, timeout=30))
        await asyncio.sleep(0.2)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        connection.rollback()
    lease = await take(cache, "key", timeout=10)
    await cache.release(lease)


async def test_a_cancelled_lock_that_comes_after_its_deadline_is_released(cache: SqlCache) -> None:
    await cache.set("key", b"1")
    database = cache._database
    server = shared_server()
    with contextlib.closing(server.connect()) as connection:
        connection.autocommit = False
        connection.execute(f'LOCK TABLE "{database.schema}"."Sessions" IN ACCESS EXCLUSIVE MODE')
        task = asyncio.create_task(cache.lock("key", lease_time=600, timeout=2))
        count = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
        await until(lambda: server.execute(count)[0][0] == 1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await until(lambda: database.pool._hanging() == 1)
        connection.rollback()
    lease = await take(cache, "key", timeout=10)
    await cache.release(lease)


async def test_a_lease_survives_a_crash_of_nothing_but_its_connection(server: PostgresServer) -> None:
    async with open_postgres_cache(server) as cache:
        await cache.set("key", b"1")
        lease = await take(cache, "key")
        server.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()")
        assert await cache.renew(lease, lease_time=30, timeout=10)
        await cache.commit(lease, b"2", Expiration(60))
        assert await cache.get("key") == b"2"


async def test_a_released_entry_expires_as_if_it_had_not_been_held(cache: SqlCache, rows: Rows) -> None:
    await cache.set("key", b"1", sliding_expiration=60)
    lease = await take(cache, "key", lease_time=600)
    assert rows.expires_in("key") == pytest.approx(600, abs=5)
    await cache.release(lease)
    assert rows.expires_in("key") == pytest.approx(60, abs=5)
    # What was lost cannot be released: the entry belongs to somebody else.
    await take(cache, "key", lease_time=600)
    await cache.release(lease)
    assert rows.expires_in("key") == pytest.approx(600, abs=5)
