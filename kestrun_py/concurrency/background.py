"""Work that goes on without the caller that started it."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

__all__ = ["BackgroundTasks", "carry_through"]


class BackgroundTasks:
    """Tasks that nobody waits for, kept until they are done."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()

    def __len__(self) -> int:
        return len(self._tasks)

    def start(self, work: Coroutine[Any, Any, None]) -> None:
        """Starts `work` in the running event loop."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self, *, timeout: float = 0.0) -> None:
        """Waits up to `timeout` seconds for the tasks, then cancels those that are left."""
        if self._tasks and timeout:
            await asyncio.wait(self._tasks, timeout=timeout)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


async def carry_through(work: Coroutine[Any, Any, None]) -> None:
    """Waits for work that must not be left half done: it goes on when the caller is cancelled meanwhile.

    Raises:
        CancelledError: The caller was cancelled; the work is done all the same.
    """
    task = asyncio.get_running_loop().create_task(work)
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait((task,))
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None and task.exception() is None:
        raise cancelled
    task.result()
