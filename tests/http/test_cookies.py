from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import unquote

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from kestrun_py.errors import ArgumentError
from kestrun_py.http.cookies import CookieBuilder, CookieSecurePolicy, SameSiteMode, read_cookie, read_cookies

NOW = datetime(2026, 1, 31, 12, 0, 0, tzinfo=UTC)
TOKEN = set("!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz")
OCTETS = {chr(code) for code in range(0x21, 0x7F)} - set('",;\\')


def session_cookie(**changes: Any) -> CookieBuilder:
    options: dict[str, Any] = {"name": ".AspNetCore.Session", "http_only": True, "same_site": "Lax"}
    return CookieBuilder(**{**options, **changes})


class TestBuilder:
    def test_defaults_are_the_plain_builders(self) -> None:
        cookie = CookieBuilder()
        assert (cookie.name, cookie.domain, cookie.path, cookie.max_age, cookie.expiration) == (None,) * 5
        assert (cookie.http_only, cookie.is_essential, cookie.extensions) == (False, False, ())
        assert cookie.secure_policy is CookieSecurePolicy.SAME_AS_REQUEST
        assert cookie.same_site is SameSiteMode.UNSPECIFIED

    def test_text_in_any_case_and_spans_are_converted_whenever_they_are_set(self) -> None:
        cookie = CookieBuilder(name="a", same_site="lax", secure_policy="ALWAYS", max_age="00:30:00")  # type: ignore[arg-type]
        converted = [cookie.same_site, cookie.secure_policy, cookie.max_age]
        assert converted == [SameSiteMode.LAX, CookieSecurePolicy.ALWAYS, 1800]
        cookie.same_site, cookie.expiration = "Strict", timedelta(days=1)
        assert [cookie.same_site, cookie.expiration] == [SameSiteMode.STRICT, 86400]

    @pytest.mark.parametrize(
        ("attribute", "value", "text"),
        [
            ("name", "", "Invalid cookie name: ''"),
            ("name", "a b", "Invalid cookie name: 'a b'"),
            ("name", "a=b", "Invalid cookie name"),
            ("name", "a;b", "Invalid cookie name"),
            ("name", "kék", "Invalid cookie name"),
            ("domain", "a;b", "domain: 'a;b' may hold neither ';'"),
            ("domain", "a\r\nSet-Cookie: x=y", "domain: "),
            ("path", "app", "path: 'app' must start with '/'"),
            ("path", "/a;b", "path: '/a;b' may hold neither"),
            ("path", "/\x00", "path: "),
            ("path", "/é", "path: "),
            ("extensions", ["a\nb"], "extensions: "),
            ("extensions", ["Partitioned; Secure"], "extensions: "),
            ("extensions", [" "], "extensions: an extension is text"),
            ("same_site", "Loose", "same_site: 'Loose' is not one of Unspecified, None, Lax, Strict"),
            ("secure_policy", "Never", "secure_policy: 'Never' is not one of SameAsRequest, Always, None"),
            ("max_age", "soon", "max_age: Invalid TimeSpan format: 'soon'"),
            ("expiration", float("nan"), "expiration: "),
            ("samesite", "Lax", "no attribute 'samesite'"),
        ],
    )
    def test_what_no_cookie_can_have_is_refused_when_it_is_set(self, attribute: str, value: Any, text: str) -> None:
        cookie = session_cookie()
        with pytest.raises(ArgumentError) as caught:
            setattr(cookie, attribute, value)
        assert text in str(caught.value)


