"""Running a host: bind its endpoints, serve until told to stop, let requests in flight finish."""

from __future__ import annotations

import asyncio
import errno
import os
import signal
import socket
import ssl
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Final

from aiohttp import web

from kestrun_py.errors import InvalidOperationError, ServerStartError
from kestrun_py.http.connections import HttpRunner
from kestrun_py.logging import Logger
from kestrun_py.server.endpoints import Endpoint
from kestrun_py.server.worker import Worker, current_worker

__all__ = ["Server"]

_SHUTDOWN_TIMEOUT: Final = 5.0  # seconds that requests in flight get to finish


class Server:
    """Serves one aiohttp application on one or more endpoints.

    Args:
        name: The host's name, for log lines.
        endpoints: Where to listen.
        logger: Where start and stop are logged.

    Attributes:
        start_time: When it began to serve, or None.
        stop_time: When it stopped, or None.
    """

    def __init__(self, name: str, endpoints: Sequence[Endpoint], logger: Logger) -> None:
        self._name = name
        self._endpoints = endpoints
        self._logger = logger
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopping: asyncio.Event | None = None
        self._thread: threading.Thread | None = None
        self._serving: int | None = None  # the thread that runs the loop
        self._started = threading.Event()
        self._stopped = threading.Event()
        self._failure: BaseException | None = None
        self._bound_paths: list[str] = []  # of Unix sockets
        self.start_time: datetime | None = None
        self.stop_time: datetime | None = None

    @property
    def is_running(self) -> bool:
        """Whether it accepts requests, or still answers the last ones."""
        return self.start_time is not None and self.stop_time is None

    @property
    def uptime(self) -> timedelta | None:
        """How long it has been serving, or served; None if it never started."""
        if self.start_time is None:
            return None
        return (self.stop_time or datetime.now(UTC)) - self.start_time

    def run(self, make_app: Callable[[], web.Application], on_started: Callable[[], None] = lambda: None) -> None:
        """Serves in this thread until SIGINT, SIGTERM or `stop`.

        Raises:
            ServerStartError: An endpoint cannot be bound.
        """
        asyncio.run(self._serve(make_app, on_started))

    def start(self, make_app: Callable[[], web.Application]) -> None:
        """Serves in a thread of its own, and returns when the endpoints are bound.

        Raises:
            ServerStartError: An endpoint cannot be bound.
        """
        self._thread = threading.Thread(target=self._run_in_thread, args=(make_app,), name=self._name, daemon=True)
        self._thread.start()
        self._started.wait()
        if self._failure is not None:
            self._thread.join()
            raise self._failure

    def stop(self, *, wait: bool = True) -> None:
        """Asks the server to stop; with `wait`, returns when the requests in flight were answered.

        In a worker process the others stop, too.

        Raises:
            InvalidOperationError: It is not running.
        """
        if self._loop is None or self._stopping is None or not self.is_running:
            raise InvalidOperationError(f"The server '{self._name}' is not running.")
        worker = current_worker()
        if worker is not None:
            worker.stop_all()
        with suppress(RuntimeError):  # the loop closed in the meantime: it has stopped
            self._loop.call_soon_threadsafe(self._stopping.set)
        if wait and threading.get_ident() != self._serving:
            self._stopped.wait()
            if self._thread is not None:
                self._thread.join()

    def _run_in_thread(self, make_app: Callable[[], web.Application]) -> None:
        try:
            asyncio.run(self._serve(make_app, self._started.set))
        except BaseException as error:
            if self._started.is_set():
                self._logger.error("The server '{Name}' failed.", self._name, exception=error)
            self._failure = error
        finally:
            self._started.set()

    async def _serve(self, make_app: Callable[[], web.Application], on_started: Callable[[], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._serving = threading.get_ident()
        self._stopping = asyncio.Event()
        worker = current_worker()
        runner = HttpRunner(make_app(), handle_signals=False, shutdown_timeout=_SHUTDOWN_TIMEOUT)
        self._handle_signals(self._stopping.set)  # before anybody can tell that it serves
        try:
            await runner.setup()
            for endpoint in self._endpoints:
                # A Unix socket cannot be shared: the first worker serves it.
                if endpoint.unix_path is None or worker is None or worker.number == 1:
                    await self._bind(runner, endpoint, worker)
            self.start_time, self.stop_time = datetime.now(UTC), None
            self._logger.information(
                "Kestrun server '{Name}' listens on {Urls}", self._name, ", ".join(map(str, self._endpoints))
            )
            if worker is not None:
                worker.stop_with_supervisor()
                worker.listening()
            on_started()
            await self._stopping.wait()
            self._logger.information("Kestrun server '{Name}' is stopping ...", self._name)
        finally:
            try:
                await runner.cleanup()
            finally:
                self._end()

    def _end(self) -> None:
        for path in self._bound_paths:
            with suppress(OSError):
                os.unlink(path)
        if self.start_time is not None:
            self.stop_time = datetime.now(UTC)
            self._logger.information("Kestrun server '{Name}' stopped.", self._name)
        self._stopped.set()

    async def _bind(self, runner: web.AppRunner, endpoint: Endpoint, worker: Worker | None) -> None:
        context = _ssl_context(endpoint)
        try:
            if worker is None or endpoint.unix_path is not None:
                await _site(runner, endpoint, context).start()
            else:
                # SO_REUSEPORT would share the port with any server that sets it, another group of workers for one.
                with worker.one_at_a_time(f"bind-{endpoint.host}-{endpoint.port}") as first:
                    if first:
                        await _refuse_taken(endpoint)
                    await _site(runner, endpoint, context, reuse_port=True).start()
            if endpoint.unix_path is not None:
                self._bound_paths.append(endpoint.unix_path)
        except OSError as error:
            why, fix = error.strerror or str(error), "Stop what uses it, or choose another port."
            if error.errno == errno.EADDRINUSE:
                why = "address already in use"
            elif error.errno == errno.EADDRNOTAVAIL:
                why, fix = "this machine has no such address", "Choose one that it has, or 0.0.0.0 for all of them."
            raise ServerStartError(f"Failed to bind to address {endpoint}: {why}. {fix}") from error

    def _handle_signals(self, stop: Callable[[], None]) -> None:
        """SIGINT and SIGTERM stop the server; a server beside the main thread leaves them to their owner."""
        if threading.current_thread() is threading.main_thread():
            loop = asyncio.get_running_loop()
            for number in (signal.SIGINT, signal.SIGTERM):
                loop.add_signal_handler(number, stop)


def _ssl_context(endpoint: Endpoint) -> ssl.SSLContext | None:
    if endpoint.certificate is None:
        return None
    from kestrun_py.certificates.tls import ssl_context  # imported when used

    return ssl_context(endpoint.certificate)


def _site(
    runner: web.AppRunner, endpoint: Endpoint, context: ssl.SSLContext | None, *, reuse_port: bool = False
) -> web.BaseSite:
    if endpoint.unix_path is not None:
        if _is_served(endpoint.unix_path):  # asyncio would take the path from whoever serves it
            raise OSError(errno.EADDRINUSE, "address already in use")
        return web.UnixSite(runner, endpoint.unix_path, ssl_context=context)
    return web.TCPSite(runner, endpoint.host, endpoint.port, ssl_context=context, reuse_port=reuse_port or None)


async def _refuse_taken(endpoint: Endpoint) -> None:
    """Binds an address for a moment, with nobody.

    Raises:
        OSError: Somebody listens on it.
    """
    loop = asyncio.get_running_loop()
    server = await loop.create_server(asyncio.Protocol, endpoint.host, endpoint.port, start_serving=False)
    server.close()


def _is_served(path: str) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        probe.setblocking(False)
        return probe.connect_ex(path) in (0, errno.EAGAIN)
