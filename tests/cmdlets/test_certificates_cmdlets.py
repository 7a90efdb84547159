"""The certificate cmdlets."""

from __future__ import annotations

import json
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import pytest

from cmdlets import (
    convert_from_kr_jwk_json_to_certificate,
    convert_to_kr_jwk_json,
    export_kr_certificate,
    get_kr_certificate_purpose,
    get_kr_jwk_thumbprint,
    import_kr_certificate,
    new_kr_certificate_request,
    new_kr_private_key_jwt,
    new_kr_self_signed_certificate,
    test_kr_certificate,
)
from kestrun_py.certificates.certificate import Certificate
from kestrun_py.errors import ArgumentError

SERVER = "TLS Web Server Authentication"
CLIENT = "TLS Web Client Authentication"


@pytest.fixture(scope="module")
def certificate() -> Certificate:
    return new_kr_self_signed_certificate("a.example")


def test_through_a_file_and_back(tmp_path: Path) -> None:
    made = new_kr_self_signed_certificate(["a.example"], key_type="Ecdsa", key_length=256, valid_days=1)
    made | export_kr_certificate(file_path=tmp_path / "a", password="p@ss")
    read = import_kr_certificate(tmp_path / "a.pfx", "p@ss")
    assert read == made
    assert get_kr_certificate_purpose(read) == [SERVER, CLIENT]
    export_kr_certificate(read, tmp_path / "a", "Pem", include_private_key=True)
    assert import_kr_certificate(tmp_path / "a.pem", private_key_path=tmp_path / "a.key").has_private_key


def test_development() -> None:
    bundle = new_kr_self_signed_certificate(development=True, root_name="Root")
    assert (bundle.leaf_certificate.subject, bundle.leaf_certificate.issuer) == ("CN=localhost", "CN=Root")
    assert test_kr_certificate(bundle.leaf_certificate, certificate_chain=[bundle.root_certificate])


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ({}, "dns_names: give at least one"),
        ({"dns_names": "a", "root_name": "R"}, "root_name needs development=True"),
        ({"dns_names": "a", "trust_root": True}, "trust_root needs development=True"),
        ({"development": True, "valid_days": 5}, "valid_days is for a certificate without development=True"),
        ({"development": True, "is_certificate_authority": True}, "certificate_authority is for a certificate without"),
        ({"certificate_authority": True, "is_certificate_authority": True}, "are one parameter"),
    ],
)
def test_arguments_of_the_two_kinds_do_not_mix(arguments: dict[str, Any], reason: str) -> None:
    with pytest.raises(ArgumentError, match=reason):
        new_kr_self_signed_certificate(**arguments)


def test_the_reason_of_a_failure(certificate: Certificate) -> None:
    reason: ContextVar[str] = ContextVar("reason")
    assert test_kr_certificate(certificate, failure_reason_variable=reason)
    assert reason.get() == ""
    assert not test_kr_certificate(certificate, "Code Signing", failure_reason_variable=reason)
    assert reason.get() == "EKU purpose mismatch."


def test_a_request() -> None:
    request = new_kr_certificate_request(["a.example"], "Ecdsa", 256, "CH", "Acme", "Ops", "a", "DigitalSignature")
    assert request.csr_pem.startswith("-----BEGIN CERTIFICATE REQUEST-----")


def test_keys_as_json(certificate: Certificate, tmp_path: Path) -> None:
    private = certificate | convert_to_kr_jwk_json(include_private_parameters=True)
    assert (private | convert_from_kr_jwk_json_to_certificate()).subject == "CN=client-jwt"
    assert get_kr_jwk_thumbprint(certificate) == get_kr_jwk_thumbprint(jwk=json.loads(private))
    pem = certificate.key_to_pem().decode()
    (tmp_path / "key.pem").write_text(pem)
    assert convert_to_kr_jwk_json(rsa_private_key_pem=pem) == convert_to_kr_jwk_json(
        rsa_private_key_path=tmp_path / "key.pem"
    )
    endpoint = "https://id.example/token"
    for token in (
        certificate | new_kr_private_key_jwt(client_id="shop", token_endpoint=endpoint),
        new_kr_private_key_jwt(jwk_json=private, client_id="shop", token_endpoint=endpoint),
    ):
        assert token.count(".") == 2


def test_one_key_and_one_audience(certificate: Certificate) -> None:
    with pytest.raises(ArgumentError, match="give one of them"):
        convert_to_kr_jwk_json(certificate, rsa_private_key_pem="x")  # type: ignore[call-overload]
    with pytest.raises(ArgumentError, match="either certificate or jwk"):
        get_kr_jwk_thumbprint()  # type: ignore[call-overload]
    with pytest.raises(ArgumentError, match="either token_endpoint or authority"):
        new_kr_private_key_jwt(certificate, client_id="shop")
