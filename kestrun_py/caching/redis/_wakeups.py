"""Waking the waiters of this process when another process frees the lock that they wait for."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from kestrun_py.caching.redis._wire import Reply, Wire, pack
from kestrun_py.errors import CacheError

__all__ = ["Wakeups"]

_RECONNECT_PAUSE_SECONDS: Final = 5.0  # between two attempts to listen
_MOST_EARLY_WAKEUPS: Final = 1000


class Wakeups:
    """Listens on this process's channel, on a connection that is opened when a lock is waited for.

    Without it, or while it is lost, waiters ask again as often as they would without it.

    Args:
        channel: The channel.
        listen: Opens a connection, given what to call with each message, and with a reason when it is lost.
    """

    def __init__(
        self,
        channel: str,
        listen: Callable[[Callable[[Reply], None], Callable[[str], None]], Awaitable[Wire]],
    ) -> None:
        self._channel = channel
        self._listen = listen
        self._waiting: dict[bytes, set[asyncio.Future[None]]] = {}
        self._early: set[bytes] = set()
        self._wire: Wire | None = None
        self._opening: asyncio.Task[None] | None = None
        self._open_at = 0.0
        self._closed = False

    async def wait(self, key: str, pause: float) -> None:
        """Waits until the lock of `key` is said to be free, at most for `pause` seconds."""
        loop = asyncio.get_running_loop()
        if not (self._wire or self._opening or self._closed or loop.time() < self._open_at):
            self._opening = loop.create_task(self._open())
        name = key.encode()
        if name in self._early:  # the message overtook the answer that made us wait
            self._early.discard(name)
            return
        woken: asyncio.Future[None] = loop.create_future()
        self._waiting.setdefault(name, set()).add(woken)
        timer = loop.call_later(pause, _wake, woken)
        try:
            await woken
        finally:
            timer.cancel()
            waiting = self._waiting.get(name)
            if waiting is not None:
                waiting.discard(woken)
                if not waiting:
                    del self._waiting[name]

    async def close(self) -> None:
        self._closed = True
        if self._opening is not None:
            self._opening.cancel()
            await asyncio.gather(self._opening, return_exceptions=True)
        if self._wire is not None:
            await self._wire.close()
            self._wire = None

    async def _open(self) -> None:
        try:
            wire = await self._listen(self._heard, self._lost)
            wire.write(pack((b"SUBSCRIBE", self._channel)))
            self._wire = wire
        except CacheError:
            self._lost("")
        finally:
            self._opening = None

    def _heard(self, message: Reply) -> None:
        if not (isinstance(message, list) and message[0] == b"message"):
            return
        name: bytes = message[2]
        waiting = self._waiting.pop(name, None)
        if waiting is not None:
            for woken in waiting:
                _wake(woken)
        elif len(self._early) < _MOST_EARLY_WAKEUPS:
            self._early.add(name)
        else:
            self._early = {name}

    def _lost(self, reason: str) -> None:
        self._wire = None
        self._open_at = asyncio.get_running_loop().time() + _RECONNECT_PAUSE_SECONDS


def _wake(woken: asyncio.Future[None]) -> None:
    if not woken.done():
        woken.set_result(None)
