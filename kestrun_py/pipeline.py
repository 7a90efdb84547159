"""The way of a request: host, queued middleware in script order, route, script."""

from __future__ import annotations

import time
from typing import Final

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from kestrun_py.context import KestrunContext, current_context, enter_context, leave_context
from kestrun_py.errors import SessionTooLargeError, SessionUnavailableError
from kestrun_py.logging import Logger, LogLevel
from kestrun_py.response import KestrunResponse
from kestrun_py.runspaces import RunspacePool
from kestrun_py.scripts import Script
from kestrun_py.services import ServiceRegistry
from kestrun_py.sessions import SessionAccess, scope_of, unavailable_response

__all__ = ["RouteHandler", "entry_middleware"]

_SERVER_ERROR: Final = "An internal server error occurred."


def entry_middleware(services: ServiceRegistry, logger: Logger) -> Middleware:
    """Returns the outermost middleware: makes the request's context, and answers what nobody else has caught."""

    @web.middleware
    async def run(request: web.Request, handler: Handler) -> web.StreamResponse:
        context = KestrunContext(services, request)
        token = enter_context(context)
        try:
            return await handler(request)
        except web.HTTPException as raised:
            if request.match_info.http_exception is raised:
                return _no_route(raised)
            raise
        except SessionUnavailableError as error:
            logger.error("{Error}", error)
            return unavailable_response()
        except Exception as error:
            logger.error("{Method} {Path} failed.", request.method, request.path, exception=error)
            return _server_error(context)
        finally:
            leave_context(context, token)

    return run


def _no_route(raised: web.HTTPException) -> web.Response:
    """404, or 405 with Allow, without a body, as ASP.NET Core answers."""
    allow = raised.headers.get("Allow")
    return web.Response(status=raised.status, headers=None if allow is None else {"Allow": allow})


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
        started = time.perf_counter()
        context = current_context()
        scope = scope_of(request)
        try:
            if scope is not None:
                scope.read_only = self._read_only
                if self._preloads and scope.cookie() is not None:
                    await scope.session.load()
            result = await self._script.run(context, self._pool)
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
        response = result if isinstance(result, web.StreamResponse) else context.response.to_aiohttp()
        if self._logger.is_enabled(LogLevel.DEBUG):
            self._logger.debug(
                "Route {Method} {Pattern} ran {Script}: {Status} in {Elapsed:0.0} ms",
                request.method,
                self._pattern,
                self._script.name,
                response.status,
                (time.perf_counter() - started) * 1000,
            )
        return response
