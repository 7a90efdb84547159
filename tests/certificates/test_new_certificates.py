"""New certificates and requests, and their files."""

from __future__ import annotations

import ipaddress
import stat
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

from kestrun_py.certificates.certificate import Certificate, distinguished_name
from kestrun_py.certificates.exporting import export_certificate
from kestrun_py.certificates.loading import import_certificate
from kestrun_py.certificates.options import KeyUsage
from kestrun_py.certificates.self_signed import new_development_certificate, new_self_signed_certificate
from kestrun_py.certificates.signing_requests import new_certificate_request
from kestrun_py.errors import ArgumentError, CertificateError

DEFAULTS: dict[str, Any] = {"dns_names": "a", "key_type": "Ecdsa", "key_length": 256}


def small(*names: str, **options: Any) -> Certificate:
    """A certificate whose key is made fast."""
    return new_self_signed_certificate(**DEFAULTS | {"dns_names": names or "a.example"} | options)


@pytest.fixture(scope="module")
def authority() -> Certificate:
    return small("Test CA", certificate_authority=True)


@pytest.fixture(scope="module")
def certificate(authority: Certificate) -> Certificate:
    return small("c.example", issuer_certificate=authority)


class TestSelfSigned:
    def test_a_leaf(self) -> None:
        certificate = new_self_signed_certificate(["a.example", " 10.0.0.1", "::1", "A.example", ""], valid_days=7)
        assert certificate.subject == certificate.issuer == "CN=a.example"
        names = certificate.extension(x509.SubjectAlternativeName)
        assert names is not None
        assert [name.value for name in names] == [
            "a.example",
            ipaddress.ip_address("10.0.0.1"),
            ipaddress.ip_address("::1"),
        ]
        assert isinstance(certificate.key, rsa.RSAPrivateKey)
        assert certificate.key.key_size == 2048
        assert certificate.not_after - certificate.not_before == timedelta(days=7)
        assert timedelta(0) < datetime.now(UTC) - certificate.not_before < timedelta(hours=1)
        assert certificate.purposes == ["TLS Web Server Authentication", "TLS Web Client Authentication"]
        usage = certificate.extension(x509.KeyUsage)
        assert usage is not None
        assert (usage.digital_signature, usage.key_encipherment, usage.key_cert_sign) == (True, True, False)

    @pytest.mark.parametrize(("bits", "curve"), [(256, "secp256r1"), (384, "secp384r1"), (2048, "secp521r1")])
    def test_curves(self, bits: int, curve: str) -> None:
        key = small(key_length=bits).key
        assert isinstance(key, ec.EllipticCurvePrivateKey)
        assert key.curve.name == curve

    def test_a_ca_and_what_it_issues(self, authority: Certificate) -> None:
        constraints = authority.extension(x509.BasicConstraints)
        assert constraints is not None
        assert constraints.ca
        assert authority.purposes == []
        assert authority.extension(x509.SubjectAlternativeName) is None
        leaf = small("b.example", issuer_certificate=authority)
        assert leaf.issuer == "CN=Test CA"
        assert leaf.chain == (authority.leaf,)
        leaf.leaf.verify_directly_issued_by(authority.leaf)

    def test_who_cannot_issue(self, authority: Certificate) -> None:
        for issuer, reason in [
            (Certificate(authority.leaf), "no private key"),
            (small(), "is not a CA"),
            (small("x", certificate_authority=True, key_usage="CrlSign"), "lacks KeyCertSign"),
        ]:
            with pytest.raises(ArgumentError, match=reason):
                small(issuer_certificate=issuer)

    def test_key_usages(self) -> None:
        usage = small(key_usage=["NonRepudiation", KeyUsage.DECIPHER_ONLY, "none"]).extension(x509.KeyUsage)
        assert usage is not None
        assert (usage.content_commitment, usage.decipher_only, usage.digital_signature) == (True, True, False)

    @pytest.mark.parametrize(
        ("arguments", "reason"),
        [
            ({"dns_names": []}, "at least one DNS name"),
            ({"dns_names": " "}, "at least one DNS name"),
            ({"dns_names": [5]}, "must be texts"),
            ({"dns_names": "bücher.example"}, "xn--"),
            ({"dns_names": "x" * 65}, "1 to 64 characters"),
            ({"valid_days": 0}, "valid_days must be a whole number from 1 to 3650"),
            ({"valid_days": 3651}, "not 3651"),
            ({"valid_days": True}, "not True"),
            ({"key_type": "Dsa"}, "key_type: 'Dsa' is not one of Rsa, Ecdsa"),
            ({"key_type": "Rsa", "key_length": 512}, "from 1024 to 8192, not 512"),
            ({"key_length": 128}, "from 256"),
            ({"key_usage": "Signing"}, "key_usage: 'Signing'"),
        ],
    )
    def test_wrong_arguments(self, arguments: dict[str, Any], reason: str) -> None:
        with pytest.raises(ArgumentError, match=reason):
            new_self_signed_certificate(**DEFAULTS | arguments)

    def test_development(self, authority: Certificate) -> None:
        made = new_development_certificate(root_name="My Root", leaf_valid_days=3, root_valid_days=20_000)
        assert made.root_certificate.subject == made.leaf_certificate.issuer == "CN=My Root"
        assert made.certificate is made.leaf_certificate
        assert made.leaf_certificate.chain == (made.root_certificate.leaf,)
        assert (made.root_certificate.has_private_key, made.public_root_certificate.has_private_key) == (True, False)
        assert made.root_trusted is False
        other = new_development_certificate("dev.example", root_certificate=authority)
        assert (other.leaf_certificate.subject, other.leaf_certificate.issuer) == ("CN=dev.example", "CN=Test CA")
        with pytest.raises(ArgumentError, match="leaf_valid_days"):
            new_development_certificate(leaf_valid_days=3651)


