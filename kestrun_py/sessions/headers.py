"""What a response says about the session of its request."""

from __future__ import annotations

from typing import Final

from aiohttp import hdrs, web

from kestrun_py.sessions.session import Session

__all__ = ["describe_session", "unavailable_response"]

_RETRY_AFTER: Final = "1"


def describe_session(session: Session, response: web.StreamResponse) -> None:
    """Writes into a response's headers what became of the session, if the request has looked at it."""
    if not session.accessed:
        return
    headers = response.headers
    if session.started:
        headers["Cache-Control"] = "no-cache,no-store"
        headers["Pragma"] = "no-cache"
        headers["Expires"] = "-1"
    if session.set_cookie is not None:
        headers.add(hdrs.SET_COOKIE, session.set_cookie)
    vary = headers.get(hdrs.VARY)
    if vary is None:
        headers[hdrs.VARY] = "Cookie"
        return
    vary = ", ".join(headers.getall(hdrs.VARY))
    if vary != "*" and "cookie" not in (name.strip().casefold() for name in vary.split(",")):
        headers[hdrs.VARY] = f"{vary}, Cookie"


def unavailable_response() -> web.Response:
    """The answer to a request whose session cannot be read or stored at the moment."""
    return web.Response(status=503, headers={hdrs.RETRY_AFTER: _RETRY_AFTER})
