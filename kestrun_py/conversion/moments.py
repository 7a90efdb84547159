"""Dates and spans of time as .NET's texts."""

from __future__ import annotations

from datetime import date, datetime, time, timedelta

__all__ = ["date_text", "duration_text", "iso_duration", "moment_text"]


def date_text(value: datetime | date | time, *, digits: int | None = None) -> str:
    """Returns a date as ISO 8601 text; UTC is ``Z``.

    Args:
        value: A date, a time, or both.
        digits: How many digits follow the seconds (.NET's round-trip form has 7); as few as needed if left out.
    """
    if not isinstance(value, datetime | time):
        return value.isoformat()
    text = value.replace(microsecond=0).isoformat().replace("+00:00", "Z")
    fraction = f"{value.microsecond:06}".ljust(digits, "0") if digits else f"{value.microsecond:06}".rstrip("0")
    start = text.index("T") + 9 if isinstance(value, datetime) else 8
    return f"{text[:start]}.{fraction}{text[start:]}" if fraction else text


def duration_text(value: timedelta) -> str:
    """Returns a span of time as .NET's constant form ``[-][d.]hh:mm:ss[.fffffff]``."""
    sign, value = ("-", -value) if value < timedelta(0) else ("", value)
    minutes, seconds = divmod(value.seconds, 60)
    days = f"{value.days}." if value.days else ""
    fraction = f".{value.microseconds:06}0" if value.microseconds else ""
    return f"{sign}{days}{minutes // 60:02}:{minutes % 60:02}:{seconds:02}{fraction}"


def moment_text(value: object) -> str | None:
    """Returns a date (`date_text`) or a span of time (`duration_text`) as text; None for anything else."""
    if isinstance(value, datetime | date | time):
        return date_text(value)
    return duration_text(value) if isinstance(value, timedelta) else None


def iso_duration(value: timedelta) -> str:
    """Returns a span of time as ISO 8601 has it: ``P1DT2H3M4.5S``."""
    sign, value = ("-", -value) if value < timedelta(0) else ("", value)
    minutes, seconds = divmod(value.seconds, 60)
    fraction = f".{value.microseconds:06}".rstrip("0") if value.microseconds else ""
    parts = [
        f"{minutes // 60}H" if minutes >= 60 else "",
        f"{minutes % 60}M" if minutes % 60 else "",
        f"{seconds}{fraction}S" if seconds or fraction else "",
    ]
    days = f"{value.days}D" if value.days else ""
    clock = "".join(parts)
    return f"{sign}P{days}T{clock}" if clock else f"{sign}P{days}" if days else "PT0S"
