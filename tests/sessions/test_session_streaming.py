"""Responses that start while their script runs: the session is committed when the headers go out."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientPayloadError, WSMsgType, web
from session_support import COOKIE, Sites, as_async_def
from waiting import until

from kestrun_py.context import KestrunContext
from kestrun_py.errors import CacheUnavailableError, SessionClosedError
from kestrun_py.sessions import Session


def bump(session: Session) -> int:
    count = (session.get_int32("counter") or 0) + 1
    session.set_int32("counter", count)
    return count


class Stream:
    """A script that streams, and notes what happens to its session."""

    def __init__(self, work: Any = bump) -> None:
        self.started = asyncio.Event()
        self.go_on = asyncio.Event()
        self.late: list[BaseException] = []
        self._work = work

    async def script(self, context: KestrunContext) -> web.StreamResponse:
        self._work(context.session)
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(context.request.raw)
        await response.write(b"first\n")
        self.started.set()
        session = context.session
        writes: list[Callable[[], object]] = [lambda: session.set("late", b"1"), session.clear, session.renew]
        for write in writes:
            try:
                write()
            except SessionClosedError as error:
                self.late.append(error)
        await self.go_on.wait()
        await response.write(f"{context.session.get_int32('counter')}\n".encode())
        return response


async def test_a_stream_commits_when_its_headers_go_out(sites: Sites) -> None:
    stream = Stream()
    site = await sites.serve({"/stream": stream.script, "/bump": as_async_def(bump)})
    async with site.client.get("/stream") as response:
        assert response.headers["Cache-Control"] == "no-cache,no-store"
        assert response.headers["Vary"] == "Cookie"
        cookie = response.headers["Set-Cookie"].partition(";")[0].removeprefix(f"{COOKIE}=")
        assert site.cache.sessions == [{"counter": b"\0\0\0\1"}]
        # While the stream runs, other requests have the session for themselves.
        assert (await site.get("/bump", cookie)).text == '{"result":2}'
        stream.go_on.set()
        assert await response.read() == b"first\n1\n"
    assert len(stream.late) == 3
    assert "stored when the response started" in str(stream.late[0])
    assert site.cache.sessions == [{"counter": b"\0\0\0\2"}]
    assert site.cache.leases == 0


async def test_a_known_session_is_released_when_the_headers_go_out(sites: Sites) -> None:
    stream = Stream()
    site = await sites.serve({"/stream": stream.script, "/bump": as_async_def(bump)})
    cookie = await site.login("/bump")
    headers = {"Cookie": f"{COOKIE}={cookie}"}
    async with site.client.get("/stream", headers=headers) as response:
        assert "Set-Cookie" not in response.headers
        assert site.cache.calls[-2:] == ["lock", "commit"]
        assert (await site.get("/bump", cookie)).text == '{"result":3}'
        stream.go_on.set()
        assert await response.read() == b"first\n2\n"


async def test_a_stream_that_ends_the_session(sites: Sites) -> None:
    stream = Stream(Session.clear)
    stream.go_on.set()
    site = await sites.serve({"/stream": stream.script, "/bump": as_async_def(bump)})
    answer = await site.get("/stream", await site.login("/bump"))
    assert answer.cookie == ""
    assert site.cache.entries == {}


async def test_a_stream_without_a_session(sites: Sites) -> None:
    async def script(context: KestrunContext) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(context.request.raw)
        with pytest.raises(SessionClosedError, match="request has ended"):
            context.session.get("late")
        return response

    site = await sites.serve({"/": script, "/bump": as_async_def(bump)})
    answer = await site.get("/", await site.login("/bump"))
    assert answer.status == 200
    assert answer.calls == []
    assert "Vary" not in answer.headers


async def test_a_stream_whose_session_cannot_be_stored(sites: Sites) -> None:
    stream = Stream()
    site = await sites.serve({"/stream": stream.script, "/bump": as_async_def(bump)})
    cookie = await site.login("/bump")
    site.cache.break_down(CacheUnavailableError("gone"), "commit", "store")
    for sent in (cookie, None):
        answer = await site.get("/stream", sent)
        assert answer.status == 503
        assert answer.headers["Retry-After"] == "1"
        assert answer.set_cookie == []
        assert "Error: The service is unavailable" in answer.text
    assert not stream.started.is_set()
    site.cache.repair()
    assert (await site.get("/bump", cookie)).text == '{"result":2}'


@pytest.mark.parametrize("written", [True, False])
@pytest.mark.parametrize("ending", [ValueError(), web.HTTPNotFound(), web.HTTPFound("/elsewhere")])
async def test_a_stream_that_fails_midway(sites: Sites, ending: Exception, written: bool) -> None:
    """No second answer follows the part of the first one: the connection ends, so the client knows."""

    async def script(context: KestrunContext) -> web.StreamResponse:
        bump(context.session)
        response = web.StreamResponse()
        await response.prepare(context.request.raw)
        if written:
            await response.write(b"first\n")
        raise ending

    site = await sites.serve({"/stream": script, "/bump": as_async_def(bump)})
    cookie = await site.login("/bump")
    with pytest.raises(ClientPayloadError):
        await site.get("/stream", cookie)
    assert (await site.get("/bump", cookie)).text == '{"result":3}'


@pytest.mark.parametrize(("ending", "status"), [(ValueError(), 500), (web.HTTPNotFound(), 404)])
async def test_a_response_that_fails_before_its_first_byte(sites: Sites, ending: Exception, status: int) -> None:
    async def script(context: KestrunContext) -> None:
        bump(context.session)
        response = web.Response(text="never sent")
        response.enable_compression(web.ContentCoding.gzip)
        await response.prepare(context.request.raw)
        raise ending

    site = await sites.serve({"/stream": script, "/bump": as_async_def(bump)})
    answer = await site.get("/stream")
    assert answer.status == status
    assert "never sent" not in answer.text
    assert len(answer.set_cookie) == 1
    assert (await site.get("/bump", answer.cookie)).text == '{"result":2}'


@pytest.mark.parametrize("written", [True, False])
async def test_a_stream_that_was_not_returned(sites: Sites, written: bool) -> None:
    async def script(context: KestrunContext) -> None:
        context.response.write_text("never sent")
        bump(context.session)
        response = web.StreamResponse(status=202)
        await response.prepare(context.request.raw)
        if written:
            await response.write(b"all of it")

    site = await sites.serve({"/stream": script, "/bump": as_async_def(bump)})
    answer = await site.get("/stream")
    assert (answer.status, answer.text) == (202, "all of it" if written else "")
    assert len(answer.set_cookie) == 1
    assert (await site.get("/bump", answer.cookie)).text == '{"result":2}'


async def test_a_client_that_leaves_a_stream(sites: Sites) -> None:
    stream = Stream()
    site = await sites.serve({"/stream": stream.script, "/bump": as_async_def(bump)}, cancels=True)
    cookie = await site.login("/bump")
    request = asyncio.create_task(site.get("/stream", cookie))
    await stream.started.wait()
    request.cancel()
    await asyncio.gather(request, return_exceptions=True)
    assert (await site.get("/bump", cookie)).text == '{"result":3}'
    await until(lambda: site.cache.leases == 0)


async def test_a_web_socket(sites: Sites) -> None:
    async def script(context: KestrunContext) -> web.WebSocketResponse:
        bump(context.session)
        socket = web.WebSocketResponse()
        await socket.prepare(context.request.raw)
        async for message in socket:
            await socket.send_str(f"{message.data} {context.session.get_int32('counter')}")
        return socket

    site = await sites.serve({"/socket": script, "/bump": as_async_def(bump)})
    async with site.client.ws_connect("/socket") as socket:
        response = socket._response
        cookie = response.headers["Set-Cookie"].partition(";")[0].removeprefix(f"{COOKIE}=")
        assert (await site.get("/bump", cookie)).text == '{"result":2}'
        await socket.send_str("hello")
        message = await socket.receive(timeout=10)
        assert (message.type, message.data) == (WSMsgType.TEXT, "hello 1")
    assert site.cache.leases == 0


async def test_a_file(sites: Sites, tmp_path: Path) -> None:
    tmp_path.joinpath("page.txt").write_text("from a file")

    def script(context: KestrunContext) -> web.FileResponse:
        bump(context.session)
        return web.FileResponse(tmp_path / "page.txt")

    site = await sites.serve({"/file": script, "/bump": as_async_def(bump)})
    answer = await site.get("/file")
    assert answer.text == "from a file"
    assert answer.cookie
    assert answer.headers["Vary"] == "Cookie"
    assert (await site.get("/bump", answer.cookie)).text == '{"result":2}'
