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
from concurrent.futures import Future
from typing import Any, Final, TypeVar

from greenlet import getcurrent, greenlet

from kestrun_py.errors import ContextError

__all__ = ["can_wait", "run_on_loop", "runs_on_loop", "wait", "worker_loop"]

_T = TypeVar("_T")

#: The event loop that a worker thread serves; unset in every other thread.
_worker = threading.local()


# Eager tasks (Python 3.12) run inside the greenlet of the task that created them.
_EAGER_TASKS: Final = sys.version_info >= (3, 12)

_ENDED: Final = object()
_MOST_IDLE: Final = 256  # greenlets that are kept


class _ScriptGreenlet(greenlet):
    """A greenlet that runs one ``async def`` script after the other.

    Attributes:
        task: The task that it runs a script in.
        result: What the script that has just ended returned.
        failure: What it raised instead.
    """

    task: asyncio.Task[Any] | None = None
    result: Any = None
    failure: BaseException | None = None

    def __init__(self) -> None:
        super().__init__(_serve_scripts)  # no method: its frame would hold on to a greenlet that nobody wants any more


def _serve_scripts() -> None:
    _drive(_await_scripts())


async def _await_scripts() -> None:
    """Awaits each coroutine that is switched in, and hands out `_ENDED` at its end."""
    while True:
        outside = getcurrent().parent
        assert outside is not None
        coroutine = outside.switch(_ENDED)
        try:
            result = await coroutine
            if result is not None:
                _this_script().result = result
                del result
        except BaseException as error:
            _this_script().failure = error
        del coroutine


def _this_script() -> _ScriptGreenlet:
    script = getcurrent()
    assert isinstance(script, _ScriptGreenlet)
    return script


class _Idle(threading.local):
    """Greenlets that wait for their next script. A new one costs more than all the rest of a small request."""

    def __init__(self) -> None:
        self.greenlets: list[_ScriptGreenlet] = []


_idle: Final = _Idle()


def _drive(steps: Any) -> Any:
    """Runs a coroutine inside a script's greenlet: what it waits for is handed to the event loop outside."""
    try:
        waiting_for = steps.send(None)
        outside = getcurrent().parent
        assert outside is not None
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
    idle = _idle.greenlets
    if idle:
        script = idle.pop()
    else:
        script = _ScriptGreenlet()
        script.switch()
    script.parent = outside
    # One context for both greenlets: what a script sets, its middleware sees, as in any coroutine.
    script.gr_context = outside.gr_context
    if _EAGER_TASKS:
        script.task = asyncio.current_task()
    handed_out = script.switch(coroutine)
    while handed_out is not _ENDED:
        try:
            answer = yield handed_out
        except BaseException as error:
            handed_out = script.throw(error)
        else:
            handed_out = script.switch(answer)
    script.gr_context = None
    result: _T = script.result
    failure = script.failure
    if result is not None or failure is not None or _EAGER_TASKS:
        script.result = script.failure = script.task = None  # it keeps nothing until its next script
    if len(idle) < _MOST_IDLE:
        idle.append(script)
    if failure is not None:
        try:
            raise failure
        finally:
            del failure  # a traceback that refers to itself is work for the garbage collector
    return result


async def _as_coroutine(awaitable: Awaitable[_T]) -> _T:
    return await awaitable


class worker_loop:
    """Context manager: in this thread, `wait` runs awaitables on `loop` until the block ends.

    Args:
        loop: The event loop.
        result: Waits for what runs there, and returns its result.
    """

    __slots__ = ("_loop", "_result")

    def __init__(self, loop: asyncio.AbstractEventLoop, result: Callable[[Future[Any]], Any] = Future.result) -> None:
        self._loop = loop
        self._result = result

    def __enter__(self) -> None:
        _worker.loop, _worker.result = self._loop, self._result

    def __exit__(self, *_: object) -> None:
        _worker.loop = _worker.result = None


def runs_on_loop() -> bool:
    """Whether the calling code runs directly in an ``async def`` script."""
    script = getcurrent()
    return type(script) is _ScriptGreenlet and (not _EAGER_TASKS or script.task is asyncio.current_task())


def can_wait() -> bool:
    """Whether the calling code runs directly in a script, and not in a task or thread that the script started."""
    return runs_on_loop() or getattr(_worker, "loop", None) is not None


def wait(awaitable: Awaitable[_T]) -> _T:
    """Waits for an awaitable from code without `await`, called by a route script.

    Raises:
        ContextError: The calling code is not (or not directly) a script.
    """
    result: _T
    if runs_on_loop():
        result = _drive(awaitable if type(awaitable) is types.CoroutineType else awaitable.__await__())
        return result
    loop = getattr(_worker, "loop", None)
    if loop is not None:
        result = _worker.result(asyncio.run_coroutine_threadsafe(_as_coroutine(awaitable), loop))
        return result
    if isinstance(awaitable, types.CoroutineType):
        awaitable.close()
    raise ContextError(
        "Only a route script itself can wait without await, not a task or thread that it started: "
        "use await there, or wait before starting it."
    )
