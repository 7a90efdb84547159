"""Bodies that are written or read piece by piece while the client takes them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator
from types import TracebackType
from typing import Any, BinaryIO, Final, Self

from aiohttp import payload, web

from kestrun_py.concurrency.bridge import wait
from kestrun_py.errors import ArgumentError

__all__ = ["ResponseStream", "stream_payload"]

_CHUNK_BYTES: Final = 64 * 1024


class ResponseStream:
    """The body of an answer that has started (Kestrun's ``$Context.Response.Body``).

    Its methods wait, without `await`, until the client has taken what was written before: in a ``def`` script the
    thread waits, in an ``async def`` script other requests run meanwhile. The answer ends with the script, or with
    `close`.
    """

    def __init__(self, request: web.BaseRequest, response: web.StreamResponse) -> None:
        self._response = response
        wait(response.prepare(request))

    def write(self, data: bytes | str) -> None:
        """Sends bytes, or text in UTF-8.

        Raises:
            ArgumentError: It is neither.
            ConnectionResetError: The client has gone.
        """
        if isinstance(data, str):
            data = data.encode("utf-8", "replace")
        elif not isinstance(data, bytes | bytearray | memoryview):
            raise ArgumentError(f"A stream takes bytes or text, not {type(data).__name__}.")
        if data:
            wait(self._response.write(data))

    def close(self) -> None:
        """Ends the answer."""
        wait(self._response.write_eof())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        if kind is None:
            self.close()


def stream_payload(source: BinaryIO | Iterable[bytes] | AsyncIterable[bytes]) -> payload.Payload:
    """Returns what aiohttp reads a body from while it sends it."""
    if isinstance(source, AsyncIterable):
        return payload.AsyncIterablePayload(source)
    if hasattr(source, "read"):
        return payload.AsyncIterablePayload(_read(source))
    return payload.AsyncIterablePayload(_iterate(source))


async def _read(file: Any) -> AsyncIterator[bytes]:
    loop = asyncio.get_running_loop()
    try:
        while chunk := await loop.run_in_executor(None, file.read, _CHUNK_BYTES):
            yield chunk
    finally:
        await loop.run_in_executor(None, file.close)


async def _iterate(items: Iterable[bytes]) -> AsyncIterator[bytes]:
    loop = asyncio.get_running_loop()
    iterator: Iterator[bytes | None] = iter(items)
    while (item := await loop.run_in_executor(None, next, iterator, None)) is not None:
        yield item
