"""One suite for every cache."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from importlib.util import find_spec

import pytest
from overlapping import CHECKS, Outcomes, run_checks
from redis_server import open_redis_cache, open_redis_cluster_cache

from kestrun_py.caching import DistributedCache
from kestrun_py.caching.memory import MemoryCache

Opener = Callable[[], AbstractAsyncContextManager[DistributedCache]]


@asynccontextmanager
async def open_memory_cache() -> AsyncIterator[DistributedCache]:
    cache = MemoryCache()
    try:
        yield cache
    finally:
        await cache.close()


OPENERS: dict[str, Opener] = {
    "memory": open_memory_cache,
    "redis": open_redis_cache,
    "redis-cluster": open_redis_cluster_cache,
}
if find_spec("postgres_server") is not None:
    from postgres_server import open_postgres_cache, open_sqlserver_cache

    OPENERS |= {"postgres": open_postgres_cache, "sqlserver": open_sqlserver_cache}


@pytest.fixture(params=OPENERS)
async def cache(request: pytest.FixtureRequest) -> AsyncIterator[DistributedCache]:
    """A cache of each kind, empty."""
    async with OPENERS[request.param]() as cache:
        yield cache


@pytest.fixture(params=OPENERS)
def overlapping_kind(request: pytest.FixtureRequest) -> str:
    """A kind of cache, for a test that waits together with others."""
    kind: str = request.param
    return kind


@pytest.fixture(scope="session")
def outcomes(request: pytest.FixtureRequest) -> Outcomes:
    """What became of the selected checks that wait."""
    selected = [
        (item.originalname, str(item.callspec.params["overlapping_kind"]))
        for item in request.session.items
        if isinstance(item, pytest.Function) and item.originalname in CHECKS and "outcomes" in item.fixturenames
    ]
    return asyncio.run(run_checks(selected, OPENERS))
