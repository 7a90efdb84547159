"""The host: builder verbs that queue what a server is made of, and the server made of it.

It mirrors Kestrun's ``KestrunHost``. Every verb returns the host, so that verbs can be chained::

    host = KestrunHost("Demo")
    host.add_endpoint(port=5000).add_session(idle_timeout=20).add_map_route("/hello", HttpVerb.GET, hello)
    host.run()
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Literal, Self, TypeAlias

from aiohttp import web
from aiohttp.typedefs import Middleware

from kestrun_py.caching import DistributedCache
from kestrun_py.errors import ArgumentError, InvalidOperationError, ServerStartError
from kestrun_py.hosting.application import build_application
from kestrun_py.hosting.endpoint_verbs import EndpointVerbs
from kestrun_py.hosting.route_verbs import RouteVerbs
from kestrun_py.hosting.service_verbs import ServiceVerbs
from kestrun_py.hosting.services import ServiceRegistry
from kestrun_py.http.context import active_context
from kestrun_py.http.cookies import CookieBuilder
from kestrun_py.logging import Logger, default_logger
from kestrun_py.scripting.threads import inherit_context
from kestrun_py.server.server import Server
from kestrun_py.server.worker import current_worker
from kestrun_py.sessions import SessionOptions
from kestrun_py.sessions.options import session_cookie

__all__ = ["EnvironmentText", "KestrunHost", "before_serving"]

EnvironmentText: TypeAlias = Literal["Auto", "Development", "Staging", "Production"]


class KestrunHost(EndpointVerbs, RouteVerbs, ServiceVerbs):
    """A web host in the making, and then running.

    Args:
        name: The application's name.
        logger: Where the host logs; the process's default logger if left out.
        environment: ``"Development"``, ``"Staging"``, ``"Production"``, or ``"Auto"`` for what the environment
            variables ASPNETCORE_ENVIRONMENT or DOTNET_ENVIRONMENT say, else Production.

    Attributes:
        name: The application's name.
        logger: Where the host logs.
        environment: The environment it runs in.
        services: The services, by type.
    """

    def __init__(self, name: str, *, logger: Logger | None = None, environment: EnvironmentText = "Auto") -> None:
        if not name or not name.strip():
            raise ArgumentError("Instance name is required.")
        self.name = name
        self.logger = default_logger if logger is None else logger
        self.environment = _environment(environment)
        self.services = ServiceRegistry(self.logger)
        self.services.add(KestrunHost, self)
        super().__init__()
        self._middleware: list[Callable[[], Middleware]] = []
        self._server_header = True
        self._configured = False
        self._app: web.Application | None = None
        self._server: Server | None = None

    def __repr__(self) -> str:
        return f"<KestrunHost {self.name!r}>"

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
        self._check_open("A piped cookie")
        options = self.services.get(SessionOptions)
        if options is None or options.cookie != session_cookie():
            raise ArgumentError(
                "Pipe a cookie into an add_session without one, or give it there: add_session(cookie=...)."
            )
        self.services.replace(SessionOptions, replace(options, cookie=cookie))
        return self

    # Options

    def set_server_options(
        self,
        *,
        max_runspaces: int | None = None,
        min_runspaces: int | None = None,
        deny_server_header: bool | None = None,
    ) -> Self:
        """Sets options of the server, as Kestrun's ``Set-KrServerOptions``; what is left out stays as it is.

        Args:
            max_runspaces: The most ``def`` scripts that run at a time; 2 x processors if never set.
            min_runspaces: Threads to start at once; 1 if never set.
            deny_server_header: Whether responses name no server; they name it if never set.

        Raises:
            InvalidOperationError: The host is configured already.
            ArgumentError: Bounds that contradict each other.
        """
        self._check_open("set_server_options")
        self._pool.resize(max_runspaces, min_runspaces)
        if deny_server_header is not None:
            self._server_header = not deny_server_header
        return self

    def use(self, middleware: Middleware) -> Self:
        """Queues an aiohttp middleware; requests pass the queue in the order of the calls.

        What runs before `add_session` has no session; what runs after it calls ``await session.load()`` before
        using it.

        Raises:
            ArgumentError: It is not marked with ``@aiohttp.web.middleware``.
        """
        self._check_open("use")
        name = getattr(middleware, "__qualname__", type(middleware).__qualname__)
        if getattr(middleware, "__middleware_version__", None) != 1:
            raise ArgumentError(f"use takes an aiohttp middleware: put @aiohttp.web.middleware before {name}.")
        self._queue(name, lambda: middleware)
        return self

    # Configuration

    @property
    def is_configured(self) -> bool:
        """Whether `enable_configuration` was called."""
        return self._configured

    def enable_configuration(self) -> Self:
        """Closes the queues and builds the services; called again, it does nothing.

        Raises:
            InvalidOperationError: Sessions without a cache.
        """
        if self._configured:
            return self
        if not self._endpoints:
            self.add_endpoint()
        options = self.services.get(SessionOptions)
        if options is not None:
            self._build_sessions(options, self._endpoints)
        self._configured = True
        self.logger.debug("Host {Name} configured", self.name)
        return self

    def _queue(self, name: str, make: Callable[[], Middleware]) -> None:
        self._middleware.append(make)
        self.logger.debug("Middleware {Number}: {Middleware}", len(self._middleware), name)

    def _check_open(self, verb: str) -> None:
        if self._configured:
            raise InvalidOperationError(
                f"{verb} comes too late: the host '{self.name}' is configured already. Call it before "
                f"enable_configuration ({verb.replace('_', '_kr_', 1)} before enable_kr_configuration)."
            )

    # Running

    def create_app(self) -> web.Application:
        """Returns the host as an aiohttp application, for tests and for embedding. A host makes one.

        Raises:
            InvalidOperationError: It was called before.
        """
        self._announce()
        self.enable_configuration()
        if self._app is not None:
            raise InvalidOperationError(f"The host '{self.name}' has made its application already; make a new host.")
        inherit_context()
        self._app = build_application(
            self.services,
            self._routes,
            self._pool,
            self._middleware,
            self.logger,
            server_header=self._server_header,
            key_cache=self._key_cache,
        )
        return self._app

    @property
    def server(self) -> Server | None:
        """The server, once the host runs or has run."""
        return self._server

    def run(
        self, on_started: Callable[[], None] = lambda: None, *, on_starting: Callable[[], None] = lambda: None
    ) -> None:
        """Serves until SIGINT, SIGTERM or `stop`, lets the requests in flight finish (5 s), closes the caches.

        Args:
            on_started: Called when the endpoints are bound.
            on_starting: Called before they are.

        Raises:
            InvalidOperationError: The host was started before.
            ServerStartError: An endpoint cannot be bound.
        """
        server = self._new_server()
        on_starting()
        server.run(self.create_app, on_started)

    def start(self, *, on_starting: Callable[[], None] = lambda: None) -> Self:
        """Serves in a thread of its own; returns when the endpoints are bound.

        Args:
            on_starting: Called before they are.

        Raises:
            InvalidOperationError: The host was started before.
            ServerStartError: An endpoint cannot be bound.
        """
        server = self._new_server()
        on_starting()
        server.start(self.create_app)
        return self

    def stop(self, *, wait: bool = True) -> None:
        """Stops the server that `start` or `run` started.

        Args:
            wait: Whether to wait until the requests in flight were answered; a route script never waits, for its own
                request is one of them.

        Raises:
            InvalidOperationError: It is not running.
        """
        if self._server is None:
            raise InvalidOperationError(f"The server '{self.name}' is not running.")
        self._server.stop(wait=wait and active_context() is None)

    def _new_server(self) -> Server:
        if self._server is not None:
            raise InvalidOperationError(f"The host '{self.name}' was started already; make a new host.")
        self._announce()
        self.enable_configuration()
        self._check_worker()
        self._server = Server(self.name, self._endpoints, self.logger)
        return self._server

    def _announce(self) -> None:
        for call in [*_before_serving]:
            call(self)

    def _check_worker(self) -> None:
        """Refuses what several worker processes cannot share."""
        worker = current_worker()
        if worker is None or worker.count == 1:
            return
        cache = self.services.get(DistributedCache)
        if cache is not None and not cache.shared:
            raise ServerStartError(
                f"{worker.count} workers cannot share sessions in the {cache.name} cache, which each process has for "
                "itself: keep them in Redis (add_distributed_redis_cache, add_kr_distributed_redis_cache) or in a "
                "database, or use one worker."
            )


_before_serving: list[Callable[[KestrunHost], object]] = []


@contextmanager
def before_serving(call: Callable[[KestrunHost], object]) -> Iterator[None]:
    """Has `call` see each host that is about to serve, or to make its application, inside the with block."""
    _before_serving.append(call)
    try:
        yield
    finally:
        _before_serving.remove(call)


def _environment(name: str) -> str:
    known = ("Development", "Staging", "Production")
    if name.casefold() == "auto":
        return os.environ.get("ASPNETCORE_ENVIRONMENT") or os.environ.get("DOTNET_ENVIRONMENT") or "Production"
    for environment in known:
        if name.casefold() == environment.casefold():
            return environment
    raise ArgumentError(f"environment must be one of Auto, {', '.join(known)}, not {name!r}.")
