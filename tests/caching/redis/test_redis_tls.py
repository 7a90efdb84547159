"""TLS: the server's certificate is verified, by the host's name or by the one given."""

from __future__ import annotations

import datetime
import ipaddress
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from ports import free_port
from redis_server import RedisServer, open_redis_cache

from kestrun_py.caching import Expiration
from kestrun_py.caching.redis import RedisOptions
from kestrun_py.errors import CacheUnavailableError

LONG = Expiration(sliding=1200)


@dataclass
class Certificates:
    certificate: Path
    key: Path


def make_certificates(folder: Path, *names: x509.GeneralName) -> Certificates:
    """A self-signed certificate for these names, which is its own authority."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    found = Certificates(folder / "cert.pem", folder / "key.pem")
    found.certificate.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    found.key.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return found


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    return make_certificates(tmp_path_factory.mktemp("tls"), address, x509.DNSName("cache.example"))


@pytest.fixture(scope="module")
def port(certificates: Certificates) -> Iterator[int]:
    """The TLS port of a server."""
    port = free_port()
    with RedisServer(
        *("--tls-port", str(port), "--tls-auth-clients", "no"),
        *("--tls-cert-file", str(certificates.certificate), "--tls-key-file", str(certificates.key)),
        *("--tls-ca-cert-file", str(certificates.certificate)),
    ):
        yield port


async def test_url_with_an_authority_of_its_own(port: int, certificates: Certificates) -> None:
    url = f"rediss://127.0.0.1:{port}?ssl_ca_certs={certificates.certificate}&ssl_min_version=1.3"
    async with open_redis_cache(url) as cache:
        await cache.store("key", b"value" * 100_000, LONG)
        assert await cache.get("key") == b"value" * 100_000


@pytest.mark.parametrize(("name", "trusted"), [(None, True), ("cache.example", True), ("other.example", False)])
async def test_name_on_the_certificate(port: int, certificates: Certificates, name: str | None, trusted: bool) -> None:
    options = RedisOptions(
        endpoints=[("127.0.0.1", port)], ssl=True, ssl_host=name, ssl_ca_certs=str(certificates.certificate)
    )
    async with open_redis_cache(options) as cache:
        if trusted:
            await cache.store("key", b"value", LONG)
            assert await cache.get("key") == b"value"
        else:
            with pytest.raises(CacheUnavailableError, match="certificate"):
                await cache.get("key")


async def test_unknown_authority_is_refused_unless_told_otherwise(port: int) -> None:
    async with open_redis_cache(f"127.0.0.1:{port},ssl=true") as cache:
        with pytest.raises(CacheUnavailableError, match="certificate"):
            await cache.get("key")
    async with open_redis_cache(f"rediss://127.0.0.1:{port}?ssl_cert_reqs=none") as cache:
        assert await cache.get("key") is None


async def test_missing_file_of_authorities(port: int) -> None:
    async with open_redis_cache(f"rediss://127.0.0.1:{port}?ssl_ca_certs=/nowhere/ca.pem") as cache:
        with pytest.raises(CacheUnavailableError):
            await cache.get("key")


async def test_plain_connection_to_a_tls_port(port: int) -> None:
    async with open_redis_cache(f"127.0.0.1:{port},connectTimeout=1000") as cache:
        with pytest.raises(CacheUnavailableError):
            await cache.get("key")
