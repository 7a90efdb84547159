"""The worker threads that run ``def`` scripts (Kestrun's runspace pool)."""

from __future__ import annotations

import asyncio
import contextvars
import os
import threading
from collections.abc import Awaitable, Callable
from contextlib import suppress
from queue import SimpleQueue
from typing import Any, Final

from kestrun_py._bridge import worker_loop
from kestrun_py.errors import ArgumentError

__all__ = ["RunspacePool"]

_Job = tuple[asyncio.Future[Any], contextvars.Context, Callable[[], Any]]

_SHORT_WAIT: Final = 0.01  # seconds that a script may wait before its thread counts as idle


class RunspacePool:
    """At most ``max_runspaces`` threads that run scripts; more scripts than that wait in line, without limit.

    A thread whose script waits for the event loop (for the lock of a session, for the body of a request) does not
    count: another one takes its place until the wait is over. So nothing that is waited for can bring every ``def``
    route to a halt.

    It belongs to one event loop. The standard library's executor would do, at twice the cost per script: it wakes
    the loop through two futures and a condition variable.
    """

    def __init__(self) -> None:
        self._max_runspaces = 2 * (os.cpu_count() or 1)
        self._min_runspaces = 1
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        self._threads: list[threading.Thread] = []
        # Both are touched by the event loop only.
        self._running = 0  # jobs handed over and not finished
        self._waiting = 0  # those of them that wait for the event loop
        self._closed = False
        self._loop: asyncio.AbstractEventLoop | None = None

    def resize(self, max_runspaces: int | None = None, min_runspaces: int | None = None) -> None:
        """Sets the bounds, before the pool starts.

        Args:
            max_runspaces: The most threads; 2 x processors if never set, as in Kestrun.
            min_runspaces: Threads to start at once; 1 if never set.

        Raises:
            ArgumentError: Bounds that contradict each other.
        """
        for name, value in (("max_runspaces", max_runspaces), ("min_runspaces", min_runspaces)):
            if value is not None and (not isinstance(value, int) or isinstance(value, bool)):
                raise ArgumentError(f"{name} must be an integer, not {value!r}.")
        maximum = self._max_runspaces if max_runspaces is None else max_runspaces
        minimum = min(self._min_runspaces, maximum) if min_runspaces is None else min_runspaces
        if maximum < 1:
            raise ArgumentError(f"max_runspaces must be at least 1, not {maximum}.")
        if not 0 <= minimum <= maximum:
            raise ArgumentError(f"min_runspaces must be between 0 and max_runspaces ({maximum}), not {minimum}.")
        self._max_runspaces, self._min_runspaces = maximum, minimum

    def start(self) -> None:
        """Binds the pool to the running event loop and starts the first threads."""
        self._loop = asyncio.get_running_loop()
        while len(self._threads) < self._min_runspaces:
            self._add_thread()

    async def run(self, script: Callable[[], Any]) -> Any:
        """Runs `script` in a thread, in the caller's context variables, and returns what it returns."""
        loop = self._loop
        assert loop is not None, "RunspacePool.start comes first"
        done: asyncio.Future[Any] = loop.create_future()
        self._running += 1
        if self._running > len(self._threads) and len(self._threads) < self._max_runspaces + self._waiting:
            self._add_thread()
        self._jobs.put((done, contextvars.copy_context(), script))
        return await done

    async def _wait(self, awaitable: Awaitable[Any]) -> Any:
        """Waits on behalf of a script, whose thread may be replaced meanwhile."""
        lent = False

        def lend() -> None:
            nonlocal lent
            lent = True
            self._waiting += 1
            if self._running > len(self._threads) and not self._closed:
                with suppress(RuntimeError):  # the system has no thread to spare: the scripts in line wait on
                    self._add_thread()

        timer = asyncio.get_running_loop().call_later(_SHORT_WAIT, lend)
        try:
            return await awaitable
        finally:
            timer.cancel()
            if lent:
                self._take_back()

    def _take_back(self) -> None:
        self._waiting -= 1
        if len(self._threads) > self._max_runspaces + self._waiting:
            self._threads.pop()
            self._jobs.put(None)

    def close(self) -> None:
        """Lets the threads end once the scripts that run have ended; a script that never ends holds up nobody."""
        self._closed = True
        for _ in self._threads:
            self._jobs.put(None)
        self._threads.clear()

    def _add_thread(self) -> None:
        thread = threading.Thread(target=self._work, name=f"runspace-{len(self._threads) + 1}", daemon=True)
        contextvars.Context().run(thread.start)  # it serves every request, so it inherits none
        self._threads.append(thread)

    def _work(self) -> None:
        loop = self._loop
        assert loop is not None
        while (job := self._jobs.get()) is not None:
            done, context, script = job
            result: Any = None
            error: BaseException | None = None
            try:
                if not done.cancelled():
                    with worker_loop(loop, self._wait):
                        result = context.run(script)
            except BaseException as raised:
                error = raised
            try:
                loop.call_soon_threadsafe(self._finish, done, result, error)
            except RuntimeError:
                return  # the loop was closed while the script ran: nobody waits for it any more
            del job, done, context, script, result, error  # nothing of a request outlives it here

    def _finish(self, done: asyncio.Future[Any], result: Any, error: BaseException | None) -> None:
        self._running -= 1
        if done.cancelled():
            return
        if error is None:
            done.set_result(result)
        elif isinstance(error, StopIteration):
            done.set_exception(RuntimeError("The script raised StopIteration."))
        else:
            done.set_exception(error)
