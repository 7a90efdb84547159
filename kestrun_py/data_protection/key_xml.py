"""The XML of a key ring, as ASP.NET Core's ``XmlKeyManager`` reads and writes it.

An element is a ``<key>`` or a ``<revocation>``. Keys are kept unencrypted; one that is encrypted at rest (X.509, DPAPI)
cannot be used.
"""

from __future__ import annotations

import base64
import binascii
import secrets
import uuid
from datetime import UTC, datetime
from typing import Final
from uuid import UUID
from xml.etree import ElementTree

from kestrun_py.data_protection.keys import Key
from kestrun_py.data_protection.repositories import MAX_ELEMENT_BYTES, StoredElement
from kestrun_py.errors import ArgumentError

__all__ = [
    "UnreadableElementError",
    "new_key",
    "parse_element",
    "read_creation",
    "read_expiration",
    "read_key",
    "read_key_id",
    "read_revocation",
]

_NAMESPACE: Final = "http://schemas.asp.net/2015/03/dataProtection"
_SECRET: Final = f"{{{_NAMESPACE}}}encryptedSecret"
_DESERIALIZER: Final = (
    "Microsoft.AspNetCore.DataProtection.AuthenticatedEncryption.ConfigurationModel."
    "AuthenticatedEncryptorDescriptorDeserializer"
)
_ASSEMBLY: Final = (
    "Microsoft.AspNetCore.DataProtection, Version=8.0.0.0, Culture=neutral, PublicKeyToken=adb9793829ddae60"
)

_NULL_DECRYPTOR: Final = "Microsoft.AspNetCore.DataProtection.XmlEncryption.NullXmlDecryptor"

_MASTER_KEY_BYTES: Final = 64
_MIN_MASTER_KEY_BYTES: Final = 16

_KEY: Final = f"""\
<key id="{{id}}" version="1">
  <creationDate>{{creation}}</creationDate>
  <activationDate>{{activation}}</activationDate>
  <expirationDate>{{expiration}}</expirationDate>
  <descriptor deserializerType="{_DESERIALIZER}, {_ASSEMBLY}">
    <descriptor>
      <encryption algorithm="AES_256_CBC" />
      <validation algorithm="HMACSHA256" />
      <masterKey p4:requiresEncryption="true" xmlns:p4="{_NAMESPACE}">
        <!-- Not encrypted: whoever can read this can forge cookies. -->
        <value>{{master_key}}</value>
      </masterKey>
    </descriptor>
  </descriptor>
</key>"""


class UnreadableElementError(Exception):
    """An element that cannot be used; the message says why, without its subject: "is empty"."""


def new_key(creation: datetime, activation: datetime, expiration: datetime) -> tuple[Key, str]:
    """Makes a key for AES-256-CBC and HMACSHA256 with a random id and master key.

    Returns:
        The key and its element.
    """
    from kestrun_py.data_protection.encryptors import create_encryptor  # imported when used

    key_id = uuid.uuid4()
    master_key = secrets.token_bytes(_MASTER_KEY_BYTES)
    encryptor = create_encryptor("AES_256_CBC", "HMACSHA256", master_key)
    xml = _KEY.format(
        id=key_id,
        creation=_format_date(creation),
        activation=_format_date(activation),
        expiration=_format_date(expiration),
        master_key=base64.b64encode(master_key).decode(),
    )
    return Key(key_id, creation, activation, expiration, encryptor), xml


def parse_element(element: StoredElement) -> ElementTree.Element:
    """Returns the root of an element.

    Raises:
        UnreadableElementError: It could not be read, or is not the XML of a key ring.
    """
    text = element.xml
    if element.fault:
        raise UnreadableElementError(element.fault)
    if not text.strip():
        raise UnreadableElementError("is empty")
    if len(text) > MAX_ELEMENT_BYTES:
        raise UnreadableElementError(f"is longer than {MAX_ELEMENT_BYTES:,} characters")
    # Neither keys nor revocations have a document type, and without one there are no entities to expand.
    if "<!DOCTYPE" in text:
        raise UnreadableElementError("has a document type, which is not accepted")
    try:
        return ElementTree.fromstring(text)
    except (ElementTree.ParseError, ValueError) as error:
        raise UnreadableElementError(f"is not XML: {error}") from None


