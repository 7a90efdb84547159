"""XML, YAML, CSV, forms, CBOR and BSON, as Kestrun's cmdlets write them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from enum import Enum
from typing import Any, ClassVar
from uuid import UUID
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kestrun_py.conversion.moments import date_text, duration_text, iso_duration
from kestrun_py.errors import ArgumentError
from kestrun_py.serialization.binary import from_bson, from_cbor, to_bson, to_cbor
from kestrun_py.serialization.csv import QuoteKind, from_csv, to_csv
from kestrun_py.serialization.form import to_form
from kestrun_py.serialization.json import html_safe, to_json, to_web_json
from kestrun_py.serialization.plain import to_plain
from kestrun_py.serialization.xml import to_xml
from kestrun_py.serialization.yaml import from_yaml, to_yaml

MOMENT = datetime(2026, 11, 30, 20, 42, 18, 700_000, UTC)


class Color(Enum):
    DARK_RED = 4


@dataclass
class Point:
    x: int
    y: float | None = None


class TestMoments:
    @pytest.mark.parametrize(
        ("value", "short", "long"),
        [
            (MOMENT, "2026-11-30T20:42:18.7Z", "2026-11-30T20:42:18.7000000Z"),
            (MOMENT.replace(microsecond=0), "2026-11-30T20:42:18Z", "2026-11-30T20:42:18.0000000Z"),
            (datetime(2026, 1, 2, 3, 4, 5, 6), "2026-01-02T03:04:05.000006", "2026-01-02T03:04:05.0000060"),
            (date(2026, 1, 2), "2026-01-02", "2026-01-02"),
        ],
    )
    def test_dates(self, value: Any, short: str, long: str) -> None:
        assert (date_text(value), date_text(value, digits=7)) == (short, long)

    @pytest.mark.parametrize(
        ("value", "text", "iso"),
        [
            (timedelta(milliseconds=53), "00:00:00.0530000", "PT0.053S"),
            (timedelta(days=1, hours=2, seconds=3), "1.02:00:03", "P1DT2H3S"),
            (timedelta(minutes=-90), "-01:30:00", "-PT1H30M"),
            (timedelta(days=2), "2.00:00:00", "P2D"),
            (timedelta(0), "00:00:00", "PT0S"),
        ],
    )
    def test_spans(self, value: timedelta, text: str, iso: str) -> None:
        assert (duration_text(value), iso_duration(value)) == (text, iso)


class TestPlain:
    def test_objects_become_dictionaries_and_enums_their_names(self) -> None:
        assert to_plain({1: (Point(2), Color.DARK_RED)}) == {"1": [{"x": 2, "y": None}, "DARK_RED"]}

    def test_a_value_that_contains_itself_is_refused(self) -> None:
        circle: list[Any] = []
        circle.append(circle)
        for write in (to_plain, to_xml, to_yaml, to_cbor):
            with pytest.raises(ArgumentError, match="contains itself"):
                write(circle)


class TestJson:
    @pytest.mark.parametrize(
        ("value", "text"),
        [
            ({"UserName": 1, "URLPath": 2, "ID": 3, "already": 4}, '{"userName":1,"urlPath":2,"id":3,"already":4}'),
            ({"a": "<'&+é😀\\ \"x\\"}, r'{"a":"\u003C\u0027\u0026\u002B\u00E9\uD83D\uDE00\\ \u0022x\\"}'),
            ([50.0, 0.5, timedelta(seconds=1), MOMENT], '[50,0.5,"00:00:01","2026-11-30T20:42:18.7Z"]'),
        ],
    )
    def test_web_json(self, value: Any, text: str) -> None:
        assert to_web_json(value, compress=True).decode() == text

    @given(st.text())
    def test_what_is_safe_for_html_is_the_same_value(self, text: str) -> None:
        encoded = html_safe(to_json([text]))
        assert not {*"<>&'`+"} & {*encoded.decode()}
        assert encoded.isascii()
        assert json.loads(encoded) == [text]

    def test_moments_are_text(self) -> None:
        assert to_json({"t": MOMENT, "d": timedelta(hours=1)}, compress=True) == (
            b'{"t":"2026-11-30T20:42:18.7Z","d":"01:00:00"}'
        )


class TestXml:
    def test_members_items_and_nothing(self) -> None:
        value = {"Id": 1, "On": True, "Tags": ["a", {"b": None}], "Empty": [], "Text": ""}
        assert to_xml(value).decode() == (
            "<Response>\n"
            "  <Id>1</Id>\n"
            "  <On>true</On>\n"
            "  <Tags>\n"
            "    <Item>a</Item>\n"
            "    <Item>\n"
            '      <b p4:nil="true" xmlns:p4="http://www.w3.org/2001/XMLSchema-instance" />\n'
            "    </Item>\n"
            "  </Tags>\n"
            "  <Empty />\n"
            "  <Text></Text>\n"
            "</Response>"
        )

    def test_compressed(self) -> None:
        assert to_xml({"a": [1]}, compress=True) == b"<Response><a><Item>1</Item></a></Response>"

    def test_what_lies_too_deep_is_left_out(self) -> None:
        value: Any = 1
        for _ in range(40):
            value = {"a": value}
        assert to_xml(value).decode().count("<a>") == 31
        assert 'warning="MaxDepthExceeded"' in to_xml(value).decode()

    @given(st.dictionaries(st.text(st.characters(max_codepoint=0x130)), st.text()))
    def test_it_is_well_formed(self, value: dict[str, str]) -> None:
        element = ElementTree.fromstring(to_xml(value))
        assert len(element) == len(value)


class TestYaml:
    def test_the_style(self) -> None:
        rows = [{"env": "dev", "on": True, "tags": ["one", "two"]}, {"Nested": {"Y": 20, "X": 10.0}}]
        assert to_yaml(rows).decode() == (
            '- env: dev\n  "on": true\n  tags:\n    - one\n    - two\n- Nested:\n    "Y": 20\n    X: 10\n'
        )

    @pytest.mark.parametrize(
        ("text", "written"),
        [
            ("98101", '"98101"'),
            ("true", '"true"'),
            ("~", '"~"'),
            ("", '""'),
            ("2024-08-01", "2024-08-01"),
            ("+1-206-555-0123", "+1-206-555-0123"),
            ("Hit ratio: 93%", "'Hit ratio: 93%'"),
            ("it's: so", '"it\'s: so"'),
            ("größe", "größe"),
        ],
    )
    def test_text(self, text: str, written: str) -> None:
        assert to_yaml({"a": text}).decode() == f"a: {written}\n"

    def test_nothing_dates_and_spans(self) -> None:
        assert to_yaml({"n": None}) == b'"n":\n'
        assert to_yaml({"t": MOMENT, "d": timedelta(seconds=2)}) == b"t: 2026-11-30T20:42:18.7000000Z\nd: 00:00:02\n"

    @given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(), lambda inner: st.lists(inner)))
    def test_it_reads_back(self, value: Any) -> None:
        assert from_yaml(to_yaml({"value": value})) == {"value": value}

    def test_aliases_and_broken_texts_are_refused(self) -> None:
        with pytest.raises(ArgumentError, match="aliases are not accepted"):
            from_yaml("a: &x [1]\nb: [*x, *x]")
        with pytest.raises(ArgumentError, match="not YAML"):
            from_yaml("a: [1")
        with pytest.raises(ArgumentError, match="not YAML"):
            from_yaml("!!python/object/apply:os.system [ls]")

    def test_several_documents(self) -> None:
        assert from_yaml("a: 1\n---\nb: 2\n", all_documents=True) == [{"a": 1}, {"b": 2}]


class TestCsv:
    def test_rows(self) -> None:
        rows = [{"Id": 1, "Name": 'a "b"'}, {"Name": None, "Id": MOMENT, "More": 1}]
        assert to_csv(rows).decode() == '"Id","Name"\n"1","a ""b"""\n"2026-11-30T20:42:18.7Z",'

    def test_options(self) -> None:
        rows = [Point(1, 2.5)]
        assert to_csv(rows, use_quotes=QuoteKind.NEVER, delimiter=";") == b"x;y\n1;2.5"
        assert to_csv(rows, quote_fields=["Y"], no_header=True) == b'1,"2.5"'
        assert to_csv(rows, include_type_information=True).splitlines()[0] == b"#TYPE Point"
        assert to_csv({"a": "x,y", "b": "z"}, use_quotes=QuoteKind.AS_NEEDED) == b'a,b\n"x,y",z'
        assert (to_csv([]), to_csv([5])) == (b"", b'"Value"\n"5"')
        with pytest.raises(ArgumentError, match="delimiter must be one character"):
            to_csv(rows, delimiter="")

    @given(st.lists(st.dictionaries(st.sampled_from("abc"), st.text(st.characters(codec="utf-8")), min_size=3)))
    def test_it_reads_back(self, rows: list[dict[str, str]]) -> None:
        assert from_csv(to_csv(rows).decode()) == [{key: row[key] for key in rows[0]} for row in rows]

    def test_broken_texts_are_refused(self) -> None:
        with pytest.raises(ArgumentError, match="more fields"):
            from_csv("a\n1,2")
        with pytest.raises(ArgumentError, match="not CSV"):
            from_csv('a\n"1')


