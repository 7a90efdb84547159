"""The stored form of a session: ASP.NET Core's session blob, revision 2.

All integers are big-endian::

    1 byte    revision, 2
    3 bytes   number of entries
    16 bytes  session id, in the byte order of a .NET Guid
    per entry
        2 bytes   length of the key,   then the key in UTF-8
        4 bytes   length of the value, then the value

In Python a session is a dictionary from text to bytes. A key whose stored bytes are not UTF-8 is kept with surrogate
escapes, so that it is written back as it was read.
"""

from __future__ import annotations

from collections.abc import Mapping
from struct import Struct, error
from typing import Final

__all__ = ["HEADER_SIZE", "MAX_ENTRIES", "MAX_KEY_SIZE", "CorruptBlobError", "decode", "encode", "entry_size"]

REVISION: Final = 2
MAX_ENTRIES: Final = 0xFFFFFF
MAX_KEY_SIZE: Final = 0xFFFF
MAX_VALUE_SIZE: Final = 0x7FFFFFFF
HEADER_SIZE: Final = 20

_PREFIX = Struct(">I")  # the revision in the top byte, the number of entries below it
_KEY = Struct(">H")
_VALUE = Struct(">i")  # signed, as in .NET: a value has at most 2^31 - 1 bytes


class CorruptBlobError(ValueError):
    """The bytes are not a session blob of revision 2."""


def entry_size(key: str, value: bytes) -> int:
    """The bytes that an entry takes in the blob."""
    return 6 + len(key.encode("utf-8", "surrogateescape")) + len(value)


def encode(session_id: bytes, values: Mapping[str, bytes]) -> bytes:
    """Writes a blob.

    Args:
        session_id: 16 bytes.
        values: The session's values by key.

    Raises:
        ValueError: More entries, a longer key or a longer value than the format can hold.
    """
    if len(values) > MAX_ENTRIES:
        raise ValueError(f"A session holds at most {MAX_ENTRIES} entries, not {len(values)}.")
    parts = [_PREFIX.pack(REVISION << 24 | len(values)), session_id]
    for key, value in values.items():
        encoded = key.encode("utf-8", "surrogateescape")
        try:
            parts += (_KEY.pack(len(encoded)), encoded, _VALUE.pack(len(value)), value)
        except error:
            raise ValueError(
                f"A session's key has at most {MAX_KEY_SIZE} bytes, and its value at most {MAX_VALUE_SIZE}."
            ) from None
    return b"".join(parts)


def decode(blob: bytes) -> tuple[bytes, dict[str, bytes]]:
    """Reads a blob: the session id (16 bytes) and the values by key.

    Bytes after the last entry are ignored, and of a repeated key the last value counts, as in ASP.NET Core.

    Raises:
        CorruptBlobError: Another revision, or a blob that ends too early.
    """
    if len(blob) < HEADER_SIZE:
        raise CorruptBlobError(f"a session blob has at least {HEADER_SIZE} bytes, this one has {len(blob)}")
    (prefix,) = _PREFIX.unpack_from(blob)
    if prefix >> 24 != REVISION:
        raise CorruptBlobError(f"a session blob starts with revision {REVISION}, this one with {prefix >> 24}")
    values: dict[str, bytes] = {}
    at = HEADER_SIZE
    try:
        for _ in range(prefix & MAX_ENTRIES):
            (size,) = _KEY.unpack_from(blob, at)
            end = at + 2 + size
            key = blob[at + 2 : end].decode("utf-8", "surrogateescape")
            (size,) = _VALUE.unpack_from(blob, end)
            at = end + 4 + size
            if at > len(blob) or size < 0:
                raise CorruptBlobError("a session blob ends within an entry")
            values[key] = blob[end + 4 : at]
    except error:
        raise CorruptBlobError("a session blob ends within an entry") from None
    return blob[4:HEADER_SIZE], values
