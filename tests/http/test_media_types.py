"""Which format an Accept header asks for, and which types are text."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kestrun_py.errors import ArgumentError
from kestrun_py.http.media_types import canonical_type, negotiate, with_charset


@pytest.mark.parametrize(
    ("accept", "wanted"),
    [
        ("", "text/plain"),
        ("*/*", "text/plain"),
        ("application/*", "text/plain"),
        ("text/html,application/json", "text/plain"),
        ("application/json", "application/json"),
        ("Application/Problem+JSON", "application/json"),
        ("application/json;q=0.1, application/xml", "application/xml"),
        ("application/json, application/xml", "application/json"),
        ("text/xml;charset=utf-8", "application/xml"),
        ("application/x-yaml", "application/yaml"),
        ("text/csv", "text/csv"),
        ("application/x-www-form-urlencoded", "application/x-www-form-urlencoded"),
        ("application/cbor;q=1.000", "application/cbor"),
        ("application/bson", "application/bson"),
        ("application/json;q=0", "text/plain"),
        ("application/json;q=2, application/xml;q=0.5", "application/xml"),
        ("application/json;q=x", "text/plain"),
        (" , ,application/xml", "application/xml"),
    ],
)
def test_negotiation(accept: str, wanted: str) -> None:
    assert negotiate(accept) == wanted


@given(st.text())
def test_any_header_has_an_answer(accept: str) -> None:
    assert "/" in negotiate(accept)


def test_names() -> None:
    assert canonical_type("Text/XML; charset=x") == canonical_type("application/atom+xml") == "application/xml"


def test_charset() -> None:
    text = ["text/x", "application/xml", "application/a+json", "application/yaml", "application/javascript"]
    assert [with_charset(each) for each in text] == [f"{each}; charset=utf-8" for each in text]
    for kept in ("application/x", "image/png", "text/plain; CHARSET=ascii"):
        assert with_charset(kept) == kept
    with pytest.raises(ArgumentError, match="must not hold a line break"):
        with_charset("text/plain\r\nX: y")