class TestSetCookie:
    def test_default_session_cookie(self) -> None:
        header = session_cookie(secure_policy="None").set_cookie_header("a+/=b", is_https=True)
        assert header == ".AspNetCore.Session=a%2B%2F%3Db; path=/; samesite=lax; httponly"

    def test_every_attribute_in_order(self) -> None:
        cookie = session_cookie(
            name="Kr.Session", domain="example.test", path="/app", max_age=90.9, expiration="1h",
            secure_policy="Always", same_site="None", extensions=["Partitioned", "Priority=High"],
        )  # fmt: skip
        assert cookie.set_cookie_header("v", is_https=False, now=NOW) == (
            "Kr.Session=v; expires=Sat, 31 Jan 2026 13:00:00 GMT; max-age=90; domain=example.test; "
            "path=/app; secure; samesite=none; httponly; Partitioned; Priority=High"
        )
        assert cookie.delete_cookie_header(is_https=False) == (
            "Kr.Session=; expires=Thu, 01 Jan 1970 00:00:00 GMT; domain=example.test; path=/app; secure; "
            "samesite=none; httponly; Partitioned; Priority=High"
        )

    @pytest.mark.parametrize(
        ("policy", "is_https", "secure"),
        [("Always", False, True), ("Always", True, True), ("SameAsRequest", False, False),
         ("SameAsRequest", True, True), ("None", False, False), ("None", True, False)],
    )  # fmt: skip
    def test_secure(self, policy: str, is_https: bool, secure: bool) -> None:
        cookie = session_cookie(secure_policy=policy)
        assert ("; secure" in cookie.set_cookie_header("v", is_https=is_https)) is secure
        assert ("; secure" in cookie.delete_cookie_header(is_https=is_https)) is secure
        assert cookie.is_secure(is_https=is_https) is secure

    def test_nothing_that_is_not_asked_for(self) -> None:
        assert CookieBuilder(name="a").set_cookie_header("", is_https=False) == "a=; path=/"
        assert CookieBuilder(name="a", domain="").set_cookie_header("", is_https=False) == "a=; domain=; path=/"

    def test_escaping(self) -> None:
        header = CookieBuilder(name="a").set_cookie_header("aZ0-._~ ;,é\r\n\ud800", is_https=False)
        assert header == "a=aZ0-._~%20%3B%2C%C3%A9%0D%0A%3F; path=/"

    @pytest.mark.parametrize(("span", "year"), [(9e11, "9999"), (-9e11, "0001")])
    def test_dates_beyond_the_calendar(self, span: float, year: str) -> None:
        header = CookieBuilder(name="a", expiration=span).set_cookie_header("", is_https=False, now=NOW)
        assert f" {year} " in header

    @given(st.text(max_size=60))
    def test_any_value_comes_back(self, value: str) -> None:
        pair = session_cookie().set_cookie_header(value, is_https=False).split(";")[0]
        sent = value.encode("utf-8", "replace").decode()
        assert read_cookie(pair, ".AspNetCore.Session") == (sent or None)


