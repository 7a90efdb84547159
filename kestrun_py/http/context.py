"""One request being handled: what was asked, what will be answered, its route, and the services of its host."""

from __future__ import annotations

import asyncio
import threading
import types
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from typing import Any, TypeAlias, TypeVar

from aiohttp import web

from kestrun_py.concurrency.bridge import wait
from kestrun_py.errors import ContextError
from kestrun_py.http.request import KestrunRequest
from kestrun_py.http.response import KestrunResponse
from kestrun_py.routing.options import RouteEndpoint
from kestrun_py.services import ServiceRegistry

__all__ = ["RequestContext", "StartHook", "active_context", "current_context", "enter_context"]

_T = TypeVar("_T")

#: Called when a response is about to start; what it returns, if anything, is awaited first.
StartHook: TypeAlias = Callable[["RequestContext", web.StreamResponse], Awaitable[None] | None]


class RequestContext:
    """One request being handled.

    `kestrun_py.KestrunContext`, which scripts see, adds what the features of a host bring (`session`).

    Attributes:
        services: The host's services; ``context.services.get(DistributedCache)`` is the cache.
        endpoint: The route that was found, with its options; None if no route answers this request.
        response: What will be answered.
        features: What features keep for this request, by type (ASP.NET Core's ``HttpContext.Features``).
        stream: The response that a script has started itself, if any.
        ended: Whether the request has been answered; its context can do nothing more then.
    """

    __slots__ = ("_raw", "_request", "_start_hooks", "ended", "endpoint", "features", "response", "services", "stream")

    def __init__(self, services: ServiceRegistry, request: web.Request, endpoint: RouteEndpoint | None) -> None:
        self.services = services
        self.endpoint = endpoint
        self.response = KestrunResponse(request)
        self.features: dict[type[Any], Any] = {}
        self.stream: web.StreamResponse | None = None
        self.ended = False
        self._raw = request
        self._request: KestrunRequest | None = None
        self._start_hooks: list[StartHook] = []

    @property
    def request(self) -> KestrunRequest:
        """What was asked for."""
        if self._request is None:
            self._request = KestrunRequest(self._raw)
        return self._request

    def follow(self, request: web.Request) -> None:
        """Takes the request that a middleware has handed on: a replaced one is what everything after it sees."""
        if request is not self._raw:
            self._raw = request
            self._request = None
            self.response.request = request

    def on_starting(self, hook: StartHook) -> None:
        """Has `hook` called when the response is about to start, the hook that was added last first.

        It may still change the headers. It mirrors ASP.NET Core's ``HttpResponse.OnStarting``.
        """
        self._start_hooks.append(hook)

    async def begin(self, response: web.StreamResponse) -> None:
        """Calls the hooks for the response that is about to start."""
        for hook in reversed(self._start_hooks):
            waiting = hook(self, response)
            if waiting is not None:
                await waiting

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


_current: ContextVar[RequestContext | None] = ContextVar("kestrun_py_context", default=None)


def current_context(caller: str = "current_context") -> RequestContext:
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


def active_context() -> RequestContext | None:
    """Returns the context of the request being handled here, or None."""
    context = _current.get()
    return None if context is None or context.ended else context


def enter_context(context: RequestContext) -> None:
    """Makes `context` the current one, for the rest of the task that handles the request."""
    _current.set(context)
