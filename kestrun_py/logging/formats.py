"""The part of .NET's format strings that log templates use: numbers (``000``, ``0.00``, ``N1``), dates."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import date, datetime, time
from decimal import ROUND_HALF_UP, Decimal
from functools import lru_cache

__all__ = ["format_date", "format_value"]

_STANDARD = re.compile(r"([NFDXPnfdxp])([0-9]{0,2})")
_CUSTOM = re.compile(r"([#0,]*)(?:\.([0#]+))?(%?)")
_DATE_PART = re.compile(r"'[^']*'|\"[^\"]*\"|\\.|y+|M+|d+|H+|h+|m+|s+|f+|F+|t+|z+|K|.", re.DOTALL)
_LONG_NUMBER = re.compile(r"[0-9]{4}")
_ROUND_TRIP = "yyyy-MM-ddTHH:mm:ss.ffffffzzz"


def format_value(value: object, spec: str) -> str:
    """Formats a value by a .NET format string, by Python's if .NET has no such form, else plainly."""
    if isinstance(value, datetime | date | time):
        return format_date(value, spec)
    number = isinstance(value, int | float | Decimal) and not isinstance(value, bool)
    if number and (text := _format_number(value, spec)) is not None:  # type: ignore[arg-type]
        return text
    if _LONG_NUMBER.search(spec):  # a width of millions would be a million characters in the log
        return str(value)
    try:
        return format(value, spec)
    except (TypeError, ValueError):
        return str(value)


def _format_number(value: int | float | Decimal, spec: str) -> str | None:
    if not Decimal(value).is_finite():
        return str(value)
    if standard := _STANDARD.fullmatch(spec):
        return _format_standard(value, standard[1], standard[2])
    custom = _CUSTOM.fullmatch(spec)
    if custom is None or not (custom[1] or custom[2]):
        return None
    return _format_custom(value, custom[1], custom[2] or "", custom[3])


def _format_standard(value: int | float | Decimal, letter: str, digits: str) -> str | None:
    kind = letter.upper()
    if kind in "DX":
        if not isinstance(value, int):
            return None
        conversion = "d" if kind == "D" else letter
        text = format(abs(value), f"0{int(digits or 1)}{conversion}")
        return f"-{text}" if value < 0 else text
    places = int(digits or 2)
    if kind == "P":
        return f"{_rounded(Decimal(str(value)) * 100, places):,.{places}f} %"
    return format(_rounded(value, places), f"{',' if kind == 'N' else ''}.{places}f")


def _format_custom(value: int | float | Decimal, whole: str, fraction: str, percent: str) -> str:
    number = Decimal(str(value)) * (100 if percent else 1)
    rounded = _rounded(number, len(fraction))
    integer, _, decimals = format(abs(rounded), f".{len(fraction)}f").partition(".")
    kept = decimals.rstrip("0")
    decimals = kept.ljust(fraction.rfind("0") + 1, "0")
    integer = integer.lstrip("0").rjust(whole.count("0"), "0")
    if "," in whole:
        integer = re.sub(r"(?<=[0-9])(?=(?:[0-9]{3})+$)", ",", integer)
    sign = "-" if rounded < 0 else ""
    return f"{sign}{integer}{'.' if decimals else ''}{decimals}{percent}"


def _rounded(value: int | float | Decimal, places: int) -> Decimal:
    """Half away from zero, as .NET prints; Python's own formatting rounds half to even."""
    number = Decimal(str(value))
    precise = number.as_tuple().exponent
    if isinstance(precise, int) and precise >= -places:
        return number
    return number.quantize(Decimal(1).scaleb(-places), ROUND_HALF_UP)


def format_date(moment: datetime | date | time, spec: str) -> str:
    """Formats a date by .NET's custom date format, culture invariant; ``o`` and empty text are ISO 8601."""
    if not isinstance(moment, datetime):
        return moment.isoformat() if not spec or spec in "oO" else _format_parts(_as_datetime(moment), spec)
    return _format_parts(moment, _ROUND_TRIP if not spec or spec in "oO" else spec)


def _as_datetime(moment: date | time) -> datetime:
    if isinstance(moment, time):
        return datetime.combine(date.min, moment)
    return datetime.combine(moment, time.min)


def _format_parts(moment: datetime, spec: str) -> str:
    return "".join(part if isinstance(part, str) else part(moment) for part in _date_parts(spec))


@lru_cache(maxsize=64)
def _date_parts(spec: str) -> tuple[str | Callable[[datetime], str], ...]:
    return tuple(_date_part(text) for text in _DATE_PART.findall(spec))


_DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_MONTHS = (
    "January", "February", "March", "April", "May", "June",
    "July", "August", "September", "October", "November", "December",
)  # fmt: skip
_DATE_PARTS: dict[str, Callable[[datetime], str]] = {
    "yyyy": lambda t: f"{t.year:04}",
    "yy": lambda t: f"{t.year % 100:02}",
    "MMMM": lambda t: _MONTHS[t.month - 1],
    "MMM": lambda t: _MONTHS[t.month - 1][:3],
    "MM": lambda t: f"{t.month:02}",
    "M": lambda t: str(t.month),
    "dddd": lambda t: _DAYS[t.weekday()],
    "ddd": lambda t: _DAYS[t.weekday()][:3],
    "dd": lambda t: f"{t.day:02}",
    "d": lambda t: str(t.day),
    "HH": lambda t: f"{t.hour:02}",
    "H": lambda t: str(t.hour),
    "hh": lambda t: f"{t.hour % 12 or 12:02}",
    "h": lambda t: str(t.hour % 12 or 12),
    "mm": lambda t: f"{t.minute:02}",
    "m": lambda t: str(t.minute),
    "ss": lambda t: f"{t.second:02}",
    "s": lambda t: str(t.second),
    "tt": lambda t: "AM" if t.hour < 12 else "PM",
    "zzz": lambda t: _offset(t),
    "zz": lambda t: _offset(t)[:3],
    "K": lambda t: _offset(t),
}


def _date_part(text: str) -> str | Callable[[datetime], str]:
    if text in _DATE_PARTS:
        return _DATE_PARTS[text]
    first = text[0]
    if first == "f" and len(text) <= 7:
        return lambda t: f"{t.microsecond:06}0"[: len(text)]
    if first == "F" and len(text) <= 7:
        return lambda t: f"{t.microsecond:06}0"[: len(text)].rstrip("0")
    if first == "\\":
        return text[1:]
    return text[1:-1] if first in "'\"" and len(text) > 1 else text


def _offset(moment: datetime) -> str:
    text = moment.strftime("%z")
    return f"{text[:3]}:{text[3:5]}" if text else ""
