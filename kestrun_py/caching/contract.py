"""What every cache of kestrun_py can do.

A cache holds entries: text keys, byte values, a sliding window and an absolute expiration. The first half of the
contract is ASP.NET Core's ``IDistributedCache``; applications use it for entries of their own. The second half is
what sessions need on top of it: an entry is read under a *lease*, an exclusive lock that expires by itself, and is
written only by the holder of that lease.

All times that a cache takes or gives are seconds; absolute times are Unix time.
"""

from __future__ import annotations

import asyncio
import random
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from datetime import datetime
from typing import ClassVar, Final

from kestrun_py.caching._arguments import checked_key, checked_text
from kestrun_py.caching.expiration import Expiration
from kestrun_py.caching.leases import Busy, Lease, new_token
from kestrun_py.caching.status import CacheStatus
from kestrun_py.conversion.timespan import Duration
from kestrun_py.data_protection import XmlRepository
from kestrun_py.errors import CacheTimeoutError, LockTimeoutError

__all__ = ["DEFAULT_TIMEOUT", "DistributedCache"]

DEFAULT_TIMEOUT: Final = 10.0

# A waiter asks again after a pause that doubles from the first to the last, each time drawn from its upper half,
# so that waiters of several processes do not march in step.
_FIRST_PAUSE_SECONDS: Final = 0.005
_LAST_PAUSE_SECONDS: Final = 0.1

_ANSWER_SECONDS: Final = 0.5  # seconds in which a cache that works has answered


