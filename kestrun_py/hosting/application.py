"""A host's services in the form of an aiohttp application: what starts with it, and what ends with it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Final

from aiohttp import web
from aiohttp.typedefs import Middleware

from kestrun_py.caching import DistributedCache
from kestrun_py.data_protection import CookieProtector, KeyRing
from kestrun_py.errors import DataProtectionError
from kestrun_py.hosting.pipeline import compose, entry_middleware, stream_hook
from kestrun_py.hosting.services import ServiceRegistry
from kestrun_py.http.connections import DISPATCH
from kestrun_py.logging import Logger
from kestrun_py.routing.table import RouteTable
from kestrun_py.scripting.runspaces import RunspacePool
from kestrun_py.sessions import SessionOptions, SessionStore

__all__ = ["add_session_services", "build_application"]

_SERVER: Final = "kestrun_py"
_MAX_BODY: Final = 30_000_000  # bytes, as Kestrel
_PING_TIMEOUT: Final = 5.0


def build_application(
    services: ServiceRegistry,
    routes: RouteTable,
    pool: RunspacePool,
    middleware: Sequence[Callable[[], Middleware]],
    logger: Logger,
    *,
    server_header: bool,
    key_cache: DistributedCache | None = None,
) -> web.Application:
    """Makes the application: the entry middleware, the queued ones in their order, the routes.

    Args:
        services: The host's services; those that hold connections start and end with the application.
        routes: The host's routes.
        pool: The threads for ``def`` scripts.
        middleware: What makes the queued middleware.
        logger: Where the host logs.
        server_header: Whether responses name the server.
        key_cache: The cache that keeps the key ring, if it is not the one that keeps the sessions.
    """
    app = web.Application(client_max_size=_MAX_BODY)
    app.router.register_resource(routes)
    app[DISPATCH] = routes.dispatch
    server = _SERVER if server_header else None
    # Not as aiohttp's own middleware: composed once, and run without aiohttp's bookkeeping for nested applications.
    entry = entry_middleware(services, logger, server=server)
    routes.bind(partial(compose, [entry, *(make() for make in middleware)]))

    life = _Lifetime(services, pool, key_cache, logger)
    app.on_response_prepare.append(stream_hook(services.get(SessionStore), server=server))
    app.on_startup.append(life.start)
    app.on_cleanup.append(life.stop)
    return app


class _Lifetime:
    """What starts with the first server of an application and ends with the last; a test may have several clients."""

    def __init__(
        self, services: ServiceRegistry, pool: RunspacePool, key_cache: DistributedCache | None, logger: Logger
    ) -> None:
        self._services = services
        self._pool = pool
        self._cache = services.get(DistributedCache)
        self._caches = [cache for cache in (self._cache, key_cache) if cache is not None]
        self._logger = logger
        self._greeting: asyncio.Task[None] | None = None
        self._servers = 0

    async def start(self, _: web.Application) -> None:
        self._servers += 1
        if self._servers > 1:
            return
        self._pool.start()
        for cache in self._caches:
            await cache.start()
        if self._cache is not None:
            self._greeting = asyncio.create_task(_greet(self._cache, self._services.get(KeyRing), self._logger))

    async def stop(self, _: web.Application) -> None:
        self._servers -= 1
        if self._servers:
            return
        if self._greeting is not None:
            self._greeting.cancel()
            with suppress(asyncio.CancelledError):
                await self._greeting
        # in the order in which one needs the other
        for service in (self._services.get(SessionStore), self._services.get(KeyRing), *self._caches):
            if service is not None:
                await _close(service, self._logger)
        self._pool.close()


async def _greet(cache: DistributedCache, ring: KeyRing | None, logger: Logger) -> None:
    """Says which cache is used and whether it answers, and has the key ring ready for the first request.

    A server starts without its cache: the requests that need it are answered with 503 until it is there.
    """
    try:
        status = await cache.ping(timeout=_PING_TIMEOUT)
    except Exception as error:
        logger.warning("The {Cache} cache does not answer: {Error}", cache.name, error)
    else:
        logger.information(
            "The {Cache} cache answers: {Server} {Version}, {Elapsed:0.0} ms",
            cache.name,
            status.server,
            status.version,
            status.round_trip * 1000,
        )
        for label, finding in status.details.items():
            logger.information("The {Cache} cache's {Label}: {Finding}", cache.name, label, finding)
        for problem in status.problems:
            logger.warning("{Problem}", problem)
    if ring is not None:
        with suppress(DataProtectionError):  # the ring logs it, and the first request tries again
            await ring.load()


async def _close(service: SessionStore | KeyRing | DistributedCache, logger: Logger) -> None:
    """Closes a service; one that fails keeps the others from nothing."""
    try:
        await service.close()
    except Exception as error:
        logger.error("The {Service} could not be closed.", type(service).__name__, exception=error)


def add_session_services(services: ServiceRegistry, options: SessionOptions, ring: KeyRing, logger: Logger) -> None:
    """Registers what sessions are made of: the key ring and the store on the registered cache."""
    services.add(KeyRing, ring)
    protector = CookieProtector(ring, logger=logger)
    services.add(SessionStore, SessionStore(services.require(DistributedCache), protector, options, logger))
