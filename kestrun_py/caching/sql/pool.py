"""A bounded pool of ODBC connections.

aioodbc's own pool holds its lock while it connects, so that one connection attempt without an answer keeps every
other caller from its turn, and it can neither give up a connection whose call hangs nor tell which one is unharmed.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine
from typing import Any, Final, TypeVar

from kestrun_py.caching.sql.connection_string import ConnectionSettings
from kestrun_py.caching.sql.connector import Connector
from kestrun_py.caching.sql.link import Link
from kestrun_py.errors import CacheTimeoutError, CacheUnavailableError

__all__ = ["ConnectionPool", "error_text"]

_T = TypeVar("_T")

# Firewalls and load balancers forget connections that were idle for longer, often without a word to either end.
_IDLE_LIMIT_SECONDS: Final = 200.0
_CLOSE_TIMEOUT_SECONDS: Final = 5.0
_GRACE_SECONDS: Final = 0.02


class ConnectionPool:
    """Lends connections to operations, each of which is one function that runs in the connection's thread.

    A caller that is cancelled, or whose time is up, leaves at once. Its connection is lent again only after the call
    has returned, and is given up if the call does not return in time.

    Args:
        settings: How many connections to keep, and what messages call the server.
        connector: Opens them.
        name: What messages call the database.
        reusable: Tells from a call's error whether its connection is unharmed.
    """

    def __init__(
        self,
        settings: ConnectionSettings,
        connector: Connector,
        name: str,
        reusable: Callable[[BaseException], bool],
    ) -> None:
        self._settings = settings
        self._connector = connector
        self._name = name
        self._reusable = reusable
        self._permits = asyncio.Semaphore(settings.max_size)
        self._lent = 0
        self._quiet = asyncio.Event()
        self._quiet.set()
        self._free: list[Link] = []
        self._abandoned: list[Link] = []
        self._tasks: set[asyncio.Task[Any]] = set()
        self._closed = False

    async def fill(self) -> None:
        """Begins to open the connections that are to be ready; one that fails is opened when it is needed."""
        for _ in range(self._settings.min_size - len(self._free)):
            await self._take_permit(_now() + self._settings.login_timeout)
            self._spawn(self._connector.open()).add_done_callback(self._arrived_late)

    async def close(self) -> None:
        """Closes the connections, those in use as soon as their calls have returned."""
        self._closed = True
        self.flush()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_CLOSE_TIMEOUT_SECONDS):
                await self._quiet.wait()
                while self._tasks:
                    await asyncio.wait(self._tasks)
        leftover = list(self._tasks)
        for task in leftover:
            task.cancel()
        if leftover:
            await asyncio.wait(leftover)

    def flush(self) -> None:
        """Closes the connections that are not in use: after one was lost, the others of its age are suspect."""
        while self._free:
            self._spawn(self._free.pop().close())

    async def run(
        self, work: Callable[[Link], _T], deadline: float, undo: Callable[[Link], object] | None = None
    ) -> _T:
        """Runs a function with a connection of its own.

        Args:
            work: The function; it runs in the connection's thread.
            deadline: When the caller has waited long enough, by the event loop's clock.
            undo: What follows in the same thread if the caller has left before `work` was done.

        Raises:
            CacheTimeoutError: The time was up.
            CacheUnavailableError: There is no connection to be had.
            Exception: What `work` raised.
        """
        link = await self._acquire(deadline)
        call = link.call(work)
        try:
            await asyncio.wait((call,), timeout=deadline - _now())
        except asyncio.CancelledError:
            call.add_done_callback(_look_at)
            self._settle_later(link, link.call(undo) if undo else call, deadline, undo)
            raise
        if call.done():
            self._settle(link, call)
            return call.result()
        self._give_up(link, call, undo)
        raise self._timeout()

    # Connections

    async def _acquire(self, deadline: float) -> Link:
        await self._take_permit(deadline)
        while self._free:
            link = self._free.pop()
            if _now() - link.idle_since < _IDLE_LIMIT_SECONDS:
                return link
            self._spawn(link.close())
        return await self._connect(deadline)

    async def _take_permit(self, deadline: float) -> None:
        if self._closed:
            raise CacheUnavailableError(f"The {self._name} cache is closed.")
        # Calls without an answer do not count as connections in use, but there is an end to that.
        if self._hanging() >= self._settings.max_size * 2:
            raise self._timeout()
        try:
            async with asyncio.timeout_at(deadline):
                await self._permits.acquire()
        except TimeoutError:
            raise self._timeout() from None
        self._lent += 1
        self._quiet.clear()

    def _give_permit(self) -> None:
        self._lent -= 1
        if self._lent == 0:
            self._quiet.set()
        self._permits.release()

    async def _connect(self, deadline: float) -> Link:
        opening = self._spawn(self._connector.open())
        try:
            await asyncio.wait((opening,), timeout=deadline - _now())
        except asyncio.CancelledError:
            opening.add_done_callback(self._arrived_late)
            raise
        if not opening.done():
            opening.add_done_callback(self._arrived_late)
            raise self._timeout()
        error = opening.exception()
        if error is None:
            return opening.result()
        self._give_permit()
        raise CacheUnavailableError(
            f"{self._name} ({self._settings.address}) gave no connection: "
            + self._settings.without_secrets(error_text(error))
        ) from None

    def _arrived_late(self, opening: asyncio.Task[Link]) -> None:
        """Keeps a connection that was opened after its caller had left, for the next caller."""
        if opening.cancelled() or opening.exception() is not None:
            self._give_permit()
        else:
            self._put_back(opening.result())

    def _settle(self, link: Link, call: asyncio.Future[Any]) -> None:
        error = None if call.cancelled() else call.exception()
        if error is None or self._reusable(error):
            self._put_back(link)
        else:
            self._spawn(link.close())
            self._give_permit()

    def _put_back(self, link: Link) -> None:
        if self._closed or not self._settings.pooling:
            self._spawn(link.close())
        else:
            link.idle_since = _now()
            self._free.append(link)
        self._give_permit()

    # Calls whose callers have left

    def _settle_later(
        self, link: Link, call: asyncio.Future[Any], deadline: float, undo: Callable[[Link], object] | None
    ) -> None:
        def settle(call: asyncio.Future[Any]) -> None:
            timer.cancel()
            self._settle(link, call)

        def give_up() -> None:
            call.remove_done_callback(settle)
            self._give_up(link, call, undo)  # again: what waits in the thread's queue is cancelled

        timer = asyncio.get_running_loop().call_at(max(deadline, _now() + _GRACE_SECONDS), give_up)
        call.add_done_callback(settle)

    def _give_up(self, link: Link, call: asyncio.Future[Any], undo: Callable[[Link], object] | None) -> None:
        call.cancel()
        link.abandon(undo)
        self._abandoned.append(link)
        self._give_permit()

    def _hanging(self) -> int:
        if self._abandoned:
            self._abandoned = [link for link in self._abandoned if not link.ended]
        return len(self._abandoned)

    def _spawn(self, work: Coroutine[Any, Any, _T]) -> asyncio.Task[_T]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def _timeout(self) -> CacheTimeoutError:
        return CacheTimeoutError(f"{self._name} ({self._settings.address}) did not answer in time.")


def error_text(error: BaseException) -> str:
    """The message of a database's error, on one line."""
    text = str(error.args[1]) if len(error.args) > 1 else str(error)
    return " ".join(text.split())


def _look_at(call: asyncio.Future[Any]) -> None:
    """Reads the error of a call whose caller has left; asyncio reports an error that is never read."""
    if not call.cancelled():
        call.exception()


def _now() -> float:
    return asyncio.get_running_loop().time()
