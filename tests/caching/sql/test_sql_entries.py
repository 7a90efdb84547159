"""Entries in PostgreSQL: the rows, and ASP.NET Core's tests of its SQL Server cache."""

from __future__ import annotations

import asyncio
import shlex
import time
from datetime import UTC, datetime, timedelta

import pytest
from postgres_server import open_postgres_cache, shared_server
from sql_rows import Rows

from kestrun_py.caching import Expiration
from kestrun_py.caching.sql import PostgresDialect, SqlCache, SqlDialect, SqlServerDialect, create_table
from kestrun_py.errors import ArgumentError, CacheTableMissingError, CacheUnavailableError


@pytest.fixture
def dialect(either_dialect: SqlDialect) -> SqlDialect:
    return either_dialect


SLACK = 3.0  # seconds that a slow machine may take between a statement and the look at its row


def about(seconds: float) -> object:
    return pytest.approx(seconds, abs=SLACK)


async def test_there_is_nothing_under_a_key_that_was_never_set(cache: SqlCache) -> None:
    assert await cache.get("nothing") is None


async def test_a_row_holds_what_aspnet_core_would_write(cache: SqlCache, rows: Rows) -> None:
    await cache.set("both", b"\0value\xff", sliding_expiration=60, absolute_expiration_relative_to_now=600)
    assert rows.row("both") == (b"\0value\xff", about(60), 60, about(600))
    await cache.set("sliding", b"", sliding_expiration=60)
    assert rows.row("sliding") == (b"", about(60), 60, None)
    await cache.set("absolute", b"1", absolute_expiration=datetime.now(UTC) + timedelta(seconds=600))
    assert rows.row("absolute") == (b"1", about(600), None, about(600))
    value = rows.row("absolute")
    assert value is not None
    assert value[1] == value[3]


async def test_setting_does_not_cap_the_window_by_the_absolute_time(cache: SqlCache, rows: Rows) -> None:
    await cache.set("key", b"1", sliding_expiration=600, absolute_expiration_relative_to_now=60)
    assert rows.expires_in("key") == about(600)
    rows.age("key", 61)
    assert await cache.get("key") is None


async def test_an_entry_without_expiration_gets_twenty_minutes(cache: SqlCache, rows: Rows) -> None:
    await cache.set("key", b"1")
    assert rows.row("key") == (b"1", about(1200), 1200, None)


async def test_the_default_window_can_be_changed() -> None:
    async with open_postgres_cache(default_sliding_expiration="00:30:00") as cache:
        await cache.set("key", b"1")
        found = shared_server().execute(
            f'SELECT "SlidingExpirationInSeconds" FROM "{cache._database.schema}"."Sessions"'
        )
        assert [row[0] for row in found] == [1800]


async def test_a_fraction_of_a_second_counts_as_a_second(cache: SqlCache, rows: Rows) -> None:
    await cache.set("key", b"1", sliding_expiration=0.25)
    assert rows.execute('SELECT "SlidingExpirationInSeconds" FROM {table}')[0][0] == 1


async def test_setting_again_replaces_value_and_expiration(cache: SqlCache, rows: Rows) -> None:
    await cache.set("key", b"1", sliding_expiration=60, absolute_expiration_relative_to_now=600)
    await cache.set("key", b"2", absolute_expiration_relative_to_now=300)
    assert rows.row("key") == (b"2", about(300), None, about(300))


@pytest.mark.parametrize(("sliding", "age"), [(10, 11), (10, 1000)])
async def test_an_entry_that_was_not_read_within_its_window_is_gone(
    cache: SqlCache, rows: Rows, sliding: int, age: int
) -> None:
    await cache.set("key", b"1", sliding_expiration=sliding)
    rows.age("key", age)
    assert await cache.get("key") is None
    await cache.refresh("key")
    assert await cache.get("key") is None


