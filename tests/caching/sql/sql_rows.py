"""Looking at, and ageing, the rows of a cache's table."""

from __future__ import annotations

import contextlib
from typing import Any

from kestrun_py.caching.sql import SqlCache

LEASE = "kr.lock:"


class Rows:
    """The rows of a cache's table in PostgreSQL, through a connection of its own."""

    def __init__(self, cache: SqlCache, connection: Any) -> None:
        database = cache._database
        self.table = f'"{database.schema}"."{database.table}"'
        self._connection = connection

    def execute(self, statement: str, *parameters: object) -> list[Any]:
        with contextlib.closing(self._connection.cursor()) as cursor:
            cursor.execute(statement.replace("{table}", self.table), *parameters)
            return cursor.fetchall() if cursor.description else []

    def ids(self) -> list[str]:
        return sorted(row[0] for row in self.execute('SELECT "Id" FROM {table}'))

    def row(self, key: str) -> tuple[bytes, float, int | None, float | None] | None:
        """Value, seconds until it expires, sliding seconds, seconds until its absolute expiration."""
        rows = self.execute(
            'SELECT "Value", CAST(extract(epoch FROM "ExpiresAtTime" - now()) AS float8), '
            '"SlidingExpirationInSeconds", '
            'CAST(extract(epoch FROM "AbsoluteExpiration" - now()) AS float8) '
            'FROM {table} WHERE "Id" = ?',
            key,
        )
        return tuple(rows[0]) if rows else None

    def expires_in(self, key: str) -> float:
        row = self.row(key)
        assert row is not None
        return row[1]

    def age(self, key: str, seconds: float) -> None:
        """Moves a row's times into the past, as if it had been written that much earlier."""
        self.execute(
            'UPDATE {table} SET "ExpiresAtTime" = "ExpiresAtTime" - interval \'1 second\' * ?, '
            '"AbsoluteExpiration" = "AbsoluteExpiration" - interval \'1 second\' * ? WHERE "Id" = ?',
            seconds,
            seconds,
            key,
        )
