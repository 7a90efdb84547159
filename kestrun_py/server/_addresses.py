"""IP addresses, names and ports, as an endpoint's arguments give them and as a socket takes them."""

from __future__ import annotations

import ipaddress
import itertools
import socket
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from typing import Literal, TypeAlias

from kestrun_py.errors import ArgumentError, ServerStartError
from kestrun_py.server.worker import shared_between_workers

AddressFamily: TypeAlias = Literal["IPv4", "IPv6", "InterNetwork", "InterNetworkV6"] | int
IPAddress: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address

ANY = ipaddress.IPv4Address("0.0.0.0")
ANY_V6 = ipaddress.IPv6Address("::")
LOOPBACK = ipaddress.IPv4Address("127.0.0.1")
LOOPBACK_V6 = ipaddress.IPv6Address("::1")
_FAMILIES = {"ipv4": 4, "internetwork": 4, "ipv6": 6, "internetworkv6": 6}
_free_ports = itertools.count()


def default_address(families: set[int]) -> IPAddress:
    return LOOPBACK_V6 if families == {6} else LOOPBACK


def to_families(value: AddressFamily | Iterable[AddressFamily] | None) -> set[int]:
    """IP versions; empty: any."""
    if value is None:
        return set()
    return {_to_family(one) for one in ([value] if isinstance(value, str | int) else value)}


def _to_family(value: str | int) -> int:
    version = {int(socket.AF_INET): 4, int(socket.AF_INET6): 6}.get(value) if isinstance(value, int) else None
    found = version or _FAMILIES.get(str(value).strip().lower())
    if found is None:
        raise ArgumentError(f"address_family: {value!r:.40} is not one of IPv4 (InterNetwork), IPv6 (InterNetworkV6).")
    return found


def to_address(value: str | IPAddress) -> IPAddress:
    try:
        return ipaddress.ip_address(str(value))  # an int would be taken for the address's bits
    except ValueError:
        raise ArgumentError(f"ip_address: {value!r:.60} is not an IP address; for a name use host_name.") from None


def to_host(text: str) -> IPAddress | str:
    if not text.strip():
        raise ArgumentError("host_name: Host name must be provided.")
    if text in ("+", "*"):
        return ANY
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return text


def to_port(value: int | str) -> int:
    text = str(value).strip() if isinstance(value, int | str) and not isinstance(value, bool) else ""
    if not is_port(text):
        raise ArgumentError(f"port: {value!r:.40} is not a port. Expected an integer between 0 and 65535.")
    return int(text)


def is_port(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 5 and int(text) <= 65535


def addresses_of(host: IPAddress | str, families: set[int]) -> list[IPAddress]:
    if host == ANY_V6 and families != {6}:
        return [ANY_V6, ANY]  # a socket bound to :: hears IPv6 only
    return _resolve(host, families) if isinstance(host, str) else [host]


def _resolve(host: str, families: set[int]) -> list[IPAddress]:
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        found = []
    texts = dict.fromkeys(str(entry[4][0]) for entry in found)
    addresses = [ipaddress.ip_address(text) for text in texts]
    wanted = [address for address in addresses if not families or address.version in families]
    if not wanted:
        raise ServerStartError(f"No IPv4/IPv6 addresses resolved for host '{host}'.")
    # localhost often stands for ::1 too where the system speaks no IPv6
    return [address for address in wanted if not address.is_loopback or _can_bind(address, 0)] or wanted


def free_port(addresses: Sequence[IPAddress]) -> int:
    """A port that is free on all addresses; the workers of a group run the same script, and get the same one."""
    name = f"free-port-{next(_free_ports)}"
    return int(shared_between_workers(name, lambda: b"%d" % _pick_port(addresses)))


def _pick_port(addresses: Sequence[IPAddress]) -> int:
    for _ in range(20):
        with ExitStack() as stack:
            first = stack.enter_context(_bound(addresses[0], 0))
            port = int(first.getsockname()[1])
            if all(_can_bind(address, port) for address in addresses[1:]):
                return port
    raise ServerStartError(f"No port is free on all of {', '.join(map(str, addresses))}.")


def _can_bind(address: IPAddress, port: int) -> bool:
    try:
        _bound(address, port).close()
    except OSError:
        return False
    return True


def _bound(address: IPAddress, port: int) -> socket.socket:
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    made = socket.socket(family, socket.SOCK_STREAM)
    try:
        if family == socket.AF_INET6:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        made.bind((str(address), port))
    except OSError:
        made.close()
        raise
    return made
