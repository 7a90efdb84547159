"""The host: builder verbs that queue what a server is made of, and the server made of it.

It mirrors Kestrun's ``KestrunHost``. Every verb returns the host, so that verbs can be chained::

    host = KestrunHost("Demo")
    host.add_endpoint(port=5000).add_session(idle_timeout=20).add_map_route("/hello", HttpVerb.GET, hello)
    host.run()
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Self

from aiohttp import web
from aiohttp.typedefs import Middleware

from kestrun_py._threads import inherit_context
from kestrun_py.application import build_application
from kestrun_py.caching import DistributedCache
from kestrun_py.context import active_context
from kestrun_py.endpoints import Endpoint, resolve_endpoints
from kestrun_py.enums import enum_text, to_enum
from kestrun_py.errors import ArgumentError, InvalidOperationError, ServerStartError
from kestrun_py.host_services import ServiceVerbs
from kestrun_py.logging import Logger, LogLevel, default_logger
from kestrun_py.pipeline import RouteHandler
from kestrun_py.routing import DuplicateAction, HttpVerb, RouteTable, to_verbs
from kestrun_py.runspaces import RunspacePool
from kestrun_py.scripts import Script
from kestrun_py.server import Server
from kestrun_py.services import ServiceRegistry
from kestrun_py.sessions import SessionAccess, SessionOptions
from kestrun_py.templates import PathTemplate
from kestrun_py.workers import current_worker

__all__ = ["KestrunHost"]


class KestrunHost(ServiceVerbs):
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

    def __init__(self, name: str, *, logger: Logger | None = None, environment: str = "Auto") -> None:
        if not name or not name.strip():
            raise ArgumentError("Instance name is required.")
        self.name = name
        self.logger = default_logger if logger is None else logger
        self.environment = _environment(environment)
        self.services = ServiceRegistry(self.logger)
        self.services.add(KestrunHost, self)
        super().__init__()
        self._endpoints: list[Endpoint] = []
        self._middleware: list[Callable[[], Middleware]] = []
        self._routes = RouteTable()
        self._pool = RunspacePool()
        self._server_header = True
        self._configured = False
        self._app: web.Application | None = None
        self._server: Server | None = None

    def __repr__(self) -> str:
        return f"<KestrunHost {self.name!r}>"

    # Endpoints and options

    def add_endpoint(self, **endpoint: Any) -> Self:
        """Adds one or more listeners, by the rules of Kestrun's ``Add-KrEndpoint``.

        Takes the arguments of `kestrun_py.endpoints.resolve_endpoints`: ``port``, ``ip_address``, ``host_name``,
        ``uri``, ``address_family``, ``cert_path``, ``cert_password``, ``self_signed_cert``, ``x509_certificate``,
        ``protocols``. Without a place it is ASPNETCORE_URLS, PORT, or http://127.0.0.1:5000.

        Raises:
            InvalidOperationError: The host is configured already.
            ArgumentError: Arguments that contradict each other, or values of the wrong form.
            ServerStartError: The certificate is missing or cannot be read.
        """
        if self._configured:
            raise InvalidOperationError(
                "Cannot add endpoint to a server that is already configured. Please create a new server instance."
            )
        found = resolve_endpoints(logger=self.logger, **endpoint)
        self._endpoints += found
        for one in found:
            self.logger.debug("Endpoint {Url} added", str(one))
        return self

    def add_listen_unix_socket(self, socket_path: str) -> Self:
        """Adds a listener on a Unix domain socket, as Kestrun's ``Add-KrListenUnixSocket``."""
        return self.add_endpoint(unix_path=socket_path)

    @property
    def endpoints(self) -> list[Endpoint]:
        """The listeners that were added."""
        return list(self._endpoints)

    def set_server_options(
        self,
        *,
        max_runspaces: int | None = None,
        min_runspaces: int | None = None,
        deny_server_header: bool | None = None,
    ) -> Self:
        """Sets options of the server, as Kestrun's ``Set-KrServerOptions``; what is left out stays as it is.

        Args:
            max_runspaces: The most threads that run ``def`` scripts; 2 x processors if never set.
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

    # Routes

    def add_map_route(
        self,
        pattern: str = "/",
        verbs: HttpVerb | str | Iterable[HttpVerb | str] = HttpVerb.GET,
        script: Callable[..., Any] | None = None,
        *,
        code: str | None = None,
        code_file_path: str | os.PathLike[str] | None = None,
        arguments: Mapping[str, Any] | None = None,
        endpoints: str | Iterable[str] = (),
        session_access: SessionAccess | str = SessionAccess.READ_WRITE,
        allow_duplicate: bool = False,
        duplicate_action: DuplicateAction | str = DuplicateAction.THROW,
    ) -> Self:
        """Maps a route to a script, as Kestrun's ``Add-KrMapRoute``. Routes may be added at any time.

        Args:
            pattern: The path template; starts with a slash.
            verbs: One verb or several, as members or text in any case.
            script: A function with no parameter, or with one named ``context``.
            code: Instead of a function, source text with ``context`` in scope.
            code_file_path: Instead, a file with such text.
            arguments: Values for further parameters of the function, or for names in the text.
            endpoints: Listeners (``host:port``) that the route is for; all if empty.
            session_access: ``"read_only"`` reads the session without its lock, and refuses writes.
            allow_duplicate: Short for ``duplicate_action="allow"``.
            duplicate_action: What to do if the route exists: ``throw``, ``skip``, ``warn`` (and skip) or ``allow``.

        Raises:
            ArgumentError: A malformed pattern, script or argument.
            InvalidOperationError: The route exists already.
        """
        template = PathTemplate(pattern)
        methods = to_verbs(verbs)
        made = _make_script(script, code, code_file_path, arguments)
        access = to_enum(SessionAccess, session_access, "session_access")
        action = to_enum(DuplicateAction, duplicate_action, "duplicate_action")
        hosts = self._hosts([endpoints] if isinstance(endpoints, str) else endpoints)
        handler = RouteHandler(pattern, made, access, self._pool, self.logger)
        names = ", ".join(map(enum_text, methods))
        with self._routes.adding:
            exists = any(self._routes.has(template, verb) for verb in methods)
            if exists and not allow_duplicate and action is not DuplicateAction.ALLOW:
                return self._refuse_route(f"Route '{pattern}' with method(s) {names} already exists.", action)
            self._routes.add(template, methods, handler.handle, hosts)
        self.logger.debug("Route {Verbs} {Pattern} mapped", names, pattern)
        return self

    def _refuse_route(self, text: str, action: DuplicateAction) -> Self:
        if action is DuplicateAction.THROW:
            raise InvalidOperationError(text)
        level = LogLevel.WARNING if action is DuplicateAction.WARN else LogLevel.DEBUG
        self.logger.write(level, "{Text} It is skipped.", text)
        return self

    def _hosts(self, names: Iterable[str]) -> list[str]:
        known = {name.lower() for endpoint in self._endpoints for name in endpoint.names}
        wanted = [(name.partition("://")[2] or name).rstrip("/") for name in names]
        unknown = [name for name in wanted if name.lower() not in known]
        if unknown:
            places = ", ".join(sorted(known)) or "none yet"
            raise ArgumentError(f"Invalid Endpoints: {', '.join(unknown)}. The host listens on {places}.")
        return wanted

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
                "enable_configuration."
            )

    # Running

    def create_app(self) -> web.Application:
        """Returns the host as an aiohttp application, for tests and for embedding. A host makes one.

        Raises:
            InvalidOperationError: It was called before.
        """
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

    def run(self, on_started: Callable[[], None] | None = None) -> None:
        """Serves until SIGINT, SIGTERM or `stop`, lets the requests in flight finish (5 s), closes the caches.

        Args:
            on_started: Called when the endpoints are bound.

        Raises:
            ServerStartError: An endpoint cannot be bound.
        """
        self._new_server().run(self.create_app, on_started or (lambda: None))

    def start(self) -> Self:
        """Serves in a thread of its own; returns when the endpoints are bound.

        Raises:
            ServerStartError: An endpoint cannot be bound.
        """
        self._new_server().start(self.create_app)
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
        self.enable_configuration()
        self._check_worker()
        self._server = Server(self.name, self._endpoints, self.logger)
        return self._server

    def _check_worker(self) -> None:
        """Refuses what several worker processes cannot share."""
        worker = current_worker()
        if worker is None or worker.count == 1:
            return
        cache = self.services.get(DistributedCache)
        if cache is not None and not cache.shared:
            raise ServerStartError(
                f"{worker.count} workers cannot share sessions in the {cache.name} cache, which each process has for "
                "itself: keep them in Redis or in a database (add_distributed_redis_cache ...), or use one worker."
            )


def _make_script(
    script: Callable[..., Any] | None,
    code: str | None,
    code_file_path: str | os.PathLike[str] | None,
    arguments: Mapping[str, Any] | None,
) -> Script:
    if (script is not None) + (code is not None) + (code_file_path is not None) != 1:
        raise ArgumentError("A route takes exactly one of a script function, code and code_file_path.")
    if script is not None:
        return Script.from_function(script, arguments)
    if code is not None:
        return Script.from_source(code, arguments=arguments)
    return Script.from_file(str(code_file_path), arguments)


def _environment(name: str) -> str:
    known = ("Development", "Staging", "Production")
    if name.casefold() == "auto":
        return os.environ.get("ASPNETCORE_ENVIRONMENT") or os.environ.get("DOTNET_ENVIRONMENT") or "Production"
    for environment in known:
        if name.casefold() == environment.casefold():
            return environment
    raise ArgumentError(f"environment must be one of Auto, {', '.join(known)}, not {name!r}.")
