"""A TCP proxy that delays answers or swallows one."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator


class TcpProxy:
    """Forwards connections to a port of 127.0.0.1.

    Attributes:
        port: Where it listens.
        delay: Seconds that it holds back every piece that the server sends.
        cut_after: When the next piece of a client holds these bytes, the answer to it is swallowed and the connection
            closed; then forgotten.
    """

    def __init__(self, target: int) -> None:
        self.port = 0
        self.delay = 0.0
        self.cut_after: bytes | None = None
        self._target = target
        self._tasks: set[asyncio.Task[None]] = set()

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[TcpProxy]:
        server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        upstream_reader, upstream_writer = await asyncio.open_connection("127.0.0.1", self._target)
        cut = asyncio.Event()
        try:
            await asyncio.gather(
                self._requests(reader, upstream_writer, cut),
                self._answers(upstream_reader, writer, cut),
                return_exceptions=True,
            )
        finally:
            for end in (writer, upstream_writer):
                end.close()
                with contextlib.suppress(OSError):
                    await end.wait_closed()

    async def _requests(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, cut: asyncio.Event) -> None:
        while piece := await reader.read(65536):
            if self.cut_after is not None and self.cut_after in piece:
                self.cut_after = None
                cut.set()
            writer.write(piece)
            await writer.drain()
        writer.close()

    async def _answers(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, cut: asyncio.Event) -> None:
        while piece := await reader.read(65536):
            if self.delay:
                await asyncio.sleep(self.delay)
            if cut.is_set():
                break
            writer.write(piece)
            await writer.drain()
        writer.close()
