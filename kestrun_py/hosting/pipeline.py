"""The way of a request: host, queued middleware in script order, route, script."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any, Final, TypeAlias

from aiohttp import hdrs, web
from aiohttp.http import SERVER_SOFTWARE, StreamWriter
from aiohttp.typedefs import Handler, Middleware
from multidict import CIMultiDict

from kestrun_py.concurrency.bridge import run_on_loop
from kestrun_py.errors import SessionTooLargeError, SessionUnavailableError
from kestrun_py.hosting.services import ServiceRegistry
from kestrun_py.http.context import KestrunContext, active_context, current_context, enter_context
from kestrun_py.http.response import KestrunResponse
from kestrun_py.logging import Logger, LogLevel
from kestrun_py.scripting.runspaces import RunspacePool
from kestrun_py.scripting.scripts import Script
from kestrun_py.sessions import Session, SessionAccess, SessionStore, describe_session, unavailable_response

__all__ = ["RouteHandler", "compose", "entry_middleware", "session_middleware", "stream_hook"]

_Hook: TypeAlias = Callable[[web.Request, web.StreamResponse], Awaitable[None]]

_MANY_RUNS: Final = 32
_SERVER_ERROR: Final = "An internal server error occurred."


def entry_middleware(services: ServiceRegistry, logger: Logger, *, server: str | None) -> Middleware:
    """Returns the outermost middleware: makes the request's context, and answers what nobody else has caught.

    Args:
        services: The host's services.
        logger: Where failures are logged.
        server: What responses say in their Server header; None for nothing.
    """

    @web.middleware
    async def run(request: web.Request, handler: Handler) -> web.StreamResponse:
        context = KestrunContext(services, request)
        enter_context(context)
        try:
            response = await handler(request)
        except web.HTTPException as raised:
            _describe(context, raised, server)
            raise
        except SessionUnavailableError as error:
            logger.error("{Error}", error)
            response = unavailable_response()
        except (Exception, asyncio.CancelledError) as error:
            if _is_cancelled(error):
                raise
            _log_failure(logger, request, error)
            response = _server_error(context)
        finally:
            context.ended = True
        _describe(context, response, server)
        return response

    return run


def _is_cancelled(error: BaseException) -> bool:
    """Whether it says that the request itself was cancelled, and not something that it has waited for."""
    task = asyncio.current_task()
    return isinstance(error, asyncio.CancelledError) and (task is None or task.cancelling() > 0)


def _from_script_on(error: BaseException) -> BaseException:
    """The error, its traceback without what runs scripts."""
    trace = error.__traceback__
    while trace is not None and f"{trace.tb_frame.f_globals.get('__package__')}.".startswith("kestrun_py."):
        trace = trace.tb_next
    return error if trace is None else error.with_traceback(trace)


def _log_failure(logger: Logger, request: web.Request, error: BaseException) -> None:
    logger.error("{Method} {Path} failed.", request.method, request.rel_url.raw_path, exception=error)


def _describe(context: KestrunContext, response: web.StreamResponse, server: str | None) -> None:
    """Has a response say who serves and what became of the session, whatever the middleware made of it."""
    if context.stream is response:
        return
    if context.stream is not None:
        _start_over(context.request.raw)
    _label(context, response.headers, server)


def _label(context: KestrunContext, headers: CIMultiDict[str], server: str | None) -> None:
    """Writes the headers that every response of a request has."""
    if context.opened_session is not None and context.opened_session.accessed:
        describe_session(context.opened_session, headers)
    if server is not None:
        headers.setdefault(hdrs.SERVER, server)


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
    (a stream) has its session committed when its headers go out, by `stream_hook`.
    """

    @web.middleware
    async def run(request: web.Request, handler: Handler) -> web.StreamResponse:
        session = current_context().opened_session = Session(store, request.headers)
        failure: BaseException | None = None
        try:
            response = await handler(request)
        except (Exception, asyncio.CancelledError) as error:
            failure = error
            if isinstance(error, SessionTooLargeError) or _is_cancelled(error):
                store.discard(session)
        except BaseException:
            store.discard(session)
            raise
        try:
            if session.close() is not None and not store.commit_at_once(session):
                await store.commit(session, request)
            if failure is not None:
                raise failure
        except SessionUnavailableError as unavailable:
            if failure is not None and not isinstance(failure, (web.HTTPException, SessionUnavailableError)):
                _log_failure(logger, request, failure)
            logger.error("{Error}", unavailable)
            return unavailable_response()
        finally:
            del failure
        return response

    return run


