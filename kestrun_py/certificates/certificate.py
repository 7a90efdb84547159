"""Certificates with their private keys."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeAlias

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from kestrun_py.errors import ArgumentError

__all__ = ["Certificate", "PrivateKey", "belong_together", "to_certificate"]

PrivateKey: TypeAlias = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey
"""The private keys of `cryptography` that TLS knows."""


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
        if not belong_together(self.leaf, self.key):
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


def belong_together(certificate: x509.Certificate, key: PrivateKey) -> bool:
    """Tells whether a private key is that of a certificate."""
    return certificate.public_key() == key.public_key()
