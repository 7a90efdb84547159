from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Iterator

import pytest
from postgres_server import PostgresServer, open_postgres_cache, shared_server
from sql_rows import Rows

from kestrun_py.caching.sql import SqlCache


@pytest.fixture
async def cache() -> AsyncIterator[SqlCache]:
    async with open_postgres_cache() as cache:
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
