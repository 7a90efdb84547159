"""TLS to PostgreSQL: taken where the server offers it, and checked where the connection string asks for that."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from postgres_server import PostgresServer

from kestrun_py.caching.sql import PostgresDialect, SqlCache
from kestrun_py.certificates.self_signed import new_development_certificate
from kestrun_py.errors import CacheUnavailableError

CERTIFICATE = new_development_certificate("127.0.0.1").leaf_certificate


@pytest.fixture(scope="module")
def tls_server() -> Iterator[PostgresServer]:
    """A server that takes no connection without TLS."""
    with PostgresServer(CERTIFICATE.to_pem()) as server:
        yield server


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """The file of the authority that has issued the server's certificate."""
    file = tmp_path / "root.pem"
    file.write_bytes(CERTIFICATE.chain[0].public_bytes(serialization.Encoding.PEM))
    return file


async def ping(connection_string: str) -> str:
    cache = SqlCache(connection_string, schema_name="public", table_name="Sessions", dialect=PostgresDialect())
    try:
        return (await cache.ping()).server
    finally:
        await cache.close()


@pytest.mark.parametrize("form", ["Npgsql", "URL"])
async def test_tls_is_preferred(tls_server: PostgresServer, form: str) -> None:
    url = f"postgresql://kestrun@127.0.0.1:{tls_server.port}/postgres"
    assert await ping(tls_server.connection_string() if form == "Npgsql" else url) == "PostgreSQL"


async def test_tls_can_be_left_out_and_checked(tls_server: PostgresServer, root: Path) -> None:
    text = tls_server.connection_string()
    assert await ping(f"{text};SSL Mode=VerifyFull;Root Certificate={root}") == "PostgreSQL"
    with pytest.raises(CacheUnavailableError, match="encryption"):
        await ping(f"{text};SSL Mode=Disable")
    with pytest.raises(CacheUnavailableError, match="certificate"):
        await ping(f"{text};SSL Mode=VerifyFull;Root Certificate={root.with_name('none.pem')}")
