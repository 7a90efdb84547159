"""Where a Redis server is and how to log in: StackExchange.Redis text, URLs, or an object."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Final, TypeAlias
from urllib.parse import parse_qsl, unquote, urlsplit

from kestrun_py.errors import ArgumentError

__all__ = ["Endpoint", "RedisOptions", "parse_options"]

Endpoint: TypeAlias = tuple[str, int]
"""A host and a port."""

_PORT: Final = 6379
_TLS_PORT: Final = 6380
_SENTINEL_PORT: Final = 26379
_TRUE: Final = frozenset({"true", "yes", "on", "1"})
_FALSE: Final = frozenset({"false", "no", "off", "0"})
_COMMA: Final = "a password that holds a comma goes into a URL or into RedisOptions."
_OPTION_NAME: Final = re.compile(r"\$?[A-Za-z][A-Za-z0-9_]{0,39}")
_CERT_REQUIREMENTS: Final = frozenset({"none", "optional", "required"})

# Options of StackExchange.Redis that change nothing about what is stored or how safely it travels.
_IGNORED: Final = frozenset(
    {
        "allowadmin",
        "asynctimeout",
        "channelprefix",
        "configchannel",
        "configcheckseconds",
        "connectretry",
        "highintegrity",
        "keepalive",
        "preserveasyncorder",
        "protocol",
        "resolvedns",
        "responsetimeout",
        "setclientlibrary",
        "tiebreaker",
        "version",
        "writebuffer",
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class RedisOptions:
    """The options of a Redis connection, named as in a StackExchange.Redis configuration string.

    Attributes:
        endpoints: Servers, each ``"host"``, ``"host:port"`` or ``(host, port)``; several are a cluster's nodes, a
            primary and its replicas, or (with `service_name`) Sentinels. One text may list them with commas.
        password: The password; never shown.
        user: The ACL user that the password belongs to.
        ssl: Whether to use TLS. The server's certificate is verified.
        ssl_host: The name on the server's certificate, if it is not the host's.
        default_database: The number of the database.
        connect_timeout: Milliseconds for a connection to be made, login included.
        sync_timeout: Milliseconds of silence, with answers overdue, after which a connection is given up.
        abort_connect: Accepted for ASP.NET's sake; a cache never gives up connecting.
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
        object.__setattr__(self, "endpoints", _endpoints(self.endpoints, self._default_port()))
        if not self.endpoints and self.unix_socket is None:
            raise ArgumentError(
                "The Redis configuration names no server; begin it with one, as in 'localhost:6379,ssl=false'."
            )
        if self.unix_socket is not None and (self.endpoints or self.ssl or self.service_name):
            raise ArgumentError(
                "The Redis option 'unix_socket' goes with no endpoints, no ssl and no service_name."
            )

    @property
    def where(self) -> str:
        """The servers, for messages."""
        if self.unix_socket is not None:
            return self.unix_socket
        return ", ".join(f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host, port in self.endpoints)

    def _default_port(self) -> int:
        if self.service_name:
            return _SENTINEL_PORT
        return _TLS_PORT if self.ssl else _PORT


def parse_options(configuration: object) -> RedisOptions:
    """Turns what a host script gives for a Redis server into options.

    Args:
        configuration: StackExchange.Redis text (``host:port,password=...,ssl=true``), a ``redis://``, ``rediss://``
            or ``unix://`` URL, `RedisOptions`, or a mapping or object with the same attributes.

    Raises:
        ArgumentError: An option is unknown or malformed; the message names it and never shows a secret.
    """
    if isinstance(configuration, RedisOptions):
        return configuration
    if isinstance(configuration, str):
        text = configuration.strip()
        return _parse_url(text) if "://" in text.partition(",")[0].partition("=")[0] else _parse_text(text)
    if isinstance(configuration, Mapping):
        return _from_attributes(configuration)
    if not (hasattr(configuration, "endpoints") or hasattr(configuration, "unix_socket")):
        raise ArgumentError(
            f"A {type(configuration).__name__} is no Redis configuration: give text, a URL, or an object "
            "with an attribute 'endpoints'."
        )
    return _from_attributes(
        {name: getattr(configuration, name) for name in dir(configuration) if _is_data(configuration, name)}
    )


def _is_data(configuration: object, name: str) -> bool:
    return not name.startswith("_") and not callable(getattr(configuration, name))


def _from_attributes(given: Mapping[Any, Any]) -> RedisOptions:
    known = {option.name for option in fields(RedisOptions)}
    for name in given:
        if name not in known:
            raise ArgumentError(f"Unknown Redis option '{name}'; known are: {', '.join(sorted(known))}.")
    return RedisOptions(**{name: value for name, value in given.items() if value is not None})


