"""Sessions that were moved to a new key, remembered for as long as requests with the old cookie may come."""

from __future__ import annotations

import time
from typing import Final

from kestrun_py.caching import DistributedCache, Expiration
from kestrun_py.sessions._deadlines import remaining

__all__ = ["MovedSessions"]

_PREFIX: Final = "kr.moved:"
_LATE_SECONDS: Final = 5.0  # beyond the I/O timeout: how much later a client may still send its old cookie
_TIME_BYTES: Final = 8
_LONGEST_SECONDS: Final = 3600.0  # a marker of a longer time was not written by a host


class MovedSessions:
    """Markers in the cache for keys that sessions were moved away from.

    A marker is an entry of its own under a key that is derived from the old one. It holds the time until which it
    counts, as Unix time in milliseconds (8 bytes, big-endian), and not the new key. It tells every process on the
    cache a move, which has a marker, from a logout, which has none.

    Args:
        cache: Where the sessions are.
        io_timeout: The longest that a request waits for its session, in seconds.
    """

    def __init__(self, cache: DistributedCache, io_timeout: float) -> None:
        self._cache = cache
        self._seconds = io_timeout + _LATE_SECONDS

    async def mark(self, key: str, deadline: float) -> None:
        """Stores the marker for `key`, before the entry under that key is removed.

        Raises:
            CacheError: The marker could not be stored by the deadline.
        """
        until = time.time() + self._seconds
        value = int(until * 1000).to_bytes(_TIME_BYTES, "big")
        await self._cache.store(_PREFIX + key, value, Expiration(absolute=until), timeout=remaining(deadline))

    async def unmark(self, key: str, deadline: float) -> None:
        """Removes a marker whose move has failed.

        Raises:
            CacheError: It could not be removed by the deadline.
        """
        await self._cache.remove(_PREFIX + key, timeout=remaining(deadline))

    async def seconds_left(self, key: str, deadline: float) -> float:
        """The seconds for which `key` still counts as moved; 0 if it does not.

        Raises:
            CacheError: The marker could not be read by the deadline.
        """
        value = await self._cache.get(_PREFIX + key, timeout=remaining(deadline))
        if value is None or len(value) != _TIME_BYTES:
            return 0
        seconds = int.from_bytes(value, "big") / 1000 - time.time()
        return seconds if 0 < seconds <= max(self._seconds, _LONGEST_SECONDS) else 0
