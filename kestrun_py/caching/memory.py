"""A cache in this process's memory (ASP.NET Core's ``MemoryDistributedCache``).

Entries live in many small dictionaries rather than one large one, so that neither the growth of a dictionary nor a
walk through it holds up the event loop, however many entries there are. A record is one ``bytes`` object: a header
(last access, sliding window, absolute expiration) and the value. Dictionaries of strings and bytes are nothing to
the garbage collector, which would otherwise visit every session again and again.

A shard's dictionary is kept in order of last use: reading an entry takes it out and puts it back at the end.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Iterator
from struct import Struct
from typing import ClassVar, Final

from kestrun_py._version import __version__
from kestrun_py.caching._arguments import checked_key, checked_value
from kestrun_py.caching.contract import DEFAULT_TIMEOUT, DistributedCache
from kestrun_py.caching.expiration import Expiration
from kestrun_py.caching.leases import Busy, Lease, new_token
from kestrun_py.caching.status import CacheStatus
from kestrun_py.errors import ArgumentError, CacheError, CacheUnavailableError, LeaseLostError
from kestrun_py.logging import Logger, default_logger

__all__ = ["MemoryCache"]

_SHARDS: Final = 1024  # a power of two; a million entries make a thousand to a shard
_MASK: Final = _SHARDS - 1
_HEADER: Final = Struct("<ddd")  # last access, sliding window, absolute expiration; inf where there is none
_STAMP: Final = Struct("<d")
_SLICE: Final = 0.002  # seconds of maintenance between two turns of the event loop
_BATCH: Final = 64  # entries evicted between two looks at the clock


class MemoryCache(DistributedCache):
    """Keeps entries in memory, up to a size limit.

    Unlike ASP.NET's, which drops a value that finds the cache full, it always stores the new value and makes room
    by removing expired entries, then the least recently used ones, down to the limit less `compaction`.

    Args:
        size_limit: Bytes of values to hold; keys and overhead are not counted. 200 MiB, as in ASP.NET Core.
        compaction: The share of `size_limit` to free when the limit is passed; 0 to 1.
        scan_interval: Seconds between two removals of expired entries. Reads never see an expired entry.
        clock: The time now, as Unix time.
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
        clock: Callable[[], float] = time.time,
        logger: Logger = default_logger,
    ) -> None:
        if size_limit <= 0:
            raise ArgumentError(f"size_limit must be a positive number of bytes, not {size_limit}.")
        if not 0 <= compaction <= 1:
            raise ArgumentError(f"compaction must be between 0 and 1, not {compaction:g}.")
        if scan_interval <= 0:
            raise ArgumentError(f"scan_interval must be a positive number of seconds, not {scan_interval:g}.")
        self._size_limit = size_limit
        self._target = int(size_limit * (1 - compaction))
        self._scan_interval = scan_interval
        self._clock = clock
        self._logger = logger
        self._shards: list[dict[str, bytes]] = [{} for _ in range(_SHARDS)]
        self._leases: dict[str, tuple[str, float]] = {}
        self._size = 0
        self._newest = ""
        self._timer: asyncio.TimerHandle | None = None
        self._work: Iterator[None] | None = None
        self._next_slice: asyncio.Handle | None = None
        self._closed = False

    @property
    def size(self) -> int:
        """The bytes of all values, those included that expired and were not removed yet."""
        return self._size

    def __len__(self) -> int:
        return sum(map(len, self._shards))

    async def close(self) -> None:
        self._closed = True
        for handle in (self._timer, self._next_slice):
            if handle is not None:
                handle.cancel()
        self._timer = self._next_slice = self._work = None
        self._shards = [{} for _ in range(_SHARDS)]
        self._leases.clear()
        self._size = 0

    async def ping(self, *, timeout: float = DEFAULT_TIMEOUT) -> CacheStatus:
        if self._closed:
            raise _closed_error()
        return CacheStatus(server=self.name, version=__version__, round_trip=0.0)

    # Entries

    async def get(self, key: str, *, timeout: float = DEFAULT_TIMEOUT) -> bytes | None:
        record = self._touch(checked_key(key))
        return None if record is None else record[_HEADER.size :]

    async def store(self, key: str, value: bytes, expiration: Expiration, *, timeout: float = DEFAULT_TIMEOUT) -> None:
        self._put(checked_key(key), checked_value(value), expiration)
        self._leases.pop(key, None)

    async def refresh(self, key: str, *, timeout: float = DEFAULT_TIMEOUT) -> None:
        self._touch(checked_key(key))

    async def remove(self, key: str, *, timeout: float = DEFAULT_TIMEOUT) -> None:
        if self._closed:
            raise _closed_error()
        self._drop(checked_key(key))

    # Entries under a lease

    async def _try_lock(self, key: str, token: str, lease_time: float, timeout: float) -> Lease | Busy | None:
        return MemoryCache.lock_at_once(self, key, lease_time=lease_time)

    def lock_at_once(self, key: str, *, lease_time: float) -> Lease | Busy | None:
        now = self._clock()
        record = self._live(key, now)
        if record is None:
            return None
        held = self._leases.get(key)
        if held is not None and held[1] > now:
            return Busy.BUSY
        token = new_token()
        self._leases[key] = (token, now + lease_time)
        # What is held neither expires nor makes room for others; its access is noted when it is given back.
        _, _, absolute = _HEADER.unpack_from(record)
        return Lease(key, token, record[_HEADER.size :], None if absolute == math.inf else absolute)

    async def renew(self, lease: Lease, *, lease_time: float, timeout: float) -> bool:
        if not self._holds(lease):
            return False
        self._leases[lease.key] = (lease.token, self._clock() + lease_time)
        return True

    async def commit(
        self, lease: Lease, value: bytes | None, expiration: Expiration, *, timeout: float = DEFAULT_TIMEOUT
    ) -> None:
        MemoryCache.commit_at_once(self, lease, value, expiration)

    def commit_at_once(self, lease: Lease, value: bytes | None, expiration: Expiration) -> bool:
        if not self._holds(lease):
            raise LeaseLostError("The entry was taken over, replaced or removed, or has expired; nothing was written.")
        if value is None:
            self._drop(lease.key)
        else:
            self._put(lease.key, checked_value(value), expiration)
            del self._leases[lease.key]
        return True

    async def release(self, lease: Lease, *, timeout: float = DEFAULT_TIMEOUT) -> None:
        if self._holds(lease):
            self._touch(lease.key)
            del self._leases[lease.key]

    def _holds(self, lease: Lease) -> bool:
        if self._closed:
            raise _closed_error()
        held = self._leases.get(lease.key)
        if held is None or held[0] != lease.token:
            return False
        now = self._clock()
        return held[1] > now or self._live(lease.key, now) is not None

    # Records

    def _touch(self, key: str) -> bytes | None:
        """Returns a live record, stamped with this access and moved to the end of its shard."""
        now = self._clock()
        record = self._live(key, now)
        if record is None:
            return None
        shard = self._shards[hash(key) & _MASK]
        del shard[key]
        record = shard[key] = _STAMP.pack(now) + record[_STAMP.size :]
        return record

    def _live(self, key: str, now: float) -> bytes | None:
        """Returns a record that has not expired; one that has is removed."""
        if self._closed:
            raise _closed_error()
        record = self._shards[hash(key) & _MASK].get(key)
        if record is None:
            return None
        accessed, sliding, absolute = _HEADER.unpack_from(record)
        if now < accessed + sliding and now < absolute:
            return record
        if self._is_held(key, now):  # an entry in use does not expire under its holder
            return record
        self._drop(key)
        return None

    def _put(self, key: str, value: bytes, expiration: Expiration) -> None:
        if self._closed:
            raise _closed_error()
        if len(value) > self._size_limit:
            raise CacheError(
                f"A value of {len(value)} bytes exceeds the memory cache's size limit of {self._size_limit} bytes."
            )
        shard = self._shards[hash(key) & _MASK]
        old = shard.pop(key, None)
        sliding, absolute = expiration.sliding, expiration.absolute
        shard[key] = (
            _HEADER.pack(
                self._clock(), math.inf if sliding is None else sliding, math.inf if absolute is None else absolute
            )
            + value
        )
        self._size += len(value) - (0 if old is None else len(old) - _HEADER.size)
        self._newest = key
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self._scan_interval, self._scan)
        if self._size > self._size_limit:
            self._start_work()

    def _drop(self, key: str) -> None:
        record = self._shards[hash(key) & _MASK].pop(key, None)
        if record is not None:
            self._size -= len(record) - _HEADER.size
        self._leases.pop(key, None)

    def _is_held(self, key: str, now: float) -> bool:
        held = self._leases.get(key)
        return held is not None and held[1] > now

    # Maintenance, in slices between which the event loop runs

    def _scan(self) -> None:
        self._timer = None
        self._start_work()

    def _start_work(self) -> None:
        if self._work is None:
            self._work = self._maintain()
            self._run_slice()

    def _run_slice(self) -> None:
        assert self._work is not None
        self._next_slice = None
        loop = asyncio.get_running_loop()
        until = time.perf_counter() + _SLICE
        for _ in self._work:
            if time.perf_counter() >= until:
                self._next_slice = loop.call_soon(self._run_slice)
                return
        self._work = None
        if self._timer is None and any(self._shards):
            self._timer = loop.call_later(self._scan_interval, self._scan)

    def _maintain(self) -> Iterator[None]:
        """Removes what has expired and, above the size limit, what was used longest ago."""
        for shard in self._shards:
            self._remove_expired(shard)
            yield
        if self._size <= self._size_limit:
            return
        evicted = 0
        while count := self._evict():
            evicted += count
            yield
        self._logger.warning(
            "The memory cache passed its size limit of {SizeLimit} bytes and evicted {Count} least recently used "
            "entries; a larger size_limit or a distributed cache keeps them.",
            self._size_limit,
            evicted,
        )

    def _remove_expired(self, shard: dict[str, bytes]) -> None:
        now = self._clock()
        for key in [*shard]:
            self._live(key, now)

    def _evict(self) -> int:
        """Removes a batch of the entries used longest ago: a merge of the shards' orders.

        Numbers and keys in two lists, and no tuples in a heap: a million entries' worth of those would have the
        garbage collector go through the whole process again and again.

        Returns:
            How many entries were removed; 0 once there is room, or nothing that may go.
        """
        now = self._clock()
        stamps, keys = [math.inf] * _SHARDS, [""] * _SHARDS
        for index, shard in enumerate(self._shards):
            stamps[index], keys[index] = self._oldest(shard, now)
        for count in range(_BATCH):
            stamp = min(stamps)
            if self._size <= self._target or stamp == math.inf:
                return count
            index = stamps.index(stamp)
            self._drop(keys[index])
            stamps[index], keys[index] = self._oldest(self._shards[index], now)
        return _BATCH

    def _oldest(self, shard: dict[str, bytes], now: float) -> tuple[float, str]:
        """The last access and the key of a shard's entry used longest ago, of those that may be removed."""
        for key, record in shard.items():
            # Neither what somebody holds, nor the entry for which room is made.
            if self._leases.get(key, ("", 0.0))[1] <= now and key != self._newest:
                return _STAMP.unpack_from(record)[0], key
        return math.inf, ""


def _closed_error() -> CacheUnavailableError:
    return CacheUnavailableError("The memory cache is closed.")
