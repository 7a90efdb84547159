"""Client sessions: a cookie with a protected random key, and values kept by a distributed cache."""

from kestrun_py.sessions.options import CacheFailurePolicy, SessionAccess, SessionLock, SessionOptions
from kestrun_py.sessions.scope import SessionScope, unavailable_response
from kestrun_py.sessions.session import Session
from kestrun_py.sessions.store import SessionStore

__all__ = [
    "CacheFailurePolicy",
    "Session",
    "SessionAccess",
    "SessionLock",
    "SessionOptions",
    "SessionScope",
    "SessionStore",
    "unavailable_response",
]
