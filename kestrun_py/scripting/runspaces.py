"""The worker threads that run ``def`` scripts (Kestrun's runspace pool)."""

from __future__ import annotations

import asyncio
import contextvars
import os
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import CancelledError, Future
from contextlib import suppress
from queue import SimpleQueue
from typing import Any, Final

from kestrun_py.concurrency.bridge import worker_loop
from kestrun_py.concurrency.coalescing import Gathered
from kestrun_py.errors import ArgumentError, InvalidOperationError

__all__ = ["RunspacePool"]

_Job = tuple[asyncio.Future[Any], contextvars.Context, Callable[[], Any]]

_SHORT_WAIT: Final = 0.01  # seconds that a script may wait before it lends its place
_MOST_LENT: Final = 256  # scripts that lend their place to new ones at a time, each of which keeps a thread
_BRIEF: Final = 0.0002  # seconds; scripts that take less on average share a thread
_MOST_TURNS: Final = 4  # of the event loop that a script waits for others to be handed over with
_LONGEST: Final = 0.001  # seconds that one script counts for in the average
_PATIENCE: Final = 0.002  # seconds after which it is looked whether a script holds up others


class _Runspace(threading.Thread):
    """A worker thread and what it is handed: scripts, and None at its end."""

    def __init__(self, work: Callable[[_Runspace], None], number: int) -> None:
        super().__init__(target=work, args=(self,), name=f"runspace-{number}", daemon=True)
        self.jobs: SimpleQueue[_Job | None] = SimpleQueue()


