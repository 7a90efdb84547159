"""What a script reads of its request."""

from __future__ import annotations

import asyncio
from io import BytesIO
from typing import Any

import pytest
from aiohttp import FormData, web
from pytest_aiohttp.plugin import AiohttpClient
from recording_log import Log
from yarl import URL

from kestrun_py import KestrunHost
from kestrun_py.context import KestrunContext
from kestrun_py.http.request import KestrunRequest


class Reader:
    """Sends requests to a host whose only route reads them, in a worker thread and on the loop."""

    def __init__(self, aiohttp_client: AiohttpClient) -> None:
        self._new_client = aiohttp_client
        self.log = Log()
        self.answer = ""

    async def read(
        self, what: Any, *, path: str = "/x", method: str = "POST", data: bytes | None = None, **request: Any
    ) -> Any:
        """Returns what `what` makes of the request, in either kind of script; the status if that fails."""
        found: list[Any] = []

        def script(context: KestrunContext) -> None:
            found.append(what(context.request))

        async def async_script(context: KestrunContext) -> None:
            await asyncio.sleep(0)
            script(context)

        host = KestrunHost("test", logger=self.log.logger)
        host.add_map_route("/{name}", "Get,Post,Put", script).add_map_route(
            "/{name}/async", "Get,Post,Put", async_script
        )
        client = await self._new_client(host.create_app())
        for place in (path, path.replace("?", "/async?", 1) if "?" in path else f"{path}/async"):
            if data is not None:
                request["data"] = BytesIO(data)
            async with client.request(method, URL(place, encoded=True), **request) as response:
                if response.status != 200:
                    found.append(response.status)
                    self.answer = await response.text()
        first, second = found
        assert first == second or isinstance(first, web.FileField)
        return first

    @property
    def error(self) -> str:
        """What the last answer says went wrong; a fault of the client is no error in the log."""
        assert self.log.errors == []
        return self.answer.splitlines()[1].removeprefix("Error: ")


@pytest.fixture
def reader(aiohttp_client: AiohttpClient) -> Reader:
    return Reader(aiohttp_client)


def body(request: KestrunRequest) -> Any:
    return request.read_body()


def typed(content_type: str) -> dict[str, str]:
    return {"Content-Type": content_type}


class TestLine:
    async def test_method_and_path(self, reader: Reader) -> None:
        assert await reader.read(lambda request: (request.method, request.path[:4]), path="/a%20b", method="PUT") == (
            "PUT",
            "/a b",
        )

    @pytest.mark.parametrize(
        ("query", "values"),
        [
            ("", {}),
            ("a=1&b=%C3%A9+x", {"a": "1", "b": "é x"}),
            ("a=1&b=2&a=3", {"a": "1,3", "b": "2"}),
            ("a=&b", {"a": "", "b": ""}),
            ("A=1&a=2", {"A": "1", "a": "2"}),
            ("a=%2C&a=b", {"a": ",,b"}),
        ],
    )
    async def test_the_query(self, query: str, values: dict[str, str], reader: Reader) -> None:
        assert await reader.read(lambda request: request.query, path=f"/x?{query}") == values

    async def test_route_parameters_are_text(self, reader: Reader) -> None:
        assert await reader.read(lambda request: dict(request.route_params), path="/7") == {"name": "7"}


class TestHeaders:
    async def test_in_any_case(self, reader: Reader) -> None:
        value = await reader.read(lambda request: request.headers["x-ONE"], headers={"X-One": "1"})
        assert value == "1"

    @pytest.mark.parametrize(
        ("header", "value"),
        [
            ("color=red", "red"),
            ("a=1; color=red; b=2", "red"),
            ("color=a%20b%C3%A9", "a bé"),
            ("color=first; color=last", "last"),
            ('color="quoted"', '"quoted"'),
            ("other=red", None),
            ("color=", None),
            ("nonsense", None),
        ],
    )
    async def test_a_cookie_is_read_as_aspnet_reads_it(self, header: str, value: str | None, reader: Reader) -> None:
        assert await reader.read(lambda request: request.cookie("color"), headers={"Cookie": header}) == value

    async def test_no_cookies(self, reader: Reader) -> None:
        assert await reader.read(lambda request: (request.cookie("color"), dict(request.cookies))) == (None, {})

    async def test_all_cookies(self, reader: Reader) -> None:
        cookies = await reader.read(lambda request: dict(request.cookies), headers={"Cookie": "a=1; b=2"})
        assert cookies == {"a": "1", "b": "2"}


