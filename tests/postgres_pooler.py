"""PgBouncer in front of a PostgreSQL server of the tests."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Self

import pytest
from ports import free_port, listens
from postgres_server import PostgresServer
from waiting import wait_until

__all__ = ["Pooler"]

_CONFIGURATION = """\
[databases]
postgres = host=127.0.0.1 port={server} user=kestrun

[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = any
pool_mode = transaction
default_pool_size = {size}
ignore_startup_parameters = {ignored}
"""


class Pooler:
    """A PgBouncer in transaction mode on a free port; `with` starts and stops it.

    Args:
        server: The server.
        size: The number of connections to the server.
        ignored: The start parameters of clients that it drops; it refuses a connection with any other.
    """

    def __init__(self, server: PostgresServer, *, size: int = 1, ignored: str = "extra_float_digits") -> None:
        self._program = shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
        if self._program is None:
            reason = "PgBouncer is not installed (apt install pgbouncer)"
            if os.environ.get("CI") == "true":
                pytest.fail(f"With CI=true nothing may be skipped. {reason}", pytrace=False)
            pytest.skip(reason)
        self._user = "postgres" if os.getuid() == 0 else None
        self._folder = Path(tempfile.mkdtemp(prefix="kestrun-pooler-"))
        self.port = free_port()
        self._file = self._folder / "pgbouncer.ini"
        self._file.write_text(_CONFIGURATION.format(server=server.port, port=self.port, size=size, ignored=ignored))
        if self._user:
            shutil.chown(self._folder, self._user)
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        assert self._program is not None
        self._process = subprocess.Popen([self._program, "-q", self._file], user=self._user, stderr=subprocess.DEVNULL)
        wait_until(lambda: listens(self.port))
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process is not None
        self._process.kill()
        self._process.wait()
        shutil.rmtree(self._folder, ignore_errors=True)

    @property
    def connection_string(self) -> str:
        """Npgsql's connection string."""
        return f"Host=127.0.0.1;Port={self.port};Database=postgres;Username=kestrun"

    def query(self, statement: str) -> list[str]:
        """What another program reads: the lines that psql prints. psql sets nothing in its session."""
        command = ["psql", "-X", "-A", "-t", "-h", "127.0.0.1", "-p", str(self.port), "-U", "kestrun", "postgres"]
        done = subprocess.run([*command, "-c", statement], check=True, capture_output=True, text=True)
        return done.stdout.splitlines()
