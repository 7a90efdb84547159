"""The parts that certificates and requests are built of: keys, names, extensions."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Sequence

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from kestrun_py.certificates.certificate import PrivateKey
from kestrun_py.certificates.options import KeyType, KeyUsage, checked_range
from kestrun_py.errors import ArgumentError

__all__ = ["checked_names", "hash_for", "key_usage_extension", "new_key", "subject_alternative_name"]

_MIN_RSA_BITS = 1024
_MAX_RSA_BITS = 8192


def new_key(key_type: KeyType, key_length: int) -> rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey:
    """Makes a private key.

    Args:
        key_type: The kind.
        key_length: Bits. For ECDSA, up to 256 is the curve P-256, up to 384 P-384, and more P-521.

    Raises:
        ArgumentError: A length that keys of this kind cannot have.
    """
    if key_type is KeyType.RSA:
        bits = checked_range(key_length, "key_length of an RSA key", _MIN_RSA_BITS, _MAX_RSA_BITS)
        return rsa.generate_private_key(public_exponent=65537, key_size=bits)
    bits = checked_range(key_length, "key_length", 256, _MAX_RSA_BITS)
    return ec.generate_private_key(ec.SECP256R1() if bits <= 256 else ec.SECP384R1() if bits <= 384 else ec.SECP521R1())


def hash_for(key: PrivateKey) -> hashes.SHA256 | hashes.SHA384 | None:
    """The digest that Kestrun signs with: SHA-256 with RSA, SHA-384 with ECDSA; Ed25519 has its own."""
    if isinstance(key, ed25519.Ed25519PrivateKey):
        return None
    return hashes.SHA256() if isinstance(key, rsa.RSAPrivateKey) else hashes.SHA384()


def checked_names(names: str | Iterable[str]) -> list[str]:
    """Returns DNS names and IP addresses without blanks and repetitions.

    Raises:
        ArgumentError: There is none.
    """
    given = [names] if isinstance(names, str) else list(names)
    if not all(isinstance(name, str) for name in given):
        raise ArgumentError(f"dns_names must be texts, not {given!r:.60}.")
    cleaned: dict[str, str] = {}
    for name in map(str.strip, given):
        cleaned.setdefault(name.casefold(), name)
    cleaned.pop("", None)
    if not cleaned:
        raise ArgumentError("dns_names: give at least one DNS name or IP address.")
    return list(cleaned.values())


def subject_alternative_name(names: Sequence[str]) -> x509.SubjectAlternativeName:
    """The extension for DNS names and IP addresses.

    Raises:
        ArgumentError: A name with letters that DNS does not have.
    """
    return x509.SubjectAlternativeName([_general_name(name) for name in names])


def key_usage_extension(usages: Iterable[KeyUsage]) -> x509.KeyUsage:
    """The extension for key usages."""
    allowed = set(usages)
    # The last two are said of key agreement; without it there is nothing that they could restrict.
    agreement = bool(allowed & {KeyUsage.KEY_AGREEMENT, KeyUsage.ENCIPHER_ONLY, KeyUsage.DECIPHER_ONLY})
    return x509.KeyUsage(
        digital_signature=KeyUsage.DIGITAL_SIGNATURE in allowed,
        content_commitment=KeyUsage.NON_REPUDIATION in allowed,
        key_encipherment=KeyUsage.KEY_ENCIPHERMENT in allowed,
        data_encipherment=KeyUsage.DATA_ENCIPHERMENT in allowed,
        key_agreement=agreement,
        key_cert_sign=KeyUsage.KEY_CERT_SIGN in allowed,
        crl_sign=KeyUsage.CRL_SIGN in allowed,
        encipher_only=KeyUsage.ENCIPHER_ONLY in allowed,
        decipher_only=KeyUsage.DECIPHER_ONLY in allowed,
    )


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        pass
    try:
        return x509.DNSName(name)
    except ValueError:
        raise ArgumentError(f"dns_names: {name!r:.60} is not ASCII; write it as DNS does (xn--...).") from None
