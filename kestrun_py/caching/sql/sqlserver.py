"""The SQL Server dialect, over Microsoft's ODBC driver or FreeTDS."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import ClassVar, Final

from kestrun_py.caching.sql._sqlserver_sql import sqlserver_statements
from kestrun_py.caching.sql.connection_string import (
    ConnectionSettings,
    Keywords,
    check_no_url,
    is_odbc_string,
    odbc_string,
    parse_ado_string,
    passed_through,
)
from kestrun_py.caching.sql.dialect import KEYS_TABLE, Failure, SqlDialect, Statements, checked_name
from kestrun_py.caching.sql.drivers import find_sqlserver_driver
from kestrun_py.errors import ArgumentError

__all__ = ["SqlServerDialect"]

# SqlClient's keywords, by the one that is used here; "" has no meaning for a cache.
_KEYWORDS: Final = {
    **dict.fromkeys(("server", "data source", "address", "addr", "network address"), "server"),
    **dict.fromkeys(("database", "initial catalog"), "database"),
    **dict.fromkeys(("user id", "userid", "uid", "user"), "user id"),
    **dict.fromkeys(("password", "pwd"), "password"),
    **dict.fromkeys(("integrated security", "trusted_connection"), "integrated security"),
    "authentication": "authentication",
    "encrypt": "encrypt",
    **dict.fromkeys(("trustservercertificate", "trust server certificate"), "trust server certificate"),
    **dict.fromkeys(("hostnameincertificate", "host name in certificate"), "host name in certificate"),
    **dict.fromkeys(("servercertificate", "server certificate"), "server certificate"),
    **dict.fromkeys(("serverspn", "server spn"), "server spn"),
    **dict.fromkeys(("connect timeout", "connection timeout", "timeout"), "connect timeout"),
    **dict.fromkeys(("command timeout", "commandtimeout"), "command timeout"),
    **dict.fromkeys(("application name", "app"), "application name"),
    **dict.fromkeys(("workstation id", "wsid"), "workstation id"),
    **dict.fromkeys(("applicationintent", "application intent"), "application intent"),
    **dict.fromkeys(("multisubnetfailover", "multi subnet failover"), "multi subnet failover"),
    **dict.fromkeys(("failover partner", "failoverpartner"), "failover partner"),
    **dict.fromkeys(("connectretrycount", "connect retry count"), "connect retry count"),
    **dict.fromkeys(("connectretryinterval", "connect retry interval"), "connect retry interval"),
    **dict.fromkeys(("column encryption setting", "columnencryption"), "column encryption setting"),
    **dict.fromkeys(("current language", "language"), "current language"),
    "pooling": "pooling",
    **dict.fromkeys(("max pool size", "maxpoolsize"), "max pool size"),
    **dict.fromkeys(("min pool size", "minpoolsize"), "min pool size"),
    **dict.fromkeys(
        (
            "persist security info",
            "persistsecurityinfo",
            "multipleactiveresultsets",
            "multiple active result sets",
            "asynchronous processing",
            "async",
            "enlist",
            "transaction binding",
            "type system version",
            "user instance",
            "replication",
            "network library",
            "network",
            "net",
            "packet size",
            "connection lifetime",
            "load balance timeout",
            "connection reset",
            "poolblockingperiod",
            "pool blocking period",
            "transparentnetworkipresolution",
            "transparent network ip resolution",
            "ipaddresspreference",
            "ip address preference",
            "enclave attestation url",
            "attestation protocol",
            "failover partner spn",
            "failoverpartnerspn",
            "context connection",
        ),
        "",
    ),
}
_ENCRYPT: Final = {
    **dict.fromkeys(("true", "yes", "mandatory"), "yes"),
    **dict.fromkeys(("false", "no", "optional"), "no"),
    "strict": "strict",
}
# ODBC's names for SqlClient's authentication methods.
_AUTHENTICATION: Final = {
    "sqlpassword": "SqlPassword",
    "activedirectoryintegrated": "ActiveDirectoryIntegrated",
    "activedirectorypassword": "ActiveDirectoryPassword",
    "activedirectoryinteractive": "ActiveDirectoryInteractive",
    "activedirectoryserviceprincipal": "ActiveDirectoryServicePrincipal",
    "activedirectorymanagedidentity": "ActiveDirectoryMsi",
    "activedirectorymsi": "ActiveDirectoryMsi",
}
_NEEDS_MICROSOFT: Final = ("authentication", "column encryption setting", "server certificate")
_LOST_STATES: Final = frozenset({"IMC01", "IMC02", "IMC03", "IMC04", "IMC05", "IMC06", "HYT01"})
# Numbers with which Azure SQL says that the database moves or throttles, and SQL Server that it stops.
_LOST_CODES: Final = frozenset({4060, 6005, 10928, 10929, 40197, 40501, 40613, 49918, 49919, 49920})
# FreeTDS's own numbers for a read, a write or an answer that failed, and a connection that was closed; their state says
# nothing. Often the first statement on a connection that was closed learns of it by the words alone.
_FREE_TDS_LOST: Final = frozenset({20004, 20006, 20017, 20020, 20047})
_FREE_TDS_UNKNOWN: Final = "[FreeTDS][SQL Server]Unknown error"
# Babelfish has one number for every error of PostgreSQL's that it knows no number of SQL Server's for.
_BABELFISH: Final = 33557097
_WORDS: Final = (
    (re.compile(r'relation ".+" does not exist'), Failure.NO_TABLE),
    (re.compile("could not serialize access"), Failure.DEADLOCK),
    (re.compile("due to lock timeout"), Failure.TIMEOUT),
)
_PADDED: Final = re.compile(r" \.*\Z")
_LOCAL: Final = frozenset({".", "(local)", "localhost"})


class SqlServerDialect(SqlDialect):
    """SQL Server, and servers that speak its protocol and T-SQL. Understands ADO.NET and ODBC connection strings."""

    name: ClassVar[str] = "SQL Server"
    option: ClassVar[str] = "sqlserver"
    default_schema: ClassVar[str] = "dbo"
    keywords: ClassVar[Mapping[str, str]] = _KEYWORDS

    def settings(self, connection_string: str) -> ConnectionSettings:
        if is_odbc_string(connection_string):
            return passed_through(connection_string)
        check_no_url(connection_string.strip(), "'Server=host,port;Database=...;User Id=...;Password=...'.")
        keywords = Keywords(parse_ado_string(connection_string), _KEYWORDS)
        server = keywords.text("server")
        if not server:
            raise ArgumentError("The connection string names no server; add 'Server=host' or 'Server=tcp:host,port'.")
        host, port = _server(server)
        if keywords.flag("integrated security", true=("sspi",)) is False and not (
            keywords.text("user id") or keywords.text("authentication")
        ):
            raise ArgumentError(
                "The connection string says nothing about the login; add 'User Id=...;Password=...' or "
                "'Integrated Security=True'."
            )
        pairs = _options(keywords, host, port)
        odbc = odbc_string((key, value) for key, value in pairs if value)
        login_timeout = keywords.number("connect timeout", 15) or 15
        return keywords.settings(
            odbc, f"{host},{port}" if port else host, keywords.text("database"), login_timeout=login_timeout
        )

    def statements(self, schema: str, table: str) -> Statements:
        quoted_schema = _quoted(schema, "schema_name")
        return sqlserver_statements(
            f"{quoted_schema}.{_quoted(table, 'table_name')}", f"{quoted_schema}.{_quoted(KEYS_TABLE, 'the key ring')}"
        )

    def row_id(self, key: str) -> str:
        # To SQL Server, texts that differ in nothing but the number of spaces at their ends are equal.
        return f"{key}." if _PADDED.search(key) else key

    def classify(self, state: str, codes: frozenset[int], text: str) -> Failure:
        if state == "40001" or codes & {1205, 3960}:
            return Failure.DEADLOCK
        if codes & {2601, 2627}:
            return Failure.DUPLICATE
        if state == "42S02" or 208 in codes:
            return Failure.NO_TABLE
        if state in ("HYT00", "S1T00") or 1222 in codes:
            return Failure.TIMEOUT
        if state.startswith("08") or state in _LOST_STATES or codes & _LOST_CODES:
            return Failure.LOST
        if codes & _FREE_TDS_LOST or _FREE_TDS_UNKNOWN in text:
            return Failure.LOST
        if _BABELFISH in codes:
            return next((failure for words, failure in _WORDS if words.search(text)), Failure.OTHER)
        return Failure.OTHER

    def script(self, schema: str, table: str) -> str:
        statements = self.statements(schema, table)
        keys = f"{_quoted(schema, 'schema_name')}.{_quoted(KEYS_TABLE, 'the key ring')}".replace("'", "''")
        missing = f"IF OBJECT_ID(N'{keys}', N'U') IS NULL\nBEGIN\n{statements.create_keys_table};\nEND"
        steps = ("SET XACT_ABORT ON", "BEGIN TRANSACTION", *statements.create_table, missing, "COMMIT TRANSACTION")
        return "".join(f"{step};\n" for step in steps)


def _server(value: str) -> tuple[str, str]:
    """The host (with its instance) and the port of ``[tcp:]host[\\instance][,port]``."""
    scheme, colon, rest = value.partition(":")
    if colon and scheme.lower() in ("np", "lpc", "admin"):
        raise ArgumentError("The connection string's server is not reached by TCP; write 'Server=tcp:host,port'.")
    server = rest if colon and scheme.lower() == "tcp" else value
    host, comma, port = (part.strip() for part in server.rpartition(",")) if "," in server else (server.strip(), "", "")
    if comma and not (port.isascii() and port.isdigit() and len(port) <= 5 and 0 < int(port) < 65536):
        raise ArgumentError("The port of the connection string's server must be a number from 1 to 65535.")
    if host.count(":") == 1:
        raise ArgumentError("The port of the connection string's server goes after a comma, as in 'host,1433'.")
    name, backslash, instance = host.partition("\\")
    if not name or name.lower() == "(localdb)":
        raise ArgumentError("The connection string's server is not a host that can be reached by TCP.")
    if name.lower() in _LOCAL:
        name = "localhost"
    return name + backslash + instance, port


def _options(keywords: Keywords, host: str, port: str) -> list[tuple[str, str]]:
    driver = find_sqlserver_driver()
    pairs = [
        ("Driver", driver.name),
        ("Database", keywords.text("database")),
        ("UID", keywords.text("user id")),
        ("PWD", keywords.text("password")),
        ("APP", keywords.text("application name")),
        ("WSID", keywords.text("workstation id")),
        ("Language", keywords.text("current language")),
        ("ApplicationIntent", keywords.text("application intent")),
        ("ServerSPN", keywords.text("server spn")),
        ("HostNameInCertificate", keywords.text("host name in certificate")),
    ]
    if driver.free_tds:
        return pairs + _free_tds_options(keywords, host, port)
    return pairs + _microsoft_options(keywords, host, port)


def _microsoft_options(keywords: Keywords, host: str, port: str) -> list[tuple[str, str]]:
    return [
        ("Server", f"{host},{port}" if port else host),
        ("Trusted_Connection", _yes(keywords.flag("integrated security", true=("sspi",)))),
        ("Encrypt", _encrypt(keywords)),
        ("TrustServerCertificate", _yes(keywords.flag("trust server certificate"))),
        ("ServerCertificate", keywords.text("server certificate")),
        ("MultiSubnetFailover", _yes(keywords.flag("multi subnet failover"))),
        ("Failover_Partner", keywords.text("failover partner")),
        ("ConnectRetryCount", keywords.text("connect retry count")),
        ("ConnectRetryInterval", keywords.text("connect retry interval")),
        ("ColumnEncryption", keywords.text("column encryption setting")),
        ("Authentication", _authentication(keywords)),
    ]


def _free_tds_options(keywords: Keywords, host: str, port: str) -> list[tuple[str, str]]:
    for keyword in _NEEDS_MICROSOFT:
        if keywords.text(keyword):
            raise ArgumentError(
                f"The connection string's '{keyword}' needs Microsoft's ODBC driver: pip install "
                '"kestrun-py[sqlserver]".'
            )
    encrypt = _encrypt(keywords)
    if encrypt != "no" and not keywords.flag("trust server certificate"):
        raise ArgumentError(
            "The connection string asks for encryption (as every one without Encrypt=False) with a certificate that is "
            "checked, which FreeTDS does not do: add TrustServerCertificate=True to do without the check, or get "
            'Microsoft\'s ODBC driver by pip install "kestrun-py[sqlserver]".'
        )
    return [
        ("Server", host),
        ("Port", port or ("" if "\\" in host else "1433")),
        ("TDS_Version", "7.4"),
        ("ClientCharset", "UTF-8"),
        ("Trusted_Connection", _yes(keywords.flag("integrated security", true=("sspi",)))),
        ("Encryption", {"yes": "require", "strict": "strict", "no": "request"}[encrypt]),
    ]


def _encrypt(keywords: Keywords) -> str:
    # Said to every driver: SqlClient encrypts unless told otherwise, and so does Microsoft's driver 18, but not the 17.
    value = keywords.text("encrypt") or "mandatory"
    if value.lower() not in _ENCRYPT:
        raise ArgumentError("The connection string's 'encrypt' must be True, False, Mandatory, Optional or Strict.")
    return _ENCRYPT[value.lower()]


def _authentication(keywords: Keywords) -> str:
    value = keywords.text("authentication")
    name = value.lower().replace(" ", "")
    if value and name not in _AUTHENTICATION:
        raise ArgumentError(
            "The connection string's 'authentication' is not supported by the ODBC driver; supported are "
            + ", ".join(_AUTHENTICATION.values())
            + "."
        )
    return _AUTHENTICATION.get(name, "")


def _yes(flag: bool) -> str:
    return "yes" if flag else ""


def _quoted(name: str, what: str) -> str:
    checked_name(name, what, 128, lambda name: len(name.encode("utf-16-le", "surrogatepass")) // 2)
    return "[" + name.replace("]", "]]") + "]"
