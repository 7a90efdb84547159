"""What the samples keep their sessions in: a Redis, a PostgreSQL database and a SQL Server, with the table made."""

from __future__ import annotations

import os
import subprocess
import uuid
from collections.abc import Iterator

import postgres_server
import pytest
from redis_server import RedisServer
from sample_process import KESTRUN, environment

__all__ = ["postgres_database", "postgres_table", "redis_url", "sqlserver_table"]


@pytest.fixture(scope="session")
def redis_url() -> Iterator[str]:
    """The URL of a Redis."""
    with RedisServer() as server:
        yield f"redis://{server.address}"


@pytest.fixture
def postgres_database() -> str:
    """The connection string of a new, empty database."""
    return new_database()


@pytest.fixture(scope="session")
def postgres_table() -> str:
    """The connection string of a database with the table of the samples."""
    connection_string = new_database()
    create_table("--dialect", "postgres", "--connection-string", connection_string)
    return connection_string


@pytest.fixture(scope="session")
def sqlserver_table() -> str:
    """The connection string of a SQL Server, with the table of the samples."""
    connection_string = os.environ.get("KESTRUN_TEST_SQLSERVER")
    if not connection_string:
        pytest.skip("KESTRUN_TEST_SQLSERVER holds no connection string of a SQL Server")
    create_table("--connection-string", connection_string, may_exist=True)
    return connection_string


def new_database() -> str:
    server = postgres_server.shared_server()
    name = f"samples_{uuid.uuid4().hex}"
    server.execute(f"CREATE DATABASE {name}")
    return server.connection_string(name)


def create_table(*options: str, may_exist: bool = False) -> None:
    command = [*KESTRUN, "cache", "create-table", "--table", "Sessions", *options]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 or (may_exist and "exists" in done.stderr), done.stderr
