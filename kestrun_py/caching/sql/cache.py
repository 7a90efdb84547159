"""A cache in a table of a SQL database (ASP.NET Core's ``SqlServerCache``)."""

from __future__ import annotations

import time
from typing import ClassVar, Final

from kestrun_py.caching._arguments import checked_key, checked_value
from kestrun_py.caching.contract import DEFAULT_TIMEOUT, DistributedCache
from kestrun_py.caching.expiration import Expiration
from kestrun_py.caching.leases import Busy, Lease
from kestrun_py.caching.sql.database import Database, DuplicateError, SerializationError
from kestrun_py.caching.sql.dialect import KEYS_TABLE, Failure, SqlDialect, time_text, unix_time, whole_seconds
from kestrun_py.caching.sql.keys import SqlXmlRepository
from kestrun_py.caching.sql.link import Link
from kestrun_py.caching.sql.purge import ExpiredItemsPurge
from kestrun_py.caching.status import CacheStatus
from kestrun_py.conversion.timespan import Duration, to_seconds
from kestrun_py.errors import ArgumentError, CacheUnavailableError, LeaseLostError
from kestrun_py.logging import Logger, default_logger

__all__ = ["SqlCache"]

_LEASE_PREFIX: Final = "kr.lock:"
_LONGEST_ID: Final = 449
_LONGEST_LEASED: Final = _LONGEST_ID - len(_LEASE_PREFIX)
_NO_LEASE: Final = "kr.lock:kr.none"
_MARK: Final = b"done:"
_SHORTEST_INTERVAL_SECONDS: Final = 300.0
_SHORTEST_ATTEMPT_SECONDS: Final = 0.1
_ANY_RACE: Final = frozenset({Failure.LOST, Failure.DEADLOCK, Failure.DUPLICATE})
_LOST: Final = frozenset({Failure.LOST})


