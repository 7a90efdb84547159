"""How cmdlets take their arguments: mandatory text, aliases, a mandatory value that may come through the pipe."""

from __future__ import annotations

from typing import Any, Final, TypeVar

from kestrun_py.errors import ArgumentError

__all__ = ["MISSING", "alias", "checked_text", "mandatory_text"]

T = TypeVar("T")


class _Missing:
    def __repr__(self) -> str:
        return "MISSING"


MISSING: Final[Any] = _Missing()
"""The default of a parameter for which None is no choice: a mandatory one that may be piped in, an alias."""


def checked_text(value: str, name: str) -> str:
    """Returns a text that is a value, so that it may be empty; PowerShell refuses an empty mandatory text.

    Raises:
        ArgumentError: It is not text.
    """
    if not isinstance(value, str):
        raise ArgumentError(f"{name} must be text, not {type(value).__name__}.")
    return value


def mandatory_text(value: str, name: str) -> str:
    """Returns a text that is a key or a name; as in PowerShell it may not be empty.

    Raises:
        ArgumentError: It is empty, or not text.
    """
    if not checked_text(value, name):
        raise ArgumentError(f"Cannot bind argument to parameter '{name}' because it is an empty string.")
    return value


def alias(value: T, default: T, name: str, **others: T) -> T:
    """Returns the value of a parameter that has several names; `MISSING` is the default of the others.

    Args:
        value: What was given under its first name.
        default: Its default.
        name: Its first name.
        others: What was given under its other names.

    Raises:
        ArgumentError: More than one of the names was used.
    """
    given = {} if value is default or value == default else {name: value}
    given |= {other: each for other, each in others.items() if each is not MISSING}
    if len(given) > 1:
        raise ArgumentError(f"{' and '.join(given)} are one parameter; give one of them.")
    return next(iter(given.values()), value)
