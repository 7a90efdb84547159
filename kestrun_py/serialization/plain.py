"""Values of any class as dictionaries, lists and scalars, for the writers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import fields, is_dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from typing import Any, Final, TypeAlias
from uuid import UUID

from kestrun_py.errors import ArgumentError

__all__ = ["Plain", "is_scalar", "members_of", "to_plain"]

Plain: TypeAlias = Any
"""A dictionary with text keys, a list, or a scalar."""

_SCALARS: Final = (str, int, float, bytes, datetime, date, time, timedelta, Decimal, UUID, type(None))
_MAX_DEPTH: Final = 100


def is_scalar(value: object) -> bool:
    """Whether the writers take a value as one piece."""
    return isinstance(value, _SCALARS)


def to_plain(value: Any) -> Plain:
    """Makes a value of dictionaries, lists and scalars; an enum becomes its name.

    Raises:
        ArgumentError: It is nested more than 100 levels deep, or contains itself.
    """
    return _to_plain(value, _MAX_DEPTH)


def _to_plain(value: Any, depth: int) -> Plain:
    if isinstance(value, Enum):
        return value.name
    if isinstance(value, bytearray | memoryview):
        return bytes(value)
    if isinstance(value, _SCALARS):
        return value
    if depth < 0:
        raise ArgumentError(f"The value is nested more than {_MAX_DEPTH} levels deep, or contains itself.")
    members = members_of(value)
    if members is not None:
        return {str(name): _to_plain(item, depth - 1) for name, item in members.items()}
    if isinstance(value, Iterable):
        return [_to_plain(item, depth - 1) for item in value]
    return str(value)


def members_of(value: Any) -> Mapping[Any, Any] | None:
    """Returns the members of a mapping, a data class or an object with attributes; None for anything else."""
    if isinstance(value, Mapping):
        return value
    if isinstance(value, type | BaseException) or callable(value):
        return None
    if is_dataclass(value):
        return {field.name: getattr(value, field.name) for field in fields(value)}
    if not isinstance(value, Iterable) and hasattr(value, "__dict__"):
        return {name: item for name, item in vars(value).items() if not name.startswith("_")}
    return None