class TestValidate:
    def test_a_good_cookie(self) -> None:
        assert session_cookie(secure_policy="Always").validate() == []
        assert session_cookie(name="__Host-a", secure_policy="Always", path="/").validate() == []
        assert session_cookie(same_site="None").validate(serves_http=False) == []
        assert session_cookie(secure_policy="None").validate(serves_https=False) == []
        assert session_cookie(secure_policy="SameAsRequest").validate(serves_https=False) == []
        assert session_cookie(secure_policy="SameAsRequest").validate(serves_http=False) == []

    @pytest.mark.parametrize(
        ("changes", "text"),
        [
            ({"name": None}, "A cookie needs a name"),
            (
                {"same_site": "None", "secure_policy": "None"},
                "has set 'SameSite=None' and must also be Secure",
            ),
            ({"name": "__Host-a", "secure_policy": "None"}, "begins with __Host- and must also be Secure"),
            ({"name": "__host-a", "domain": "a.test"}, "must have path '/' and no domain"),
            ({"name": "__Host-a", "path": "/app"}, "must have path '/' and no domain"),
            (
                {"name": "__Secure-a", "secure_policy": "None"},
                "begins with __Secure- and must also be Secure",
            ),
            (
                {"extensions": ["partitioned"], "secure_policy": "None"},
                "is Partitioned and must also be Secure",
            ),
        ],
    )
    def test_what_every_browser_refuses(self, changes: dict[str, Any], text: str) -> None:
        with pytest.raises(ArgumentError) as caught:
            session_cookie(**changes).validate()
        assert text in str(caught.value)

    @pytest.mark.parametrize(
        "changes",
        [{"same_site": "None"}, {"name": "__Host-a"}, {"name": "__Secure-a"}, {"extensions": ["Partitioned"]}],
    )
    def test_what_must_be_secure_and_never_is_on_a_host_without_https(self, changes: dict[str, Any]) -> None:
        with pytest.raises(ArgumentError, match="must also be Secure, which it never is on a host without an https"):
            session_cookie(**changes).validate(serves_https=False)
        assert session_cookie(**changes, secure_policy="Always").validate(serves_https=False) == []

    @pytest.mark.parametrize(
        ("changes", "text"),
        [
            ({"http_only": False, "secure_policy": "Always"}, "is not http_only"),
            ({"secure_policy": "SameAsRequest"}, "browsers send it over plain http too"),
            ({"secure_policy": "None"}, "is never Secure, though the host serves https"),
            ({"same_site": "None"}, "over plain http browsers will refuse it"),
            ({"name": "__Secure-a"}, "over plain http browsers will refuse it"),
        ],
    )
    def test_what_is_unsafe_is_a_warning(self, changes: dict[str, Any], text: str) -> None:
        (warning,) = session_cookie(**changes).validate()
        assert text in warning


def read_by_the_book(header: str, name: str) -> str | None:
    """ASP.NET Core's reading, character by character: simple, slow, and not the code under test."""
    found: dict[str, str] = {}
    index = 0
    while index < len(header):
        after, pair = try_pair(header, index)
        if after is None:
            index += 1
            continue
        index = after
        if pair and pair[1]:
            found[pair[0].lower()] = unquote(pair[1], errors="surrogateescape")
    return found.get(name.lower())


def try_pair(header: str, index: int) -> tuple[int | None, tuple[str, str] | None]:
    current, _ = skip(header, index)
    if current == len(header):
        return current, None
    end = current
    while end < len(header) and header[end] in TOKEN:
        end += 1
    if end == current or end == len(header) or header[end] != "=":
        return None, None
    after, value = take_value(header, end + 1)
    name = header[current:end]
    after, separated = skip(header, after)
    if not separated and after < len(header):
        return None, None
    return after, (name, value)


def take_value(header: str, start: int) -> tuple[int, str]:
    quoted = header[start : start + 1] == '"'
    end = start + quoted
    while end < len(header) and header[end] in OCTETS:
        end += 1
    if quoted and header[end : end + 1] != '"':
        return end, ""
    return end + quoted, header[start : end + quoted]


def skip(header: str, index: int) -> tuple[int, bool]:
    separated = False
    while index < len(header) and header[index] in " \t,;":
        separated |= header[index] in ",;"
        index += 1
    return index, separated


