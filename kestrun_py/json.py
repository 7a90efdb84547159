"""JSON as Kestrun's ``Write-KrJsonResponse`` writes it: keys as given, two spaces of indent, nothing escaped."""

from __future__ import annotations

import json
from collections.abc import Mapping, Set
from decimal import Decimal
from typing import Any, Final

import orjson

from kestrun_py.errors import ArgumentError

__all__ = ["to_json"]

_OPTIONS: Final = orjson.OPT_NON_STR_KEYS
_SCALARS: Final = frozenset({str, int, float, bool, type(None)})


def to_json(value: Any, *, depth: int = 10, compress: bool = False) -> bytes:
    """Writes a value as JSON.

    Args:
        value: Anything made of JSON's types, dates, enums (as their values), dataclasses, sets, bytes (as numbers),
            Decimal, mappings and objects with attributes.
        depth: How many levels of containers to write; what lies deeper is written as text, as ConvertTo-Json does.
        compress: Whether to leave out indentation.

    Raises:
        ArgumentError: `depth` is not 0 to 100, or the value cannot be expressed.
    """
    if not 0 <= depth <= 100:
        raise ArgumentError(f"depth must be between 0 and 100, not {depth}.")
    if not _fits(value, depth):
        value = _cut(value, depth)
    options = _OPTIONS if compress else _OPTIONS | orjson.OPT_INDENT_2
    try:
        return orjson.dumps(value, _default, options)
    except orjson.JSONEncodeError as error:
        return _with_standard_library(value, compress, error)


def _with_standard_library(value: Any, compress: bool, error: Exception) -> bytes:
    """For what orjson refuses and JSON allows: integers of more than 64 bits, unpaired surrogates."""
    try:
        text = json.dumps(
            value,
            ensure_ascii=False,
            indent=None if compress else 2,
            separators=(",", ":") if compress else None,
            default=_default,
        )
    except (TypeError, ValueError, RecursionError):
        raise ArgumentError(f"JSON cannot express the value: {error}.") from None
    return text.encode("utf-8", "replace")


def _default(value: Any) -> Any:
    if isinstance(value, (Set, tuple)):
        return list(value)
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, (bytes, bytearray, memoryview)):
        return list(bytes(value))
    if isinstance(value, Decimal):
        return float(value)
    if isinstance(value, BaseException):
        return str(value)
    if hasattr(value, "__dict__") and not callable(value):
        return {name: item for name, item in vars(value).items() if not name.startswith("_")}
    return str(value)


def _fits(value: Any, depth: int) -> bool:
    """Whether a value has at most `depth` levels of containers below it."""
    if type(value) in _SCALARS:
        return True
    if isinstance(value, Mapping):
        return depth >= 0 and all(_fits(item, depth - 1) for item in value.values())
    if isinstance(value, (list, tuple)):
        return depth >= 0 and all(_fits(item, depth - 1) for item in value)
    return True


def _cut(value: Any, depth: int) -> Any:
    if not isinstance(value, (Mapping, list, tuple)):
        return value
    if depth < 0:
        return str(value)
    if isinstance(value, Mapping):
        return {key: _cut(item, depth - 1) for key, item in value.items()}
    return [_cut(item, depth - 1) for item in value]
