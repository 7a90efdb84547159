"""Certificates written to files."""

from __future__ import annotations

from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.serialization import pkcs12

from kestrun_py._private_files import write_private
from kestrun_py.certificates.certificate import Certificate
from kestrun_py.certificates.options import ExportFormat, ExportFormatText
from kestrun_py.conversion.enums import to_enum
from kestrun_py.errors import ArgumentError, CertificateError

__all__ = ["export_certificate"]


def export_certificate(
    certificate: Certificate,
    file_path: str | Path,
    *,
    format: ExportFormat | ExportFormatText = "Pfx",
    password: str | bytes | None = None,
    include_private_key: bool = False,
) -> Path:
    """Writes a certificate (Kestrun's CertificateManager.Export). Files with a private key get mode 0600.

    Args:
        certificate: The certificate.
        file_path: The file: ``x.pfx`` or ``x.pem`` as the format says, or without a suffix, which is then added. A
            file that is there is replaced.
        format: Pfx: with the chain, and with the key if it is known. Pem: with the chain; the key, if it is asked for,
            goes to the file beside it with the suffix ``.key``.
        password: Encrypts the PFX, or the key of a PEM.
        include_private_key: Write the key of a PEM; it must be known.

    Returns:
        The file.

    Raises:
        ArgumentError: A suffix of another format, or no key.
        CertificateError: A key that must not be exported, no such folder, or a file that cannot be written.
    """
    kind = to_enum(ExportFormat, format, "format")
    path = _checked_path(Path(file_path), kind)
    secret = password.encode() if isinstance(password, str) else password
    with_key = include_private_key or (kind is ExportFormat.PFX and certificate.has_private_key)
    if with_key and not certificate.exportable:
        raise CertificateError(f"The private key of {certificate.subject} is ephemeral; make it with exportable=True.")
    try:
        if kind is ExportFormat.PFX:
            write_private(path, _to_pfx(certificate, secret or None))
        else:
            key = certificate.key_to_pem(secret or None) if include_private_key else None
            path.write_bytes(_without_key(certificate).to_pem())
            if key is not None:
                write_private(path.with_suffix(".key"), key)
    except OSError as error:
        raise CertificateError(f"Certificate file {path} cannot be written: {error.strerror}.") from error
    except ValueError as error:  # a path with a NUL, a password that PFX cannot have
        raise ArgumentError(f"Certificate file {str(path)!r} cannot be written: {error}.") from None
    return path


def _checked_path(path: Path, kind: ExportFormat) -> Path:
    wanted = f".{kind.name.lower()}"
    if not path.suffix:
        path = path.with_name(path.name + wanted)
    if path.suffix.lower() != wanted:
        raise ArgumentError(f"file_path: {path.name!r} must end with {wanted}, as format={kind.name.title()!r} says.")
    if not path.parent.is_dir():
        raise CertificateError(f"Directory '{path.parent}' does not exist. Cannot export certificate to {path}.")
    return path


def _without_key(certificate: Certificate) -> Certificate:
    return Certificate(certificate.leaf, None, certificate.chain)


def _to_pfx(certificate: Certificate, password: bytes | None) -> bytes:
    encryption: serialization.KeySerializationEncryption = serialization.NoEncryption()
    if password is not None:
        encryption = serialization.BestAvailableEncryption(password)
    name = certificate.subject.encode()
    return pkcs12.serialize_key_and_certificates(
        name, certificate.key, certificate.leaf, certificate.chain or None, encryption
    )
