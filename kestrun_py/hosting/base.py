"""What every host is: a configuration that is closed once, features with a lifetime, a pipeline, and a server."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import IntEnum
from typing import ClassVar, Literal, Self, TypeAlias, TypeVar

from aiohttp import web
from aiohttp.typedefs import Middleware

from kestrun_py.errors import ArgumentError, InvalidOperationError
from kestrun_py.hosting.application import build_application
from kestrun_py.hosting.feature import Feature
from kestrun_py.http.context import RequestContext, active_context
from kestrun_py.logging import Logger, default_logger
from kestrun_py.routing.table import RouteTable
from kestrun_py.scripting.runspaces import RunspacePool
from kestrun_py.scripting.threads import inherit_context
from kestrun_py.server.endpoints import Endpoint, resolve_endpoints
from kestrun_py.server.server import Server
from kestrun_py.server.worker import current_worker
from kestrun_py.services import ServiceRegistry

__all__ = ["EnvironmentText", "HostBase", "Stage", "before_serving"]

EnvironmentText: TypeAlias = Literal["Auto", "Development", "Staging", "Production"]

F = TypeVar("F", bound=Feature)

_ENVIRONMENTS = ("Development", "Staging", "Production")


class Stage(IntEnum):
    """Where a middleware runs: the outer stages in this order, whatever the order of the calls, as in Kestrun."""

    EXCEPTIONS = 0
    STATUS_PAGES = 1
    FORWARDED_HEADERS = 2
    QUEUE = 3


class HostBase:
    """The core of a host. It knows no feature by name; `KestrunHost` adds their verbs.

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
        routes: The route table.
        runspaces: The threads for ``def`` scripts.
    """

    context_type: ClassVar[type[RequestContext]] = RequestContext

    def __init__(self, name: str, *, logger: Logger | None = None, environment: EnvironmentText = "Auto") -> None:
        if not name or not name.strip():
            raise ArgumentError("Instance name is required.")
        self.name = name
        self.logger = default_logger if logger is None else logger
        self.environment = _environment(environment)
        self.services = ServiceRegistry(self.logger)
        self.routes = RouteTable()
        self.runspaces = RunspacePool()
        self._endpoints: list[Endpoint] = []
        self._features: list[Feature] = []
        self._ready: list[Feature] = []  # those that are configured, in the order in which they start
        self._middleware: list[tuple[Stage, Callable[[], Middleware]]] = []
        self._server_header = True
        self._configured = False
        self._app: web.Application | None = None
        self._server: Server | None = None

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name!r}>"

    # Features

    def add_feature(self, feature: Feature) -> None:
        """Makes a feature a part of the host, until the host is configured."""
        self._features.append(feature)

    def find(self, kind: type[F]) -> F | None:
        """Returns the host's feature of a kind, or None."""
        return next((feature for feature in self._features if isinstance(feature, kind)), None)

    def require(self, kind: type[F]) -> F:
        """Returns the host's feature of a kind, configured; for the `configure` of a feature that needs it.

        A host without one gets it with its defaults.
        """
        feature = self.find(kind)
        if feature is None:
            make: Callable[[HostBase], F] = kind
            feature = make(self)
            self.add_feature(feature)
        self._configure(feature)
        return feature

    def _configure(self, feature: Feature) -> None:
        if feature not in self._ready:
            feature.configure()
            self._ready.append(feature)

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
        self.check_open("set_server_options")
        self.runspaces.resize(max_runspaces, min_runspaces)
        if deny_server_header is not None:
            self._server_header = not deny_server_header
        return self

    # Middleware

    def use(self, middleware: Middleware) -> Self:
        """Queues an aiohttp middleware; requests pass the queue in the order of the calls.

        What runs before `add_session` has no session; what runs after it calls ``await session.load()`` before
        using it.

        Raises:
            ArgumentError: It is not marked with ``@aiohttp.web.middleware``.
        """
        self.check_open("use")
        name = getattr(middleware, "__qualname__", type(middleware).__qualname__)
        if getattr(middleware, "__middleware_version__", None) != 1:
            raise ArgumentError(f"use takes an aiohttp middleware: put @aiohttp.web.middleware before {name}.")
        self.queue(name, lambda: middleware)
        return self

    def queue(self, name: str, make: Callable[[], Middleware], *, stage: Stage = Stage.QUEUE) -> None:
        """Queues the middleware of a feature.

        Args:
            name: What log lines call it.
            make: Makes it, when the application is made.
            stage: Where it runs; within a stage in the order of the calls.
        """
        self._middleware.append((stage, make))
        self.logger.debug("Middleware {Number}: {Middleware}", len(self._middleware), name)

    # Configuration

    @property
    def endpoints(self) -> list[Endpoint]:
        """The listeners that were added."""
        return list(self._endpoints)

    @property
    def is_configured(self) -> bool:
        """Whether `enable_configuration` was called."""
        return self._configured

    def enable_configuration(self) -> Self:
        """Closes the queues and builds the services; called again, it does nothing.

        Raises:
            InvalidOperationError: A feature lacks what it needs, such as sessions without a cache.
        """
        if self._configured:
            return self
        if not self._endpoints:
            self._endpoints = resolve_endpoints(logger=self.logger)
        for feature in list(self._features):
            self._configure(feature)
        self._configured = True
        self.logger.debug("Host {Name} configured", self.name)
        return self

    def check_open(self, verb: str) -> None:
        """Refuses a verb that comes after the configuration.

        Raises:
            InvalidOperationError: The host is configured.
        """
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
            self.context_type,
            self.services,
            self.routes,
            self.runspaces,
            [make() for _, make in sorted(self._middleware, key=lambda queued: queued[0])],
            self._ready,
            self.logger,
            server_header=self._server_header,
            development=self.environment == "Development",
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
        worker = current_worker()
        if worker is not None and worker.count > 1:
            for feature in self._ready:
                feature.check_workers(worker.count)
        self._server = Server(self.name, self._endpoints, self.logger)
        return self._server

    def _announce(self) -> None:
        for call in [*_before_serving]:
            call(self)


_before_serving: list[Callable[[HostBase], object]] = []


@contextmanager
def before_serving(call: Callable[[HostBase], object]) -> Iterator[None]:
    """Has `call` see each host that is about to serve, or to make its application, inside the with block."""
    _before_serving.append(call)
    try:
        yield
    finally:
        _before_serving.remove(call)


def _environment(name: str) -> str:
    if name.casefold() == "auto":
        return os.environ.get("ASPNETCORE_ENVIRONMENT") or os.environ.get("DOTNET_ENVIRONMENT") or "Production"
    for environment in _ENVIRONMENTS:
        if name.casefold() == environment.casefold():
            return environment
    raise ArgumentError(f"environment must be one of Auto, {', '.join(_ENVIRONMENTS)}, not {name!r}.")
