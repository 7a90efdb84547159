"""Making the tables of a SQL cache, as ``dotnet sql-cache create`` does."""

from __future__ import annotations

from kestrun_py.caching.sql import _odbc
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
) -> list[str]:
    """Creates the session table with its index, and the table of the key ring, in one transaction.

    One that exists is left as it is: ``dotnet sql-cache create`` makes the session table alone.

    Returns:
        The names of the tables that were made: one or both.

    Raises:
        ArgumentError: The connection string or a name is not usable.
        CacheError: Both tables exist; nothing was changed.
        CacheUnavailableError: The database cannot be reached, or refuses (for instance, the schema does not exist).
    """
    database = Database(dialect, connection_string, schema_name, table_name)
    statements = database.statements

    def create(link: Link) -> list[str]:
        missing = database.missing_tables(link)
        try:
            with link.transaction():
                for step in statements.create_table if table_name in missing else ():
                    link.query(step)
                if KEYS_TABLE in missing:
                    link.query(statements.create_keys_table)
        except _odbc.pyodbc.Error:
            if database.missing_tables(link) == missing:
                raise
            return create(link)  # another process was quicker
        return missing

    try:
        made = await database.run(create, timeout, retried=frozenset())
    finally:
        await database.close()
    if not made:
        raise CacheError(
            f"The table {schema_name}.{table_name} exists already, and so does {KEYS_TABLE}; nothing was changed."
        )
    return made
