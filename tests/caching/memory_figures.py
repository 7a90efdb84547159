"""Measures the memory cache in a process of its own; prints one JSON object. Run with the figure's name."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import secrets
import struct
import sys
import time
import uuid
from typing import Any

from kestrun_py.caching import Expiration
from kestrun_py.caching.memory import MemoryCache
from kestrun_py.caching.memory._records import bytes_taken
from kestrun_py.sessions import blob

SESSIONS = 200_000
ENTRIES = 1_000_000


def resident() -> int:
    """Bytes of this process in memory."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def session(number: int) -> bytes:
    values = {"user": f"user{number}".encode(), "counter": struct.pack(">i", number), "color": b"purple"}
    return blob.encode(secrets.token_bytes(16), values)


async def bytes_per_session() -> dict[str, Any]:
    """The growth of the process by sessions that were stored, and then each used once more."""
    cache = MemoryCache()
    await cache.store("warm", session(0), Expiration(1200))
    gc.collect()
    before = resident()
    for number in range(SESSIONS):
        await cache.store(str(uuid.uuid4()), session(number), Expiration(1200))
    stored = (resident() - before) / SESSIONS
    for key in [key for shard in cache._records.shards for key in shard]:
        lease = await cache.lock(key, lease_time=5, timeout=1)
        assert lease is not None
        await cache.commit(lease, lease.value, Expiration(1200))
    assert len(cache) == SESSIONS + 1
    used = (resident() - before) / SESSIONS
    counted = cache.size / len(cache)
    await cache.close()
    return {"stored": stored, "used": used, "counted": counted}


class Ticker:
    """Runs in every turn of the event loop, and keeps the longest turn.

    Attributes:
        turns: How many turns there were.
        busy: The most seconds of processor time that one turn took: what others do to the machine is not in it.
        wall: The most seconds that one turn took.
    """

    def __init__(self) -> None:
        self.turns = 0
        self.busy = self.wall = 0.0
        self._loop = asyncio.get_running_loop()
        self._busy, self._wall = time.thread_time(), time.perf_counter()
        self._handle = self._loop.call_soon(self._tick)

    def _tick(self) -> None:
        busy, wall = time.thread_time(), time.perf_counter()
        self.busy = max(self.busy, busy - self._busy)
        self.wall = max(self.wall, wall - self._wall)
        self._busy, self._wall = busy, wall
        self.turns += 1
        self._handle = self._loop.call_soon(self._tick)

    def stop(self) -> dict[str, Any]:
        self._handle.cancel()
        return {"turns": self.turns, "busy": self.busy, "wall": self.wall}


async def fill(cache: MemoryCache, first_half: Expiration, second_half: Expiration) -> float:
    """Stores a million entries, and returns the seconds of processor time that this took."""
    began = time.thread_time()
    for number in range(ENTRIES):
        await cache.store(f"{number:036}", b"x" * 60, first_half if number % 2 else second_half)
    return time.thread_time() - began


async def expiry() -> dict[str, Any]:
    """Half of the entries expire at once."""
    ahead = 0.0
    cache = MemoryCache(size_limit=2**30, scan_interval=0.2, clock=lambda: time.monotonic() + ahead)
    filling = await fill(cache, Expiration(100), Expiration(10_000))
    ahead = 200.0
    gc.collect()
    ticker = Ticker()
    deadline = time.monotonic() + 60
    while len(cache._records.shards[-1]) == 0 or sum(map(len, cache._records.shards[-8:])) > ENTRIES / 1024 * 8 * 0.6:
        assert time.monotonic() < deadline, "nothing was removed"
        await asyncio.sleep(0.01)
    await asyncio.sleep(0.1)
    found = ticker.stop() | {"left": len(cache), "filling": filling}
    await cache.close()
    return found


async def eviction() -> dict[str, Any]:
    """The cache is full, and a tenth of the entries has to make room."""
    cache = MemoryCache(size_limit=ENTRIES * bytes_taken("0" * 36, 60) + 30, compaction=0.1)
    filling = await fill(cache, Expiration(10_000), Expiration(10_000))
    gc.collect()
    ticker = Ticker()
    await asyncio.sleep(0.01)
    await cache.store("one more", b"x" * 60, Expiration(10_000))
    deadline = time.monotonic() + 60
    while cache.size > cache._room.target:
        assert time.monotonic() < deadline, "nothing was evicted"
        await asyncio.sleep(0.01)
    found = ticker.stop() | {"left": len(cache), "filling": filling}
    await cache.close()
    return found


if __name__ == "__main__":
    print(json.dumps(asyncio.run({f.__name__: f for f in (bytes_per_session, expiry, eviction)}[sys.argv[1]]())))
