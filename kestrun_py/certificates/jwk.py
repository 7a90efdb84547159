"""RSA keys as JSON Web Keys, and the tokens that OAuth clients sign with them (RFC 7517, 7523, 7638)."""

from __future__ import annotations

import base64
import hashlib
import json
import time
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from kestrun_py.certificates._fetching import fetch
from kestrun_py.certificates.certificate import Certificate
from kestrun_py.errors import ArgumentError, CertificateError

__all__ = [
    "certificate_from_jwk",
    "certificate_to_jwk",
    "discover_token_endpoint",
    "jwk_thumbprint",
    "private_key_jwt",
    "rsa_private_key_path_to_jwk",
    "rsa_private_key_to_jwk",
]

_TOKEN_SECONDS: Final = 120
_MAX_DOCUMENT_BYTES: Final = 1 << 20


def certificate_to_jwk(certificate: Certificate, *, include_private_parameters: bool = False) -> str:
    """Returns the key of a certificate as JSON text; its ``kid`` is the certificate's thumbprint in lower case.

    Raises:
        ArgumentError: The key is not RSA, or the private one is asked for and not known.
    """
    public = _public_key(certificate)
    key_id = certificate.thumbprint.lower()
    if not include_private_parameters:
        return _to_json({**_public_members(public), "kid": key_id})
    if not isinstance(certificate.key, rsa.RSAPrivateKey):
        raise ArgumentError(
            "Certificate does not contain a private key, cannot include private parameters in JWK: "
            f"{certificate.subject} was imported without its key."
        )
    return _to_json({**_private_members(certificate.key), "kid": key_id})


def rsa_private_key_to_jwk(pem: str | bytes) -> str:
    """Returns an RSA private key, given as PEM text, as JSON text; with its private members.

    Raises:
        ArgumentError: It is no unencrypted RSA key in PEM.
    """
    data = pem.encode() if isinstance(pem, str) else pem
    try:
        key = serialization.load_pem_private_key(data, None)
    except (ValueError, TypeError):
        raise ArgumentError("rsa_private_key_pem is no unencrypted private key in PEM form.") from None
    if not isinstance(key, rsa.RSAPrivateKey):
        raise ArgumentError("rsa_private_key_pem is a key of another kind than RSA.")
    return _to_json(_private_members(key))


def rsa_private_key_path_to_jwk(path: str | Path) -> str:
    """Returns the RSA private key of a PEM file as `rsa_private_key_to_jwk` does.

    Raises:
        CertificateError: The file cannot be read.
        ArgumentError: It holds no unencrypted RSA key.
    """
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise CertificateError(f"RSA private key PEM file {path} cannot be read: {error.strerror}.") from None
    return rsa_private_key_to_jwk(data)


