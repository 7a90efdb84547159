"""What differs between the databases that a SQL cache speaks to."""

from __future__ import annotations

import math
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import Enum, auto
from typing import ClassVar, Final

from kestrun_py.caching.sql.connection_string import ConnectionSettings
from kestrun_py.errors import ArgumentError

__all__ = [
    "KEYS_TABLE",
    "Failure",
    "SqlDialect",
    "Statements",
    "checked_name",
    "fill_names",
    "time_text",
    "unix_time",
    "whole_seconds",
]

KEYS_TABLE: Final = "DataProtectionKeys"

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_LATEST_UNIX_TIME: Final = 253_402_300_799.0  # the last second of the year 9999
_PLACE: Final = re.compile(r"\{(table|keys)\}")
_TIME: Final = re.compile(
    r"(\d{4}-\d\d-\d\d)[ T](\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?\s*(?:([+-]\d\d(?::?\d\d)?)|Z)?\s*", re.ASCII
)


class Failure(Enum):
    """What a database's error means for the cache."""

    LOST = auto()  # the connection is gone
    DEADLOCK = auto()  # the statement was rolled back in favour of another one; trying again may work
    DUPLICATE = auto()  # another one inserted the row first
    NO_TABLE = auto()
    TIMEOUT = auto()  # the server gave the statement up
    OTHER = auto()


@dataclass(frozen=True, slots=True)
class Statements:
    """The statements of a cache. Every dialect takes the same parameters and answers with the same columns.

    A lease is a row beside the entry's: its Id is made from the entry's key, its Value is the holder's token and its
    ExpiresAtTime is when the lock frees itself. A lease that was released has expired, and its token is empty. Every
    statement decides by a conditional write to that row, which any isolation level serializes.

    Attributes:
        get: (key) -> [value], no row if there is no live entry. Slides the entry if that is due.
        refresh: (key). Slides the entry if that is due.
        store: (key, lease id, value, sliding seconds or 0, absolute time) -> [stored]. Ends the lease of the entry
            that is replaced. 0 if the entry came or went meanwhile: to be tried again.
        remove: (key, lease id).
        lock: (key, lease id, token, milliseconds) -> [held, present, value, absolute time].
        renew: (key, lease id, token, milliseconds) -> [renewed].
        commit: (key, lease id, token, mark, value, sliding seconds or 0, absolute time)
            -> [held, stored, the lease's value before, present before]. The mark stays in the lease row.
        commit_removal: (key, lease id, token, mark) -> as `commit`.
        release: (key, lease id, token). The entry expires as if it had not been held.
        claim: (lease id, token, milliseconds) -> [claimed]. Takes a lease that has no entry.
        purge: () -> [removed]. Removes at most 1,000 expired rows and passes over locked ones.
        table_exists: (schema, table) -> [number].
        server_version: () -> [text].
        read_keys: () -> [xml, id] of every row.
        touch: (lease id, any bytes). Writes the row, and so holds it to the end of the transaction.
        append_key: (friendly name, xml, expected number of rows) -> [added].
        create_table: The session table and its index, one statement each.
        create_keys_table: The table of the key ring.
    """

    get: str
    refresh: str
    store: str
    remove: str
    lock: str
    renew: str
    commit: str
    commit_removal: str
    release: str
    claim: str
    purge: str
    table_exists: str
    server_version: str
    read_keys: str
    touch: str
    append_key: str
    create_table: tuple[str, ...]
    create_keys_table: str


class SqlDialect(ABC):
    """A database that a SQL cache speaks to."""

    #: What log lines and messages call the cache.
    name: ClassVar[str]

    #: What the ``kestrun`` command calls it.
    option: ClassVar[str]

    #: The schema that a script means when it names none.
    default_schema: ClassVar[str]

    #: Every keyword of a connection string that is understood, in lower case, and what it stands for.
    keywords: ClassVar[Mapping[str, str]]

    @abstractmethod
    def settings(self, connection_string: str) -> ConnectionSettings:
        """Understands a connection string.

        Raises:
            ArgumentError: It is malformed, or holds a keyword or value that is not understood.
            CacheError: There is no ODBC driver for the database.
        """

    @abstractmethod
    def statements(self, schema: str, table: str) -> Statements:
        """Returns the statements for a table.

        Raises:
            ArgumentError: A name that the database does not take.
        """

    def row_id(self, key: str) -> str:
        """Returns what stands for a key in the table: the key itself, unless the database could not tell it apart."""
        return key

    @abstractmethod
    def classify(self, state: str, codes: frozenset[int], text: str) -> Failure:
        """Tells what an error means.

        Args:
            state: Its SQLSTATE.
            codes: The database's own error numbers, as far as the driver shows them.
            text: Its message.
        """

    @abstractmethod
    def script(self, schema: str, table: str) -> str:
        """Returns what creates the tables, to be run by hand."""


def checked_name(value: str, what: str, longest: int, length: Callable[[str], int]) -> str:
    """Returns the name of a schema or table that can be quoted."""
    if not isinstance(value, str) or not value.strip():
        raise ArgumentError(f"{what} must be given, as text.")
    if length(value) > longest:
        raise ArgumentError(f"{what} has {length(value)} characters; the database takes at most {longest}.")
    if not value.isprintable():
        raise ArgumentError(f"{what} holds a character that cannot be printed.")
    return value


def fill_names(template: str, **names: str) -> str:
    """Puts quoted names into a statement, in one pass: a name may hold what looks like another's place."""
    return _PLACE.sub(lambda match: names[match[1]], template)


def time_text(time: float | None) -> str:
    """Writes a Unix time as text that every dialect casts; the empty text stands for none."""
    if time is None:
        return ""
    moment = _EPOCH + timedelta(seconds=min(max(time, 0.0), _LATEST_UNIX_TIME))
    return f"{moment:%Y-%m-%d %H:%M:%S.%f} +00:00"


def unix_time(text: str | None) -> float | None:
    """Reads the text of a datetimeoffset (up to nine digits of a second) as Unix time."""
    if text is None:
        return None
    match = _TIME.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"'{text}' is not the text of a datetimeoffset")
    day, clock, fraction, offset = match.groups()
    moment = datetime.fromisoformat(f"{day}T{clock}{offset or '+00:00'}")
    return (moment - _EPOCH).total_seconds() + (float(f"0.{fraction}") if fraction else 0.0)


def whole_seconds(window: float | None) -> int:
    """A sliding window as the table holds it: whole seconds, rounded up; 0 for none."""
    return 0 if window is None else min(math.ceil(window), 2**31 - 1)
