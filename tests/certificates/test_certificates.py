from __future__ import annotations

import asyncio
import os
import shutil
import ssl
import stat
import subprocess
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import pkcs12
from cryptography.x509.oid import NameOID

from kestrun_py.certificates.certificate import Certificate, to_certificate
from kestrun_py.certificates.loading import certificate_from_pem, load_certificate
from kestrun_py.certificates.self_signed import development_certificate
from kestrun_py.certificates.tls import ssl_context
from kestrun_py.errors import ArgumentError, ServerStartError


@pytest.fixture(scope="module")
def development() -> Certificate:
    return development_certificate()


@pytest.fixture(scope="module")
def other_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def key_pem(certificate: Certificate, password: bytes | None = None) -> bytes:
    text = certificate.to_pem(password)
    return text[text.rindex(b"-----BEGIN ") :]


def pfx(certificate: Certificate, password: bytes | None) -> bytes:
    assert isinstance(certificate.key, rsa.RSAPrivateKey)
    encryption = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
    return pkcs12.serialize_key_and_certificates(
        b"dev", certificate.key, certificate.leaf, certificate.chain, encryption
    )


class TestDevelopmentCertificate:
    def test_leaf_and_root(self, development: Certificate) -> None:
        leaf, (root,) = development.leaf, development.chain
        leaf.verify_directly_issued_by(root)
        assert root.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value == "Kestrun Development Root CA"
        assert root.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
        assert not leaf.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
        assert isinstance(development.key, rsa.RSAPrivateKey)
        assert development.key.key_size == 2048
        names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        assert names.get_values_for_type(x509.DNSName) == ["localhost"]
        assert [str(name) for name in names.get_values_for_type(x509.IPAddress)] == ["127.0.0.1", "::1"]

    def test_lives_30_days_its_root_ten_years(self, development: Certificate) -> None:
        now = datetime.now(UTC)
        for certificate, days in ((development.leaf, 30), (development.chain[0], 3650)):
            assert certificate.not_valid_before_utc < now
            assert abs(certificate.not_valid_after_utc - now - timedelta(days=days)) < timedelta(minutes=10)

    def test_the_key_does_not_show(self, development: Certificate) -> None:
        assert repr(development).startswith("<Certificate CN=localhost, valid until ")


async def handshake(context: ssl.SSLContext, root: x509.Certificate, **client: Any) -> tuple[str, str | None]:
    """Connects once and returns the TLS version and the protocol that were agreed on."""
    trusting = ssl.create_default_context(cadata=pem(root).decode())
    trusting.verify_flags |= ssl.VERIFY_X509_STRICT
    trusting.set_alpn_protocols(["h2", "http/1.1"])
    for name, value in client.items():
        setattr(trusting, name, value)

    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    async with await asyncio.start_server(greet, "127.0.0.1", 0, ssl=context) as server:
        port = server.sockets[0].getsockname()[1]
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=trusting)
        tls = writer.get_extra_info("ssl_object")
        agreed = tls.version(), tls.selected_alpn_protocol()
        await reader.read()
        writer.close()
        await writer.wait_closed()
    return agreed


class TestContext:
    async def test_a_client_that_trusts_the_root_is_served(self, development: Certificate) -> None:
        agreed = await handshake(ssl_context(development), development.chain[0])
        assert agreed == ("TLSv1.3", "http/1.1")

    async def test_tls_before_1_2_is_refused(self, development: Certificate) -> None:
        context = ssl_context(development)
        assert context.minimum_version == ssl.TLSVersion.TLSv1_2
        version, _ = await handshake(context, development.chain[0], maximum_version=ssl.TLSVersion.TLSv1_2)
        assert version == "TLSv1.2"

    async def test_another_root_is_not_enough(self, development: Certificate) -> None:
        stranger = development_certificate()
        with pytest.raises(ssl.SSLCertVerificationError):
            await handshake(ssl_context(development), stranger.chain[0])

    def test_nothing_readable_is_left_on_disk(
        self, development: Certificate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        seen: list[tuple[int, bytes]] = []
        load = ssl.SSLContext.load_cert_chain

        def watch(context: ssl.SSLContext, certfile: str, *arguments: Any, **options: Any) -> None:
            seen.append((stat.S_IMODE(os.stat(certfile).st_mode), Path(certfile).read_bytes()))
            load(context, certfile, *arguments, **options)

        monkeypatch.setattr(ssl.SSLContext, "load_cert_chain", watch)
        monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
        ssl_context(development)
        ((mode, text),) = seen
        assert mode == 0o600
        assert b"BEGIN ENCRYPTED PRIVATE KEY" in text
        assert b"BEGIN PRIVATE KEY" not in text
        assert list(tmp_path.iterdir()) == []

    def test_what_openssl_refuses_is_named(
        self, development: Certificate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refuse(*arguments: object, **options: object) -> None:
            raise ssl.SSLError(1, "[SSL: EE_KEY_TOO_SMALL] ee key too small")

        monkeypatch.setattr(ssl.SSLContext, "load_cert_chain", refuse)
        monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
        with pytest.raises(ServerStartError, match=r"CN=localhost.* cannot be used for TLS: .*EE_KEY_TOO_SMALL"):
            ssl_context(development)
        assert list(tmp_path.iterdir()) == []
        monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "gone"))
        with pytest.raises(ServerStartError, match="No such file or directory"):
            ssl_context(development)


