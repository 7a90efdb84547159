"""A cache in this process's memory (ASP.NET Core's ``MemoryDistributedCache``)."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable
from typing import ClassVar, Final

from kestrun_py._version import __version__
from kestrun_py.caching._arguments import checked_key, checked_value
from kestrun_py.caching.contract import DEFAULT_TIMEOUT, DistributedCache
from kestrun_py.caching.expiration import Expiration
from kestrun_py.caching.leases import Busy, Lease, new_token
from kestrun_py.caching.memory._records import HEADER, HEADER_BYTES, Records, bytes_taken
from kestrun_py.caching.memory._room import Room
from kestrun_py.caching.status import CacheStatus
from kestrun_py.errors import ArgumentError, CacheError, CacheUnavailableError, LeaseLostError
from kestrun_py.logging import Logger, default_logger

__all__ = ["MemoryCache"]

_MOST_OVERHEAD_BYTES: Final = 256  # of an entry, beside its value and four bytes for each character of its key


class MemoryCache(DistributedCache):
    """Keeps entries in memory, up to a size limit.

    Unlike ASP.NET's, which drops a value that finds the cache full, it always stores the new value and makes room by
    removing expired entries, then the least recently used ones, down to the limit less `compaction`. The limit counts
    what entries take in memory, with their keys and the cache's own structures; ASP.NET's counts the values alone.

    Args:
        size_limit: Bytes of memory that entries may take. 200 MiB, as in ASP.NET Core.
        compaction: The share of `size_limit` to free when the limit is reached; 0 to 1.
        scan_interval: Seconds between two removals of expired entries. Reads never see an expired entry.
        clock: The time now, in seconds; it must not be one that is set back.
        logger: Where evictions are reported.
    """

    name: ClassVar[str] = "memory"
    shared: ClassVar[bool] = False
    immediate: ClassVar[bool] = True

    def __init__(
        self,
        *,
        size_limit: int = 200 * 1024 * 1024,
        compaction: float = 0.05,
        scan_interval: float = 60.0,
        clock: Callable[[], float] = time.monotonic,
        logger: Logger = default_logger,
    ) -> None:
        if size_limit <= 0:
            raise ArgumentError(f"size_limit must be a positive number of bytes, not {size_limit}.")
        if not 0 <= compaction <= 1:
            raise ArgumentError(f"compaction must be between 0 and 1, not {compaction:g}.")
        if scan_interval <= 0:
            raise ArgumentError(f"scan_interval must be a positive number of seconds, not {scan_interval:g}.")
        self._size_limit = size_limit
        self._clock = clock
        self._records = Records()
        self._room = Room(
            self._records,
            clock,
            limit=size_limit,
            compaction=compaction,
            scan_interval=scan_interval,
            logger=logger,
        )
        self._closed = False

    @property
    def size(self) -> int:
        """The bytes of memory that the entries take; expired ones that were not removed yet count."""
        return self._records.size

    def __len__(self) -> int:
        return len(self._records)

    async def close(self) -> None:
        self._closed = True
        self._room.close()
        self._records.clear()

    async def ping(self, *, timeout: float = DEFAULT_TIMEOUT) -> CacheStatus:
        if self._closed:
            raise _closed_error()
        return CacheStatus(server=self.name, version=__version__, round_trip=0.0)

    # Entries

    async def get(self, key: str, *, timeout: float = DEFAULT_TIMEOUT) -> bytes | None:
        checked_key(key)
        if self._closed:
            raise _closed_error()
        record = self._records.touch(key, self._clock())
        return None if record is None else record[HEADER_BYTES:]

    async def store(self, key: str, value: bytes, expiration: Expiration, *, timeout: float = DEFAULT_TIMEOUT) -> None:
        checked_key(key)
        value = checked_value(value)
        while not self._has_room(key, value):  # noqa: ASYNC110  (work, not polling)
            await asyncio.sleep(0)
        now = self._clock()
        deadline = math.inf if expiration.absolute is None else _deadline(expiration.absolute, now)
        self._records.put(key, value, expiration.sliding, deadline, now)
        room = self._room
        room.newest = key
        if room.timer is None:
            room.scan_later()

    async def refresh(self, key: str, *, timeout: float = DEFAULT_TIMEOUT) -> None:
        checked_key(key)
        if self._closed:
            raise _closed_error()
        self._records.touch(key, self._clock())

    async def remove(self, key: str, *, timeout: float = DEFAULT_TIMEOUT) -> None:
        checked_key(key)
        if self._closed:
            raise _closed_error()
        self._records.drop(key)

    # Entries under a lease

    async def _try_lock(self, key: str, token: str, lease_time: float, timeout: float) -> Lease | Busy | None:
        return MemoryCache.lock_at_once(self, key, lease_time=lease_time)

    def lock_at_once(self, key: str, *, lease_time: float) -> Lease | Busy | None:
        if self._closed:
            raise _closed_error()
        now, records = self._clock(), self._records
        record = records.live(key, now)
        if record is None:
            return None
        held = records.leases.get(key)
        if held is not None and held[1] > now:
            return Busy.BUSY
        token = new_token()
        records.leases[key] = (token, now + lease_time)
        # What is held neither expires nor makes room for others; its access is noted when it is given back.
        _, _, deadline = HEADER.unpack_from(record)
        absolute = None if deadline == math.inf else time.time() + (deadline - now)
        return Lease(key, token, record[HEADER_BYTES:], absolute)

    async def renew(self, lease: Lease, *, lease_time: float, timeout: float) -> bool:
        if not self._holds(lease):
            return False
        self._records.leases[lease.key] = (lease.token, self._clock() + lease_time)
        return True

    async def commit(
        self, lease: Lease, value: bytes | None, expiration: Expiration, *, timeout: float = DEFAULT_TIMEOUT
    ) -> None:
        while not MemoryCache.commit_at_once(self, lease, value, expiration):  # noqa: ASYNC110  (work, not polling)
            await asyncio.sleep(0)

    def commit_at_once(self, lease: Lease, value: bytes | None, expiration: Expiration) -> bool:
        if not self._holds(lease):
            raise LeaseLostError("The entry was taken over, replaced or removed, or has expired; nothing was written.")
        key, records = lease.key, self._records
        if value is None:
            records.drop(key)
            return True
        value = checked_value(value)
        if not self._has_room(key, value):
            return False
        now = self._clock()
        deadline = math.inf if expiration.absolute is None else self._deadline_under(lease, expiration.absolute, now)
        records.put(key, value, expiration.sliding, deadline, now)
        room = self._room
        room.newest = key
        if room.timer is None:
            room.scan_later()
        return True

    async def release(self, lease: Lease, *, timeout: float = DEFAULT_TIMEOUT) -> None:
        if self._holds(lease):
            self._records.touch(lease.key, self._clock())
            del self._records.leases[lease.key]

    def _holds(self, lease: Lease) -> bool:
        if self._closed:
            raise _closed_error()
        held = self._records.leases.get(lease.key)
        if held is None or held[0] != lease.token:
            return False
        now = self._clock()
        return held[1] > now or self._records.live(lease.key, now) is not None

    def _deadline_under(self, lease: Lease, absolute: float, now: float) -> float:
        """`_deadline`; the entry's own if its absolute expiration stays, whatever became of the wall clock."""
        record = self._records.live(lease.key, now) if absolute == lease.absolute else None
        if record is None:
            return _deadline(absolute, now)
        _, _, deadline = HEADER.unpack_from(record)
        return float(deadline)

    def _has_room(self, key: str, value: bytes) -> bool:
        """Makes room for a value, in part if it takes long.

        Raises:
            CacheError: The value is larger than the whole cache.
        """
        if self._closed:
            raise _closed_error()
        records, limit = self._records, self._size_limit
        if records.size + len(value) + 4 * len(key) + _MOST_OVERHEAD_BYTES <= limit:
            return True
        needed = bytes_taken(key, len(value))
        if needed > limit:
            raise CacheError(
                f"A value of {len(value)} bytes takes {needed} bytes in memory, which exceeds the memory cache's size "
                f"limit of {limit} bytes."
            )
        needed = records.growth(key, value)
        return records.size + needed <= limit or self._room.make(needed)


def _deadline(absolute: float, now: float) -> float:
    """When a Unix time is, on the cache's clock."""
    return now + (absolute - time.time())


def _closed_error() -> CacheUnavailableError:
    return CacheUnavailableError("The memory cache is closed.")
