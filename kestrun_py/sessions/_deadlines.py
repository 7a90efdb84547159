"""Waiting within a session's I/O timeout."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable
from typing import Final, TypeVar

from kestrun_py.errors import KeyRingError

__all__ = ["key_ring_answer", "remaining"]

_LEAST_SECONDS: Final = 0.001

_T = TypeVar("_T")


def remaining(deadline: float) -> float:
    """The seconds until a time of the monotonic clock; a little more than none if it has passed."""
    return max(deadline - time.monotonic(), _LEAST_SECONDS)


async def key_ring_answer(answer: Awaitable[_T], io_timeout: float) -> _T:
    """Waits for the key ring, which has no timeout of its own.

    Raises:
        KeyRingError: It did not answer in time, or cannot be read.
    """
    try:
        async with asyncio.timeout(io_timeout):
            return await answer
    except TimeoutError:
        raise KeyRingError(f"The key ring did not answer within {io_timeout:g} seconds (io_timeout).") from None
