"""The session middleware: gives each request its session, and commits it before the response starts."""

from __future__ import annotations

from functools import lru_cache, partial
from typing import Final

from aiohttp import hdrs, web
from aiohttp.typedefs import Handler, Middleware
from multidict import CIMultiDictProxy

from kestrun_py.cookies import read_cookie
from kestrun_py.errors import SessionUnavailableError
from kestrun_py.logging import Logger
from kestrun_py.sessions.outcome import CookieAction
from kestrun_py.sessions.session import Session
from kestrun_py.sessions.store import SessionStore

__all__ = ["SessionScope", "scope_of", "session_middleware", "unavailable_response"]

_RETRY_AFTER: Final = "1"

# A browser sends the same header with each request, so the last ones that were read are worth remembering.
_REMEMBERED_LENGTH: Final = 2048
_remembered_cookie: Final = lru_cache(maxsize=1024)(read_cookie)


class SessionScope:
    """The session of one request, from the middleware to the response's headers.

    It hangs on the request, and so does not refer to it: a cycle would leave each request to the garbage collector.
    """

    __slots__ = ("_ended", "_headers", "_session", "_set_cookie", "_starts", "_store", "read_only")

    def __init__(self, store: SessionStore, headers: CIMultiDictProxy[str]) -> None:
        self._store = store
        self._headers = headers
        self._session: Session | None = None
        self._set_cookie: str | None = None
        self._starts = False
        self._ended = False
        self.read_only = False

    @property
    def session(self) -> Session:
        """The request's session. Getting it loads nothing."""
        if self._session is None:
            load = partial(self._store.load, self.cookie(), read_only=self.read_only)
            self._session = Session(load, read_only=self.read_only, max_size=self._store.options.max_size)
            if self._ended:
                self._session.close()
        return self._session

    @property
    def accessed(self) -> bool:
        """Whether the session was looked at, beyond being loaded."""
        return self._session is not None and self._session.accessed

    def cookie(self) -> str | None:
        """The value of the session cookie that the request carries, if any."""
        headers = self._headers.getall(hdrs.COOKIE, None)
        if headers is None:
            return None
        header = headers[0] if len(headers) == 1 else "; ".join(headers)
        read = _remembered_cookie if len(header) <= _REMEMBERED_LENGTH else read_cookie
        return read(header, self._store.cookie_name)

    async def commit(self, *, is_https: bool) -> None:
        """Stores the session; called again, it does nothing.

        Args:
            is_https: Whether the request came over https.

        Raises:
            SessionUnavailableError: It could not be stored.
        """
        if self._ended:
            return
        self._ended = True
        if self._session is None:
            return
        change = await self._store.commit(self._session)
        if change.action is CookieAction.SET:
            self._starts = True
            self._set_cookie = self._store.options.cookie.set_cookie_header(change.value, is_https=is_https)
        elif change.action is CookieAction.EXPIRE:
            self._set_cookie = self._store.options.cookie.delete_cookie_header(is_https=is_https)

    def discard(self) -> None:
        """Ends the session without storing it."""
        if self._ended:
            return
        self._ended = True
        if self._session is not None:
            self._store.discard(self._session)

    def apply(self, response: web.StreamResponse) -> None:
        """Writes into a response's headers what became of the session."""
        if not self.accessed:
            return
        headers = response.headers
        if self._starts:
            headers["Cache-Control"] = "no-cache,no-store"
            headers["Pragma"] = "no-cache"
            headers["Expires"] = "-1"
        if self._set_cookie is not None:
            headers.add(hdrs.SET_COOKIE, self._set_cookie)
            self._set_cookie = None
        if hdrs.VARY not in headers:
            headers[hdrs.VARY] = "Cookie"
            return
        vary = ", ".join(headers.getall(hdrs.VARY))
        if vary != "*" and "cookie" not in (name.strip().casefold() for name in vary.split(",")):
            headers[hdrs.VARY] = f"{vary}, Cookie"


_SCOPE: Final = web.RequestKey("kestrun_py.session", SessionScope)


def scope_of(request: web.BaseRequest) -> SessionScope | None:
    """The session scope of a request; None if no session middleware has seen it."""
    return request.get(_SCOPE)


def unavailable_response() -> web.Response:
    """The answer to a request whose session cannot be read or stored at the moment."""
    return web.Response(status=503, headers={hdrs.RETRY_AFTER: _RETRY_AFTER})


def session_middleware(store: SessionStore, logger: Logger) -> Middleware:
    """Returns the aiohttp middleware that commits each request's session.

    It commits whatever the answer is: a page, a redirect, an error, an exception. Only a request that was cancelled,
    or failed because its session grew too large, leaves the session as it was. A response that starts by itself
    (a stream) has its session committed when its headers go out, by `commit_and_apply`.
    """

    @web.middleware
    async def run(request: web.Request, handler: Handler) -> web.StreamResponse:
        scope = request[_SCOPE] = SessionScope(store, request.headers)
        failure: Exception | None = None
        try:
            response = await handler(request)
        except Exception as error:
            failure = error
        except BaseException:
            scope.discard()
            raise
        try:
            await scope.commit(is_https=request.secure)
            if failure is not None:
                raise failure
        except SessionUnavailableError as unavailable:
            logger.error("{Error}", unavailable)
            return unavailable_response()
        finally:
            del failure
        return response

    return run


async def commit_and_apply(request: web.Request, response: web.StreamResponse) -> None:
    """For aiohttp's ``on_response_prepare``: commits, if that was not done, and writes the session's headers."""
    scope = scope_of(request)
    if scope is not None:
        await scope.commit(is_https=request.secure)
        scope.apply(response)
