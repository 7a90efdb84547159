"""New certificates: self-signed, issued by another one, or a root and a leaf for development."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from kestrun_py.certificates._building import (
    checked_names,
    hash_for,
    key_usage_extension,
    new_key,
    subject_alternative_name,
)
from kestrun_py.certificates.certificate import Certificate, PrivateKey
from kestrun_py.certificates.options import (
    DEVELOPMENT_ROOT_NAME,
    KeyType,
    KeyTypeText,
    KeyUsage,
    KeyUsageText,
    checked_range,
    to_key_usages,
)
from kestrun_py.conversion.enums import to_enum
from kestrun_py.errors import ArgumentError
from kestrun_py.logging import default_logger

__all__ = [
    "SelfSignedCertificateResult",
    "development_certificate",
    "new_development_certificate",
    "new_self_signed_certificate",
]

_LOCAL_NAMES = ("localhost", "127.0.0.1", "::1")

_HOW_TO_TRUST = (
    "trust_root does not change what this machine trusts. Write root_certificate with export_certificate "
    "(export_kr_certificate): format='Pem', and add the file to the roots of the browser or the machine."
)

# The clock of a client may be a little behind.
_START_MARGIN = timedelta(minutes=5)


@dataclass(frozen=True, slots=True)
class SelfSignedCertificateResult:
    """A root for development, and a leaf that it issued.

    Attributes:
        leaf_certificate: The certificate for an endpoint; the root is in its chain.
        root_certificate: The root, with its private key if it has one.
        public_root_certificate: The root without its private key, to be trusted by browsers.
        root_trusted: Whether the root was added to the trusted ones of this machine: never.
    """

    leaf_certificate: Certificate
    root_certificate: Certificate
    public_root_certificate: Certificate
    root_trusted: bool = False

    @property
    def certificate(self) -> Certificate:
        """The leaf."""
        return self.leaf_certificate


def new_self_signed_certificate(
    dns_names: str | Iterable[str],
    *,
    key_type: KeyType | KeyTypeText = "Rsa",
    key_length: int = 2048,
    valid_days: int = 365,
    key_usage: KeyUsage | KeyUsageText | Iterable[KeyUsage | KeyUsageText] = (),
    certificate_authority: bool = False,
    issuer_certificate: Certificate | None = None,
    ephemeral: bool = False,
    exportable: bool = False,
) -> Certificate:
    """Makes a key and a certificate for it (Kestrun's CertificateManager.NewSelfSigned).

    It is valid from five minutes ago, for TLS servers and clients.

    Args:
        dns_names: DNS names and IP addresses; the first one is the subject's common name.
        key_type: Rsa or Ecdsa.
        key_length: Bits: 1024 to 8192 for RSA; for ECDSA up to 256 is P-256, up to 384 P-384, and more P-521.
        valid_days: 1 to 3650.
        key_usage: What the key may be used for, instead of what the kind of certificate needs.
        certificate_authority: Make it a CA, without alternative names and purposes.
        issuer_certificate: The CA that signs it, with its private key; left out, it signs itself.
        ephemeral: Its private key may not be written to a file.
        exportable: The key may be written even if it is ephemeral.

    Raises:
        ArgumentError: An argument that is out of its bounds, or an issuer that cannot issue.
    """
    days = checked_range(valid_days, "valid_days", 1, 3650)
    kind = to_enum(KeyType, key_type, "key_type")
    usages = to_key_usages(key_usage) or _default_usages(kind, certificate_authority)
    if issuer_certificate is not None:
        _check_issuer(issuer_certificate)
    names = checked_names(dns_names)
    key = new_key(kind, key_length)
    certificate = _issue(names, key, days, usages, issuer_certificate, is_authority=certificate_authority)
    return replace(certificate, exportable=exportable or not ephemeral)


def new_development_certificate(
    dns_names: str | Iterable[str] | None = None,
    *,
    root_certificate: Certificate | None = None,
    root_name: str = DEVELOPMENT_ROOT_NAME,
    leaf_valid_days: int = 30,
    root_valid_days: int = 3650,
    trust_root: bool = False,
) -> SelfSignedCertificateResult:
    """Makes a root CA and a certificate for this machine that it issued (New-KrSelfSignedCertificate -Development).

    Args:
        dns_names: Host names and IP addresses; those of this machine itself (localhost) if left out.
        root_certificate: A CA with its private key, instead of a new root.
        root_name: The common name of the new root.
        leaf_valid_days: 1 to 3650.
        root_valid_days: 1 to 36500.
        trust_root: Log how to trust the root. (Kestrun adds it to the store of Windows.)

    Raises:
        ArgumentError: An argument that is out of its bounds, or a root that cannot issue.
    """
    leaf_days = checked_range(leaf_valid_days, "leaf_valid_days", 1, 3650)
    root_days = checked_range(root_valid_days, "root_valid_days", 1, 36500)
    if root_certificate is None:
        usages = _default_usages(KeyType.RSA, True)
        root = _issue(checked_names(root_name), new_key(KeyType.RSA, 2048), root_days, usages, None, is_authority=True)
    else:
        root = root_certificate
    if trust_root:
        default_logger.warning(_HOW_TO_TRUST)
    names = _LOCAL_NAMES if dns_names is None else dns_names
    leaf = new_self_signed_certificate(names, valid_days=leaf_days, issuer_certificate=root)
    return SelfSignedCertificateResult(leaf, root, replace(root, key=None))


def development_certificate() -> Certificate:
    """Makes a certificate for localhost, with the root that issued it in its chain.

    The root's private key is not kept, so whoever trusts the root trusts this one certificate.
    """
    return new_development_certificate().leaf_certificate


def _default_usages(kind: KeyType, is_authority: bool) -> frozenset[KeyUsage]:
    if is_authority:
        return frozenset({KeyUsage.KEY_CERT_SIGN, KeyUsage.CRL_SIGN})
    return frozenset({KeyUsage.DIGITAL_SIGNATURE} | ({KeyUsage.KEY_ENCIPHERMENT} if kind is KeyType.RSA else set()))


def _check_issuer(issuer: Certificate) -> None:
    if issuer.key is None:
        raise ArgumentError(f"The issuer {issuer.subject} has no private key; import it with its key.")
    constraints = issuer.extension(x509.BasicConstraints)
    if constraints is None or not constraints.ca:
        raise ArgumentError(f"The issuer {issuer.subject} is not a CA; make it with certificate_authority=True.")
    usage = issuer.extension(x509.KeyUsage)
    if usage is not None and not usage.key_cert_sign:
        raise ArgumentError(f"The issuer {issuer.subject} may not sign certificates: its key usage lacks KeyCertSign.")


def _issue(
    names: list[str],
    key: PrivateKey,
    days: int,
    usages: frozenset[KeyUsage],
    issuer: Certificate | None,
    *,
    is_authority: bool,
) -> Certificate:
    subject = _common_name(names[0])
    issuer_key = key if issuer is None or issuer.key is None else issuer.key
    start = datetime.now(UTC) - _START_MARGIN
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject if issuer is None else issuer.leaf.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(start + timedelta(days=days))
        .add_extension(x509.BasicConstraints(ca=is_authority, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(_authority_key(issuer, issuer_key), critical=False)
        .add_extension(key_usage_extension(usages), critical=True)
    )
    if not is_authority:
        purposes = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
        builder = builder.add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
        builder = builder.add_extension(subject_alternative_name(names), critical=False)
    leaf = builder.sign(issuer_key, hash_for(issuer_key))
    return Certificate(leaf, key, () if issuer is None else (issuer.leaf, *issuer.chain))


def _authority_key(issuer: Certificate | None, issuer_key: PrivateKey) -> x509.AuthorityKeyIdentifier:
    known = None if issuer is None else issuer.extension(x509.SubjectKeyIdentifier)
    if known is not None:
        return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(known)
    return x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key())


def _common_name(text: str) -> x509.Name:
    try:
        return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])
    except ValueError:
        raise ArgumentError(f"A common name has 1 to 64 characters; {text!r:.80} has {len(text)}.") from None
