"""Spans of time as Kestrun takes them: seconds, `timedelta` or TimeSpan text."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import TypeAlias

from kestrun_py.errors import ArgumentError

__all__ = ["Duration", "to_seconds"]

Duration: TypeAlias = int | float | timedelta | str
"""A number of seconds, a `timedelta`, or text: ``00:20:00``, ``1.02:03:04.5``, ``1d2h30m15s250ms``."""

_FORMS = (
    "give a number of seconds, a timedelta, or text like '00:30:00', '1.02:03:04.5' "
    "(days.hours:minutes:seconds) or '1d2h30m15s250ms'"
)
_LIMIT = 922_337_203_685  # .NET's TimeSpan.MaxValue: what 64 bits of 100 ns hold, in seconds
_CLOCK = re.compile(
    r"(?P<sign>-)?(?:(?P<days>[0-9]{1,8})(?:\.|:(?=[^:]+:[^:]+:)))?(?P<hours>[0-9]{1,2}):(?P<minutes>[0-9]{1,2})"
    r"(?::(?P<seconds>[0-9]{1,2}(?:\.[0-9]{1,7})?))?"
)
_TOKEN = re.compile(r"\s*([0-9]{1,15})\s*(ms|d|h|m|s)\s*", re.IGNORECASE | re.ASCII)
_UNITS = {"d": "days", "h": "hours", "m": "minutes", "s": "seconds", "ms": "milliseconds"}


def to_seconds(value: Duration, name: str = "timeout") -> float:
    """Turns a span of time into seconds.

    Args:
        value: Seconds, a `timedelta`, or TimeSpan text: ``[-][d.]hh:mm[:ss[.fffffff]]``, or tokens
            ``1d2h30m15s250ms`` in any order. A bare number as text is refused: .NET reads it as days, while everything
            else here counts seconds.
        name: The argument's name, for the error's text.

    Returns:
        Seconds; negative if the span is.

    Raises:
        ArgumentError: The value is no span of time, not finite, or beyond .NET's TimeSpan.
    """
    if isinstance(value, str):
        return _parse(value, name).total_seconds()
    if isinstance(value, timedelta):
        seconds = value.total_seconds()
    elif isinstance(value, int | float) and not isinstance(value, bool):
        seconds = value
    else:
        raise ArgumentError(f"{name}: cannot convert a value of type {type(value).__name__} to a TimeSpan; {_FORMS}.")
    if not abs(seconds) <= _LIMIT:  # before it is converted: a huge int does not fit a float
        shown = "more" if isinstance(value, int) and value.bit_length() > 64 else value
        raise ArgumentError(f"{name}: a TimeSpan is finite and at most {_LIMIT} seconds, not {shown}.")
    return float(seconds)


def _parse(text: str, name: str) -> timedelta:
    stripped = text.strip()
    span = _parse_clock(stripped) if ":" in stripped else _parse_tokens(stripped)
    if span is None or abs(span.total_seconds()) > _LIMIT:
        raise ArgumentError(f"{name}: Invalid TimeSpan format: '{text[:40]}'; {_FORMS}.")
    return span


def _parse_clock(text: str) -> timedelta | None:
    match = _CLOCK.fullmatch(text)
    if match is None:
        return None
    hours, minutes, seconds = int(match["hours"]), int(match["minutes"]), float(match["seconds"] or 0)
    if hours > 23 or minutes > 59 or seconds >= 60:
        return None
    span = timedelta(days=int(match["days"] or 0), hours=hours, minutes=minutes, seconds=seconds)
    return -span if match["sign"] else span


def _parse_tokens(text: str) -> timedelta | None:
    amounts: dict[str, int] = {}
    position = 0
    while match := _TOKEN.match(text, position):
        unit = _UNITS[match[2].lower()]
        if unit in amounts:
            return None
        amounts[unit] = int(match[1])
        position = match.end()
    if not amounts or position != len(text):
        return None
    try:
        return timedelta(**amounts)
    except OverflowError:
        return None
