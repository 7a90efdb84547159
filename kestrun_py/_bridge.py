"""How code without `await` waits for something asynchronous.

An ``async def`` script runs in a greenlet of its own. When a helper that it calls has to wait, the helper switches
out of that greenlet, and the event loop runs other requests until the answer is there: what SQLAlchemy's
``ext.asyncio`` does for its lazy loads. A ``def`` script runs in a worker thread, and there waiting just blocks.

Either way the helper is written once, and is called without `await`.
"""

from __future__ import annotations

import asyncio
import sys
import threading
import types
from collections.abc import Awaitable, Callable, Coroutine, Generator
from typing import Any, TypeVar, cast

from greenlet import getcurrent, greenlet

from kestrun_py.errors import ContextError

__all__ = ["can_wait", "run_on_loop", "wait", "worker_loop"]

_T = TypeVar("_T")

#: The event loop that a worker thread serves while it runs a script; unset in every other thread.
_worker = threading.local()


def _current_task() -> asyncio.Task[Any] | None:
    # Only eager tasks (Python 3.12) run inside the greenlet of the task that created them.
    return asyncio.current_task() if sys.version_info >= (3, 12) else None


class _ScriptGreenlet(greenlet):
    """A greenlet that runs one ``async def`` script after the other, and the task that it runs one in."""

    task: asyncio.Task[Any] | None

    def run(self) -> None:
        """Runs each coroutine that is switched in; hands out what it waits for, and at its end a `_Done`."""
        handed_out: Any = None
        while True:
            assert self.parent is not None
            coroutine = self.parent.switch(handed_out)
            try:
                handed_out = _Done(_drive(coroutine), None)
            except BaseException as error:
                handed_out = _Done(None, error)
            del coroutine


class _Done:
    """The end of a script: its result, or what it raised."""

    __slots__ = ("error", "result")

    def __init__(self, result: Any, error: BaseException | None) -> None:
        self.result = result
        self.error = error


class _Idle(threading.local):
    """Greenlets that wait for their next script. A new one costs more than all the rest of a small request."""

    def __init__(self) -> None:
        self.greenlets: list[_ScriptGreenlet] = []


_idle = _Idle()


def _drive(steps: Any) -> Any:
    """Runs a coroutine inside a script's greenlet: what it waits for is handed to the event loop outside."""
    outside = getcurrent().parent
    assert outside is not None
    try:
        waiting_for = steps.send(None)
        while True:
            try:
                answer = outside.switch(waiting_for)
            except BaseException as error:
                waiting_for = steps.throw(error)
            else:
                waiting_for = steps.send(answer)
    except StopIteration as done:
        return done.value


@types.coroutine
def run_on_loop(coroutine: Coroutine[Any, Any, _T]) -> Generator[Any, Any, _T]:
    """Awaitable: runs a coroutine so that the code it calls may `wait`."""
    outside = getcurrent()
    if _idle.greenlets:
        script = _idle.greenlets.pop()
    else:
        script = _ScriptGreenlet()
        script.switch()
    script.parent = outside
    script.task = _current_task()
    # One context for both greenlets: what a script sets, its middleware sees, as in any coroutine.
    script.gr_context = outside.gr_context
    outcome = script.switch(coroutine)
    while type(outcome) is not _Done:
        try:
            answer = yield outcome
        except BaseException as error:
            outcome = script.throw(error)
        else:
            outcome = script.switch(answer)
    script.task = script.gr_context = None
    _idle.greenlets.append(script)
    failure, result = outcome.error, outcome.result
    outcome.error = outcome.result = None  # the greenlet holds on to it until its next script
    del outcome
    if failure is not None:
        try:
            raise failure
        finally:
            del failure  # a traceback that refers to itself is work for the garbage collector
    return cast(_T, result)


async def _as_coroutine(awaitable: Awaitable[_T]) -> _T:
    return await awaitable


class worker_loop:
    """Context manager: in this thread, `wait` runs awaitables on `loop` until the block ends.

    Args:
        loop: The event loop.
        waiter: A coroutine function that awaits an awaitable for this thread.
    """

    __slots__ = ("_loop", "_waiter")

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        waiter: Callable[[Awaitable[Any]], Coroutine[Any, Any, Any]] = _as_coroutine,
    ) -> None:
        self._loop = loop
        self._waiter = waiter

    def __enter__(self) -> None:
        _worker.loop, _worker.waiter = self._loop, self._waiter

    def __exit__(self, *_: object) -> None:
        _worker.loop = _worker.waiter = None


def can_wait() -> bool:
    """Whether the calling code runs directly in a script, and not in a task or thread that the script started."""
    script = getcurrent()
    if isinstance(script, _ScriptGreenlet):
        return script.task is _current_task()
    return getattr(_worker, "loop", None) is not None


def wait(awaitable: Awaitable[_T]) -> _T:
    """Waits for an awaitable from code without `await`, called by a route script.

    Raises:
        ContextError: The calling code is not (or not directly) a script.
    """
    if not can_wait():
        if isinstance(awaitable, types.CoroutineType):
            awaitable.close()
        raise ContextError(
            "Only a route script itself can wait without await, not a task or thread that it started: "
            "use await there, or wait before starting it."
        )
    if isinstance(getcurrent(), _ScriptGreenlet):
        steps = awaitable if isinstance(awaitable, types.CoroutineType) else awaitable.__await__()
        return cast(_T, _drive(steps))
    return cast(_T, asyncio.run_coroutine_threadsafe(_worker.waiter(awaitable), _worker.loop).result())
