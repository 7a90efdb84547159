"""aiohttp's HTTP server, with a short way for plain responses, and taught to keep to itself what it cannot parse."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from http import HTTPStatus
from typing import Any, Final, TypeAlias

from aiohttp import HttpVersion11, hdrs, web
from aiohttp.compression_utils import MAX_SYNC_CHUNK_SIZE
from aiohttp.helpers import rfc822_formatted_time
from aiohttp.http_writer import _serialize_headers
from multidict import CIMultiDict

__all__ = ["DISPATCH", "REASONS", "Dispatch", "HttpRunner", "PlainResponse"]

Dispatch: TypeAlias = Callable[[web.Application, web.Request], Awaitable[web.StreamResponse]]

#: Where an application says how its requests are handled, if not by aiohttp's router.
DISPATCH: Final[web.AppKey[Dispatch]] = web.AppKey("dispatch")

#: The standard phrases, by status.
REASONS: Final = {status.value: status.phrase for status in HTTPStatus}
_WITHOUT_BODY: Final = frozenset({*range(100, 200), 204, 304})
_MOMENT: Final = 0.05
_HEAD_TIMEOUT: Final = 30.0  # seconds, as Kestrel
_KEEPALIVE_TIMEOUT: Final = 130.0  # seconds, as Kestrel
_MAX_FIELD: Final = 32 * 1024  # bytes of one header field; Kestrel allows as much for all of them


class PlainResponse(web.Response):
    """A response whose headers and bytes are all there is to it, which our connections send at once.

    Elsewhere, and once somebody asks for cookies, compression or chunks, it is aiohttp's response.
    """

    # What aiohttp's constructor sets beside what is set here, which is all that it would find to do.
    _zlib_executor_size = MAX_SYNC_CHUNK_SIZE
    _zlib_executor = None

    def __init__(self, status: int, headers: CIMultiDict[str], body: bytes | None) -> None:
        self._state = {}
        self._headers = headers
        self._status = status
        self._reason = REASONS.get(status, "")
        self._body = body

    def pack(self, request: web.BaseRequest) -> bytes | None:
        """Ends the response and returns the bytes to send; None, and nothing done, if there is more to it."""
        body = self._body
        headers = self._headers
        message = request._message
        if (
            body.__class__ is not bytes
            or self._status in _WITHOUT_BODY
            or self._cookies is not None
            or self._compression
            or self._chunked
            or self._keep_alive is not None
            or self._eof_sent
            or self._payload_writer is not None
            or message.method == hdrs.METH_HEAD
            or message.version != HttpVersion11
            or message.should_close
            or hdrs.CONTENT_LENGTH in headers
            or hdrs.TRANSFER_ENCODING in headers
            or hdrs.CONNECTION in headers
        ):
            return None
        headers[hdrs.CONTENT_LENGTH] = str(len(body))
        if body:
            headers.setdefault(hdrs.CONTENT_TYPE, "application/octet-stream")
        headers.setdefault(hdrs.DATE, rfc822_formatted_time())
        self._eof_sent = self._keep_alive = True
        return _serialize_headers(f"HTTP/1.1 {self._status} {self._reason}", headers) + body


class _Connection(web.RequestHandler):
    """One connection. What is no HTTP is answered with a bare status, and a plain response is sent in one piece.

    aiohttp would send back and log the line that it stumbled over, and that may be the one with the cookie.
    """

    __slots__ = ("_answered", "_head_timeout", "_head_timer", "_plain")

    def __init__(self, server: _HttpServer, **options: Any) -> None:
        super().__init__(server, **options)
        self._plain = server.plain
        self._head_timeout = server.head_timeout
        self._head_timer: asyncio.TimerHandle | None = None
        self._answered = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Gives the client a limited time for the head of its first request; the keep-alive timeout ends later ones."""
        super().connection_made(transport)
        self._head_timer = self._loop.call_later(self._head_timeout, self._end_without_head)

    def connection_lost(self, exc: BaseException | None) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
        super().connection_lost(exc)

    def _end_without_head(self) -> None:
        if not self._answered and self._current_request is None:
            self.force_close()

    async def shutdown(self, timeout: float | None = 15.0) -> None:
        """Cancels the request in flight after `timeout` seconds; aiohttp itself would wait as long again.

        A moment later, to be exact: when aiohttp has noticed that the time is over.
        """
        handler, timer = self._task_handler, None
        if handler is not None and timeout is not None:
            timer = self._loop.call_later(timeout + _MOMENT, handler.cancel)
        try:
            await super().shutdown(timeout)
        finally:
            if timer is not None:
                timer.cancel()

    async def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        """Sends a response; a plain one in one piece, if nobody else wants to be told."""
        self._answered = True
        packed = None
        if type(resp) is PlainResponse and self._plain and start_time is None and not self._upgraded:
            packed = resp.pack(request)
        if packed is None:
            return await super().finish_response(request, resp, start_time)
        request._finish()
        if self.transport is None or self.transport.is_closing():
            return resp, True
        self.transport.write(packed)
        if self._paused:
            try:
                await self._drain_helper()
            except ConnectionError:
                return resp, True
        return resp, False

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        if status >= 500:
            return super().handle_error(request, status, exc, message)
        self.log_debug("A request from %s was refused with %s: %s", request.remote, status, type(exc).__name__)
        response = web.Response(status=status, headers={hdrs.SERVER: ""})
        response.force_close()
        return response


class _HttpServer(web.Server):
    """Makes such connections.

    Attributes:
        plain: Whether nobody but the host itself is told when a response goes out.
        head_timeout: Seconds that a client has for the head of its first request.
    """

    plain = False
    head_timeout: float = _HEAD_TIMEOUT

    def __call__(self) -> web.RequestHandler:
        return _Connection(self, loop=self._loop, **self._kwargs)

    async def shutdown(self, timeout: float | None = None) -> None:
        """Ends all connections, also those that are accepted while it waits for the requests of others."""
        ended: set[web.RequestHandler] = set()
        while late := set(self.connections) - ended:
            await asyncio.gather(*(connection.shutdown(timeout) for connection in late))
            ended |= late
        await super().shutdown(timeout)


class HttpRunner(web.AppRunner):
    """aiohttp's `AppRunner` on such connections, without an access log.

    Args:
        app: The application.
        head_timeout: Seconds that a client has for the head of its first request; Kestrel's 30.
        keepalive_timeout: Seconds after which a connection without a request is closed; Kestrel's 130.
        options: Further options of `AppRunner`.
    """

    def __init__(
        self,
        app: web.Application,
        *,
        head_timeout: float = _HEAD_TIMEOUT,
        keepalive_timeout: float = _KEEPALIVE_TIMEOUT,
        **options: Any,
    ) -> None:
        super().__init__(
            app, access_log=None, max_field_size=_MAX_FIELD, keepalive_timeout=keepalive_timeout, **options
        )
        self._head_timeout = head_timeout

    async def _make_server(self) -> web.Server:
        made = await super()._make_server()
        dispatch = self.app.get(DISPATCH)
        server = _HttpServer(
            made.request_handler if dispatch is None else partial(dispatch, self.app),
            request_factory=made.request_factory,
            handler_cancellation=made.handler_cancellation,
            **made._kwargs,
        )
        server.head_timeout = self._head_timeout
        server.plain = dispatch is not None and len(self.app.on_response_prepare) == 1
        return server
