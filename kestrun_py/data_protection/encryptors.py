"""Authenticated encryption as ASP.NET Core's data protection does it.

Each payload has its own keys, derived (SP800-108, counter
mode, PRF HMACSHA512) from the master key, the additional authenticated data and a random key modifier.

Mirrors ``ManagedAuthenticatedEncryptor``, ``AesGcmAuthenticatedEncryptor`` and
``ManagedSP800_108_CTR_HMACSHA512``.
"""

from __future__ import annotations

import functools
import hmac
import secrets
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import ClassVar, Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CBC

from kestrun_py.errors import ArgumentError, DataProtectionError

__all__ = ["CbcHmacEncryptor", "Encryptor", "GcmEncryptor", "create_encryptor", "derive_key"]

_BLOCK_BYTES: Final = 16
_MODIFIER_BYTES: Final = 16
_NONCE_BYTES: Final = 12
_TAG_BYTES: Final = 16

_PRF_BYTES: Final = 64
_DIGEST_BYTES: Final = {"sha256": 32, "sha512": 64}

_CHANGED: Final = "The payload is invalid: it was changed, cut, or protected for another purpose."


@dataclass(frozen=True, slots=True)
class Encryptor(ABC):
    """Encrypts and authenticates with one master key.

    Attributes:
        master_key: The secret that the keys of each payload are derived from.
        key_size: The size of the AES key in bytes: 16, 24 or 32.
    """

    iv_size: ClassVar[int]

    master_key: bytes = field(repr=False)
    key_size: int

    def encrypt(self, plaintext: bytes, aad: bytes) -> bytes:
        """Returns key modifier, IV, ciphertext and authentication tag of `plaintext`."""
        random = secrets.token_bytes(_MODIFIER_BYTES + self.iv_size)
        return self._seal(plaintext, aad, random[:_MODIFIER_BYTES], random[_MODIFIER_BYTES:])

    @abstractmethod
    def decrypt(self, payload: bytes, aad: bytes) -> bytes:
        """Returns the plaintext of what `encrypt` returned for the same `aad`.

        Raises:
            DataProtectionError: The payload was changed, or made for another `aad`.
        """

    @abstractmethod
    def _seal(self, plaintext: bytes, aad: bytes, modifier: bytes, iv: bytes) -> bytes: ...


@dataclass(frozen=True, slots=True)
class CbcHmacEncryptor(Encryptor):
    """AES-CBC with PKCS#7 padding, then an HMAC over IV and ciphertext.

    Attributes:
        hash_name: "sha256" or "sha512".
    """

    iv_size: ClassVar[int] = _BLOCK_BYTES

    hash_name: str

    def decrypt(self, payload: bytes, aad: bytes) -> bytes:
        tag_start = len(payload) - _DIGEST_BYTES[self.hash_name]
        if tag_start < _MODIFIER_BYTES + 2 * _BLOCK_BYTES:
            raise DataProtectionError(_CHANGED)
        key, mac_key = self._keys(aad, payload[:_MODIFIER_BYTES])
        tag = hmac.digest(mac_key, payload[_MODIFIER_BYTES:tag_start], self.hash_name)
        if not hmac.compare_digest(tag, payload[tag_start:]):
            raise DataProtectionError(_CHANGED)
        iv_end = _MODIFIER_BYTES + _BLOCK_BYTES
        return _cbc_decrypt(key, payload[_MODIFIER_BYTES:iv_end], payload[iv_end:tag_start])

    def _seal(self, plaintext: bytes, aad: bytes, modifier: bytes, iv: bytes) -> bytes:
        key, mac_key = self._keys(aad, modifier)
        sealed = iv + _cbc_encrypt(key, iv, plaintext)
        return modifier + sealed + hmac.digest(mac_key, sealed, self.hash_name)

    def _keys(self, aad: bytes, modifier: bytes) -> tuple[bytes, bytes]:
        size = self.key_size
        context = _cbc_context_header(size, self.hash_name) + modifier
        both = derive_key(self.master_key, aad, context, size + _DIGEST_BYTES[self.hash_name])
        return both[:size], both[size:]