class TestContentType:
    @pytest.mark.parametrize(
        ("sent", "seen"),
        [("application/json; charset=utf-8", "application/json"), ("Text/Plain", "text/plain"), ("", "")],
    )
    async def test_without_parameters(self, sent: str, seen: str, reader: Reader) -> None:
        assert await reader.read(lambda request: request.content_type, data=b"x", headers=typed(sent)) == seen

    async def test_none_sent(self, reader: Reader) -> None:
        assert await reader.read(lambda request: request.content_type, method="GET") == ""


class TestText:
    @pytest.mark.parametrize(
        ("content_type", "sent", "text"),
        [
            ("text/plain", "Grüße".encode(), "Grüße"),
            ("text/plain; charset=utf-8", "Grüße".encode(), "Grüße"),
            ("text/plain; charset=ISO-8859-1", "Grüße".encode("latin-1"), "Grüße"),
            ("text/plain; charset=windows-1252", "€".encode("cp1252"), "€"),
            ("text/plain; charset=utf-16", "Grüße".encode("utf-16"), "Grüße"),
            ('text/plain; charset="utf-16-le"', "Grüße".encode("utf-16-le"), "Grüße"),
            ("text/plain", b"\xef\xbb\xbfwith a mark", "with a mark"),
            ("text/plain", b"a\xffb", "a\ufffdb"),
            ("text/plain; charset=us-ascii", b"a\xffb", "a\ufffdb"),
            ("application/octet-stream", b"\x00\xff", "\x00\ufffd"),
            ("text/plain", b"", ""),
        ],
    )
    async def test_in_the_charset_that_was_named(
        self, content_type: str, sent: bytes, text: str, reader: Reader
    ) -> None:
        assert await reader.read(lambda request: request.read_text(), data=sent, headers=typed(content_type)) == text
        assert await reader.read(body, data=sent, headers=typed(content_type)) == text

    @pytest.mark.parametrize(
        "charset",
        ["bogus", "hex", "rot13", "idna", "punycode", "undefined", "unicode_escape", "utf-7", "x" * 5000, "''"],
    )
    async def test_what_is_no_charset_counts_as_utf8(self, charset: str, reader: Reader) -> None:
        headers = typed(f"text/plain; charset={charset}")
        assert (
            await reader.read(lambda request: request.read_text(), data="ü\\x41".encode(), headers=headers) == "ü\\x41"
        )

    async def test_it_can_be_read_again(self, reader: Reader) -> None:
        def twice(request: KestrunRequest) -> Any:
            return request.read_text(), request.read_body(), request.read_text()

        headers = typed("application/json")
        assert await reader.read(twice, data=b'{"a": 1}', headers=headers) == ('{"a": 1}', {"a": 1}, '{"a": 1}')


class TestJson:
    @pytest.mark.parametrize(
        ("content_type", "sent", "value"),
        [
            ("application/json", b'{"a": [1, 2.5, null, true, "\xc3\xa9"]}', {"a": [1, 2.5, None, True, "é"]}),
            ("application/json; charset=utf-8", b'"x"', "x"),
            ("Application/JSON;charset=UTF-8", b"5", 5),
            ("application/json; charset=utf-16", '{"ü": 1}'.encode("utf-16"), {"ü": 1}),
            ("application/json", b"\xef\xbb\xbf[1]", [1]),
        ],
    )
    async def test_values(self, content_type: str, sent: bytes, value: Any, reader: Reader) -> None:
        assert await reader.read(body, data=sent, headers=typed(content_type)) == value

    @pytest.mark.parametrize("sent", [b"", b"{", b"{'a': 1}", b"[1,]", b"NaN", b"[" * 100_000])
    async def test_what_is_no_json(self, sent: bytes, reader: Reader) -> None:
        assert await reader.read(body, data=sent, headers=typed("application/json")) == 400
        assert "The request body is not JSON: " in reader.error


