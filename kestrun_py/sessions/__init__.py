"""Client sessions: a cookie with a protected random key, and values kept by a distributed cache.

`kestrun_py.sessions.store` loads and commits them; it is imported when a host has sessions.
"""

from kestrun_py.routing.options import SessionAccess, SessionAccessText
from kestrun_py.sessions.options import (
    CacheFailurePolicy,
    CacheFailurePolicyText,
    SessionLock,
    SessionLockText,
    SessionOptions,
)
from kestrun_py.sessions.session import Session

__all__ = [
    "CacheFailurePolicy",
    "CacheFailurePolicyText",
    "Session",
    "SessionAccess",
    "SessionAccessText",
    "SessionLock",
    "SessionLockText",
    "SessionOptions",
]
