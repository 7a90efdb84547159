"""The key ring beside the sessions of a SQL database."""

from __future__ import annotations

from typing import Final

from kestrun_py.caching.sql.database import Database
from kestrun_py.caching.sql.dialect import KEYS_TABLE, Failure
from kestrun_py.caching.sql.link import Link
from kestrun_py.data_protection.repositories import StoredElement, XmlRepository

__all__ = ["SqlXmlRepository"]

_TIMEOUT_SECONDS: Final = 10.0
_TURN: Final = "kr.lock:kr.keys"
_ANY_RACE: Final = frozenset({Failure.LOST, Failure.DEADLOCK, Failure.DUPLICATE})


class SqlXmlRepository(XmlRepository):
    """Keeps a key ring in the table of ASP.NET Core's Entity Framework repository, ``DataProtectionKeys``.

    Args:
        database: The database, with the session table beside which the keys are.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def __str__(self) -> str:
        database = self._database
        return f"the table {database.schema}.{KEYS_TABLE} of {database.dialect.name} ({database.settings.address})"

    async def read_all(self) -> list[StoredElement]:
        rows = await self._database.query(self._database.statements.read_keys, timeout=_TIMEOUT_SECONDS)
        return [StoredElement(f"row {row[1]} of the table {KEYS_TABLE}", str(row[0])) for row in rows]

    async def append(self, xml: str, friendly_name: str, expected: int) -> bool:
        statements = self._database.statements
        attempts = 0

        def add(link: Link) -> bool:
            nonlocal attempts
            attempts += 1
            stored = [row[0] for row in link.query(statements.read_keys)]
            if len(stored) != expected:
                # The answer to an earlier attempt may have been lost after it was carried out.
                return attempts > 1 and xml in stored
            with link.transaction():
                # Writing this row makes the nodes take turns: it stays theirs to the end of the transaction.
                link.query(statements.touch, _TURN, b"turn")
                return bool(link.query(statements.append_key, friendly_name, xml, expected)[0][0])

        return await self._database.run(add, _TIMEOUT_SECONDS, retried=_ANY_RACE)
