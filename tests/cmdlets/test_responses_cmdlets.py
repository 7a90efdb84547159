"""Write-KrJsonResponse and its kin."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from cmdlets import (
    write_kr_error_response,
    write_kr_html_response,
    write_kr_json_response,
    write_kr_redirect_response,
    write_kr_status_response,
    write_kr_text_response,
)
from kestrun_py.errors import ContextError
from kestrun_py.logging import LogLevel

if TYPE_CHECKING:
    from cmdlet_support import Route
    from recording_log import Log

NULL = "Cannot bind argument to parameter 'input_object' because it is null."


class TestJson:
    async def test_defaults(self, route: Route) -> None:
        status, text, headers = await route.run(lambda: write_kr_json_response({"a": "é"}))
        assert (status, text) == (200, '{\n  "a": "é"\n}')
        assert headers["Content-Type"] == "application/json; charset=utf-8"

    async def test_positions_and_options(self, route: Route) -> None:
        def work() -> None:
            write_kr_json_response({"a": {"b": {}}}, 201, depth=0, compress=True, content_type="application/x")

        status, text, headers = await route.run(work)
        assert (status, text, headers["Content-Type"]) == (201, '{"a":"{\'b\': {}}"}', "application/x")

    @pytest.mark.parametrize("value", [{"a": 1}, [1], "text", 5, 0, False, "", {1}])
    async def test_through_the_pipe(self, value: Any, route: Route) -> None:
        status, text, _ = await route.run(lambda: value | write_kr_json_response(status_code=202, compress=True))
        assert (status, json.loads(text)) == (202, [1] if value == {1} else value)

    @pytest.mark.parametrize("work", [lambda: write_kr_json_response(None), lambda: None | write_kr_json_response()])
    async def test_nothing_is_no_value(self, work: Callable[[], Any], route: Route, log: Log) -> None:
        assert (await route.run(work))[0] == 500
        assert log.last_exception.endswith(NULL)

    async def test_a_depth_out_of_range(self, route: Route, log: Log) -> None:
        assert (await route.run(lambda: write_kr_json_response({}, depth=101)))[0] == 500
        assert "depth must be between 0 and 100" in log.last_exception

    @pytest.mark.parametrize("cmdlet", [write_kr_json_response, write_kr_text_response])
    def test_one_that_waits_in_vain_for_a_pipe_says_so(self, cmdlet: Callable[[], Any]) -> None:
        with pytest.warns(RuntimeWarning, match=f"{cmdlet.__name__} did nothing: pipe a value into it"):
            cmdlet()


class TestText:
    async def test_defaults(self, route: Route) -> None:
        status, text, headers = await route.run(lambda: write_kr_text_response("Grüße"))
        assert (status, text, headers["Content-Type"]) == (200, "Grüße", "text/plain; charset=utf-8")

    @pytest.mark.parametrize(
        "work",
        [
            lambda: write_kr_text_response(5, 201, content_type="text/csv"),
            lambda: write_kr_text_response(text=5, status_code=201, content_type="text/csv"),
            lambda: write_kr_text_response(input_object=5, status_code=201, content_type="text/csv"),
            lambda: 5 | write_kr_text_response(status_code=201, content_type="text/csv"),
        ],
    )
    async def test_every_way_to_say_it(self, work: Callable[[], Any], route: Route) -> None:
        status, text, headers = await route.run(work)
        assert (status, text, headers["Content-Type"]) == (201, "5", "text/csv; charset=utf-8")

    async def test_empty_text_is_text(self, route: Route) -> None:
        status, text, headers = await route.run(lambda: write_kr_text_response(""))
        assert (status, text, headers["Content-Type"]) == (200, "", "text/plain; charset=utf-8")

    async def test_both_names_at_once(self, route: Route, log: Log) -> None:
        assert (await route.run(lambda: write_kr_text_response("a", text="b")))[0] == 500  # type: ignore[call-overload]
        assert log.last_exception.endswith("input_object and text are one parameter; give one of them.")

    @pytest.mark.parametrize("nothing", [{"input_object": None}, {"text": None}])
    async def test_nothing_is_no_value(self, nothing: dict[str, Any], route: Route, log: Log) -> None:
        assert (await route.run(lambda: write_kr_text_response(**nothing)))[0] == 500
        assert log.last_exception.endswith(NULL)


class TestHtml:
    async def test_template_text(self, route: Route) -> None:
        status, text, headers = await route.run(
            lambda: write_kr_html_response("<p>{{name}}</p>", 201, variables={"name": "Max"})
        )
        assert (status, text, headers["Content-Type"]) == (201, "<p>Max</p>", "text/html; charset=utf-8")

    async def test_template_file(self, tmp_path: Path, route: Route) -> None:
        (tmp_path / "page.html").write_text("<p>{{name}} ü</p>", encoding="utf-8")
        _, text, _ = await route.run(
            lambda: write_kr_html_response(file_path=str(tmp_path / "page.html"), variables={"name": "Max"})
        )
        assert text == "<p>Max ü</p>"

    async def test_a_missing_file_is_an_error(self, route: Route, log: Log) -> None:
        assert (await route.run(lambda: write_kr_html_response(file_path="/no/such/page.html")))[0] == 500
        assert "/no/such/page.html" in log.last_exception

    @pytest.mark.parametrize("given", [{}, {"template": "x", "file_path": "y"}])
    async def test_text_or_file(self, given: dict[str, Any], route: Route, log: Log) -> None:
        assert (await route.run(lambda: write_kr_html_response(**given)))[0] == 500
        assert log.last_exception.endswith("write_kr_html_response takes either template or file_path.")


class TestStatus:
    async def test_no_body_and_no_type(self, route: Route) -> None:
        status, text, headers = await route.run(lambda: write_kr_status_response(418))
        assert (status, text, "Content-Type" in headers) == (418, "", False)

    async def test_no_status(self, route: Route, log: Log) -> None:
        assert (await route.run(lambda: write_kr_status_response(99)))[0] == 500
        assert "An HTTP status is an integer" in log.last_exception


class TestRedirect:
    async def test_302(self, route: Route) -> None:
        status, text, headers = await route.run(lambda: write_kr_redirect_response("https://example.org/?a=b"))
        assert (status, text, headers["Location"]) == (302, "", "https://example.org/?a=b")

    async def test_a_message_goes_to_the_log(self, route: Route, log: Log) -> None:
        _, text, headers = await route.run(lambda: write_kr_redirect_response("/there", "Moved"))
        assert (text, "Content-Type" in headers) == ("", False)
        assert any(line.endswith("is redirected: Moved") for line in log.texts(LogLevel.DEBUG))

    @pytest.mark.parametrize("url", ["/a\r\nSet-Cookie: evil=1", "/a\n", ""])
    async def test_no_header_can_be_smuggled_in(self, url: str, route: Route) -> None:
        status, _, headers = await route.run(lambda: write_kr_redirect_response(url))
        assert (status, "Set-Cookie" in headers, "Location" in headers) == (500, False, False)


class TestError:
    async def test_a_message(self, route: Route) -> None:
        status, text, headers = await route.run(
            lambda: write_kr_error_response("No such order", 404, details="Order 1"),
            headers={"Accept": "application/json"},
        )
        payload = json.loads(text)
        assert (status, headers["Content-Type"]) == (404, "application/json; charset=utf-8")
        assert (payload["error"], payload["details"], payload["reason"]) == ("No such order", "Order 1", "Not Found")

    async def test_the_default_is_text_and_500(self, route: Route) -> None:
        status, text, headers = await route.run(lambda: write_kr_error_response("Broken"))
        assert (status, headers["Content-Type"]) == (500, "text/plain; charset=utf-8")
        assert text.startswith("Status: 500 (Internal Server Error)\nError: Broken\nTime: ")

    @pytest.mark.parametrize("include_stack", [False, True])
    async def test_an_exception(self, include_stack: bool, route: Route) -> None:
        def work() -> None:
            try:
                raise ValueError("wrong")
            except ValueError as error:
                write_kr_error_response(exception=error, status_code=400, include_stack=include_stack)

        status, text, _ = await route.run(work)
        assert status == 400
        assert "Error: wrong" in text
        assert ("raise ValueError" in text) is include_stack

    @pytest.mark.parametrize(
        ("given", "text"),
        [
            ({}, "takes either message or exception"),
            ({"message": "x", "exception": ValueError()}, "takes either message or exception"),
            ({"exception": ValueError(), "details": "x"}, "details go with message"),
            ({"message": 5}, "message must be text, not int"),
        ],
    )
    async def test_what_does_not_go_together(self, given: dict[str, Any], text: str, route: Route, log: Log) -> None:
        assert (await route.run(lambda: write_kr_error_response(**given)))[0] == 500
        assert text in log.last_exception

    async def test_an_empty_message(self, route: Route) -> None:
        status, text, _ = await route.run(lambda: write_kr_error_response("", 404))
        assert (status, text.splitlines()[:2]) == (404, ["Status: 404 (Not Found)", "Error: "])


@pytest.mark.parametrize(
    ("write", "text"),
    [
        (lambda: write_kr_text_response(""), ""),
        (lambda: write_kr_text_response(text=""), ""),
        (lambda: "" | write_kr_text_response(), ""),
        (lambda: write_kr_json_response(""), '""'),
        (lambda: "" | write_kr_json_response(), '""'),
        (lambda: write_kr_html_response(""), ""),
        (lambda: write_kr_redirect_response("/", ""), ""),
    ],
)
async def test_an_empty_text_is_a_value(write: Any, text: str, route: Route) -> None:
    assert (await route.run(lambda: write() and None))[1] == text


async def test_the_last_writer_wins(route: Route) -> None:
    def work() -> None:
        write_kr_redirect_response("/there")
        write_kr_error_response("no")
        write_kr_text_response("yes", 201)

    status, text, headers = await route.run(work)
    assert (status, text, "Location" in headers) == (201, "yes", False)


@pytest.mark.parametrize(
    "call",
    [
        lambda: write_kr_json_response({}),
        lambda: {} | write_kr_json_response(),
        lambda: write_kr_text_response("x"),
        lambda: write_kr_html_response("x"),
        lambda: write_kr_status_response(200),
        lambda: write_kr_redirect_response("/"),
        lambda: write_kr_error_response("x"),
    ],
)
def test_outside_a_route_each_says_so(call: Callable[[], Any]) -> None:
    with pytest.raises(ContextError, match=r"^write_kr_\w+_response must be called inside a route script"):
        call()


@pytest.mark.parametrize(
    ("cmdlet", "defaults"),
    [
        (write_kr_json_response, {"status_code": 200, "depth": 10, "compress": False, "content_type": None}),
        (write_kr_text_response, {"status_code": 200, "content_type": None}),
        (write_kr_html_response, {"status_code": 200, "template": None, "file_path": None, "variables": None}),
        (write_kr_status_response, {}),
        (write_kr_redirect_response, {"message": None}),
        (
            write_kr_error_response,
            {"status_code": 500, "content_type": None, "details": None, "include_stack": False, "exception": None},
        ),
    ],
)
def test_names_and_defaults_are_kestruns(cmdlet: Callable[..., Any], defaults: dict[str, Any]) -> None:
    parameters = inspect.signature(cmdlet).parameters
    assert {name: parameters[name].default for name in defaults} == defaults
