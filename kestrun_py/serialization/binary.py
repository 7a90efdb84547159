"""BSON and CBOR, with pymongo's ``bson`` and with ``cbor2``; both are extras."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from kestrun_py._optional import import_extra
from kestrun_py.conversion.moments import date_text, moment_text
from kestrun_py.errors import ArgumentError
from kestrun_py.serialization.plain import Plain, to_plain

__all__ = ["from_bson", "from_cbor", "to_bson", "to_cbor"]


def to_bson(value: Any) -> bytes:
    """Writes a value as a BSON document; anything that has no members is its field ``value``.

    Raises:
        MissingExtraError: The extra ``bson`` is not installed.
        ArgumentError: BSON cannot express the value.
    """
    bson = import_extra("bson", "bson")
    plain = _texts(to_plain(value), keep=(datetime, bytes))
    document = plain if isinstance(plain, dict) else {"value": plain}
    try:
        encoded: bytes = bson.encode(document)
    except (bson.errors.BSONError, OverflowError) as error:
        raise ArgumentError(f"BSON cannot express the value: {error}.") from None
    return encoded


def from_bson(data: bytes) -> Any:
    """Reads a BSON document.

    Raises:
        MissingExtraError: The extra ``bson`` is not installed.
        ArgumentError: It is not BSON.
    """
    bson = import_extra("bson", "bson")
    try:
        return bson.decode(data)
    except bson.errors.BSONError as error:
        raise ArgumentError(f"The bytes are not BSON: {error}.") from None


def to_cbor(value: Any) -> bytes:
    """Writes a value as CBOR; dates are text.

    Raises:
        MissingExtraError: The extra ``cbor`` is not installed.
        ArgumentError: CBOR cannot express the value.
    """
    cbor2 = import_extra("cbor2", "cbor")
    try:
        encoded: bytes = cbor2.dumps(_texts(to_plain(value), keep=(bytes,)))
    except cbor2.CBOREncodeError as error:
        raise ArgumentError(f"CBOR cannot express the value: {error}.") from None
    return encoded


def from_cbor(data: bytes) -> Any:
    """Reads one CBOR item.

    Raises:
        MissingExtraError: The extra ``cbor`` is not installed.
        ArgumentError: It is not CBOR.
    """
    cbor2 = import_extra("cbor2", "cbor")
    try:
        return cbor2.loads(data)
    except (cbor2.CBORDecodeError, ValueError, RecursionError) as error:
        raise ArgumentError(f"The bytes are not CBOR: {error}.") from None


def _texts(value: Plain, keep: tuple[type, ...]) -> Plain:
    """A plain value with texts for the scalars that the format does not know."""
    if isinstance(value, dict):
        return {key: _texts(item, keep) for key, item in value.items()}
    if isinstance(value, list):
        return [_texts(item, keep) for item in value]
    if isinstance(value, keep):
        return value
    if isinstance(value, datetime):
        return date_text(value, digits=7)
    if (text := moment_text(value)) is not None:
        return text
    return float(value) if isinstance(value, Decimal) else str(value) if isinstance(value, UUID) else value
