"""Certificates, with their private keys or without."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import TypeAlias, TypeVar

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import NameOID

from kestrun_py.certificates.options import purpose_name
from kestrun_py.errors import ArgumentError

__all__ = ["Certificate", "PrivateKey", "belong_together", "distinguished_name", "to_certificate"]

PrivateKey: TypeAlias = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey
"""The private keys of `cryptography` that TLS knows."""

_Extension = TypeVar("_Extension", bound=x509.ExtensionType)

_QUOTED = frozenset(',+="\n<>#;')


@dataclass(frozen=True, slots=True, repr=False)
class Certificate:
    """A certificate (.NET's X509Certificate2).

    Attributes:
        leaf: The certificate itself.
        key: Its private key, if it is known.
        chain: The certificates of its issuers, nearest first.
        exportable: Whether the key may be written to a file.

    Raises:
        ArgumentError: The key is not the certificate's.
    """

    leaf: x509.Certificate
    key: PrivateKey | None = field(default=None, compare=False)
    chain: tuple[x509.Certificate, ...] = ()
    exportable: bool = field(default=True, compare=False)

    def __post_init__(self) -> None:
        if self.key is not None and not belong_together(self.leaf, self.key):
            raise ArgumentError(f"The private key is not that of the certificate {self.subject}.")

    @property
    def subject(self) -> str:
        """Whose certificate it is, as .NET writes it: ``CN=localhost``, ``CN=a.example, O="Acme, Ltd.", C=US``."""
        return distinguished_name(self.leaf.subject)

    @property
    def issuer(self) -> str:
        """Who has signed it, in the same form."""
        return distinguished_name(self.leaf.issuer)

    @property
    def has_private_key(self) -> bool:
        """Whether its private key is known."""
        return self.key is not None

    @property
    def not_before(self) -> datetime:
        """From when on it is valid."""
        return self.leaf.not_valid_before_utc

    @property
    def not_after(self) -> datetime:
        """Until when it is valid."""
        return self.leaf.not_valid_after_utc

    @property
    def thumbprint(self) -> str:
        """The SHA-1 digest of the certificate, in upper-case hexadecimal digits."""
        return self.leaf.fingerprint(hashes.SHA1()).hex().upper()

    @property
    def serial_number(self) -> str:
        """Its serial number, in upper-case hexadecimal digits."""
        text = f"{self.leaf.serial_number:X}"
        return "0" * (len(text) % 2) + text

    @property
    def purposes(self) -> list[str]:
        """What it may be used for: names such as ``TLS Web Server Authentication``, else object identifiers."""
        usages = self.extension(x509.ExtendedKeyUsage)
        return [] if usages is None else [purpose_name(oid.dotted_string) for oid in usages]

    def __repr__(self) -> str:
        return f"<Certificate {self.subject}, valid until {self.not_after:%Y-%m-%d}>"

    def extension(self, kind: type[_Extension]) -> _Extension | None:
        """Returns an extension of the certificate, or None.

        Raises:
            ArgumentError: The extensions of the certificate are malformed.
        """
        try:
            return self.leaf.extensions.get_extension_for_class(kind).value
        except x509.ExtensionNotFound:
            return None
        except (ValueError, x509.DuplicateExtension) as error:
            raise ArgumentError(f"The certificate {self.subject} is malformed: {error}.") from None

    def to_pem(self, password: bytes | None = None) -> bytes:
        """The certificate, its chain and its key (encrypted if a password is given) as PEM text."""
        certificates = b"".join(one.public_bytes(serialization.Encoding.PEM) for one in (self.leaf, *self.chain))
        return certificates if self.key is None else certificates + self.key_to_pem(password)

    def key_to_pem(self, password: bytes | None = None) -> bytes:
        """Its private key as PKCS#8 in PEM text, encrypted if a password is given.

        Raises:
            ArgumentError: The key is not known.
        """
        if self.key is None:
            raise ArgumentError(f"The certificate {self.subject} has no private key.")
        encryption: serialization.KeySerializationEncryption = serialization.NoEncryption()
        if password is not None:
            encryption = serialization.BestAvailableEncryption(password)
        return self.key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption)


def distinguished_name(name: x509.Name) -> str:
    """Returns a name as .NET's X500DistinguishedName shows it: the most specific part first."""
    return ", ".join(" + ".join(_part(attribute) for attribute in rdn) for rdn in reversed(name.rdns))


def _part(attribute: x509.NameAttribute[str | bytes]) -> str:
    label = "S" if attribute.oid == NameOID.STATE_OR_PROVINCE_NAME else attribute.rfc4514_attribute_name
    value = attribute.value if isinstance(attribute.value, str) else f"#{attribute.value.hex().upper()}"
    if _QUOTED.isdisjoint(value) and value == value.strip():
        return f"{label}={value}"
    doubled = value.replace('"', '""')
    return f'{label}="{doubled}"'


def to_certificate(value: object) -> Certificate:
    """Takes a certificate for an endpoint: a `Certificate`, or `cryptography`'s certificate and private key as a pair.

    Raises:
        ArgumentError: It is neither, or the key is missing or not the certificate's.
    """
    match value:
        case Certificate():
            if value.key is None:
                raise ArgumentError(f"x509_certificate: {value!r} has no private key; import it with its key.")
            return value
        case (x509.Certificate() as leaf, key) if isinstance(key, PrivateKey):
            return Certificate(leaf, key)
    raise ArgumentError(
        f"x509_certificate: a {type(value).__name__} has no private key; give a Certificate (development_certificate, "
        "load_certificate) or the pair (x509.Certificate, private key)."
    )


def belong_together(certificate: x509.Certificate, key: PrivateKey) -> bool:
    """Tells whether a private key is that of a certificate."""
    return certificate.public_key() == key.public_key()
