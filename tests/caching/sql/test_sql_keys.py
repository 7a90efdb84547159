"""The key ring beside the sessions, in PostgreSQL."""

from __future__ import annotations

import asyncio

import pytest
from postgres_server import shared_server
from sql_rows import Rows

from kestrun_py.caching.sql import SqlCache, SqlDialect, SqlXmlRepository
from kestrun_py.data_protection import StoredElement
from kestrun_py.errors import CacheTableMissingError


@pytest.fixture
def dialect(either_dialect: SqlDialect) -> SqlDialect:
    return either_dialect


XML = '<key id="5" name="grüße &amp; 🍪">' + "x" * 20_000 + "</key>"


def node(cache: SqlCache) -> SqlXmlRepository:
    other = SqlCache(
        shared_server().connection_string(),
        schema_name=cache._database.schema,
        table_name="Sessions",
        dialect=cache._database.dialect,
    )
    return other.key_repository()


async def test_elements_come_back_in_order(cache: SqlCache, rows: Rows) -> None:
    keys = cache.key_repository()
    assert await keys.read_all() == []
    assert await keys.append(XML, "key-5", 0)
    assert await keys.append("<b/>", "key-6", 1)
    assert await keys.read_all() == [
        StoredElement("row 1 of the table DataProtectionKeys", XML),
        StoredElement("row 2 of the table DataProtectionKeys", "<b/>"),
    ]
    found = rows.execute(f'SELECT "Id", "FriendlyName" FROM "{cache._database.schema}"."DataProtectionKeys"')
    assert [tuple(row) for row in found] == [(1, "key-5"), (2, "key-6")]


async def test_nothing_is_added_to_a_ring_that_has_grown(cache: SqlCache) -> None:
    keys = cache.key_repository()
    assert await keys.append("<a/>", "a", 0)
    assert not await keys.append("<b/>", "b", 0)
    assert not await keys.append("<b/>", "b", 2)
    assert [element.xml for element in await keys.read_all()] == ["<a/>"]


@pytest.mark.parametrize("level", ["read committed", "repeatable read", "serializable"])
async def test_of_many_nodes_that_start_at_once_one_makes_the_key(cache: SqlCache, rows: Rows, level: str) -> None:
    server = shared_server()
    database = cache._database
    server.execute(f"ALTER ROLE kestrun SET default_transaction_isolation = '{level}'")
    nodes = [node(cache) for _ in range(6)]
    try:
        for expected in range(3):
            added = await asyncio.gather(
                *(keys.append(f"<k{expected}-{number}/>", "k", expected) for number, keys in enumerate(nodes))
            )
            assert sorted(added) == [False] * 5 + [True]
    finally:
        for keys in nodes:
            await keys._database.close()
        server.execute("ALTER ROLE kestrun RESET default_transaction_isolation")
    assert rows.execute(f'SELECT count(*) FROM "{database.schema}"."DataProtectionKeys"')[0][0] == 3


async def test_the_repository_names_itself_without_secrets(cache: SqlCache) -> None:
    assert str(cache.key_repository()) == (
        f"the table {cache._database.schema}.DataProtectionKeys of {cache.name} (127.0.0.1, database postgres)"
    )


async def test_a_missing_table_names_the_command(cache: SqlCache, rows: Rows) -> None:
    rows.execute(f'DROP TABLE "{cache._database.schema}"."DataProtectionKeys"')
    with pytest.raises(CacheTableMissingError, match=r"has no table \w+\.DataProtectionKeys\. .* create-table"):
        await cache.key_repository().read_all()
    with pytest.raises(CacheTableMissingError, match="create-table"):
        await cache.key_repository().append("<a/>", "a", 0)
    # The connection is as good as before.
    assert await cache.get("key") is None
