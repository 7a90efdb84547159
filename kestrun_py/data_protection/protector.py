"""Protecting bytes with the keys of a ring: ASP.NET Core's ``KeyRingBasedDataProtector``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final
from uuid import UUID

from kestrun_py.data_protection.keys import Key
from kestrun_py.errors import ArgumentError, DataProtectionError, KeyRingError, UnknownKeyError

__all__ = ["DataProtector", "KeySet", "read_key_id"]

_MAGIC: Final = bytes.fromhex("09F0C9F0")
_ID_END: Final = 20

_FOREIGN: Final = "The payload was not protected by this kind of data protection."
_NEWER: Final = "The payload was protected by a newer version of data protection."


@dataclass(frozen=True, slots=True)
class KeySet:
    """The keys of a ring as they were read at one time.

    Attributes:
        keys: The keys by their ids.
        default: The key that protects.
        unusable: The other keys that nodes may protect with, by their ids, and why they cannot be used here.
    """

    keys: Mapping[UUID, Key]
    default: Key
    unusable: Mapping[UUID, str] = field(default_factory=dict)


class DataProtector:
    """Protects bytes for one chain of purposes.

    Made by `KeyRing.create_protector`. A payload can only be unprotected with the same purposes in the same
    order.

    Args:
        key_set: Returns the keys to use; called once for each payload.
        purposes: The purposes; each any text that UTF-8 can express.

    Raises:
        ArgumentError: A purpose with a lone surrogate.
    """

    def __init__(self, key_set: Callable[[], KeySet], purposes: tuple[str, ...]) -> None:
        self._key_set = key_set
        self._purposes = _encode_purposes(purposes)
        self._aads: dict[UUID, bytes] = {}

    def protect(self, plaintext: bytes) -> bytes:
        """Encrypts and authenticates with the ring's default key.

        Raises:
            KeyRingError: The ring was not loaded yet.
        """
        key = self._key_set().default
        return _header(key.id) + key.encryptor.encrypt(plaintext, self._aad(key.id))

    def unprotect(self, payload: bytes) -> bytes:
        """Returns what was given to `protect`.

        An expired key still unprotects.

        Raises:
            UnknownKeyError: The ring holds no such key.
            DataProtectionError: The payload is not ours, was changed, made for other purposes, or its key
                was revoked.
            KeyRingError: The ring was not loaded yet, or its key cannot be used here.
        """
        key_id = read_key_id(payload)
        keys = self._key_set()
        key = keys.keys.get(key_id)
        if key is None and key_id in keys.unusable:
            raise KeyRingError(keys.unusable[key_id])
        if key is None:
            raise UnknownKeyError(f"The key {{{key_id}}} was not found in the key ring.")
        if key.is_revoked:
            raise DataProtectionError(f"The key {{{key_id}}} was revoked.")
        return key.encryptor.decrypt(payload[_ID_END:], self._aad(key_id))

    def _aad(self, key_id: UUID) -> bytes:
        aad = self._aads.get(key_id)
        if aad is None:
            aad = self._aads[key_id] = _header(key_id) + self._purposes
        return aad


def read_key_id(payload: bytes) -> UUID:
    """Returns the id of the key that a payload says it was protected with.

    Raises:
        DataProtectionError: The payload cannot be one of data protection.
    """
    if len(payload) < _ID_END or payload[:3] != _MAGIC[:3] or payload[3] & 0xF0 != _MAGIC[3]:
        raise DataProtectionError(_FOREIGN)
    if payload[3] != _MAGIC[3]:
        raise DataProtectionError(_NEWER)
    return UUID(bytes_le=payload[4:_ID_END])


def _header(key_id: UUID) -> bytes:
    return _MAGIC + key_id.bytes_le


def _encode_purposes(purposes: tuple[str, ...]) -> bytes:
    return len(purposes).to_bytes(4, "big") + b"".join(map(_encode_purpose, purposes))


def _encode_purpose(purpose: str) -> bytes:
    try:
        text = purpose.encode()
    except UnicodeEncodeError:
        raise ArgumentError(f"The purpose {purpose!r} has a lone surrogate.") from None
    return _leb128(len(text)) + text


def _leb128(number: int) -> bytes:
    groups = bytearray()
    while number > 0x7F:
        groups.append(number & 0x7F | 0x80)
        number >>= 7
    groups.append(number)
    return bytes(groups)
