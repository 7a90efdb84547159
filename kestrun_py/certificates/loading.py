"""Certificates read from files."""

from __future__ import annotations

from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.serialization import pkcs12

from kestrun_py.certificates.certificate import Certificate, PrivateKey, belong_together
from kestrun_py.errors import CertificateError, ServerStartError

__all__ = ["certificate_from_pem", "import_certificate", "load_certificate"]

_MAX_BYTES = 10 << 20


def import_certificate(
    path: str | Path, password: str | bytes | None = None, private_key_path: str | Path | None = None
) -> Certificate:
    """Reads a certificate, with its key if there is one (Kestrun's CertificateManager.Import).

    The content decides whether it is read as PFX, PEM or DER.

    Args:
        path: The file. A PEM file may hold the certificates of the issuers and the key too.
        password: Of the PFX file or of the key.
        private_key_path: A PEM file with the key, for a certificate without.

    Raises:
        CertificateError: No file, nothing in it that could be used, another password, or another certificate's key.
    """
    file, secret = Path(path), _to_bytes(password)
    data = _read(file)
    key_data = b"" if private_key_path is None else b"\n" + _read(Path(private_key_path), "Private key")
    try:
        return _from_data(data, key_data, secret)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise CertificateError(f"Certificate file {path} cannot be used: {error}") from None


def load_certificate(path: str | Path, password: str | bytes | None = None) -> Certificate:
    """Reads the certificate of an endpoint, with its key.

    Args:
        path: A PFX/P12 file, or a PEM file; the key of the latter is in the same file or beside it (``x.pem``,
            ``x.key``).
        password: Of the PFX file or of the key.

    Raises:
        ServerStartError: No file, no certificate in it, no key, or another password.
    """
    file, secret = Path(path), _to_bytes(password)
    try:
        data, key_file = _read(file), file.with_suffix(".key")
        beside = b""
        if b"-----BEGIN " in data and b"PRIVATE KEY-----" not in data and key_file.is_file():
            beside = b"\n" + _read(key_file)
        certificate = _from_data(data, beside, secret)
        if certificate.key is None:
            raise ValueError("it holds no private key; put the key into the same file, or beside it with suffix .key.")
        return certificate
    except CertificateError as error:
        raise ServerStartError(str(error)) from None
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise ServerStartError(f"Certificate file {path} cannot be used: {error}") from error


def certificate_from_pem(data: bytes, password: bytes | None = None) -> Certificate:
    """Reads a certificate, its chain and its key from PEM text; the key tells which certificate is the leaf.

    Without a key, the first certificate is the leaf.

    Raises:
        ValueError: No certificate in it, a key of another one, or another password.
    """
    if b"-----BEGIN CERTIFICATE-----" not in data:
        raise ValueError("it holds no certificate.")
    key = _load_key(data[_key_start(data) :], password) if b"PRIVATE KEY-----" in data else None
    try:
        certificates = x509.load_pem_x509_certificates(data)
    except ValueError:
        raise ValueError("a certificate in it is damaged.") from None
    leaf = next((one for one in certificates if key is not None and belong_together(one, key)), certificates[0])
    return Certificate(leaf, key, tuple(one for one in certificates if one is not leaf))


def _from_data(data: bytes, key_data: bytes, password: bytes | None) -> Certificate:
    if b"-----BEGIN " in data:
        return certificate_from_pem(data + key_data, password)
    if key_data:
        certificate = x509.load_der_x509_certificate(data)
        return Certificate(certificate, _load_key(key_data[_key_start(key_data) :], password))
    try:
        return Certificate(x509.load_der_x509_certificate(data))
    except ValueError:
        return _from_pfx(data, password)


def _to_bytes(password: str | bytes | None) -> bytes | None:
    return password.encode() if isinstance(password, str) else password


def _read(path: Path, what: str = "Certificate") -> bytes:
    if not path.is_file():
        raise CertificateError(f"{what} file not found at path: {path}")
    try:
        with path.open("rb") as file:
            data = file.read(_MAX_BYTES + 1)
    except OSError as error:
        raise CertificateError(f"{what} file {path} cannot be read: {error.strerror}") from error
    if len(data) > _MAX_BYTES:
        raise CertificateError(f"{what} file {path} has more than {_MAX_BYTES:,} bytes.")
    return data


def _from_pfx(data: bytes, password: bytes | None) -> Certificate:
    try:
        key, leaf, others = pkcs12.load_key_and_certificates(data, password)
    except ValueError:
        raise ValueError("it is neither PEM nor DER nor a PFX that the password opens.") from None
    certificates = [*others] if leaf is None else [leaf, *others]
    if not certificates:
        raise ValueError("it holds no certificate.")
    if key is not None and not isinstance(key, PrivateKey):
        raise ValueError("its private key is of a kind that TLS does not know.")
    return Certificate(certificates[0], key, tuple(certificates[1:]))


def _key_start(data: bytes) -> int:
    end = data.find(b"PRIVATE KEY-----")
    if end < 0:
        raise ValueError("the key file holds no private key in PEM form.")
    return data.rindex(b"-----BEGIN ", 0, end + 1)


def _load_key(data: bytes, password: bytes | None) -> PrivateKey:
    encrypted = b"ENCRYPTED" in data[: data.index(b"-----END ")]
    if encrypted and not password:
        raise ValueError("its private key is encrypted; give the password.")
    try:
        key = serialization.load_pem_private_key(data, password if encrypted else None)
    except ValueError:
        raise ValueError("its private key is damaged, or the password is another one.") from None
    if not isinstance(key, PrivateKey):
        raise ValueError("its private key is of a kind that TLS does not know.")
    return key
