"""Get-KrRequestQuery and its kin: conversions, missing values, bodies."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from cmdlets import (
    get_kr_request_body,
    get_kr_request_cookie,
    get_kr_request_header,
    get_kr_request_query,
    get_kr_request_route_param,
)
from kestrun_py.errors import ContextError

if TYPE_CHECKING:
    from cmdlet_support import Route
    from recording_log import Log

Reader = Callable[..., Any]

# Each reader, what its errors call the value, and the request that carries it.
READERS: dict[str, tuple[Reader, str, Callable[[str], dict[str, Any]]]] = {
    "query": (
        get_kr_request_query,
        "query parameter: x",
        lambda value: {"path": "/", "params": {"x": value}},
    ),
    "header": (get_kr_request_header, "header: x", lambda value: {"headers": {"X": value}}),
    "cookie": (get_kr_request_cookie, "cookie: x", lambda value: {"headers": {"Cookie": f"x={value}"}}),
    "route": (
        get_kr_request_route_param,
        "route parameter: x",
        lambda value: {"pattern": "/{x}", "path": f"/{value}"},
    ),
}


@pytest.fixture(params=READERS)
def kind(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


class TestConversions:
    @pytest.mark.parametrize(
        ("sent", "options", "value"),
        [
            ("7", {}, "7"),
            ("7", {"as_string": True}, "7"),
            ("7", {"as_int": True}, 7),
            ("-7", {"as_int": True}, -7),
            ("7", {"as_double": True}, 7.0),
            ("7.5", {"as_double": True}, 7.5),
            ("false", {"as_bool": True}, True),  # it asks only whether something is there
            ("false", {"as_boolean": True}, True),
            ("7", {"throw_if_missing": True}, "7"),
            ("7", {"as_int": True, "throw_if_missing": True}, 7),
        ],
    )
    async def test_values(self, kind: str, sent: str, options: dict[str, Any], value: Any, route: Route) -> None:
        reader, _, request = READERS[kind]
        found = await route.value(lambda: reader("x", **options), **request(sent))
        assert (found, type(found)) == (value, type(value))

    @pytest.mark.parametrize(
        ("options", "value"),
        [({}, None), ({"as_int": True}, 0), ({"as_double": True}, 0.0), ({"as_bool": True}, False)],
    )
    async def test_missing(self, kind: str, options: dict[str, Any], value: Any, route: Route) -> None:
        found = await route.value(lambda: READERS[kind][0]("x", **options))
        assert (found, type(found)) == (value, type(value))

    @pytest.mark.parametrize("options", [{"throw_if_missing": True}, {"as_string": True}])
    async def test_missing_and_required(self, kind: str, options: dict[str, Any], route: Route, log: Log) -> None:
        reader, what, _ = READERS[kind]
        assert await route.value(lambda: reader("x", **options)) == 500
        assert log.last_exception == f"kestrun_py.errors.ArgumentError: Missing required {what}"

    @pytest.mark.parametrize(
        ("sent", "options", "text"),
        [
            ("secret", {"as_int": True}, "is no integer."),
            ("1.5", {"as_int": True}, "is no integer."),
            ("1_0", {"as_int": True}, "is no integer."),
            ("9" * 5000, {"as_int": True}, "is no integer."),
            ("secret", {"as_double": True}, "is no number."),
            ("1_0", {"as_double": True}, "is no number."),
        ],
    )
    async def test_what_cannot_be_converted_is_named_and_not_shown(
        self, kind: str, sent: str, options: dict[str, Any], text: str, route: Route, log: Log
    ) -> None:
        reader, what, request = READERS[kind]
        assert await route.value(lambda: reader("x", **options), **request(sent)) == 500
        assert log.last_exception == f"kestrun_py.errors.ArgumentError: The {what} {text}"
        assert sent not in log.errors[-1].exception.partition("ArgumentError")[2]

    async def test_one_conversion_at_a_time(self, kind: str, route: Route, log: Log) -> None:
        reader, _, request = READERS[kind]
        assert await route.value(lambda: reader("x", as_int=True, as_bool=True), **request("1")) == 500
        assert log.last_exception.endswith("as_int, as_bool, as_double and as_string exclude each other.")

    @pytest.mark.parametrize("name", ["", None, 5])
    async def test_a_name_is_mandatory(self, kind: str, name: Any, route: Route, log: Log) -> None:
        assert await route.value(lambda: READERS[kind][0](name)) == 500
        assert "ArgumentError" in log.last_exception

    def test_outside_a_route(self, kind: str) -> None:
        reader = READERS[kind][0]
        with pytest.raises(ContextError, match=f"^{reader.__name__} must be called inside a route script"):
            reader("x")


class TestNames:
    async def test_a_query_parameters_case_matters(self, route: Route) -> None:
        found = await route.value(lambda: (get_kr_request_query("a"), get_kr_request_query("A")), params={"A": "1"})
        assert found == (None, "1")

    async def test_a_headers_does_not(self, route: Route) -> None:
        assert await route.value(lambda: get_kr_request_header("x-ONE"), headers={"X-One": "1"}) == "1"

    async def test_repeated_values_are_joined(self, route: Route) -> None:
        found = await route.value(
            lambda: (get_kr_request_query("a"), get_kr_request_header("X")),
            params=[("a", "1"), ("a", "2")],
            headers=[("X", "1"), ("X", "2")],
        )
        assert found == ("1,2", "1,2")

    async def test_cookies_are_unescaped(self, route: Route) -> None:
        assert await route.value(lambda: get_kr_request_cookie("c"), headers={"Cookie": "c=a%20b"}) == "a b"

    async def test_an_empty_value_is_there_but_false(self, route: Route) -> None:
        def work() -> Any:
            return (
                get_kr_request_query("a"),
                get_kr_request_query("a", as_bool=True),
                get_kr_request_query("a", as_int=True),
                get_kr_request_query("a", throw_if_missing=True),
            )

        assert await route.value(work, params={"a": ""}) == ("", False, 0, "")


@dataclass
class Order:
    item: str
    count: int = 1


class TestBody:
    async def send(self, route: Route, work: Callable[[], Any], data: bytes, content_type: str) -> Any:
        return await route.value(work, method="POST", data=data, headers={"Content-Type": content_type})

    @pytest.mark.parametrize(
        ("content_type", "data", "value"),
        [
            ("application/json; charset=utf-8", b'{"a": 1}', {"a": 1}),
            ("application/x-www-form-urlencoded", b"a=1&b=2", {"a": "1", "b": "2"}),
            ("application/xml", b"<a>1</a>", {"a": "1"}),
            ("application/yaml", b"a: 1", "a: 1"),
            ("text/plain", b"x", "x"),
        ],
    )
    async def test_by_its_media_type(self, content_type: str, data: bytes, value: Any, route: Route) -> None:
        assert await self.send(route, get_kr_request_body, data, content_type) == value

    async def test_raw(self, route: Route) -> None:
        found = await self.send(route, lambda: get_kr_request_body(raw=True), b'{"a": 1}', "application/json")
        assert found == '{"a": 1}'

    async def test_no_body(self, route: Route) -> None:
        assert await route.value(get_kr_request_body) == ""

    @pytest.mark.parametrize("content_type", ["application/json", "text/plain"])
    async def test_as_an_object_of_a_class(self, content_type: str, route: Route) -> None:
        found = await self.send(route, lambda: get_kr_request_body(type=Order), b'{"item": "tea"}', content_type)
        assert found == Order("tea", 1)

    @pytest.mark.parametrize("data", [b'{"item": "tea", "color": "red"}', b"{}", b"[1]", b"5"])
    async def test_that_does_not_fit(self, data: bytes, route: Route, log: Log) -> None:
        assert await self.send(route, lambda: get_kr_request_body(type=Order), data, "application/json") == 500
        assert "ArgumentError: The request body does not fit Order: " in log.last_exception

    def test_outside_a_route(self) -> None:
        with pytest.raises(ContextError, match="get_kr_request_body must be called inside a route script"):
            get_kr_request_body()
