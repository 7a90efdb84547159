"""Files, streams and piecewise answers as they go over the wire."""

from __future__ import annotations

import asyncio
import io
import os
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientResponse
from pytest_aiohttp.plugin import AiohttpClient

from kestrun_py import KestrunContext, KestrunHost

Get = Callable[..., Awaitable[ClientResponse]]
TEXT = b"0123456789" * 10


@pytest.fixture
def serve(aiohttp_client: AiohttpClient) -> Callable[[Callable[[KestrunContext], Any]], Awaitable[Get]]:
    async def start(script: Callable[[KestrunContext], Any]) -> Get:
        host = KestrunHost("test").add_map_route("/", ["Get", "Head"], script)
        client = await aiohttp_client(host.create_app())

        async def get(method: str = "GET", **headers: str) -> ClientResponse:
            named = {name.replace("_", "-"): value for name, value in headers.items()}
            response = await client.request(method, "/", headers=named)
            await response.read()  # so that its connection is free again
            return response

        return get

    return start


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "digits.txt"
    path.write_bytes(TEXT)
    os.utime(path, (1_700_000_000, 1_700_000_000))
    return path


class TestFile:
    async def test_whole(self, serve: Any, file: Path) -> None:
        get = await serve(lambda context: context.response.write_file(file))
        response = await get()
        assert (response.status, await response.read()) == (200, TEXT)
        assert response.headers["Last-Modified"] == "Tue, 14 Nov 2023 22:13:20 GMT"
        assert (response.headers["Content-Type"], "ETag" in response.headers) == ("text/plain", False)
        head = await get("HEAD")
        assert (head.headers["Content-Length"], await head.read()) == ("100", b"")

    @pytest.mark.parametrize(
        ("wanted", "part", "said"),
        [
            ("bytes=0-3", TEXT[:4], "bytes 0-3/100"),
            ("bytes=90-", TEXT[90:], "bytes 90-99/100"),
            ("bytes=-5", TEXT[-5:], "bytes 95-99/100"),
            ("bytes=50-999", TEXT[50:], "bytes 50-99/100"),
            ("bytes=-999", TEXT, "bytes 0-99/100"),
            ("BYTES=1-1", TEXT[1:2], "bytes 1-1/100"),
        ],
    )
    async def test_ranges(self, wanted: str, part: bytes, said: str, serve: Any, file: Path) -> None:
        get = await serve(lambda context: context.response.write_file(file))
        response = await get(Range=wanted)
        assert (response.status, await response.read(), response.headers["Content-Range"]) == (206, part, said)

    @pytest.mark.parametrize("wanted", ["bytes=100-", f"bytes={'9' * 400}-", "bytes=-0"])
    async def test_a_range_outside(self, wanted: str, serve: Any, file: Path) -> None:
        get = await serve(lambda context: context.response.write_file(file))
        response = await get(Range=wanted)
        assert (response.status, response.headers["Content-Range"]) == (416, "bytes */100")

    @pytest.mark.parametrize("wanted", ["bytes=5-2", "bytes=-", "bytes=0-1,5-6", "lines=0-1", "bytes=a-b", ""])
    async def test_what_is_no_range_is_ignored(self, wanted: str, serve: Any, file: Path) -> None:
        get = await serve(lambda context: context.response.write_file(file))
        response = await get(Range=wanted)
        assert (response.status, await response.read()) == (200, TEXT)

    async def test_conditions(self, serve: Any, file: Path) -> None:
        get = await serve(lambda context: context.response.write_file(file))
        same = "Tue, 14 Nov 2023 22:13:20 GMT"
        response = await get(If_Modified_Since=same)
        assert (response.status, await response.read()) == (304, b"")
        assert (await get(Range="bytes=0-3", If_Range=same)).status == 206
        assert (await get(Range="bytes=0-3", If_Range="Tue, 14 Nov 2023 22:13:19 GMT")).status == 200

    async def test_names_for_a_browser(self, serve: Any, file: Path) -> None:
        get = await serve(
            lambda context: context.response.write_file(file, download_name='a "b" ü.txt', disposition="attachment")
        )
        assert (await get()).headers["Content-Disposition"] == 'attachment; filename="a+%22b%22+%C3%BC.txt"'

    async def test_what_is_no_file_is_404(self, serve: Any, tmp_path: Path) -> None:
        get = await serve(lambda context: context.response.write_file(tmp_path))
        response = await get()
        assert (response.status, await response.text()) == (404, f"File not found: {tmp_path.name}")

    async def test_a_file_that_vanishes_is_404(self, serve: Any, file: Path) -> None:
        def script(context: KestrunContext) -> None:
            context.response.write_file(file)
            file.unlink()

        response = await (await serve(script))()
        assert (response.status, await response.read()) == (404, b"")

    async def test_a_pipe_is_not_waited_for(self, serve: Any, file: Path) -> None:
        def script(context: KestrunContext) -> None:
            context.response.write_file(file)
            file.unlink()
            os.mkfifo(file)

        assert (await (await serve(script))()).status == 404


class TestStream:
    async def test_a_file_object_is_closed(self, serve: Any) -> None:
        source = io.BytesIO(TEXT * 10_000)
        get = await serve(lambda context: context.response.write_stream(source, content_type="text/plain"))
        response = await get()
        assert (await response.read(), response.headers["Content-Type"]) == (
            TEXT * 10_000,
            "text/plain; charset=utf-8",
        )
        assert source.closed

    async def test_iterables(self, serve: Any) -> None:
        async def later() -> AsyncIterator[bytes]:
            yield b"a"
            await asyncio.sleep(0)
            yield b"b"

        def now() -> Iterator[bytes]:
            assert threading.current_thread() is not threading.main_thread()
            yield b"a"
            yield b"b"

        for source in (later, now):
            get = await serve(lambda context, source=source: context.response.write_stream(source()))
            assert await (await get()).read() == b"ab"


class TestPieces:
    async def test_from_def_and_async_def(self, serve: Any) -> None:
        def plain(context: KestrunContext) -> None:
            with context.response.open_stream(status=202, content_type="text/plain") as stream:
                stream.write("größe ")
                stream.write(b"x")

        async def waiting(context: KestrunContext) -> None:
            plain(context)

        for script in (plain, waiting):
            response = await (await serve(script))()
            assert (response.status, await response.text()) == (202, "größe x")

    async def test_the_writer_waits_for_the_client(self, aiohttp_client: AiohttpClient) -> None:
        written = 0
        done = threading.Event()

        def script(context: KestrunContext) -> None:
            nonlocal written
            stream = context.response.open_stream()
            try:
                for _ in range(2_000):
                    stream.write(b"x" * 65_536)
                    written += 65_536
            finally:
                done.set()

        host = KestrunHost("test").add_map_route("/", "Get", script)
        client = await aiohttp_client(host.create_app())
        response = await client.get("/")
        for _ in range(200):
            before = written
            await asyncio.sleep(0.05)
            if written and written == before:
                break
        assert written < 2_000 * 65_536
        response.close()
        assert await asyncio.to_thread(done.wait, 30)
