from __future__ import annotations

import contextlib
import math
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kestrun_py.conversion.timespan import to_seconds
from kestrun_py.errors import ArgumentError


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (20, 20.0),
        (0, 0.0),
        (0.5, 0.5),
        (-1, -1.0),
        (timedelta(minutes=20), 1200.0),
        ("00:20:00", 1200.0),
        ("00:20", 1200.0),
        (" 23:59:59 ", 86399.0),
        ("1.02:03:04.5", 93784.5),
        ("1:02:03:04", 93784.0),
        ("-00:00:01.25", -1.25),
        ("00:00:00.1234567", 0.123457),
        ("1d2h30m15s250ms", 95415.25),
        ("1D 2H", 93600.0),
        ("15s1d", 86415.0),
        ("250ms", 0.25),
        ("20m", 1200.0),
        ("0s", 0.0),
    ],
)
def test_forms(value: Any, seconds: float) -> None:
    assert to_seconds(value) == pytest.approx(seconds)


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "20",
        "soon",
        "1d2",
        "1x",
        "1s2s",
        "1.5h",
        "24:00:00",
        "00:60",
        "00:00:60",
        "1:2:3:4:5",
        "-5s",
        "٢s",
        "00:00:00.12345678",
        "99999999999999d",
        "00:20:00\n00:20:00",
        "1:",
        "9" * 5000,
        "9" * 5000 + "s",
    ],
)
def test_bad_text_names_the_argument_and_the_forms(text: str) -> None:
    with pytest.raises(ArgumentError) as caught:
        to_seconds(text, "idle_timeout")
    message = str(caught.value)
    assert message.startswith(f"idle_timeout: Invalid TimeSpan format: '{text[:40]}'")
    assert "1d2h30m15s250ms" in message


@pytest.mark.parametrize("value", [True, None, [], b"20", object()])
def test_other_types_are_refused(value: Any) -> None:
    with pytest.raises(ArgumentError, match=f"max_age: cannot convert a value of type {type(value).__name__}"):
        to_seconds(value, "max_age")


@pytest.mark.parametrize(
    "value", [math.nan, math.inf, -math.inf, 1e300, pytest.param(10**5000, id="huge"), timedelta.max]
)
def test_what_no_timespan_holds_is_refused(value: Any) -> None:
    with pytest.raises(ArgumentError, match="io_timeout"):
        to_seconds(value, "io_timeout")


def test_what_no_timespan_holds_is_shown() -> None:
    with pytest.raises(ArgumentError, match=r"at most 922337203685 seconds, not 1000000000000\.$"):
        to_seconds(10**12)
    with pytest.raises(ArgumentError, match=r"not 1e\+300\.$"):
        to_seconds(1e300)


@given(st.timedeltas(min_value=timedelta(0), max_value=timedelta(days=10_000_000)))
def test_text_of_a_span_is_read_back(span: timedelta) -> None:
    minutes, seconds = divmod(span.seconds, 60)
    hours, minutes = divmod(minutes, 60)
    text = f"{span.days}.{hours:02}:{minutes:02}:{seconds:02}.{span.microseconds:06}"
    assert abs(timedelta(seconds=to_seconds(text)) - span) <= timedelta(milliseconds=1)


@given(st.text(max_size=40))
def test_any_text_gives_a_span_or_an_argument_error(text: str) -> None:
    with contextlib.suppress(ArgumentError):
        assert math.isfinite(to_seconds(text))
