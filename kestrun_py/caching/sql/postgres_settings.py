"""PostgreSQL's connection strings: Npgsql's, libpq's, URLs and ODBC's."""

from __future__ import annotations

import re
import secrets
from collections.abc import Mapping
from dataclasses import replace
from typing import Final
from urllib.parse import parse_qsl, unquote

from kestrun_py.caching.sql.connection_string import (
    ConnectionSettings,
    Keywords,
    SessionSettings,
    check_no_url,
    is_odbc_string,
    odbc_string,
    parse_ado_string,
    parse_odbc_string,
    passed_through,
    unknown_keyword,
)
from kestrun_py.caching.sql.drivers import find_postgres_driver
from kestrun_py.errors import ArgumentError

__all__ = ["POSTGRES_KEYWORDS", "is_postgres_string", "postgres_settings"]

# Npgsql's keywords and libpq's, by the one that is used here; "" has no meaning for a cache.
POSTGRES_KEYWORDS: Final = {
    **dict.fromkeys(("host", "server", "hostaddr"), "host"),
    "port": "port",
    **dict.fromkeys(("database", "db", "dbname"), "database"),
    **dict.fromkeys(("username", "user name", "user id", "userid", "uid", "user"), "username"),
    **dict.fromkeys(("password", "pwd", "psw", "pass"), "password"),
    **dict.fromkeys(("ssl mode", "sslmode"), "ssl mode"),
    **dict.fromkeys(("root certificate", "rootcertificate", "sslrootcert"), "root certificate"),
    **dict.fromkeys(("ssl certificate", "sslcertificate", "sslcert"), "ssl certificate"),
    **dict.fromkeys(("ssl key", "sslkey"), "ssl key"),
    **dict.fromkeys(("timeout", "connect timeout", "connection timeout", "connect_timeout"), "timeout"),
    **dict.fromkeys(("command timeout", "commandtimeout"), "command timeout"),
    **dict.fromkeys(("application name", "applicationname", "application_name"), "application name"),
    "options": "options",
    **dict.fromkeys(("target session attributes", "target_session_attrs"), "target session attributes"),
    "pooling": "pooling",
    **dict.fromkeys(("max pool size", "maximum pool size", "maxpoolsize", "maximumpoolsize"), "max pool size"),
    **dict.fromkeys(("min pool size", "minimum pool size", "minpoolsize", "minimumpoolsize"), "min pool size"),
    **dict.fromkeys(
        (
            "trust server certificate",
            "trustservercertificate",
            "check certificate revocation",
            "persist security info",
            "include error detail",
            "log parameters",
            "enlist",
            "multiplexing",
            "search path",
            "searchpath",
            "client encoding",
            "encoding",
            "timezone",
            "keepalive",
            "tcp keepalive",
            "connection idle lifetime",
            "connection pruning interval",
            "connection lifetime",
            "no reset on close",
            "max auto prepare",
            "auto prepare min usages",
            "read buffer size",
            "write buffer size",
            "socket receive buffer size",
            "socket send buffer size",
            "cancellation timeout",
            "internal command timeout",
            "load table composites",
            "server compatibility mode",
            "array nullability mode",
            "write coalescing buffer threshold bytes",
            "gssencmode",
            "gss encryption mode",
            "channel_binding",
            "channel binding",
        ),
        "",
    ),
}
_SSL_MODES: Final = {
    "disable": "disable",
    "allow": "allow",
    "prefer": "prefer",
    "require": "require",
    "verifyca": "verify-ca",
    "verifyfull": "verify-full",
}
_LIBPQ: Final = {
    "application name": "application_name",
    "root certificate": "sslrootcert",
    "ssl certificate": "sslcert",
    "ssl key": "sslkey",
    "options": "options",
    "target session attributes": "target_session_attrs",
}
# An ODBC connection string with one of these is used as it is.
_OWN_WAY: Final = frozenset({"useserversideprepare", "pqopt"})
# Poolers that check a connection's start parameters name the one that they do not take.
_REFUSAL: Final = re.compile(r"startup parameter|command-line options|kestrun\.session", re.IGNORECASE)


