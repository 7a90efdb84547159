"""Certificate signing requests."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.serialization import Encoding, PrivateFormat, PublicFormat
from cryptography.x509.oid import NameOID

from kestrun_py.certificates._building import (
    checked_names,
    hash_for,
    key_usage_extension,
    new_key,
    subject_alternative_name,
)
from kestrun_py.certificates.certificate import PrivateKey
from kestrun_py.certificates.options import KeyType, KeyTypeText, KeyUsage, KeyUsageText, to_key_usages
from kestrun_py.conversion.enums import to_enum
from kestrun_py.errors import ArgumentError

__all__ = ["CsrResult", "new_certificate_request"]


@dataclass(frozen=True, slots=True)
class CsrResult:
    """A certificate signing request and its key (Kestrun's CsrResult).

    Attributes:
        csr_pem: The request, for the certificate authority.
        csr_der: The same in DER.
        private_key: The key; keep it to yourself.
        private_key_pem: The same as PEM text, in the traditional form ("RSA PRIVATE KEY", "EC PRIVATE KEY").
        private_key_der: The same as PKCS#8 in DER.
        private_key_pem_encrypted: The same as PKCS#8, encrypted; None without a password.
        public_key_pem: The public key.
        public_key_der: The same in DER.
    """

    csr_pem: str
    csr_der: bytes
    private_key: PrivateKey = field(repr=False)
    private_key_pem: str = field(repr=False)
    private_key_der: bytes = field(repr=False)
    private_key_pem_encrypted: str | None = field(repr=False)
    public_key_pem: str
    public_key_der: bytes


def new_certificate_request(
    dns_names: str | Iterable[str],
    *,
    key_type: KeyType | KeyTypeText = "Rsa",
    key_length: int = 2048,
    country: str | None = None,
    org: str | None = None,
    org_unit: str | None = None,
    common_name: str | None = None,
    key_usage: KeyUsage | KeyUsageText | Iterable[KeyUsage | KeyUsageText] = (),
    password: str | bytes | None = None,
) -> CsrResult:
    """Makes a key and a request to certify it (Kestrun's CertificateManager.NewCertificateRequest).

    Args:
        dns_names: DNS names and IP addresses, the subject's alternative names.
        key_type: Rsa or Ecdsa.
        key_length: Bits, as `new_self_signed_certificate` takes them.
        country: Two letters.
        org: The organisation.
        org_unit: A part of it.
        common_name: The subject's common name; the first of `dns_names` if left out.
        key_usage: What the key will be used for; left out, the authority decides.
        password: Encrypts `CsrResult.private_key_pem_encrypted`.

    Raises:
        ArgumentError: An argument that a request cannot hold.
    """
    names = checked_names(dns_names)
    kind = to_enum(KeyType, key_type, "key_type")
    usages = to_key_usages(key_usage)
    subject = _subject(country, org, org_unit, common_name or names[0])
    alternatives = subject_alternative_name(names)
    key = new_key(kind, key_length)
    builder = x509.CertificateSigningRequestBuilder(subject).add_extension(alternatives, critical=False)
    if usages:
        builder = builder.add_extension(key_usage_extension(usages), critical=True)
    return _result(builder.sign(key, hash_for(key)), key, password.encode() if isinstance(password, str) else password)


def _subject(country: str | None, org: str | None, org_unit: str | None, common_name: str) -> x509.Name:
    parts = (
        ("country", NameOID.COUNTRY_NAME, country),
        ("org", NameOID.ORGANIZATION_NAME, org),
        ("org_unit", NameOID.ORGANIZATIONAL_UNIT_NAME, org_unit),
        ("common_name", NameOID.COMMON_NAME, common_name),
    )
    return x509.Name([_attribute(name, oid, value) for name, oid, value in parts if value])


def _attribute(name: str, oid: x509.ObjectIdentifier, value: str) -> x509.NameAttribute[str]:
    try:
        return x509.NameAttribute(oid, value)
    except (ValueError, TypeError) as error:
        raise ArgumentError(f"{name}: {value!r:.60} is not possible: {error}.") from None


def _result(request: x509.CertificateSigningRequest, key: PrivateKey, password: bytes | None) -> CsrResult:
    plain = serialization.NoEncryption()
    public = key.public_key()
    encrypted = None
    if password:
        encryption = serialization.BestAvailableEncryption(password)
        encrypted = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption).decode()
    return CsrResult(
        request.public_bytes(Encoding.PEM).decode(),
        request.public_bytes(Encoding.DER),
        key,
        key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, plain).decode(),
        key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, plain),
        encrypted,
        public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode(),
        public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo),
    )
