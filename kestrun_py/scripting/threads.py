"""Threads that a route script starts belong to its request, as its tasks do.

A task inherits the context variables of the code that creates it; a thread does so only from Python 3.14 on, where
it is an option. Here `threading.Thread.start` learns it, for threads started while a request is handled and only
for those: a thread that an executor starts serves whoever submits work later, so it must not belong to anybody.
"""

from __future__ import annotations

import contextvars
import sys
import threading
from concurrent.futures import thread as executor
from typing import Any, Final

from kestrun_py.http.context import active_context

__all__ = ["inherit_context"]

_POOL_WORKER: Final = getattr(executor, "_worker", None)
_MARK: Final = "_kestrun_py_inherits_context"


def inherit_context() -> None:
    """Makes threads that route scripts start inherit the script's context variables; repeated calls do nothing."""
    if getattr(sys.flags, "thread_inherit_context", False) or hasattr(threading.Thread.start, _MARK):
        return
    start = threading.Thread.start

    def start_with_context(thread: threading.Thread) -> None:
        """`threading.Thread.start`, in the context of the request that the caller handles."""
        if active_context() is not None and getattr(thread, "_target", None) is not _POOL_WORKER:
            run, context = thread.run, contextvars.copy_context()

            def run_in_context() -> Any:
                return context.run(run)

            thread.run = run_in_context  # type: ignore[method-assign]
        start(thread)

    setattr(start_with_context, _MARK, True)
    threading.Thread.start = start_with_context  # type: ignore[method-assign, assignment]