def certificate_from_jwk(jwk: str | Mapping[str, Any], subject_name: str = "CN=client-jwt") -> Certificate:
    """Makes a self-signed certificate for the key of a JWK, valid from yesterday on for a year.

    Args:
        jwk: JSON text or its members: an RSA key with its private members.
        subject_name: The subject, as RFC 4514 writes names.

    Raises:
        ArgumentError: It is no such key, or no such name.
    """
    key = _private_key(_members(jwk))
    try:
        name = x509.Name.from_rfc4514_string(subject_name)
    except ValueError:
        raise ArgumentError(f"subject_name: {subject_name!r:.60} is no name such as CN=client-jwt.") from None
    start = datetime.now(UTC) - timedelta(days=1)
    builder = (
        x509.CertificateBuilder(subject_name=name, issuer_name=name, public_key=key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(start + timedelta(days=365))
    )
    return Certificate(builder.sign(key, hashes.SHA256()), key)


def jwk_thumbprint(key: Certificate | Mapping[str, Any]) -> str:
    """Returns the SHA-256 thumbprint of an RSA key, base64url without padding (RFC 7638).

    Raises:
        ArgumentError: The key is not RSA, or a member is missing.
    """
    members: Mapping[str, Any] = _public_members(_public_key(key)) if isinstance(key, Certificate) else key
    if members.get("kty") != "RSA" or not members.get("n") or not members.get("e"):
        raise ArgumentError("JWK must include kty='RSA', n and e")
    canonical = json.dumps({name: str(members[name]) for name in ("e", "kty", "n")}, separators=(",", ":"))
    return _base64url(hashlib.sha256(canonical.encode()).digest())


def private_key_jwt(key: Certificate | str | Mapping[str, Any], client_id: str, token_endpoint: str) -> str:
    """Returns the token by which an OAuth client proves who it is (``private_key_jwt``), signed with RS256.

    It is valid for two minutes.

    Args:
        key: A certificate with its key, or a JWK with its private members.
        client_id: The client: issuer and subject of the token.
        token_endpoint: The URL of the token endpoint: its audience.

    Raises:
        ArgumentError: There is no RSA private key.
    """
    header: dict[str, str] = {"alg": "RS256", "typ": "JWT"}
    if isinstance(key, Certificate):
        signer = key.key
        digest = bytes.fromhex(key.thumbprint)
        header |= {"kid": key.thumbprint, "x5t": _base64url(digest)}
    else:
        members = _members(key)
        signer = _private_key(members)
        header |= {"kid": str(members["kid"])} if members.get("kid") else {}
    if not isinstance(signer, rsa.RSAPrivateKey):
        raise ArgumentError("Certificate does not contain an RSA private key; cannot build a private_key_jwt.")
    now = int(time.time())
    claims = {
        "iss": client_id,
        "sub": client_id,
        "aud": token_endpoint,
        "jti": uuid.uuid4().hex,
        "nbf": now,
        "iat": now,
        "exp": now + _TOKEN_SECONDS,
    }
    signed = f"{_base64url(_to_json(header).encode())}.{_base64url(_to_json(claims).encode())}"
    return f"{signed}.{_base64url(signer.sign(signed.encode(), padding.PKCS1v15(), hashes.SHA256()))}"


def discover_token_endpoint(authority: str) -> str:
    """Asks an OpenID Connect provider for its token endpoint. It blocks, for ten seconds at most.

    Raises:
        ArgumentError: The authority is no http or https URL.
        CertificateError: It does not answer, or not with a token endpoint.
    """
    if not authority.lower().startswith(("https://", "http://")):
        raise ArgumentError(f"authority: {authority!r:.60} is no URL that begins with https://.")
    url = authority.rstrip("/") + "/.well-known/openid-configuration"
    try:
        document = json.loads(fetch(url, _MAX_DOCUMENT_BYTES))
    except (OSError, ValueError) as error:
        raise CertificateError(f"Failed to fetch OIDC discovery document from '{url}': {error}") from None
    endpoint = document.get("token_endpoint") if isinstance(document, dict) else None
    if not isinstance(endpoint, str):
        raise CertificateError(f"OIDC discovery document from '{url}' does not contain a token_endpoint.")
    return endpoint


def _public_key(certificate: Certificate) -> rsa.RSAPublicKey:
    public = certificate.leaf.public_key()
    if not isinstance(public, rsa.RSAPublicKey):
        raise ArgumentError(f"Certificate {certificate.subject} does not contain an RSA public key.")
    return public


def _public_members(key: rsa.RSAPublicKey) -> dict[str, str]:
    numbers = key.public_numbers()
    return {"kty": "RSA", "n": _encoded(numbers.n), "e": _encoded(numbers.e)}


def _private_members(key: rsa.RSAPrivateKey) -> dict[str, str]:
    numbers = key.private_numbers()
    secret = {
        "d": numbers.d,
        "p": numbers.p,
        "q": numbers.q,
        "dp": numbers.dmp1,
        "dq": numbers.dmq1,
        "qi": numbers.iqmp,
    }
    return _public_members(key.public_key()) | {name: _encoded(number) for name, number in secret.items()}


def _private_key(members: Mapping[str, Any]) -> rsa.RSAPrivateKey:
    if str(members.get("kty")).upper() != "RSA":
        raise ArgumentError("Only RSA JWKs are supported.")
    missing = [name for name in ("n", "e", "d", "p", "q", "dp", "dq", "qi") if not isinstance(members.get(name), str)]
    if missing:
        raise ArgumentError(f"The JWK has no {', '.join(missing)}: a private RSA key has them all.")
    try:
        n, e, d, p, q, dp, dq, qi = (_decoded(members[name]) for name in ("n", "e", "d", "p", "q", "dp", "dq", "qi"))
        return rsa.RSAPrivateNumbers(p, q, d, dp, dq, qi, rsa.RSAPublicNumbers(e, n)).private_key()
    except ValueError:
        raise ArgumentError("The members of the JWK do not make an RSA key.") from None


def _members(jwk: str | Mapping[str, Any]) -> Mapping[str, Any]:
    if isinstance(jwk, Mapping):
        return jwk
    try:
        members = json.loads(jwk)
    except (ValueError, TypeError):
        raise ArgumentError("The JWK is no JSON text.") from None
    if not isinstance(members, dict):
        raise ArgumentError("The JWK is no JSON object.")
    return members


def _to_json(members: Mapping[str, Any]) -> str:
    return json.dumps(members, separators=(",", ":"))


def _encoded(number: int) -> str:
    return _base64url(number.to_bytes((number.bit_length() + 7) // 8, "big"))


def _decoded(text: str) -> int:
    return int.from_bytes(base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True), "big")


def _base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
