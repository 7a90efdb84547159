"""Making the tables of a SQL cache, as ``dotnet sql-cache create`` does."""

from __future__ import annotations

from kestrun_py.caching.sql._odbc import pyodbc
from kestrun_py.caching.sql.database import Database
from kestrun_py.caching.sql.dialect import KEYS_TABLE, SqlDialect
from kestrun_py.caching.sql.link import Link
from kestrun_py.errors import CacheError

__all__ = ["create_table", "create_table_script"]


def create_table_script(dialect: SqlDialect, schema_name: str, table_name: str) -> str:
    """Returns the SQL that creates the session table with its index, and the table of the key ring if it is missing.

    Raises:
        ArgumentError: A name that the database does not take.
    """
    return dialect.script(schema_name, table_name)


async def create_table(
    connection_string: str,
    *,
    schema_name: str,
    table_name: str,
    dialect: SqlDialect,
    timeout: float = 30.0,
) -> None:
    """Creates the session table with its index, and the table of the key ring if it is missing, in one transaction.

    Raises:
        ArgumentError: The connection string or a name is not usable.
        CacheError: The session table exists; nothing was changed.
        CacheUnavailableError: The database cannot be reached, or refuses (for instance, the schema does not exist).
    """
    database = Database(dialect, connection_string, schema_name, table_name)
    statements = database.statements

    def exists(link: Link, table: str) -> bool:
        return bool(link.query(statements.table_exists, schema_name, table)[0][0])

    def create(link: Link) -> bool:
        if exists(link, table_name):
            return False
        steps = list(statements.create_table)
        if not exists(link, KEYS_TABLE):
            steps.append(statements.create_keys_table)
        try:
            with link.transaction():
                for step in steps:
                    link.query(step)
        except pyodbc.Error:
            if exists(link, table_name):
                return False  # somebody else was quicker
            raise
        return True

    try:
        created = await database.run(create, timeout, retried=frozenset())
    finally:
        await database.close()
    if not created:
        raise CacheError(f"The table {schema_name}.{table_name} exists already; nothing was changed.")
