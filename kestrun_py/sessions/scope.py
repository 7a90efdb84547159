"""What a request has of its session: loaded when it is first used, committed once, told in the response."""

from __future__ import annotations

from functools import lru_cache, partial
from typing import Final

from aiohttp import hdrs, web
from multidict import CIMultiDictProxy

from kestrun_py.cookies import read_cookie
from kestrun_py.sessions.outcome import CookieAction
from kestrun_py.sessions.session import Session
from kestrun_py.sessions.store import SessionStore

__all__ = ["SessionScope", "unavailable_response"]

_RETRY_AFTER: Final = "1"

# A browser sends the same header with each request, so the last ones that were read are worth remembering.
_REMEMBERED_LENGTH: Final = 2048
_remembered_cookie: Final = lru_cache(maxsize=1024)(read_cookie)


class SessionScope:
    """The session of one request, from the middleware to the response's headers.

    It does not refer to the request: a cycle would leave each request to the garbage collector.
    """

    __slots__ = ("_ended", "_headers", "_read_only", "_session", "_set_cookie", "_starts", "_store")

    def __init__(self, store: SessionStore, headers: CIMultiDictProxy[str]) -> None:
        self._store = store
        self._headers = headers
        self._session: Session | None = None
        self._set_cookie: str | None = None
        self._starts = False
        self._ended = False
        self._read_only = False

    @property
    def session(self) -> Session:
        """The request's session. Getting it loads nothing."""
        if self._session is None:
            load = partial(self._store.load, self.cookie(), read_only=self._read_only)
            self._session = Session(
                load, self._store.give_back, read_only=self._read_only, max_size=self._store.options.max_size
            )
            if self._ended:
                self._session.close()
        return self._session

    def make_read_only(self) -> None:
        """From here on a write is an error; a session that nobody has asked for yet is read without its lock."""
        self._read_only = True
        if self._session is not None:
            self._session.read_only = True

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

    async def commit(self, request: web.Request) -> None:
        """Stores the session; called again, it does nothing.

        Args:
            request: The request that the session belongs to.

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
            self._set_cookie = self._store.options.cookie.set_cookie_header(change.value, is_https=request.secure)
        elif change.action is CookieAction.EXPIRE:
            self._set_cookie = self._store.options.cookie.delete_cookie_header(is_https=request.secure)

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
        if hdrs.VARY not in headers:
            headers[hdrs.VARY] = "Cookie"
            return
        vary = ", ".join(headers.getall(hdrs.VARY))
        if vary != "*" and "cookie" not in (name.strip().casefold() for name in vary.split(",")):
            headers[hdrs.VARY] = f"{vary}, Cookie"


def unavailable_response() -> web.Response:
    """The answer to a request whose session cannot be read or stored at the moment."""
    return web.Response(status=503, headers={hdrs.RETRY_AFTER: _RETRY_AFTER})
