"""The cache in a table of SQL Server or PostgreSQL."""

from kestrun_py.caching.sql.cache import SqlCache
from kestrun_py.caching.sql.dialect import SqlDialect
from kestrun_py.caching.sql.dialects import DIALECTS, dialect_of
from kestrun_py.caching.sql.keys import SqlXmlRepository
from kestrun_py.caching.sql.postgres import PostgresDialect
from kestrun_py.caching.sql.schema import create_table, create_table_script
from kestrun_py.caching.sql.sqlserver import SqlServerDialect

__all__ = [
    "DIALECTS",
    "PostgresDialect",
    "SqlCache",
    "SqlDialect",
    "SqlServerDialect",
    "SqlXmlRepository",
    "create_table",
    "create_table_script",
    "dialect_of",
]