# StackExchange.Redis text


def _parse_text(text: str) -> RedisOptions:
    endpoints: list[str] = []
    options: dict[str, Any] = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        name, equals, value = (piece.strip() for piece in part.partition("="))
        if equals:
            options |= _text_option(name, value)
        elif "password" in options:
            raise ArgumentError(f"Redis endpoints stand before the password; {_COMMA}")
        else:
            endpoints.append(part)
    return RedisOptions(endpoints=endpoints, **options)


def _text_option(name: str, value: str) -> dict[str, Any]:
    keyword = name.lower()
    if keyword in _IGNORED:
        return {}
    if keyword in _TEXT_OPTIONS:
        attribute = _TEXT_OPTIONS[keyword]
        return {attribute: value or None} if attribute in _OPTIONAL else {attribute: value}
    if keyword == "sslprotocols":
        return {"ssl_min_version": _min_version(name, value)}
    if keyword == "checkcertificaterevocation" and not _boolean(name, value):
        return {}
    if keyword == "proxy" and value.lower() == "none":
        return {}
    if not _OPTION_NAME.fullmatch(name):  # it may be the rest of a password
        raise ArgumentError(f"The Redis configuration holds a part that is no option; {_COMMA}")
    raise ArgumentError(
        f"Unknown or unsupported Redis option '{name}'; known are: {', '.join(_KEYWORDS)}. "
        f"(If it is part of a password: {_COMMA})"
    )


def _min_version(name: str, value: str) -> str:
    versions = {part.strip().lower() for part in value.replace("|", ",").split(",")}
    if not versions <= {"tls12", "tls13"}:
        raise ArgumentError(f"The Redis option '{name}' must be tls12, tls13 or tls12|tls13.")
    return "1.2" if "tls12" in versions else "1.3"


_TEXT_OPTIONS: Final = {
    "abortconnect": "abort_connect",
    "connecttimeout": "connect_timeout",
    "defaultdatabase": "default_database",
    "name": "name",
    "password": "password",
    "servicename": "service_name",
    "ssl": "ssl",
    "sslhost": "ssl_host",
    "synctimeout": "sync_timeout",
    "user": "user",
}
_KEYWORDS: Final = (
    "abortConnect",
    "connectTimeout",
    "defaultDatabase",
    "name",
    "password",
    "serviceName",
    "ssl",
    "sslHost",
    "sslProtocols",
    "syncTimeout",
    "user",
)


# URLs


def _parse_url(url: str) -> RedisOptions:
    # urlsplit's own errors may quote what stands around an unescaped character of a password.
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
        query = parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query))
    except ValueError:
        raise ArgumentError(
            "The Redis URL is malformed: it is redis://user:password@host:port/database, and special characters of "
            "the user and the password are written as %XX."
        ) from None
    if parts.scheme not in ("redis", "rediss", "unix"):
        raise ArgumentError(f"The Redis URL begins with '{parts.scheme}://'; known are redis, rediss and unix.")
    if "@" in parts.path or parts.fragment:
        raise ArgumentError("Special characters of the user and the password are written as %XX in a Redis URL.")
    options: dict[str, Any] = {"user": _unquoted(parts.username), "password": _unquoted(parts.password)}
    if parts.scheme == "unix":
        options |= {"unix_socket": unquote(parts.path)}
    else:
        options |= {"endpoints": [(unquote(host or "localhost"), port or _PORT)], "ssl": parts.scheme == "rediss"}
        if parts.path.strip("/"):
            options["default_database"] = _number("database", unquote(parts.path.strip("/")))
    for name, value in query:
        if name not in _URL_OPTIONS:
            raise ArgumentError(f"Unknown option '{name}' in the Redis URL; known are: {', '.join(_URL_OPTIONS)}.")
        options |= _URL_OPTIONS[name](name, value)
    return RedisOptions(**options)


def _unquoted(text: str | None) -> str | None:
    return unquote(text) if text else None


def _milliseconds(attribute: str) -> Callable[[str, str], dict[str, Any]]:
    def convert(name: str, value: str) -> dict[str, Any]:
        try:
            return {attribute: max(1, round(float(value) * 1000))}
        except (ValueError, OverflowError):
            raise ArgumentError(f"The option '{name}' of a Redis URL must be a number of seconds.") from None

    return convert


def _plain(attribute: str) -> Callable[[str, str], dict[str, Any]]:
    return lambda name, value: {attribute: value}


