"""Sessions that were moved to a new key, remembered for as long as clients may still send the old cookie."""

from __future__ import annotations

import time
from typing import Final

__all__ = ["MovedSessions"]

_MOVED: Final = 5.0  # seconds, beyond the I/O timeout, in which a client may still send its former cookie


class MovedSessions:
    """The keys that sessions of this process were moved away from.

    Args:
        io_timeout: The longest that a request waits for its session.
    """

    def __init__(self, io_timeout: float) -> None:
        self._io_timeout = io_timeout
        # When the keys are forgotten; in that order.
        self._moved: dict[str, float] = {}

    def is_moved(self, key: str) -> bool:
        """Whether a session was moved away from `key` a short time ago."""
        return self._moved.get(key, 0) > time.monotonic()

    def note(self, key: str) -> None:
        """Remembers, as long as requests with the old cookie may come, that the session has not just ended."""
        now = time.monotonic()
        while self._moved and self._moved[first := next(iter(self._moved))] < now:
            del self._moved[first]
        self._moved[key] = now + self._io_timeout + _MOVED
