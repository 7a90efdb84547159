"""Client sessions: a cookie with a protected random key, and values kept by a distributed cache."""

from kestrun_py.sessions.headers import describe_session, unavailable_response
from kestrun_py.sessions.options import (
    CacheFailurePolicy,
    CacheFailurePolicyText,
    SessionAccess,
    SessionAccessText,
    SessionLock,
    SessionLockText,
    SessionOptions,
)
from kestrun_py.sessions.session import Session
from kestrun_py.sessions.store import SessionStore

__all__ = [
    "CacheFailurePolicy",
    "CacheFailurePolicyText",
    "Session",
    "SessionAccess",
    "SessionAccessText",
    "SessionLock",
    "SessionLockText",
    "SessionOptions",
    "SessionStore",
    "describe_session",
    "unavailable_response",
]
