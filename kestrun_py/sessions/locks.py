"""Fair queues, one per session, for the requests of this process."""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import suppress

__all__ = ["FairLocks"]


class FairLocks:
    """Exclusive locks by key, each granted in the order of the requests for it.

    It belongs to one event loop. A key that is not locked takes no memory.
    """

    def __init__(self) -> None:
        self._waiting: dict[str, deque[asyncio.Future[None]] | None] = {}  # None: no request has waited

    def __len__(self) -> int:
        return len(self._waiting)

    def try_acquire(self, key: str) -> bool:
        """Takes the lock of `key` if it is free."""
        if key in self._waiting:
            return False
        self._waiting[key] = None
        return True

    async def acquire(self, key: str, timeout: float) -> None:
        """Waits for the lock of `key`.

        Raises:
            TimeoutError: It was not granted within `timeout` seconds.
        """
        if self.try_acquire(key):
            return
        queue = self._waiting[key]
        if queue is None:
            queue = self._waiting[key] = deque()
        turn = asyncio.get_running_loop().create_future()
        queue.append(turn)
        try:
            async with asyncio.timeout(timeout):
                await turn
        except BaseException:
            if turn.done() and not turn.cancelled():
                self.release(key)  # granted when the wait had just ended
            else:
                # Removed at once, so that cancelled waiters do not accumulate.
                turn.cancel()
                with suppress(ValueError):  # `release` may have removed it already
                    queue.remove(turn)
            raise

    def release(self, key: str) -> None:
        """Gives the lock of `key` to the next waiter."""
        queue = self._waiting[key]
        while queue:
            turn = queue.popleft()
            if not turn.done():
                turn.set_result(None)
                return
        del self._waiting[key]
