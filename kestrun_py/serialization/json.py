"""JSON as Kestrun's ``Write-KrJsonResponse`` writes it: keys as given, two spaces of indent, nothing escaped."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping
from decimal import Decimal
from enum import Enum
from typing import Any, Final

import orjson

from kestrun_py.errors import ArgumentError

__all__ = ["to_json"]

_OPTIONS: Final = orjson.OPT_NON_STR_KEYS | orjson.OPT_UTC_Z
_SCALARS: Final = frozenset({str, int, float, bool, type(None)})


def to_json(value: Any, *, depth: int = 10, compress: bool = False) -> bytes:
    """Writes a value as JSON.

    Args:
        value: Anything made of JSON's types, dates, enums (as their values), dataclasses, mappings, sets and whatever
            else can be iterated, bytes (as numbers), Decimal, and objects with attributes. NaN and infinity are null.
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
            _plain(value),
            ensure_ascii=False,
            indent=None if compress else 2,
            separators=(",", ":") if compress else None,
        )
    except (TypeError, ValueError, RecursionError):
        raise ArgumentError(f"JSON cannot express the value: {error}.") from None
    return text.encode("utf-8", "replace")


def _plain(value: Any) -> Any:
    """The value made of JSON's own types, in the form in which orjson would write it."""
    if isinstance(value, (str, int)) and not isinstance(value, Enum):
        return value
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    try:
        return orjson.loads(orjson.dumps(value, option=_OPTIONS))
    except orjson.JSONEncodeError:
        return _plain(value.value if isinstance(value, Enum) else _default(value))


def _default(value: Any) -> Any:
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, (bytes, bytearray, memoryview)):
        return list(bytes(value))
    if isinstance(value, Decimal):
        return float(value)
    if isinstance(value, BaseException):
        return str(value)
    if isinstance(value, Iterable) and not isinstance(value, type):
        return list(value)
    if hasattr(value, "__dict__") and not callable(value):
        return {name: item for name, item in vars(value).items() if not name.startswith("_")}
    return str(value)


def _fits(value: Any, depth: int) -> bool:
    """Whether a value has at most `depth` levels of containers below it."""
    if isinstance(value, dict):
        items: Collection[Any] = value.values()
    elif isinstance(value, (list, tuple)):
        items = value
    elif type(value) not in _SCALARS and isinstance(value, Mapping):
        items = list(value.values())
    else:
        return True
    return depth >= 0 and (_SCALARS.issuperset(map(type, items)) or all(_fits(item, depth - 1) for item in items))


def _cut(value: Any, depth: int) -> Any:
    if not isinstance(value, (Mapping, list, tuple)):
        return value
    if depth < 0:
        return str(value)
    if isinstance(value, Mapping):
        return {key: _cut(item, depth - 1) for key, item in value.items()}
    return [_cut(item, depth - 1) for item in value]
