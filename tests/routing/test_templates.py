"""Path templates by ASP.NET Core's rules."""

from __future__ import annotations

import re
import time
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kestrun_py.errors import ArgumentError
from kestrun_py.routing.templates import PathTemplate


@pytest.mark.parametrize(
    ("template", "path", "values"),
    [
        ("/", "/", {}),
        ("/hello", "/hello", {}),
        ("/hello", "/HELLO", {}),
        ("/hello", "/hello/", {}),
        ("/hello/", "/hello", {}),
        ("/hello", "/hello//", None),
        ("/hello", "/hello/you", None),
        ("/Grüße", "/grÜße", {}),
        ("/Grüße", "/Grüsse", None),
        ("/a.b", "/axb", None),
        ("/items/{id}", "/items/7", {"id": "7"}),
        ("/items/{id}", "/Items/7/", {"id": "7"}),
        ("/items/{id}", "/items", None),
        ("/items/{id}", "/items/7/8", None),
        ("/items/{id}", "/items/Keep Case", {"id": "Keep Case"}),
        ("/items/{user-id}", "/items/7", {"user-id": "7"}),
        ("/{a}/{b}", "/1/2", {"a": "1", "b": "2"}),
        # optional parameters and defaults
        ("/items/{id?}", "/items", {}),
        ("/items/{id?}", "/items/", {}),
        ("/items/{id?}", "/items/7", {"id": "7"}),
        ("/items/{id?}", "/items/7/8", None),
        ("/items/{id=1}", "/items", {"id": "1"}),
        ("/items/{id=1}", "/items/7", {"id": "7"}),
        ("/{name?}", "/", {}),
        ("/{controller=Home}/{action=Index}/{id?}", "/", {"controller": "Home", "action": "Index"}),
        ("/{controller=Home}/{action=Index}/{id?}", "/Shop", {"controller": "Shop", "action": "Index"}),
        ("/{controller=Home}/{action=Index}/{id?}", "/a/b/c", {"controller": "a", "action": "b", "id": "c"}),
        ("/{lang=en}/home", "/home", None),  # what follows it makes it mandatory
        ("/{lang=en}/home", "/de/home", {"lang": "de"}),
        # catch-all parameters
        ("/files/{*path}", "/files/a/b.txt", {"path": "a/b.txt"}),
        ("/files/{**path}", "/files/a/b.txt", {"path": "a/b.txt"}),
        ("/files/{*path}", "/files", {}),
        ("/files/{*path}", "/files/", {}),
        ("/files/{*path}", "/files/a/", {"path": "a/"}),
        ("/files/{*path}", "/files/a\nb", {"path": "a\nb"}),
        ("/files/{*path=index.html}", "/files", {"path": "index.html"}),
        ("/files/{*path}", "/filesystem", None),
        # several parts in one segment
        ("/{name}.{extension}", "/archive.tar.gz", {"name": "archive.tar", "extension": "gz"}),
        ("/v{version:int}", "/v2", {"version": "2"}),
        ("/v{version:int}", "/vx", None),
        ("/{from}-{to}", "/1-2", {"from": "1", "to": "2"}),
        ("/{from}-{to}", "/12", None),
    ],
)
def test_matching(template: str, path: str, values: dict[str, str] | None) -> None:
    assert PathTemplate(template).match(path) == values


@pytest.mark.parametrize(
    ("constraint", "good", "bad"),
    [
        ("int", ["0", "-1", "+7", "2147483647", "-2147483648"], ["x", "1.0", "2147483648", "", "1_0", "٣", "9" * 5000]),
        ("INT", ["1"], ["x"]),
        ("long", ["9223372036854775807", "-9223372036854775808"], ["9223372036854775808", "x", "9" * 5000]),
        ("bool", ["true", "FALSE"], ["1", "yes"]),
        ("alpha", ["abcXYZ"], ["a1", "é"]),
        ("decimal", ["1", "-1.5"], ["1e3", "."]),
        ("double", ["1", "-1.5e-3"], ["x"]),
        ("float", ["1.5"], ["x"]),
        ("guid", ["00000000-0000-0000-0000-00000000000a", "0" * 32], ["0" * 31, "g" * 32]),
        ("datetime", ["2024-01-31", "2024-01-31T10:20:30Z"], ["yesterday"]),
        ("required", ["x"], []),
        ("length(3)", ["abc"], ["ab", "abcd"]),
        ("length(2,3)", ["ab", "abc"], ["a", "abcd"]),
        ("minlength(2)", ["ab"], ["a"]),
        ("maxlength(2)", ["ab"], ["abc"]),
        ("min(18)", ["18"], ["17", "x", "9" * 5000]),
        ("max(18)", ["18", "-5"], ["19", "x"]),
        ("range(1,10)", ["1", "10"], ["0", "11", "x"]),
        ("regex(^a.c$)", ["abc", "ABC"], ["abcd"]),
        ("int:min(1)", ["1"], ["0", "x"]),
    ],
)
def test_constraints(constraint: str, good: list[str], bad: list[str]) -> None:
    template = PathTemplate(f"/items/{{id:{constraint}}}")
    assert [template.match(f"/items/{value}") for value in good] == [{"id": value} for value in good]
    assert not any(template.match(f"/items/{value}") for value in bad)


