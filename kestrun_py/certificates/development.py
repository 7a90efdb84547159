"""Certificates for development: a leaf, and a root that issued it."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from kestrun_py.certificates.certificate import Certificate

__all__ = ["development_certificate"]

_LOCAL_NAMES = ("localhost", "127.0.0.1", "::1")


def development_certificate(
    dns_names: Sequence[str] = _LOCAL_NAMES, *, leaf_valid_days: int = 30, root_valid_days: int = 3650
) -> Certificate:
    """Makes a certificate for this machine, issued by a new root CA (New-KrSelfSignedCertificate -Development).

    The root's private key is thrown away, so whoever trusts the root trusts this one certificate. It is in the
    certificate's chain.

    Args:
        dns_names: Host names and IP addresses.
        leaf_valid_days: Days that the certificate is valid.
        root_valid_days: Days that its root is valid.
    """
    root_key, leaf_key = _new_key(), _new_key()
    root_name = _common_name("Kestrun Development Root CA")
    root = (
        _builder(root_name, root_name, root_key, root_key, root_valid_days)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(sign_certificates=True), critical=True)
        .sign(root_key, hashes.SHA256())
    )
    leaf = (
        _builder(_common_name(dns_names[0]), root_name, leaf_key, root_key, leaf_valid_days)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(sign_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectAlternativeName([_general_name(name) for name in dns_names]), critical=False)
        .sign(root_key, hashes.SHA256())
    )
    return Certificate(leaf, leaf_key, (root,))


def _new_key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


def _common_name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _builder(
    subject: x509.Name, issuer: x509.Name, key: rsa.RSAPrivateKey, issuer_key: rsa.RSAPrivateKey, days: int
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    issuer_id = x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key())
    return (
        x509.CertificateBuilder(subject_name=subject, issuer_name=issuer, public_key=key.public_key())
        .serial_number(x509.random_serial_number())
        # a client's clock may be a little behind
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=days))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(issuer_id, critical=False)
    )


def _key_usage(*, sign_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not sign_certificates,
        key_encipherment=not sign_certificates,
        key_cert_sign=sign_certificates,
        crl_sign=sign_certificates,
        content_commitment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)
