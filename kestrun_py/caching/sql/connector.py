"""Opening connections, with or without a session of their own."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace

from kestrun_py.caching.sql import _odbc
from kestrun_py.caching.sql.connection_string import ConnectionSettings, SessionSettings
from kestrun_py.caching.sql.link import Link

__all__ = ["Connector"]


class Connector:
    """Opens connections to the first of several servers that gives one.

    Args:
        settings: How to connect.
    """

    def __init__(self, settings: ConnectionSettings) -> None:
        *self._first, self._last = [_Server(server) for server in (settings, *settings.fallbacks)]

    async def open(self) -> Link:
        """Connects.

        Raises:
            pyodbc.Error: No server can be reached, or the last one refuses.
        """
        for server in self._first:
            with suppress(_odbc.pyodbc.Error):
                return await server.open()
        return await self._last.open()


class _Server:
    """Opens connections to a server, or to a pooler in front of it.

    A pooler in transaction mode gives the session behind a connection to another client after each transaction. What a
    connection sets or prepares there would stay for that client, so nothing is set or prepared then. Whether the
    session belongs to the connection is found out once, by the first connection.

    Args:
        settings: How to connect.
    """

    def __init__(self, settings: ConnectionSettings) -> None:
        self._settings = settings
        self._session = settings.session

    async def open(self) -> Link:
        if self._session is not None:
            link = await self._open_session(self._session)
            if link is not None:
                return link
            self._session = None
        return await Link.open(self._settings)

    async def _open_session(self, session: SessionSettings) -> Link | None:
        """Returns a connection that has a session of its own; None if there is a pooler."""
        try:
            link = await Link.open(replace(self._settings, odbc=session.odbc, prefix=""))
        except _odbc.pyodbc.Error as error:
            if session.refusal.search(str(error)):
                return None
            raise
        try:
            claimed = await link.call(lambda link: link.query(session.claim))
        except BaseException:
            link.abandon()
            raise
        if claimed:
            return link
        await link.close()
        return None