def test_a_constraint_holds_for_an_optional_parameter_that_is_there() -> None:
    template = PathTemplate("/items/{id:int?}")
    assert (template.match("/items"), template.match("/items/7")) == ({}, {"id": "7"})
    assert template.match("/items/x") is None


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "starts with '/'"),
        ("hello", "starts with '/'"),
        ("//", "two slashes"),
        ("/a//b", "two slashes"),
        ("/a?b=1", "'?' begins a query"),
        ("/{a", "braces"),
        ("/a}", "braces"),
        ("/{{a}}", "braces"),
        ("/{}", "is no parameter"),
        ("/{a b?c}", "is no parameter"),
        ("/{*}", "is no parameter"),
        ("/{a}/{a}", "'a' appears twice"),
        ("/{a}/{A}", "'A' appears twice"),
        ("/{*rest}/more", "must be the last segment"),
        ("/x{a?}", "segment of its own"),
        ("/x{*a}", "segment of its own"),
        ("/{a}{b}", "text must separate"),
        ("/{a:whatever}", "'whatever' is not known"),
        ("/{a:whatever(1)}", "'whatever' is not known"),
        ("/{a:int(1)}", "'int' is not known, or its arguments are wrong"),
        ("/{a:range(1)}", "'range' is not known, or its arguments are wrong"),
        ("/{a:min(x)}", "'min' is not known, or its arguments are wrong"),
        ("/{a:regex([a)}", "'regex' is not known, or its arguments are wrong"),
    ],
)
def test_malformed_templates(text: str, why: str) -> None:
    with pytest.raises(ArgumentError, match="route pattern") as caught:
        PathTemplate(text)
    assert why in str(caught.value)


def test_what_is_no_text_is_no_template() -> None:
    with pytest.raises(ArgumentError, match="None does not"):
        PathTemplate(None)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("/a", "/A/", True),
        ("/{a}", "/{b}", True),
        ("/{a:int}", "/{b:int}", True),
        ("/{a:int}", "/{a:alpha}", False),
        ("/{a:int?}", "/{a:alpha?}", False),
        ("/{a}", "/{a?}", False),
        ("/{*a}", "/{*b}", True),
        ("/{*a}", "/{*b:alpha}", False),
        ("/v{a:int}", "/v{a:alpha}", False),
        ("/v{a}", "/V{b}", True),
    ],
)
def test_templates_for_the_same_paths_have_the_same_key(one: str, other: str, same: bool) -> None:
    assert (PathTemplate(one).key == PathTemplate(other).key) is same


def test_precedence() -> None:
    in_order = ["/a/b", "/a/x{y}", "/a/{x:int}", "/a/{x}", "/{x:int}/b", "/{x}/b", "/{x}/{y}", "/{*x:alpha}", "/{*x}"]
    backwards = in_order[::-1]
    backwards.sort(key=lambda text: PathTemplate(text).precedence)
    assert backwards == in_order


def test_only_a_template_without_parameters_is_literal() -> None:
    assert PathTemplate("/a/b").is_literal
    assert PathTemplate("/").is_literal
    assert not PathTemplate("/a/{b?}").is_literal


_SEGMENT = st.text(st.characters(exclude_characters="/{}?", exclude_categories=["Cs"]), min_size=1, max_size=8)


@given(st.lists(_SEGMENT, max_size=4), _SEGMENT)
def test_any_literal_matches_itself_and_any_segment_fits_a_parameter(segments: list[str], value: str) -> None:
    path = "/" + "/".join(segments)
    assert PathTemplate(path).match(path) == {}
    assert PathTemplate(f"{path.rstrip('/')}/{{value}}").match(f"{path.rstrip('/')}/{value}") == {"value": value}


@given(
    st.sampled_from(
        [["", "-", ""], ["", "-", "-", ".x"], ["ab", ""], ["", "x"], ["x", "y", "x"], ["", "aa", "aa", ""]]
    ),
    st.text("abxyABXY-.ä", min_size=1, max_size=12),
)
def test_several_parts_match_as_an_expression_does(literals: list[str], segment: str) -> None:
    names = [f"p{number}" for number in range(len(literals) - 1)]
    template = "/" + literals[0] + "".join(f"{{{name}}}{text}" for name, text in zip(names, literals[1:], strict=True))
    found = re.fullmatch("(.+)".join(map(re.escape, literals)), segment, re.IGNORECASE)
    expected = None if found is None else dict(zip(names, found.groups(), strict=True))
    assert PathTemplate(template).match(f"/{segment}") == expected


def test_a_letter_whose_lower_case_is_two_moves_nothing() -> None:
    assert PathTemplate("/{a}-{b}X").match("/İİ-İx") == {"a": "İİ", "b": "İ"}


@pytest.mark.parametrize("template", ["/{y}-{m}-{d}.html", "/{a}-{b}-{c}-{d}/x", "/f{a}-{b}.{c}/{rest}/y"])
def test_a_long_path_is_matched_in_no_time(template: str) -> None:
    path = "/f" + "-" * 4000 + "." * 4000
    began = time.process_time()
    assert PathTemplate(template).match(path) is None
    assert time.process_time() - began < 1


@given(st.text())
def test_any_text_makes_a_template_or_a_clear_error(text: str) -> None:
    with suppress(ArgumentError):
        assert PathTemplate(f"/{text}").key.startswith("/")
