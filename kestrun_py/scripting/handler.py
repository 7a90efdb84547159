"""Runs a route's script and makes the response of what it wrote."""

from __future__ import annotations

import inspect
import time
from functools import partial

from aiohttp import web

from kestrun_py.concurrency.bridge import run_on_loop
from kestrun_py.concurrency.cancellation import is_own_cancellation
from kestrun_py.errors import ScriptExitError
from kestrun_py.http.context import RequestContext, current_context
from kestrun_py.http.error_responses import status_of
from kestrun_py.logging import Logger, LogLevel
from kestrun_py.scripting.runspaces import RunspacePool
from kestrun_py.scripting.scripts import Script

__all__ = ["RouteHandler"]


class RouteHandler:
    """The innermost handler of a route. What its script raises travels outwards, through the middleware.

    Args:
        pattern: The route's pattern, for log lines.
        script: What the route runs.
        pool: The threads for ``def`` scripts.
        logger: Where executions are logged, at Debug.
    """

    def __init__(self, pattern: str, script: Script, pool: RunspacePool, logger: Logger) -> None:
        self._pattern = pattern
        self._script = script
        self._pool = pool
        self._logger = logger

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """The aiohttp handler."""
        context = current_context()
        context.follow(request)
        if not self._logger.is_enabled(LogLevel.DEBUG):
            return await self._run(context)
        started = time.perf_counter()
        outcome: object = "cancelled"
        try:
            response = await self._run(context)
            outcome = response.status
        except BaseException as error:
            if not is_own_cancellation(error):
                outcome = status_of(error)
            raise
        finally:
            self._log_run(request, outcome, time.perf_counter() - started)
        return response

    async def _run(self, context: RequestContext) -> web.StreamResponse:
        try:
            if self._script.is_async:
                result = await run_on_loop(self._script.call(context))
            else:
                result = await self._pool.run(partial(self._script.call, context))
                if inspect.iscoroutine(result):  # of a lambda around an async def
                    result = await run_on_loop(result)
        except SystemExit as error:
            raise ScriptExitError(f"The script of {self._pattern} called exit({error.code!r}).") from error
        if result is not None and isinstance(result, web.StreamResponse):
            return result
        return context.stream or context.response.to_aiohttp()

    def _log_run(self, request: web.Request, outcome: object, seconds: float) -> None:
        self._logger.debug(
            "Route {Method} {Pattern} ran {Script}: {Outcome} in {Elapsed:0.0} ms",
            request.method,
            self._pattern,
            self._script.name,
            outcome,
            seconds * 1000,
        )