class SqlCache(DistributedCache):
    """Keeps entries in the table that ASP.NET Core's cache keeps them in, so that both can use one.

    The table holds whole seconds of a sliding window; fractions are rounded up. The lock of an entry is a row beside
    the entry's, with the Id ``kr.lock:`` and the entry's key. It is a lease: no connection is held while a request
    runs, and a row that its holder left behind is removed like any expired entry. Times are the database's.

    Args:
        connection_string: ADO.NET's for SQL Server, Npgsql's or a URL for PostgreSQL, or an ODBC connection string.
        schema_name: The schema of the table.
        table_name: The table; ``kestrun cache create-table`` makes it.
        dialect: The database's dialect.
        expired_items_deletion_interval: How often expired entries are removed; 5 minutes at least.
        default_sliding_expiration: The sliding window of an entry that is stored without any expiration.
        logger: Where the removal of expired entries is reported.

    Raises:
        ArgumentError: The connection string, a name or a time is not usable.
        CacheError: There is no ODBC driver.
    """

    name: ClassVar[str] = "SQL"

    def __init__(
        self,
        connection_string: str,
        *,
        schema_name: str,
        table_name: str,
        dialect: SqlDialect,
        expired_items_deletion_interval: Duration = 1800,
        default_sliding_expiration: Duration = 1200,
        logger: Logger = default_logger,
    ) -> None:
        interval = to_seconds(expired_items_deletion_interval, "expired_items_deletion_interval")
        if interval < _SHORTEST_INTERVAL_SECONDS:
            raise ArgumentError("ExpiredItemsDeletionInterval cannot be less than the minimum value of 5 minutes.")
        self._default_sliding = to_seconds(default_sliding_expiration, "default_sliding_expiration")
        if self._default_sliding <= 0:
            raise ArgumentError("The sliding expiration value must be positive.")
        if not isinstance(connection_string, str) or not connection_string.strip():
            raise ArgumentError("connection_string must be given, as text.")
        self._database = Database(dialect, connection_string, schema_name, table_name)
        self._statements = self._database.statements
        self._purge = ExpiredItemsPurge(self._database, interval, logger)
        self.name = dialect.name  # type: ignore[misc]  # the class serves every dialect

    async def start(self) -> None:
        await self._database.pool.fill()
        self._purge.start()

    async def close(self) -> None:
        try:
            await self._purge.close()
        finally:
            await self._database.close()

    async def ping(self, *, timeout: float = DEFAULT_TIMEOUT) -> CacheStatus:
        database = self._database

        def ask(link: Link) -> CacheStatus:
            begun = time.perf_counter()
            link.query("SELECT 1")
            round_trip = time.perf_counter() - begun
            version = str(link.query(self._statements.server_version)[0][0])
            missing = database.missing_tables(link)
            details = {"address": database.settings.address}
            for label, table in (("table", database.table), ("key ring", KEYS_TABLE)):
                details[label] = f"{database.schema}.{table} {'does not exist' if table in missing else 'exists'}"
            problems = (str(database.missing(database.table)),) if database.table in missing else ()
            return CacheStatus(link.product(), version, round_trip, details, problems)

        return await database.run(ask, timeout)

    def key_repository(self) -> SqlXmlRepository:
        """The key ring beside the sessions: the table ``DataProtectionKeys`` of the same schema."""
        return SqlXmlRepository(self._database)

    # Entries

    async def get(self, key: str, *, timeout: float = DEFAULT_TIMEOUT) -> bytes | None:
        rows = await self._database.query(self._statements.get, self._entry_id(key), timeout=timeout)
        return bytes(rows[0][0]) if rows else None

    async def store(self, key: str, value: bytes, expiration: Expiration, *, timeout: float = DEFAULT_TIMEOUT) -> None:
        entry_id = self._entry_id(key)
        parameters = (entry_id, _lease_to_end(entry_id), checked_value(value), *self._expiration(expiration))

        def write(link: Link) -> None:
            while not link.query(self._statements.store, *parameters)[0][0]:
                pass  # the entry came or went meanwhile

        await self._database.run(write, timeout, retried=_ANY_RACE)

    async def refresh(self, key: str, *, timeout: float = DEFAULT_TIMEOUT) -> None:
        await self._database.query(self._statements.refresh, self._entry_id(key), timeout=timeout)

    async def remove(self, key: str, *, timeout: float = DEFAULT_TIMEOUT) -> None:
        entry_id = self._entry_id(key)
        await self._database.query(self._statements.remove, entry_id, _lease_to_end(entry_id), timeout=timeout)

    # Entries under a lease

    async def _try_lock(self, key: str, token: str, lease_time: float, timeout: float) -> Lease | Busy | None:
        entry_id, lease_id = self._ids(key)
        secret = token.encode("ascii")
        period = _milliseconds(lease_time)

        def take(link: Link) -> Lease | Busy | None:
            held, present, value, absolute = link.query(self._statements.lock, entry_id, lease_id, secret, period)[0]
            if held and value is not None:
                return Lease(key, token, bytes(value), unix_time(absolute))
            if held:
                give_back(link)  # the entry went while its lease was taken
                return None
            return Busy.BUSY if present else None

        def give_back(link: Link) -> None:
            link.query(self._statements.release, entry_id, lease_id, secret)

        try:
            # The last of many attempts comes with hardly any time; cut short, it would cost its connection.
            return await self._database.run(
                take, max(timeout, _SHORTEST_ATTEMPT_SECONDS), undo=give_back, retried=_LOST
            )
        except (DuplicateError, SerializationError):
            return Busy.BUSY

    async def renew(self, lease: Lease, *, lease_time: float, timeout: float) -> bool:
        rows = await self._database.query(
            self._statements.renew,
            *self._ids(lease.key),
            lease.token.encode("ascii"),
            _milliseconds(lease_time),
            timeout=timeout,
        )
        return bool(rows[0][0])

    async def commit(
        self, lease: Lease, value: bytes | None, expiration: Expiration, *, timeout: float = DEFAULT_TIMEOUT
    ) -> None:
        token = lease.token.encode("ascii")
        mark = _MARK + token
        parameters: tuple[object, ...] = (*self._ids(lease.key), token, mark)
        statement = self._statements.commit_removal
        if value is not None:
            statement = self._statements.commit
            parameters += (checked_value(value), *self._expiration(expiration))
        attempts = 0

        def write(link: Link) -> tuple[bool, bool]:
            nonlocal attempts
            attempts += 1
            held, stored, before, present = link.query(statement, *parameters)[0]
            # An attempt whose answer was lost left its mark.
            done = attempts > 1 and before == mark and bool(present) == (value is not None)
            return bool(held), bool(held and stored) or done

        held, done = await self._database.run(write, timeout)
        if done:
            return
        if attempts > 1 and not held:
            raise CacheUnavailableError(
                f"{self.name} lost the connection during a commit; whether the entry was written is not known."
            )
        raise LeaseLostError("The entry was taken over, replaced or removed, or has expired; nothing was written.")

    async def release(self, lease: Lease, *, timeout: float = DEFAULT_TIMEOUT) -> None:
        await self._database.query(
            self._statements.release, *self._ids(lease.key), lease.token.encode("ascii"), timeout=timeout
        )

    def _entry_id(self, key: str) -> str:
        """The Id of an entry's row."""
        entry_id = self._database.dialect.row_id(_checked(key))
        _check_length(entry_id, _LONGEST_ID, "The key of an entry")
        return entry_id

    def _ids(self, key: str) -> tuple[str, str]:
        """The Ids of an entry's row and of its lease's."""
        entry_id = self._entry_id(key)
        _check_length(entry_id, _LONGEST_LEASED, "The key of an entry that is locked")
        return entry_id, _LEASE_PREFIX + entry_id

    def _expiration(self, expiration: Expiration) -> tuple[int, str]:
        """The sliding window and the absolute time as the statements take them."""
        if expiration.sliding is None and expiration.absolute is None:
            return whole_seconds(self._default_sliding), ""
        return whole_seconds(expiration.sliding), time_text(expiration.absolute)


def _checked(key: str) -> str:
    """Returns a key that the table can hold."""
    checked_key(key)
    if "\0" in key or key.startswith(_LEASE_PREFIX):
        raise ArgumentError(f"The key of an entry holds no NUL character and does not begin with '{_LEASE_PREFIX}'.")
    return key


def _lease_to_end(entry_id: str) -> str:
    """The Id of the lease that an entry may have; of one that no entry has, for a key too long to be locked."""
    return _LEASE_PREFIX + entry_id if _length(entry_id) <= _LONGEST_LEASED else _NO_LEASE


def _check_length(text: str, longest: int, what: str) -> None:
    if (length := _length(text)) > longest:
        raise ArgumentError(f"{what} has {length} characters; a SQL table takes at most {longest}.")


def _length(text: str) -> int:
    """The number of UTF-16 units, which the table's column counts."""
    return len(text) if text.isascii() else len(text.encode("utf-16-le", "surrogatepass")) // 2


def _milliseconds(lease_time: float) -> int:
    return min(max(round(lease_time * 1000), 1), 2**31 - 1)
