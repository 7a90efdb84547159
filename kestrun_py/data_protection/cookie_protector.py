"""The text of a session cookie: ASP.NET Core's ``CookieProtection``, which remembers what it has decrypted."""

from __future__ import annotations

import base64
import binascii
import hashlib
import time
from collections import OrderedDict
from typing import Final

from kestrun_py.data_protection.key_ring import KeyRing
from kestrun_py.data_protection.protector import KeySet, read_key_id
from kestrun_py.errors import DataProtectionError, KeyRingError, UnknownKeyError
from kestrun_py.logging import Logger, default_logger

__all__ = ["CookieProtector"]

_PURPOSE: Final = "SessionMiddleware"

_MAX_REMEMBERED: Final = 4096
_MAX_CHARACTERS: Final = 1024
_WARNING_SECONDS: Final = 1.0  # from one warning of a refused cookie to the next


class CookieProtector:
    """Turns session keys into cookie values and back.

    A cookie value is decrypted once: the 4,096 last used ones are remembered until the keys of the ring change. Like
    the ring, a protector belongs to one event loop.

    Args:
        ring: The ring; its application name and "SessionMiddleware" are the purposes, as in ASP.NET Core.
        logger: Where a cookie that is not accepted is logged, as a fingerprint.
    """

    def __init__(self, ring: KeyRing, *, logger: Logger = default_logger) -> None:
        self._ring = ring
        self._logger = logger
        self._protector = ring.create_protector(_PURPOSE)
        self._read: OrderedDict[str, str] = OrderedDict()
        self._read_with: KeySet | None = None
        self._next_warning = 0.0
        self._without_warning = 0

    async def write(self, session_key: str) -> str:
        """Returns the cookie value for a session key: base64 without padding, not yet escaped.

        Raises:
            KeyRingError: There is no key to protect it with.
        """
        if not session_key:
            return session_key
        await self._ring.load()
        return base64.b64encode(self._protector.protect(session_key.encode())).rstrip(b"=").decode()

    async def read(self, cookie_value: str, *, client: str = "an unknown address") -> str | None:
        """Returns the session key in a cookie value; None, with a warning (`refuse`), for one that is not ours.

        Only a well-formed value makes the ring load, and only one with an unknown key makes it look for that
        key.

        Args:
            cookie_value: The value, unescaped.
            client: The address of the client that has sent it, for the log.

        Raises:
            KeyRingError: The key ring cannot be read, so the value may be good or not.
        """
        if not cookie_value:
            return None
        try:
            payload = _decode(cookie_value)
            read_key_id(payload)
            await self._ring.load()
            return self.peek(cookie_value) or await self._unprotect(cookie_value, payload)
        except KeyRingError:
            raise
        except DataProtectionError as error:
            self.refuse(cookie_value, client, str(error))
            return None

    def refuse(self, cookie_value: str, client: str, reason: str) -> None:
        """Logs a cookie that is not accepted: a warning at most once a second, a Debug line in between.

        A warning says how many Debug lines there were since the last one.
        """
        template = "A session cookie {Cookie} from {Client} was ignored. {Reason}"
        values = [_fingerprint(cookie_value), client, reason]
        now = time.monotonic()
        if now < self._next_warning:
            self._without_warning += 1
            self._logger.debug(template, *values)
            return
        self._next_warning = now + _WARNING_SECONDS
        if self._without_warning:
            template += " (Since the last warning, {Count} more were ignored.)"
            values.append(str(self._without_warning))
            self._without_warning = 0
        self._logger.warning(template, *values)

    def peek(self, cookie_value: str) -> str | None:
        """Returns the session key of a remembered cookie value; None if `read` has to be asked."""
        keys = self._ring.current_keys
        if keys is None or keys is not self._read_with:
            return None
        session_key = self._read.get(cookie_value)
        if session_key is not None:
            self._read.move_to_end(cookie_value)
        return session_key

    async def _unprotect(self, cookie_value: str, payload: bytes) -> str:
        try:
            text = self._protector.unprotect(payload)
        except UnknownKeyError:
            if not await self._ring.find_unknown():
                raise
            text = self._protector.unprotect(payload)
        session_key = _decode_text(text)
        self._remember(cookie_value, session_key)
        return session_key

    def _remember(self, cookie_value: str, session_key: str) -> None:
        keys = self._ring.keys
        if keys is not self._read_with:
            self._read.clear()
            self._read_with = keys
        self._read[cookie_value] = session_key
        if len(self._read) > _MAX_REMEMBERED:
            self._read.popitem(last=False)


def _decode(cookie_value: str) -> bytes:
    if len(cookie_value) > _MAX_CHARACTERS:
        raise DataProtectionError(f"It is {len(cookie_value)} characters long.")
    try:
        payload = base64.b64decode(cookie_value + "=" * (-len(cookie_value) % 4))
    except (binascii.Error, ValueError):
        raise DataProtectionError("It is not base64.") from None
    # The decoder ignores characters that are not base64, and bits after the last byte.
    if base64.b64encode(payload).rstrip(b"=").decode() != cookie_value:
        raise DataProtectionError("It is not base64.")
    return payload


def _decode_text(text: bytes) -> str:
    try:
        return text.decode()
    except UnicodeDecodeError:
        raise DataProtectionError("Its content is not text.") from None


def _fingerprint(cookie_value: str) -> str:
    return hashlib.sha256(cookie_value.encode(errors="surrogatepass")).hexdigest()[:8]
