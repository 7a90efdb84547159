import base64
import hmac

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kestrun_py.data_protection.encryptors import (
    CbcHmacEncryptor,
    Encryptor,
    GcmEncryptor,
    _cbc_context_header,
    _gcm_context_header,
    create_encryptor,
    derive_key,
)
from kestrun_py.errors import ArgumentError, DataProtectionError

ENCRYPTIONS = [f"AES_{size}_{mode}" for size in (128, 192, 256) for mode in ("CBC", "GCM")]
MASTER_KEY = bytes(range(64))
EVERY_ENCRYPTOR = [
    create_encryptor(encryption, validation, MASTER_KEY)
    for encryption in ENCRYPTIONS
    for validation in ("HMACSHA256", "HMACSHA512")
]


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        (63, "V47WmHzPSkdC2vkLAomIjCzZlDOAetll3yJLcSvon7LJFjJpEN+KnSNp+gIpeydKMsENkflbrIZ/3s6GkEaH"),
        (64, "mVaFM4deXLl610CmnCteNzxgbM/VkmKznAlPauHcDBn0le06uOjAKLHx0LfoU2/Ttq9nd78Y6Nk6wArmdwJgJg=="),
        (65, "GaHPeqdUxriFpjRtkYQYWr5/iqneD/+hPhVJQt4rXblxSpB1UUqGqL00DMU/FJkX0iMCfqUjQXtXyfks+p++Ev4="),
    ],
)
def test_published_key_derivation(size: int, expected: str) -> None:
    assert base64.b64encode(derive_key(b"kdk", b"label", b"contextHeadercontext", size)).decode() == expected


def test_key_derivation_from_nothing() -> None:
    expected = "fHGMWaDLmoncLsEKuKbZo8T+73paNohDeb5O7BSxbC8Gus8d/mUpa/9w2ss65OHlmFw1VZhIXzr5swMYVRndRw=="
    assert base64.b64encode(derive_key(b"", b"", b"", 64)).decode() == expected


def test_key_derivation_from_a_long_key() -> None:
    expected = "RKiXmHSrWq5gkiRSyNZWNJrMR0jDyYHJMt9odOayRAE5wLSX2caINpQmfzTH7voJQi3tbn5MmD//dcspghfBiw=="
    key = bytes(i % 256 for i in range(50_000))
    assert base64.b64encode(derive_key(key, b"label", b"contextHeadercontext", 64)).decode() == expected


def test_published_cbc_payload() -> None:
    encryptor = CbcHmacEncryptor(b"master key", 32, "sha256")
    aad = bytes.fromhex("06050403")
    payload = encryptor._seal(bytes.fromhex("020304"), aad, bytes(range(16)), bytes(range(16, 32)))
    assert base64.b64encode(payload).decode() == (
        "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh+36j4yWJOjBgOJxmYDYwhLnYqFxw+9mNh/cudyPrWmJmw4d/dmGaLJLLut2udiAAA="
    )
    assert encryptor.decrypt(payload, aad) == bytes.fromhex("020304")


@pytest.mark.parametrize("size", [16, 24, 32])
@pytest.mark.parametrize("digest", ["sha256", "sha512"])
def test_cbc_context_header(size: int, digest: str, vectors: dict[str, dict[str, str]]) -> None:
    name = f"AES_{size * 8}_CBC+HMAC{digest.upper()}"
    assert _cbc_context_header(size, digest).hex().upper() == vectors["cbc_context_headers"][name]


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        (16, "0001000000100000000C0000001000000010957C50FF692E388B9AD5C7689E4B9E2B"),
        (24, "0001000000180000000C00000010000000100DAA013A950ADA2B798F5FF272FAD363"),
        (32, "0001000000200000000C0000001000000010E7DCCE66DF855A323A6BB7BD7A59BE45"),
    ],
)
def test_gcm_context_header(size: int, expected: str) -> None:
    assert _gcm_context_header(size).hex().upper() == expected


@pytest.mark.parametrize("encryptor", EVERY_ENCRYPTOR)
@given(plaintext=st.binary(max_size=100), aad=st.binary(max_size=60))
def test_round_trip(encryptor: Encryptor, plaintext: bytes, aad: bytes) -> None:
    assert encryptor.decrypt(encryptor.encrypt(plaintext, aad), aad) == plaintext


@pytest.mark.parametrize("encryptor", EVERY_ENCRYPTOR)
@given(data=st.data())
def test_any_change_is_refused(encryptor: Encryptor, data: st.DataObject) -> None:
    payload = encryptor.encrypt(b"382c74c3-721d-4f34-80e5-57657b6cbc27", b"aad")
    position = data.draw(st.integers(0, len(payload) - 1))
    flip = data.draw(st.integers(1, 255))
    changed = payload[:position] + bytes([payload[position] ^ flip]) + payload[position + 1 :]
    for bad in (changed, payload[:position], payload + b"\0", payload[1:]):
        with pytest.raises(DataProtectionError):
            encryptor.decrypt(bad, b"aad")


@pytest.mark.parametrize("encryptor", EVERY_ENCRYPTOR)
def test_other_aad_is_refused(encryptor: Encryptor) -> None:
    with pytest.raises(DataProtectionError):
        encryptor.decrypt(encryptor.encrypt(b"value", b"aad"), b"AAD")


@pytest.mark.parametrize("ciphertext", [b"", b"x" * 17, bytes(16)])
def test_cbc_with_a_good_tag_over_a_bad_ciphertext_is_refused(ciphertext: bytes) -> None:
    # Only a holder of the master key can make these; they must not raise anything else.
    encryptor = CbcHmacEncryptor(MASTER_KEY, 32, "sha256")
    modifier, iv = bytes(16), bytes(16)
    _, mac_key = encryptor._keys(b"aad", modifier)
    payload = modifier + iv + ciphertext + hmac.digest(mac_key, iv + ciphertext, "sha256")
    with pytest.raises(DataProtectionError):
        encryptor.decrypt(payload, b"aad")


def test_two_payloads_of_one_plaintext_differ() -> None:
    for encryptor in EVERY_ENCRYPTOR:
        assert encryptor.encrypt(b"value", b"aad") != encryptor.encrypt(b"value", b"aad")


def test_gcm_does_not_look_at_the_validation_algorithm() -> None:
    assert create_encryptor("AES_128_GCM", None, MASTER_KEY) == GcmEncryptor(MASTER_KEY, 16)


@pytest.mark.parametrize(
    "encryption", ["", "AES", "AES_256", "AES_512_CBC", "DES_128_CBC", "aes_256_cbc", "AES_256_CBC_"]
)
def test_unknown_encryption_algorithm(encryption: str) -> None:
    with pytest.raises(ArgumentError, match=f"encryption algorithm '{encryption}'"):
        create_encryptor(encryption, "HMACSHA256", MASTER_KEY)


@pytest.mark.parametrize("validation", [None, "HMACSHA1", "sha256"])
def test_unknown_validation_algorithm(validation: str | None) -> None:
    with pytest.raises(ArgumentError, match="validation algorithm"):
        create_encryptor("AES_256_CBC", validation, MASTER_KEY)


def test_the_master_key_is_not_shown() -> None:
    encryptor = create_encryptor("AES_256_CBC", "HMACSHA256", b"secret-secret-secret")
    assert "secret" not in repr(encryptor)
