"""A host's distributed cache as a part of the host."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Final

from kestrun_py.caching.contract import DistributedCache
from kestrun_py.caching.memory import MemoryCache
from kestrun_py.errors import ServerStartError
from kestrun_py.hosting.base import HostBase
from kestrun_py.hosting.feature import Feature

__all__ = ["Caching"]

_PING_TIMEOUT_SECONDS: Final = 5.0


class Caching(Feature):
    """The distributed cache of a host; in memory if none was added.

    A server starts without its cache: the requests that need it are answered with 503 until it is there.
    """

    def __init__(self, host: HostBase) -> None:
        self._host = host
        self._cache: DistributedCache | None = None
        self._ping: asyncio.Task[None] | None = None

    def configure(self) -> None:
        self._cache = self._host.services.get(DistributedCache)
        if self._cache is None:
            memory: DistributedCache = MemoryCache(logger=self._host.logger)
            self._host.services.add(DistributedCache, memory)
            self._cache = memory

    def check_workers(self, count: int) -> None:
        assert self._cache is not None
        if not self._cache.shared:
            raise ServerStartError(
                f"{count} workers cannot share sessions in the {self._cache.name} cache, which each process has for "
                "itself: keep them in Redis (add_distributed_redis_cache, add_kr_distributed_redis_cache) or in a "
                "database, or use one worker."
            )

    async def start(self) -> None:
        assert self._cache is not None
        await self._cache.start()
        self._ping = asyncio.create_task(self._log_ping(self._cache))

    async def stop(self) -> None:
        if self._ping is not None:
            self._ping.cancel()
            with suppress(asyncio.CancelledError):
                await self._ping
        if self._cache is not None:
            await self._cache.close()

    async def _log_ping(self, cache: DistributedCache) -> None:
        """Logs which cache is used and whether it answers."""
        logger = self._host.logger
        try:
            status = await cache.ping(timeout=_PING_TIMEOUT_SECONDS)
        except Exception as error:
            logger.warning("The {Cache} cache does not answer: {Error}", cache.name, error)
            return
        logger.information(
            "The {Cache} cache answers: {Server} {Version}, {Elapsed:0.0} ms",
            cache.name,
            status.server,
            status.version,
            status.round_trip * 1000,
        )
        for label, finding in status.details.items():
            logger.information("The {Cache} cache's {Label}: {Finding}", cache.name, label, finding)
        for problem in status.problems:
            logger.warning("{Problem}", problem)
