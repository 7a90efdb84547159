"""aiohttp's HTTP server, taught to keep to itself what it cannot parse."""

from __future__ import annotations

import asyncio
from typing import Any, Final

from aiohttp import hdrs, web

__all__ = ["HttpRunner"]

_MOMENT: Final = 0.05
_MAX_FIELD: Final = 32 * 1024  # bytes of one header field; Kestrel allows as much for all of them


class _Connection(web.RequestHandler):
    """One connection. What is no HTTP is answered with a bare status.

    aiohttp would send back and log the line that it stumbled over, and that may be the one with the cookie.
    """

    __slots__ = ()

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
        options: Further options of `AppRunner`.
    """

    def __init__(self, app: web.Application, **options: Any) -> None:
        super().__init__(app, access_log=None, max_field_size=_MAX_FIELD, **options)

    async def _make_server(self) -> web.Server:
        made = await super()._make_server()
        return _HttpServer(
            made.request_handler,
            request_factory=made.request_factory,
            handler_cancellation=made.handler_cancellation,
            **made._kwargs,
        )