@pytest.mark.parametrize("read", ["get", "refresh"])
async def test_a_read_extends_the_window(cache: SqlCache, rows: Rows, read: str) -> None:
    await cache.set("key", b"1", sliding_expiration=100)
    rows.age("key", 50)
    await getattr(cache, read)("key")
    assert rows.expires_in("key") == about(100)


@pytest.mark.parametrize("read", ["get", "refresh"])
async def test_a_read_writes_nothing_within_a_tenth_of_the_window(cache: SqlCache, rows: Rows, read: str) -> None:
    await cache.set("key", b"1", sliding_expiration=1000)
    rows.age("key", 50)
    before = rows.execute('SELECT xmin, ctid, "ExpiresAtTime" FROM {table}')
    await getattr(cache, read)("key")
    assert rows.execute('SELECT xmin, ctid, "ExpiresAtTime" FROM {table}') == before
    rows.age("key", 60)
    await getattr(cache, read)("key")
    assert rows.expires_in("key") == about(1000)


@pytest.mark.parametrize(("window", "early", "late"), [(19, 1.3, 2.5), (9, 0.4, 1.5)])
async def test_a_tenth_of_a_window_that_is_no_multiple_of_ten(
    cache: SqlCache, rows: Rows, window: int, early: float, late: float
) -> None:
    await cache.set("key", b"1", sliding_expiration=window)
    before = rows.execute("SELECT xmin, ctid FROM {table}")
    rows.age("key", early)
    aged = rows.execute("SELECT xmin, ctid FROM {table}")
    began = time.monotonic()
    await cache.get("key")
    slow = time.monotonic() - began > window / 10 - early
    assert rows.execute("SELECT xmin, ctid FROM {table}") == aged != before or slow
    rows.age("key", late - early)
    await cache.get("key")
    assert rows.expires_in("key") == pytest.approx(window, abs=1)


async def test_the_window_does_not_pass_the_absolute_time(cache: SqlCache, rows: Rows) -> None:
    await cache.set("key", b"1", sliding_expiration=100, absolute_expiration_relative_to_now=250)
    for age, expected in ((80, 100), (60, 100), (60, 50)):
        rows.age("key", age)
        assert await cache.get("key") == b"1"
        assert rows.expires_in("key") == about(expected)
    rows.age("key", 60)
    assert await cache.get("key") is None


async def test_reads_do_not_move_an_absolute_time(cache: SqlCache, rows: Rows) -> None:
    await cache.set("key", b"1", absolute_expiration_relative_to_now=100)
    rows.age("key", 50)
    assert await cache.get("key") == b"1"
    assert rows.expires_in("key") == about(50)
    rows.age("key", 60)
    assert await cache.get("key") is None


async def test_an_absolute_time_in_the_past_is_refused(cache: SqlCache) -> None:
    with pytest.raises(ArgumentError, match=r"The absolute expiration value must be in the future\."):
        await cache.set("key", b"1", absolute_expiration=datetime.now(UTC) - timedelta(seconds=1))


async def test_an_absolute_time_beyond_the_calendar_is_its_end(cache: SqlCache) -> None:
    await cache.store("key", b"1", Expiration(None, 1e15))
    assert await cache.get("key") == b"1"


async def test_a_key_of_449_characters_is_stored_and_removed(cache: SqlCache, rows: Rows) -> None:
    key = "k" * 449
    await cache.set(key, b"1")
    assert rows.ids() == [key]
    # The row of its lock would need eight more.
    with pytest.raises(ArgumentError, match="441"):
        await cache.lock(key, lease_time=1, timeout=1)
    await cache.remove(key)
    assert rows.ids() == []


@pytest.mark.parametrize("key", ["k" * 450, "", "\U0001f36a" * 225, "a\0b", "kr.lock:a", "\ud800"])
async def test_a_key_that_the_table_cannot_hold_is_refused(cache: SqlCache, rows: Rows, key: str) -> None:
    for use in (cache.get, cache.refresh, cache.remove):
        with pytest.raises(ArgumentError, match="key of an entry"):
            await use(key)
    with pytest.raises(ArgumentError, match="key of an entry"):
        await cache.set(key, b"1")
    with pytest.raises(ArgumentError, match="key of an entry"):
        await cache.lock(key, lease_time=1, timeout=1)
    assert rows.ids() == []