class DistributedCache(ABC):
    """The contract that the memory, Redis and SQL caches fulfil.

    Every operation either does what it says or raises a `CacheError`; none waits longer than its ``timeout``
    (seconds). An operation that was cancelled leaves no lock behind.

    A write that raised `CacheTimeoutError` or `CacheUnavailableError`, or was cancelled, may have happened all the
    same, or may still happen: what was sent to a server cannot be called back. A `set` or a `remove` may then take
    effect after, and so undo, a later one that succeeded. A late `commit` does no such harm: a later write has ended
    its lease.
    """

    #: What log lines and messages call this cache ("memory", "Redis", "SQL Server", "PostgreSQL").
    name: ClassVar[str] = "cache"

    #: Whether several processes share the entries.
    shared: ClassVar[bool] = True

    #: Whether `lock_at_once` and `commit_at_once` are worth a try: there is no server to wait for.
    immediate: ClassVar[bool] = False

    async def start(self) -> None:  # noqa: B027  (most caches have nothing to start)
        """Called once by the host, in the event loop that serves the requests, before the first request."""

    def key_repository(self) -> XmlRepository | None:
        """Where the cache keeps a key ring beside its entries, or None if it has no place for one."""
        return None

    @abstractmethod
    async def close(self) -> None:
        """Closes connections and ends background work. A closed cache refuses every operation."""

    @abstractmethod
    async def ping(self, *, timeout: float = DEFAULT_TIMEOUT) -> CacheStatus:
        """Asks the server who it is.

        Raises:
            CacheUnavailableError: It cannot be reached; the message says where it was looked for.
        """

    # Entries (IDistributedCache)

    @abstractmethod
    async def get(self, key: str, *, timeout: float = DEFAULT_TIMEOUT) -> bytes | None:
        """Returns an entry's value and extends its sliding window, or None if there is no such entry."""

    async def set(
        self,
        key: str,
        value: bytes,
        *,
        sliding_expiration: Duration | None = None,
        absolute_expiration: datetime | None = None,
        absolute_expiration_relative_to_now: Duration | None = None,
        timeout: float = DEFAULT_TIMEOUT,
    ) -> None:
        """Stores an entry, replacing the one that was there.

        Args:
            key: The entry's key; text that is not empty.
            value: The bytes to store; may be empty.
            sliding_expiration: How long the entry lives without being read.
            absolute_expiration: When the entry expires at the latest (a naive time is UTC).
            absolute_expiration_relative_to_now: The same, counted from now; wins over the fixed time.
            timeout: Seconds to wait for the cache.

        Raises:
            ArgumentError: A key that is no text, a value that is not bytes, a window that is not positive, or an
                absolute time that has passed.
        """
        expiration = Expiration.of(
            sliding_expiration=sliding_expiration,
            absolute_expiration=absolute_expiration,
            absolute_expiration_relative_to_now=absolute_expiration_relative_to_now,
        )
        await self.store(key, value, expiration, timeout=timeout)

    @abstractmethod
    async def store(self, key: str, value: bytes, expiration: Expiration, *, timeout: float = DEFAULT_TIMEOUT) -> None:
        """`set` with a ready `Expiration`; what a new session is stored with.

        It ends the lock of whoever holds the entry that is replaced: that holder's `commit` is refused.
        """

    @abstractmethod
    async def refresh(self, key: str, *, timeout: float = DEFAULT_TIMEOUT) -> None:
        """Extends an entry's sliding window without reading it."""

    @abstractmethod
    async def remove(self, key: str, *, timeout: float = DEFAULT_TIMEOUT) -> None:
        """Removes an entry, whoever holds its lock; removing what is not there is no error."""

    async def get_string(self, key: str, *, timeout: float = DEFAULT_TIMEOUT) -> str | None:
        """`get`, decoded as UTF-8 (invalid bytes become U+FFFD)."""
        value = await self.get(key, timeout=timeout)
        return None if value is None else value.decode("utf-8", "replace")

    async def set_string(
        self,
        key: str,
        value: str,
        *,
        sliding_expiration: Duration | None = None,
        absolute_expiration: datetime | None = None,
        absolute_expiration_relative_to_now: Duration | None = None,
        timeout: float = DEFAULT_TIMEOUT,
    ) -> None:
        """`set`, for text; stored as UTF-8."""
        await self.set(
            key,
            checked_text(value),
            sliding_expiration=sliding_expiration,
            absolute_expiration=absolute_expiration,
            absolute_expiration_relative_to_now=absolute_expiration_relative_to_now,
            timeout=timeout,
        )

    # Entries under a lease (sessions)

    async def lock(
        self, key: str, *, lease_time: float, timeout: float, on_busy: Callable[[str], object] | None = None
    ) -> Lease | None:
        """Takes the exclusive lock of an entry and reads it, waiting while another holder has it.

        The read extends the entry's sliding window. An entry that is not there is not locked: there is nothing
        to protect, and whoever starts a session anew does so under a key of its own.

        Args:
            key: The entry's key.
            lease_time: Seconds after which the lock frees itself unless it is renewed.
            timeout: Seconds to wait for the lock and for the cache together.
            on_busy: Called with the key if the cache answers that another holder has the lock.

        Returns:
            The lease with the entry's value, or None if there is no such entry.

        Raises:
            LockTimeoutError: Another holder kept the lock for all of `timeout`.
            CacheUnavailableError: The cache could not be asked in time.
        """
        deadline = time.monotonic() + timeout
        token = new_token()
        found = await self._try_lock(checked_key(key), token, lease_time, timeout)
        if not isinstance(found, Busy):
            return found
        if on_busy is not None:
            on_busy(key)
        try:
            return await self._lock_when_free(key, token, lease_time, timeout, deadline)
        except BaseException:
            self._stop_waiting(key, token)
            raise

    async def _lock_when_free(
        self, key: str, token: str, lease_time: float, timeout: float, deadline: float
    ) -> Lease | None:
        """`lock`, for an entry that another holder has."""
        pause = _FIRST_PAUSE_SECONDS
        while True:
            remaining = deadline - time.monotonic()
            if remaining <= 0:
                raise LockTimeoutError(f"The entry stayed locked by another request for {timeout:g} seconds.")
            await self._wait_for_release(key, min(remaining, pause * random.uniform(0.5, 1.0)))
            pause = min(pause * 2, _LAST_PAUSE_SECONDS)
            remaining = max(deadline - time.monotonic(), 0.001)
            try:
                found = await self._try_lock(key, token, lease_time, remaining)
            except CacheTimeoutError:
                if remaining >= _ANSWER_SECONDS:
                    raise
                continue  # too short an attempt to tell; it is busy, as the cache has said before
            if not isinstance(found, Busy):
                return found

    async def _wait_for_release(self, key: str, pause: float) -> None:
        """Waits before the lock of `key` is asked for again: `pause` seconds, or less if its release shows."""
        await asyncio.sleep(pause)

    def _stop_waiting(self, key: str, token: str) -> None:  # noqa: B027  (most caches note no waiters)
        """Called when a waiter leaves without the lock: its turn need not be kept any more."""

    @abstractmethod
    async def _try_lock(self, key: str, token: str, lease_time: float, timeout: float) -> Lease | Busy | None:
        """Takes the lock and reads the entry in one round trip, if the lock is free.

        Cancelled while the server may already have granted the lock, it sees to it that the lock is released.

        Returns:
            The lease; `Busy.BUSY` if another holder has the lock; None if there is no such entry.
        """

    def lock_at_once(self, key: str, *, lease_time: float) -> Lease | Busy | None:
        """`lock`, without waiting for anything; `Busy.BUSY` if that is not possible now."""
        return Busy.BUSY

    @abstractmethod
    async def renew(self, lease: Lease, *, lease_time: float, timeout: float) -> bool:
        """Extends a lease by `lease_time` seconds from now; the entry does not expire before its lease.

        Returns:
            False if the lease is lost (see `commit`).
        """

    @abstractmethod
    async def commit(
        self, lease: Lease, value: bytes | None, expiration: Expiration, *, timeout: float = DEFAULT_TIMEOUT
    ) -> None:
        """Stores the entry of a lease (or removes it, for None) and releases the lock, in one step.

        A holder that let its lease expire may still commit as long as the entry is as it has read it. A holder whose
        lease is alive may commit even after the entry's absolute expiration: what it stores with the same one has
        expired at once.

        Raises:
            LeaseLostError: Somebody else has taken the expired lock, the entry was replaced or removed, or both the
                lease and the entry have expired; nothing was written.
        """

    def commit_at_once(self, lease: Lease, value: bytes | None, expiration: Expiration) -> bool:
        """`commit`, without waiting for anything; False, and nothing done, if that is not possible now."""
        return False

    @abstractmethod
    async def release(self, lease: Lease, *, timeout: float = DEFAULT_TIMEOUT) -> None:
        """Releases the lock and leaves the entry as it is; releasing a lost lease is no error."""
