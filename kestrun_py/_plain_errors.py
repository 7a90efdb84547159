"""Mistakes in a host script are shown as one line with their place, not as a traceback through this package."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable
from types import TracebackType
from typing import Any

from kestrun_py.errors import KestrunError

__all__ = ["own_frames", "show_errors_plainly", "with_place"]


def show_errors_plainly() -> None:
    """Has an uncaught KestrunError end the program with its message and place; others keep their traceback."""
    before: Callable[..., Any] = sys.excepthook

    def show(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        if isinstance(error, KestrunError):
            script = getattr(sys.modules.get("__main__"), "__file__", None)
            print(f"Error: {with_place(error, script)}", file=sys.stderr)
        else:
            before(kind, error, trace)

    sys.excepthook = show


def with_place(error: KestrunError, script: str | None) -> str:
    """Returns the message of an error, and the line of the script that led to it."""
    lines = [frame.lineno for frame in own_frames(error, script) if frame.filename == script]
    return f"{error} ({script}, line {lines[-1]})" if lines else str(error)


def own_frames(error: BaseException, script: str | None) -> traceback.StackSummary:
    """Returns the frames of an error from the script on, without those of whatever runs the script."""
    frames = traceback.extract_tb(error.__traceback__)
    first = next((index for index, frame in enumerate(frames) if frame.filename == script), len(frames))
    return traceback.StackSummary.from_list(frames[first:])
