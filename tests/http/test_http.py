"""Our connections answer as aiohttp's do, whatever short way an answer takes."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
import pytest_asyncio
from aiohttp import web
from aiohttp.typedefs import Handler
from waiting import until

from kestrun_py import KestrunContext, KestrunHost
from kestrun_py.http.connections import HttpRunner, PlainResponse

LARGE = 4_000_000


@web.middleware
async def change(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Does to the response what the query asks for."""
    response = await handler(request)
    assert isinstance(response, web.Response)
    match request.query.get("change"):
        case "cookie":
            response.set_cookie("a", "b")
        case "close":
            response.force_close()
        case "compress":
            response.enable_compression()
        case "chunk":
            response.enable_chunked_encoding()
        case "status":
            response.set_status(int(request.query["to"]))
        case "text":
            response.text = "another text"
        case "body":
            response.body = b"" if request.query["to"] == "empty" else None
        case "payload":
            response.body = "a text that aiohttp makes a payload of"
        case "length":
            response.headers["Content-Length"] = "10"
        case "header":
            response.headers["X-One"] = "1"
            response.headers.add("X-One", "2")
        case "date":
            response.headers["Date"] = "yesterday"
        case "type":
            del response.headers["Content-Type"]
        case "server":
            response.headers["Server"] = "another"
        case "connection":
            response.headers["Connection"] = "close"
    return response


def new_host() -> KestrunHost:
    async def answer(context: KestrunContext) -> None:
        context.response.write_text("plain text", status=int(context.request.query.get("status", "200")))

    def from_thread(context: KestrunContext) -> None:
        answered = context.request.read_text()
        context.response.write_text(answered or "nothing")

    async def large(context: KestrunContext) -> None:
        context.response.write_text("x" * LARGE)

    host = KestrunHost("test").use(change).add_session().add_map_route("/plain/", "Get,Post,Put", answer)
    host.add_map_route("/{name}/body", "Get,Post", from_thread).add_map_route("/large", "Get", large)
    return host.add_map_route("/none", "Get", lambda: None)


Send = Callable[[str], Awaitable[bytes]]


@pytest_asyncio.fixture
async def both() -> AsyncIterator[tuple[Send, Send]]:
    """Sends a request, given as text, to a host behind aiohttp's connections, and to one behind ours."""
    senders: list[Send] = []
    runners: list[web.AppRunner] = []
    for kind in (web.AppRunner, HttpRunner):
        runner = kind(new_host().create_app())
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        runners.append(runner)
        senders.append(_sender(runner.addresses[0][1]))
    yield senders[0], senders[1]
    for runner in runners:
        await runner.cleanup()


def _sender(port: int) -> Send:
    async def send(text: str) -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(text.encode("latin-1"))
        try:
            return await asyncio.wait_for(reader.read(), 30)
        finally:
            writer.close()

    return send


def comparable(answer: bytes) -> tuple[list[bytes], list[bytes]]:
    """Status lines and bodies in their order, and all header lines, sorted: without the time."""
    headers: list[bytes] = []
    rest: list[bytes] = []
    for line in re.sub(rb"Date: \w{3}, [^\r]*", b"Date: now", answer).split(b"\r\n"):
        (headers if re.match(rb"[\w-]+: ", line) else rest).append(line)
    return rest, sorted(headers)


def get(path: str, *headers: str, method: str = "GET", version: str = "1.1", body: str = "") -> str:
    """A request; the server closes the connection after it, for the answer's end to be seen."""
    lines = [f"{method} {path} HTTP/{version}", "Host: x", *headers]
    return "\r\n".join(lines) + "\r\n\r\n" + body


LAST = "Connection: close"
BYE = get("/none", LAST)

