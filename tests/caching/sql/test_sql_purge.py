"""Removing expired rows from PostgreSQL."""

from __future__ import annotations

import asyncio
import contextlib

import pytest
from postgres_server import shared_server
from sql_rows import LEASE, Rows
from waiting import until

from kestrun_py.caching import Expiration
from kestrun_py.caching.sql import SqlCache, SqlDialect
from kestrun_py.caching.sql.purge import ExpiredItemsPurge
from kestrun_py.errors import CacheUnavailableError
from kestrun_py.logging import default_logger


@pytest.fixture
def dialect(either_dialect: SqlDialect) -> SqlDialect:
    return either_dialect


CLAIM = LEASE + "kr.purge"


def node(cache: SqlCache, interval: float = 300.0) -> ExpiredItemsPurge:
    """The purge of a process of its own."""
    other = SqlCache(
        shared_server().connection_string(),
        schema_name=cache._database.schema,
        table_name="Sessions",
        dialect=cache._database.dialect,
    )
    return ExpiredItemsPurge(other._database, interval, default_logger)


def fill(rows: Rows, expired: int, live: int) -> None:
    rows.execute(
        "INSERT INTO {table} SELECT 'old' || n, '', now() - interval '1 second' * n, 60, NULL "
        "FROM generate_series(1, ?) n",
        expired,
    )
    rows.execute(
        "INSERT INTO {table} SELECT 'new' || n, '', now() + interval '1 minute', 60, NULL FROM generate_series(1, ?) n",
        live,
    )


def count(rows: Rows, prefix: str) -> int:
    return int(rows.execute('SELECT count(*) FROM {table} WHERE "Id" LIKE ?', prefix + "%")[0][0])


async def test_expired_rows_go_in_batches_and_live_ones_stay(cache: SqlCache, rows: Rows) -> None:
    fill(rows, expired=2500, live=20)
    assert (await cache._database.query(cache._statements.purge, timeout=10))[0][0] == 1000
    assert await node(cache).run() == 1500
    assert count(rows, "old") == 0
    assert count(rows, "new") == 20


async def test_one_node_purges_and_the_other_finds_it_done(cache: SqlCache, rows: Rows) -> None:
    fill(rows, expired=10, live=0)
    removed = await asyncio.gather(*(node(cache).run() for _ in range(4)))
    assert sorted(removed) == [0, 0, 0, 10]
    fill(rows, expired=10, live=0)
    assert await node(cache).run() == 0
    rows.age(CLAIM, 271)  # nine tenths of the interval and a bit
    assert await node(cache).run() == 10


async def test_an_interval_of_many_days(cache: SqlCache, rows: Rows) -> None:
    fill(rows, expired=10, live=0)
    assert await node(cache, 90 * 86400).run() == 10
    assert rows.expires_in(CLAIM) > 24 * 86400
    assert await node(cache, 90 * 86400).run() == 0


async def test_locked_rows_are_passed_over(cache: SqlCache, rows: Rows) -> None:
    fill(rows, expired=10, live=0)
    with contextlib.closing(shared_server().connect()) as connection:
        connection.autocommit = False
        connection.execute(f"SELECT 1 FROM {rows.table} WHERE \"Id\" = 'old3' FOR UPDATE")
        assert await asyncio.wait_for(node(cache).run(), 10) == 9
        connection.rollback()
    assert rows.ids() == [CLAIM, "old3"]


async def test_leases_that_were_given_back_or_left_behind_go_and_held_ones_stay(cache: SqlCache, rows: Rows) -> None:
    for key in ("given", "left", "held"):
        await cache.set(key, b"1")
    given, left, held = [await cache.lock(key, lease_time=30, timeout=5) for key in ("given", "left", "held")]
    assert given is not None
    assert left is not None
    assert held is not None
    await cache.release(given)
    rows.age(LEASE + "left", 31)
    assert await node(cache).run() == 2
    assert rows.ids() == sorted(["given", "held", "left", CLAIM, LEASE + "held"])
    await cache.commit(held, b"2", Expiration(60))


async def test_a_started_purge_repeats(cache: SqlCache, rows: Rows) -> None:
    purge = node(cache, interval=0.3)
    purge.start()
    purge.start()
    for _ in range(2):
        fill(rows, expired=5, live=0)
        await until(lambda: count(rows, "old") == 0)
    await purge.close()
    await purge.close()


async def test_a_purge_outlives_its_failures(cache: SqlCache, rows: Rows, monkeypatch: pytest.MonkeyPatch) -> None:
    purge = node(cache, interval=0.1)
    failed = asyncio.Event()
    run = purge.run

    async def fail_once() -> int:
        if not failed.is_set():
            failed.set()
            raise CacheUnavailableError("gone")
        return await run()

    monkeypatch.setattr(purge, "run", fail_once)
    fill(rows, expired=5, live=0)
    purge.start()
    await asyncio.wait_for(failed.wait(), 30)
    await until(lambda: count(rows, "old") == 0)
    await purge.close()


async def test_a_purge_takes_no_connection_from_the_requests(cache: SqlCache, rows: Rows) -> None:
    fill(rows, expired=5, live=0)
    permits = cache._database.pool._permits
    for _ in range(10):
        await permits.acquire()
    assert await asyncio.wait_for(cache._purge.run(), 20) == 5
    for _ in range(10):
        permits.release()