@pytest.mark.parametrize("key", ["a?b", "a'b", 'a"b', "a%b", "ключ", "\U0001f36a", " a ", "a\\b", "{a}", "a\nb"])
async def test_any_text_is_a_key(cache: SqlCache, key: str) -> None:
    await cache.set(key, key.encode())
    assert await cache.get(key) == key.encode()
    lease = await cache.lock(key, lease_time=5, timeout=5)
    assert lease is not None
    await cache.commit(lease, b"2", Expiration(60))
    assert await cache.get(key) == b"2"


@pytest.mark.parametrize("size", [0, 1, 7999, 8000, 8001, 8100, 1024 * 1024])
async def test_values_of_every_size_come_back(cache: SqlCache, size: int) -> None:
    value = bytes(range(256)) * (size // 256 + 1)
    value = value[:size]
    await cache.set("key", value)
    assert await cache.get("key") == value
    lease = await cache.lock("key", lease_time=5, timeout=5)
    assert lease is not None
    assert lease.value == value
    await cache.commit(lease, value[::-1], Expiration(60))
    assert await cache.get("key") == value[::-1]


async def test_keys_differ_by_case_and_by_trailing_spaces(cache: SqlCache) -> None:
    await cache.set("key", b"1")
    assert await cache.get("KEY") is None
    await cache.set(" key  ", b"2")
    assert await cache.get(" key  ") == b"2"
    assert await cache.get("key") == b"1"


async def test_removing_deletes_the_row_and_its_lease(cache: SqlCache, rows: Rows) -> None:
    await cache.set("key", b"1")
    assert await cache.lock("key", lease_time=5, timeout=5) is not None
    assert rows.ids() == ["key", "kr.lock:key"]
    await cache.remove("key")
    assert rows.ids() == []
    await cache.remove("key")


async def test_text_is_stored_as_utf8(cache: SqlCache, rows: Rows) -> None:
    await cache.set_string("key", "grüße")
    row = rows.row("key")
    assert row is not None
    assert row[0] == "grüße".encode()
    assert await cache.get_string("key") == "grüße"


async def test_many_sets_of_one_key_at_once(cache: SqlCache) -> None:
    await asyncio.gather(*(cache.set("key", str(number).encode()) for number in range(50)))
    assert int(await cache.get("key") or b"") in range(50)


async def test_ping_tells_server_version_and_table(cache: SqlCache) -> None:
    status = await cache.ping()
    assert status.server == "PostgreSQL"
    assert status.version == shared_server().execute("SHOW server_version")[0][0].split()[0]
    assert 0 < status.round_trip < 10
    assert status.details["table"] == f"{cache._database.schema}.Sessions exists"
    assert status.details["key ring"] == f"{cache._database.schema}.DataProtectionKeys exists"
    assert status.problems == ()


async def test_ping_tells_that_the_table_is_missing() -> None:
    cache = SqlCache(
        shared_server().connection_string(), schema_name="public", table_name="Nowhere", dialect=PostgresDialect()
    )
    status = await cache.ping()
    assert status.details["table"] == "public.Nowhere does not exist"
    assert status.details["key ring"] == "public.DataProtectionKeys does not exist"
    assert "has no table public.Nowhere. Create it by: kestrun cache create-table" in status.problems[0]
    await cache.close()


async def test_a_missing_table_is_an_error_that_names_the_command() -> None:
    cache = SqlCache(
        shared_server().connection_string(), schema_name="public", table_name="Nowhere", dialect=PostgresDialect()
    )
    for use in (
        cache.get("key"),
        cache.set("key", b"1"),
        cache.refresh("key"),
        cache.remove("key"),
        cache.lock("key", lease_time=1, timeout=5),
    ):
        with pytest.raises(
            CacheTableMissingError,
            match=r"kestrun cache create-table --connection-string \.\.\. --schema public --table Nowhere "
            "--dialect postgres",
        ):
            await use
    await cache.close()


async def test_the_advised_command_is_quoted_for_the_shell() -> None:
    cache = SqlCache(
        shared_server().connection_string(), schema_name="public", table_name="It's; here", dialect=PostgresDialect()
    )
    with pytest.raises(CacheTableMissingError) as caught:
        await cache.get("key")
    command = shlex.split(str(caught.value).partition("by: ")[2])
    assert command[command.index("--table") + 1] == "It's; here"
    await cache.close()


async def test_a_closed_cache_refuses_everything(cache: SqlCache) -> None:
    await cache.set("key", b"1")
    lease = await cache.lock("key", lease_time=5, timeout=5)
    assert lease is not None
    await cache.close()
    for use in (
        cache.get("key"),
        cache.set("key", b"1"),
        cache.refresh("key"),
        cache.remove("key"),
        cache.lock("key", lease_time=1, timeout=5),
        cache.renew(lease, lease_time=1, timeout=5),
        cache.commit(lease, b"", Expiration(60)),
        cache.release(lease),
        cache.ping(),
    ):
        with pytest.raises(CacheUnavailableError, match="closed"):
            await use


def make(**changed: object) -> SqlCache:
    arguments: dict[str, object] = {
        "connection_string": "Driver=x;Server=y",
        "schema_name": "dbo",
        "table_name": "Sessions",
        "dialect": SqlServerDialect(),
        **changed,
    }
    return SqlCache(**arguments)  # type: ignore[arg-type]


def test_arguments_are_checked() -> None:
    with pytest.raises(
        ArgumentError, match=r"ExpiredItemsDeletionInterval cannot be less than the minimum value of 5 minutes\."
    ):
        make(expired_items_deletion_interval=299.9)
    with pytest.raises(ArgumentError, match=r"The sliding expiration value must be positive\."):
        make(default_sliding_expiration=0)
    for name in ("connection_string", "schema_name", "table_name"):
        with pytest.raises(ArgumentError, match=name):
            make(**{name: ""})
        for wrong in ("  ", None, 5):
            with pytest.raises(ArgumentError, match=name):
                make(**{name: wrong})
    with pytest.raises(ArgumentError, match="table_name"):
        make(table_name="t" * 129)
    with pytest.raises(ArgumentError, match="table_name"):
        make(table_name="t\0")
    with pytest.raises(ArgumentError, match="63"):
        make(dialect=PostgresDialect(), table_name="ü" * 32)


def test_five_minutes_are_enough_and_the_name_is_the_dialects() -> None:
    assert make(expired_items_deletion_interval="00:05:00").name == "SQL Server"
    assert make(dialect=PostgresDialect()).name == "PostgreSQL"


async def test_odd_names_are_quoted() -> None:
    server = shared_server()
    schema = f'odd {{table}} "quoted" {time.monotonic_ns()}'
    quoted = '"' + schema.replace('"', '""') + '"'
    server.execute(f"CREATE SCHEMA {quoted}")
    names = {"schema_name": schema, "table_name": "Säs'si]ons; --{keys}", "dialect": PostgresDialect()}
    await create_table(server.connection_string(), **names)  # type: ignore[arg-type]
    cache = SqlCache(server.connection_string(), **names)  # type: ignore[arg-type]
    await cache.set("key", b"1")
    lease = await cache.lock("key", lease_time=5, timeout=5)
    assert lease is not None
    await cache.commit(lease, b"2", Expiration(60))
    assert await cache.get("key") == b"2"
    assert await cache.key_repository().append("<key/>", "key-1", 0)
    await cache.close()
    server.execute(f"DROP SCHEMA {quoted} CASCADE")
