"""The options of a Redis connection."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

from kestrun_py.errors import ArgumentError

__all__ = ["Endpoint", "RedisOptions", "address", "to_boolean", "to_number"]

Endpoint: TypeAlias = tuple[str, int]
"""A host and a port."""

_PORT: Final = 6379
_TLS_PORT: Final = 6380
_SENTINEL_PORT: Final = 26379
_TRUE: Final = frozenset({"true", "yes", "on", "1"})
_FALSE: Final = frozenset({"false", "no", "off", "0"})
_CERT_REQUIREMENTS: Final = ("none", "optional", "required")


@dataclass(frozen=True, slots=True, kw_only=True)
class RedisOptions:
    """The options of a Redis connection, named as in a StackExchange.Redis configuration string.

    Attributes:
        endpoints: Servers, each ``"host"``, ``"host:port"`` or ``(host, port)``; several are a cluster's
            nodes, a primary and its replicas, or (with `service_name`) Sentinels. A text lists them with commas.
            ``"!/path"`` is a Unix socket.
        password: The password; never shown.
        user: The ACL user that the password belongs to.
        ssl: Whether to use TLS. The server's certificate is verified.
        ssl_host: The name on the server's certificate, if it is not the host's.
        default_database: The number of the database.
        connect_timeout: Milliseconds for each step of making a connection: that it is made, and each answer of
            the login.
        sync_timeout: Milliseconds of silence, with answers overdue, after which a connection is given up.
        abort_connect: Accepted and not used: a cache never gives up connecting.
        name: What CLIENT LIST shows.
        service_name: The name of the primary to ask the Sentinels at `endpoints` for.
        unix_socket: The path of a Unix socket, instead of `endpoints`.
        ssl_ca_certs: A file of certificates to trust instead of the system's.
        ssl_certfile: The client's certificate.
        ssl_keyfile: The client certificate's key.
        ssl_cert_reqs: ``"required"``, or ``"none"`` to trust any certificate.
        ssl_min_version: ``"1.2"`` or ``"1.3"``.
    """

    endpoints: Any = ()
    password: str | None = field(default=None, repr=False)
    user: str | None = None
    ssl: bool = False
    ssl_host: str | None = None
    default_database: int = 0
    connect_timeout: int = 5000
    sync_timeout: int = 5000
    abort_connect: bool = False
    name: str | None = None
    service_name: str | None = None
    unix_socket: str | None = None
    ssl_ca_certs: str | None = None
    ssl_certfile: str | None = None
    ssl_keyfile: str | None = None
    ssl_cert_reqs: str = "required"
    ssl_min_version: str | None = None

    def __post_init__(self) -> None:
        for name, check in _CHECKS.items():
            object.__setattr__(self, name, check(name, getattr(self, name)))
        endpoints, unix_socket = _without_unix_socket(self.endpoints, self.unix_socket)
        object.__setattr__(self, "unix_socket", unix_socket)
        object.__setattr__(self, "endpoints", _endpoints(endpoints, self._default_port()))
        if not self.endpoints and self.unix_socket is None:
            raise ArgumentError(
                "The Redis configuration names no server; begin it with one: 'localhost:6379,ssl=false'."
            )
        if self.unix_socket is not None and (self.endpoints or self.ssl or self.service_name):
            raise ArgumentError("The Redis option 'unix_socket' goes with no endpoints, no ssl and no service_name.")

    @property
    def where(self) -> str:
        """The servers, for messages."""
        if self.unix_socket is not None:
            return self.unix_socket
        return ", ".join(map(address, self.endpoints))

    def _default_port(self) -> int:
        if self.service_name:
            return _SENTINEL_PORT
        return _TLS_PORT if self.ssl else _PORT


def address(endpoint: Endpoint) -> str:
    """An endpoint as text."""
    host, port = endpoint
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


# Values


def _shown(name: str) -> str:
    """An option's name, also as it is spelt in a configuration text."""
    first, *others = name.split("_")
    spelt = first + "".join(map(str.capitalize, others))
    return f"'{name}'" if spelt == name else f"'{name}' ({spelt})"


def to_boolean(name: str, value: object) -> bool:
    """True or false, as StackExchange.Redis writes them."""
    if isinstance(value, bool):
        return value
    text = str(value).strip().lower()
    if text not in _TRUE | _FALSE:
        raise ArgumentError(f"The Redis option {_shown(name)} must be true or false.")
    return text in _TRUE