# SQLAlchemy adds the name of a driver: postgresql+psycopg2.
_URL: Final = re.compile(
    r"""postgres(?:ql)?(?:\+\w+)?://
    (?:(?P<username>[^:@/?\#]*)(?::(?P<password>[^/?\#]*))?@)?
    (?P<hosts>(?:\[[^\[\]@/?\#]*\]|[^\[\]:,@/?\#]*)(?::\d{1,5})?(?:,(?:\[[^\[\]@/?\#]*\]|[^\[\]:,@/?\#]*)(?::\d{1,5})?)*)
    (?:/(?P<database>[^@?\#]*))?
    (?:\?(?P<query>[^@\#]*))?""",
    re.IGNORECASE | re.VERBOSE,
)
_URL_START: Final = re.compile(r"postgres(?:ql)?(?:\+\w+)?://", re.IGNORECASE)
_LIBPQ_PAIR: Final = re.compile(r"\s*(\w+)\s*=\s*(?:'((?:[^'\\]|\\.)*)'|((?:[^\s'\\]|\\.)*))(?=\s|\Z)", re.DOTALL)
_ESCAPED: Final = re.compile(r"\\(.)", re.DOTALL)
_HOST: Final = re.compile(r"\[([^\[\]]*)\](?::(.*))?|([^:]*):([^:]*)")


def is_postgres_string(text: str) -> bool:
    """Whether a text is a PostgreSQL URL or libpq's ``key=value`` text."""
    return bool(_URL_START.match(text) or _libpq_pairs(text))


def postgres_settings(connection_string: str) -> ConnectionSettings:
    """Understands a connection string: a URL, or the text of ODBC, libpq or Npgsql.

    Raises:
        ArgumentError: It is malformed, or holds a keyword or value that is not understood.
        CacheError: There is no ODBC driver.
    """
    text = connection_string.strip()
    if _URL_START.match(text):
        return _settings(Keywords(_url_pairs(text), POSTGRES_KEYWORDS))
    check_no_url(text, "'postgresql://user:password@host:port/database'.")
    if is_odbc_string(text):
        return _passed_through(text)
    return _settings(Keywords(_libpq_pairs(text) or parse_ado_string(text), POSTGRES_KEYWORDS))


def _url_pairs(url: str) -> list[tuple[str, str]]:
    """The pairs of ``postgresql://user:password@host:port,host:port/database?option=value``."""
    match = _URL.fullmatch(url)
    try:
        query = parse_qsl(match["query"], True, strict_parsing=True) if match and match["query"] else []
    except ValueError:
        match = None
    if match is None:
        raise ArgumentError(
            "The connection URL is malformed; it is postgresql://user:password@host:port/database?option=value, "
            "with characters like '@', ':', '/', '?' and '#' of a password written as %40, %3A, %2F, %3F and %23."
        )
    for number, (key, _) in enumerate(query, start=1):
        if key.lower() not in POSTGRES_KEYWORDS:
            raise unknown_keyword(f"Option {number} of the connection URL", key.lower(), POSTGRES_KEYWORDS)
    hosts = [value for key, value in query if key.lower() == "host"] or [unquote(match["hosts"])]
    pairs = [("host", ",".join(hosts))]
    pairs += [(name, unquote(match[name] or "")) for name in ("username", "password", "database")]
    return pairs + [(key.lower(), value) for key, value in query if key.lower() != "host"]


def _libpq_pairs(text: str) -> list[tuple[str, str]]:
    """The pairs of ``host=h user=u password='p w'``; none if the text is not of this form.

    Npgsql's text with one pair would be of this form too; only a password holds a semicolon here.
    """
    pairs = []
    position = 0
    while position < len(text):
        match = _LIBPQ_PAIR.match(text, position)
        if match is None:
            return []
        value = match[3] if match[2] is None else match[2]
        pairs.append((match[1].lower(), _ESCAPED.sub(r"\1", value)))
        position = match.end()
    separated = any(";" in value for key, value in pairs if key != "password")
    return pairs if len(pairs) > 1 and pairs[0][0] in POSTGRES_KEYWORDS and not separated else []


def _servers(keywords: Keywords) -> list[tuple[str, str]]:
    """The hosts and their ports, of ``Host=a:1,b:2``, or of libpq's ``host=a,b port=1,2``."""
    hosts = [host.strip() for host in keywords.text("host", "localhost").split(",")]
    ports = [port.strip() for port in keywords.text("port", "5432").split(",")]
    if len(ports) not in (1, len(hosts)):
        raise ArgumentError("The connection string's 'port' must name one port, or one for each host.")
    if len(ports) == 1:
        ports *= len(hosts)
    return [_server(number, *server) for number, server in enumerate(zip(hosts, ports, strict=True), start=1)]


