"""A PostgreSQL server of the tests' own, and caches on it.

Every server is a new cluster in a temporary folder, on a free port, and ends with the process that started it. The
caches of `open_postgres_cache` share one server a process, each with a schema of its own.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import os
import shutil
import signal
import subprocess
import tempfile
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, NoReturn

import pytest
from ports import free_port
from sample_process import runs
from waiting import wait_until

from kestrun_py.caching.sql import PostgresDialect, SqlCache, SqlDialect, SqlServerDialect, create_table

__all__ = ["PostgresServer", "open_postgres_cache", "open_sqlserver_cache", "shared_server"]

_STOP_LIMIT = 120.0


class PostgresServer:
    """A PostgreSQL server on a free port of 127.0.0.1; `with` starts and stops it.

    The user ``kestrun`` needs no password, one named ``guarded`` would. PostgreSQL refuses to run as root: root runs
    it as the user ``postgres``.

    Args:
        certificate: A certificate and its key as PEM: the server takes TLS connections only.
    """

    def __init__(self, certificate: bytes | None = None) -> None:
        self._programs = _programs()
        self._user = "postgres" if os.getuid() == 0 else None
        self._folder = Path(tempfile.mkdtemp(prefix="kestrun-pg-"))
        self._process: subprocess.Popen[bytes] | None = None
        if self._user:
            shutil.chown(self._folder, self._user)
        subprocess.run(
            [
                *(self._programs / "initdb", "--no-sync", "--auth=trust", "--username=kestrun"),
                *("--encoding=UTF8", "--locale=C.UTF-8", "-D", self._data),
            ],
            user=self._user,
            cwd=self._folder,
            check=True,
            stdout=subprocess.DEVNULL,
        )
        rules = self._data / "pg_hba.conf"
        rules.write_text("host all guarded 127.0.0.1/32 scram-sha-256\n" + rules.read_text())
        if certificate is not None:
            self._take_tls_only(certificate)
        self.port = free_port()

    def __enter__(self) -> PostgresServer:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        shutil.rmtree(self._folder, ignore_errors=True)

    @property
    def _data(self) -> Path:
        return self._folder / "data"

    def _take_tls_only(self, certificate: bytes) -> None:
        for name in ("server.crt", "server.key"):
            file = self._data / name
            file.write_bytes(certificate)
            file.chmod(0o600)
            if self._user:
                shutil.chown(file, self._user)
        with (self._data / "postgresql.conf").open("a") as settings:
            settings.write("ssl = on\n")
        (self._data / "pg_hba.conf").write_text("hostssl all all 127.0.0.1/32 trust\n")

    def connection_string(self, database: str = "postgres") -> str:
        """Npgsql's connection string."""
        return f"Host=127.0.0.1;Port={self.port};Database={database};Username=kestrun"

    def connect(self, database: str = "postgres") -> Any:
        """A connection of pyodbc's, in autocommit mode."""
        import pyodbc

        settings = PostgresDialect().settings(self.connection_string(database))
        return pyodbc.connect(settings.odbc, autocommit=True)

    def execute(self, statement: str, *parameters: object, database: str = "postgres") -> list[Any]:
        """Runs a statement and returns its rows."""
        with (
            contextlib.closing(self.connect(database)) as connection,
            contextlib.closing(connection.cursor()) as cursor,
        ):
            cursor.execute(statement, *parameters)
            return cursor.fetchall() if cursor.description else []

    def start(self) -> None:
        """Starts the server and waits until it answers. It ends when this process does."""
        log = (self._folder / "log").open("ab")
        with log:
            self._process = subprocess.Popen(
                [
                    *("setpriv", "--pdeathsig", "SIGQUIT", self._programs / "postgres", "-D", self._data, "-F"),
                    *("-p", str(self.port), "-h", "127.0.0.1", "-k", "", "-c", "max_connections=200"),
                ],
                user=self._user,
                cwd=self._folder,
                stdout=log,
                stderr=log,
            )
        wait_until(self._answers)

    def _answers(self) -> bool:
        assert self._process is not None
        if self._process.poll() is not None:
            raise RuntimeError("PostgreSQL did not start: " + (self._folder / "log").read_text()[-2000:])
        ready = [str(self._programs / "pg_isready"), "-q", "-U", "kestrun", "-h", "127.0.0.1", "-p", f"{self.port}"]
        return subprocess.run(ready).returncode == 0

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """Stops the server: by SIGINT in order, by SIGQUIT at once, by SIGKILL as in a crash."""
        if self._process is None:
            return
        if how is signal.SIGKILL:
            self.pause()  # or it would start another one meanwhile
        else:
            self.resume()
        backends = self._pids()[1:]
        self._process.send_signal(how)
        self._process.wait(_STOP_LIMIT)
        if how is signal.SIGKILL:
            for pid in backends:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            # The next server does not start while one of these is left.
            wait_until(lambda: not any(map(runs, backends)))
        self._process = None

    def pause(self) -> None:
        """Stops all of the server's processes in their tracks: connections stay, nothing answers."""
        assert self._process is not None
        os.kill(self._process.pid, signal.SIGSTOP)  # it starts no more
        for pid in self._pids()[1:]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGSTOP)

    def resume(self) -> None:
        for pid in self._pids():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)

    def _pids(self) -> list[int]:
        """The server's process and those that it has started."""
        assert self._process is not None
        pid = self._process.pid
        if self._process.poll() is not None:
            return []
        return [pid, *map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())]


