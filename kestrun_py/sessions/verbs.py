"""The host's verb for sessions."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Self

from kestrun_py.conversion.timespan import Duration
from kestrun_py.errors import ArgumentError, InvalidOperationError
from kestrun_py.hosting.base import HostBase
from kestrun_py.http.cookies import CookieBuilder
from kestrun_py.sessions.feature import Sessions
from kestrun_py.sessions.options import (
    CacheFailurePolicy,
    CacheFailurePolicyText,
    SessionLock,
    SessionLockText,
    SessionOptions,
    session_cookie,
)

__all__ = ["SessionVerbs"]


class SessionVerbs(HostBase):
    """The part of `KestrunHost` that adds sessions."""

    def add_session(
        self,
        options: SessionOptions | None = None,
        *,
        cookie: CookieBuilder | None = None,
        idle_timeout: Duration | None = None,
        io_timeout: Duration | None = None,
        absolute_timeout: Duration | None = None,
        lock: SessionLock | SessionLockText | None = None,
        on_cache_failure: CacheFailurePolicy | CacheFailurePolicyText | None = None,
        max_size: int | None = None,
        no_distributed_memory_cache: bool = False,
    ) -> Self:
        """Adds sessions: their services, and the session middleware at this place of the queue.

        Without another cache they are kept in memory.

        Args:
            options: Ready options, instead of those that follow.
            cookie: The session cookie; ``.AspNetCore.Session``, HttpOnly, SameSite Lax if left out.
            idle_timeout: A session ends when it was not used for this long; 20 minutes.
            io_timeout: The longest a request waits for its session, and again at its commit; 10 seconds.
            absolute_timeout: A session ends this long after it began, used or not; never.
            lock: ``"exclusive"``, or ``"none"`` to let requests of one session overlap as in ASP.NET Core.
            on_cache_failure: ``"fail"`` (503), or ``"continue"`` without the session as in ASP.NET Core.
            max_size: The most bytes of a stored session; 1 MiB.
            no_distributed_memory_cache: Do not fall back to a memory cache: a cache must be added.

        Raises:
            InvalidOperationError: Sessions were added already, or the host is configured.
            ArgumentError: An option out of its range, or a cookie that browsers would refuse.
        """
        self.check_open("add_session")
        registered = self.services.get(SessionOptions)
        if registered is not None:
            raise InvalidOperationError(
                f"Session services are already registered (with the cookie '{registered.cookie.name}'). Only "
                "one session configuration can be registered per host."
            )
        settings: dict[str, Any] = {
            "cookie": cookie,
            "idle_timeout": idle_timeout,
            "io_timeout": io_timeout,
            "absolute_timeout": absolute_timeout,
            "lock": lock,
            "on_cache_failure": on_cache_failure,
            "max_size": max_size,
        }
        given = {name: value for name, value in settings.items() if value is not None}
        if options is not None and given:
            raise ArgumentError(f"add_session takes options or {', '.join(given)}, not both.")
        self.services.add(SessionOptions, SessionOptions.of(**given) if options is None else options)
        sessions = Sessions(self, memory_allowed=not no_distributed_memory_cache)
        self.add_feature(sessions)
        self.queue("session", sessions.make_middleware)
        return self

    def __ror__(self, cookie: CookieBuilder) -> Self:
        """Takes a cookie for its sessions: ``new_cookie_builder(...) | add_session(...)``, as Kestrun's help has it.

        Python calls both sides before it joins them, so by now the sessions are there, with the default cookie.

        Raises:
            InvalidOperationError: The host is configured already.
            ArgumentError: It has no sessions, sessions with a cookie of their own, or a cookie that browsers would
                refuse.
        """
        if not isinstance(cookie, CookieBuilder):
            return NotImplemented
        self.check_open("A piped cookie")
        options = self.services.get(SessionOptions)
        if options is None or options.cookie != session_cookie():
            raise ArgumentError(
                "Pipe a cookie into an add_session without one, or give it there: add_session(cookie=...)."
            )
        self.services.replace(SessionOptions, replace(options, cookie=cookie))
        return self
