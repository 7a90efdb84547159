"""How code without `await` waits for something asynchronous.

An ``async def`` script runs in a greenlet of its own. When a helper that it calls has to wait, the helper switches
out of that greenlet, and the event loop runs other requests until the answer is there: what SQLAlchemy's
``ext.asyncio`` does for its lazy loads. A ``def`` script runs in a worker thread, and there waiting just blocks.

Either way the helper is written once, and is called without `await`.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Coroutine, Generator
from typing import Any, TypeVar, cast

from greenlet import getcurrent, greenlet

from kestrun_py.errors import ContextError

__all__ = ["can_wait", "run_on_loop", "wait", "worker_loop"]

_T = TypeVar("_T")

#: The event loop that a worker thread serves while it runs a script; unset in every other thread.
_worker = threading.local()


class _ScriptGreenlet(greenlet):
    """The greenlet of one ``async def`` script, and the task it runs in."""

    task: asyncio.Task[Any] | None


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


class run_on_loop(Awaitable[_T]):
    """Awaitable: runs a coroutine so that the code it calls may `wait`."""

    __slots__ = ("_coroutine",)

    def __init__(self, coroutine: Coroutine[Any, Any, _T]) -> None:
        self._coroutine = coroutine

    def __await__(self) -> Generator[Any, Any, _T]:
        script = _ScriptGreenlet(_drive)
        script.task = asyncio.current_task()
        # One context for both greenlets: what a script sets, its middleware sees, as in any coroutine.
        script.gr_context = getcurrent().gr_context
        outcome = script.switch(self._coroutine)
        while not script.dead:
            try:
                answer = yield outcome
            except BaseException as error:
                outcome = script.throw(error)
            else:
                outcome = script.switch(answer)
        return cast(_T, outcome)


class worker_loop:
    """Context manager: in this thread, `wait` runs awaitables on `loop` until the block ends."""

    __slots__ = ("_loop",)

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop

    def __enter__(self) -> None:
        _worker.loop = self._loop

    def __exit__(self, *_: object) -> None:
        _worker.loop = None


def can_wait() -> bool:
    """Whether the calling code runs directly in a script, and not in a task or thread that the script started."""
    script = getcurrent()
    if isinstance(script, _ScriptGreenlet):
        return script.task is asyncio.current_task()
    return getattr(_worker, "loop", None) is not None


def wait(awaitable: Awaitable[_T]) -> _T:
    """Waits for an awaitable from code without `await`, called by a route script.

    Raises:
        ContextError: The calling code is not (or not directly) a script.
    """
    if not can_wait():
        if isinstance(awaitable, Coroutine):
            awaitable.close()
        raise ContextError(
            "Only a route script itself can wait without await, not a task or thread that it started: "
            "use await there, or wait before starting it."
        )
    if isinstance(getcurrent(), _ScriptGreenlet):
        steps = awaitable if isinstance(awaitable, Coroutine) else awaitable.__await__()
        return cast(_T, _drive(steps))
    return asyncio.run_coroutine_threadsafe(_as_coroutine(awaitable), _worker.loop).result()


async def _as_coroutine(awaitable: Awaitable[_T]) -> _T:
    return await awaitable
