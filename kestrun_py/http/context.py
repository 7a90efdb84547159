"""What a route script works with: its request, its response, its session, and its host's services."""

from __future__ import annotations

import asyncio
import threading
import types
from collections.abc import Awaitable
from contextvars import ContextVar
from functools import cached_property
from typing import TypeVar

from aiohttp import web

from kestrun_py.concurrency.bridge import wait
from kestrun_py.errors import ContextError, SessionNotConfiguredError
from kestrun_py.hosting.services import ServiceRegistry
from kestrun_py.http.request import KestrunRequest
from kestrun_py.http.response import KestrunResponse
from kestrun_py.sessions import Session

__all__ = ["KestrunContext", "active_context", "current_context", "enter_context"]

_T = TypeVar("_T")


class KestrunContext:
    """One request being handled (Kestrun's ``$Context``).

    Attributes:
        response: What will be answered.
        services: The host's services; ``context.services.get(DistributedCache)`` is the cache.
        opened_session: The request's session; None before the session middleware.
        stream: The response that a script has started itself, if any.
        ended: Whether the request has been answered; its context can do nothing more then.
    """

    opened_session: Session | None = None
    stream: web.StreamResponse | None = None
    ended = False

    def __init__(self, services: ServiceRegistry, request: web.Request) -> None:
        self.services = services
        self.response = KestrunResponse(request)
        self._raw = request

    @cached_property
    def request(self) -> KestrunRequest:
        """What was asked for."""
        return KestrunRequest(self._raw)

    @property
    def session(self) -> Session:
        """The request's session.

        Raises:
            SessionNotConfiguredError: The host has no sessions, or the request has not reached their middleware.
        """
        session = self.opened_session
        if session is None:
            raise SessionNotConfiguredError(
                "Session has not been configured for this host or request: call add_session on the host "
                "(add_kr_session in a script) before enable_configuration, and before the middleware that uses it."
            )
        return session

    def wait(self, awaitable: Awaitable[_T]) -> _T:
        """Waits for something asynchronous in a ``def`` script, where there is no `await`.

        Example:
            value = context.wait(cache.get_string("greeting"))

        Raises:
            ContextError: The calling code runs on the event loop, where `await` does the same.
        """
        if asyncio._get_running_loop() is not None:
            if isinstance(awaitable, types.CoroutineType):
                awaitable.close()
            raise ContextError("context.wait is for def scripts; code on the event loop uses await.")
        return wait(awaitable)


_current: ContextVar[KestrunContext | None] = ContextVar("kestrun_py_context", default=None)


def current_context(caller: str = "current_context") -> KestrunContext:
    """Returns the context of the request that the calling script handles.

    Args:
        caller: The function on whose behalf it is asked for; the error names it.

    Raises:
        ContextError: No request is being handled here, or the request has been answered already.
    """
    context = _current.get()
    if context is None:
        text = f"{caller} must be called inside a route script, where a request is being handled."
        if threading.current_thread() is not threading.main_thread():
            text += " A thread of an executor takes the request along with contextvars.copy_context().run."
        raise ContextError(text)
    if context.ended:
        raise ContextError(f"{caller} was called for a request that has been answered already.")
    return context


def active_context() -> KestrunContext | None:
    """Returns the context of the request being handled here, or None."""
    context = _current.get()
    return None if context is None or context.ended else context


def enter_context(context: KestrunContext) -> None:
    """Makes `context` the current one, for the rest of the task that handles the request."""
    _current.set(context)
