"""The stored form of a session: ASP.NET Core's vectors, its reader's rules, and what no mutation may do."""

from __future__ import annotations

import struct
import uuid
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kestrun_py.sessions import blob
from kestrun_py.sessions.blob import CorruptBlobError, decode, encode

ID = bytes(range(16))

VALUES = st.dictionaries(st.text(max_size=20), st.binary(max_size=50), max_size=10)
BLOBS = st.builds(encode, st.binary(min_size=16, max_size=16), VALUES)


def entry(key: bytes, value: bytes) -> bytes:
    return struct.pack(">H", len(key)) + key + struct.pack(">I", len(value)) + value


def raw(*entries: bytes, count: int | None = None, revision: int = 2) -> bytes:
    return struct.pack(">I", revision << 24 | (len(entries) if count is None else count)) + ID + b"".join(entries)


VECTORS: dict[str, dict[str, bytes]] = {
    "empty": {},
    "Key=Value": {"Key": b"Value"},
    "n=42,neg=-1,e-acute=u-umlaut": {
        "n": struct.pack(">i", 42),
        "neg": struct.pack(">i", -1),
        "é": "ü".encode(),
    },
}


@pytest.mark.parametrize("name", VECTORS)
def test_vectors(vectors: dict[str, Any], name: str) -> None:
    known = vectors["session_blobs"]
    session_id = bytes.fromhex(known["session_id_bytes_hex"])
    assert str(uuid.UUID(bytes_le=session_id)) == known["session_id"]
    assert encode(session_id, VECTORS[name]).hex() == known[name]
    assert decode(bytes.fromhex(known[name])) == (session_id, VECTORS[name])


@given(session_id=st.binary(min_size=16, max_size=16), values=VALUES)
def test_round_trip(session_id: bytes, values: dict[str, bytes]) -> None:
    stored = encode(session_id, values)
    assert decode(stored) == (session_id, values)
    assert len(stored) == blob.HEADER_SIZE + sum(blob.entry_size(*item) for item in values.items())


@given(stored=BLOBS, data=st.data())
def test_a_blob_that_ends_too_early_is_refused(stored: bytes, data: st.DataObject) -> None:
    length = data.draw(st.integers(0, len(stored) - 1))
    with pytest.raises(CorruptBlobError):
        decode(stored[:length])


@given(stored=BLOBS, data=st.data())
def test_a_changed_byte_never_lets_another_error_escape(stored: bytes, data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(stored) - 1))
    mutated = bytearray(stored)
    mutated[at] ^= data.draw(st.integers(1, 255))
    try:
        session_id, values = decode(bytes(mutated))
    except CorruptBlobError:
        return
    assert mutated[0] == 2
    assert decode(encode(session_id, values)) == (session_id, values)


@given(noise=st.binary(max_size=200))
def test_noise_is_refused_or_read(noise: bytes) -> None:
    for given_bytes in (noise, b"\x02\x00\x00\x02" + noise):
        try:
            session_id, values = decode(given_bytes)
        except CorruptBlobError:
            continue
        assert len(session_id) == 16
        assert all(isinstance(key, str) and isinstance(value, bytes) for key, value in values.items())


@pytest.mark.parametrize("revision", [0, 1, 3, 255])
def test_another_revision_is_refused(revision: int) -> None:
    with pytest.raises(CorruptBlobError, match=f"revision 2, this one with {revision}"):
        decode(raw(revision=revision))


def test_bytes_after_the_last_entry_are_ignored() -> None:
    assert decode(raw(entry(b"a", b"1")) + b"more") == (ID, {"a": b"1"})


def test_of_a_repeated_key_the_last_value_counts() -> None:
    assert decode(raw(entry(b"a", b"1"), entry(b"b", b"2"), entry(b"a", b"3"))) == (ID, {"a": b"3", "b": b"2"})


def test_empty_keys_and_values_are_values() -> None:
    assert decode(encode(ID, {"": b"", "a": b""})) == (ID, {"": b"", "a": b""})


def test_a_key_that_is_not_utf8_is_written_back_as_it_was() -> None:
    stored = raw(entry(b"\xff\x00", b"1"), entry(b"\xed\xa0\x80", b"2"))
    session_id, values = decode(stored)
    assert encode(session_id, values) == stored


@pytest.mark.parametrize(
    "stored",
    [
        raw(count=1),
        raw(count=0xFFFFFF),
        raw(b"\x00"),
        raw(b"\x00\x05abc"),
        raw(b"\x00\x01a\x00\x00\x00"),
        raw(b"\x00\x01a\x00\x00\x00\x02x"),
        raw(b"\x00\x01a\x80\x00\x00\x00"),
        raw(b"\x00\x01a\xff\xff\xff\xf9" + b"x" * 40),
        raw(b"\xff\xff" + b"k" * 100),
    ],
)
def test_an_entry_that_does_not_fit_is_refused(stored: bytes) -> None:
    with pytest.raises(CorruptBlobError, match="ends within an entry"):
        decode(stored)


def test_the_longest_key() -> None:
    key = "k" * 65535
    assert decode(encode(ID, {key: b""})) == (ID, {key: b""})
    for longer in ("k" * 65536, "é" * 32768):
        with pytest.raises(ValueError, match="65535 bytes"):
            encode(ID, {longer: b""})


class Claims(Mapping[str, bytes]):
    """A mapping that claims to have any number of entries."""

    def __init__(self, count: int) -> None:
        self._count = count

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[str]:
        return iter(())

    def __getitem__(self, key: str) -> bytes:
        raise KeyError(key)


class Long(bytes):
    """Bytes that claim to be longer than memory would hold."""

    def __len__(self) -> int:
        return 2**31


def test_more_than_the_format_holds() -> None:
    assert encode(ID, Claims(0xFFFFFF)) == b"\x02\xff\xff\xff" + ID
    with pytest.raises(ValueError, match="at most 16777215 entries, not 16777216"):
        encode(ID, Claims(0xFFFFFF + 1))
    with pytest.raises(ValueError, match="2147483647"):
        encode(ID, {"a": Long()})