class RunspacePool:
    """At most ``max_runspaces`` scripts run at a time, each in a thread; more than that wait in line, without limit.

    A script that waits for the event loop (for the lock of a session, for the body of a request) lends its place to
    the next in line, and takes it back before it goes on. So nothing that is waited for can bring every ``def`` route
    to a halt. Each place lent is a thread kept, so beyond a number of them only those get one that want theirs back.

    What costs is to switch between threads. So the scripts of one turn of the event loop are handed over together;
    scripts that are over in no time share one thread, as long as none of them holds up the others; and the loop is told
    of them together.

    It belongs to one event loop. The standard library's executor would do, at a multiple of the cost per script: it
    wakes a thread for each, and the loop through two futures and a condition variable.
    """

    def __init__(self) -> None:
        self._max_runspaces = 2 * (os.cpu_count() or 1)
        self._min_runspaces = 1
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closed = False
        self._lock = threading.Lock()  # of what follows
        self._threads: set[_Runspace] = set()
        self._idle: list[_Runspace] = []
        self._places = 0  # that no script has
        self._lent = 0
        self._line: deque[_Job] = deque()
        self._returning: deque[threading.Lock] = deque()  # scripts that want their place back; locked until they get it
        # How long scripts take, and how many have ended.
        self._average = 0.0
        self._count = 0
        # Ended scripts that the loop has not heard of, and whether it was told to listen.
        self._ended: deque[tuple[asyncio.Future[Any], Any, BaseException | None]] = deque()
        self._told = False
        # Of the event loop alone: what it has seen when it looked last.
        self._seen = 0
        self._watch: asyncio.TimerHandle | None = None

    def resize(self, max_runspaces: int | None = None, min_runspaces: int | None = None) -> None:
        """Sets the bounds, before the pool starts.

        Args:
            max_runspaces: The most scripts that run at a time; 2 x processors if never set, as in Kestrun.
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
        self._starting = Gathered(self._loop, self._start_scripts, _MOST_TURNS)
        self._places = self._max_runspaces
        while len(self._threads) < self._min_runspaces:
            self._idle.append(self._new_thread())

    def close(self) -> None:
        """Lets the threads end once the scripts that run have ended; a script that never ends holds up nobody."""
        with self._lock:
            self._closed = True
            for thread in self._idle:
                thread.jobs.put(None)
            line, self._line = self._line, deque()
        for done, _, _ in line:
            done.cancel()
        if self._watch is not None:
            self._watch.cancel()

    async def run(self, script: Callable[[], Any]) -> Any:
        """Runs `script` in a thread, in the caller's context variables, and returns what it returns.

        Raises:
            InvalidOperationError: The pool was closed.
        """
        loop = self._loop
        assert loop is not None, "RunspacePool.start comes first"
        if self._closed:
            raise InvalidOperationError("The host has stopped; it runs no more scripts.")
        done: asyncio.Future[Any] = loop.create_future()
        self._line.append((done, contextvars.copy_context(), script))
        self._starting.soon()
        return await done

    # Places and threads; the caller holds the lock

    def _hand_over(self) -> bool:
        """Gives the next in line a place and a thread, if there is one."""
        if not self._line or not self._places or self._closed or self._lent >= _MOST_LENT:
            return False
        if (thread := self._free_thread()) is None:
            return False
        self._places -= 1
        thread.jobs.put(self._line.popleft())
        return True

    def _pass_on(self) -> None:
        """Gives a place that was given up to whoever has waited for one longest."""
        if self._returning:
            self._returning.popleft().release()
            return
        self._places += 1
        self._hand_over()

    def _free_thread(self) -> _Runspace | None:
        if self._idle:
            return self._idle.pop()
        try:
            return self._new_thread()
        except RuntimeError:  # the system has none to spare: the scripts in line wait on
            return None

    def _new_thread(self) -> _Runspace:
        thread = _Runspace(self._work, len(self._threads) + 1)
        contextvars.Context().run(thread.start)  # it serves every request, so it inherits none
        self._threads.add(thread)
        return thread

    # On the event loop

    def _start_scripts(self) -> None:
        """Hands over what is in line; brief scripts wait for the thread that runs already."""
        with self._lock:
            while (self._average >= _BRIEF or self._places == self._max_runspaces) and self._hand_over():
                pass
        if self._watch is None:
            self._look_again()

    def _look_again(self) -> None:
        assert self._loop is not None
        self._seen = self._count
        self._watch = self._loop.call_later(_PATIENCE, self._look_after)

    def _look_after(self) -> None:
        """Sees to it that a script that takes its time holds up neither those in line nor those that have ended."""
        self._watch = None
        self._deliver()
        if not self._line or self._closed:
            return
        if self._count == self._seen:
            with self._lock:
                self._hand_over()
        self._look_again()

    def _deliver(self) -> None:
        """Tells those who wait for scripts how they ended."""
        self._told = False
        while self._ended:
            done, result, error = self._ended.popleft()
            if done.cancelled():
                continue
            if error is None:
                done.set_result(result)
            elif isinstance(error, StopIteration):
                done.set_exception(RuntimeError("The script raised StopIteration."))
            else:
                done.set_exception(error)

    # In the threads

    def _work(self, thread: _Runspace) -> None:
        assert self._loop is not None
        with worker_loop(self._loop, self._wait):
            while (job := thread.jobs.get()) is not None:
                while job is not None:
                    self._run(job)
                    job = self._next(thread)
                    if job is None or self._average >= _BRIEF:
                        self._tell()
                if self._closed or thread not in self._threads:
                    return

    def _run(self, job: _Job) -> None:
        done, context, script = job
        result: Any = None
        error: BaseException | None = None
        began = time.perf_counter()
        if not done.cancelled():
            try:
                result = context.run(script)
            except BaseException as raised:
                error = raised
        self._average += (min(time.perf_counter() - began, _LONGEST) - self._average) / 8
        self._count += 1
        self._ended.append((done, result, error))

    def _tell(self) -> None:
        if not self._told:
            self._told = True
            assert self._loop is not None
            with suppress(RuntimeError):  # the loop was closed while the script ran: nobody waits for it any more
                self._loop.call_soon_threadsafe(self._deliver)

    def _next(self, thread: _Runspace) -> _Job | None:
        """What a thread does next with its place: None if it is to wait, or to end."""
        with self._lock:
            if self._line and not self._returning and not self._closed:
                return self._line.popleft()
            if self._closed or len(self._idle) >= self._max_runspaces:
                self._threads.discard(thread)
            else:
                self._idle.append(thread)
            self._pass_on()
        return None

    def _wait(self, awaited: Future[Any]) -> Any:
        """Waits on behalf of a script, which lends its place if that takes long."""
        with suppress(CancelledError):  # the result says so as well
            try:
                awaited.exception(_SHORT_WAIT)
            except TimeoutError:
                self._lend()
                try:
                    awaited.exception()
                finally:
                    self._take_back()
        return awaited.result()

    def _lend(self) -> None:
        with self._lock:
            self._lent += 1
            self._pass_on()

    def _take_back(self) -> None:
        with self._lock:
            self._lent -= 1
            if self._places:
                self._places -= 1
                self._hand_over()  # there may be places left that nobody could get
                return
            turn = threading.Lock()
            turn.acquire()
            self._returning.append(turn)
        turn.acquire()