class TestReading:
    @pytest.mark.parametrize(
        ("header", "value"),
        [
            ("a=1", "1"),
            ("x=0; a=1; y=2", "1"),
            ("x=0;a=1,y=2", "1"),
            ("A=1", "1"),
            ("a=1; a=2", "2"),
            ("a=1; a=", "1"),
            ("a=", None),
            ("a", None),
            ("", None),
            ("aa=1", None),
            ("x=a=1", None),
            ("a=b=c", "b=c"),
            ("a=a%2Bb+c", "a+b+c"),
            ("a=%C3%A9%ff%", "é%FF%"),
            ('a="q"', '"q"'),
            ('a=""', '""'),
            ('a="open', None),
            ('a="open; b=1', None),
            ("a =1", None),
            ("a= 1", None),
            ("a=1 2", None),
            ("a=\u00e9", None),
            ("x=\u00e9 a=1", "1"),
            ("x y a=1", "1"),
            ("(a=1", "1"),
            ("x@a=1", "1"),
            ("==a=1", "1"),
            ('x="=a=1', None),
            ("\ud800a=1", "1"),
            ("a=1\x00", None),
            (";;,, ;a=1;;", "1"),
        ],
    )
    def test_rules(self, header: str, value: str | None) -> None:
        assert read_cookie(header, "a") == value
        if "%ff" not in header:
            assert read_by_the_book(header, "a") == value

    @settings(max_examples=500)
    @given(st.text(alphabet='ab=; ,"\\\t%2Bé(', max_size=24))
    @example('a="b="a"')
    @example('a="b"a=2')
    @example('a="b a=2')
    @example('b="=a=1')
    def test_reads_as_aspnet_does(self, header: str) -> None:
        expected = read_by_the_book(header, "a")
        found = read_cookie(header, "a")
        if expected is None or expected.isprintable():
            assert found == expected

    @given(st.binary(max_size=200), st.sampled_from(["a", "Kr.Session", "%"]))
    def test_no_bytes_make_it_fail(self, data: bytes, name: str) -> None:
        for text in (data.decode("latin-1"), data.decode("utf-8", "surrogateescape")):
            for header in (text, f"{name}={text}", f"{text};{name}={text};"):
                value = read_cookie(header, name)
                assert value is None or value

    @pytest.mark.parametrize(
        "piece",
        ["a=;", "a=é;", "=", "a", "a=", '"', 'a="', "; ", ",", "a=1 ", "é", "a=%ff", "%", "a(", "==a"],
    )
    def test_the_time_for_a_hostile_header_grows_with_its_length(self, piece: str) -> None:
        assert_linear(lambda length: read_cookie("a=x;" + piece * (length // len(piece)), "a"))


class TestReadingExactly:
    @pytest.mark.parametrize(
        ("header", "values"),
        [
            ("sid=B", ["B"]),
            ("x=0; sid=B; y=2", ["B"]),
            ("x=0;sid=B;y=2", ["B"]),
            ("\tsid=B ", ["B"]),
            ("sid=new; sid=old", ["new", "old"]),
            ("sid=1; sid=2; sid=1; sid=3; sid=4; sid=5", ["1", "2", "3", "4"]),
            ("sid=; sid=B", ["B"]),
            ("sid=a%2Bb", ["a+b"]),
            ("sid=%C3%A9%ff%", ["é%FF%"]),
            ('sid="q"', ['"q"']),
            ("sid=b=c", ["b=c"]),
            ("theme=x,sid=B", []),
            ("x sid=B", []),
            ("SID=B", []),
            ("=sid=B", []),
            ("sid =B", []),
            ("sid= B", []),
            ("sid=B,C", []),
            ("sid=B C", []),
            ('sid="B', []),
            ('sid="', []),
            ("sid=B\\", []),
            ("sid=\u00e9", []),
            ("sid=B\x00", []),
            ("xsid=B", []),
            ("sidx=B", []),
            ('x="; sid=B"', []),
            ("sid", []),
            ("", []),
        ],
    )
    def test_rules(self, header: str, values: list[str]) -> None:
        assert list(read_cookies(header, "sid", limit=4)) == values

    @pytest.mark.parametrize("piece", ["sid=;", "sid=é;", "=", "sid", 'sid="', "; ", "%", "sid=%ff;"])
    def test_the_time_for_a_hostile_header_grows_with_its_length(self, piece: str) -> None:
        assert_linear(lambda length: read_cookies(piece * (length // len(piece)), "sid", limit=4))


def assert_linear(read: Callable[[int], object]) -> None:
    """Ten times as much text may take fifty times the time; it would be a hundred if it were quadratic."""

    def seconds(length: int) -> float:
        began = time.process_time()  # what other programs take does not count
        read(length)
        return time.process_time() - began

    short, long = (min(seconds(length) for _ in range(3)) for length in (20_000, 200_000))
    assert long < 50 * short + 0.01
