"""Renewing the locks of long requests."""

from __future__ import annotations

import asyncio
import time

from kestrun_py.caching import DistributedCache, Lease
from kestrun_py.concurrency.background import BackgroundTasks
from kestrun_py.errors import CacheError
from kestrun_py.logging import Logger

__all__ = ["LeaseKeeper"]


class LeaseKeeper:
    """Renews each lease when a quarter of its time has passed.

    One timer serves all requests, so a request that ends before it fires costs two dictionary operations.
    """

    def __init__(self, cache: DistributedCache, *, lease_time: float, timeout: float, logger: Logger) -> None:
        self._cache = cache
        self._lease_time = lease_time
        self._timeout = timeout
        self._logger = logger
        self._held: dict[Lease, float] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._renewals = BackgroundTasks()

    def add(self, lease: Lease) -> None:
        """Renews a lease from now on."""
        self._held[lease] = time.monotonic()
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self._lease_time / 4, self._tick)

    def discard(self, lease: Lease) -> None:
        """Stops renewing a lease, which is about to be committed or released."""
        self._held.pop(lease, None)

    async def close(self) -> None:
        """Stops renewing all leases."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._held.clear()
        await self._renewals.close()

    def _tick(self) -> None:
        self._timer = None
        loop = asyncio.get_running_loop()
        if not self._held:
            return
        self._timer = loop.call_later(self._lease_time / 4, self._tick)
        old = time.monotonic() - self._lease_time / 4
        for lease, since in self._held.items():
            if since <= old:
                self._renewals.start(self._renew(lease))

    async def _renew(self, lease: Lease) -> None:
        try:
            kept = await self._cache.renew(
                lease, lease_time=self._lease_time, timeout=min(self._timeout, self._lease_time / 2)
            )
        except CacheError as error:
            # The next tick tries again; if the lease expires meanwhile, the commit is refused.
            self._logger.warning("A session's lock could not be renewed: {Error}", error)
            return
        if not kept and self._held.pop(lease, None) is not None:
            self._logger.warning("A session's lock was lost while its request was running; it will not be stored.")
