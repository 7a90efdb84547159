"""The host's verbs for endpoints."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Self

from kestrun_py.errors import InvalidOperationError
from kestrun_py.hosting.base import HostBase
from kestrun_py.server.endpoints import (
    AddressFamily,
    Endpoint,
    HttpProtocols,
    HttpProtocolsText,
    IPAddress,
    resolve_endpoints,
    unix_endpoint,
)

__all__ = ["EndpointVerbs"]


class EndpointVerbs(HostBase):
    """The part of `KestrunHost` that adds listeners."""

    def add_endpoint(
        self,
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
    ) -> Self:
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
            self_signed_cert: Make a certificate for localhost (`development_certificate`).
            x509_certificate: A certificate object (`kestrun_py.certificates.certificate.to_certificate`).
            protocols: Must include Http1; what is more is left out, with a line in the log at Debug.

        Raises:
            InvalidOperationError: The host is configured already.
            ArgumentError: Arguments or variables of the wrong form, or that contradict each other.
            ServerStartError: A name without an address, or a certificate that cannot be used.
        """
        return self._listen_on(
            lambda: resolve_endpoints(
                port=port,
                ip_address=ip_address,
                host_name=host_name,
                uri=uri,
                address_family=address_family,
                cert_path=cert_path,
                cert_password=cert_password,
                self_signed_cert=self_signed_cert,
                x509_certificate=x509_certificate,
                protocols=protocols,
                logger=self.logger,
            )
        )

    def add_listen_unix_socket(self, socket_path: str | Path) -> Self:
        """Adds a listener on a Unix domain socket, as Kestrun's ``Add-KrListenUnixSocket``.

        Args:
            socket_path: Where to make the socket; at most 107 bytes.

        Raises:
            InvalidOperationError: The host is configured already.
            ArgumentError: A path that no Unix socket can have.
        """
        return self._listen_on(lambda: [unix_endpoint(socket_path)])

    def _listen_on(self, find: Callable[[], list[Endpoint]]) -> Self:
        if self.is_configured:
            raise InvalidOperationError(
                "Cannot add endpoint to a server that is already configured. Please create a new server instance."
            )
        found = find()
        self._endpoints += found
        for one in found:
            self.logger.debug("Endpoint {Url} added", str(one))
        return self
