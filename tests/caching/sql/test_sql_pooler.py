"""PostgreSQL behind a pooler in transaction mode, which gives each transaction any of its connections."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator, Iterator

import pytest
from postgres_pooler import Pooler
from postgres_server import open_postgres_cache, shared_server

from kestrun_py.caching import Expiration
from kestrun_py.caching.sql import PostgresDialect, SqlCache
from kestrun_py.errors import CacheTimeoutError

# The first two are set by the driver in every program that uses it; PgBouncer sets all but the second for each client.
STATE = """
    SELECT name FROM pg_settings WHERE source = 'session'
        AND name NOT IN ('DateStyle', 'extra_float_digits', 'application_name', 'client_encoding')
    UNION ALL SELECT name FROM pg_prepared_statements
    UNION ALL SELECT name FROM pg_cursors
    UNION ALL SELECT CAST(objid AS text) FROM pg_locks WHERE locktype = 'advisory'
"""


@pytest.fixture(scope="module", params=["extra_float_digits", "extra_float_digits, options"], ids=["strict", "lenient"])
def pooler(request: pytest.FixtureRequest) -> Iterator[Pooler]:
    """One connection to the server, for every client; clients with unknown options are refused, or heard in part."""
    with Pooler(shared_server(), ignored=request.param) as pooler:
        yield pooler


@pytest.fixture
async def direct() -> AsyncIterator[SqlCache]:
    async with open_postgres_cache() as cache:
        yield cache


@contextlib.asynccontextmanager
async def pooled(direct: SqlCache, pooler: Pooler, options: str = "", **arguments: str) -> AsyncIterator[SqlCache]:
    """A cache on the same table, by way of the pooler."""
    cache = SqlCache(
        arguments.get("connection_string", f"{pooler.connection_string};{options}"),
        schema_name=direct._database.schema,
        table_name="Sessions",
        dialect=PostgresDialect(),
    )
    await cache.start()
    try:
        yield cache
    finally:
        await cache.close()


async def use(cache: SqlCache) -> None:
    """Every statement of the cache, those of the key ring and of the removal of expired entries, too."""
    await cache.set("key", b"1", sliding_expiration=60)
    assert await cache.get("key") == b"1"
    await cache.refresh("key")
    lease = await cache.lock("key", lease_time=30, timeout=10)
    assert lease is not None
    assert await cache.renew(lease, lease_time=30, timeout=10)
    await cache.commit(lease, b"2", Expiration(60))
    lease = await cache.lock("key", lease_time=30, timeout=10)
    assert lease is not None
    await cache.release(lease)
    keys = cache.key_repository()
    assert await keys.append("<key/>", "key", len(await keys.read_all()))
    assert await cache._purge.run() >= 0
    assert (await cache.ping()).server == "PostgreSQL"
    await cache.remove("key")
    assert await cache.get("key") is None


@pytest.mark.parametrize("form", ["Npgsql", "URL", "ODBC"])
async def test_nothing_stays_on_a_connection_that_others_use(direct: SqlCache, pooler: Pooler, form: str) -> None:
    address = {
        "Npgsql": f"{pooler.connection_string};Command Timeout=2",
        "URL": f"postgresql://kestrun@127.0.0.1:{pooler.port}/postgres",
        "ODBC": f"Driver=PostgreSQL Unicode;Servername=127.0.0.1;Port={pooler.port};Database=postgres;UID=kestrun",
    }[form]
    async with pooled(direct, pooler, connection_string=address) as cache:
        await use(cache)
        assert pooler.query(STATE) == []
        assert pooler.query("SHOW statement_timeout") == ["0"]
    assert pooler.query(STATE) == []


async def test_transactions_of_many_clients_take_turns(direct: SqlCache, pooler: Pooler) -> None:
    async with pooled(direct, pooler) as one, pooled(direct, pooler) as two:

        async def count(cache: SqlCache) -> None:
            for _ in range(10):
                lease = await cache.lock("count", lease_time=30, timeout=60)
                assert lease is not None
                await cache.commit(lease, b"%d" % (int(lease.value) + 1), Expiration(60))

        await direct.set("count", b"0")
        await asyncio.gather(*(count(cache) for cache in (one, two, direct) for _ in range(3)))
        assert await direct.get("count") == b"90"
    assert pooler.query(STATE) == []


async def test_a_statement_that_hangs_is_ended_by_the_server(direct: SqlCache, pooler: Pooler) -> None:
    await direct.set("key", b"1")
    async with pooled(direct, pooler, "Command Timeout=1") as cache:
        with contextlib.closing(shared_server().connect()) as connection:
            connection.autocommit = False
            connection.execute(f'LOCK TABLE "{direct._database.schema}"."Sessions" IN ACCESS EXCLUSIVE MODE')
            with pytest.raises(CacheTimeoutError, match="statement timeout"):
                await cache.get("key", timeout=60)
            connection.rollback()
        assert await cache.get("key") == b"1"
    assert pooler.query("SHOW statement_timeout") == ["0"]


TEXTS = [
    *("it's", 'say "it"', "back\\slash", "\\'; --", "?", "? ?", "$1", ":name", "{fn now()}", "{d '2020-01-01'}"),
    *("$$quoted$$", "E'\\x41'", "%s %d %%", "/* ? */", "line\nbreak\ttab\r", "Grüße, 世界 🎈", "\x7f\x01"),
]


async def test_any_key_and_value_passes(direct: SqlCache, pooler: Pooler) -> None:
    """Without prepared statements, the driver writes parameters into the statement."""
    values = [*(text.encode() for text in TEXTS), b"", bytes(range(256)), secrets.token_bytes(100_000)]
    async with pooled(direct, pooler) as cache:
        for number, value in enumerate(values):
            key = TEXTS[number % len(TEXTS)]
            await cache.set(key, value)
            assert await direct.get(key) == value
            assert await cache.get(key) == value
            lease = await cache.lock(key, lease_time=30, timeout=10)
            assert lease is not None
            assert lease.value == value
            await cache.commit(lease, None, Expiration())
            assert await direct.get(key) is None
        keys = cache.key_repository()
        for text in TEXTS:
            assert await keys.append(text, text, len(await keys.read_all()))
        assert [element.xml for element in await direct.key_repository().read_all()] == TEXTS


async def test_a_connection_of_ones_own_keeps_its_session(direct: SqlCache) -> None:
    """Nothing is between: statements stay prepared, and the timeout is set once."""
    await direct.get("key")
    state = await direct._database.query(
        "SELECT current_setting('statement_timeout'), (SELECT count(*) FROM pg_prepared_statements)", timeout=10
    )
    assert state[0][0] == "30s"
    assert state[0][1] > 0


async def test_a_pooler_is_noticed_once(direct: SqlCache, pooler: Pooler, monkeypatch: pytest.MonkeyPatch) -> None:
    async with pooled(direct, pooler) as cache:
        await asyncio.gather(*(cache.get("key") for _ in range(5)))
        assert cache._database._connector._last._session is None
        monkeypatch.setattr(type(cache._database._connector._last), "_open_session", None)
        cache._database.pool.flush()
        assert await cache.get("key") is None