class TestForms:
    @pytest.mark.parametrize(
        ("sent", "value"),
        [
            (b"a=1&b=%C3%A9+x", {"a": "1", "b": "é x"}),
            (b"a=1&a=2", {"a": "1,2"}),
            (b"a=&b", {"a": "", "b": ""}),
            (b"", {}),
        ],
    )
    async def test_urlencoded(self, sent: bytes, value: Any, reader: Reader) -> None:
        assert await reader.read(body, data=sent, headers=typed("application/x-www-form-urlencoded")) == value

    async def test_an_unknown_charset_does_not_matter(self, reader: Reader) -> None:
        headers = typed("application/x-www-form-urlencoded; charset=bogus")
        assert await reader.read(body, data=b"a=1", headers=headers) == {"a": "1"}

    async def test_too_many_fields(self, reader: Reader) -> None:
        headers = typed("application/x-www-form-urlencoded")
        fields = [f"f{number}=1" for number in range(1025)]
        assert len(await reader.read(body, data="&".join(fields[1:]).encode(), headers=headers)) == 1024
        assert await reader.read(body, data="&".join(fields).encode(), headers=headers) == 400
        assert reader.error.endswith("The request body is a form of more than 1024 fields.")

    async def test_multipart(self, aiohttp_client: AiohttpClient) -> None:
        def script(context: KestrunContext) -> None:
            form = context.request.read_body()
            assert isinstance(form["file"], web.FileField)
            context.response.write_json([form["name"], form["file"].filename, form["file"].file.read().decode()])

        client = await aiohttp_client(KestrunHost("test").add_map_route("/", "Post", script).create_app())
        form = FormData()
        form.add_field("name", "Grüße")
        form.add_field("file", b"content", filename="a.txt")
        assert await (await client.post("/", data=form)).json() == ["Grüße", "a.txt", "content"]

    @pytest.mark.parametrize(
        ("content_type", "sent"),
        [
            ("multipart/form-data", b"--x\r\n\r\n--x--"),
            ("multipart/form-data; boundary=x", b"no boundary at all"),
            ("multipart/form-data; boundary=x", b"--x\r\nContent-Disposition: form-data\r\n\r\na\r\n--x--\r\n"),
        ],
    )
    async def test_what_is_no_multipart_form(self, content_type: str, sent: bytes, reader: Reader) -> None:
        assert await reader.read(body, data=sent, headers=typed(content_type)) == 400
        assert "The request body is not a multipart form: " in reader.error


class TestXml:
    @pytest.mark.parametrize("content_type", ["application/xml", "text/xml; charset=utf-8"])
    async def test_elements_attributes_and_text(self, content_type: str, reader: Reader) -> None:
        sent = """<?xml version="1.0" encoding="utf-8"?>
            <order id="7">
                <customer>Max &amp; Co</customer>
                <item>a</item><item n="2">b</item><item/>
            </order>"""
        assert await reader.read(body, data=sent.encode(), headers=typed(content_type)) == {
            "order": {"@id": "7", "customer": "Max & Co", "item": ["a", {"@n": "2", "#text": "b"}, ""]}
        }

    async def test_a_declared_encoding_does_not_overrule_the_charset(self, reader: Reader) -> None:
        sent = '<?xml version="1.0" encoding="utf-16"?><a>é</a>'.encode()
        assert await reader.read(body, data=sent, headers=typed("application/xml")) == {"a": "é"}

    @pytest.mark.parametrize(
        "sent",
        [
            b'<!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>',
            b'<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]><a>&x;</a>',
            b"<!DOCTYPE html><a/>",
        ],
    )
    async def test_a_document_type_is_refused(self, sent: bytes, reader: Reader) -> None:
        assert await reader.read(body, data=sent, headers=typed("application/xml")) == 400
        assert "The request body declares a document type" in reader.error

    @pytest.mark.parametrize("sent", [b"", b"<a>", b"a", b"<a>&b;</a>", b"<a/><b/>"])
    async def test_what_is_no_xml(self, sent: bytes, reader: Reader) -> None:
        assert await reader.read(body, data=sent, headers=typed("application/xml")) == 400
        assert "The request body is not XML: " in reader.error

    async def test_endless_depth_is_a_failure_of_one_request(self, reader: Reader) -> None:
        sent = b"<a>" * 50_000 + b"</a>" * 50_000
        assert await reader.read(body, data=sent, headers=typed("application/xml")) == 500


class TestSize:
    async def test_a_large_body_arrives_whole(self, reader: Reader) -> None:
        sent = b"x" * 8_000_000
        assert await reader.read(lambda request: len(request.read_text()), data=sent) == len(sent)

    async def test_a_client_may_ask_before_it_sends(self, reader: Reader) -> None:
        assert await reader.read(lambda request: request.read_text(), data=b"x", expect100=True) == "x"

    async def test_a_body_beyond_the_limit_gets_413(self, reader: Reader) -> None:
        sent = b"x" * 30_000_001
        assert await reader.read(lambda request: len(request.read_text()), data=sent) == 413
        assert reader.log.errors == []
