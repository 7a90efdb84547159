"""What a sink is given, and the output templates that make a line of it."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import TypeAlias

from kestrun_py.logging.formats import format_date
from kestrun_py.logging.levels import LogLevel, format_level
from kestrun_py.logging.templates import Hole, parse_template, render, render_value

__all__ = ["Formatter", "LogEvent", "output_formatter"]


@dataclass(frozen=True, slots=True)
class LogEvent:
    """One event of the log, after the structlog processors.

    Attributes:
        timestamp: When it happened, with the local offset.
        level: How much it matters.
        message: The message, text values unquoted.
        template: The message template.
        properties: The template's values, and whatever processors added.
        exception: The traceback's text, or empty.
        logger: The logger's name, or empty.
    """

    timestamp: datetime
    level: LogLevel
    message: str
    template: str
    properties: Mapping[str, object] = field(default_factory=dict)
    exception: str = ""
    logger: str = ""

    def render_message(self, style: str) -> str:
        """The message in a Serilog style (``l``, ``j``, ``lj``, or empty: text in quotes)."""
        plain = style in ("lj", "jl") or self.message != render(self.template, self.properties, "lj")
        return self.message if plain else render(self.template, self.properties, style)


Formatter: TypeAlias = Callable[[LogEvent], str]
"""Makes the text of an event, line end included."""

_KNOWN: dict[str, Callable[[LogEvent, str], str]] = {
    "Timestamp": lambda event, spec: format_date(event.timestamp, spec or "MM/dd/yyyy HH:mm:ss zzz"),
    "Level": lambda event, spec: format_level(event.level, spec),
    "Message": lambda event, spec: event.render_message(spec),
    "NewLine": lambda event, spec: os.linesep,
    "Exception": lambda event, spec: event.exception,
    "LoggerName": lambda event, spec: event.logger,
}


def output_formatter(template: str) -> Formatter:
    """Compiles an output template, such as ``[{Timestamp:HH:mm:ss} {Level:u3}] {Message:lj}{NewLine}``.

    The names are Timestamp, Level, Message, NewLine, Exception, LoggerName, Properties (what neither the
    message nor the output template shows) and any property of the event; one that it does not have is empty.
    """
    parts = parse_template(template)
    shown = frozenset(part.name for part in parts if isinstance(part, Hole))

    def format_event(event: LogEvent) -> str:
        return "".join(part if isinstance(part, str) else _show(part, event, shown) for part in parts)

    return format_event


def _show(hole: Hole, event: LogEvent, shown: frozenset[str]) -> str:
    if known := _KNOWN.get(hole.name):
        return hole.aligned(known(event, hole.format))
    if hole.name == "Properties":
        return hole.aligned(_other_properties(event, shown))
    if hole.key not in event.properties:
        return hole.aligned("")
    return hole.aligned(render_value(event.properties[hole.key], hole.format, "l"))


def _other_properties(event: LogEvent, shown: frozenset[str]) -> str:
    said = {part.key for part in parse_template(event.template) if isinstance(part, Hole)}
    others = {key: value for key, value in event.properties.items() if key not in said and key not in shown}
    return json.dumps(others, ensure_ascii=False, default=str)
