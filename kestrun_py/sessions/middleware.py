"""The middleware that gives each request its session, and commits it before the response starts."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from kestrun_py.concurrency.cancellation import is_own_cancellation
from kestrun_py.errors import SessionTooLargeError, SessionUnavailableError
from kestrun_py.http.context import RequestContext, current_context
from kestrun_py.logging import Logger
from kestrun_py.routing.options import SessionAccess
from kestrun_py.sessions.headers import describe_session
from kestrun_py.sessions.session import Session
from kestrun_py.sessions.store import SessionStore

__all__ = ["session_middleware"]


def session_middleware(store: SessionStore, logger: Logger) -> Middleware:
    """Returns the middleware of a host's sessions.

    It commits with every answer: a page, a redirect, an error, an exception. Only a request that was cancelled,
    or failed because its session grew too large, leaves the session as it was. A response that starts by itself
    (a stream) has its session committed when its headers go out.
    """

    def before_start(context: RequestContext, response: web.StreamResponse) -> Awaitable[None] | None:
        session: Session = context.features[Session]
        if not session.closed:  # the response starts while the script runs
            return commit_and_describe(session, context, response)
        if session.accessed:
            describe_session(session, response.headers)
        return None

    async def commit_and_describe(session: Session, context: RequestContext, response: web.StreamResponse) -> None:
        await store.committer.commit(session, context.request.raw)
        if session.accessed:
            describe_session(session, response.headers)

    @web.middleware
    async def run(request: web.Request, handler: Handler) -> web.StreamResponse:
        context = current_context()
        context.follow(request)
        session = context.features[Session] = Session(store.loader, request.headers, request.remote)
        endpoint = context.endpoint
        if endpoint is not None and endpoint.options.session_access is SessionAccess.READ_ONLY:
            session.read_only = True
        context.on_starting(before_start)
        failure: BaseException | None = None
        try:
            response = await handler(request)
        except (Exception, asyncio.CancelledError) as error:
            failure = error
            if isinstance(error, SessionTooLargeError) or is_own_cancellation(error):
                store.committer.discard(session)
        except BaseException:
            store.committer.discard(session)
            raise
        try:
            if session.close() is not None and not store.committer.commit_at_once(session):
                await store.committer.commit(session, context.request.raw)
            if failure is not None:
                raise failure
        except SessionUnavailableError:
            # The answer will be that the session is unavailable, so the other failure must be logged here.
            if failure is not None and not isinstance(failure, (web.HTTPException, SessionUnavailableError)):
                logger.error("{Method} {Path} failed.", request.method, request.rel_url.raw_path, exception=failure)
            raise
        finally:
            del failure
        return response

    return run
