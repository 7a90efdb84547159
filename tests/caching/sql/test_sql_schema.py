"""Making the tables in PostgreSQL."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator

import pytest
from postgres_server import shared_server

from kestrun_py.caching.sql import PostgresDialect, SqlCache, SqlServerDialect, create_table, create_table_script
from kestrun_py.errors import CacheError, CacheUnavailableError

DIALECT = PostgresDialect()


@pytest.fixture
def schema() -> Iterator[str]:
    server = shared_server()
    name = f"schema_{time.monotonic_ns()}"
    server.execute(f'CREATE SCHEMA "{name}"')
    yield name
    server.execute(f'DROP SCHEMA "{name}" CASCADE')


async def make(schema: str, table: str = "Sessions") -> list[str]:
    return await create_table(
        shared_server().connection_string(), schema_name=schema, table_name=table, dialect=DIALECT
    )


def columns(schema: str, table: str) -> list[tuple[object, ...]]:
    found = shared_server().execute(
        "SELECT column_name, data_type, is_nullable, character_maximum_length FROM information_schema.columns "
        "WHERE table_schema = ? AND table_name = ? ORDER BY ordinal_position",
        schema,
        table,
    )
    return [tuple(row) for row in found]


async def test_the_tables_have_aspnet_cores_columns(schema: str) -> None:
    assert await make(schema) == ["Sessions", "DataProtectionKeys"]
    assert columns(schema, "Sessions") == [
        ("Id", "character varying", "NO", 449),
        ("Value", "bytea", "NO", None),
        ("ExpiresAtTime", "timestamp with time zone", "NO", None),
        ("SlidingExpirationInSeconds", "bigint", "YES", None),
        ("AbsoluteExpiration", "timestamp with time zone", "YES", None),
    ]
    assert columns(schema, "DataProtectionKeys") == [
        ("Id", "integer", "NO", None),
        ("FriendlyName", "text", "YES", None),
        ("Xml", "text", "YES", None),
    ]
    indexes = shared_server().execute(
        "SELECT indexdef FROM pg_indexes WHERE schemaname = ? AND tablename = 'Sessions'", schema
    )
    assert any('("ExpiresAtTime")' in row[0] for row in indexes)


async def test_a_table_that_exists_is_left_alone(schema: str) -> None:
    await make(schema)
    shared_server().execute(f"INSERT INTO \"{schema}\".\"Sessions\" VALUES ('a', '', now())")
    with pytest.raises(CacheError, match=rf"table {schema}\.Sessions exists already"):
        await make(schema)
    assert shared_server().execute(f'SELECT count(*) FROM "{schema}"."Sessions"')[0][0] == 1


async def test_a_table_without_rights_is_not_taken_for_none(schema: str) -> None:
    """PostgreSQL's information_schema would hide it, and the advice be to make it."""
    await make(schema)
    server = shared_server()
    name = f"stranger_{time.monotonic_ns()}"
    server.execute(f'CREATE ROLE "{name}" LOGIN')
    text = server.connection_string().replace("Username=kestrun", f"Username={name}")
    cache = SqlCache(text, schema_name=schema, table_name="Sessions", dialect=DIALECT)
    try:
        server.execute(f'GRANT USAGE ON SCHEMA "{schema}" TO "{name}"')
        assert (await cache.ping()).problems == ()
        with pytest.raises(CacheUnavailableError, match="permission denied"):
            await cache.get("key")
    finally:
        await cache.close()
        server.execute(f'DROP OWNED BY "{name}"')
        server.execute(f'DROP ROLE "{name}"')


async def test_a_second_session_table_shares_the_key_ring(schema: str) -> None:
    await make(schema)
    assert await make(schema, "Others") == ["Others"]
    assert columns(schema, "Others") == columns(schema, "Sessions")


async def test_a_table_of_microsofts_tool_gets_its_key_ring(schema: str) -> None:
    """``dotnet sql-cache create`` makes the session table alone."""
    await make(schema)
    shared_server().execute(f'DROP TABLE "{schema}"."DataProtectionKeys"')
    shared_server().execute(f"INSERT INTO \"{schema}\".\"Sessions\" VALUES ('a', '', now())")
    assert await make(schema) == ["DataProtectionKeys"]
    assert columns(schema, "DataProtectionKeys")
    assert shared_server().execute(f'SELECT count(*) FROM "{schema}"."Sessions"')[0][0] == 1


async def test_of_several_at_once_one_makes_the_table(schema: str) -> None:
    results = await asyncio.gather(*(make(schema) for _ in range(4)), return_exceptions=True)
    assert results.count(["Sessions", "DataProtectionKeys"]) == 1
    assert sum("exists already" in str(result) for result in results) == 3


async def test_all_or_nothing_is_made(schema: str) -> None:
    """The last statement fails: the name of the key ring is taken."""
    shared_server().execute(f'CREATE DOMAIN "{schema}"."DataProtectionKeys" AS int')
    with pytest.raises(CacheError):
        await make(schema)
    assert columns(schema, "Sessions") == []


async def test_the_schema_is_not_made() -> None:
    with pytest.raises(CacheUnavailableError, match="schema"):
        await make("no_such_schema")


async def test_the_script_makes_the_same(schema: str) -> None:
    script = create_table_script(DIALECT, schema, "Sessions")
    shared_server().execute(script)
    assert columns(schema, "Sessions")[0] == ("Id", "character varying", "NO", 449)
    assert columns(schema, "DataProtectionKeys")
    with pytest.raises(CacheError, match="exists already"):
        await make(schema)


def test_the_script_for_sql_server_is_microsofts_table() -> None:
    script = create_table_script(SqlServerDialect(), "dbo", "Sess]ions'")
    assert "CREATE TABLE [dbo].[Sess]]ions'] (" in script
    assert "[Id] NVARCHAR(449) COLLATE SQL_Latin1_General_CP1_CS_AS NOT NULL PRIMARY KEY" in script
    assert "[Value] VARBINARY(MAX) NOT NULL" in script
    assert "CREATE NONCLUSTERED INDEX [Index_ExpiresAtTime] ON [dbo].[Sess]]ions'] ([ExpiresAtTime])" in script
    assert "IF OBJECT_ID(N'[dbo].[DataProtectionKeys]', N'U') IS NULL" in script
    assert script.index("BEGIN TRANSACTION") < script.index("CREATE") < script.index("COMMIT TRANSACTION")
