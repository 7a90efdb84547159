"""What a proxy says of the client: X-Forwarded-For, -Proto, -Host and -Prefix (ASP.NET Core's ForwardedHeaders)."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any, Final, TypeAlias

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware
from multidict import CIMultiDict, CIMultiDictProxy

from kestrun_py.errors import ArgumentError
from kestrun_py.http.request import PATH_BASE
from kestrun_py.logging import Logger

__all__ = ["ForwardedHeadersOptions", "forwarded_headers_middleware"]

Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address
Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network

_SCHEME: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]{0,19}")
_HOST: Final = re.compile(r"(?:[A-Za-z0-9._-]{1,255}|\[[0-9A-Fa-f:.]{2,45}\])(?::[0-9]{1,5})?")
_PREFIX: Final = re.compile(r"/[\w.~!$&'()*+,;=:@%/-]*", re.ASCII)
_LOOPBACK: Final[tuple[Network, ...]] = (ipaddress.ip_network("127.0.0.0/8"), ipaddress.ip_network("::1/128"))


@dataclass(frozen=True, slots=True, kw_only=True)
class ForwardedHeadersOptions:
    """Which headers of which proxies count.

    Attributes:
        x_forwarded_for: Take the client's address from its header.
        x_forwarded_proto: Take the scheme.
        x_forwarded_host: Take the host.
        x_forwarded_prefix: Take the path base.
        forward_limit: How many proxies are believed, the nearest first; None for all that are known.
        known_networks: The networks that proxies stand in.
        for_header: The header with the client's address.
        proto_header: The header with the scheme.
        host_header: The header with the host.
        prefix_header: The header with the path base.
        original_for_header: Where the address of the last proxy goes.
        original_proto_header: Where the scheme of the connection goes.
        original_host_header: Where the Host header goes.
        original_prefix_header: Where the former path base goes.
        require_header_symmetry: Ignore headers that name different numbers of proxies.
    """

    x_forwarded_for: bool = False
    x_forwarded_proto: bool = False
    x_forwarded_host: bool = False
    x_forwarded_prefix: bool = False
    forward_limit: int | None = 1
    known_networks: tuple[Network, ...] = _LOOPBACK
    for_header: str = "X-Forwarded-For"
    proto_header: str = "X-Forwarded-Proto"
    host_header: str = "X-Forwarded-Host"
    prefix_header: str = "X-Forwarded-Prefix"
    original_for_header: str = "X-Original-For"
    original_proto_header: str = "X-Original-Proto"
    original_host_header: str = "X-Original-Host"
    original_prefix_header: str = "X-Original-Prefix"
    require_header_symmetry: bool = False

    def __post_init__(self) -> None:
        if self.forward_limit is not None and (isinstance(self.forward_limit, bool) or self.forward_limit < 1):
            raise ArgumentError(f"forward_limit must be at least 1, or None for no limit, not {self.forward_limit!r}.")
        if not (self.x_forwarded_for or self.x_forwarded_proto or self.x_forwarded_host or self.x_forwarded_prefix):
            raise ArgumentError(
                "Say which headers count: x_forwarded_for, x_forwarded_proto, x_forwarded_host, x_forwarded_prefix, "
                "or all of them with forward_all."
            )

    @staticmethod
    def networks(
        known_networks: Iterable[str] | str | None, known_proxies: Iterable[str] | str | None
    ) -> tuple[Network, ...]:
        """Reads networks (``10.0.0.0/8``) and addresses of proxies; the loopback addresses if there are none.

        Raises:
            ArgumentError: A text that is neither.
        """
        if known_networks is None and known_proxies is None:
            return _LOOPBACK
        found: list[Network] = []
        for name, given in (("known_networks", known_networks), ("known_proxies", known_proxies)):
            for text in [given] if isinstance(given, str) else given or ():
                try:
                    found.append(ipaddress.ip_network(text, strict=False))
                except ValueError as error:
                    raise ArgumentError(f"{name}: {error}.") from None
        return tuple(found)


def forwarded_headers_middleware(options: ForwardedHeadersOptions, logger: Logger) -> Middleware:
    """Returns the middleware that replaces a request by one with what its proxies say of it.

    The headers are read from the right, as each proxy appends to them. Reading ends at the limit, at a proxy that is
    not known, and at an entry that is malformed.
    """

    parts = {
        "remote": (options.x_forwarded_for, options.for_header, options.original_for_header),
        "scheme": (options.x_forwarded_proto, options.proto_header, options.original_proto_header),
        "host": (options.x_forwarded_host, options.host_header, options.original_host_header),
        "prefix": (options.x_forwarded_prefix, options.prefix_header, options.original_prefix_header),
    }
    names = {part: (name, original) for part, (wanted, name, original) in parts.items() if wanted}

    @web.middleware
    async def run(request: web.Request, handler: Handler) -> web.StreamResponse:
        said = {part: _entries(request.headers, name) for part, (name, _) in names.items()}
        changes, used = _accepted(request, said, options, logger)
        if not changes:
            return await handler(request)
        headers = CIMultiDict(request.headers)
        for part in changes:
            _move(request, headers, part, *names[part], used=used, entries=said[part])
        prefix = changes.pop("prefix", None)
        replaced = request.clone(headers=headers, **changes)
        if prefix is not None:
            replaced[PATH_BASE] = prefix
        return await handler(replaced)

    return run


def _accepted(
    request: web.Request, said: dict[str, list[str]], options: ForwardedHeadersOptions, logger: Logger
) -> tuple[dict[str, Any], int]:
    """What changes in the request by what its known proxies say, and how many of them that are."""
    changes: dict[str, Any] = {}
    if options.require_header_symmetry and len({len(entries) for entries in said.values()}) > 1:
        logger.warning(
            "The forwarded headers of {Remote} name different numbers of proxies; they are ignored.", request.remote
        )
        return changes, 0
    proxy, used = request.remote or "", 0
    for hop in zip_longest(*said.values()):
        if used == options.forward_limit:
            break
        if not _is_known(proxy, options.known_networks):
            logger.debug("The proxy {Remote} is not known; what it says of the client is ignored.", proxy)
            break
        valid = {part: text for part, text in zip(said, hop, strict=True) if text is not None and _is_valid(part, text)}
        if len(valid) < sum(text is not None for text in hop):
            logger.debug("A forwarded header of {Remote} is malformed; it is ignored.", proxy)
            break
        if "remote" in valid:
            proxy = valid["remote"] = str(_address(valid["remote"]))
        changes |= valid
        used += 1
    return changes, used


def _entries(headers: CIMultiDictProxy[str], name: str) -> list[str]:
    """The entries of a header, the last one first."""
    values = headers.getall(name, [])
    return [entry.strip() for value in reversed(values) for entry in reversed(value.split(","))]


def _move(
    request: web.Request,
    headers: CIMultiDict[str],
    part: str,
    name: str,
    original: str,
    *,
    used: int,
    entries: list[str],
) -> None:
    """Takes the entries that were used out of a header, and keeps what they replace in another one."""
    before = {
        "remote": request.remote,
        "scheme": request.scheme,
        "host": request.host,
        "prefix": request.get(PATH_BASE, ""),
    }
    headers[original] = before[part] or ""
    rest = entries[used:]
    headers.popall(name)
    if rest:
        headers[name] = ", ".join(reversed(rest))


def _is_valid(part: str, text: str) -> bool:
    if part == "remote":
        return _address(text) is not None
    return {"scheme": _SCHEME, "host": _HOST, "prefix": _PREFIX}[part].fullmatch(text) is not None


def _address(text: str) -> Address | None:
    """The address of an entry: ``1.2.3.4``, ``1.2.3.4:80``, ``::1`` or ``[::1]:80``."""
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None


def _is_known(proxy: str, networks: tuple[Network, ...]) -> bool:
    address = _address(proxy)
    if address is None:
        return False
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return any((mapped or address) in network for network in networks)