_URL_OPTIONS: Final[dict[str, Callable[[str, str], dict[str, Any]]]] = {
    "client_name": _plain("name"),
    "db": _plain("default_database"),
    "socket_connect_timeout": _milliseconds("connect_timeout"),
    "socket_timeout": _milliseconds("sync_timeout"),
    "ssl_ca_certs": _plain("ssl_ca_certs"),
    "ssl_cert_reqs": _plain("ssl_cert_reqs"),
    "ssl_certfile": _plain("ssl_certfile"),
    "ssl_keyfile": _plain("ssl_keyfile"),
    "ssl_min_version": _plain("ssl_min_version"),
}


# Values


def _boolean(name: str, value: object) -> bool:
    if isinstance(value, bool):
        return value
    text = str(value).strip().lower()
    if text not in _TRUE | _FALSE:
        raise ArgumentError(f"The Redis option '{name}' must be true or false.")
    return text in _TRUE


def _number(name: str, value: object) -> int:
    text = str(value).strip()
    if isinstance(value, bool) or not (text.isascii() and text.isdecimal() and len(text) <= 9):
        raise ArgumentError(f"The Redis option '{name}' must be a whole number.")
    return int(text)


def _positive(name: str, value: object) -> int:
    number = _number(name, value)
    if number == 0:
        raise ArgumentError(f"The Redis option '{name}' must be a positive number of milliseconds.")
    return number


def _text(name: str, value: object) -> str | None:
    if value is not None and (not isinstance(value, str) or "\0" in value):
        raise ArgumentError(f"The Redis option '{name}' must be text.")
    return value or None


def _client_name(name: str, value: object) -> str | None:
    text = _text(name, value)
    if text is not None and not all("!" <= character <= "~" for character in text):
        raise ArgumentError(f"The Redis option '{name}' must be printable ASCII without spaces.")
    return text


def _cert_requirement(name: str, value: object) -> str:
    if value not in _CERT_REQUIREMENTS:
        raise ArgumentError(f"The Redis option '{name}' must be one of none, optional, required.")
    return str(value)


def _tls_version(name: str, value: object) -> str | None:
    if value not in (None, "1.2", "1.3"):
        raise ArgumentError(f"The Redis option '{name}' must be 1.2 or 1.3.")
    return None if value is None else str(value)


_CHECKS: Final[dict[str, Callable[[str, Any], Any]]] = {
    "password": _text,
    "user": _text,
    "ssl": _boolean,
    "ssl_host": _text,
    "default_database": _number,
    "connect_timeout": _positive,
    "sync_timeout": _positive,
    "abort_connect": _boolean,
    "name": _client_name,
    "service_name": _text,
    "unix_socket": _text,
    "ssl_ca_certs": _text,
    "ssl_certfile": _text,
    "ssl_keyfile": _text,
    "ssl_cert_reqs": _cert_requirement,
    "ssl_min_version": _tls_version,
}
_OPTIONAL: Final = frozenset(name for name, check in _CHECKS.items() if check in (_text, _client_name))


def _endpoints(given: Any, default_port: int) -> tuple[Endpoint, ...]:
    if isinstance(given, str):
        given = [part for part in given.split(",") if part.strip()]
    if not isinstance(given, Iterable):
        raise ArgumentError("The Redis option 'endpoints' must be a list of 'host:port'.")
    return tuple(_endpoint(one, default_port) for one in given)


def _endpoint(given: Any, default_port: int) -> Endpoint:
    if isinstance(given, str):
        host, port = _split_endpoint(given.strip())
    elif isinstance(given, tuple | list) and len(given) == 2 and isinstance(given[0], str):
        host, port = given[0].strip(), given[1]
    else:
        raise ArgumentError("A Redis endpoint is 'host', 'host:port' or (host, port).")
    if not host or any(character.isspace() or character in "/@\0" for character in host):
        raise ArgumentError("The Redis configuration holds an endpoint that is no 'host' or 'host:port'.")
    number = default_port if port in (None, "") else _number("port", port)
    if not 0 < number <= 65535:
        raise ArgumentError(f"The port of the Redis endpoint '{host}' must be between 1 and 65535.")
    return host, number


def _split_endpoint(text: str) -> tuple[str, str | None]:
    if text.startswith("["):  # [::1]:6379
        host, bracket, rest = text[1:].partition("]")
        if not bracket or rest[:1] not in ("", ":"):
            raise ArgumentError("The Redis configuration holds an IPv6 endpoint that is not of the form '[::1]:6379'.")
        return host, rest[1:] or None
    host, colon, port = text.rpartition(":")
    if not colon or ":" in host:  # a bare IPv6 address has no port
        return text, None
    return host, port