@dataclass(frozen=True, slots=True)
class GcmEncryptor(Encryptor):
    """AES-GCM. The additional authenticated data enters through the key derivation alone."""

    iv_size: ClassVar[int] = _NONCE_BYTES

    def decrypt(self, payload: bytes, aad: bytes) -> bytes:
        nonce_end = _MODIFIER_BYTES + _NONCE_BYTES
        if len(payload) < nonce_end + _TAG_BYTES:
            raise DataProtectionError(_CHANGED)
        try:
            return self._cipher(aad, payload[:_MODIFIER_BYTES]).decrypt(
                payload[_MODIFIER_BYTES:nonce_end], payload[nonce_end:], None
            )
        except InvalidTag:
            raise DataProtectionError(_CHANGED) from None

    def _seal(self, plaintext: bytes, aad: bytes, modifier: bytes, iv: bytes) -> bytes:
        return modifier + iv + self._cipher(aad, modifier).encrypt(iv, plaintext, None)

    def _cipher(self, aad: bytes, modifier: bytes) -> AESGCM:
        context = _gcm_context_header(self.key_size) + modifier
        return AESGCM(derive_key(self.master_key, aad, context, self.key_size))


_KEY_BYTES: Final = {"128": 16, "192": 24, "256": 32}
_HASHES: Final = {"HMACSHA256": "sha256", "HMACSHA512": "sha512"}


def create_encryptor(encryption: str, validation: str | None, master_key: bytes) -> Encryptor:
    """Makes the encryptor for the algorithms that a key names.

    Args:
        encryption: "AES_256_CBC", "AES_128_GCM" and the like: ASP.NET's ``EncryptionAlgorithm``.
        validation: "HMACSHA256" or "HMACSHA512"; not looked at for GCM.
        master_key: The master key.

    Raises:
        ArgumentError: An algorithm that ASP.NET's default implementation does not have.
    """
    prefix, _, rest = encryption.partition("_")
    size, _, mode = rest.partition("_")
    if prefix != "AES" or size not in _KEY_BYTES or mode not in ("CBC", "GCM"):
        raise ArgumentError(f"The encryption algorithm {encryption!r} is not supported.")
    if mode == "GCM":
        return GcmEncryptor(master_key, _KEY_BYTES[size])
    if validation not in _HASHES:
        raise ArgumentError(f"The validation algorithm {validation!r} is not supported.")
    return CbcHmacEncryptor(master_key, _KEY_BYTES[size], _HASHES[validation])


def derive_key(master_key: bytes, label: bytes, context: bytes, size: int) -> bytes:
    """Derives `size` bytes by SP800-108 in counter mode with HMACSHA512."""
    rest = label + b"\0" + context + (size * 8).to_bytes(4, "big")
    blocks = [
        hmac.digest(master_key, counter.to_bytes(4, "big") + rest, "sha512")
        for counter in range(1, -(-size // _PRF_BYTES) + 1)
    ]
    return b"".join(blocks)[:size]


@functools.cache
def _cbc_context_header(key_size: int, hash_name: str) -> bytes:
    digest_size = _DIGEST_BYTES[hash_name]
    keys = derive_key(b"", b"", b"", key_size + digest_size)
    sizes = b"".join(n.to_bytes(4, "big") for n in (key_size, _BLOCK_BYTES, digest_size, digest_size))
    sample = _cbc_encrypt(keys[:key_size], bytes(_BLOCK_BYTES), b"")
    return b"\0\0" + sizes + sample + hmac.digest(keys[key_size:], b"", hash_name)


@functools.cache
def _gcm_context_header(key_size: int) -> bytes:
    sizes = b"".join(n.to_bytes(4, "big") for n in (key_size, _NONCE_BYTES, _BLOCK_BYTES, _TAG_BYTES))
    return b"\0\1" + sizes + AESGCM(derive_key(b"", b"", b"", key_size)).encrypt(bytes(_NONCE_BYTES), b"", None)


def _cbc_encrypt(key: bytes, iv: bytes, plaintext: bytes) -> bytes:
    missing = _BLOCK_BYTES - len(plaintext) % _BLOCK_BYTES
    return Cipher(AES(key), CBC(iv)).encryptor().update(plaintext + bytes([missing]) * missing)


def _cbc_decrypt(key: bytes, iv: bytes, ciphertext: bytes) -> bytes:
    if len(ciphertext) % _BLOCK_BYTES:
        raise DataProtectionError(_CHANGED)
    padded = Cipher(AES(key), CBC(iv)).decryptor().update(ciphertext)
    count = padded[-1]
    if not 1 <= count <= _BLOCK_BYTES or padded[-count:] != bytes([count]) * count:
        raise DataProtectionError(_CHANGED)
    return padded[:-count]
