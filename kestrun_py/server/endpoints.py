"""Listeners: from the arguments of Add-KrEndpoint, or the environment, to addresses that can be bound."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias

from kestrun_py.conversion.enums import to_enum
from kestrun_py.errors import ArgumentError
from kestrun_py.logging import Logger, default_logger
from kestrun_py.server._addresses import (
    ANY,
    ANY_V6,
    LOOPBACK,
    LOOPBACK_V6,
    AddressFamily,
    IPAddress,
    addresses_of,
    default_address,
    free_port,
    is_port,
    to_address,
    to_families,
    to_host,
    to_port,
)
from kestrun_py.server.worker import shared_between_workers

if TYPE_CHECKING:  # needs cryptography
    from kestrun_py.certificates.certificate import Certificate

__all__ = [
    "AddressFamily",
    "Endpoint",
    "HttpProtocols",
    "HttpProtocolsText",
    "IPAddress",
    "resolve_endpoints",
    "unix_endpoint",
]

_DEFAULT_PORT = 5000
_LONGEST_UNIX_PATH = 107  # bytes: sockaddr_un holds 108, the last one is 0
_URL = re.compile(r"(https?)://(\[[^\]/]+\]|[^:/?#@\s]+)(?::([0-9]{1,5}))?/?", re.IGNORECASE)


class HttpProtocols(Enum):
    """The protocols that a listener speaks (Kestrel's HttpProtocols); here always HTTP/1.1."""

    HTTP1 = 1
    HTTP2 = 2
    HTTP1_AND_HTTP2 = 3
    HTTP3 = 4
    HTTP1_AND_HTTP2_AND_HTTP3 = 7


HttpProtocolsText: TypeAlias = Literal["Http1", "Http2", "Http1AndHttp2", "Http3", "Http1AndHttp2AndHttp3"]


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One listener.

    Attributes:
        host: The IP address to bind; empty for a Unix socket.
        port: The TCP port; 0 for a Unix socket.
        certificate: Makes it an https listener.
        unix_path: The path of a Unix socket.
        names: ``host:port`` as a Host header names it; what ``Add-KrMapRoute -Endpoints`` takes.
    """

    host: str
    port: int
    certificate: Certificate | None = None
    unix_path: str | None = None
    names: tuple[str, ...] = ()

    @property
    def url(self) -> str:
        """The address as a URL, such as ``https://127.0.0.1:5000`` or ``http://unix:/run/app.sock``."""
        scheme = "http" if self.certificate is None else "https"
        place = f"unix:{self.unix_path}" if self.unix_path is not None else _host_and_port(self.host, self.port)
        return f"{scheme}://{place}"

    def __str__(self) -> str:
        return self.url


def resolve_endpoints(
    *,
    port: int | str | None = None,
    ip_address: str | IPAddress | None = None,
    host_name: str | None = None,
    uri: str | None = None,
    address_family: AddressFamily | Iterable[AddressFamily] | None = None,
    cert_path: str | Path | None = None,
    cert_password: str | bytes | None = None,
    self_signed_cert: bool = False,
    x509_certificate: object = None,
    protocols: HttpProtocols | HttpProtocolsText | None = None,
    environ: Mapping[str, str] | None = None,
    logger: Logger = default_logger,
) -> list[Endpoint]:
    """Finds what Add-KrEndpoint would listen on: one endpoint for each address.

    The arguments are those of `KestrunHost.add_endpoint`, and two more.

    Args:
        environ: The environment; left out, the process's.
        logger: Where to log.

    Raises:
        ArgumentError: Arguments or variables of the wrong form, or that contradict each other.
        ServerStartError: A name without an address, or a certificate that cannot be used.
    """
    families = to_families(address_family)
    address = None if ip_address is None else to_address(ip_address)
    _check_places(address, host_name, uri, families)
    _check_protocols(protocols, logger)
    found = _find_binding(port, address, host_name, uri, families, os.environ if environ is None else environ)
    certificate = _find_certificate(cert_path, cert_password, self_signed_cert, x509_certificate)
    if found.is_https and certificate is None:
        raise ArgumentError(
            f"Binding URL '{found.url}' needs a certificate: give cert_path, x509_certificate or self_signed_cert."
        )
    return _endpoints(found, families, certificate)


def unix_endpoint(socket_path: str | Path) -> Endpoint:
    """Finds what Add-KrListenUnixSocket would listen on.

    Raises:
        ArgumentError: A path that no Unix socket can have.
    """
    text = str(socket_path)
    size = len(os.fsencode(text))
    if not text or "\0" in text or size > _LONGEST_UNIX_PATH:
        raise ArgumentError(
            f"socket_path: {text[:60]!r} must have 1 to {_LONGEST_UNIX_PATH} bytes, none of them 0; it has {size}."
        )
    return Endpoint("", 0, unix_path=text)


@dataclass(frozen=True, slots=True)
class _Binding:
    host: IPAddress | str
    port: int
    url: str = ""

    @property
    def is_https(self) -> bool:
        return self.url.lower().startswith("https:")


def _check_places(address: IPAddress | None, host_name: str | None, uri: str | None, families: set[int]) -> None:
    given = {"IPAddress": address, "HostName": host_name, "Uri": uri}
    both = [name for name, value in given.items() if value is not None]
    if len(both) > 1:
        raise ArgumentError(f"Cannot specify both {both[0]} and {both[1]}. Please choose one.")
    if address is not None and families and address.version not in families:
        raise ArgumentError("The specified IPAddress does not match the provided AddressFamily filter.")


def _find_binding(
    port: int | str | None,
    address: IPAddress | None,
    host_name: str | None,
    uri: str | None,
    families: set[int],
    environ: Mapping[str, str],
) -> _Binding:
    if uri is not None:
        return _parse_url(str(uri), needs_port=False)
    given_port = _DEFAULT_PORT if port is None else to_port(port)
    if host_name is not None:
        return _Binding(to_host(host_name), given_port)
    if port is not None or address is not None:
        return _Binding(address or default_address(families), given_port)
    return _from_environment(environ) or _Binding(default_address(families), _DEFAULT_PORT)


def _from_environment(environ: Mapping[str, str]) -> _Binding | None:
    urls = [url.strip() for url in environ.get("ASPNETCORE_URLS", "").split(";") if url.strip()]
    if urls:
        return _parse_url(urls[0], needs_port=True)
    text = environ.get("PORT", "").strip()
    if not text:
        return None
    if not is_port(text) or int(text) == 0:
        raise ArgumentError(
            f"Environment variable PORT has invalid value '{text}'. Expected an integer between 1 and 65535."
        )
    return _Binding(ANY, int(text))


def _parse_url(url: str, *, needs_port: bool) -> _Binding:
    match = _URL.fullmatch(url)
    if match is None:
        raise ArgumentError(f"Invalid binding URL '{url}'. Expected http://host:port or https://host:port.")
    scheme, host, port = match.groups()
    if port is None and needs_port:
        raise ArgumentError(f"Binding URL '{url}' does not specify a port.")
    default = 443 if scheme.lower() == "https" else 80
    return _Binding(to_host(host.strip("[]")), default if port is None else to_port(port), url)


def _endpoints(binding: _Binding, families: set[int], certificate: Certificate | None) -> list[Endpoint]:
    addresses = addresses_of(binding.host, families)
    port = binding.port or free_port(addresses)
    return [
        Endpoint(str(address), port, certificate, names=_names(binding.host, address, port)) for address in addresses
    ]


def _names(host: IPAddress | str, address: IPAddress, port: int) -> tuple[str, ...]:
    """The names that Kestrun gives a listener, the loopback address and localhost being the same place."""
    if address in (ANY, ANY_V6):
        hosts = ["localhost", str(LOOPBACK), str(LOOPBACK_V6)]
    elif isinstance(host, str):
        hosts = [host, str(address)]
    else:
        hosts = [str(address), *(["localhost"] if address in (LOOPBACK, LOOPBACK_V6) else [])]
    return tuple(_host_and_port(name, port) for name in hosts)


def _host_and_port(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _find_certificate(
    path: str | Path | None, password: str | bytes | None, self_signed: bool, given: object
) -> Certificate | None:
    if (path is not None) + self_signed + (given is not None) > 1:
        raise ArgumentError("cert_path, self_signed_cert and x509_certificate exclude each other. Please choose one.")
    if password is not None and path is None:
        raise ArgumentError("cert_password is the password of a certificate file: give cert_path too.")
    if path is None and given is None and not self_signed:
        return None
    from kestrun_py.certificates.certificate import to_certificate  # imported when used
    from kestrun_py.certificates.loading import certificate_from_pem, load_certificate  # imported when used
    from kestrun_py.certificates.self_signed import development_certificate  # imported when used

    if path is not None:
        return load_certificate(path, password)
    if given is not None:
        return to_certificate(given)
    return certificate_from_pem(
        shared_between_workers("development-certificate", lambda: development_certificate().to_pem())
    )


def _check_protocols(value: HttpProtocols | HttpProtocolsText | None, logger: Logger) -> None:
    if value is None:
        return
    protocols = to_enum(HttpProtocols, value, "protocols")
    if not protocols.value & HttpProtocols.HTTP1.value:
        raise ArgumentError("protocols: HTTP/1.1 is the protocol that aiohttp speaks; use 'Http1'.")
    if protocols is not HttpProtocols.HTTP1:
        logger.debug("The listener speaks HTTP/1.1 only; HTTP/2 and HTTP/3 are left out.")
