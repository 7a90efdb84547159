"""The levels of a log, as Serilog has them."""

from __future__ import annotations

from enum import IntEnum
from typing import Literal, TypeAlias

from kestrun_py.conversion.enums import enum_text

__all__ = ["LogLevel", "LogLevelText", "format_level"]


class LogLevel(IntEnum):
    """How much an event matters (Serilog's LogEventLevel)."""

    VERBOSE = 0
    DEBUG = 1
    INFORMATION = 2
    WARNING = 3
    ERROR = 4
    FATAL = 5


LogLevelText: TypeAlias = Literal["Verbose", "Debug", "Information", "Warning", "Error", "Fatal"]


_SHORT = {
    LogLevel.VERBOSE: ("V", "Vb", "Vrb", "Verb"),
    LogLevel.DEBUG: ("D", "De", "Dbg", "Dbug"),
    LogLevel.INFORMATION: ("I", "In", "Inf", "Info"),
    LogLevel.WARNING: ("W", "Wn", "Wrn", "Warn"),
    LogLevel.ERROR: ("E", "Er", "Err", "Eror"),
    LogLevel.FATAL: ("F", "Fa", "Ftl", "Fatl"),
}


def format_level(level: LogLevel, spec: str) -> str:
    """The level's text: ``u`` upper, ``w`` lower or ``t`` title case, and a width (``u3`` is ``INF``)."""
    text = enum_text(level)
    case, width = spec[:1], spec[1:]
    if width.isascii() and width.isdigit() and width != "0":
        size = int(width[:3])
        text = _SHORT[level][size - 1] if size <= 4 else text[:size]
    if case == "u":
        return text.upper()
    return text.lower() if case == "w" else text
