"""What every cache checks of the keys and values that it is given."""

from __future__ import annotations

from kestrun_py.errors import ArgumentError

__all__ = ["checked_key", "checked_text", "checked_value"]


def checked_key(key: str) -> str:
    """Returns the key of an entry.

    Raises:
        ArgumentError: It is no text, is empty or holds half of a surrogate pair.
    """
    if not isinstance(key, str):
        raise ArgumentError(f"The key of an entry must be text, not {type(key).__name__}.")
    if not key:
        raise ArgumentError("The key of an entry must not be empty.")
    if not key.isascii():
        _encoded(key, "The key of an entry")
    return key


def checked_value(value: bytes | bytearray | memoryview) -> bytes:
    """Returns the value of an entry as ``bytes``.

    Raises:
        ArgumentError: It is something else than bytes.
    """
    if isinstance(value, bytes):
        return value
    if isinstance(value, bytearray | memoryview):
        return bytes(value)
    raise ArgumentError(f"The value of an entry must be bytes, not {type(value).__name__}; set_string takes text.")


def checked_text(value: str) -> bytes:
    """Returns a text as the value of an entry.

    Raises:
        ArgumentError: It is no text, or holds half of a surrogate pair.
    """
    if not isinstance(value, str):
        raise ArgumentError(f"The value of an entry must be text, not {type(value).__name__}; set takes bytes.")
    return _encoded(value, "The value of an entry")


def _encoded(text: str, what: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError:
        raise ArgumentError(f"{what} holds half of a surrogate pair.") from None
