"""One ODBC connection and the thread that its calls run in."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, Future
from functools import partial
from queue import SimpleQueue
from typing import Any, Final, ParamSpec, TypeAlias, TypeVar

from kestrun_py.caching.sql import _odbc
from kestrun_py.caching.sql.connection_string import ConnectionSettings

__all__ = ["Link", "Row"]

Row: TypeAlias = Sequence[Any]

_P = ParamSpec("_P")
_T = TypeVar("_T")
_Job: TypeAlias = tuple[Future[Any], Callable[[], Any]]

# SQL Server's number, which FreeTDS passes on: the server has rolled back already, as it does after a deadlock.
_NOTHING_TO_ROLL_BACK: Final = "(3903)"


class _Thread(Executor):
    """One thread that runs calls in order.

    It is a daemon, unlike the threads of a ThreadPoolExecutor: a call that waits for a server which does not answer
    must not keep the process from ending.
    """

    def __init__(self) -> None:
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        self._thread = threading.Thread(target=_serve, args=(self._jobs,), name="kestrun-sql", daemon=True)
        contextvars.Context().run(self._thread.start)  # it serves every request, so it belongs to none

    @property
    def ended(self) -> bool:
        return not self._thread.is_alive()

    def submit(self, fn: Callable[_P, _T], /, *args: _P.args, **kwargs: _P.kwargs) -> Future[_T]:
        future: Future[_T] = Future()
        self._jobs.put((future, partial(fn, *args, **kwargs)))
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Ends the thread after the calls that were submitted; does not wait for it."""
        self._jobs.put(None)


def _serve(jobs: SimpleQueue[_Job | None]) -> None:
    while (job := jobs.get()) is not None:
        future, call = job
        if future.set_running_or_notify_cancel():
            try:
                result = call()
            except BaseException as error:
                future.set_exception(error)
            else:
                future.set_result(result)
                del result
        # What a call closed over must not live until the next one comes.
        del job, future, call


class Link:
    """One connection to the database; made by `open`.

    `query` and `transaction` block, and are for functions that `call` runs in the connection's thread: one function,
    and so one change of thread, for an operation of several statements.

    Attributes:
        idle_since: When the connection was last used, by the event loop's clock.
    """

    def __init__(self, connection: Any, raw: _odbc.pyodbc.Connection, thread: _Thread, prefix: str = "") -> None:
        self.idle_since = 0.0
        self._prefix = prefix
        self._connection = connection
        self._raw = raw
        self._thread = thread
        self._cursors: dict[str, _odbc.pyodbc.Cursor] = {}

    @classmethod
    async def open(cls, settings: ConnectionSettings) -> Link:
        """Connects.

        Raises:
            pyodbc.Error: The server cannot be reached, or refuses.
        """
        opened: list[_odbc.pyodbc.Connection] = []

        async def keep(raw: _odbc.pyodbc.Connection) -> None:
            # psqlODBC knows no such timeout: PostgreSQL's dialect sets the server's.
            with contextlib.suppress(_odbc.pyodbc.Error):
                raw.timeout = settings.command_timeout
            opened.append(raw)

        thread = _Thread()
        try:
            connection = await _odbc.aioodbc.connect(
                dsn=settings.odbc,
                autocommit=True,
                timeout=settings.login_timeout,
                executor=thread,
                after_created=keep,
            )
        except BaseException:
            thread.shutdown()
            raise
        return cls(connection, opened[0], thread, settings.prefix)

    def call(self, work: Callable[[Link], _T]) -> asyncio.Future[_T]:
        """Runs a function with this connection, in its thread, after those that were called before."""
        return asyncio.get_running_loop().run_in_executor(self._thread, work, self)

    @property
    def ended(self) -> bool:
        """Whether the thread of a closed or abandoned connection is done."""
        return self._thread.ended

    async def close(self) -> None:
        """Disconnects; what the connection has not committed is rolled back."""
        try:
            await self.call(Link._close_cursors)
            await self._connection.close()
        except _odbc.pyodbc.Error:
            self.abandon()
        except asyncio.CancelledError:
            self.abandon()
            raise
        else:
            self._thread.shutdown()

    def abandon(self, last: Callable[[Link], object] | None = None) -> None:
        """Leaves the connection to its thread, which disconnects as soon as its last call has returned.

        Args:
            last: What the thread calls before it disconnects.
        """
        # aioodbc would disconnect in the event loop's thread when it drops its object, and wait for that call.
        self._connection._conn = None
        if last is not None:
            self._thread.submit(last, self)
        self._thread.submit(self._close_cursors)
        self._thread.submit(self._raw.close)
        self._thread.shutdown()

    # In the connection's thread

    def query(self, statement: str, *parameters: object) -> list[Row]:
        """Runs a statement or batch and returns the rows of its first result set, of which there may be none.

        All that a batch answers is read: an error of a later statement shows only then.
        """
        cursor = self._cursors.get(statement)
        if cursor is None:
            # A cursor keeps its statement prepared.
            cursor = self._cursors[statement] = self._raw.cursor()
        try:
            cursor.execute(self._prefix + statement, *parameters)
            rows: list[Row] | None = None
            while True:
                if cursor.description is not None and rows is None:
                    rows = list(cursor.fetchall())
                if not cursor.nextset():
                    return rows or []
        except BaseException:
            del self._cursors[statement]
            _close(cursor)
            raise

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """Makes the statements of a block one transaction."""
        # An error of the clearing up takes the first one's place: it tells that the connection is not to be reused.
        self._raw.autocommit = False
        try:
            yield
            self._raw.commit()
        except BaseException:
            try:
                self._raw.rollback()
            except _odbc.pyodbc.Error as error:
                if _NOTHING_TO_ROLL_BACK not in str(error):
                    raise
            raise
        finally:
            self._raw.autocommit = True

    def product(self) -> str:
        """The product name of the server."""
        return str(self._raw.getinfo(_odbc.pyodbc.SQL_DBMS_NAME))

    def _close_cursors(self) -> None:
        # A cursor that outlives its connection cannot be freed without an error.
        for cursor in self._cursors.values():
            _close(cursor)
        self._cursors.clear()


def _close(cursor: _odbc.pyodbc.Cursor) -> None:
    with contextlib.suppress(_odbc.pyodbc.Error):
        cursor.close()
