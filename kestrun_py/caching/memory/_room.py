"""Making room in a memory cache, and removing what has expired.

A value that does not fit makes its room itself, a batch of records at a time, so the limit holds however fast values
are stored. The rest is done in slices, between which the event loop runs.
"""

from __future__ import annotations

import asyncio
import heapq
import time
from collections.abc import Callable, Iterator
from typing import Final

from kestrun_py.caching.memory._records import SHARD_COUNT, Records, last_access
from kestrun_py.logging import Logger

__all__ = ["Room"]

_SLICE_SECONDS: Final = 0.002  # of work between two turns of the event loop
_BATCH: Final = 256  # records evicted in one go
_LOOKS: Final = 2000  # records that one call of `make` looks at for expired ones
_NANOSECONDS: Final = 1e9


class Room:
    """Keeps records within a limit and removes those that have expired.

    Attributes:
        limit: The most bytes of memory that the records may take.
        target: What is left when something had to be evicted.
        newest: The key that was stored last, which is not evicted before another one is stored.
        timer: What starts the next search for expired records.

    Args:
        records: The records.
        clock: The time now, on the clock of the records.
        limit: The most bytes of memory that the records may take.
        compaction: The share of `limit` to free when something had to be evicted; 0 to 1.
        scan_interval: Seconds between two searches for expired records.
        logger: Where evictions are reported.
    """

    def __init__(
        self,
        records: Records,
        clock: Callable[[], float],
        *,
        limit: int,
        compaction: float,
        scan_interval: float,
        logger: Logger,
    ) -> None:
        self.limit = limit
        self.target = int(limit * (1 - compaction))
        self._slack = min(limit - self.target, limit // 1024)
        self._records = records
        self._clock = clock
        self._scan_interval = scan_interval
        self._logger = logger
        self.newest = ""
        self._evicted = 0  # since the last report
        self._cursor = 0
        self.timer: asyncio.TimerHandle | None = None
        self._work: Iterator[None] | None = None
        self._next_slice: asyncio.Handle | None = None

    @property
    def idle(self) -> bool:
        """Whether no work is under way."""
        return self._work is None

    def make(self, needed: int) -> bool:
        """Frees `needed` bytes below the limit: by some of what has expired, then by what was used longest ago.

        Returns:
            Whether all was done that can be; if not, this is to be called again.
        """
        records, self.newest = self._records, ""
        self._drop_some_expired(needed)
        done = True
        if records.size + needed > self.limit:
            count = self._evict(self.limit - needed - self._slack)
            self._evicted += count
            done = count < _BATCH or records.size + needed <= self.limit
        self._start_work()
        return done

    def scan_later(self) -> None:
        """Sets the timer of the next search for expired records."""
        self.timer = asyncio.get_running_loop().call_later(self._scan_interval, self._scan)

    def close(self) -> None:
        """Ends all work."""
        for handle in (self.timer, self._next_slice):
            if handle is not None:
                handle.cancel()
        self.timer = self._next_slice = self._work = None

    # Slices

    def _scan(self) -> None:
        self.timer = None
        self._start_work()

    def _start_work(self) -> None:
        if self._work is None:
            self._work = self._clear()
            self._next_slice = asyncio.get_running_loop().call_soon(self._run_slice)

    def _run_slice(self) -> None:
        assert self._work is not None
        self._next_slice = None
        loop = asyncio.get_running_loop()
        until = time.perf_counter() + _SLICE_SECONDS
        for _ in self._work:
            if time.perf_counter() >= until:
                self._next_slice = loop.call_soon(self._run_slice)
                return
        self._work = None
        if self.timer is None and any(self._records.shards):
            self.scan_later()

    def _clear(self) -> Iterator[None]:
        """Removes what has expired and, if something was evicted, what else was used longest ago."""
        for shard in self._records.shards:
            self._records.drop_expired(shard, self._clock())
            yield
        if not self._evicted:
            return
        while count := self._evict(self.target):
            self._evicted += count
            yield
        self._logger.warning(
            "The memory cache reached its size limit of {SizeLimit} bytes and evicted {Count} least recently used "
            "entries; a larger size_limit or a distributed cache keeps them.",
            self.limit,
            self._evicted,
        )
        self._evicted = 0

    # Removal

    def _drop_some_expired(self, needed: int) -> None:
        """Goes on with a walk through the shards until there is room or enough was looked at."""
        records, now, looks = self._records, self._clock(), 0
        while looks < _LOOKS and records.size + needed > self.limit:
            shard = records.shards[self._cursor]
            looks += 1 + len(shard)
            records.drop_expired(shard, now)
            self._cursor = (self._cursor + 1) % SHARD_COUNT

    def _evict(self, target: int) -> int:
        """Removes the records used longest ago, a batch at most, until the size is down to `target`.

        Each shard is in order of use, so this merges the shards' orders. The heap holds whole numbers, because a tuple
        for each record would set off the garbage collector.

        Returns:
            How many records were removed; less than a batch once there is room, or nothing that may go.
        """
        records, now = self._records, self._clock()
        if records.size <= target:
            return 0
        keys = [self._oldest(shard, now) for shard in records.shards]
        heap = [self._rank(index, key) for index, key in enumerate(keys) if key is not None]
        heapq.heapify(heap)
        for count in range(_BATCH):
            if records.size <= target or not heap:
                return count
            index = heap[0] % SHARD_COUNT
            oldest = keys[index]
            assert oldest is not None
            records.drop(oldest)
            oldest = keys[index] = self._oldest(records.shards[index], now)
            if oldest is None:
                heapq.heappop(heap)
            else:
                heapq.heapreplace(heap, self._rank(index, oldest))
        return _BATCH

    def _oldest(self, shard: dict[str, bytes], now: float) -> str | None:
        """The key of a shard's record used longest ago, of those that may be removed."""
        held = self._records.is_held
        for key in shard:
            if key != self.newest and not held(key, now):
                return key
        return None

    def _rank(self, index: int, key: str) -> int:
        """A number that is smaller for a record used longer ago, and names its shard."""
        stamp = last_access(self._records.shards[index][key])
        return int(stamp * _NANOSECONDS) * SHARD_COUNT + index
