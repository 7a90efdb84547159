"""Whether a certificate can be relied on."""

from __future__ import annotations

import ssl
import warnings
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import dsa, ec, rsa
from cryptography.x509.verification import Criticality, ExtensionPolicy, Policy, PolicyBuilder, Store, VerificationError

from kestrun_py.certificates._fetching import fetch
from kestrun_py.certificates.certificate import Certificate
from kestrun_py.certificates.options import purpose_oid

__all__ = ["find_fault"]

_MAX_CRL_BYTES: Final = 32 << 20
_MIN_RSA_BITS: Final = 2048
_MIN_CURVE_BITS: Final = 256


def find_fault(
    certificate: Certificate,
    *,
    check_revocation: bool = False,
    allow_weak_algorithms: bool = False,
    deny_self_signed: bool = False,
    expected_purpose: str | Iterable[str] = (),
    strict_purpose: bool = False,
    certificate_chain: Iterable[Certificate | x509.Certificate] = (),
) -> str | None:
    """Tells why a certificate must not be relied on; None if it may be (Kestrun's CertificateManager.Validate).

    A self-signed certificate is its own root. Any other must lead to one of the self-signed certificates of
    `certificate_chain`, or without these to a root that this machine trusts.

    Args:
        certificate: The certificate; the issuers in its own chain count as intermediate ones.
        check_revocation: Look into the revocation list that the certificate names (this fetches it: it blocks, for ten
            seconds at most).
        allow_weak_algorithms: Accept SHA-1 and MD5 signatures, RSA keys below 2048 bits and curves below 256.
        deny_self_signed: Refuse what is its own issuer.
        expected_purpose: Extended key usages that it must have: names or object identifiers.
        strict_purpose: It must have no others.
        certificate_chain: Roots and intermediate certificates.

    Raises:
        ArgumentError: A purpose that is none.
    """
    wanted = {
        purpose_oid(one) for one in ([expected_purpose] if isinstance(expected_purpose, str) else expected_purpose)
    }
    leaf = certificate.leaf
    if not leaf.not_valid_before_utc <= datetime.now(UTC) <= leaf.not_valid_after_utc:
        return "Certificate is outside validity period."
    is_self_signed = leaf.subject == leaf.issuer
    if deny_self_signed and is_self_signed:
        return "Self-signed certificates are denied by policy."
    try:
        weakness = "; ".join(_weaknesses(leaf))
    except (UnsupportedAlgorithm, ValueError) as error:
        return f"Its key or signature is of an unknown kind: {error}."
    others = [one.leaf if isinstance(one, Certificate) else one for one in certificate_chain]
    if is_self_signed:
        fault = None if weakness and allow_weak_algorithms else _self_signature_fault(leaf)
    else:
        fault = _chain_fault(leaf, others, certificate.chain, check_revocation=check_revocation)
    if fault is not None:
        return fault
    if not _has_purposes(certificate, wanted, strict=strict_purpose):
        return "EKU purpose mismatch."
    return weakness if weakness and not allow_weak_algorithms else None


def _weaknesses(leaf: x509.Certificate) -> list[str]:
    found = []
    if isinstance(leaf.signature_hash_algorithm, hashes.SHA1 | hashes.MD5):
        found.append(f"Signature algorithm '{leaf.signature_hash_algorithm.name}'")
    key = leaf.public_key()
    if isinstance(key, rsa.RSAPublicKey | dsa.DSAPublicKey) and key.key_size < _MIN_RSA_BITS:
        kind = "RSA" if isinstance(key, rsa.RSAPublicKey) else "DSA"
        found.append(f"{kind} key size {key.key_size} < {_MIN_RSA_BITS}")
    if isinstance(key, ec.EllipticCurvePublicKey) and key.key_size < _MIN_CURVE_BITS:
        found.append(f"ECDSA key size {key.key_size} < {_MIN_CURVE_BITS}")
    return found


def _self_signature_fault(leaf: x509.Certificate) -> str | None:
    try:
        leaf.verify_directly_issued_by(leaf)
    except Exception as error:  # InvalidSignature, or an algorithm that cannot be verified
        reason = str(error) or "the signature is not its own"
        return f"Self-signed certificate chain validation failed: {reason}."
    return None


