"""Serilog's message templates: text with ``{Name}``, ``{@Obj}``, ``{Value,8:000}`` and ``{{``."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, fields, is_dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from functools import lru_cache
from typing import Any

from kestrun_py.conversion.enums import enum_text
from kestrun_py.logging.formats import format_value

__all__ = ["RESERVED", "Hole", "bind", "capture", "parse_template", "render", "render_value"]

_HOLE = re.compile(r"\{\{|\}\}|\{([@$]?)([A-Za-z0-9_]+)(?:,(-?[0-9]{1,3}))?(?::([^{}]*))?\}", re.ASCII)
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029]")
_PLAIN = (bool, int, float, str, type(None))
_DEPTH = 10
RESERVED = frozenset(
    (
        *("event", "message_template", "timestamp", "level", "logger"),
        *("exc_info", "exception", "stack_info", "method_name", "self"),
    )
)
"""The keys that structlog and this package give a record."""
_BYTES_SHOWN = 1024


@dataclass(frozen=True, slots=True)
class Hole:
    """One ``{...}`` of a template.

    Attributes:
        text: As written, braces included.
        name: The property's name, or its index.
        operator: ``@`` takes the object apart, ``$`` takes its text, else empty.
        width: Minimum width; negative aligns left; 0 is none.
        format: The format string, or empty.
    """

    text: str
    name: str
    operator: str
    width: int
    format: str

    @property
    def key(self) -> str:
        """The name under which the value is kept."""
        return f"{self.name}_" if self.name in RESERVED else self.name

    def aligned(self, text: str) -> str:
        """Pads `text` to the hole's width."""
        return text.rjust(self.width) if self.width >= 0 else text.ljust(-self.width)


def parse_template(template: str) -> tuple[str | Hole, ...]:
    """Splits a template into text and holes; what is no well-formed hole is text."""
    # a long template is most likely text that was put together by the caller, never to come again
    return _parse_cached(template) if len(template) <= 500 else _parse(template)


def _parse(template: str) -> tuple[str | Hole, ...]:
    parts: list[str | Hole] = []
    position = 0
    for match in _HOLE.finditer(template):
        parts.append(template[position : match.start()])
        if match[2] is None:
            parts.append(match[0][0])
        else:
            parts.append(Hole(match[0], match[2], match[1], int(match[3] or 0), match[4] or ""))
        position = match.end()
    parts.append(template[position:])
    return tuple(part for part in parts if part)


_parse_cached = lru_cache(maxsize=512)(_parse)


def bind(template: str, values: Sequence[object]) -> dict[str, object]:
    """The captured values of a template by property name: by index if every hole is a number, else in order.

    A property whose name the log record itself needs (`RESERVED`) gets a trailing underscore.
    """
    holes = [part for part in parse_template(template) if isinstance(part, Hole)]
    if holes and all(hole.name.isdigit() for hole in holes):
        indexed = [(hole, int(hole.name)) for hole in holes if len(hole.name) < 4]
        return {hole.key: capture(values[i], hole.operator) for hole, i in indexed if i < len(values)}
    return {hole.key: capture(value, hole.operator) for hole, value in zip(holes, values, strict=False)}


def render(template: str, properties: Mapping[str, object], style: str) -> str:
    """The message in a style: ``l`` leaves text unquoted, ``j`` writes values as JSON, ``lj`` does both."""
    return "".join(
        part if isinstance(part, str) else _render_hole(part, properties, style) for part in parse_template(template)
    )


def _render_hole(hole: Hole, properties: Mapping[str, object], style: str) -> str:
    if hole.key not in properties:
        return hole.text
    return hole.aligned(render_value(properties[hole.key], hole.format, style))


def render_value(value: object, spec: str, style: str) -> str:
    """One captured value as text, its control characters escaped, so that no value can begin a line."""
    if spec and value is not None and not isinstance(value, dict | list):
        return _escaped(format_value(value, spec))
    if isinstance(value, str):
        return _escaped(value) if "l" in style else json.dumps(value, ensure_ascii=False)
    if isinstance(value, datetime | date | time | timedelta | Decimal):
        return str(value)
    return json.dumps(value, ensure_ascii=False, default=str, separators=(",", ":") if "j" in style else None)


def _escaped(text: str) -> str:
    return _CONTROL.sub(lambda match: json.dumps(match[0])[1:-1], text)


def capture(value: object, operator: str = "", depth: int = _DEPTH) -> Any:
    """Takes a value as it is now: plain values stay, containers are copied, ``@`` takes objects apart.

    Any other object becomes its text, and so does everything nested deeper than ten levels.
    """
    if operator == "$" or depth == 0:
        return _text(value)
    if isinstance(value, Enum):
        return enum_text(value)
    if isinstance(value, (*_PLAIN, datetime, date, time, timedelta, Decimal)):
        return value
    if isinstance(value, bytes | bytearray | memoryview):
        shown = bytes(value[:_BYTES_SHOWN]).hex().upper()
        return shown if len(value) <= _BYTES_SHOWN else f"{shown}... ({len(value)} bytes)"
    if isinstance(value, Mapping):
        return {_text(key): capture(item, operator, depth - 1) for key, item in value.items()}
    if isinstance(value, list | tuple | Set):
        return [capture(item, operator, depth - 1) for item in value]
    if operator == "@" and not isinstance(value, type) and (members := dict(_members(value))):
        return {name: capture(item, operator, depth - 1) for name, item in members.items()}
    return _text(value)


def _members(value: object) -> Iterable[tuple[str, object]]:
    if is_dataclass(value) and not isinstance(value, type):
        return [(field.name, getattr(value, field.name)) for field in fields(value)]
    return [(name, item) for name, item in getattr(value, "__dict__", {}).items() if not name.startswith("_")]


def _text(value: object) -> str:
    try:
        return str(value)
    except Exception:  # an object that cannot say what it is must not keep the event from the log
        return f"<{type(value).__name__}>"
