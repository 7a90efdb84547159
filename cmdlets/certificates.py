"""The certificate cmdlets: New-KrSelfSignedCertificate, Import-KrCertificate, ConvertTo-KrJwkJson and their kin."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, overload

from cmdlets._arguments import MISSING, alias
from cmdlets._pipe import Pending, pipe
from kestrun_py.certificates.options import (
    DEVELOPMENT_ROOT_NAME,
    ExportFormat,
    ExportFormatText,
    KeyType,
    KeyTypeText,
    KeyUsage,
    KeyUsageText,
)
from kestrun_py.errors import ArgumentError
from kestrun_py.logging import default_logger

if TYPE_CHECKING:  # needs cryptography
    from kestrun_py.certificates.certificate import Certificate
    from kestrun_py.certificates.self_signed import SelfSignedCertificateResult
    from kestrun_py.certificates.signing_requests import CsrResult

__all__ = [
    "convert_from_kr_jwk_json_to_certificate",
    "convert_to_kr_jwk_json",
    "export_kr_certificate",
    "get_kr_certificate_purpose",
    "get_kr_jwk_thumbprint",
    "import_kr_certificate",
    "new_kr_certificate_request",
    "new_kr_private_key_jwt",
    "new_kr_self_signed_certificate",
    "test_kr_certificate",
]


@overload
def new_kr_self_signed_certificate(
    dns_names: str | Iterable[str] | None = ...,
    *,
    key_type: KeyType | KeyTypeText = ...,
    key_length: int = ...,
    valid_days: int = ...,
    key_usage: KeyUsage | KeyUsageText | Iterable[KeyUsage | KeyUsageText] = ...,
    certificate_authority: bool = ...,
    is_certificate_authority: bool = ...,
    issuer_certificate: Certificate | None = ...,
    ephemeral: bool = ...,
    exportable: bool = ...,
) -> Certificate: ...
@overload
def new_kr_self_signed_certificate(
    dns_names: str | Iterable[str] | None = ...,
    *,
    development: Literal[True],
    root_certificate: Certificate | None = ...,
    root_name: str = ...,
    leaf_valid_days: int = ...,
    root_valid_days: int = ...,
    trust_root: bool = ...,
    exportable: bool = ...,
) -> SelfSignedCertificateResult: ...
def new_kr_self_signed_certificate(
    dns_names: str | Iterable[str] | None = None,
    *,
    key_type: KeyType | KeyTypeText = "Rsa",
    key_length: int = 2048,
    valid_days: int = 365,
    key_usage: KeyUsage | KeyUsageText | Iterable[KeyUsage | KeyUsageText] = (),
    certificate_authority: bool = False,
    is_certificate_authority: bool = MISSING,
    issuer_certificate: Certificate | None = None,
    development: bool = False,
    root_certificate: Certificate | None = None,
    root_name: str = DEVELOPMENT_ROOT_NAME,
    leaf_valid_days: int = 30,
    root_valid_days: int = 3650,
    trust_root: bool = False,
    ephemeral: bool = False,
    exportable: bool = False,
) -> Certificate | SelfSignedCertificateResult:
    """Makes a key and a certificate for it (New-KrSelfSignedCertificate).

    Without `development`, a self-signed certificate, a CA, or one that `issuer_certificate` has signed. With it, a root
    CA and a certificate that it has signed, for localhost if no names are given.

    Args:
        dns_names: DNS names and IP addresses; the first one is the common name.
        key_type: Rsa or Ecdsa.
        key_length: Bits: 1024 to 8192 for RSA; for ECDSA up to 256 is P-256, up to 384 P-384, and more P-521.
        valid_days: 1 to 3650.
        key_usage: What the key may be used for (.NET's X509KeyUsageFlags), instead of what the certificate needs.
        certificate_authority: Make it a CA.
        is_certificate_authority: The same.
        issuer_certificate: The CA that signs it, with its private key.
        development: Make a root and a leaf.
        root_certificate: With `development`: a CA with its private key, instead of a new root.
        root_name: With `development`: the common name of the new root.
        leaf_valid_days: With `development`: 1 to 3650.
        root_valid_days: With `development`: 1 to 36500.
        trust_root: With `development`: logs how to trust the root. Kestrun adds it to the store of Windows.
        ephemeral: The private key may not be written to a file.
        exportable: It may be written even so.

    Raises:
        ArgumentError: Arguments out of their bounds, of the other kind of certificate, or an issuer that cannot issue.
    """
    from kestrun_py.certificates.self_signed import (  # imported when used
        new_development_certificate,
        new_self_signed_certificate,
    )

    standard: dict[str, Any] = {
        "key_type": key_type,
        "key_length": key_length,
        "valid_days": valid_days,
        "key_usage": key_usage,
        "certificate_authority": alias(
            certificate_authority, False, "certificate_authority", is_certificate_authority=is_certificate_authority
        ),
        "issuer_certificate": issuer_certificate,
        "ephemeral": ephemeral,
    }
    roots: dict[str, Any] = {
        "root_certificate": root_certificate,
        "root_name": root_name,
        "leaf_valid_days": leaf_valid_days,
        "root_valid_days": root_valid_days,
        "trust_root": trust_root,
    }
    if development:
        _refuse(standard, new_self_signed_certificate, "is for a certificate without development=True")
        return new_development_certificate(dns_names, **roots)
    _refuse(roots, new_development_certificate, "needs development=True")
    return new_self_signed_certificate(() if dns_names is None else dns_names, **standard, exportable=exportable)


def _refuse(given: Mapping[str, Any], function: Callable[..., object], reason: str) -> None:
    """Refuses arguments of the other kind of certificate that are not the defaults."""
    defaults = {name: parameter.default for name, parameter in inspect.signature(function).parameters.items()}
    for name, value in given.items():
        if value != defaults[name]:
            raise ArgumentError(f"new_kr_self_signed_certificate: {name} {reason}.")


def new_kr_certificate_request(
    dns_names: str | Iterable[str],
    key_type: KeyType | KeyTypeText = "Rsa",
    key_length: int = 2048,
    country: str | None = None,
    org: str | None = None,
    org_unit: str | None = None,
    common_name: str | None = None,
    key_usage: KeyUsage | KeyUsageText | Iterable[KeyUsage | KeyUsageText] = (),
) -> CsrResult:
    """Makes a key and a request to certify it (New-KrCertificateRequest).

    Args:
        dns_names: DNS names and IP addresses, the subject's alternative names.
        key_type: Rsa or Ecdsa.
        key_length: Bits: 1024 to 8192 for RSA; for ECDSA up to 256 is P-256, up to 384 P-384, and more P-521.
        country: Two letters.
        org: The organisation.
        org_unit: A part of it.
        common_name: The subject's common name; the first of `dns_names` if left out.
        key_usage: What the key will be used for (.NET's X509KeyUsageFlags).

    Raises:
        ArgumentError: An argument that a request cannot hold.
    """
    from kestrun_py.certificates.signing_requests import new_certificate_request  # imported when used

    return new_certificate_request(
        dns_names,
        key_type=key_type,
        key_length=key_length,
        country=country,
        org=org,
        org_unit=org_unit,
        common_name=common_name,
        key_usage=key_usage,
    )


def import_kr_certificate(
    file_path: str | Path, password: str | bytes | None = None, private_key_path: str | Path | None = None
) -> Certificate:
    """Reads a certificate from a PFX, PEM or DER file (Import-KrCertificate).

    Args:
        file_path: The file.
        password: Of the PFX file, or of an encrypted private key.
        private_key_path: A PEM file with the private key, for a certificate without.

    Raises:
        CertificateError: No such file, nothing in it that could be used, or another password.
    """
    from kestrun_py.certificates.loading import import_certificate  # imported when used

    return import_certificate(file_path, password, private_key_path)


@overload
def export_kr_certificate(
    certificate: Certificate,
    file_path: str | Path,
    format: ExportFormat | ExportFormatText = ...,
    password: str | bytes | None = ...,
    *,
    include_private_key: bool = ...,
) -> None: ...
@overload
def export_kr_certificate(
    *,
    file_path: str | Path,
    format: ExportFormat | ExportFormatText = ...,
    password: str | bytes | None = ...,
    include_private_key: bool = ...,
) -> Pending[Certificate, None]: ...
def export_kr_certificate(
    certificate: Certificate = MISSING,
    file_path: str | Path = MISSING,
    format: ExportFormat | ExportFormatText = "Pfx",
    password: str | bytes | None = None,
    *,
    include_private_key: bool = False,
) -> Pending[Certificate, None] | None:
    """Writes a certificate to a file (Export-KrCertificate). Files with a private key get mode 0600.

    Args:
        certificate: The certificate; the pipeline input.
        file_path: The file; a name without a suffix gets that of the format.
        format: Pfx, which holds the private key too if it is known, or Pem.
        password: Encrypts the PFX, or the private key of a PEM.
        include_private_key: With Pem: write the private key to the file of the same name that ends with ``.key``.

    Raises:
        ArgumentError: A suffix of another format, no file, or no private key.
        CertificateError: An ephemeral private key, no such folder, or a file that cannot be written.
    """
    from kestrun_py.certificates.certificate import Certificate  # imported when used
    from kestrun_py.certificates.exporting import export_certificate  # imported when used

    if file_path is MISSING:
        raise ArgumentError("export_kr_certificate: file_path is missing.")

    def export(piped: Certificate) -> None:
        export_certificate(piped, file_path, format=format, password=password, include_private_key=include_private_key)

    return pipe("export_kr_certificate", Certificate, certificate, export)


def test_kr_certificate(
    certificate: Certificate,
    expected_purpose: str | Iterable[str] = (),
    certificate_chain: Iterable[Certificate] = (),
    failure_reason_variable: ContextVar[str] | None = None,
    *,
    check_revocation: bool = False,
    allow_weak_algorithms: bool = False,
    deny_self_signed: bool = False,
    strict_purpose: bool = False,
) -> bool:
    """Tells whether a certificate may be relied on (Test-KrCertificate). If not, a warning says why.

    Args:
        certificate: The certificate. A self-signed one is its own root.
        expected_purpose: What it must be good for: object identifiers, or names such as ``Server Authentication``.
        certificate_chain: Roots and intermediate certificates; without a root, those count that this machine trusts.
        failure_reason_variable: A variable that is set to the reason, to "" if there is none.
        check_revocation: Fetch the revocation list that it names; this blocks.
        allow_weak_algorithms: Accept SHA-1 and MD5 signatures and short keys.
        deny_self_signed: Refuse a self-signed certificate.
        strict_purpose: It must have no other purpose than the expected ones.

    Raises:
        ArgumentError: A purpose that is none.
    """
    from kestrun_py.certificates.validation import find_fault  # imported when used

    fault = find_fault(
        certificate,
        check_revocation=check_revocation,
        allow_weak_algorithms=allow_weak_algorithms,
        deny_self_signed=deny_self_signed,
        expected_purpose=expected_purpose,
        strict_purpose=strict_purpose,
        certificate_chain=certificate_chain,
    )
    if failure_reason_variable is not None:
        failure_reason_variable.set(fault or "")
    if fault is not None:
        default_logger.warning("Certificate validation failed for {Subject}: {Reason}", certificate.subject, fault)
    return fault is None


# pytest collects what is called test_*, also from an import.
test_kr_certificate.__test__ = False  # type: ignore[attr-defined]


def get_kr_certificate_purpose(certificate: Certificate) -> list[str]:
    """Returns what a certificate may be used for: its extended key usages by name (Get-KrCertificatePurpose).

    The names are OpenSSL's, as with .NET on Linux: ``TLS Web Server Authentication``. A usage without a name is given
    by its object identifier.
    """
    return certificate.purposes


@overload
def convert_to_kr_jwk_json(certificate: Certificate, *, include_private_parameters: bool = ...) -> str: ...
@overload
def convert_to_kr_jwk_json(*, rsa_private_key_pem: str, include_private_parameters: bool = ...) -> str: ...
@overload
def convert_to_kr_jwk_json(*, rsa_private_key_path: str | Path, include_private_parameters: bool = ...) -> str: ...
@overload
def convert_to_kr_jwk_json(*, include_private_parameters: bool = ...) -> Pending[Certificate, str]: ...
def convert_to_kr_jwk_json(
    certificate: Certificate = MISSING,
    *,
    rsa_private_key_pem: str | None = None,
    rsa_private_key_path: str | Path | None = None,
    include_private_parameters: bool = False,
) -> str | Pending[Certificate, str]:
    """Returns an RSA key as a JSON Web Key (ConvertTo-KrJwkJson).

    Args:
        certificate: The certificate whose key it is; the pipeline input.
        rsa_private_key_pem: Instead, an RSA private key as PEM text; all its members are returned.
        rsa_private_key_path: Instead, the PEM file that holds it.
        include_private_parameters: Return the private members of the certificate's key.

    Raises:
        ArgumentError: More than one key, no RSA key, or no private one.
        CertificateError: The file cannot be read.
    """
    from kestrun_py.certificates import jwk  # imported when used
    from kestrun_py.certificates.certificate import Certificate  # imported when used

    given = [certificate is not MISSING, rsa_private_key_pem is not None, rsa_private_key_path is not None]
    if sum(given) > 1:
        raise ArgumentError(
            "certificate, rsa_private_key_pem and rsa_private_key_path are one choice; give one of them."
        )
    if rsa_private_key_pem is not None:
        return jwk.rsa_private_key_to_jwk(rsa_private_key_pem)
    if rsa_private_key_path is not None:
        return jwk.rsa_private_key_path_to_jwk(rsa_private_key_path)
    return pipe(
        "convert_to_kr_jwk_json",
        Certificate,
        certificate,
        lambda piped: jwk.certificate_to_jwk(piped, include_private_parameters=include_private_parameters),
    )


@overload
def convert_from_kr_jwk_json_to_certificate(jwk: str | Mapping[str, Any], subject_name: str = ...) -> Certificate: ...
@overload
def convert_from_kr_jwk_json_to_certificate(*, subject_name: str = ...) -> Pending[Any, Certificate]: ...
def convert_from_kr_jwk_json_to_certificate(
    jwk: str | Mapping[str, Any] = MISSING, subject_name: str = "CN=client-jwt"
) -> Certificate | Pending[Any, Certificate]:
    """Makes a self-signed certificate for the key of a JWK, valid for a year (ConvertFrom-KrJwkJsonToCertificate).

    Args:
        jwk: JSON text, or a dict: an RSA key with its private members; the pipeline input.
        subject_name: The subject.

    Raises:
        ArgumentError: It is no such key, or no such name.
    """
    from kestrun_py.certificates.jwk import certificate_from_jwk  # imported when used

    either: type[Any] = object  # text or a mapping
    name = "convert_from_kr_jwk_json_to_certificate"
    return pipe(name, either, jwk, lambda piped: certificate_from_jwk(piped, subject_name))


@overload
def get_kr_jwk_thumbprint(certificate: Certificate) -> str: ...
@overload
def get_kr_jwk_thumbprint(*, jwk: Mapping[str, Any]) -> str: ...
def get_kr_jwk_thumbprint(certificate: Certificate | None = None, *, jwk: Mapping[str, Any] | None = None) -> str:
    """Returns the SHA-256 thumbprint of an RSA key, as RFC 7638 makes it (Get-KrJwkThumbprint).

    Args:
        certificate: The certificate whose key it is.
        jwk: Instead, the members of a JWK.

    Raises:
        ArgumentError: None or both are given, or the key is not RSA.
    """
    from kestrun_py.certificates.jwk import jwk_thumbprint  # imported when used

    key = certificate if jwk is None else jwk
    if key is None or (certificate is not None and jwk is not None):
        raise ArgumentError("get_kr_jwk_thumbprint: give either certificate or jwk.")
    return jwk_thumbprint(key)


@overload
def new_kr_private_key_jwt(
    certificate: Certificate, *, client_id: str, token_endpoint: str | None = ..., authority: str | None = ...
) -> str: ...
@overload
def new_kr_private_key_jwt(
    *, jwk_json: str, client_id: str, token_endpoint: str | None = ..., authority: str | None = ...
) -> str: ...
@overload
def new_kr_private_key_jwt(
    *, client_id: str, token_endpoint: str | None = ..., authority: str | None = ...
) -> Pending[Certificate, str]: ...
def new_kr_private_key_jwt(
    certificate: Certificate = MISSING,
    *,
    client_id: str,
    jwk_json: str | None = None,
    token_endpoint: str | None = None,
    authority: str | None = None,
) -> str | Pending[Certificate, str]:
    """Returns the token by which an OAuth client proves who it is, valid for two minutes (New-KrPrivateKeyJwt).

    Args:
        certificate: A certificate with its RSA private key; the pipeline input.
        client_id: The client.
        jwk_json: Instead of a certificate, a JWK with its private members.
        token_endpoint: The URL of the token endpoint, the audience.
        authority: Instead, the URL of the provider, which is asked for its token endpoint; this blocks.

    Raises:
        ArgumentError: No RSA private key, or not just one key and one audience.
        CertificateError: The provider does not tell its token endpoint.
    """
    from kestrun_py.certificates import jwk  # imported when used
    from kestrun_py.certificates.certificate import Certificate  # imported when used

    if (token_endpoint is None) == (authority is None):
        raise ArgumentError("new_kr_private_key_jwt: give either token_endpoint or authority.")
    if certificate is not MISSING and jwk_json is not None:
        raise ArgumentError("certificate and jwk_json are one choice; give one of them.")

    def sign(key: Certificate | str) -> str:
        audience = jwk.discover_token_endpoint(authority) if token_endpoint is None else token_endpoint  # type: ignore[arg-type]
        return jwk.private_key_jwt(key, client_id, audience)

    return sign(jwk_json) if jwk_json is not None else pipe("new_kr_private_key_jwt", Certificate, certificate, sign)
