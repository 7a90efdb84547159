"""The PostgreSQL dialect, over psqlODBC."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Final

from kestrun_py.caching.sql._postgres_sql import postgres_statements
from kestrun_py.caching.sql.connection_string import ConnectionSettings
from kestrun_py.caching.sql.dialect import KEYS_TABLE, Failure, SqlDialect, Statements, checked_name
from kestrun_py.caching.sql.postgres_settings import POSTGRES_KEYWORDS, postgres_settings

__all__ = ["PostgresDialect"]

_LOST_STATES: Final = frozenset({"57P01", "57P02", "57P03", "57P05", "25006"})


class PostgresDialect(SqlDialect):
    """PostgreSQL. Understands ``postgresql://`` URLs, and the connection strings of Npgsql, libpq and ODBC."""

    name: ClassVar[str] = "PostgreSQL"
    option: ClassVar[str] = "postgres"
    default_schema: ClassVar[str] = "public"
    keywords: ClassVar[Mapping[str, str]] = POSTGRES_KEYWORDS

    def settings(self, connection_string: str) -> ConnectionSettings:
        return postgres_settings(connection_string)

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


def _quoted(name: str, what: str) -> str:
    # Longer names would be cut off by the server, and then mean another table.
    checked_name(name, what, 63, lambda name: len(name.encode("utf-8", "surrogatepass")))
    return '"' + name.replace('"', '""') + '"'
