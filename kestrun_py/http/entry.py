"""The way in and out of a request: its context, the pipeline of middleware and route, the answer to what fails."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from functools import partial

from aiohttp import hdrs, web
from aiohttp.http import SERVER_SOFTWARE, StreamWriter
from aiohttp.typedefs import Handler, Middleware

from kestrun_py.concurrency.cancellation import is_own_cancellation
from kestrun_py.http.context import RequestContext, active_context, enter_context
from kestrun_py.http.error_responses import answer_to
from kestrun_py.logging import Logger
from kestrun_py.routing.options import RouteEndpoint
from kestrun_py.routing.targets import cleaned
from kestrun_py.services import ServiceRegistry

__all__ = ["Entry", "compose"]


class Entry:
    """What every request passes first and last.

    It makes the context, runs the pipeline, answers what the pipeline raises (`answer_to`), and calls the hooks of
    the response when it starts.

    Args:
        make_context: Makes the context of a request.
        services: The host's services.
        logger: Where failures are logged.
        server: What responses say in their Server header; None for no such header.
        development: Whether browsers are shown what failed, with the script's lines.
    """

    def __init__(
        self,
        make_context: Callable[[ServiceRegistry, web.Request, RouteEndpoint | None], RequestContext],
        services: ServiceRegistry,
        logger: Logger,
        server: str | None,
        development: bool = False,
    ) -> None:
        self._make_context = make_context
        self._services = services
        self._logger = logger
        self._server = server
        self._development = development

    def wrap(self, pipeline: Handler, endpoint: RouteEndpoint | None) -> Handler:
        """Returns the handler of a route: the entry around its pipeline."""
        return partial(self._handle, pipeline, endpoint)

    async def _handle(
        self, pipeline: Handler, endpoint: RouteEndpoint | None, request: web.Request
    ) -> web.StreamResponse:
        request = cleaned(request)
        context = self._make_context(self._services, request, endpoint)
        enter_context(context)
        try:
            try:
                response = await pipeline(request)
                await self._finish(context, response)
            except web.HTTPException as raised:
                await self._finish(context, raised)
                raise
            except (Exception, asyncio.CancelledError) as error:
                if is_own_cancellation(error):
                    raise
                response = answer_to(error, context, self._logger, development=self._development)
                await self._finish(context, response)
        finally:
            context.ended = True
        return response

    async def _finish(self, context: RequestContext, response: web.StreamResponse) -> None:
        """Completes the headers of a response, unless it has started already."""
        if context.stream is response:
            return
        if context.stream is not None:
            _start_over(context.request.raw)
        await context.begin(response)
        if self._server is not None:
            response.headers.setdefault(hdrs.SERVER, self._server)

    async def prepare(self, request: web.Request, response: web.StreamResponse) -> None:
        """What aiohttp's ``on_response_prepare`` calls when the headers of a response go out.

        A response that starts while its script runs has its hooks called here, so its session is committed first.
        """
        context = active_context()
        if context is not None:
            try:
                await context.begin(response)
            except BaseException:
                _start_over(request)
                raise
            context.stream = response
        if response.headers.get(hdrs.SERVER) == SERVER_SOFTWARE:  # aiohttp has put it there a moment ago
            del response.headers[hdrs.SERVER]
        if self._server is not None:
            response.headers.setdefault(hdrs.SERVER, self._server)


def _start_over(request: web.Request) -> None:
    """Makes room for another answer after one has begun; if a part of it was sent, closes the connection."""
    if not request.writer.output_size:
        request._payload_writer = StreamWriter(request.protocol, asyncio.get_running_loop())
    elif request.transport is not None:
        request.transport.close()  # so that the client does not take the part for the whole


def compose(middleware: Sequence[Middleware], handler: Handler) -> Handler:
    """Returns a handler that passes a request through middleware, the first one outermost."""
    for one in reversed(middleware):
        handler = partial(one, handler=handler)
    return handler
