"""JSON Web Keys, and tokens signed with them."""

from __future__ import annotations

import base64
import json
import time
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from kestrun_py.certificates import jwk
from kestrun_py.certificates.certificate import Certificate
from kestrun_py.certificates.self_signed import new_self_signed_certificate
from kestrun_py.errors import ArgumentError, CertificateError

# The key of RFC 7638, section 3.1, and its thumbprint.
RFC_KEY = {
    "kty": "RSA",
    "n": (
        "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknj"
        "hMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQ"
        "vRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzK"
        "nqDKgw"
    ),
    "e": "AQAB",
    "alg": "RS256",
    "kid": "2011-04-29",
}


@pytest.fixture(scope="module")
def certificate() -> Certificate:
    return new_self_signed_certificate("a.example")


@pytest.fixture(scope="module")
def private_jwk(certificate: Certificate) -> str:
    return jwk.certificate_to_jwk(certificate, include_private_parameters=True)


def decoded(part: str) -> bytes:
    return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))


def test_thumbprint_of_the_rfc(certificate: Certificate) -> None:
    assert jwk.jwk_thumbprint(RFC_KEY) == "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs"
    assert jwk.jwk_thumbprint(certificate) == jwk.jwk_thumbprint(json.loads(jwk.certificate_to_jwk(certificate)))
    for wrong in ({}, {"kty": "EC"}, {"kty": "RSA", "n": "x"}):
        with pytest.raises(ArgumentError, match="kty='RSA', n and e"):
            jwk.jwk_thumbprint(wrong)


def test_the_public_key_of_a_certificate(certificate: Certificate) -> None:
    members = json.loads(jwk.certificate_to_jwk(certificate))
    assert members.keys() == {"kty", "n", "e", "kid"}
    assert members["kid"] == certificate.thumbprint.lower()
    public = certificate.leaf.public_key()
    assert isinstance(public, rsa.RSAPublicKey)
    assert int.from_bytes(decoded(members["n"])) == public.public_numbers().n


def test_a_private_key_there_and_back(certificate: Certificate, private_jwk: str) -> None:
    made = jwk.certificate_from_jwk(private_jwk, "CN=client,O=Acme")
    assert made.subject == "CN=client, O=Acme"
    assert made.leaf.public_key() == certificate.leaf.public_key()
    made.leaf.verify_directly_issued_by(made.leaf)
    assert jwk.certificate_from_jwk(json.loads(private_jwk)).subject == "CN=client-jwt"


def test_a_private_key_in_pem(certificate: Certificate, private_jwk: str, tmp_path: Path) -> None:
    pem = certificate.key_to_pem()
    members = json.loads(private_jwk)
    del members["kid"]
    assert json.loads(jwk.rsa_private_key_to_jwk(pem.decode())) == members
    (tmp_path / "key.pem").write_bytes(pem)
    assert json.loads(jwk.rsa_private_key_path_to_jwk(tmp_path / "key.pem")) == members
    with pytest.raises(CertificateError, match=r"none\.pem cannot be read"):
        jwk.rsa_private_key_path_to_jwk(tmp_path / "none.pem")
    for wrong in ("", "text", certificate.key_to_pem(b"secret")):
        with pytest.raises(ArgumentError, match="no unencrypted private key"):
            jwk.rsa_private_key_to_jwk(wrong)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"kty": "EC"}, "Only RSA"),
        ({"d": None, "qi": None}, "has no d, qi"),
        ({"p": "AQAB"}, "do not make an RSA key"),
        ({"n": "*"}, "do not make an RSA key"),
    ],
)
def test_what_is_no_private_key(private_jwk: str, change: dict[str, Any], reason: str) -> None:
    with pytest.raises(ArgumentError, match=reason):
        jwk.certificate_from_jwk(json.loads(private_jwk) | change)


@pytest.mark.parametrize(("text", "reason"), [("", "no JSON text"), ("{", "no JSON text"), ("[]", "no JSON object")])
def test_what_is_no_jwk(text: str, reason: str) -> None:
    with pytest.raises(ArgumentError, match=reason):
        jwk.certificate_from_jwk(text)


def test_wrong_subject(private_jwk: str) -> None:
    with pytest.raises(ArgumentError, match="subject_name: 'client'"):
        jwk.certificate_from_jwk(private_jwk, "client")


def test_certificates_without_an_rsa_key(certificate: Certificate) -> None:
    curve = new_self_signed_certificate("a", key_type="Ecdsa", key_length=256)
    with pytest.raises(ArgumentError, match="RSA public key"):
        jwk.certificate_to_jwk(curve)
    with pytest.raises(ArgumentError, match="does not contain a private key"):
        jwk.certificate_to_jwk(Certificate(certificate.leaf), include_private_parameters=True)
    for key in (curve, Certificate(certificate.leaf)):
        with pytest.raises(ArgumentError, match="RSA private key"):
            jwk.private_key_jwt(key, "client", "https://id.example/token")


@pytest.mark.parametrize("form", ["certificate", "jwk"])
def test_the_token_of_a_client(form: str, certificate: Certificate, private_jwk: str) -> None:
    token = jwk.private_key_jwt(certificate if form == "certificate" else private_jwk, "shop", "https://id.example/t")
    signed, _, signature = token.rpartition(".")
    header, claims = (json.loads(decoded(part)) for part in signed.split("."))
    public = certificate.leaf.public_key()
    assert isinstance(public, rsa.RSAPublicKey)
    public.verify(decoded(signature), signed.encode(), padding.PKCS1v15(), hashes.SHA256())
    assert (header["alg"], header["typ"]) == ("RS256", "JWT")
    assert header["kid"].lower() == certificate.thumbprint.lower()
    assert (claims["iss"], claims["sub"], claims["aud"]) == ("shop", "shop", "https://id.example/t")
    assert claims["exp"] - claims["nbf"] == 120
    assert abs(claims["iat"] - time.time()) < 120
    assert len(claims["jti"]) == 32


def test_discovery(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def fetch(url: str, limit: int) -> bytes:
        asked.append(url)
        return answers.pop(0)

    answers = [b'{"token_endpoint": "https://id.example/token"}', b"{}", b"[]", b"<html>"]
    monkeypatch.setattr(jwk, "fetch", fetch)
    assert jwk.discover_token_endpoint("https://id.example/") == "https://id.example/token"
    assert asked == ["https://id.example/.well-known/openid-configuration"]
    for reason in ("does not contain", "does not contain", "Failed to fetch"):
        with pytest.raises(CertificateError, match=reason):
            jwk.discover_token_endpoint("https://id.example")
    with pytest.raises(ArgumentError, match="no URL that begins with"):
        jwk.discover_token_endpoint("file:///etc")


def test_keys_in_pem_are_those_that_openssl_reads(certificate: Certificate, private_jwk: str) -> None:
    again = jwk.certificate_from_jwk(private_jwk).key_to_pem()
    assert serialization.load_pem_private_key(again, None).public_key() == certificate.leaf.public_key()