REQUESTS = {
    "plain": get("/plain") + BYE,
    "last": get("/plain", LAST),
    "HTTP/1.0": get("/plain", version="1.0"),
    "HTTP/1.0 kept alive": get("/plain", "Connection: keep-alive", version="1.0") + BYE,
    "HEAD": get("/plain", method="HEAD") + BYE,
    "many at once": get("/plain") * 10 + BYE,
    "template": get("/Max/BODY/") + BYE,
    "body": get("/max/body", "Content-Length: 3", method="POST", body="abc") + BYE,
    "chunks": get("/max/body", "Transfer-Encoding: chunked", method="POST", body="3\r\nabc\r\n0\r\n\r\n") + BYE,
    "body that nobody reads": get("/plain", "Content-Length: 3", method="PUT", body="abc") + BYE,
    "expects": get("/max/body", "Expect: 100-continue", "Content-Length: 3", method="POST", body="abc") + BYE,
    "expects the impossible": get(
        "/max/body", "Expect: 101-miracle", "Content-Length: 3", LAST, method="POST", body="abc"
    ),
    "upgrade": get("/plain", "Connection: Upgrade, close", "Upgrade: other"),
    "no route": get("/missing") + BYE,
    "wrong verb": get("/large", method="DELETE") + BYE,
    "no body": get("/none") + BYE,
    "large": get("/large") + BYE,
    **{f"status {status}": get(f"/plain?status={status}") + BYE for status in (201, 204, 304, 404, 500, 599)},
    **{
        name: get(f"/plain?change={name}", "Accept-Encoding: gzip") + BYE
        for name in (
            *("cookie", "close", "compress", "chunk", "text", "payload", "length", "header", "date", "type", "server"),
            "connection",
        )
    },
    "body=empty": get("/plain?change=body&to=empty") + BYE,
    "body=None": get("/plain?change=body&to=none") + BYE,
    **{f"status set to {to}": get(f"/plain?change=status&to={to}") + BYE for to in (204, 205, 304, 418, 299)},
}


@pytest.mark.parametrize("name", REQUESTS)
async def test_an_answer_is_what_aiohttp_sends(name: str, both: tuple[Send, Send]) -> None:
    theirs, ours = [comparable(await send(REQUESTS[name])) for send in both]
    assert ours == theirs
    assert ours[0][0].startswith(b"HTTP/1.")
    assert not any(b"aiohttp" in line for line in ours[1])


async def test_a_response_that_was_sent_says_so(both: tuple[Send, Send], monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[PlainResponse] = []
    pack = PlainResponse.pack

    def note(response: PlainResponse, request: web.BaseRequest) -> bytes | None:
        packed = pack(response, request)
        if packed is not None:
            sent.append(response)
        return packed

    monkeypatch.setattr(PlainResponse, "pack", note)
    await both[1](get("/plain") + BYE)
    [response] = sent
    assert (response.prepared, response.keep_alive, response.status, response.body) == (True, True, 200, b"plain text")


async def test_who_wants_to_be_told_of_responses_is(aiohttp_client: Any) -> None:
    told: list[int] = []

    async def listen(request: web.Request, response: web.StreamResponse) -> None:
        told.append(response.status)
        response.headers["X-Told"] = "yes"

    app = new_host().create_app()
    app.on_response_prepare.append(listen)
    runner = HttpRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    answer = await _sender(runner.addresses[0][1])(get("/plain", LAST))
    await runner.cleanup()
    assert b"X-Told: yes" in answer
    assert told == [200]


async def test_a_client_that_does_not_read_holds_up_its_own_request_only() -> None:
    runner = HttpRunner(new_host().create_app())
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    port = runner.addresses[0][1]
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1024)
    writer.write((get("/large") * 8).encode())
    assert runner.server is not None
    server = runner.server
    await until(lambda: any(connection._paused for connection in server.connections))
    assert b"200" in await _sender(port)(get("/plain", LAST))
    read = 0
    while read < 8 * LARGE:
        read += len(await asyncio.wait_for(reader.read(1 << 20), 30))
    writer.close()
    # One that goes away while its answer waits for it is no error of anybody's.
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1024)
    writer.write((get("/large") * 8).encode())
    await until(lambda: any(connection._paused for connection in server.connections))
    writer.transport.abort()
    await until(lambda: not server.connections)
    assert b"200" in await _sender(port)(get("/plain", LAST))
    await runner.cleanup()
