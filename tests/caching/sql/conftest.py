from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Iterator

import pytest
import tsql_translation
from postgres_server import PostgresServer, open_postgres_cache, shared_server
from sql_rows import Rows

from kestrun_py.caching.sql import PostgresDialect, SqlCache, SqlDialect
from kestrun_py.caching.sql.link import Link


@pytest.fixture
def dialect() -> SqlDialect:
    return PostgresDialect()


@pytest.fixture(params=["PostgreSQL", "T-SQL"])
def either_dialect(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> SqlDialect:
    """PostgreSQL's statements, or SQL Server's translated to PostgreSQL's; a module's `dialect` may be this."""
    if request.param == "PostgreSQL":
        return PostgresDialect()
    monkeypatch.setattr(Link, "query", tsql_translation.query)
    return tsql_translation.TranslatedDialect()


@pytest.fixture
async def cache(dialect: SqlDialect) -> AsyncIterator[SqlCache]:
    async with open_postgres_cache(dialect=dialect) as cache:
        yield cache


@pytest.fixture
def rows(cache: SqlCache) -> Iterator[Rows]:
    with contextlib.closing(shared_server().connect()) as connection:
        yield Rows(cache, connection)


@pytest.fixture(scope="module")
def own_server() -> Iterator[PostgresServer]:
    """A server that a test may stop, kill and restart; it runs again before the next test."""
    with PostgresServer() as server:
        yield server


@pytest.fixture
def server(own_server: PostgresServer) -> Iterator[PostgresServer]:
    yield own_server
    own_server.stop()
    own_server.start()
