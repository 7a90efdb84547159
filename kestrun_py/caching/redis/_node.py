"""One server, and the connection to it that is kept up."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final, TypeAlias

from kestrun_py.caching.redis._wire import Wire
from kestrun_py.errors import CacheError, CacheTimeoutError, CacheUnavailableError
from kestrun_py.logging import Logger

__all__ = ["Node", "Opener"]

Opener: TypeAlias = Callable[[Callable[[str], None]], Awaitable[Wire]]
"""Opens a connection, given what to call when it is lost."""

_LEAST_PAUSE_SECONDS: Final = 0.05  # between two attempts at least, however many requests ask for one
_FIRST_BACKOFF_SECONDS: Final = 0.1
_LAST_BACKOFF_SECONDS: Final = 5.0


class Node:
    """A server's shared connection; lost, it is made anew in the background.

    Attributes:
        wire: The connection while there is one.

    Args:
        name: What log lines call the server.
        open_wire: Opens a connection.
        logger: Where lost and restored connections are reported.
    """

    def __init__(self, name: str, open_wire: Opener, logger: Logger) -> None:
        self.wire: Wire | None = None
        self._name = name
        self._open_wire = open_wire
        self._logger = logger
        self._attempt: asyncio.Task[None] | None = None
        self._begun = 0.0
        self._ended = -_LEAST_PAUSE_SECONDS
        self._keeper: asyncio.Task[None] | None = None
        self._waiting = 0
        self._complained = False
        self._closed = False

    @property
    def wanted(self) -> bool:
        """Whether it is connected, or somebody waits until it is."""
        return self.wire is not None or self._waiting > 0

    async def connected(self, deadline: float) -> Wire:
        """Returns the connection, made first if need be.

        It fails only if an attempt failed that began after this call, so that the first request after a
        server is back finds it.

        Args:
            deadline: The loop's time to wait until.

        Raises:
            CacheUnavailableError: The server cannot be reached.
            CacheTimeoutError: The attempt takes too long.
        """
        arrived = asyncio.get_running_loop().time()
        self._waiting += 1
        try:
            while self.wire is None:
                if self._closed:
                    raise CacheUnavailableError("The Redis cache is closed.")
                try:
                    async with asyncio.timeout_at(deadline):
                        await self._connect()
                except TimeoutError:
                    late = CacheTimeoutError(f"Redis at {self._name} could not be reached in time.")
                    late.reported = self._complained
                    raise late from None
                except CacheUnavailableError:
                    if self._begun >= arrived:
                        raise
            return self.wire
        finally:
            self._waiting -= 1

    def connect_soon(self) -> None:
        """Starts connecting in the background."""
        if self._keeper is None and not self._closed:
            self._keeper = asyncio.get_running_loop().create_task(self._keep())

    async def drop(self, wire: Wire) -> None:
        """Gives up a connection: it leads to a server that does not serve us any more."""
        if self.wire is wire:
            self.wire = None
            self.connect_soon()
            await wire.close()

    async def close(self) -> None:
        self._closed = True
        for task in (self._keeper, self._attempt):
            if task is not None:
                task.cancel()
                with suppress(asyncio.CancelledError, CacheError):
                    await task
        wire, self.wire = self.wire, None
        if wire is not None:
            await wire.close()

    async def _connect(self) -> None:
        """Joins the attempt that is under way, or begins one."""
        attempt = self._attempt
        if attempt is None:
            attempt = self._attempt = asyncio.get_running_loop().create_task(self._try())
            attempt.add_done_callback(_retrieve)
        try:
            await asyncio.shield(attempt)
        except asyncio.CancelledError:
            if attempt.cancelled():  # by `close`; the caller was not
                raise CacheUnavailableError("The Redis cache is closed.") from None
            raise

    async def _try(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            await asyncio.sleep(self._ended + _LEAST_PAUSE_SECONDS - loop.time())
            self._begun = loop.time()
            wire = await self._open_wire(self._lost)
            if wire.ended:
                raise CacheUnavailableError(f"Redis at {wire.where} closed the connection.")
            self.wire = wire
        except CacheError as error:
            if not self._complained:
                self._complained = True
                self._logger.warning("{Error}", error)
            if isinstance(error, CacheUnavailableError):
                error.reported = True
            self.connect_soon()
            raise
        finally:
            self._ended = loop.time()
            self._attempt = None
        if self._complained:
            self._complained = False
            self._logger.information("Redis at {Endpoint} is back.", self._name)

    async def _keep(self) -> None:
        backoff = _FIRST_BACKOFF_SECONDS
        try:
            while self.wire is None:
                try:
                    await self._connect()
                except CacheError:
                    await asyncio.sleep(backoff * random.uniform(0.5, 1.0))
                    backoff = min(backoff * 2, _LAST_BACKOFF_SECONDS)
        finally:
            self._keeper = None

    def _lost(self, reason: str) -> None:
        self.wire = None
        self._complained = True
        self._logger.warning("The connection to Redis at {Endpoint} was lost: {Reason}.", self._name, reason)
        self.connect_soon()


def _retrieve(attempt: asyncio.Task[None]) -> None:
    # An attempt may fail with nobody left to wait for it.
    if not attempt.cancelled():
        attempt.exception()
