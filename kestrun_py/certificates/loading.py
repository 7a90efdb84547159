"""Certificates of https endpoints: read from files, or made for development."""

from __future__ import annotations

import ipaddress
import os
import secrets
import ssl
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TypeAlias

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import pkcs12
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from kestrun_py.errors import ArgumentError, ServerStartError

__all__ = [
    "Certificate",
    "PrivateKey",
    "certificate_from_pem",
    "development_certificate",
    "load_certificate",
    "ssl_context",
    "to_certificate",
]

PrivateKey: TypeAlias = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey
"""The private keys of `cryptography` that TLS knows."""

_LOCAL_NAMES = ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True, slots=True, repr=False)
class Certificate:
    """A certificate with its private key (.NET's X509Certificate2 with HasPrivateKey).

    Attributes:
        leaf: The certificate itself.
        key: Its private key.
        chain: The certificates of its issuers, nearest first.

    Raises:
        ArgumentError: The key is not the certificate's.
    """

    leaf: x509.Certificate
    key: PrivateKey = field(compare=False)
    chain: tuple[x509.Certificate, ...] = ()

    def __post_init__(self) -> None:
        if not _belong_together(self.leaf, self.key):
            raise ArgumentError(f"The private key is not that of the certificate {self.subject}.")

    @property
    def subject(self) -> str:
        """Whose certificate it is, such as ``CN=localhost``."""
        return self.leaf.subject.rfc4514_string()

    def __repr__(self) -> str:
        return f"<Certificate {self.subject}, valid until {self.leaf.not_valid_after_utc:%Y-%m-%d}>"

    def to_pem(self, password: bytes | None = None) -> bytes:
        """The certificate, its chain and its key (encrypted if a password is given) as PEM text."""
        encryption: serialization.KeySerializationEncryption = serialization.NoEncryption()
        if password is not None:
            encryption = serialization.BestAvailableEncryption(password)
        key = self.key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption)
        return b"".join(one.public_bytes(serialization.Encoding.PEM) for one in (self.leaf, *self.chain)) + key


def development_certificate(
    dns_names: Sequence[str] = _LOCAL_NAMES, *, leaf_valid_days: int = 30, root_valid_days: int = 3650
) -> Certificate:
    """Makes a certificate for this machine, issued by a new root CA (New-KrSelfSignedCertificate -Development).

    The root's private key is thrown away, so whoever trusts the root trusts this one certificate. It is in the
    certificate's chain.

    Args:
        dns_names: Host names and IP addresses.
        leaf_valid_days: Days that the certificate is valid.
        root_valid_days: Days that its root is valid.
    """
    root_key, leaf_key = _new_key(), _new_key()
    root_name = _common_name("Kestrun Development Root CA")
    root = (
        _builder(root_name, root_name, root_key, root_key, root_valid_days)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(sign_certificates=True), critical=True)
        .sign(root_key, hashes.SHA256())
    )
    leaf = (
        _builder(_common_name(dns_names[0]), root_name, leaf_key, root_key, leaf_valid_days)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(sign_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectAlternativeName([_general_name(name) for name in dns_names]), critical=False)
        .sign(root_key, hashes.SHA256())
    )
    return Certificate(leaf, leaf_key, (root,))


def load_certificate(path: str | Path, password: str | bytes | None = None) -> Certificate:
    """Reads a certificate with its key.

    Args:
        path: A PFX/P12 file, or a PEM file; the key of the latter is in the same file or beside it (``x.pem``,
            ``x.key``).
        password: Of the PFX file or of the key.

    Raises:
        ServerStartError: No file, no certificate in it, no key, or another password.
    """
    file = Path(path)
    data = _read(file)
    secret = password.encode() if isinstance(password, str) else password
    try:
        if b"-----BEGIN " not in data:
            return _from_pfx(data, secret)
        key_file = file.with_suffix(".key")
        if b"PRIVATE KEY-----" not in data and key_file.is_file():
            data = data + b"\n" + _read(key_file)
        return certificate_from_pem(data, secret)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise ServerStartError(f"Certificate file {path} cannot be used: {error}") from error