def test_names_as_dotnet_writes_them() -> None:
    parts = [(NameOID.ORGANIZATION_NAME, 'Acme, "Ltd."'), (NameOID.STATE_OR_PROVINCE_NAME, "Bern")]
    name = x509.Name([x509.NameAttribute(oid, value) for oid, value in [*parts, (NameOID.COMMON_NAME, "a")]])
    assert distinguished_name(name) == 'CN=a, S=Bern, O="Acme, ""Ltd."""'


class TestRequests:
    def test_a_request(self, tmp_path: Path) -> None:
        made = new_certificate_request(
            ["example.com", "127.0.0.1"], country="US", org="Acme Ltd.", org_unit="Ops", key_usage="DigitalSignature"
        )
        request = x509.load_pem_x509_csr(made.csr_pem.encode())
        assert distinguished_name(request.subject) == "CN=example.com, OU=Ops, O=Acme Ltd., C=US"
        assert request.is_signature_valid
        assert made.private_key_pem.startswith("-----BEGIN RSA PRIVATE KEY-----\n")
        assert made.public_key_pem.endswith("-----END PUBLIC KEY-----\n")
        assert made.private_key_pem_encrypted is None
        assert "PRIVATE" not in repr(made)
        (tmp_path / "request.pem").write_text(made.csr_pem)
        command = ["openssl", "req", "-in", str(tmp_path / "request.pem"), "-noout", "-text", "-verify"]
        shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        assert "DNS:example.com, IP Address:127.0.0.1" in shown
        assert "Digital Signature" in shown

    def test_ecdsa_with_an_encrypted_key(self) -> None:
        made = new_certificate_request("a.example", key_type="Ecdsa", key_length=384, password="s3cret")
        assert made.private_key_pem.startswith("-----BEGIN EC PRIVATE KEY-----")
        assert made.private_key_pem_encrypted is not None
        key = serialization.load_pem_private_key(made.private_key_pem_encrypted.encode(), b"s3cret")
        assert key.public_key() == made.private_key.public_key()

    @pytest.mark.parametrize("arguments", [{"country": "USA"}, {"common_name": 5}, {"country": ["US"]}])
    def test_a_part_of_the_name_that_is_not_possible_is_named(self, arguments: dict[str, Any]) -> None:
        with pytest.raises(ArgumentError, match=next(iter(arguments))):
            new_certificate_request("a.example", **arguments)


