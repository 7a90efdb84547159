"""Which certificates may be relied on."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

from kestrun_py.certificates import _fetching
from kestrun_py.certificates.certificate import Certificate
from kestrun_py.certificates.self_signed import new_self_signed_certificate
from kestrun_py.certificates.validation import find_fault
from kestrun_py.errors import ArgumentError

KEY = ec.generate_private_key(ec.SECP256R1())
NOW = datetime.now(UTC)


def name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def made(
    subject: str = "leaf",
    issuer: str = "CA",
    *,
    key: Any = KEY,
    issuer_key: Any = KEY,
    start: datetime = NOW - timedelta(days=1),
    end: datetime = NOW + timedelta(days=1),
    ca: bool | None = None,
    digest: Any = None,
    crl: str | None = None,
) -> Certificate:
    """A certificate with what matters for a test."""
    builder = (
        x509.CertificateBuilder(name(issuer), name(subject), key.public_key(), x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(end)
    )
    if ca is not None:
        builder = builder.add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
    if crl is not None:
        point = x509.DistributionPoint([x509.UniformResourceIdentifier(crl)], None, None, None)
        builder = builder.add_extension(x509.CRLDistributionPoints([point]), critical=False)
    return Certificate(builder.sign(issuer_key, digest or hashes.SHA256()), key)


ROOT = made("CA", ca=True)


def test_a_self_signed_certificate() -> None:
    certificate = new_self_signed_certificate("a.example", key_type="Ecdsa", key_length=256)
    assert find_fault(certificate) is None
    assert find_fault(certificate, deny_self_signed=True) == "Self-signed certificates are denied by policy."
    forged = made("x", "x", issuer_key=ec.generate_private_key(ec.SECP256R1()))
    assert "Self-signed certificate chain validation failed" in (find_fault(forged) or "")


@pytest.mark.parametrize(
    "dates", [{"start": NOW + timedelta(hours=1)}, {"end": NOW - timedelta(hours=1)}], ids=["early", "late"]
)
def test_dates(dates: dict[str, Any]) -> None:
    assert find_fault(made(**dates), certificate_chain=[ROOT]) == "Certificate is outside validity period."


class TestChain:
    def test_to_a_given_root(self) -> None:
        assert find_fault(made(), certificate_chain=[ROOT]) is None
        assert find_fault(made(), certificate_chain=[ROOT.leaf]) is None

    def test_over_an_intermediate_ca(self) -> None:
        key = ec.generate_private_key(ec.SECP384R1())
        middle = made("middle", key=key, ca=True)
        leaf = made(issuer="middle", issuer_key=key)
        assert find_fault(leaf, certificate_chain=[middle, ROOT]) is None
        assert find_fault(Certificate(leaf.leaf, chain=(middle.leaf,)), certificate_chain=[ROOT]) is None
        assert find_fault(leaf, certificate_chain=[ROOT]) is not None

    def test_a_root_of_the_certificate_itself_is_not_trusted(self) -> None:
        assert find_fault(Certificate(made().leaf, chain=(ROOT.leaf,))) is not None

    @pytest.mark.parametrize(
        "issuer",
        [
            made("CA", ca=False),
            made("CA"),
            made("CA", ca=True, key=ec.generate_private_key(ec.SECP256R1())),
            made("Other", "Other", ca=True),
            made("CA", ca=True, end=NOW - timedelta(hours=1)),
        ],
        ids=["no CA", "nothing said", "another key", "another name", "expired"],
    )
    def test_what_is_no_issuer(self, issuer: Certificate) -> None:
        fault = find_fault(made(), certificate_chain=[issuer])
        assert fault is not None
        assert fault.startswith("Certificate chain validation failed")

    def test_a_leaf_that_issues(self) -> None:
        key = ec.generate_private_key(ec.SECP256R1())
        between = made("server", key=key, ca=False)
        assert find_fault(made(issuer="server", issuer_key=key), certificate_chain=[between, ROOT]) is not None


def test_purposes() -> None:
    certificate = new_self_signed_certificate("a.example", key_type="Ecdsa", key_length=256)
    both = ["Server Authentication", "1.3.6.1.5.5.7.3.2"]
    assert find_fault(certificate, expected_purpose="serverAuth") is None
    assert find_fault(certificate, expected_purpose=both, strict_purpose=True) is None
    mismatch = "EKU purpose mismatch."
    assert find_fault(certificate, expected_purpose="serverAuth", strict_purpose=True) == mismatch
    assert find_fault(certificate, expected_purpose="Code Signing") == mismatch
    assert find_fault(made(), certificate_chain=[ROOT], expected_purpose="serverAuth") == mismatch
    with pytest.raises(ArgumentError, match="The purpose 'cooking' is unknown"):
        find_fault(certificate, expected_purpose="cooking")


def test_weak_algorithms() -> None:
    weak_key = rsa.generate_private_key(65537, 1024)
    weak = made("w", "w", key=weak_key, issuer_key=weak_key)
    assert find_fault(weak) == "RSA key size 1024 < 2048"
    assert find_fault(weak, allow_weak_algorithms=True) is None
    issued = made("w", key=weak_key)
    assert find_fault(issued, certificate_chain=[ROOT]) == "RSA key size 1024 < 2048"
    assert find_fault(issued, certificate_chain=[ROOT], allow_weak_algorithms=True) is None


def test_malformed_extensions_and_unknown_algorithms() -> None:
    unknown = x509.UnrecognizedExtension(x509.ObjectIdentifier("2.5.29.37"), b"\x05\x00")
    builder = x509.CertificateBuilder(name("m"), name("m"), KEY.public_key(), 5)
    builder = builder.not_valid_before(NOW - timedelta(1)).not_valid_after(NOW + timedelta(1))
    malformed = Certificate(builder.add_extension(unknown, critical=False).sign(KEY, hashes.SHA256()))
    for look in (lambda: malformed.purposes, lambda: find_fault(malformed, expected_purpose="serverAuth")):
        with pytest.raises(ArgumentError, match="CN=m is malformed"):
            look()
    der = made("w", "w").leaf.public_bytes(serialization.Encoding.DER)
    ecdsa_with_sha256, unheard_of = bytes.fromhex("2a8648ce3d040302"), bytes.fromhex("2a8648ce3d04037f")
    strange = Certificate(x509.load_der_x509_certificate(der.replace(ecdsa_with_sha256, unheard_of)))
    assert "is of an unknown kind" in (find_fault(strange) or "")


@pytest.fixture
def serve() -> Iterator[Callable[[bytes], str]]:
    """Answers every request with some bytes; returns the URL."""
    servers = []

    def start(content: bytes) -> str:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(200)
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *arguments: object) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        servers.append((server, thread))
        return f"http://127.0.0.1:{server.server_port}/list.crl"

    yield start
    for server, thread in servers:
        server.shutdown()
        thread.join()
        server.server_close()


class TestRevocation:
    @staticmethod
    def crl(*serials: int, issuer: str = "CA", until: datetime = NOW + timedelta(days=1), key: Any = KEY) -> bytes:
        builder = x509.CertificateRevocationListBuilder(name(issuer), NOW - timedelta(days=2), until)
        for serial in serials:
            entry = x509.RevokedCertificateBuilder(serial, NOW - timedelta(days=2)).build()
            builder = builder.add_revoked_certificate(entry)
        return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.DER)

    def fault(self, url: str | None) -> str | None:
        return find_fault(made(crl=url), certificate_chain=[ROOT], check_revocation=True)

    def test_not_revoked(self, serve: Callable[[bytes], str]) -> None:
        assert self.fault(serve(self.crl(5))) is None

    def test_revoked(self) -> None:
        leaf = made(crl="http://127.0.0.1/")
        with pytest.MonkeyPatch.context() as patch:
            from kestrun_py.certificates import validation

            patch.setattr(validation, "fetch", lambda url, limit: self.crl(leaf.leaf.serial_number))
            fault = find_fault(leaf, certificate_chain=[ROOT], check_revocation=True)
        assert fault == "Certificate chain validation failed: it was revoked."
        assert find_fault(leaf, certificate_chain=[ROOT]) is None

    def test_a_list_that_says_nothing(self, serve: Callable[[bytes], str]) -> None:
        other = ec.generate_private_key(ec.SECP256R1())
        for content, reason in [
            (self.crl(key=other), "not that of its issuer"),
            (self.crl(issuer="Other"), "not that of its issuer"),
            (self.crl(until=NOW - timedelta(days=1)), "out of date"),
            (b"no list", "its revocation status is unknown"),
        ]:
            assert reason in (self.fault(serve(content)) or "")
        for url in (None, "ldap://x/", "file:///etc/passwd", "http://127.0.0.1:1/"):
            assert "its revocation status is unknown" in (self.fault(url) or "")

    def test_a_server_that_never_ends(self, serve: Callable[[bytes], str], monkeypatch: pytest.MonkeyPatch) -> None:
        url = serve(bytes(300_000))
        with pytest.raises(ValueError, match="more than 100,000 bytes"):
            _fetching.fetch(url, 100_000)
        monkeypatch.setattr(_fetching, "_CHUNK_BYTES", 1)
        times = iter(range(1000))
        monkeypatch.setattr(time, "monotonic", lambda: float(next(times)))
        with pytest.raises(TimeoutError, match="was not read within 10 seconds"):
            _fetching.fetch(url, 100_000)
