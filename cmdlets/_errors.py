"""A script that is run by ``python script.py`` shows a mistake in it as one line, as the `kestrun` command does."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import TracebackType
from typing import Any

from kestrun_py.errors import KestrunError

__all__ = ["show_errors_plainly"]


def show_errors_plainly() -> None:
    """Has an uncaught KestrunError end the program with its message alone; other exceptions keep their traceback."""
    before: Callable[..., Any] = sys.excepthook

    def show(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        if isinstance(error, KestrunError):
            print(f"Error: {error}", file=sys.stderr)
        else:
            before(kind, error, trace)

    sys.excepthook = show