@functools.cache
def shared_server() -> PostgresServer:
    """The server that the caches of this process share; skips the test where there is none."""
    server = PostgresServer()
    server.start()
    atexit.register(server.__exit__)
    return server


@contextlib.asynccontextmanager
async def open_postgres_cache(
    server: PostgresServer | None = None, *, dialect: SqlDialect | None = None, **options: Any
) -> AsyncIterator[SqlCache]:
    """A started cache on a new table of PostgreSQL.

    Args:
        server: The server, if not the shared one.
        dialect: What the cache speaks, if not PostgreSQL's dialect.
        options: Further arguments of `SqlCache`.
    """
    server = server or shared_server()
    with _new_schema(server) as schema:
        place: dict[str, Any] = {"schema_name": schema, "table_name": "Sessions"}
        await create_table(server.connection_string(), **place, dialect=PostgresDialect())
        cache = SqlCache(server.connection_string(), **place, dialect=dialect or PostgresDialect(), **options)
        try:
            await cache.start()
            yield cache
        finally:
            await cache.close()


@contextlib.contextmanager
def _new_schema(server: PostgresServer) -> Iterator[str]:
    schema = f"test_{uuid.uuid4().hex}"
    server.execute(f'CREATE SCHEMA "{schema}"')
    yield schema
    server.execute(f'DROP SCHEMA "{schema}" CASCADE')


@contextlib.asynccontextmanager
async def open_sqlserver_cache(**options: Any) -> AsyncIterator[SqlCache]:
    """A started cache on a new table of the SQL Server that KESTRUN_TEST_SQLSERVER names; skips without it."""
    connection_string = os.environ.get("KESTRUN_TEST_SQLSERVER")
    if not connection_string:
        pytest.skip("KESTRUN_TEST_SQLSERVER holds no connection string of a SQL Server")
    import pyodbc

    dialect = SqlServerDialect()
    table = f"Sessions_{uuid.uuid4().hex}"
    await create_table(connection_string, schema_name="dbo", table_name=table, dialect=dialect)
    cache = SqlCache(connection_string, schema_name="dbo", table_name=table, dialect=dialect, **options)
    try:
        await cache.start()
        yield cache
    finally:
        await cache.close()
        with contextlib.closing(
            pyodbc.connect(dialect.settings(connection_string).odbc, autocommit=True)
        ) as connection:
            connection.execute(f"DROP TABLE [dbo].[{table}]")


def _programs() -> Path:
    """The folder of PostgreSQL's programs, which Debian keeps off the path."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: float(path.parts[-3]))
    initdb = found[-1] if found else shutil.which("initdb")
    if initdb is None:
        _missing("PostgreSQL is not installed (apt install postgresql)")
    try:
        import pyodbc
    except ImportError as error:
        _missing(f"unixODBC is not installed (apt install unixodbc): {error}")
    if "PostgreSQL Unicode" not in pyodbc.drivers():
        _missing("PostgreSQL's ODBC driver is not installed (apt install odbc-postgresql)")
    return Path(initdb).parent


def _missing(reason: str) -> NoReturn:
    if os.environ.get("CI") == "true":
        pytest.fail(f"With CI=true nothing may be skipped. {reason}", pytrace=False)
    pytest.skip(reason)
