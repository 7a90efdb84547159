"""Whether a task was cancelled itself, or something that it has waited for."""

from __future__ import annotations

import asyncio

__all__ = ["is_own_cancellation"]


def is_own_cancellation(error: BaseException) -> bool:
    """Whether `error` says that the running task was cancelled, and not something that it has waited for."""
    task = asyncio.current_task()
    return isinstance(error, asyncio.CancelledError) and (task is None or task.cancelling() > 0)
