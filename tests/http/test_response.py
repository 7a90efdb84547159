"""What a script writes, and what the client gets of it."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request
from pytest_aiohttp.plugin import AiohttpClient
from recording_log import Log

from kestrun_py import KestrunHost
from kestrun_py.context import KestrunContext
from kestrun_py.errors import ArgumentError
from kestrun_py.http.response import KestrunResponse
from kestrun_py.serialization.yaml import from_yaml


def new_response(accept: str | None = None) -> KestrunResponse:
    headers = {} if accept is None else {"Accept": accept}
    return KestrunResponse(make_mocked_request("POST", "/orders?id=1", headers=headers))


def body_of(response: KestrunResponse) -> str:
    assert isinstance(response.body, bytes)
    return response.body.decode()


class TestAttributes:
    @pytest.mark.parametrize(
        ("name", "value", "why"),
        [
            ("status", "teapot", "An HTTP status is an integer from 200 to 599, not 'teapot'"),
            ("status", 100, "not 100"),
            ("body", ["text"], "The body of a response is bytes or text, not list"),
            ("content_type", "text/plain\r\nX: y", "The content type holds a line break"),
        ],
    )
    def test_what_a_script_assigns_is_checked(self, name: str, value: object, why: str) -> None:
        response = new_response()
        setattr(response, name, value)
        with pytest.raises(ArgumentError, match=why):
            response.to_aiohttp()

    def test_unknown_ones_are_refused(self) -> None:
        response: Any = new_response()
        with pytest.raises(AttributeError, match="statuscode"):
            response.statuscode = 404

    def test_status_code_is_the_status(self) -> None:
        response = new_response()
        response.status_code = 404
        assert (response.status, response.status_code, response.to_aiohttp().status) == (404, 404, 404)
        with pytest.raises(ArgumentError, match="not 99"):
            response.status_code = 99

    def test_a_body_may_be_text(self) -> None:
        response = new_response()
        response.body = "größe"
        sent = response.to_aiohttp()
        assert isinstance(sent, web.Response)
        assert (sent.body, sent.headers["Content-Type"]) == ("größe".encode(), "text/plain; charset=utf-8")


class TestJson:
    def test_defaults(self) -> None:
        response = new_response()
        response.write_json({"größe": 1})
        assert (response.status, response.content_type) == (200, "application/json; charset=utf-8")
        assert body_of(response) == '{\n  "größe": 1\n}'

    def test_options(self) -> None:
        response = new_response()
        response.write_json({"a": {"b": {}}}, status=201, depth=0, compress=True, content_type="application/x+json")
        assert (response.status, response.content_type) == (201, "application/x+json; charset=utf-8")
        assert body_of(response) == '{"a":"{\'b\': {}}"}'


class TestText:
    @pytest.mark.parametrize(
        ("value", "text"), [("Grüße", "Grüße"), (5, "5"), (None, "None"), ([1], "[1]"), ("\ud800", "?")]
    )
    def test_the_text_of_a_value(self, value: object, text: str) -> None:
        response = new_response()
        response.write_text(value)
        assert (response.content_type, body_of(response)) == ("text/plain; charset=utf-8", text)

    @pytest.mark.parametrize(
        ("given", "sent"),
        [("text/csv", "text/csv; charset=utf-8"), ("text/csv; Charset=UTF-8", "text/csv; Charset=UTF-8")],
    )
    def test_a_content_type_without_charset_gets_one(self, given: str, sent: str) -> None:
        response = new_response()
        response.write_text("x", content_type=given)
        assert response.content_type == sent

    @pytest.mark.parametrize("given", ["text/plain\r\nSet-Cookie: a=b", "text/plain\n", "text/plain\0"])
    def test_a_content_type_cannot_smuggle_a_header(self, given: str) -> None:
        with pytest.raises(ArgumentError, match="line break"):
            new_response().write_text("x", content_type=given)


class TestHtml:
    class User:
        name = "Max"

    @pytest.mark.parametrize(
        ("template", "text"),
        [
            ("<p>Hi</p>", "<p>Hi</p>"),
            ("{{name}}", "Max"),
            ("{{ name }}!", "Max!"),
            ("{{user.name}} {{address.city}}", "Max Rome"),
            ("{{unknown}} {{address.zip}} {{ address.city.x }}", "{{unknown}} {{address.zip}} {{address.city.x}}"),
            ("{{nothing}}", "{{nothing}}"),
            ("{{zero}}", "0"),
            ("{{empty}}|", "|"),
            ("{{name", "{{name"),
            ("}} {{name}} {{", "}} Max {{"),
            ("{ {name}} {name}", "{ {name}} {name}"),
            ("{{}}", "{{}}"),
            ("{{again}}", "{{name}}"),
            ("{{html}}", "<b>"),
        ],
    )
    def test_templates(self, template: str, text: str) -> None:
        variables = {
            "name": "Max",
            "user": self.User(),
            "address": {"city": "Rome"},
            "nothing": None,
            "zero": 0,
            "empty": "",
            "again": "{{name}}",
            "html": "<b>",
        }
        response = new_response()
        response.write_html(template, variables=variables, status=203)
        assert (response.status, response.content_type) == (203, "text/html; charset=utf-8")
        assert body_of(response) == text

    def test_without_variables(self) -> None:
        response = new_response()
        response.write_html("{{name}}")
        assert body_of(response) == "{{name}}"


class TestWrite:
    @pytest.mark.parametrize(
        ("accept", "content_type", "body"),
        [
            ("application/json", "application/json; charset=utf-8", b'{\n  "userName": 1\n}'),
            ("application/xml", "application/xml; charset=utf-8", b"<Response>\n  <UserName>1</UserName>\n</Response>"),
            ("application/yaml", "application/yaml; charset=utf-8", b"UserName: 1\n"),
            ("application/cbor", "application/cbor", b"\xa1hUserName\x01"),
            ("application/bson", "application/bson", b"\x13\0\0\0\x10UserName\0\x01\0\0\0\0"),
            ("text/csv", "text/csv; charset=utf-8", b'"UserName"\n"1"'),
            (
                "application/x-www-form-urlencoded",
                "application/x-www-form-urlencoded; charset=utf-8",
                b"UserName=1",
            ),
            ("image/png", "text/plain; charset=utf-8", b"{'UserName': 1}"),
            (None, "text/plain; charset=utf-8", b"{'UserName': 1}"),
        ],
    )
    def test_the_form_follows_accept(self, accept: str | None, content_type: str, body: bytes) -> None:
        response = new_response(accept)
        response.write({"UserName": 1}, status=202)
        assert (response.status, response.content_type, response.body) == (202, content_type, body)


class TestStatus:
    def test_a_status_alone(self) -> None:
        response = new_response()
        response.write_status(HTTPStatus.NO_CONTENT)
        assert (response.status, response.body, response.content_type) == (204, None, None)

    @pytest.mark.parametrize("status", [99, 600, 0, -1, "200", 200.0, None, True, 100, 101])
    def test_what_is_no_status_of_an_answer(self, status: Any) -> None:
        with pytest.raises(ArgumentError, match="An HTTP status is an integer from 200 to 599"):
            new_response().write_status(status)


class TestRedirect:
    def test_302_with_location(self) -> None:
        response = new_response()
        response.write_redirect("/there?a=1&b=%20#c")
        assert (response.status, response.body, response.headers["Location"]) == (302, None, "/there?a=1&b=%20#c")

    @pytest.mark.parametrize(
        ("url", "location"), [("/søk?q=a b", "/s%C3%B8k?q=a%20b"), ("/\ud800", "/?"), ("/\t", "/%09")]
    )
    def test_what_no_header_holds_is_escaped(self, url: str, location: str) -> None:
        response = new_response()
        response.write_redirect(url)
        assert response.headers["Location"] == location

    @pytest.mark.parametrize("url", ["", "/a\r\nSet-Cookie: a=b", "/a\nb", "/a\rb", "/a\0b"])
    def test_it_cannot_smuggle_a_header(self, url: str) -> None:
        with pytest.raises(ArgumentError, match="The URL of a redirect must not"):
            new_response().write_redirect(url)

    def test_a_later_write_takes_it_back(self) -> None:
        response = new_response()
        response.write_redirect("/there")
        response.write_text("here")
        assert (response.status, "Location" in response.headers) == (200, False)


class TestError:
    @pytest.mark.parametrize(
        ("accept", "content_type", "sent"),
        [
            ("application/json", None, "application/json"),
            ("text/html, application/problem+JSON;q=0.9", None, "application/json"),
            ("application/yaml", None, "application/yaml"),
            ("text/x-yml", None, "application/yaml"),
            ("application/xml", None, "application/xml"),
            ("text/html", None, "text/html"),
            ("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", None, "text/html"),
            ("*/*", None, "text/plain"),
            (None, None, "text/plain"),
            ("application/xml", "application/json", "application/json"),
            ("application/json", "text/plain", "text/plain"),
        ],
    )
    def test_the_form_follows_content_type_then_accept(
        self, accept: str | None, content_type: str | None, sent: str
    ) -> None:
        response = new_response(accept)
        response.write_error("Broken", status=400, content_type=content_type)
        assert (response.status, response.content_type) == (400, f"{sent}; charset=utf-8")

    def test_json(self) -> None:
        response = new_response("application/json")
        response.write_error("No such order", status=404, details="Order 1")
        payload = json.loads(body_of(response))
        timestamp = datetime.fromisoformat(payload.pop("timestamp"))
        assert datetime.now(UTC) - timestamp < timedelta(minutes=1)
        assert payload == {
            "error": "No such order",
            "details": "Order 1",
            "status": 404,
            "reason": "Not Found",
            "path": "/orders",
            "method": "POST",
        }

    def test_an_exception_keeps_its_stack_to_itself(self) -> None:
        response = new_response("application/json")
        response.write_error(_raised())
        payload = json.loads(body_of(response))
        assert (payload["error"], payload["exception"], payload["status"]) == ("wrong", "ValueError", 500)
        assert "stackTrace" not in payload

    @pytest.mark.parametrize("accept", ["application/json", "application/yaml", "application/xml", "text/plain"])
    def test_unless_it_is_asked_for(self, accept: str) -> None:
        response = new_response(accept)
        response.write_error(_raised(), include_stack=True)
        assert "in _raised" in body_of(response)

    def test_text(self) -> None:
        response = new_response()
        response.write_error("Broken", status=400, details="a\nb")
        status, error, time, *details = body_of(response).splitlines()
        assert (status, error, details) == ("Status: 400 (Bad Request)", "Error: Broken", ["Details:", "a", "b"])
        assert time.startswith("Time: 20")

    def test_a_status_without_a_reason(self) -> None:
        response = new_response()
        response.write_error("Broken", status=599)
        assert body_of(response).startswith("Status: 599 ()")

    def test_xml_and_yaml_are_well_formed_whatever_the_message(self) -> None:
        message = "<a> & \"b\": 'c'\n- d #e \x0b"
        response = new_response("text/xml")
        response.write_error(message)
        assert ElementTree.fromstring(body_of(response)).findtext("Error") == message.replace("\x0b", "\ufffd")
        response = new_response("application/yaml")
        response.write_error(message)
        assert from_yaml(body_of(response))["Error"] == message


def _raised() -> Exception:
    try:
        raise ValueError("wrong")
    except ValueError as error:
        return error


class TestSent:
    """What goes over the wire."""

    async def call(
        self, aiohttp_client: AiohttpClient, script: Callable[[KestrunContext], Any], **request: Any
    ) -> tuple[int, str, dict[str, str]]:
        self.log = Log()
        host = KestrunHost("test", logger=self.log.logger).add_map_route("/", "Get", script)
        client = await aiohttp_client(host.create_app())
        response = await client.get("/", allow_redirects=False, **request)
        return response.status, await response.text(), dict(response.headers)

    async def test_nothing_written_is_200_without_a_body(self, aiohttp_client: AiohttpClient) -> None:
        status, text, headers = await self.call(aiohttp_client, lambda context: None)
        assert (status, text, headers["Content-Length"]) == (200, "", "0")
        assert "Content-Type" not in headers

    async def test_a_status_alone_has_neither_body_nor_type(self, aiohttp_client: AiohttpClient) -> None:
        status, text, headers = await self.call(aiohttp_client, lambda context: context.response.write_status(404))
        assert (status, text, "Content-Type" in headers) == (404, "", False)

    async def test_the_last_writer_wins(self, aiohttp_client: AiohttpClient) -> None:
        def script(context: KestrunContext) -> None:
            context.response.write_error("no", status=400)
            context.response.write_json({"a": 1}, status=201, compress=True)

        status, text, headers = await self.call(aiohttp_client, script)
        assert (status, text, headers["Content-Type"]) == (201, '{"a":1}', "application/json; charset=utf-8")

    async def test_what_a_script_returns_is_not_sent(self, aiohttp_client: AiohttpClient) -> None:
        assert (await self.call(aiohttp_client, lambda context: "ignored"))[:2] == (200, "")

    async def test_headers_of_the_script(self, aiohttp_client: AiohttpClient) -> None:
        def script(context: KestrunContext) -> None:
            context.response.headers["X-One"] = "1"
            context.response.headers.add("Set-Cookie", "a=b")
            context.response.write_text("x")

        _, _, headers = await self.call(aiohttp_client, script)
        assert (headers["X-One"], headers["Set-Cookie"]) == ("1", "a=b")

    @pytest.mark.parametrize("name", ["X-Bad", "Location"])
    async def test_a_header_with_a_line_break_is_a_failure_and_not_sent(
        self, name: str, aiohttp_client: AiohttpClient
    ) -> None:
        def script(context: KestrunContext) -> None:
            context.response.write_text("x")
            context.response.headers[name] = "a\r\nSet-Cookie: evil=1"

        status, text, headers = await self.call(aiohttp_client, script)
        assert (status, "Set-Cookie" in headers, name in headers) == (500, False, False)
        assert "An internal server error occurred." in text
        assert self.log.errors

    @pytest.mark.parametrize("is_async", [False, True])
    async def test_an_aiohttp_response_is_sent_as_it_is(self, is_async: bool, aiohttp_client: AiohttpClient) -> None:
        ready = web.Response(text="mine", status=418, headers={"X-Mine": "1"})

        def script(context: KestrunContext) -> web.Response:
            context.response.write_text("not this")
            return ready

        async def async_script(context: KestrunContext) -> web.Response:
            return script(context)

        status, text, headers = await self.call(aiohttp_client, async_script if is_async else script)
        assert (status, text, headers["X-Mine"]) == (418, "mine", "1")

    async def test_a_stream(self, aiohttp_client: AiohttpClient) -> None:
        async def script(context: KestrunContext) -> web.StreamResponse:
            stream = web.StreamResponse()
            await stream.prepare(context.request.raw)
            for part in (b"one ", b"two"):
                await stream.write(part)
            return stream

        assert (await self.call(aiohttp_client, script))[:2] == (200, "one two")

    async def test_an_http_exception_is_its_answer(self, aiohttp_client: AiohttpClient) -> None:
        def script(context: KestrunContext) -> None:
            raise web.HTTPFound("/elsewhere")

        status, _, headers = await self.call(aiohttp_client, script)
        assert (status, headers["Location"]) == (302, "/elsewhere")

    async def test_the_server_header_names_no_version(self, aiohttp_client: AiohttpClient) -> None:
        _, _, headers = await self.call(aiohttp_client, lambda context: None)
        assert headers["Server"] == "kestrun_py"
