"""``application/x-www-form-urlencoded``, as Kestrun's ``Write-KrFormUrlEncodedResponse`` writes it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any
from urllib.parse import urlencode

from kestrun_py.errors import ArgumentError
from kestrun_py.serialization.plain import is_scalar, members_of

__all__ = ["to_form"]


def to_form(value: Any) -> bytes:
    """Writes the members of a value as a form; None is empty, a list is one field for each item.

    Raises:
        ArgumentError: The value has no members.
    """
    members = members_of(value)
    if members is None:
        raise ArgumentError(f"A form is written from a mapping or an object, not from {type(value).__name__}.")
    return urlencode([(str(name), text) for name, item in members.items() for text in _texts(item)]).encode()


def _texts(value: Any) -> Iterable[str]:
    if value is None:
        return [""]
    if is_scalar(value) or not isinstance(value, Iterable) or members_of(value) is not None:
        return [str(value)]
    return [str(item) for item in value]
