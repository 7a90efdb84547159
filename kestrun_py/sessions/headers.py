"""What a response says about the session of its request."""

from __future__ import annotations

from aiohttp import hdrs
from multidict import CIMultiDict

from kestrun_py.sessions.session import Session

__all__ = ["describe_session"]


def describe_session(session: Session, headers: CIMultiDict[str]) -> None:
    """Writes into a response's headers what became of the session that the request has used."""
    headers[hdrs.CACHE_CONTROL] = "no-cache,no-store"
    if session.started:
        headers["Pragma"] = "no-cache"
        headers["Expires"] = "-1"
    if session.set_cookie is not None:
        headers.add(hdrs.SET_COOKIE, session.set_cookie)
    if headers.setdefault(hdrs.VARY, "Cookie") == "Cookie":
        return
    vary = ", ".join(headers.getall(hdrs.VARY))
    if vary != "*" and "cookie" not in (name.strip().casefold() for name in vary.split(",")):
        headers[hdrs.VARY] = f"{vary}, Cookie"
