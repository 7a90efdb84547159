"""JSON as Kestrun writes it: `to_json` as ``ConvertTo-Json`` has it, `to_web_json` as System.Text.Json."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Mapping
from decimal import Decimal
from enum import Enum
from typing import Any, Final

import orjson

from kestrun_py.conversion.moments import moment_text
from kestrun_py.errors import ArgumentError
from kestrun_py.serialization.plain import Plain, to_plain

__all__ = ["html_safe", "to_json", "to_web_json"]

_OPTIONS: Final = orjson.OPT_NON_STR_KEYS | orjson.OPT_UTC_Z | orjson.OPT_PASSTHROUGH_DATETIME
_SCALARS: Final = frozenset({str, int, float, bool, type(None)})
_UNSAFE: Final = re.compile(r"\\.|['<>&+`\x7f-\U0010ffff]")


def to_json(value: Any, *, depth: int = 10, compress: bool = False) -> bytes:
    """Writes a value as JSON: keys as given, two spaces of indent, only control characters, quotes and ``\\`` escaped.

    Args:
        value: Anything made of JSON's types, dates, spans of time (as text), enums (as their values), dataclasses,
            mappings, sets and whatever else can be iterated, bytes (as numbers), Decimal, and objects with attributes.
            NaN and infinity are null.
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


def to_web_json(value: Any, *, compress: bool = False) -> bytes:
    """Writes a value as ASP.NET Core's answers have it: keys in camel case, and ASCII that HTML may contain.

    Raises:
        ArgumentError: The value cannot be expressed.
    """
    return html_safe(to_json(_camel_cased(to_plain(value)), depth=100, compress=compress))


def html_safe(encoded: bytes) -> bytes:
    """JSON with ``\\uXXXX`` for quotes, ``<``, ``>``, ``&``, ``+``, the backtick and all that is not ASCII."""
    text = encoded.decode()
    return (_UNSAFE.sub(_escaped, text) if _UNSAFE.search(text) else text).encode()


def _escaped(found: re.Match[str]) -> str:
    if found[0][0] == "\\" and found[0] != '\\"':
        return found[0]
    units = found[0][-1].encode("utf-16-be")
    return "".join(f"\\u{units[index] << 8 | units[index + 1]:04X}" for index in range(0, len(units), 2))


def _camel_cased(value: Plain) -> Plain:
    if isinstance(value, dict):
        return {_camel_case(key): _camel_cased(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_camel_cased(item) for item in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _camel_case(name: str) -> str:
    """The name with its leading capitals in lower case, but for one that begins a word: ``urlPath`` of ``URLPath``."""
    capitals = len(name) - len(name.lstrip("ABCDEFGHIJKLMNOPQRSTUVWXYZ"))
    if 1 < capitals < len(name) and name[capitals].isalpha():
        capitals -= 1
    return name[:capitals].lower() + name[capitals:]


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
    if (text := moment_text(value)) is not None:
        return text
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
