"""XML as Kestrun's ``Write-KrXmlResponse`` writes it: members as elements, two spaces of indent, no declaration."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import date, datetime, time, timedelta
from html import escape
from typing import Any, Final

from kestrun_py.conversion.moments import date_text, iso_duration
from kestrun_py.serialization.plain import Plain, to_plain

__all__ = ["to_xml"]

_SCHEMA: Final = "http://www.w3.org/2001/XMLSchema-instance"
_MAX_DEPTH: Final = 32
_NOT_IN_NAMES: Final = re.compile(
    r"[^\w.-]|[\x80-\xbf\xd7\xf7\u02ff-\u036f\u037e\u2000-\u2bff\u2ff0-\u3004\ud800-\uf8ff\ufe00-\uffff]"
)
_NOT_XML: Final = re.compile("[\0-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")


def to_xml(value: Any, *, root: str = "Response", compress: bool = False) -> bytes:
    """Writes a value as XML.

    The items of a list are ``<Item>`` elements. None is an empty element with ``nil="true"``. What lies more than 32
    levels deep is left out, and its element says so. Characters that XML cannot hold become U+FFFD.

    Args:
        value: Anything made of mappings, lists, data classes, objects and scalars.
        root: The name of the root element.
        compress: Whether to leave out line breaks and indentation.

    Raises:
        ArgumentError: The value contains itself.
    """
    lines = _element(root, to_plain(value), 1)
    if compress:
        return "".join(line.lstrip(" ") for line in lines).encode()
    return "\n".join(lines).encode()


def _element(name: str, value: Plain, depth: int) -> Iterator[str]:
    indent, name = "  " * (depth - 1), _element_name(name)
    if value is None:
        yield f'{indent}<{name} p{depth}:nil="true" xmlns:p{depth}="{_SCHEMA}" />'
    elif not isinstance(value, dict | list):
        yield f"{indent}<{name}>{_text(value)}</{name}>"
    elif not value:
        yield f"{indent}<{name} />"
    elif depth > _MAX_DEPTH:
        yield f'{indent}<{name} warning="MaxDepthExceeded" />'
    else:
        yield f"{indent}<{name}>"
        for key, item in value.items() if isinstance(value, dict) else (("Item", item) for item in value):
            yield from _element(key, item, depth + 1)
        yield f"{indent}</{name}>"


def _element_name(name: str) -> str:
    clean = _NOT_IN_NAMES.sub("_", name) or "Element"
    return clean if clean[0].isalpha() or clean[0] == "_" else f"_{clean}"


def _text(value: Plain) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, datetime | date | time):
        return date_text(value)
    if isinstance(value, timedelta):
        return iso_duration(value)
    if isinstance(value, bytes):
        return value.hex()
    return escape(_NOT_XML.sub("\ufffd", str(value)), quote=False)