def read_key(root: ElementTree.Element) -> Key:
    """Reads a ``<key>``.

    Raises:
        UnreadableElementError: It is malformed or encrypted, or uses what is not supported.
    """
    from kestrun_py.data_protection.encryptors import create_encryptor  # imported when used

    descriptor = _child(root, "descriptor")
    deserializer = _attribute(descriptor, "deserializerType").partition(",")[0].strip()
    if deserializer != _DESERIALIZER:
        raise UnreadableElementError(f"has a descriptor of the type {deserializer}, which is not supported")
    _reveal_unencrypted(descriptor)
    content = _child(descriptor, "descriptor")
    encryption = _attribute(_child(content, "encryption"), "algorithm")
    validation = content.find("validation")
    try:
        encryptor = create_encryptor(
            encryption, None if validation is None else validation.get("algorithm"), _read_master_key(content)
        )
    except ArgumentError as error:
        raise UnreadableElementError(f"cannot be used: {error}".removesuffix(".")) from None
    return Key(
        read_key_id(root),
        read_creation(root),
        _read_date(root, "activationDate"),
        read_expiration(root),
        encryptor,
    )


def _reveal_unencrypted(descriptor: ElementTree.Element) -> None:
    """Puts what ``NullXmlEncryptor`` has wrapped, without encrypting it, in the place of its wrapping."""
    for parent in list(descriptor.iter()):
        for index, child in enumerate(parent):
            if child.tag == _SECRET:
                parent[index] = _plain_secret(child)


def _plain_secret(secret: ElementTree.Element) -> ElementTree.Element:
    decryptor = secret.get("decryptorType", "unknown").partition(",")[0].strip()
    if decryptor != _NULL_DECRYPTOR:
        raise UnreadableElementError(
            f"is encrypted, with an unsupported decryptor ({decryptor.rpartition('.')[2]}). Let the application that "
            "made it keep its keys unencrypted, where only these two can read them"
        )
    plain = secret.find("*/*")
    if plain is None:
        raise UnreadableElementError("holds no secret")
    return plain


def _read_master_key(content: ElementTree.Element) -> bytes:
    text = "".join("".join(_child(content, "masterKey").itertext()).split())
    try:
        master_key = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise UnreadableElementError("has a master key that is not base64") from None
    if len(master_key) < _MIN_MASTER_KEY_BYTES:
        raise UnreadableElementError(f"has a master key of {len(master_key)} bytes, which is too short")
    return master_key


def read_revocation(root: ElementTree.Element) -> tuple[UUID | None, datetime]:
    """Returns the id of the revoked key, None for all keys; and the date of the revocation.

    Raises:
        UnreadableElementError: The element is malformed.
    """
    target = _attribute(_child(root, "key"), "id")
    return None if target == "*" else _read_id(target), _read_date(root, "revocationDate")


def read_key_id(root: ElementTree.Element) -> UUID:
    """Returns the id of a key, as the two below raising what `read_key` raises."""
    return _read_id(_attribute(root, "id"))


def read_creation(root: ElementTree.Element) -> datetime:
    """Returns when a key was made."""
    return _read_date(root, "creationDate")


def read_expiration(root: ElementTree.Element) -> datetime:
    """Returns from when on a key protects no more."""
    return _read_date(root, "expirationDate")


def _child(element: ElementTree.Element, name: str) -> ElementTree.Element:
    child = element.find(name)
    if child is None:
        raise UnreadableElementError(f"is incomplete: <{element.tag}> has no <{name}>")
    return child


def _attribute(element: ElementTree.Element, name: str) -> str:
    value = element.get(name)
    if value is None:
        raise UnreadableElementError(f"is incomplete: <{element.tag}> has no attribute {name}")
    return value


def _read_id(text: str) -> UUID:
    try:
        return UUID(text)
    except ValueError:
        raise UnreadableElementError(f"has the id {text!r}, which is no GUID") from None


def _read_date(root: ElementTree.Element, name: str) -> datetime:
    text = (_child(root, name).text or "").strip()
    try:
        date = datetime.fromisoformat(text)
        return date.replace(tzinfo=UTC) if date.tzinfo is None else date.astimezone(UTC)
    except (ValueError, OverflowError):
        raise UnreadableElementError(f"has a {name}, {text!r}, that is not a date") from None


def _format_date(date: datetime) -> str:
    return date.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "0Z")