def to_number(name: str, value: object) -> int:
    """A whole number that is not negative."""
    text = str(value).strip()
    if isinstance(value, bool) or not (text.isascii() and text.isdecimal() and len(text) <= 9):
        raise ArgumentError(f"The Redis option {_shown(name)} must be a whole number.")
    return int(text)


def _positive(name: str, value: object) -> int:
    number = to_number(name, value)
    if number == 0:
        raise ArgumentError(f"The Redis option {_shown(name)} must be a positive number of milliseconds.")
    return number


def _text(name: str, value: object) -> str | None:
    if value is not None and (not isinstance(value, str) or "\0" in value):
        raise ArgumentError(f"The Redis option {_shown(name)} must be text.")
    return value or None


def _client_name(name: str, value: object) -> str | None:
    text = _text(name, value)
    if text is not None and not all("!" <= character <= "~" for character in text):
        raise ArgumentError(f"The Redis option {_shown(name)} must be printable ASCII without spaces.")
    return text


def _cert_requirement(name: str, value: object) -> str:
    if value not in _CERT_REQUIREMENTS:
        raise ArgumentError(f"The Redis option {_shown(name)} must be one of none, optional, required.")
    return str(value)


def _tls_version(name: str, value: object) -> str | None:
    if value not in (None, "1.2", "1.3"):
        raise ArgumentError(f"The Redis option {_shown(name)} must be 1.2 or 1.3.")
    return None if value is None else str(value)


_CHECKS: Final[dict[str, Callable[[str, Any], Any]]] = {
    "password": _text,
    "user": _text,
    "ssl": to_boolean,
    "ssl_host": _text,
    "default_database": to_number,
    "connect_timeout": _positive,
    "sync_timeout": _positive,
    "abort_connect": to_boolean,
    "name": _client_name,
    "service_name": _text,
    "unix_socket": _text,
    "ssl_ca_certs": _text,
    "ssl_certfile": _text,
    "ssl_keyfile": _text,
    "ssl_cert_reqs": _cert_requirement,
    "ssl_min_version": _tls_version,
}


def _endpoints(given: Any, default_port: int) -> tuple[Endpoint, ...]:
    if not isinstance(given, Iterable):
        raise ArgumentError("The Redis option 'endpoints' must be a list of 'host:port'.")
    return tuple(_endpoint(one, default_port) for one in given if one != "")


def _without_unix_socket(endpoints: Any, unix_socket: str | None) -> tuple[Any, str | None]:
    """Takes the path of a Unix socket, which StackExchange.Redis writes as ``!/path``, from a list of endpoints."""
    given = endpoints.split(",") if isinstance(endpoints, str) else endpoints
    if not isinstance(given, Iterable):
        return endpoints, unix_socket
    given = [one.strip() if isinstance(one, str) else one for one in given]
    paths = [one[1:].strip() for one in given if isinstance(one, str) and one.startswith("!")]
    if not paths:
        return given, unix_socket
    if len(paths) > 1 or not paths[0] or "\0" in paths[0] or unix_socket is not None:
        raise ArgumentError("A Redis configuration names one Unix socket, as '!/run/redis/redis.sock'.")
    return [one for one in given if not (isinstance(one, str) and one.startswith("!"))], paths[0]


def _endpoint(given: Any, default_port: int) -> Endpoint:
    if isinstance(given, str):
        host, port = _split_endpoint(given.strip())
    elif isinstance(given, tuple | list) and len(given) == 2 and isinstance(given[0], str):
        host, port = given[0].strip(), given[1]
    else:
        raise ArgumentError("A Redis endpoint is 'host', 'host:port' or (host, port).")
    if not host or any(character.isspace() or character in "/@,=\0" for character in host):
        raise ArgumentError("The Redis configuration holds an endpoint that is no 'host' or 'host:port'.")
    number = default_port if port in (None, "") else to_number("port", port)
    if not 0 < number <= 65535:
        raise ArgumentError(f"The port of the Redis endpoint '{host}' must be between 1 and 65535.")
    return host, number


def _split_endpoint(text: str) -> tuple[str, str | None]:
    if text.startswith("["):  # [::1]:6379
        host, bracket, rest = text[1:].partition("]")
        if not bracket or rest[:1] not in ("", ":"):
            raise ArgumentError("A Redis endpoint with an IPv6 address is written as '[::1]:6379'.")
        return host, rest[1:] or None
    host, colon, port = text.rpartition(":")
    if not colon or ":" in host:  # a bare IPv6 address has no port
        return text, None
    return host, port
