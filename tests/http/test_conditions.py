"""Conditional requests by RFC 9110, section 13."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict

from kestrun_py.errors import ArgumentError
from kestrun_py.http.cache_control import CacheControl
from kestrun_py.http.conditions import Validators, evaluate, http_date, if_range_matches, parse_http_date

CHANGED = datetime(2026, 1, 1, 12, 0, 0, 500_000, tzinfo=UTC)
AT, BEFORE, AFTER = "Thu, 01 Jan 2026 12:00:00 GMT", "Thu, 01 Jan 2026 11:59:59 GMT", "Thu, 01 Jan 2026 12:00:01 GMT"
STATE = Validators('"v1"', CHANGED)
WEAK = Validators('W/"v1"', CHANGED)


@pytest.mark.parametrize(
    ("method", "headers", "validators", "status"),
    [
        ("GET", {"If-None-Match": '"v1"'}, STATE, 304),
        ("HEAD", {"If-None-Match": '"v0", W/"v1"'}, STATE, 304),
        ("GET", {"If-None-Match": '"v1"'}, WEAK, 304),
        ("GET", {"If-None-Match": "*"}, STATE, 304),
        ("GET", {"If-None-Match": "*"}, Validators(), 304),
        ("GET", {"If-None-Match": '"v2"'}, STATE, None),
        ("GET", {"If-None-Match": "v1"}, STATE, None),
        ("GET", {"If-None-Match": '"v1'}, STATE, None),
        ("GET", {"If-None-Match": '"a,b"'}, Validators('"a,b"'), 304),
        ("POST", {"If-None-Match": '"v1"'}, STATE, 412),
        ("GET", {"If-None-Match": '"v2"', "If-Modified-Since": AFTER}, STATE, None),
        ("GET", {"If-Modified-Since": AT}, STATE, 304),
        ("GET", {"If-Modified-Since": AFTER}, STATE, 304),
        ("GET", {"If-Modified-Since": BEFORE}, STATE, None),
        ("GET", {"If-Modified-Since": "yesterday"}, STATE, None),
        ("GET", {"If-Modified-Since": AFTER}, Validators('"v1"'), None),
        ("POST", {"If-Modified-Since": AFTER}, STATE, None),
        ("PUT", {"If-Match": '"v1"'}, STATE, None),
        ("PUT", {"If-Match": '"v1"'}, WEAK, 412),
        ("PUT", {"If-Match": '"v2"'}, STATE, 412),
        ("PUT", {"If-Match": "*"}, STATE, None),
        ("GET", {"If-Match": '"v1"', "If-None-Match": '"v1"'}, STATE, 304),
        ("PUT", {"If-Unmodified-Since": BEFORE}, STATE, 412),
        ("PUT", {"If-Unmodified-Since": AT}, STATE, None),
        ("PUT", {"If-Match": '"v1"', "If-Unmodified-Since": BEFORE}, STATE, None),
        ("GET", {}, STATE, None),
    ],
)
def test_conditions(method: str, headers: dict[str, str], validators: Validators, status: int | None) -> None:
    assert evaluate(method, CIMultiDict(headers), validators) == status


@pytest.mark.parametrize(
    ("condition", "validators", "counts"),
    [
        (None, STATE, True),
        ('"v1"', STATE, True),
        ('"v2"', STATE, False),
        ('W/"v1"', WEAK, False),
        (AT, STATE, True),
        (BEFORE, STATE, False),
        ("never", STATE, False),
    ],
)
def test_if_range(condition: str | None, validators: Validators, counts: bool) -> None:
    headers = CIMultiDict({} if condition is None else {"If-Range": condition})
    assert if_range_matches(headers, validators) is counts


@given(st.text())
def test_no_list_of_tags_is_an_error(text: str) -> None:
    assert evaluate("GET", CIMultiDict({"If-None-Match": text, "If-Modified-Since": text}), STATE) in {None, 304}


def test_dates() -> None:
    assert http_date(CHANGED) == AT == http_date(CHANGED.replace(tzinfo=None))
    assert parse_http_date(AT) == CHANGED.replace(microsecond=0)
    assert parse_http_date("Thu, 01 Jan 99999 12:00:00 GMT") is None


@pytest.mark.parametrize("etag", ["v1", '"a b"', '"a"b"', 'w/"a"', '"\n"'])
def test_what_is_no_tag_is_refused(etag: str) -> None:
    with pytest.raises(ArgumentError, match="An ETag is text in double quotes"):
        Validators(etag)


class TestCacheControl:
    def test_the_order_is_asp_net_cores(self) -> None:
        assert str(CacheControl(public=True, max_age=300)) == "public, max-age=300"
        assert str(CacheControl(private=True, no_store=True)) == "no-store, private"
        assert str(CacheControl(max_stale=True, max_stale_limit=5, min_fresh=2)) == "max-stale=5, min-fresh=2"

    @pytest.mark.parametrize("age", [0, -1, 1.5, True])
    def test_ages_are_whole_seconds(self, age: int) -> None:
        with pytest.raises(ArgumentError, match="max_age must be a whole number of seconds"):
            CacheControl(max_age=age)
