"""Files as answers: conditions, ranges, and sending them from the disk."""

from __future__ import annotations

import asyncio
import os
import re
import stat
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO, Final

from aiohttp import hdrs, web
from aiohttp.abc import AbstractStreamWriter

from kestrun_py.http.conditions import Validators, evaluate, if_range_matches

__all__ = ["FileResponse"]

_CHUNK_BYTES: Final = 256 * 1024
_RANGE: Final = re.compile(r"bytes=(\d*)-(\d*)", re.ASCII)
_CLOSING: Final[set[asyncio.Future[None]]] = set()  # keeps the futures until the files are closed


class FileResponse(web.StreamResponse):
    """A file: 200, 206 for one range, 304 or 412 by the request's conditions, 416 for a range outside of it.

    A file that cannot be opened as a regular one when the response starts is 404.

    Args:
        path: The file.
        status: The status of an answer with the whole file.
        headers: Further headers.
        etag: Makes the entity tag from what `os.stat` says; None for answers without one.
        accept_ranges: Whether the answer says that ranges are accepted; they are accepted either way.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        status: int = 200,
        headers: Mapping[str, str] | None = None,
        etag: Callable[[os.stat_result], str] | None = None,
        accept_ranges: bool = True,
    ) -> None:
        super().__init__(status=status, headers=headers)
        self._path = Path(path)
        self._etag_of = etag
        self._accept_ranges = accept_ranges

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:
        """Opens the file, evaluates the conditions, and sends what is asked for."""
        loop = asyncio.get_running_loop()
        try:
            file, state = await loop.run_in_executor(None, _open, self._path)
        except OSError:
            self.headers.popall(hdrs.CONTENT_TYPE, None)
            return await self._without_body(request, 404)
        try:
            return await self._answer(request, file, state)
        finally:
            closing = loop.run_in_executor(None, file.close)
            _CLOSING.add(closing)
            closing.add_done_callback(_CLOSING.discard)

    async def _answer(
        self, request: web.BaseRequest, file: BinaryIO, state: os.stat_result
    ) -> AbstractStreamWriter | None:
        modified = datetime.fromtimestamp(int(state.st_mtime), UTC)
        validators = Validators(self._etag_of(state) if self._etag_of else None, modified)
        self.headers.update(validators.headers)
        if self._accept_ranges:
            self.headers[hdrs.ACCEPT_RANGES] = "bytes"
        start, count = 0, state.st_size
        if self.status == 200:
            ended = evaluate(request.method, request.headers, validators)
            if ended is not None:
                return await self._without_body(request, ended)
            part = self._range(request, validators, state.st_size)
            if part is not None:
                start, count = part
                if count <= 0:
                    self.headers[hdrs.CONTENT_RANGE] = f"bytes */{state.st_size}"
                    return await self._without_body(request, 416)
                self.set_status(206)
                self.headers[hdrs.CONTENT_RANGE] = f"bytes {start}-{start + count - 1}/{state.st_size}"
        self.content_length = count
        writer = await super().prepare(request)
        if count and request.method != hdrs.METH_HEAD and writer is not None:
            await self._send(request, writer, file, start, count)
        return writer

    async def _without_body(self, request: web.BaseRequest, status: int) -> AbstractStreamWriter | None:
        self.set_status(status)
        if status != 304:
            self.content_length = 0
        return await super().prepare(request)

    def _range(self, request: web.BaseRequest, validators: Validators, size: int) -> tuple[int, int] | None:
        """The start and length of the wanted range; None for the whole file, a length of 0 for a range outside."""
        header = request.headers.get(hdrs.RANGE)
        if header is None or request.method not in {hdrs.METH_GET, hdrs.METH_HEAD}:
            return None
        found = _RANGE.fullmatch(header.strip().lower())
        if found is None or found[0] == "bytes=-" or not if_range_matches(request.headers, validators):
            return None  # malformed, several ranges, or of another state: RFC 9110 lets a server ignore them
        first, last = found[1], found[2]
        if not first:
            count = min(_number(last), size)
            return size - count, count
        start, end = _number(first), _number(last) if last else size - 1
        if end < start and last:
            return None
        return start, max(min(end, size - 1) - start + 1, 0)

    async def _send(
        self, request: web.BaseRequest, writer: AbstractStreamWriter, file: BinaryIO, start: int, count: int
    ) -> None:
        loop = asyncio.get_running_loop()
        transport = request.transport
        if transport is None:
            raise ConnectionResetError("The client has gone.")
        if not self.compression:
            with suppress(NotImplementedError):  # uvloop has no sendfile
                await loop.sendfile(transport, file, start, count)
                await super().write_eof()
                return
        await loop.run_in_executor(None, file.seek, start)
        while count > 0 and (chunk := await loop.run_in_executor(None, file.read, min(_CHUNK_BYTES, count))):
            await writer.write(chunk)
            count -= len(chunk)


def _number(digits: str) -> int:
    return int(digits[:19] or 0)  # a file is never as long as 19 digits say


def _open(path: Path) -> tuple[BinaryIO, os.stat_result]:
    # Not blocking, so that a pipe without a writer is refused and not waited for.
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    try:
        state = os.fstat(descriptor)
        if not stat.S_ISREG(state.st_mode):
            raise FileNotFoundError(f"{path} is not a regular file.")
        return os.fdopen(descriptor, "rb"), state
    except BaseException:
        os.close(descriptor)
        raise
