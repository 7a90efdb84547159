"""The server cmdlets: New-KrServer, Add-KrEndpoint, Enable-KrConfiguration, Start-KrServer and their kin."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Literal, overload

from cmdlets._arguments import MISSING, alias, mandatory_text
from cmdlets._pipe import Pending
from kestrun_py.context import KestrunContext, current_context
from kestrun_py.errors import ArgumentError, InvalidOperationError
from kestrun_py.host import KestrunHost
from kestrun_py.host_registry import add_host, find_host, remove_host, resolve_host
from kestrun_py.hosting.base import EnvironmentText
from kestrun_py.http.context import active_context
from kestrun_py.logging import Logger, close_all_loggers, get_logger
from kestrun_py.server.endpoints import AddressFamily, HttpProtocols, HttpProtocolsText, IPAddress

__all__ = [
    "add_kr_endpoint",
    "add_kr_listen_unix_socket",
    "enable_kr_configuration",
    "get_kr_context",
    "get_kr_server",
    "new_kr_server",
    "remove_kr_server",
    "set_kr_server_options",
    "start_kr_server",
    "stop_kr_server",
]


@overload
def new_kr_server(
    name: str,
    *,
    logger: Logger | None = ...,
    logger_name: str | None = ...,
    default: bool = ...,
    environment: EnvironmentText = ...,
    force: bool = ...,
) -> KestrunHost: ...
@overload
def new_kr_server(
    *,
    logger: Logger | None = ...,
    logger_name: str | None = ...,
    default: bool = ...,
    environment: EnvironmentText = ...,
    force: bool = ...,
) -> Pending[str, KestrunHost]: ...
def new_kr_server(
    name: str = MISSING,
    *,
    logger: Logger | None = None,
    logger_name: str | None = None,
    default: bool = False,
    environment: EnvironmentText = "Auto",
    force: bool = False,
) -> KestrunHost | Pending[str, KestrunHost]:
    """Makes a host and registers it; the first one is the default (New-KrServer).

    Args:
        name: The application's name, unique in any case; the pipeline input.
        logger: Where it logs; the default logger if left out.
        logger_name: Instead, the name of a registered logger.
        default: Make it the default host even if there is one.
        environment: Auto, Development, Staging or Production.
        force: Stop and remove a host of that name first. Without it, that is an error (Kestrun asks).

    Raises:
        ArgumentError: The name is empty, or no logger has the given name.
        InvalidOperationError: A host of that name exists.
    """

    def make(name: str) -> KestrunHost:
        host = KestrunHost(mandatory_text(name, "name"), logger=_logger(logger, logger_name), environment=environment)
        if force:
            remove_host(name)
        return add_host(host, default=default)

    return Pending("new_kr_server", str, make) if name is MISSING else make(name)


def _logger(logger: Logger | None, name: str | None) -> Logger | None:
    if name is None:
        return logger
    if logger is not None:
        raise ArgumentError("logger and logger_name are one choice; give one of them.")
    found = get_logger(name)
    if found is None:
        raise ArgumentError(f"No logger is registered as {name!r}: register_kr_logger({name!r}).")
    return found


@overload
def get_kr_server(server: KestrunHost | None = ...) -> KestrunHost: ...
@overload
def get_kr_server(server: KestrunHost | None = ..., *, start_time: Literal[True]) -> datetime | None: ...
@overload
def get_kr_server(server: KestrunHost | None = ..., *, stop_time: Literal[True]) -> datetime | None: ...
@overload
def get_kr_server(server: KestrunHost | None = ..., *, uptime: Literal[True]) -> timedelta | None: ...
def get_kr_server(
    server: KestrunHost | None = None,
    *,
    start_time: bool = False,
    stop_time: bool = False,
    uptime: bool = False,
) -> KestrunHost | datetime | timedelta | None:
    """Returns the host: the given one, in a route the one that handles the request, else the default (Get-KrServer).

    Args:
        server: The host.
        start_time: Return when it began to serve instead.
        stop_time: Return when it stopped instead.
        uptime: Return for how long it has been serving instead.
    """
    host = resolve_host(server)
    if not (start_time or stop_time or uptime):
        return host
    running = host.server
    if running is None:
        return None
    return running.start_time if start_time else running.stop_time if stop_time else running.uptime


@overload
def remove_kr_server(name: str, *, force: bool = ...) -> None: ...
@overload
def remove_kr_server(*, force: bool = ...) -> Pending[str, None]: ...
def remove_kr_server(name: str = MISSING, *, force: bool = False) -> Pending[str, None] | None:
    """Stops the host of that name and forgets it (Remove-KrServer).

    Args:
        name: The host's name; the pipeline input.
        force: Needed for a host that is running (Kestrun asks).

    Raises:
        InvalidOperationError: It is running.
    """

    def remove(name: str) -> None:
        host = find_host(mandatory_text(name, "name"))
        if host is not None and host.server is not None and host.server.is_running and not force:
            raise InvalidOperationError(f"The server '{name}' is running: remove_kr_server(..., force=True) stops it.")
        remove_host(name)

    if name is MISSING:
        return Pending("remove_kr_server", str, remove)
    remove(name)
    return None


def _new_names(host: KestrunHost, add: Callable[[KestrunHost], object]) -> list[str]:
    """The names of the listeners that were added, for ``add_kr_map_route(endpoints=...)``."""
    known = len(host.endpoints)
    add(host)
    return [name for endpoint in host.endpoints[known:] for name in endpoint.names]


# made from KestrunHost.add_endpoint, through _new_names
def add_kr_endpoint(
    port: int | str | None = None,
    *,
    ip_address: str | IPAddress | None = None,
    host_name: str | None = None,
    uri: str | None = None,
    address_family: AddressFamily | Iterable[AddressFamily] | None = None,
    cert_path: str | Path | None = None,
    cert_password: str | bytes | None = None,
    self_signed_cert: bool = False,
    x509_certificate: object = None,
    protocols: HttpProtocols | HttpProtocolsText | None = None,
    server: KestrunHost | None = None,
    self_signed_certificate: bool = MISSING,
    self_signed: bool = MISSING,
) -> list[str]:
    """Adds one or more listeners, by the rules of Kestrun's ``Add-KrEndpoint``.

    The place is the first of `uri`, `host_name`, `port` and `ip_address` (alone: 127.0.0.1, port 5000),
    ASPNETCORE_URLS (its first URL), PORT (any address), and http://127.0.0.1:5000.

    Args:
        port: 0 is any free port, chosen now.
        ip_address: The address to bind; ``::`` is any address, IPv4 too.
        host_name: Resolved now; every address of it is bound.
        uri: ``http://host:port`` or ``https://host:port``.
        address_family: ``"IPv4"``, ``"IPv6"`` or both: the addresses of a name that count.
        cert_path: A certificate file, PEM or PFX (`kestrun_py.certificates.loading.load_certificate`).
        cert_password: Its password.
        self_signed_cert: Make a certificate for localhost (`development_certificate`) (also `self_signed_certificate`
            and `self_signed`).
        x509_certificate: A certificate object (`kestrun_py.certificates.certificate.to_certificate`).
        protocols: Must include Http1; what is more is left out, with a line in the log at Debug.
        server: The host.

    Returns:
        The names of the listeners that were added, for ``add_kr_map_route(endpoints=...)``.

    Raises:
        InvalidOperationError: The host is configured already.
        ArgumentError: Arguments or variables of the wrong form, or that contradict each other.
        ServerStartError: A name without an address, or a certificate that cannot be used.
    """
    return _new_names(
        resolve_host(server),
        lambda host: host.add_endpoint(
            port,
            ip_address=ip_address,
            host_name=host_name,
            uri=uri,
            address_family=address_family,
            cert_path=cert_path,
            cert_password=cert_password,
            self_signed_cert=alias(
                self_signed_cert,
                False,
                "self_signed_cert",
                self_signed_certificate=self_signed_certificate,
                self_signed=self_signed,
            ),
            x509_certificate=x509_certificate,
            protocols=protocols,
        ),
    )


# made from KestrunHost.add_listen_unix_socket
def add_kr_listen_unix_socket(socket_path: str | Path, *, server: KestrunHost | None = None) -> KestrunHost:
    """Adds a listener on a Unix domain socket, as Kestrun's ``Add-KrListenUnixSocket``.

    Args:
        socket_path: Where to make the socket; at most 107 bytes.
        server: The host.

    Raises:
        InvalidOperationError: The host is configured already.
        ArgumentError: A path that no Unix socket can have.
    """
    return resolve_host(server).add_listen_unix_socket(socket_path)


# made from KestrunHost.set_server_options
def set_kr_server_options(
    *,
    max_runspaces: int | None = None,
    min_runspaces: int | None = None,
    deny_server_header: bool | None = None,
    server: KestrunHost | None = None,
) -> KestrunHost:
    """Sets options of the server, as Kestrun's ``Set-KrServerOptions``; what is left out stays as it is.

    Args:
        max_runspaces: The most ``def`` scripts that run at a time; 2 x processors if never set.
        min_runspaces: Threads to start at once; 1 if never set.
        deny_server_header: Whether responses name no server; they name it if never set.
        server: The host.

    Raises:
        InvalidOperationError: The host is configured already.
        ArgumentError: Bounds that contradict each other.
    """
    return resolve_host(server).set_server_options(
        max_runspaces=max_runspaces, min_runspaces=min_runspaces, deny_server_header=deny_server_header
    )


def enable_kr_configuration(server: KestrunHost | None = None, *, quiet: bool = False) -> KestrunHost:
    """Closes the queues and builds the services; called again, it does nothing (Enable-KrConfiguration).

    Args:
        server: The host.
        quiet: Print nothing.
    """
    host = resolve_host(server)
    if not quiet and not host.is_configured:
        host.enable_configuration()
        print(f"Kestrun server '{host.name}' is configured.", flush=True)
    return host.enable_configuration()


def start_kr_server(
    server: KestrunHost | None = None,
    *,
    no_wait: bool = False,
    quiet: bool = False,
    close_logs_on_exit: bool = False,
) -> KestrunHost:
    """Starts the server and, unless `no_wait`, serves until Ctrl+C, SIGTERM or stop_kr_server (Start-KrServer).

    A host that was served is stopped and forgotten when the call returns.

    Args:
        server: The host.
        no_wait: Serve in the background, and return when the endpoints are bound.
        quiet: Print nothing.
        close_logs_on_exit: Close all loggers at the end.

    Raises:
        ServerStartError: An endpoint cannot be bound.
    """
    host = resolve_host(server)

    def say(text: str) -> None:
        if not quiet:
            print(text, flush=True)

    def starting() -> None:
        say(f"Starting Kestrun server '{host.name}' ...")

    def started() -> None:
        say("Kestrun server started successfully.")
        for endpoint in host.endpoints:
            say(f"Listening on {endpoint} with protocols: Http1")
        if not no_wait:
            say("Press Ctrl+C to stop the server.")

    if no_wait:
        host.start(on_starting=starting)
        started()
        return host
    try:
        host.run(started, on_starting=starting)
        say("Kestrun server stopped.")
    finally:
        remove_host(host)
        if close_logs_on_exit:
            close_all_loggers()
    return host


def stop_kr_server(server: KestrunHost | None = None, *, no_wait: bool = False, quiet: bool = False) -> None:
    """Stops the server (Stop-KrServer). In a route it answers 202 ``Server is stopping...`` and stops after it.

    Args:
        server: The host.
        no_wait: Do not wait until the requests in flight were answered.
        quiet: Print nothing.
    """
    context = active_context()
    host = resolve_host(server)
    if context is not None:
        context.response.write_text("Server is stopping...", status=202)
        host.stop(wait=False)
        return
    if not quiet:
        print("Stopping Kestrun server...", flush=True)
    host.stop(wait=not no_wait)
    if not no_wait:
        remove_host(host)
        if not quiet:
            print("Kestrun server stopped.", flush=True)


def get_kr_context() -> KestrunContext:
    """Returns the context of the request that the route script handles (Kestrun's ``$Context``)."""
    return current_context("get_kr_context")
