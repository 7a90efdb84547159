"""A host in the form of an aiohttp application: its pipeline, and what starts and stops with it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from kestrun_py.hosting.feature import Feature
from kestrun_py.http.connections import DISPATCH
from kestrun_py.http.context import RequestContext
from kestrun_py.http.entry import Entry, compose
from kestrun_py.logging import Logger
from kestrun_py.routing.options import RouteEndpoint
from kestrun_py.routing.table import RouteTable
from kestrun_py.scripting.runspaces import RunspacePool
from kestrun_py.services import ServiceRegistry

__all__ = ["build_application"]

_SERVER: Final = "kestrun_py"
_MAX_BODY_BYTES: Final = 30_000_000  # as Kestrel


def build_application(
    context_type: type[RequestContext],
    services: ServiceRegistry,
    routes: RouteTable,
    runspaces: RunspacePool,
    middleware: Sequence[Middleware],
    features: Sequence[Feature],
    logger: Logger,
    *,
    server_header: bool,
    development: bool,
) -> web.Application:
    """Makes the application: the entry, the middleware in its order, the routes.

    Args:
        context_type: The class of a request's context.
        services: The host's services.
        routes: The host's routes.
        runspaces: The threads for ``def`` scripts.
        middleware: The middleware, the first one outermost.
        features: The features, in the order in which they start.
        logger: Where the host logs.
        server_header: Whether responses name the server.
        development: Whether browsers are shown what failed.
    """
    app = web.Application(client_max_size=_MAX_BODY_BYTES)
    app.router.register_resource(routes)
    app[DISPATCH] = routes.dispatch
    entry = Entry(context_type, services, logger, _SERVER if server_header else None, development)

    def pipeline(handler: Handler, endpoint: RouteEndpoint | None) -> Handler:
        return entry.wrap(compose(middleware, handler), endpoint)

    # Not as aiohttp's own middleware: composed once, and run without aiohttp's bookkeeping for nested applications.
    routes.bind(pipeline)
    lifetime = _Lifetime(runspaces, features, logger)
    app.on_response_prepare.append(entry.prepare)
    app.on_startup.append(lifetime.start)
    app.on_cleanup.append(lifetime.stop)
    return app


class _Lifetime:
    """Starts with the first server of an application and ends with the last; a test may have several clients."""

    def __init__(self, runspaces: RunspacePool, features: Sequence[Feature], logger: Logger) -> None:
        self._runspaces = runspaces
        self._features = features
        self._logger = logger
        self._servers = 0

    async def start(self, _: web.Application) -> None:
        self._servers += 1
        if self._servers == 1:
            self._runspaces.start()
            for feature in self._features:
                await feature.start()

    async def stop(self, _: web.Application) -> None:
        self._servers -= 1
        if self._servers:
            return
        for feature in reversed(self._features):
            try:
                await feature.stop()
            except Exception as error:  # the others still have to stop
                self._logger.error("{Feature} could not be stopped.", type(feature).__name__, exception=error)
        self._runspaces.close()
