"""The dialects by name, and the one that a connection string is written for."""

from __future__ import annotations

from typing import Final

from kestrun_py.caching.sql.connection_string import is_odbc_string, parse_ado_string, parse_odbc_string
from kestrun_py.caching.sql.dialect import SqlDialect
from kestrun_py.caching.sql.postgres import PostgresDialect
from kestrun_py.caching.sql.postgres_settings import is_postgres_string
from kestrun_py.caching.sql.sqlserver import SqlServerDialect
from kestrun_py.errors import ArgumentError

__all__ = ["DIALECTS", "dialect_of"]

#: What the ``kestrun`` command calls them.
DIALECTS: Final[dict[str, type[SqlDialect]]] = {
    dialect.option: dialect for dialect in (SqlServerDialect, PostgresDialect)
}


def dialect_of(connection_string: str) -> SqlDialect:
    """Returns the dialect whose words a connection string uses; SQL Server's where it could be either."""
    return PostgresDialect() if _is_for_postgres(connection_string.strip()) else SqlServerDialect()


def _is_for_postgres(text: str) -> bool:
    if is_postgres_string(text):
        return True
    if is_odbc_string(text):
        driver = dict(parse_odbc_string(text)).get("driver", "").lower()
        return "postgres" in driver or "psqlodbc" in driver
    try:
        words = {word for word, _ in parse_ado_string(text)}
    except ArgumentError:
        return False
    return len(words & PostgresDialect.keywords.keys()) > len(words & SqlServerDialect.keywords.keys())