class TestFiles:
    @pytest.mark.parametrize("password", [None, "s3cret"])
    def test_pfx(self, certificate: Certificate, password: str | None, tmp_path: Path) -> None:
        path = export_certificate(certificate, tmp_path / "c", password=password)
        assert path == tmp_path / "c.pfx"
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        read = import_certificate(path, password)
        assert read == certificate
        assert read.has_private_key
        with pytest.raises(CertificateError, match="PFX that the password opens"):
            import_certificate(path, "other")

    def test_pfx_without_a_key(self, certificate: Certificate, tmp_path: Path) -> None:
        path = export_certificate(Certificate(certificate.leaf), tmp_path / "c")
        assert import_certificate(path) == Certificate(certificate.leaf)

    @pytest.mark.parametrize("password", [None, "s3cret"])
    def test_pem_with_its_key_beside_it(self, certificate: Certificate, password: str | None, tmp_path: Path) -> None:
        (tmp_path / "c.key").write_text("readable by all")
        (tmp_path / "c.key").chmod(0o644)
        path = export_certificate(
            certificate, tmp_path / "c.pem", format="Pem", password=password, include_private_key=True
        )
        assert b"PRIVATE" not in path.read_bytes()
        key_path = tmp_path / "c.key"
        assert stat.S_IMODE(key_path.stat().st_mode) == 0o600
        assert (b"ENCRYPTED" in key_path.read_bytes()) == (password is not None)
        assert not import_certificate(path).has_private_key
        read = import_certificate(path, password, key_path)
        assert read == certificate
        assert read.has_private_key
        assert sorted(entry.name for entry in tmp_path.iterdir()) == ["c.key", "c.pem"]

    def test_other_files(self, certificate: Certificate, authority: Certificate, tmp_path: Path) -> None:
        der, pem, key = (tmp_path / name for name in ("c.cer", "both.pem", "c.key"))
        der.write_bytes(certificate.leaf.public_bytes(serialization.Encoding.DER))
        pem.write_bytes(certificate.to_pem())
        key.write_bytes(certificate.key_to_pem())
        assert import_certificate(der) == Certificate(certificate.leaf)
        assert import_certificate(der, None, key).has_private_key
        assert import_certificate(pem) == certificate
        key.write_bytes(authority.key_to_pem())
        for path, key_path, reason in [
            (der, key, "not that of the certificate"),
            (der, der, "holds no private key in PEM form"),
            (tmp_path / "none.pem", None, "Certificate file not found at path: .*none.pem"),
            (der, tmp_path / "none.key", "Private key file not found at path: .*none.key"),
        ]:
            with pytest.raises((CertificateError, ArgumentError), match=reason):
                import_certificate(path, None, key_path)

    @pytest.mark.parametrize(
        ("name", "options", "reason"),
        [
            ("c.pem", {}, "must end with .pfx"),
            ("c.crt", {"format": "Pem"}, "must end with .pem"),
            ("none/c", {}, "Directory '.*none' does not exist"),
            ("c", {"format": "Der"}, "format: 'Der' is not one of Pfx, Pem"),
            ("c\0", {}, "cannot be written"),
        ],
    )
    def test_what_cannot_be_written(
        self, certificate: Certificate, tmp_path: Path, name: str, options: dict[str, Any], reason: str
    ) -> None:
        with pytest.raises((ArgumentError, CertificateError), match=reason):
            export_certificate(certificate, tmp_path / name, **options)
        assert list(tmp_path.iterdir()) == []

    def test_an_ephemeral_key_is_written_to_no_file(self, tmp_path: Path) -> None:
        certificate = small(ephemeral=True)
        for options in ({}, {"format": "Pem", "include_private_key": True}):
            with pytest.raises(CertificateError, match="ephemeral"):
                export_certificate(certificate, tmp_path / "c", **options)  # type: ignore[arg-type]
        export_certificate(certificate, tmp_path / "c", format="Pem")
        export_certificate(small(ephemeral=True, exportable=True), tmp_path / "c")

    def test_a_key_that_is_not_known(self, certificate: Certificate, tmp_path: Path) -> None:
        with pytest.raises(ArgumentError, match="no private key"):
            export_certificate(Certificate(certificate.leaf), tmp_path / "c", format="Pem", include_private_key=True)
        assert list(tmp_path.iterdir()) == []
