"""Enum arguments: the member, or its .NET name as text in any case."""

from __future__ import annotations

from enum import Enum
from typing import TypeVar

from kestrun_py.errors import ArgumentError

__all__ = ["enum_text", "to_enum"]

E = TypeVar("E", bound=Enum)


def to_enum(kind: type[E], value: E | str, name: str) -> E:
    """Returns `value` as a member of `kind`; ``"SameAsRequest"``, ``"sameasrequest"`` and the member are one.

    Raises:
        ArgumentError: It is neither; the text lists the members.
    """
    if isinstance(value, kind):
        return value
    if isinstance(value, str):
        wanted = _folded(value)
        for member in kind:
            if _folded(member.name) == wanted:
                return member
    known = ", ".join(enum_text(member) for member in kind)
    raise ArgumentError(f"{name}: {value!r:.60} is not one of {known}.")


def enum_text(member: Enum) -> str:
    """The member's name as .NET writes it: ``SAME_AS_REQUEST`` is ``SameAsRequest``."""
    return "".join(part.capitalize() for part in member.name.split("_"))


def _folded(text: str) -> str:
    return text.strip().replace("_", "").casefold()