def certificate_from_pem(data: bytes, password: bytes | None = None) -> Certificate:
    """Reads a certificate, its chain and its key from PEM text; the key tells which certificate is the leaf.

    Raises:
        ValueError: No certificate or no key in it, or another password.
    """
    if b"PRIVATE KEY-----" not in data:
        raise ValueError("it holds no private key; put the key into the same file, or beside it with suffix .key.")
    if b"-----BEGIN CERTIFICATE-----" not in data:
        raise ValueError("it holds no certificate.")
    key = _load_key(data[_key_start(data) :], password)
    certificates = x509.load_pem_x509_certificates(data)
    leaf = next((one for one in certificates if _belong_together(one, key)), certificates[0])
    return Certificate(leaf, key, tuple(one for one in certificates if one is not leaf))


def to_certificate(value: object) -> Certificate:
    """Takes a certificate object: a `Certificate`, or `cryptography`'s certificate and private key as a pair.

    Raises:
        ArgumentError: It is neither, or the key is not the certificate's.
    """
    match value:
        case Certificate():
            return value
        case (x509.Certificate() as leaf, key) if isinstance(key, PrivateKey):
            return Certificate(leaf, key)
    raise ArgumentError(
        f"x509_certificate: a {type(value).__name__} has no private key; give a Certificate (development_certificate, "
        "load_certificate) or the pair (x509.Certificate, private key)."
    )


def ssl_context(certificate: Certificate) -> ssl.SSLContext:
    """The TLS settings of an endpoint: TLS 1.2 or later, HTTP/1.1.

    Raises:
        ServerStartError: OpenSSL refuses the certificate.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    try:
        _load_into(context, certificate)
    except OSError as error:  # ssl.SSLError is one
        raise ServerStartError(f"{certificate!r} cannot be used for TLS: {error}") from error
    return context


def _load_into(context: ssl.SSLContext, certificate: Certificate) -> None:
    """Hands the certificate over in a file, as ssl demands: encrypted, no one else's to read, and removed at once."""
    password = secrets.token_hex(32)
    descriptor, name = tempfile.mkstemp(prefix="kestrun-", suffix=".pem")
    try:
        with open(descriptor, "wb") as file:
            file.write(certificate.to_pem(password.encode()))
        context.load_cert_chain(name, password=password)
    finally:
        os.unlink(name)


def _read(path: Path) -> bytes:
    if not path.is_file():
        raise ServerStartError(f"Certificate file not found: {path}")
    try:
        return path.read_bytes()
    except OSError as error:
        raise ServerStartError(f"Certificate file {path} cannot be read: {error.strerror}") from error


def _from_pfx(data: bytes, password: bytes | None) -> Certificate:
    try:
        key, leaf, others = pkcs12.load_key_and_certificates(data, password)
    except ValueError:
        raise ValueError("it is neither PEM nor a PFX that cert_password opens.") from None
    if leaf is None or not isinstance(key, PrivateKey):
        raise ValueError("it holds no certificate with a private key.")
    return Certificate(leaf, key, tuple(others))


def _key_start(data: bytes) -> int:
    return data.rindex(b"-----BEGIN ", 0, data.index(b"PRIVATE KEY-----") + 1)


def _load_key(data: bytes, password: bytes | None) -> PrivateKey:
    encrypted = b"ENCRYPTED" in data[: data.index(b"-----END ")]
    if encrypted and not password:
        raise ValueError("its private key is encrypted; set cert_password.")
    try:
        key = serialization.load_pem_private_key(data, password if encrypted else None)
    except ValueError:
        raise ValueError("its private key is damaged, or cert_password is another one.") from None
    if not isinstance(key, PrivateKey):
        raise ValueError("its private key is of a kind that TLS does not know.")
    return key


def _belong_together(certificate: x509.Certificate, key: PrivateKey) -> bool:
    return certificate.public_key() == key.public_key()


def _new_key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


def _common_name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _builder(
    subject: x509.Name, issuer: x509.Name, key: rsa.RSAPrivateKey, issuer_key: rsa.RSAPrivateKey, days: int
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    issuer_id = x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key())
    return (
        x509.CertificateBuilder(subject_name=subject, issuer_name=issuer, public_key=key.public_key())
        .serial_number(x509.random_serial_number())
        # a client's clock may be a little behind
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=days))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(issuer_id, critical=False)
    )


def _key_usage(*, sign_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not sign_certificates,
        key_encipherment=not sign_certificates,
        key_cert_sign=sign_certificates,
        crl_sign=sign_certificates,
        content_commitment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)
