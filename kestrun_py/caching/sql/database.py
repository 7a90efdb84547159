"""Running a cache's statements: connections, repeated attempts, and errors in the cache's own terms."""

from __future__ import annotations

import asyncio
import copy
import random
import re
import shlex
from collections.abc import Callable
from dataclasses import replace
from typing import Final, TypeVar

from kestrun_py.caching.sql import _odbc
from kestrun_py.caching.sql.connector import Connector
from kestrun_py.caching.sql.dialect import KEYS_TABLE, Failure, SqlDialect
from kestrun_py.caching.sql.link import Link, Row
from kestrun_py.caching.sql.pool import ConnectionPool, error_text
from kestrun_py.errors import CacheError, CacheTableMissingError, CacheTimeoutError, CacheUnavailableError

__all__ = ["Database", "DuplicateError", "SerializationError"]

_T = TypeVar("_T")

_RETRIES: Final = 3
_FIRST_PAUSE_SECONDS: Final = 0.01
_CODE: Final = re.compile(r"\((\d+)\)")
_UNHARMED: Final = frozenset({Failure.DEADLOCK, Failure.DUPLICATE, Failure.NO_TABLE})


class DuplicateError(CacheUnavailableError):
    """Another one inserted the row first."""


class SerializationError(CacheUnavailableError):
    """The database preferred another transaction, as often as was tried."""


class Database:
    """One table of a database, and its connections.

    Args:
        dialect: The database's dialect.
        connection_string: How to connect.
        schema: The schema of the table.
        table: The table.
    """

    def __init__(self, dialect: SqlDialect, connection_string: str, schema: str, table: str) -> None:
        _odbc.check_odbc()
        self.dialect = dialect
        self.schema = schema
        self.table = table
        self.statements = dialect.statements(schema, table)
        self.settings = dialect.settings(connection_string)
        self._connector = Connector(self.settings)
        self._pool: ConnectionPool | None = None

    @property
    def pool(self) -> ConnectionPool:
        """The connections; they belong to the event loop of their first use."""
        if self._pool is None:
            self._pool = ConnectionPool(self.settings, self._connector, self.dialect.name, self._is_reusable)
        return self._pool

    def single(self) -> Database:
        """The same table, over one connection of its own."""
        database = copy.copy(self)
        database.settings = replace(self.settings, min_size=0, max_size=1)
        database._pool = None
        return database

    async def close(self) -> None:
        """Closes the connections."""
        await self.pool.close()

    async def run(
        self,
        work: Callable[[Link], _T],
        timeout: float,
        *,
        undo: Callable[[Link], object] | None = None,
        retried: frozenset[Failure] = frozenset({Failure.LOST, Failure.DEADLOCK}),
    ) -> _T:
        """Runs a function with a connection, again if that may help: at most three times, within the timeout.

        Args:
            work: The function; doing it twice must be as good as doing it once.
            timeout: Seconds for all of it.
            undo: What is done in the same connection when the caller left before `work` was done.
            retried: The failures after which it is tried again.

        Raises:
            CacheTimeoutError: The time was up.
            CacheUnavailableError: There is no connection to be had, or the database gave an error.
            CacheTableMissingError: The table does not exist.
            DuplicateError: Another one inserted the row first.
        """
        deadline = asyncio.get_running_loop().time() + timeout
        pause = _FIRST_PAUSE_SECONDS
        for attempt in range(_RETRIES + 1):
            try:
                return await self.pool.run(work, deadline, undo)
            except _odbc.pyodbc.Error as error:
                failure = self.failure(error)
                problem = self._translated(error, failure)
            if failure is Failure.LOST:
                self.pool.flush()
            if failure not in retried or attempt == _RETRIES:
                break
            if failure is not Failure.LOST:
                await asyncio.sleep(pause * random.uniform(0.5, 1.5))
                pause *= 2
        raise problem

    async def query(
        self,
        statement: str,
        *parameters: object,
        timeout: float,
        retried: frozenset[Failure] = frozenset({Failure.LOST, Failure.DEADLOCK}),
    ) -> list[Row]:
        """Runs one statement; see `run`."""
        return await self.run(lambda link: link.query(statement, *parameters), timeout, retried=retried)

    def missing_tables(self, link: Link) -> list[str]:
        """Those of the session table and the table of the key ring that do not exist; in a connection's thread."""
        exists = self.statements.table_exists
        return [name for name in (self.table, KEYS_TABLE) if not link.query(exists, self.schema, name)[0][0]]

    def missing(self, table: str) -> CacheTableMissingError:
        """The error that says that a table is missing, and what makes it."""
        return CacheTableMissingError(
            f"{self._place} has no table {self.schema}.{table}. Create it by: kestrun cache create-table "
            f"--connection-string ... --schema {shlex.quote(self.schema)} --table {shlex.quote(self.table)} "
            f"--dialect {self.dialect.option}"
        )

    @property
    def _place(self) -> str:
        return f"{self.dialect.name} ({self.settings.address})"

    def failure(self, error: BaseException) -> Failure:
        """What a database's error means."""
        text = error_text(error)
        codes = frozenset(int(code) for code in _CODE.findall(text) if len(code) < 10)
        state = str(error.args[0]) if error.args else ""
        return self.dialect.classify(state, codes, text)

    def _is_reusable(self, error: BaseException) -> bool:
        return isinstance(error, _odbc.pyodbc.Error) and self.failure(error) in _UNHARMED

    def _translated(self, error: _odbc.pyodbc.Error, failure: Failure) -> CacheError:
        place = self._place
        text = self.settings.without_secrets(error_text(error))
        match failure:
            case Failure.NO_TABLE:
                keys = re.search(rf"{re.escape(self.schema)}\.{KEYS_TABLE}(?!\w)", text)
                return self.missing(KEYS_TABLE if keys else self.table)
            case Failure.TIMEOUT:
                return CacheTimeoutError(f"{place} did not answer in time: {text}")
            case Failure.DEADLOCK:
                return SerializationError(f"{place} preferred other transactions: {text}")
            case Failure.DUPLICATE:
                return DuplicateError(f"{place}: {text}")
            case Failure.LOST:
                return CacheUnavailableError(f"{place} closed the connection: {text}")
            case _:
                return CacheUnavailableError(f"{place} gave an error: {text}")
