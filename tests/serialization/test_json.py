"""JSON as ConvertTo-Json writes it."""

from __future__ import annotations

import json
import math
import uuid
from collections import Counter, OrderedDict, deque
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum, IntEnum
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kestrun_py.errors import ArgumentError
from kestrun_py.serialization.json import to_json


class Color(Enum):
    RED = 1
    HUGE = 2**70


class Level(IntEnum):
    LOW = 3


@dataclass
class Point:
    x: int
    y: object


class Plain:
    def __init__(self) -> None:
        self.name = "plain"
        self._hidden = True


def compact(value: Any, **options: Any) -> str:
    return to_json(value, compress=True, **options).decode()


def test_two_spaces_keys_in_order_and_nothing_escaped() -> None:
    text = to_json({"b": 1, "A": ["ä", "<&'>", "\u2028"], "empty": {}, "none": []}).decode()
    assert text == '{\n  "b": 1,\n  "A": [\n    "ä",\n    "<&\'>",\n    "\u2028"\n  ],\n  "empty": {},\n  "none": []\n}'


def test_compress_leaves_out_the_blanks() -> None:
    assert compact({"a": [1, 2.5, True, None, "x"]}) == '{"a":[1,2.5,true,null,"x"]}'


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("text", '"text"'),
        (None, "null"),
        (True, "true"),
        (Color.RED, "1"),
        (Level.LOW, "3"),
        (Color.HUGE, str(2**70)),
        (2**63, str(2**63)),
        (2**64, str(2**64)),
        (-(10**30), "-" + "1" + "0" * 30),
        (math.nan, "null"),
        (math.inf, "null"),
        ([2**70, math.nan], f"[{2**70},null]"),
        (Decimal("1.50"), "1.5"),
        (datetime(2024, 1, 31, 10, 20, 30), '"2024-01-31T10:20:30"'),
        (datetime(2024, 1, 31, 10, 20, 30, 5, tzinfo=UTC), '"2024-01-31T10:20:30.000005Z"'),
        (datetime(2024, 1, 31, tzinfo=timezone(timedelta(hours=2))), '"2024-01-31T00:00:00+02:00"'),
        ([2**70, datetime(2024, 1, 31, tzinfo=UTC)], f'[{2**70},"2024-01-31T00:00:00Z"]'),
        (date(2024, 1, 31), '"2024-01-31"'),
        (time(10, 20), '"10:20:00"'),
        (timedelta(seconds=90), '"00:01:30"'),
        (uuid.UUID(int=1), '"00000000-0000-0000-0000-000000000001"'),
        (Path("/a/b"), '"/a/b"'),
        (b"\x00\xff", "[0,255]"),
        (bytearray(b"a"), "[97]"),
        (memoryview(b"a"), "[97]"),
        ((1, 2), "[1,2]"),
        ({1}, "[1]"),
        (frozenset(["a"]), '["a"]'),
        (deque([1, 2]), "[1,2]"),
        (range(3), "[0,1,2]"),
        ({"a": 1}.keys(), '["a"]'),
        ({"a": 1}.values(), "[1]"),
        ((number for number in (1, 2)), "[1,2]"),
        (MappingProxyType({"a": 1}), '{"a":1}'),
        (OrderedDict(a=1), '{"a":1}'),
        (Counter("aa"), '{"a":2}'),
        ({1: "int", None: "none", False: "bool"}, '{"1":"int","null":"none","false":"bool"}'),
        ({Level.LOW: 1, uuid.UUID(int=1): 2}, '{"3":1,"00000000-0000-0000-0000-000000000001":2}'),
        (Point(1, {2}), '{"x":1,"y":[2]}'),
        (Point(2**70, math.nan), f'{{"x":{2**70},"y":null}}'),
        (Plain(), '{"name":"plain"}'),
        ([2**70, Plain(), b"a"], f'[{2**70},{{"name":"plain"}},[97]]'),
        (ValueError("wrong"), '"wrong"'),
        (len, '"<built-in function len>"'),
        ("\ud800", '"?"'),
    ],
)
def test_values(value: object, text: str) -> None:
    assert compact(value) == text


@pytest.mark.parametrize(
    ("depth", "text"),
    [
        (0, "{\"a\":\"{'b': {'c': [1]}}\"}"),
        (1, '{"a":{"b":"{\'c\': [1]}"}}'),
        (2, '{"a":{"b":{"c":"[1]"}}}'),
        (3, '{"a":{"b":{"c":[1]}}}'),
        (100, '{"a":{"b":{"c":[1]}}}'),
    ],
)
def test_what_is_deeper_than_depth_becomes_text(depth: int, text: str) -> None:
    assert compact({"a": {"b": {"c": [1]}}}, depth=depth) == text


def test_the_default_depth_is_ten() -> None:
    value: Any = "leaf"
    for _ in range(12):
        value = [value]
    assert compact(value) == "[" * 11 + "\"['leaf']\"" + "]" * 11


@pytest.mark.parametrize("depth", [-1, 101])
def test_depth_has_kestruns_bounds(depth: int) -> None:
    with pytest.raises(ArgumentError, match=f"depth must be between 0 and 100, not {depth}"):
        to_json({}, depth=depth)


def test_a_list_in_itself_ends_at_the_depth() -> None:
    loop: list[Any] = []
    loop.append(loop)
    assert compact(loop, depth=1) == '[["[[...]]"]]'


def test_an_object_in_itself_cannot_be_expressed() -> None:
    thing = Plain()
    thing.me = thing  # type: ignore[attr-defined]
    with pytest.raises(ArgumentError, match="JSON cannot express the value"):
        to_json(thing)


def test_a_key_that_is_no_text_cannot_be_expressed() -> None:
    with pytest.raises(ArgumentError, match="JSON cannot express the value"):
        to_json({(1, 2): 3})


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@given(_JSON, st.booleans())
def test_what_is_written_reads_back(value: object, compress: bool) -> None:
    written = to_json(value, compress=compress, depth=100)
    assert json.loads(written) == json.loads(json.dumps(value).encode("utf-8", "replace"))
