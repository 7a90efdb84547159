"""Certificates read from files."""

from __future__ import annotations

from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.serialization import pkcs12

from kestrun_py.certificates.certificate import Certificate, PrivateKey, belong_together
from kestrun_py.errors import ServerStartError

__all__ = ["certificate_from_pem", "load_certificate"]


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
    leaf = next((one for one in certificates if belong_together(one, key)), certificates[0])
    return Certificate(leaf, key, tuple(one for one in certificates if one is not leaf))


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
