"""The PostgreSQL dialect, over psqlODBC."""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import ClassVar, Final
from urllib.parse import parse_qsl, unquote, urlsplit

from kestrun_py.caching.sql._postgres_sql import postgres_statements
from kestrun_py.caching.sql.connection_string import (
    ConnectionSettings,
    Keywords,
    SessionSettings,
    is_odbc_string,
    odbc_string,
    parse_ado_string,
    parse_odbc_string,
    passed_through,
)
from kestrun_py.caching.sql.dialect import KEYS_TABLE, Failure, SqlDialect, Statements, checked_name
from kestrun_py.caching.sql.drivers import find_postgres_driver
from kestrun_py.errors import ArgumentError

__all__ = ["PostgresDialect"]

# Npgsql's keywords and libpq's, by the one that is used here; "" has no meaning for a cache.
_KEYWORDS: Final = {
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
_LOST_STATES: Final = frozenset({"57P01", "57P02", "57P03", "57P05", "25006"})


class PostgresDialect(SqlDialect):
    """PostgreSQL. Understands Npgsql connection strings, ``postgresql://`` URLs and ODBC connection strings."""

    name: ClassVar[str] = "PostgreSQL"
    option: ClassVar[str] = "postgres"
    default_schema: ClassVar[str] = "public"
    keywords: ClassVar[Mapping[str, str]] = _KEYWORDS

    def settings(self, connection_string: str) -> ConnectionSettings:
        if connection_string.lstrip().lower().startswith(("postgresql://", "postgres://")):
            return _settings(Keywords(_url_pairs(connection_string.strip()), _KEYWORDS))
        if is_odbc_string(connection_string):
            return _passed_through(connection_string)
        return _settings(Keywords(parse_ado_string(connection_string), _KEYWORDS))

    def statements(self, schema: str, table: str) -> Statements:
        quoted_schema = _quoted(schema, "schema_name")
        return postgres_statements(
            f"{quoted_schema}.{_quoted(table, 'table_name')}", f"{quoted_schema}.{_quoted(KEYS_TABLE, 'the key ring')}"
        )

    def classify(self, state: str, codes: frozenset[int], text: str) -> Failure:
        if state in ("40001", "40P01"):
            return Failure.DEADLOCK
        if state == "23505":
            return Failure.DUPLICATE
        if state == "42P01":
            return Failure.NO_TABLE
        if state in ("57014", "55P03", "HYT00", "HYT01"):
            return Failure.TIMEOUT
        if state.startswith("08") or state in _LOST_STATES or "server closed the connection" in text:
            return Failure.LOST
        return Failure.OTHER

    def script(self, schema: str, table: str) -> str:
        statements = self.statements(schema, table)
        keys = statements.create_keys_table.replace("CREATE TABLE", "CREATE TABLE IF NOT EXISTS", 1)
        steps = ("BEGIN", *statements.create_table, keys, "COMMIT")
        return "".join(f"{step};\n" for step in steps)


def _url_pairs(url: str) -> Iterator[tuple[str, str]]:
    """The pairs of ``postgresql://user:password@host:port/database?option=value``."""
    try:
        parts = urlsplit(url)
        port = parts.port
        host = parts.hostname
    except ValueError as error:
        # The reason is not shown: it may quote what a password with an unescaped ':' or '@' left behind.
        raise ArgumentError(
            "The connection URL is malformed; it is postgresql://user:password@host:port/database, "
            "with characters like '@', ':', '/' and '#' of a password written as %40, %3A, %2F and %23."
        ) from error.__cause__
    found = {
        "host": unquote(host or ""),
        "port": "" if port is None else str(port),
        "username": unquote(parts.username or ""),
        "password": unquote(parts.password or ""),
        "database": unquote(parts.path.removeprefix("/")),
    }
    yield from ((key, value) for key, value in found.items() if value)
    yield from ((key.lower(), value) for key, value in parse_qsl(parts.query))


def _settings(keywords: Keywords) -> ConnectionSettings:
    host = keywords.text("host", "localhost")
    database = keywords.text("database") or keywords.text("username")
    login_timeout = keywords.number("timeout", 15) or 15
    options = _libpq_options(keywords)
    pairs = [
        ("Driver", find_postgres_driver().name),
        ("Servername", host),
        ("Port", str(keywords.number("port", 5432, least=1, most=65535))),
        ("Database", database),
        ("UID", keywords.text("username")),
        ("PWD", keywords.text("password")),
        ("SSLmode", _ssl_mode(keywords.text("ssl mode"))),
    ]
    odbc = odbc_string((key, value) for key, value in pairs if value)
    settings = keywords.settings(odbc, host, database, login_timeout=login_timeout)
    return _shareable(settings, options)


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
            "The connection string's 'ssl mode' is Disable, Allow, Prefer, Require, VerifyCA or VerifyFull, "
            f"not '{value}'."
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


def _quoted(name: str, what: str) -> str:
    # Longer names would be cut off by the server, and then mean another table.
    checked_name(name, what, 63, lambda name: len(name.encode("utf-8", "surrogatepass")))
    return '"' + name.replace('"', '""') + '"'
