"""Fixtures of the tests of hosts on distributed caches."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack

import pytest
import pytest_asyncio
from host_nodes import Nodes
from shared_caches import PostgresShared, RedisShared, SharedCache
from shared_site import SHORTEST_LEASE


@pytest.fixture(autouse=True)
def _short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shorter than those that hosts have, for what a test waits for to the end."""
    monkeypatch.setattr("kestrun_py.sessions.options._MIN_LEASE_SECONDS", SHORTEST_LEASE)
    monkeypatch.setattr("kestrun_py.caching.sql.pool._CLOSE_TIMEOUT_SECONDS", 1.0)


@pytest.fixture(params=[RedisShared, PostgresShared], ids=["redis", "postgres"])
def cache(request: pytest.FixtureRequest) -> Iterator[SharedCache]:
    """A server with an empty cache, of each kind; the test may do to it what it likes."""
    cache: SharedCache = request.param()
    yield cache
    cache.restore()


@pytest.fixture
def redis_cache() -> Iterator[RedisShared]:
    cache = RedisShared()
    yield cache
    cache.restore()


@pytest.fixture
def postgres_cache() -> Iterator[PostgresShared]:
    cache = PostgresShared()
    yield cache
    cache.restore()


@pytest_asyncio.fixture
async def nodes() -> AsyncIterator[Nodes]:
    """Starts hosts in this process and in others; they end with the test."""
    async with AsyncExitStack() as stack:
        yield Nodes(stack)
