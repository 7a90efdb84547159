"""The options of a host's sessions (ASP.NET Core's ``SessionOptions``, and ours)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum
from typing import Final, Literal, TypeAlias

from kestrun_py.conversion.enums import to_enum
from kestrun_py.conversion.timespan import Duration, to_seconds
from kestrun_py.errors import ArgumentError
from kestrun_py.http.cookies import CookieBuilder, CookieSecurePolicy, SameSiteMode

__all__ = [
    "CacheFailurePolicy",
    "CacheFailurePolicyText",
    "SessionLock",
    "SessionLockText",
    "SessionOptions",
    "session_cookie",
]

_MIN_LEASE_SECONDS: Final = 5.0
_MAX_LEASE_SECONDS: Final = 30.0


class SessionLock(Enum):
    """How requests of one session exclude each other."""

    EXCLUSIVE = "exclusive"  # from first access to commit, in this process and across processes
    NONE = "none"  # as ASP.NET Core: requests overlap and the last commit wins


SessionLockText: TypeAlias = Literal["exclusive", "none"]


class CacheFailurePolicy(Enum):
    """What a request does whose session cannot be read or written."""

    FAIL = "fail"  # it is answered with 503
    CONTINUE = "continue"  # as ASP.NET Core: reads see nothing, writes are dropped, an error is logged


CacheFailurePolicyText: TypeAlias = Literal["fail", "continue"]


def session_cookie() -> CookieBuilder:
    """The cookie of a host that configures none: ASP.NET Core's, but Secure on HTTPS."""
    return CookieBuilder(
        name=".AspNetCore.Session",
        path="/",
        http_only=True,
        same_site=SameSiteMode.LAX,
        secure_policy=CookieSecurePolicy.SAME_AS_REQUEST,
    )


@dataclass(frozen=True, slots=True)
class SessionOptions:
    """The options of a host's sessions, checked however they are made. Durations are seconds.

    Attributes:
        cookie: The cookie that carries the protected session key; a copy of the one given.
        idle_timeout: A session ends when it was not used for this long.
        io_timeout: The longest a request waits for the session's lock and the cache, and again at its commit.
        absolute_timeout: A session ends this long after it began, used or not; None for no such limit.
        lock: Whether requests of one session exclude each other.
        on_cache_failure: What a request does whose session cannot be read or written.
        max_size: The most bytes a stored session may have; at least 64.

    Raises:
        ArgumentError: A value out of its range, or a cookie that browsers would refuse.
    """

    cookie: CookieBuilder
    idle_timeout: float
    io_timeout: float
    absolute_timeout: float | None
    lock: SessionLock
    on_cache_failure: CacheFailurePolicy
    max_size: int

    def __post_init__(self) -> None:
        checked = {
            "cookie": _checked_cookie(self.cookie),
            "idle_timeout": _positive(self.idle_timeout, "idle_timeout"),
            "io_timeout": _positive(self.io_timeout, "io_timeout"),
            "absolute_timeout": (
                None if self.absolute_timeout is None else _positive(self.absolute_timeout, "absolute_timeout")
            ),
            "lock": to_enum(SessionLock, self.lock, "lock"),
            "on_cache_failure": to_enum(CacheFailurePolicy, self.on_cache_failure, "on_cache_failure"),
            "max_size": _checked_size(self.max_size),
        }
        for name, value in checked.items():
            object.__setattr__(self, name, value)

    @property
    def lease_time(self) -> float:
        """Seconds after which the lock of a process that died frees itself: half the I/O timeout, 5 to 30."""
        return min(max(self.io_timeout / 2, _MIN_LEASE_SECONDS), _MAX_LEASE_SECONDS)

    @classmethod
    def of(
        cls,
        *,
        cookie: CookieBuilder | None = None,
        idle_timeout: Duration = 20 * 60,
        io_timeout: Duration = 10,
        absolute_timeout: Duration | None = None,
        lock: SessionLock | SessionLockText = SessionLock.EXCLUSIVE,
        on_cache_failure: CacheFailurePolicy | CacheFailurePolicyText = CacheFailurePolicy.FAIL,
        max_size: int = 1024 * 1024,
    ) -> SessionOptions:
        """Takes the options in any form that a script gives them, and fills in the defaults.

        Raises:
            ArgumentError: A value out of its range, or a cookie that browsers would refuse.
        """
        return cls(
            cookie=session_cookie() if cookie is None else cookie,
            idle_timeout=to_seconds(idle_timeout, "idle_timeout"),
            io_timeout=to_seconds(io_timeout, "io_timeout"),
            absolute_timeout=None if absolute_timeout is None else to_seconds(absolute_timeout, "absolute_timeout"),
            lock=to_enum(SessionLock, lock, "lock"),
            on_cache_failure=to_enum(CacheFailurePolicy, on_cache_failure, "on_cache_failure"),
            max_size=max_size,
        )


def _checked_cookie(cookie: object) -> CookieBuilder:
    if not isinstance(cookie, CookieBuilder):
        raise ArgumentError(f"cookie: {cookie!r:.60} is not what new_cookie_builder (new_kr_cookie_builder) makes.")
    if not cookie.name:
        raise ArgumentError("The session cookie needs a name: new_cookie_builder (new_kr_cookie_builder) with name=...")
    if cookie.expiration is not None:
        raise ArgumentError("Expiration cannot be set for the cookie defined by SessionOptions; use max_age instead.")
    cookie.validate()
    return replace(cookie)  # a copy, because the caller may change its own


def _checked_size(size: object) -> int:
    if not isinstance(size, int) or isinstance(size, bool):
        raise ArgumentError(f"max_size must be a number of bytes, not {size!r:.60}.")
    if size < 64:
        raise ArgumentError(f"max_size must be at least 64 bytes, not {size}.")
    return size


def _positive(value: Duration, name: str) -> float:
    seconds = to_seconds(value, name)
    if seconds <= 0:
        raise ArgumentError(f"{name} must be positive, not {value!r}.")
    return seconds
