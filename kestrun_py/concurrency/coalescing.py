"""Work that is cheaper together than piece by piece: done when the event loop has nothing else to do, or soon."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

__all__ = ["Gathered"]


class Gathered:
    """One call for all that is gathered while the event loop is busy.

    Args:
        loop: The event loop.
        call: What to do.
        most_turns: How many turns of the loop it is put off at most.
    """

    __slots__ = ("_awaited", "_call", "_left", "_loop", "_most_turns")

    def __init__(self, loop: asyncio.AbstractEventLoop, call: Callable[[], object], most_turns: int) -> None:
        self._loop = loop
        self._call = call
        self._most_turns = most_turns
        self._left = 0
        self._awaited = False

    def soon(self) -> None:
        """Sees to it that the call is made; asked for again before that, it does nothing."""
        if not self._awaited:
            self._awaited = True
            self._left = self._most_turns
            self._loop.call_soon(self._turn)

    def _turn(self) -> None:
        # A loop that does not show what is ready (asyncio's does, though not on purpose) gets its call at once.
        if self._left and getattr(self._loop, "_ready", None):
            self._left -= 1
            self._loop.call_soon(self._turn)
        else:
            self._awaited = False
            self._call()
