"""PowerShell's ``A | B`` for cmdlets whose pipeline input is mandatory."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Generic, TypeVar

from cmdlets._arguments import MISSING
from kestrun_py.errors import ArgumentError

__all__ = ["Pending", "pipe"]

T = TypeVar("T")
R = TypeVar("R")


class Pending(Generic[T, R]):
    """A cmdlet that waits for its pipeline input: ``value | pending`` runs it."""

    def __init__(self, cmdlet: str, kind: type[T], call: Callable[[T], R]) -> None:
        self._cmdlet = cmdlet
        self._kind = kind
        self._kind_name = "value" if kind is object else kind.__name__
        self._call = call
        self._ran = False

    def __ror__(self, piped: T) -> R:
        self._ran = True
        if not isinstance(piped, self._kind):
            raise ArgumentError(
                f"{self._cmdlet} takes a {self._kind_name} from the pipe, not a {type(piped).__name__}."
            )
        return self._call(piped)

    def __del__(self) -> None:
        # as with a coroutine that nobody awaits: without this the call would silently do nothing
        if not self._ran:
            warnings.warn(
                f"{self._cmdlet} did nothing: pipe a {self._kind_name} into it.",
                RuntimeWarning,
                stacklevel=2,
            )


def pipe(cmdlet: str, kind: type[T], piped: T, call: Callable[[T], R]) -> R | Pending[T, R]:
    """Makes a call with its pipeline input, or lets it wait for that.

    Args:
        cmdlet: The cmdlet's name, for messages.
        kind: The type of the pipeline input.
        piped: The pipeline input, or `MISSING` if it was not given as an argument.
        call: What to do with it.
    """
    pending = Pending(cmdlet, kind, call)
    return pending if piped is MISSING else pending.__ror__(piped)