class TestFiles:
    @pytest.mark.parametrize("password", [None, b"s3cret"])
    def test_pem_with_the_key_in_it(self, development: Certificate, tmp_path: Path, password: bytes | None) -> None:
        path = tmp_path / "cert.pem"
        path.write_bytes(development.to_pem(password))
        assert load_certificate(path, password) == development

    def test_the_order_in_the_file_does_not_matter(self, development: Certificate, tmp_path: Path) -> None:
        path = tmp_path / "cert.pem"
        path.write_bytes(b"text\n" + key_pem(development) + pem(development.chain[0]) + pem(development.leaf))
        assert load_certificate(str(path)) == development

    def test_pem_with_the_key_beside_it(self, development: Certificate, tmp_path: Path) -> None:
        (tmp_path / "cert.pem").write_bytes(pem(development.leaf))
        (tmp_path / "cert.key").write_bytes(key_pem(development, b"pw"))
        assert load_certificate(tmp_path / "cert.pem", "pw").leaf == development.leaf

    def test_other_key_kinds_and_key_formats(self, other_key: ec.EllipticCurvePrivateKey, tmp_path: Path) -> None:
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "ec")])
        now = datetime.now(UTC)
        builder = x509.CertificateBuilder(name, name, other_key.public_key(), 7, now, now + timedelta(days=1))
        leaf = builder.sign(other_key, hashes.SHA256())
        key = other_key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.TraditionalOpenSSL,
            serialization.BestAvailableEncryption(b"pw"),
        )
        (tmp_path / "ec.pem").write_bytes(pem(leaf) + key)
        assert load_certificate(tmp_path / "ec.pem", "pw").leaf == leaf
        ssl_context(load_certificate(tmp_path / "ec.pem", "pw"))

    @pytest.mark.parametrize("password", [None, b"s3cret"])
    def test_pfx(self, development: Certificate, tmp_path: Path, password: bytes | None) -> None:
        path = tmp_path / "cert.pfx"
        path.write_bytes(pfx(development, password))
        assert load_certificate(path, password) == development
        ssl_context(load_certificate(path, password))

    @pytest.mark.skipif(shutil.which("openssl") is None, reason="needs the openssl command")
    def test_pfx_of_openssl_with_an_empty_password(self, development: Certificate, tmp_path: Path) -> None:
        source, target = str(tmp_path / "cert.pem"), str(tmp_path / "cert.pfx")
        Path(source).write_bytes(development.to_pem())
        command = ["openssl", "pkcs12", "-export", "-in", source, "-out", target, "-passout", "pass:"]
        subprocess.run(command, check=True, capture_output=True)
        assert load_certificate(target).leaf == development.leaf

    def test_missing(self, tmp_path: Path) -> None:
        for path in (tmp_path / "gone.pfx", tmp_path):
            with pytest.raises(ServerStartError) as caught:
                load_certificate(path)
            assert str(caught.value) == f"Certificate file not found at path: {path}"

    def test_every_other_fault_is_named(
        self, development: Certificate, other_key: ec.EllipticCurvePrivateKey, tmp_path: Path
    ) -> None:
        stranger = other_key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        secret = b"s3cret"
        for data, password, text in [
            (b"", None, "neither PEM nor DER nor a PFX that the password opens"),
            (b"\x30\x82garbage", None, "neither PEM nor DER nor a PFX"),
            (pfx(development, secret), None, "neither PEM nor DER nor a PFX that the password opens"),
            (pfx(development, secret), "other", "neither PEM nor DER nor a PFX that the password opens"),
            (pem(development.leaf), None, "no private key; put the key into the same file, or beside it with suffix"),
            (key_pem(development), None, "no certificate"),
            (development.to_pem(secret), None, "its private key is encrypted; give the password"),
            (development.to_pem(secret), "other", "the password is another one"),
            (pem(development.leaf) + stranger, None, "The private key is not that of the certificate CN=localhost"),
            (pem(development.leaf)[:200] + b"\n" + stranger, None, "cannot be used: "),
            (pem(development.leaf) + key_pem(development).replace(b"M", b"!"), None, "its private key is damaged"),
        ]:
            path = tmp_path / "cert.pem"
            path.write_bytes(data)
            with pytest.raises(ServerStartError) as caught:
                load_certificate(path, password)
            assert str(caught.value).startswith(f"Certificate file {path} cannot be used: ")
            assert text in str(caught.value)

    def test_no_password_in_any_text(self, development: Certificate, tmp_path: Path) -> None:
        path = tmp_path / "cert.pfx"
        path.write_bytes(pfx(development, b"right"))
        with pytest.raises(ServerStartError) as caught:
            load_certificate(path, "hunter2")
        assert "hunter2" not in str(caught.value)


class TestObjects:
    def test_certificate_and_pair(self, development: Certificate) -> None:
        assert to_certificate(development) is development
        assert to_certificate((development.leaf, development.key)).leaf is development.leaf

    @pytest.mark.parametrize("value", ["cert.pem", 7, (1, 2), ()])
    def test_anything_else(self, value: object) -> None:
        with pytest.raises(ArgumentError, match=f"x509_certificate: a {type(value).__name__} has no private key"):
            to_certificate(value)

    def test_a_certificate_alone_has_no_key(self, development: Certificate) -> None:
        with pytest.raises(ArgumentError, match="x509_certificate: a Certificate has no private key"):
            to_certificate(development.leaf)

    def test_the_key_of_another(self, development: Certificate, other_key: ec.EllipticCurvePrivateKey) -> None:
        with pytest.raises(ArgumentError, match="not that of the certificate CN=localhost"):
            to_certificate((development.leaf, other_key))

    def test_pem_round_trip(self, development: Certificate) -> None:
        assert certificate_from_pem(development.to_pem()) == development