def stream_hook(store: SessionStore | None, *, server: str | None) -> _Hook:
    """Returns what aiohttp's ``on_response_prepare`` calls when the headers of a response go out.

    It commits the session of a response that starts while its script runs.

    Args:
        store: The host's sessions, if it has any.
        server: What responses say in their Server header; None for nothing.
    """

    async def prepare(request: web.Request, response: web.StreamResponse) -> None:
        context = active_context()
        if context is not None:
            if store is not None and context.opened_session is not None:
                try:
                    await store.commit(context.opened_session, request)
                except BaseException:
                    _start_over(request)
                    raise
            _label(context, response.headers, server)
            context.stream = response
        if response.headers.get(hdrs.SERVER) == SERVER_SOFTWARE:  # aiohttp has put it there a moment ago
            del response.headers[hdrs.SERVER]
            if server is not None:
                response.headers[hdrs.SERVER] = server

    return prepare


def compose(middleware: Sequence[Middleware], handler: Handler) -> Handler:
    """Returns a handler that passes a request through middleware, the first one outermost."""
    for one in reversed(middleware):
        handler = partial(one, handler=handler)
    return handler


def _server_error(context: KestrunContext) -> web.Response:
    response = KestrunResponse(context.request.raw)
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
        # A route whose scripts have looked at the session each time has it loaded before a script runs. For a `def`
        # that is because it would hold a thread while it waits for the lock: before the first run its text is the
        # guess, and one run that left the session alone takes many others to make up for. For an `async def` it is
        # because a script that has nothing to wait for needs no greenlet.
        self._loads_ahead = script.mentions_session and not script.is_async
        self._runs = 0  # that have looked at the session, one after the other
        self._runs_wanted = _MANY_RUNS if script.is_async else 1

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """The aiohttp handler."""
        debug = self._logger.is_enabled(LogLevel.DEBUG)
        started = time.perf_counter() if debug else 0.0
        context = current_context()
        session = context.opened_session
        # A lock is not held while a client still sends, or while the script waits for a thread.
        ahead = (
            self._loads_ahead
            and session is not None
            and (self._script.is_async or not self._pool.is_full)
            and (not request.body_exists or request.content.is_eof())
        )
        response: web.StreamResponse | None = None
        try:
            if session is not None:
                if self._read_only:
                    session.read_only = True
                if ahead and not session.load_at_once():
                    await session.load(ahead=True)
            if self._script.is_async:
                script = self._script.call(context)
                result = await (script if ahead and not request.body_exists else run_on_loop(script))
            else:
                result = await self._run_in_thread(context)
            if result is not None and isinstance(result, web.StreamResponse):
                response = result
            else:
                response = context.stream or context.response.to_aiohttp()
        except web.HTTPException as raised:
            response = raised
            raise
        except SessionUnavailableError as error:
            self._logger.error("{Method} {Pattern}: {Error}", request.method, self._pattern, error)
            response = unavailable_response()
        except (Exception, SystemExit, asyncio.CancelledError) as error:  # exit() ends the script, not the server
            if _is_cancelled(error):
                raise
            if isinstance(error, SessionTooLargeError):
                context.services.require(SessionStore).discard(context.session)  # what is stored stays as it was
            self._logger.error(
                "The script of {Method} {Pattern} failed.",
                request.method,
                self._pattern,
                exception=_from_script_on(error),
            )
            response = _server_error(context)
        finally:
            if debug:
                self._log_run(request, response, time.perf_counter() - started)
        if session is not None:
            self._learn(session.accessed)
        return response

    def _learn(self, accessed: bool) -> None:
        if not accessed:
            self._runs, self._runs_wanted, self._loads_ahead = 0, _MANY_RUNS, False
        elif not self._loads_ahead:
            self._runs += 1
            self._loads_ahead = self._runs >= self._runs_wanted

    async def _run_in_thread(self, context: KestrunContext) -> Any:
        result = await self._pool.run(partial(self._script.call, context))
        return await run_on_loop(result) if inspect.iscoroutine(result) else result  # a lambda around an async def

    def _log_run(self, request: web.Request, response: web.StreamResponse | None, seconds: float) -> None:
        self._logger.debug(
            "Route {Method} {Pattern} ran {Script}: {Outcome} in {Elapsed:0.0} ms",
            request.method,
            self._pattern,
            self._script.name,
            "cancelled" if response is None else response.status,
            seconds * 1000,
        )
