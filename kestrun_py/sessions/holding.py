"""What a request holds of its session: its turn in this process's queue, and the lease of the cache."""

from __future__ import annotations

import math
from typing import Final

from kestrun_py.caching import DistributedCache, Lease
from kestrun_py.concurrency.background import BackgroundTasks
from kestrun_py.errors import CacheError
from kestrun_py.logging import Logger
from kestrun_py.sessions.leases import LeaseKeeper
from kestrun_py.sessions.locks import FairLocks
from kestrun_py.sessions.options import SessionOptions
from kestrun_py.sessions.session import SessionState

__all__ = ["SessionHolds"]

_CLOSING_SECONDS: Final = 1.0  # that background work gets to end


class SessionHolds:
    """The turns and leases that the requests of this process hold.

    Args:
        cache: Where the sessions are.
        options: The host's session options.
        logger: Where locks are logged that cannot be kept or released.

    Attributes:
        queues: The queues of this process, by session key.
        leases: Renews the leases of long requests.
        lease_time: Seconds after which a lease ends unless it is renewed.
        background: Work that goes on when a request has ended.
    """

    def __init__(self, cache: DistributedCache, options: SessionOptions, logger: Logger) -> None:
        self._cache = cache
        self._io_timeout = options.io_timeout
        self._logger = logger
        # The lock of a cache of this process ends with the process, so it needs no lease.
        self.lease_time = options.lease_time if cache.shared else math.inf
        self.queues = FairLocks()
        self.leases = LeaseKeeper(cache, lease_time=options.lease_time, timeout=options.io_timeout, logger=logger)
        self.background = BackgroundTasks()

    def hold(self, state: SessionState, lease: Lease) -> None:
        """Notes that a session was loaded under a lease, in its request's turn."""
        state.lease = lease
        state.queued = True
        if self._cache.shared:
            self.leases.add(lease)

    def leave(self, state: SessionState) -> None:
        """Gives the turn to the next request in the queue."""
        if state.queued:
            state.queued = False
            assert state.key is not None
            self.queues.release(state.key)

    async def release(self, lease: Lease) -> None:
        """Releases a lease without writing."""
        self.leases.discard(lease)
        try:
            await self._cache.release(lease, timeout=self._io_timeout)
        except CacheError as error:
            self._logger.warning("A session's lock could not be released, and frees itself soon: {Error}", error)

    def give_back(self, state: SessionState) -> None:
        """Releases, in the background, what a session that will not be committed holds."""
        self.background.start(self._give_back(state))

    async def _give_back(self, state: SessionState) -> None:
        try:
            if state.lease is not None:
                await self.release(state.lease)
        finally:
            self.leave(state)

    async def close(self) -> None:
        """Ends background work.

        A cache that does not answer is not waited for: locks free themselves, and entries expire.
        """
        await self.leases.close()
        await self.background.close(timeout=_CLOSING_SECONDS)
