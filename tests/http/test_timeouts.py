"""How long a client may take for the head of a request."""

from __future__ import annotations

import asyncio

import pytest
from aiohttp import web

from kestrun_py import KestrunHost
from kestrun_py.http.connections import HttpRunner


async def serve(**timeouts: float) -> tuple[HttpRunner, int]:
    host = KestrunHost("test").add_map_route("/", "Get", lambda context: context.response.write_text("hi"))
    runner = HttpRunner(host.create_app(), **timeouts)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    return runner, runner.addresses[0][1]


@pytest.mark.parametrize("sent", [b"", b"GET / HT", b"GET / HTTP/1.1\r\nHost: x\r\nX: "])
async def test_a_head_that_never_ends_closes_the_connection(sent: bytes) -> None:
    runner, port = await serve(head_timeout=0.05)
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(sent)
    assert await asyncio.wait_for(reader.read(), 30) == b""
    writer.close()
    await runner.cleanup()


async def test_a_connection_that_was_used_stays() -> None:
    runner, port = await serve()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for _ in range(2):
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert (await reader.readuntil(b"hi")).startswith(b"HTTP/1.1 200")
        assert runner.server is not None
        (connection,) = runner.server.connections
        connection._end_without_head()  # type: ignore[attr-defined] # what the timer calls
    writer.close()
    await runner.cleanup()


async def test_an_idle_connection_is_closed() -> None:
    runner, port = await serve(keepalive_timeout=1)
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    assert (await asyncio.wait_for(reader.read(), 30)).endswith(b"hi")
    writer.close()
    await runner.cleanup()
