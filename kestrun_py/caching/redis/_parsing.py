"""Reading the options of a Redis connection: StackExchange.Redis text, URLs, mappings and objects."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Any, Final
from urllib.parse import parse_qsl, unquote, urlsplit

from kestrun_py.caching.redis.options import RedisOptions, to_boolean, to_number
from kestrun_py.errors import ArgumentError

__all__ = ["parse_options"]

_COMMA: Final = "a password that holds a comma goes into a URL or into RedisOptions."
_ESCAPE: Final = "Special characters of the user and the password are written as %XX."
_OPTION_NAME: Final = re.compile(r"\$?[A-Za-z][A-Za-z0-9_]{0,39}")
_NOT_IN_A_NAME: Final = re.compile("[^!-~]+")  # as Redis sees it; StackExchange.Redis leaves it out, too

_TEXT_OPTIONS: Final = {
    "abortConnect": "abort_connect",
    "connectTimeout": "connect_timeout",
    "defaultDatabase": "default_database",
    "name": "name",
    "password": "password",
    "serviceName": "service_name",
    "ssl": "ssl",
    "sslHost": "ssl_host",
    "syncTimeout": "sync_timeout",
    "user": "user",
}
_ATTRIBUTES: Final = {name.lower(): attribute for name, attribute in _TEXT_OPTIONS.items()}


def _any_text(name: str, value: str) -> str:
    return value


def _integer(name: str, value: str) -> int:
    return to_number(name, value.removeprefix("-"))


# Options of StackExchange.Redis that change nothing about what is stored or how safely it travels, with their checks.
_IGNORED: Final[dict[str, Callable[[str, str], object]]] = {
    **dict.fromkeys(
        ("allowadmin", "heartbeatconsistencychecks", "highintegrity", "resolvedns", "setlib", "tcpkeepalive"),
        to_boolean,
    ),
    **dict.fromkeys(("asynctimeout", "configcheckseconds", "connectretry", "keepalive"), _integer),
    **dict.fromkeys(("channelprefix", "configchannel", "libname", "protocol", "tiebreaker", "version"), _any_text),
    # StackExchange.Redis itself ignores these.
    **dict.fromkeys(("highprioritythreads", "preserveasyncorder", "responsetimeout", "writebuffer"), _any_text),
}


# Known names may be shown wherever they stand.
_KNOWN: Final = frozenset(
    {*_ATTRIBUTES, *_IGNORED, "checkcertificaterevocation", "proxy", "setclientlibrary", "sslprotocols", "tunnel"}
)


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
    for position, part in enumerate((part.strip() for part in text.split(",")), 1):
        if not part:
            continue
        name, equals, value = (piece.strip() for piece in part.partition("="))
        if equals:
            if "password" in options and name.lower() not in _KNOWN:  # it may be the rest of the password
                raise ArgumentError(
                    f"Part {position} of the Redis configuration, counted between commas, is no option; {_COMMA}"
                )
            options |= _text_option(name, value)
        elif "password" in options:
            raise ArgumentError(f"Redis endpoints stand before the password; {_COMMA}")
        else:
            endpoints.append(part)
    return RedisOptions(endpoints=endpoints, **options)


def _text_option(name: str, value: str) -> dict[str, Any]:
    keyword = name.lower()
    if keyword in _IGNORED:
        _IGNORED[keyword](name, value)
        return {}
    if keyword == "name":
        return {"name": _NOT_IN_A_NAME.sub("", value)}
    if keyword in _ATTRIBUTES:
        return {_ATTRIBUTES[keyword]: value}
    if keyword == "sslprotocols":
        return {"ssl_min_version": _min_version(name, value)}
    if keyword == "checkcertificaterevocation" and not to_boolean(name, value):
        return {}
    if keyword == "proxy" and value.lower() == "none":
        return {}
    if keyword == "tunnel":
        if value:
            raise ArgumentError(f"The Redis option '{name}' is not supported: connections are made directly.")
        return {}
    if not _OPTION_NAME.fullmatch(name):  # it may be the rest of a password
        raise ArgumentError(f"The Redis configuration holds a part that is no option; {_COMMA}")
    if name.startswith("$"):
        raise ArgumentError(
            f"The Redis option '{name}' maps a command to another name; command maps are not supported. "
            f"(If it is part of a password: {_COMMA})"
        )
    raise ArgumentError(
        f"Unknown or unsupported Redis option '{name}'; known are: {', '.join(_TEXT_OPTIONS)}, sslProtocols. "
        f"(If it is part of a password: {_COMMA})"
    )


def _min_version(name: str, value: str) -> str:
    versions = {part.strip().lower() for part in value.replace("|", ",").split(",")}
    if not versions <= {"tls12", "tls13"}:
        raise ArgumentError(f"The Redis option '{name}' must be tls12, tls13 or tls12|tls13.")
    return "1.2" if "tls12" in versions else "1.3"


# URLs


def _parse_url(url: str) -> RedisOptions:
    # urlsplit's own errors may quote what stands around an unescaped character of a password.
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
        query = parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query))
    except ValueError:
        raise ArgumentError(
            f"The Redis URL is malformed: it is redis://user:password@host:port/database. {_ESCAPE}"
        ) from None
    if parts.scheme not in ("redis", "rediss", "unix"):
        raise ArgumentError("A Redis URL begins with redis://, rediss:// or unix://.")
    if "@" in parts.path + parts.query or parts.fragment:
        raise ArgumentError(f"The Redis URL is malformed. {_ESCAPE}")
    place = parts.netloc.rpartition("@")[2] + parts.path
    if "," in place + parts.query or "=" in place:  # a list of options, with a password in it perhaps
        raise ArgumentError(
            "A Redis URL names one server, and its options follow a '?', separated by '&'. For options separated by "
            f"commas leave out {parts.scheme}://; a comma that is meant is written as %2C."
        )
    options: dict[str, Any] = {"user": _unquoted(parts.username), "password": _unquoted(parts.password)}
    if parts.scheme == "unix":
        if host or port is not None:
            raise ArgumentError("A Unix socket's URL has three slashes before its path: unix:///run/redis/redis.sock.")
        options |= {"unix_socket": unquote(parts.path)}
    else:
        options["endpoints"] = [(unquote(host or "localhost"), 6379 if port is None else port)]
        options["ssl"] = parts.scheme == "rediss"
        if parts.path.strip("/"):
            options["default_database"] = to_number("database", unquote(parts.path.strip("/")))
    for name, value in query:
        if name not in _URL_OPTIONS:
            known = ", ".join(_URL_OPTIONS)
            raise ArgumentError(f"Unknown option '{name[:40]}' in the Redis URL; known are: {known}.")
        options |= _URL_OPTIONS[name](name, value)
    return RedisOptions(**options)


def _unquoted(text: str | None) -> str | None:
    return unquote(text) if text else None


def _milliseconds(attribute: str) -> Callable[[str, str], dict[str, Any]]:
    def convert(name: str, value: str) -> dict[str, Any]:
        try:
            milliseconds = math.ceil(float(value) * 1000)
        except (ValueError, OverflowError):
            milliseconds = 0
        if milliseconds <= 0:
            raise ArgumentError(f"The option '{name}' of a Redis URL must be a positive number of seconds.")
        return {attribute: milliseconds}

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