def _chain_fault(
    leaf: x509.Certificate,
    others: Sequence[x509.Certificate],
    own_chain: Sequence[x509.Certificate],
    *,
    check_revocation: bool,
) -> str | None:
    roots = [one for one in others if one.subject == one.issuer and one != leaf]
    intermediates = [one for one in (*others, *own_chain) if one.subject != one.issuer and one != leaf]
    try:
        roots = roots or _system_roots()
        verifier = PolicyBuilder().store(Store(roots)).extension_policies(**_policies()).build_client_verifier()
        issuer = verifier.verify(leaf, intermediates).chain[1]
    except (VerificationError, ValueError) as error:
        return f"Certificate chain validation failed: {error}"
    return _revocation_fault(leaf, issuer) if check_revocation else None


def _policies() -> dict[str, ExtensionPolicy]:
    # `_has_purposes` checks the purposes, and a client checks the names when it connects. The issuers must be CAs.
    issuers = ExtensionPolicy.permit_all()
    issuers = issuers.require_present(x509.BasicConstraints, Criticality.AGNOSTIC, _check_authority)
    issuers = issuers.may_be_present(x509.KeyUsage, Criticality.AGNOSTIC, _check_signing)
    return {"ca_policy": issuers, "ee_policy": ExtensionPolicy.permit_all()}


def _check_authority(policy: Policy, certificate: x509.Certificate, extension: x509.BasicConstraints) -> None:
    if not extension.ca:
        raise ValueError("an issuer is not a CA")


def _check_signing(policy: Policy, certificate: x509.Certificate, extension: x509.KeyUsage | None) -> None:
    if extension is not None and not extension.key_cert_sign:
        raise ValueError("an issuer may not sign certificates")


def _system_roots() -> list[x509.Certificate]:
    context = ssl.create_default_context()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # some roots that machines trust have serial numbers that they must not have
        roots = [x509.load_der_x509_certificate(der) for der in context.get_ca_certs(binary_form=True)]
    if not roots:
        raise ValueError("no root is given in certificate_chain, and this machine has none")
    return roots


def _has_purposes(certificate: Certificate, wanted: set[str], *, strict: bool) -> bool:
    if not wanted:
        return True
    usages = certificate.extension(x509.ExtendedKeyUsage)
    present = set() if usages is None else {oid.dotted_string for oid in usages}
    return present == wanted if strict else wanted <= present


def _revocation_fault(leaf: x509.Certificate, issuer: x509.Certificate) -> str | None:
    try:
        urls = _crl_urls(leaf)
        crl = _load_crl(fetch(urls[0], _MAX_CRL_BYTES))
    except (ValueError, OSError) as error:
        return f"Certificate chain validation failed: its revocation status is unknown: {error}"
    if crl.issuer != issuer.subject or not crl.is_signature_valid(issuer.public_key()):  # type: ignore[arg-type]
        return "Certificate chain validation failed: its revocation list is not that of its issuer."
    if crl.next_update_utc is not None and crl.next_update_utc < datetime.now(UTC):
        return "Certificate chain validation failed: its revocation list is out of date."
    if crl.get_revoked_certificate_by_serial_number(leaf.serial_number) is not None:
        return "Certificate chain validation failed: it was revoked."
    return None


def _crl_urls(leaf: x509.Certificate) -> list[str]:
    try:
        points = leaf.extensions.get_extension_for_class(x509.CRLDistributionPoints).value
    except x509.ExtensionNotFound:
        points = x509.CRLDistributionPoints([])
    names = [name.value for point in points for name in point.full_name or ()]
    urls = [name for name in names if isinstance(name, str) and name.lower().startswith(("http://", "https://"))]
    if not urls:
        raise ValueError("it names no revocation list that HTTP could fetch")
    return urls


def _load_crl(data: bytes) -> x509.CertificateRevocationList:
    return x509.load_pem_x509_crl(data) if data.startswith(b"-----BEGIN") else x509.load_der_x509_crl(data)
