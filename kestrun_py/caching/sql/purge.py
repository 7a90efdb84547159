"""Removing expired entries from a SQL table."""

from __future__ import annotations

import asyncio
import contextlib
import random
import secrets
from typing import Final

from kestrun_py.caching.sql.database import Database, DuplicateError
from kestrun_py.errors import CacheError
from kestrun_py.logging import Logger

__all__ = ["ExpiredItemsPurge"]

_CLAIM: Final = "kr.lock:kr.purge"
_BATCH_ROWS: Final = 1000
_TIMEOUT_SECONDS: Final = 60.0
_LONGEST_PERIOD_MILLISECONDS: Final = 2**31 - 1  # what SQL Server adds to a time at most


class ExpiredItemsPurge:
    """Removes expired entries in the background, by one of the processes that share the table.

    Args:
        database: The database and table.
        interval: Seconds between two removals; drawn from the tenth around it.
        logger: Where removals and their failures are reported.
    """

    def __init__(self, database: Database, interval: float, logger: Logger) -> None:
        self._database = database
        self._interval = interval
        self._logger = logger
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begins to remove expired entries: soon, and then at every interval."""
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._repeat())

    async def close(self) -> None:
        """Stops it."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
            self._task = None

    async def run(self) -> int:
        """Removes what has expired, unless another process did so within the interval.

        Returns:
            The number of rows that were removed.
        """
        # A connection of its own: no request waits for a removal to give one back.
        database = self._database.single()
        try:
            return await self._remove(database) if await self._claim(database) else 0
        finally:
            await database.close()

    async def _repeat(self) -> None:
        await asyncio.sleep(self._interval * random.uniform(0.02, 0.1))
        while True:
            try:
                removed = await self.run()
            except CacheError as error:
                self._logger.warning("Expired entries could not be removed: {Error}", error)
            except Exception as error:
                self._logger.error("Expired entries could not be removed", exception=error)
            else:
                self._logger.debug("Removed {Count} expired entries.", removed)
            await asyncio.sleep(self._interval * random.uniform(0.95, 1.05))

    async def _claim(self, database: Database) -> bool:
        # A little less than the shortest pause, so that one process does not find its own claim in the way.
        period = min(round(self._interval * 900), _LONGEST_PERIOD_MILLISECONDS)
        try:
            rows = await database.query(
                database.statements.claim, _CLAIM, secrets.token_bytes(8), period, timeout=_TIMEOUT_SECONDS
            )
        except DuplicateError:
            return False
        return bool(rows[0][0])

    async def _remove(self, database: Database) -> int:
        removed = 0
        while True:
            batch: int = (await database.query(database.statements.purge, timeout=_TIMEOUT_SECONDS))[0][0]
            removed += batch
            if batch < _BATCH_ROWS:
                return removed
