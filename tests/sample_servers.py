"""Servers of the tests' own for the samples: Redis and PostgreSQL, each on a free port, ended by its pid."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from sample_process import KESTRUN, environment, free_port, is_free, until

__all__ = ["postgres_server", "postgres_table", "redis_url", "sqlserver_table"]


@pytest.fixture(scope="session")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a redis-server."""
    program = shutil.which("redis-server")
    if program is None:
        pytest.skip("redis-server is not installed")
    port = free_port()
    folder: Path = tmp_path_factory.mktemp("redis")
    server = subprocess.Popen(
        [program, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", folder],
        stdout=subprocess.DEVNULL,
    )
    until(lambda: server.poll() is None and not is_free(port))
    yield f"redis://127.0.0.1:{port}"
    server.terminate()
    server.wait(30)


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """The connection string of a PostgreSQL server. It refuses to run as root, so root runs it as its user."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    initdb = found[-1] if found else shutil.which("initdb")
    if initdb is None:
        pytest.skip("PostgreSQL is not installed")
    user = "postgres" if os.getuid() == 0 else None
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="kestrun-pg-") as folder:
        if user:
            shutil.chown(folder, user)
        data = Path(folder, "data")
        subprocess.run(
            [initdb, "--no-sync", "--auth=trust", "--username=kestrun", "-D", data],
            user=user,
            cwd=folder,
            check=True,
            stdout=subprocess.DEVNULL,
        )
        server = subprocess.Popen(
            [
                Path(initdb).with_name("postgres"),
                "-D",
                data,
                "-p",
                str(port),
                "-h",
                "127.0.0.1",
                "-k",
                folder,
                "-F",
            ],
            user=user,
            cwd=folder,
            stderr=subprocess.DEVNULL,
        )
        ready = [str(Path(initdb).with_name("pg_isready")), "-q", "-h", "127.0.0.1", "-p", str(port)]
        until(lambda: server.poll() is None and subprocess.run(ready).returncode == 0)
        yield f"Host=127.0.0.1;Port={port};Database=postgres;Username=kestrun"
        server.terminate()
        server.wait(30)


@pytest.fixture(scope="session")
def postgres_table(postgres_server: str) -> str:
    """The same, with the table of the samples."""
    create_table("--dialect", "postgres", "--connection-string", postgres_server, "--schema", "public")
    return postgres_server


@pytest.fixture(scope="session")
def sqlserver_table() -> str:
    """The connection string of a SQL Server, with the table of the samples."""
    connection_string = os.environ.get("KESTRUN_TEST_SQLSERVER")
    if not connection_string:
        pytest.skip("KESTRUN_TEST_SQLSERVER holds no connection string of a SQL Server")
    create_table("--connection-string", connection_string, "--schema", "dbo", may_exist=True)
    return connection_string


def create_table(*options: str, may_exist: bool = False) -> None:
    command = [*KESTRUN, "cache", "create-table", "--table", "Sessions", *options]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 or (may_exist and "exists" in done.stderr), done.stderr
