"""Mistakes in a host script are shown as one line with their place, not as a traceback through this package."""

from __future__ import annotations

import os
import re
import sys
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Any, Final

from kestrun_py.counterparts.mistakes import (
    cmdlet_functions,
    missing_cmdlet,
    missing_host_verb,
    missing_parameter,
)
from kestrun_py.errors import KestrunError
from kestrun_py.host import KestrunHost

__all__ = ["own_frames", "plain_error", "show_errors_plainly"]

_OUR_FOLDERS: Final = tuple(f"{Path(__file__).parents[1] / package}{os.sep}" for package in ("kestrun_py", "cmdlets"))
_NOT_IMPORTED: Final = re.compile(r"cannot import name '(\w+)' from 'cmdlets")
_NOT_BOUND: Final = re.compile(r"(?:(\w+)\.)?(\w+)\(\) (?:got an unexpected keyword argument '(\w+)')?")


def show_errors_plainly() -> None:
    """Has an uncaught error that `plain_error` knows end the program with one line; others keep their traceback."""
    before: Callable[..., Any] = sys.excepthook

    def show(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        text = plain_error(error, getattr(sys.modules.get("__main__"), "__file__", None))
        if text is None:
            before(kind, error, trace)
        else:
            print(f"Error: {text}", file=sys.stderr)

    sys.excepthook = show


def plain_error(error: BaseException, script: str | None) -> str | None:
    """Returns the one line that says what a script has done wrong, with its place, or None for other errors.

    Those are the errors of this package, and names and arguments that no cmdlet and no verb of the host has.

    Args:
        error: What the script has raised.
        script: The script's file, as its frames name it.
    """
    if isinstance(error, KestrunError):
        lines = [frame.lineno for frame in own_frames(error, script) if frame.filename == script]
        return f"{error} ({script}, line {lines[-1]})" if lines else str(error)
    frames = traceback.extract_tb(error.__traceback__)
    if not frames or frames[-1].filename.startswith(_OUR_FOLDERS):
        return None
    text = _mistake(error)
    return f"{text} ({frames[-1].filename}, line {frames[-1].lineno})" if text is not None else None


def own_frames(error: BaseException, script: str | None) -> traceback.StackSummary:
    """Returns the frames of an error from the script on, without those of whatever runs the script."""
    frames = traceback.extract_tb(error.__traceback__)
    first = next((index for index, frame in enumerate(frames) if frame.filename == script), len(frames))
    return traceback.StackSummary.from_list(frames[first:])


def _mistake(error: BaseException) -> str | None:
    """What to say about a cmdlet, a verb or a parameter that does not exist; None if the error is another one."""
    match error:
        case UnboundLocalError():
            return None
        case NameError(name=str(name)):
            return missing_cmdlet(name)
        case ImportError() if found := _NOT_IMPORTED.search(str(error)):
            return missing_cmdlet(found[1])
        case AttributeError(obj=ModuleType(__name__="cmdlets"), name=str(name)):
            return missing_cmdlet(name)
        case AttributeError(obj=KestrunHost(), name=str(name)):
            return missing_host_verb(KestrunHost, name)
        case TypeError() if found := _NOT_BOUND.match(str(error)):
            return _wrong_call(found[1], found[2], found[3], str(error))
    return None


def _wrong_call(owner: str | None, name: str, keyword: str | None, text: str) -> str | None:
    """What to say about a call whose arguments do not fit, if it calls a cmdlet or a verb of the host."""
    functions = cmdlet_functions() if owner is None else _verbs(owner)
    if name not in functions:
        return None
    return f"{text}." if keyword is None else missing_parameter(functions[name], keyword)


def _verbs(owner: str) -> Mapping[str, Callable[..., Any]]:
    """The methods of the class that has this name, if it is the host's or one of its bases."""
    return next((vars(base) for base in KestrunHost.__mro__ if base.__name__ == owner), {})
