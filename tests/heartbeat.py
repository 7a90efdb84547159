"""Telling an event loop that stands still from a machine that is busy."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

__all__ = ["heartbeat"]

_INTERVAL: Final = 0.01


@asynccontextmanager
async def heartbeat(limit: float = 0.5) -> AsyncIterator[None]:
    """Fails if the event loop stood still for `limit` seconds longer than a thread beside it had to wait."""
    loop_beat, thread_beat = _Beat(), _Beat()
    ended = threading.Event()
    thread = threading.Thread(target=lambda: _beat_in_thread(thread_beat, ended))
    thread.start()
    task = asyncio.create_task(_beat_in_loop(loop_beat))
    try:
        yield
    finally:
        task.cancel()
        ended.set()
        thread.join()
    loop_beat.note()
    assert loop_beat.longest < limit + thread_beat.longest


class _Beat:
    """The longest time between two calls of `note`."""

    def __init__(self) -> None:
        self.longest = 0.0
        self._last = time.monotonic()

    def note(self) -> None:
        now = time.monotonic()
        self.longest, self._last = max(self.longest, now - self._last), now


async def _beat_in_loop(beat: _Beat) -> None:
    while True:
        beat.note()
        await asyncio.sleep(_INTERVAL)


def _beat_in_thread(beat: _Beat, ended: threading.Event) -> None:
    while not ended.wait(_INTERVAL):
        beat.note()
