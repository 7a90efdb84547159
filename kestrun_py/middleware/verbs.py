"""The host's verbs for middleware."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Self

from kestrun_py.hosting.base import HostBase, Stage
from kestrun_py.middleware.forwarded_headers import ForwardedHeadersOptions, forwarded_headers_middleware

__all__ = ["MiddlewareVerbs"]


class MiddlewareVerbs(HostBase):
    """The part of `KestrunHost` that adds middleware."""

    def add_forwarded_header(
        self,
        *,
        x_forwarded_for: bool = False,
        x_forwarded_proto: bool = False,
        x_forwarded_host: bool = False,
        x_forwarded_prefix: bool = False,
        all: bool = False,
        forward_limit: int | None = 1,
        known_networks: Iterable[str] | str | None = None,
        known_proxies: Iterable[str] | str | None = None,
        forwarded_for_header_name: str = "X-Forwarded-For",
        forwarded_proto_header_name: str = "X-Forwarded-Proto",
        forwarded_host_header_name: str = "X-Forwarded-Host",
        forwarded_prefix_header_name: str = "X-Forwarded-Prefix",
        original_for_header_name: str = "X-Original-For",
        original_proto_header_name: str = "X-Original-Proto",
        original_host_header_name: str = "X-Original-Host",
        original_prefix_header_name: str = "X-Original-Prefix",
        require_header_symmetry: bool = False,
    ) -> Self:
        """Believes what known proxies say of the client, as Kestrun's ``Add-KrForwardedHeader``.

        It runs before the other middleware, whatever the order of the calls. A request that came to a TLS proxy by
        https is then an https request here, and the session cookie is Secure.

        Args:
            x_forwarded_for: Take the client's address from X-Forwarded-For.
            x_forwarded_proto: Take the scheme from X-Forwarded-Proto.
            x_forwarded_host: Take the host from X-Forwarded-Host.
            x_forwarded_prefix: Take the path base from X-Forwarded-Prefix.
            all: Take all of them.
            forward_limit: How many proxies are believed, the nearest first; None for all that are known.
            known_networks: The networks of the proxies, such as ``10.0.0.0/8``.
            known_proxies: The addresses of the proxies. Left out with `known_networks`: the loopback addresses.
            forwarded_for_header_name: The header with the client's address.
            forwarded_proto_header_name: The header with the scheme.
            forwarded_host_header_name: The header with the host.
            forwarded_prefix_header_name: The header with the path base.
            original_for_header_name: The header that keeps the address of the connection.
            original_proto_header_name: The header that keeps the scheme of the connection.
            original_host_header_name: The header that keeps the Host header.
            original_prefix_header_name: The header that keeps the former path base.
            require_header_symmetry: Ignore headers that name different numbers of proxies.

        Raises:
            InvalidOperationError: The host is configured.
            ArgumentError: No header is chosen, or a network, an address or the limit is malformed.
        """
        self.check_open("add_forwarded_header")
        options = ForwardedHeadersOptions(
            x_forwarded_for=x_forwarded_for or all,
            x_forwarded_proto=x_forwarded_proto or all,
            x_forwarded_host=x_forwarded_host or all,
            x_forwarded_prefix=x_forwarded_prefix or all,
            forward_limit=forward_limit,
            known_networks=ForwardedHeadersOptions.networks(known_networks, known_proxies),
            for_header=forwarded_for_header_name,
            proto_header=forwarded_proto_header_name,
            host_header=forwarded_host_header_name,
            prefix_header=forwarded_prefix_header_name,
            original_for_header=original_for_header_name,
            original_proto_header=original_proto_header_name,
            original_host_header=original_host_header_name,
            original_prefix_header=original_prefix_header_name,
            require_header_symmetry=require_header_symmetry,
        )
        self.queue(
            "forwarded headers",
            lambda: forwarded_headers_middleware(options, self.logger),
            stage=Stage.FORWARDED_HEADERS,
        )
        return self