def _server(number: int, host: str, port: str) -> tuple[str, str]:
    match = None if host.startswith("/") else _HOST.fullmatch(host)
    if match is not None:
        host = match[1] or match[3] or ""
        port = next((found for found in (match[2], match[4]) if found is not None), port)
    if not (port.isascii() and port.isdigit() and len(port) <= 5 and 0 < int(port) < 65536):
        raise ArgumentError(f"The port of the connection string's host {number} must be a number from 1 to 65535.")
    return host or "localhost", port


def _settings(keywords: Keywords) -> ConnectionSettings:
    """The settings for the first server, with those for the others: the driver takes no list of ports."""
    servers = _servers(keywords)
    options = _libpq_options(keywords)
    if len(servers) > 1:
        options.setdefault("target_session_attrs", "read-write")  # a cache has no use for a standby
    address = servers[0][0] if len(servers) == 1 else ",".join(f"{host}:{port}" for host, port in servers)
    first, *others = [_shareable(_server_settings(keywords, *server, address), options) for server in servers]
    return replace(first, fallbacks=tuple(others))


def _server_settings(keywords: Keywords, host: str, port: str, address: str) -> ConnectionSettings:
    database = keywords.text("database") or keywords.text("username")
    pairs = [
        ("Driver", find_postgres_driver().name),
        ("Servername", host),
        ("Port", port),
        ("Database", database),
        ("UID", keywords.text("username")),
        ("PWD", keywords.text("password")),
        ("SSLmode", _ssl_mode(keywords.text("ssl mode"))),
    ]
    odbc = odbc_string((key, value) for key, value in pairs if value)
    login_timeout = keywords.number("timeout", 15) or 15
    return keywords.settings(odbc, address, database, login_timeout=login_timeout)


def _passed_through(connection_string: str) -> ConnectionSettings:
    """The settings of an ODBC connection string, which is used as it is if it says how to prepare statements."""
    settings = passed_through(connection_string)
    keys = {key for key, _ in parse_odbc_string(connection_string)}
    return settings if keys & _OWN_WAY else _shareable(settings, {})


def _shareable(settings: ConnectionSettings, options: Mapping[str, str]) -> ConnectionSettings:
    """Adds what a session may hold where it is the connection's own, and what goes without one where it is not.

    libpq's `options` set a value that only the server of this very connection knows: poolers refuse or ignore them, or
    give the connection a session that began without them.
    """
    mark = secrets.token_hex(8)
    marked = f"-c kestrun.session={mark} {options.get('options', '')}".rstrip()
    timeout = settings.command_timeout * 1000
    return replace(
        settings,
        # Without a prepared statement, the driver sends prefix and statement in one message: that is one transaction.
        odbc=_with(settings.odbc, ("UseServerSidePrepare", "0"), ("pqopt", _libpq_text(options))),
        prefix=f"SET LOCAL statement_timeout={timeout};",
        session=SessionSettings(
            odbc=_with(settings.odbc, ("pqopt", _libpq_text({**options, "options": marked}))),
            claim=(
                f"SELECT set_config('statement_timeout', '{timeout}', false) "
                f"WHERE current_setting('kestrun.session', true) = '{mark}'"
            ),
            refusal=_REFUSAL,
        ),
    )


def _with(odbc: str, *pairs: tuple[str, str]) -> str:
    return f"{odbc.rstrip().rstrip(';')};{odbc_string((key, value) for key, value in pairs if value)}"


def _ssl_mode(value: str) -> str:
    mode = value.lower().replace("-", "").replace(" ", "")
    if mode and mode not in _SSL_MODES:
        raise ArgumentError(
            "The connection string's 'ssl mode' must be Disable, Allow, Prefer, Require, VerifyCA or VerifyFull."
        )
    return _SSL_MODES.get(mode, "prefer")  # as Npgsql and libpq; the driver would do without TLS


def _libpq_options(keywords: Keywords) -> dict[str, str]:
    """libpq's own options; without the first, a server that vanished would be missed for a quarter of an hour."""
    options = {"tcp_user_timeout": "30000"}
    for keyword, option in _LIBPQ.items():
        if value := keywords.text(keyword):
            options[option] = value
    return options


def _libpq_text(options: Mapping[str, str]) -> str:
    return " ".join(f"{option}={_libpq_value(value)}" for option, value in options.items())


def _libpq_value(value: str) -> str:
    if value.isalnum():
        return value
    return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"
