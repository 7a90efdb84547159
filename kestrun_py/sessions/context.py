"""The session of the request that is being handled."""

from __future__ import annotations

from kestrun_py.errors import SessionNotConfiguredError
from kestrun_py.http.context import RequestContext, current_context
from kestrun_py.sessions.session import Session

__all__ = ["SessionContext", "current_session"]


class SessionContext(RequestContext):
    """What sessions add to the context of a request."""

    __slots__ = ()

    @property
    def session(self) -> Session:
        """The request's session.

        Raises:
            SessionNotConfiguredError: The host has no sessions, or the request has not reached their middleware.
        """
        return _session_of(self)


def current_session(caller: str = "current_session") -> Session:
    """Returns the session of the request that the calling script handles.

    Args:
        caller: The function on whose behalf it is asked for; the error names it.

    Raises:
        ContextError: No request is being handled here, or the request has been answered already.
        SessionNotConfiguredError: The host has no sessions, or the request has not reached their middleware.
    """
    return _session_of(current_context(caller))


def _session_of(context: RequestContext) -> Session:
    session: Session | None = context.features.get(Session)
    if session is None:
        raise SessionNotConfiguredError(
            "Session has not been configured for this host or request: call add_session on the host "
            "(add_kr_session in a script) before enable_configuration, and before the middleware that uses it."
        )
    return session
