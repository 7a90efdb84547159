"""Waiting for a condition instead of for a number of seconds."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Callable
from typing import Final

__all__ = ["until", "wait_until"]

# Only bounds a test that hangs: a condition that comes true on a slow machine comes true well before.
_LIMIT: Final = 120.0
_INTERVAL: Final = 0.005


async def until(condition: Callable[[], object]) -> None:
    """Waits for a condition, a function or a coroutine function; the event loop runs meanwhile."""
    deadline = time.monotonic() + _LIMIT
    while True:
        outcome = condition()
        if await outcome if inspect.isawaitable(outcome) else outcome:
            return
        _check(deadline)
        await asyncio.sleep(_INTERVAL)


def wait_until(condition: Callable[[], object]) -> None:
    """Waits for a condition and blocks the thread meanwhile."""
    deadline = time.monotonic() + _LIMIT
    while not condition():
        _check(deadline)
        time.sleep(_INTERVAL)


def _check(deadline: float) -> None:
    assert time.monotonic() < deadline, f"the condition did not come true within {_LIMIT:.0f} s"
