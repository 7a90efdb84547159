from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kestrun_py.data_protection.encryptors import create_encryptor
from kestrun_py.data_protection.keys import Key
from kestrun_py.data_protection.protector import DataProtector, KeySet, _encode_purposes, read_key_id
from kestrun_py.errors import ArgumentError, DataProtectionError, UnknownKeyError

START = datetime(2030, 1, 1, tzinfo=UTC)


def make_key(key_id: UUID, encryption: str = "AES_256_CBC", *, revoked: bool = False) -> Key:
    encryptor = create_encryptor(encryption, "HMACSHA256", bytes(range(64)))
    return Key(key_id, START, START, START + timedelta(days=90), encryptor, revoked)


def make_protector(key: Key, *purposes: str) -> DataProtector:
    key_set = KeySet({key.id: key}, key)
    return DataProtector(lambda: key_set, purposes)


PROTECTOR = make_protector(make_key(UUID(int=1)), "app", "SessionMiddleware")


@pytest.fixture
def cookie(vectors: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = vectors["cookie_cbc"]
    return found


def test_aad(cookie: dict[str, Any]) -> None:
    protector = make_protector(make_key(UUID(cookie["key_id"])), *cookie["purposes"])
    assert protector._aad(UUID(cookie["key_id"])).hex() == cookie["aad_hex"]


def test_purposes_of_every_length() -> None:
    purposes = ("", "a", "é", "x" * 127, "x" * 128, "x" * 20_000)
    expected = (
        b"\0\0\0\6" + b"\0" + b"\1a" + b"\2\xc3\xa9" + b"\x7f" + b"x" * 127 + b"\x80\1" + b"x" * 128
        + b"\xa0\x9c\1" + b"x" * 20_000
    )  # fmt: skip
    assert _encode_purposes(purposes) == expected


def test_a_purpose_that_utf8_cannot_express() -> None:
    with pytest.raises(ArgumentError, match="surrogate"):
        make_protector(make_key(UUID(int=1)), "\ud800")


def test_cbc_payload(cookie: dict[str, Any]) -> None:
    key = make_key(UUID(cookie["key_id"]))
    protector = make_protector(key, *cookie["purposes"])
    payload = bytes.fromhex(cookie["payload_hex"])
    assert protector.unprotect(payload).decode() == cookie["session_key"]
    modifier, iv = bytes.fromhex(cookie["key_modifier_hex"]), bytes.fromhex(cookie["iv_hex"])
    aad = bytes.fromhex(cookie["aad_hex"])
    assert payload[20:] == key.encryptor._seal(cookie["session_key"].encode(), aad, modifier, iv)


def test_gcm_payload(cookie: dict[str, Any], vectors: dict[str, Any]) -> None:
    key = make_key(UUID(cookie["key_id"]), "AES_256_GCM")
    protector = make_protector(key, *cookie["purposes"])
    payload = bytes.fromhex(vectors["cookie_gcm"]["payload_hex"])
    assert protector.unprotect(payload).decode() == cookie["session_key"]
    modifier, nonce = (
        bytes.fromhex(cookie["key_modifier_hex"]),
        bytes.fromhex(vectors["cookie_gcm"]["nonce_hex"]),
    )
    aad = bytes.fromhex(cookie["aad_hex"])
    assert payload[20:] == key.encryptor._seal(cookie["session_key"].encode(), aad, modifier, nonce)


@pytest.mark.parametrize(("encryption", "size"), [("AES_256_CBC", 132), ("AES_256_GCM", 100)])
def test_size_and_header(encryption: str, size: int) -> None:
    payload = make_protector(make_key(UUID(int=7), encryption), "a").protect(b"s" * 36)
    assert len(payload) == size
    assert payload[:20] == bytes.fromhex("09F0C9F0") + UUID(int=7).bytes_le
    assert read_key_id(payload) == UUID(int=7)


@given(st.binary(max_size=200))
def test_round_trip(plaintext: bytes) -> None:
    assert PROTECTOR.unprotect(PROTECTOR.protect(plaintext)) == plaintext


@pytest.mark.parametrize("purposes", [(), ("app",), ("SessionMiddleware", "app"), ("app", "SessionMiddleware", "x")])
def test_other_purposes_are_refused(purposes: tuple[str, ...]) -> None:
    with pytest.raises(DataProtectionError, match="another purpose"):
        make_protector(make_key(UUID(int=1)), *purposes).unprotect(PROTECTOR.protect(b"value"))


@given(st.binary(max_size=300) | st.binary(max_size=300).map(lambda tail: PROTECTOR.protect(b"")[:20] + tail))
def test_bytes_of_others_are_refused(payload: bytes) -> None:
    with pytest.raises(DataProtectionError):
        PROTECTOR.unprotect(payload)


@given(st.data())
def test_any_flipped_bit_is_refused(data: st.DataObject) -> None:
    payload = bytearray(PROTECTOR.protect(b"382c74c3-721d-4f34-80e5-57657b6cbc27"))
    bit = data.draw(st.integers(0, len(payload) * 8 - 1))
    payload[bit // 8] ^= 1 << bit % 8
    with pytest.raises(DataProtectionError):
        PROTECTOR.unprotect(bytes(payload))


def test_a_newer_version_is_named() -> None:
    payload = bytearray(PROTECTOR.protect(b"value"))
    payload[3] |= 1
    with pytest.raises(DataProtectionError, match="newer version"):
        PROTECTOR.unprotect(bytes(payload))


def test_an_unknown_key_is_named() -> None:
    with pytest.raises(UnknownKeyError, match=str(UUID(int=2))):
        PROTECTOR.unprotect(make_protector(make_key(UUID(int=2)), "app", "SessionMiddleware").protect(b"value"))


def test_a_revoked_key_is_refused() -> None:
    payload = PROTECTOR.protect(b"value")
    revoked = make_protector(make_key(UUID(int=1), revoked=True), "app", "SessionMiddleware")
    with pytest.raises(DataProtectionError, match="revoked"):
        revoked.unprotect(payload)
