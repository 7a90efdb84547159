"""What certificates can be asked for: names of key types, formats, key usages and purposes.

Nothing here needs cryptography, so that arguments are checked before it is imported.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum
from typing import Final, Literal, TypeAlias

from kestrun_py.conversion.enums import to_enum
from kestrun_py.errors import ArgumentError

__all__ = [
    "DEVELOPMENT_ROOT_NAME",
    "ExportFormat",
    "ExportFormatText",
    "KeyType",
    "KeyTypeText",
    "KeyUsage",
    "KeyUsageText",
    "checked_range",
    "purpose_name",
    "purpose_oid",
    "to_key_usages",
]


DEVELOPMENT_ROOT_NAME: Final = "Kestrun Development Root CA"


class KeyType(Enum):
    """The kinds of key that certificates are made with."""

    RSA = 1
    ECDSA = 2


class ExportFormat(Enum):
    """The formats that certificates are written in."""

    PFX = 1
    PEM = 2


class KeyUsage(Enum):
    """What a certificate's key may be used for (.NET's X509KeyUsageFlags); the values are bits of the extension."""

    NONE = 0
    ENCIPHER_ONLY = 1
    CRL_SIGN = 2
    KEY_CERT_SIGN = 4
    KEY_AGREEMENT = 8
    DATA_ENCIPHERMENT = 16
    KEY_ENCIPHERMENT = 32
    NON_REPUDIATION = 64
    DIGITAL_SIGNATURE = 128
    DECIPHER_ONLY = 32768


KeyTypeText: TypeAlias = Literal["Rsa", "Ecdsa"]
ExportFormatText: TypeAlias = Literal["Pfx", "Pem"]
KeyUsageText: TypeAlias = Literal[
    "None",
    "EncipherOnly",
    "CrlSign",
    "KeyCertSign",
    "KeyAgreement",
    "DataEncipherment",
    "KeyEncipherment",
    "NonRepudiation",
    "DigitalSignature",
    "DecipherOnly",
]

# Object identifier, the name that OpenSSL shows (and .NET on Linux), its short name, and the name that Windows shows.
_PURPOSES: Final = (
    ("1.3.6.1.5.5.7.3.1", "TLS Web Server Authentication", "serverAuth", "Server Authentication"),
    ("1.3.6.1.5.5.7.3.2", "TLS Web Client Authentication", "clientAuth", "Client Authentication"),
    ("1.3.6.1.5.5.7.3.3", "Code Signing", "codeSigning", "Code Signing"),
    ("1.3.6.1.5.5.7.3.4", "E-mail Protection", "emailProtection", "Secure Email"),
    ("1.3.6.1.5.5.7.3.8", "Time Stamping", "timeStamping", "Time Stamping"),
    ("1.3.6.1.5.5.7.3.9", "OCSP Signing", "OCSPSigning", "OCSP Signing"),
    ("2.5.29.37.0", "Any Extended Key Usage", "anyExtendedKeyUsage", "Any Purpose"),
)
_NAMES: Final = {oid: name for oid, name, _, _ in _PURPOSES}
_OIDS: Final = {name.casefold(): row[0] for row in _PURPOSES for name in row}


def purpose_name(oid: str) -> str:
    """Returns the name of an extended key usage; the identifier itself for one that has no well-known name."""
    return _NAMES.get(oid, oid)


def purpose_oid(purpose: str) -> str:
    """Returns the identifier of an extended key usage that is given by its identifier or one of its names.

    Raises:
        ArgumentError: It is neither.
    """
    oid = _OIDS.get(purpose.strip().casefold(), purpose.strip())
    if not all(part.isascii() and part.isdecimal() for part in oid.split(".")) or "." not in oid:
        names = ", ".join(row[3] for row in _PURPOSES)
        raise ArgumentError(f"The purpose {purpose!r:.60} is unknown: give an object identifier, or one of {names}.")
    return oid


def to_key_usages(value: KeyUsage | str | Iterable[KeyUsage | str]) -> frozenset[KeyUsage]:
    """Takes key usages as members, names, or several of these; ``None`` among them counts for nothing.

    Raises:
        ArgumentError: A name that is no key usage.
    """
    several: Iterable[KeyUsage | str] = [value] if isinstance(value, KeyUsage | str) else value
    return frozenset(to_enum(KeyUsage, one, "key_usage") for one in several) - {KeyUsage.NONE}


def checked_range(value: int, name: str, least: int, most: int) -> int:
    """Returns a whole number that is within bounds.

    Raises:
        ArgumentError: It is none, or out of them.
    """
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise ArgumentError(f"{name} must be a whole number from {least} to {most}, not {value!r:.60}.")
    return value