class TestForm:
    def test_members(self) -> None:
        assert to_form({"a": "x y", "b": None, "c": [1, 2], "ü": "&"}) == b"a=x+y&b=&c=1&c=2&%C3%BC=%26"
        assert to_form(Point(1)) == b"x=1&y="
        with pytest.raises(ArgumentError, match="A form is written from a mapping"):
            to_form([1])


class TestBinary:
    VALUE: ClassVar = {
        "kind": "x",
        "values": [4, 5],
        "raw": b"\0",
        "id": UUID(int=1),
        "price": Decimal("1.5"),
        "d": timedelta(1),
    }

    def test_cbor(self) -> None:
        expected = {
            **self.VALUE,
            "id": str(UUID(int=1)),
            "price": 1.5,
            "d": "1.00:00:00",
            "t": date_text(MOMENT, digits=7),
        }
        assert from_cbor(to_cbor({**self.VALUE, "t": MOMENT})) == expected
        with pytest.raises(ArgumentError, match="not CBOR"):
            from_cbor(b"\xa1")

    def test_bson(self) -> None:
        assert from_bson(to_bson({"t": MOMENT, "n": [1]})) == {"t": MOMENT.replace(tzinfo=None), "n": [1]}
        assert from_bson(to_bson([1])) == {"value": [1]}
        with pytest.raises(ArgumentError, match="not BSON"):
            from_bson(b"\x05\0\0")
        with pytest.raises(ArgumentError, match="BSON cannot express"):
            to_bson({"a": 1 << 70})
