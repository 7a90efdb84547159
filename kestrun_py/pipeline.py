"""The way of a request: host, queued middleware in script order, route, script."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Sequence
from functools import partial
from typing import Final

from aiohttp import web
from aiohttp.http import StreamWriter
from aiohttp.typedefs import Handler, Middleware

from kestrun_py._bridge import run_on_loop
from kestrun_py.context import KestrunContext, active_context, current_context, enter_context, leave_context
from kestrun_py.errors import SessionTooLargeError, SessionUnavailableError
from kestrun_py.logging import Logger, LogLevel
from kestrun_py.response import KestrunResponse
from kestrun_py.runspaces import RunspacePool
from kestrun_py.scripts import Script
from kestrun_py.services import ServiceRegistry
from kestrun_py.sessions import SessionAccess, SessionScope, SessionStore, unavailable_response

__all__ = ["RouteHandler", "commit_stream", "compose", "entry_middleware", "session_middleware"]

_SERVER_ERROR: Final = "An internal server error occurred."


def entry_middleware(services: ServiceRegistry, logger: Logger) -> Middleware:
    """Returns the outermost middleware: makes the request's context, and answers what nobody else has caught."""

    @web.middleware
    async def run(request: web.Request, handler: Handler) -> web.StreamResponse:
        context = KestrunContext(services, request)
        token = enter_context(context)
        try:
            response = await handler(request)
        except web.HTTPException as raised:
            _tell(context, raised)
            raise
        except SessionUnavailableError as error:
            logger.error("{Error}", error)
            response = unavailable_response()
        except Exception as error:
            logger.error("{Method} {Path} failed.", request.method, request.rel_url.raw_path, exception=error)
            response = _server_error(context)
        finally:
            leave_context(context, token)
        _tell(context, response)
        return response

    return run


def _tell(context: KestrunContext, response: web.StreamResponse) -> None:
    """Has a response say what became of the session, whatever the middleware made of it."""
    if context.stream is response:
        return
    if context.stream is not None:
        _start_over(context.request.raw)
    if context.scope is not None:
        context.scope.apply(response)


def _start_over(request: web.Request) -> None:
    """Lets another answer follow one that was begun: in its place, or, if a part of it went out, not at all."""
    if not request.writer.output_size:
        request._payload_writer = StreamWriter(request.protocol, asyncio.get_running_loop())
    elif request.transport is not None:
        request.transport.close()  # so that the client does not take the part for the whole


def session_middleware(store: SessionStore, logger: Logger) -> Middleware:
    """Returns the middleware that gives each request its session, and commits it before the response starts.

    It commits whatever the answer is: a page, a redirect, an error, an exception. Only a request that was cancelled,
    or failed because its session grew too large, leaves the session as it was. A response that starts by itself
    (a stream) has its session committed when its headers go out, by `commit_stream`.
    """

    @web.middleware
    async def run(request: web.Request, handler: Handler) -> web.StreamResponse:
        scope = current_context().scope = SessionScope(store, request.headers)
        failure: Exception | None = None
        try:
            response = await handler(request)
        except Exception as error:
            failure = error
        except BaseException:
            scope.discard()
            raise
        try:
            await scope.commit(request)
            if failure is not None:
                raise failure
        except SessionUnavailableError as unavailable:
            logger.error("{Error}", unavailable)
            return unavailable_response()
        finally:
            del failure
        return response

    return run


async def commit_stream(request: web.Request, response: web.StreamResponse) -> None:
    """For aiohttp's ``on_response_prepare``: commits the session of a response that starts while its script runs."""
    context = active_context()
    if context is None:
        return
    if context.scope is not None:
        try:
            await context.scope.commit(request)
        except SessionUnavailableError:
            _start_over(request)
            raise
        context.scope.apply(response)
    context.stream = response


def compose(middleware: Sequence[Middleware], handler: Handler) -> Handler:
    """Returns a handler that passes a request through middleware, the first one outermost."""
    for one in reversed(middleware):
        handler = partial(one, handler=handler)
    return handler


def _server_error(context: KestrunContext) -> web.Response:
    response = KestrunResponse(context.request)
    response.write_error(_SERVER_ERROR)
    return response.to_aiohttp()


class RouteHandler:
    """Runs a route's script and makes the response of what it wrote.

    Args:
        pattern: The route's pattern, for log lines.
        script: What the route runs.
        access: What the route may do with the session.
        pool: The threads for ``def`` scripts.
        logger: Where executions and errors are logged.
    """

    def __init__(self, pattern: str, script: Script, access: SessionAccess, pool: RunspacePool, logger: Logger) -> None:
        self._pattern = pattern
        self._script = script
        self._read_only = access is SessionAccess.READ_ONLY
        self._pool = pool
        self._logger = logger
        # Whether to load the session before the script starts. A `def` script that waits for its session's lock would
        # hold a worker thread meanwhile, so a route that uses the session waits first. Its text is the first guess,
        # its first run the answer, and a run that used the session settles it.
        self._preloads = script.mentions_session and not script.is_async
        self._settled = script.is_async

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """The aiohttp handler."""
        debug = self._logger.is_enabled(LogLevel.DEBUG)
        started = time.perf_counter() if debug else 0.0
        context = current_context()
        scope = context.scope
        try:
            if scope is not None:
                if self._read_only:
                    scope.make_read_only()
                if self._preloads and scope.cookie() is not None:
                    await scope.session.load()
            if self._script.is_async:
                result = await run_on_loop(self._script.call(context))
            else:
                result = await self._pool.run(partial(self._script.call, context))
                if inspect.iscoroutine(result):  # a lambda around an async def
                    result = await run_on_loop(result)
            if not isinstance(result, web.StreamResponse):
                result = context.response.to_aiohttp() if context.stream is None else context.stream
            response: web.StreamResponse = result
        except web.HTTPException:
            raise
        except SessionUnavailableError as error:
            self._logger.error("{Method} {Pattern}: {Error}", request.method, self._pattern, error)
            return unavailable_response()
        except (Exception, SystemExit) as error:  # exit() in a script ends the script, not the server
            if isinstance(error, SessionTooLargeError) and scope is not None:
                scope.discard()  # the stored session stays as it was before this request
            self._logger.error(
                "The script of {Method} {Pattern} failed.", request.method, self._pattern, exception=error
            )
            return _server_error(context)
        finally:
            if scope is not None and not self._settled:
                self._preloads = self._settled = scope.accessed
        if debug:
            self._logger.debug(
                "Route {Method} {Pattern} ran {Script}: {Status} in {Elapsed:0.0} ms",
                request.method,
                self._pattern,
                self._script.name,
                response.status,
                (time.perf_counter() - started) * 1000,
            )
        return response
