"""The XML of a key ring, as ASP.NET Core's ``XmlKeyManager`` reads and writes it.

An element is a ``<key>`` or a ``<revocation>``. Keys are kept unencrypted; a ring whose keys are encrypted
at rest (X.509, DPAPI) is refused with an error that says so.
"""

from __future__ import annotations

import base64
import binascii
import secrets
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Final
from uuid import UUID
from xml.etree import ElementTree

from kestrun_py.data_protection.encryptors import create_encryptor
from kestrun_py.data_protection.keys import Key
from kestrun_py.errors import ArgumentError, KeyRingError
from kestrun_py.logging import Logger, default_logger

__all__ = ["KeyElements", "new_key", "read_elements"]

_NAMESPACE: Final = "http://schemas.asp.net/2015/03/dataProtection"
_SECRET: Final = f"{{{_NAMESPACE}}}encryptedSecret"
_DESERIALIZER: Final = (
    "Microsoft.AspNetCore.DataProtection.AuthenticatedEncryption.ConfigurationModel."
    "AuthenticatedEncryptorDescriptorDeserializer"
)
_ASSEMBLY: Final = (
    "Microsoft.AspNetCore.DataProtection, Version=8.0.0.0, Culture=neutral, PublicKeyToken=adb9793829ddae60"
)

_MASTER_KEY_SIZE: Final = 64
_SMALLEST_MASTER_KEY: Final = 16

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


class _UnreadableError(Exception):
    """An element that is not what it should be; the message says why."""


@dataclass(frozen=True, slots=True)
class KeyElements:
    """What the elements of a ring say.

    Attributes:
        keys: The keys, with revocations applied.
        revoked_before: The time before which every key was revoked, or None.
    """

    keys: tuple[Key, ...]
    revoked_before: datetime | None


def new_key(creation: datetime, activation: datetime, expiration: datetime) -> tuple[Key, str]:
    """Makes a key for AES-256-CBC and HMACSHA256 with a random id and master key.

    Returns:
        The key and its element.
    """
    key_id = uuid.uuid4()
    master_key = secrets.token_bytes(_MASTER_KEY_SIZE)
    encryptor = create_encryptor("AES_256_CBC", "HMACSHA256", master_key)
    xml = _KEY.format(
        id=key_id,
        creation=_format_date(creation),
        activation=_format_date(activation),
        expiration=_format_date(expiration),
        master_key=base64.b64encode(master_key).decode(),
    )
    return Key(key_id, creation, activation, expiration, encryptor), xml


def read_elements(elements: Sequence[str], logger: Logger = default_logger) -> KeyElements:
    """Reads keys and revocations.

    A key that cannot be read and an element of another kind are logged and left out.

    Raises:
        KeyRingError: Text that is not XML, a revocation that cannot be read, two keys with one id, or a key
            that is encrypted.
    """
    keys: dict[UUID, Key] = {}
    revoked: set[UUID] = set()
    revoked_before: datetime | None = None
    for text in elements:
        root = _parse(text)
        if root.tag == "key":
            _add_key(keys, root, logger)
        elif root.tag == "revocation":
            target, date = _read_revocation(root)
            if target is not None:
                revoked.add(target)
            else:
                revoked_before = max(date, revoked_before or date)
        else:
            logger.warning("The key ring holds an element {Element} that is neither key nor revocation", root.tag)
    for unknown in revoked - keys.keys():
        logger.warning("The key ring revokes the key {KeyId}, which it does not hold", str(unknown))
    return KeyElements(tuple(_revoke(key, revoked, revoked_before) for key in keys.values()), revoked_before)


def _parse(text: str) -> ElementTree.Element:
    # Neither keys nor revocations have a document type, and without one there are no entities to expand.
    if "<!DOCTYPE" in text:
        raise KeyRingError(f"An element, {text[:40]!r}..., has a document type, which is not accepted.")
    try:
        return ElementTree.fromstring(text)
    except (ElementTree.ParseError, ValueError) as error:
        raise KeyRingError(f"An element, {text[:40]!r}..., is not XML: {error}.") from error


def _add_key(keys: dict[UUID, Key], root: ElementTree.Element, logger: Logger) -> None:
    _refuse_encrypted(root)
    try:
        key = _read_key(root)
    except _UnreadableError as error:
        logger.error("The key {KeyId} is left out: {Reason}", root.get("id", "without an id"), str(error))
        return
    if key.id in keys:
        raise KeyRingError(f"It holds the key {{{key.id}}} twice; remove one of them.")
    keys[key.id] = key


def _refuse_encrypted(root: ElementTree.Element) -> None:
    secret = root.find(f".//{_SECRET}")
    if secret is not None:
        decryptor = secret.get("decryptorType", "unknown").partition(",")[0].rpartition(".")[2]
        raise KeyRingError(
            f"The key {{{root.get('id')}}} is encrypted, with an unsupported decryptor ({decryptor}). Let "
            "the application that made it keep its keys unencrypted, where only these two can read them."
        )


def _read_key(root: ElementTree.Element) -> Key:
    descriptor = _child(root, "descriptor")
    deserializer = _attribute(descriptor, "deserializerType").partition(",")[0].strip()
    if deserializer != _DESERIALIZER:
        raise _UnreadableError(f"its descriptor of type {deserializer} is not supported")
    content = _child(descriptor, "descriptor")
    encryption = _attribute(_child(content, "encryption"), "algorithm")
    validation = content.find("validation")
    try:
        encryptor = create_encryptor(
            encryption, None if validation is None else validation.get("algorithm"), _read_master_key(content)
        )
    except ArgumentError as error:
        raise _UnreadableError(str(error)) from None
    return Key(
        _read_id(_attribute(root, "id")),
        _read_date(root, "creationDate"),
        _read_date(root, "activationDate"),
        _read_date(root, "expirationDate"),
        encryptor,
    )


def _read_master_key(content: ElementTree.Element) -> bytes:
    text = "".join("".join(_child(content, "masterKey").itertext()).split())
    try:
        master_key = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise _UnreadableError("its master key is not base64") from None
    if len(master_key) < _SMALLEST_MASTER_KEY:
        raise _UnreadableError(f"its master key has {len(master_key)} bytes, which is too short")
    return master_key


def _read_revocation(root: ElementTree.Element) -> tuple[UUID | None, datetime]:
    """Returns the id of the revoked key, None for all keys; and the date of the revocation."""
    try:
        target = _attribute(_child(root, "key"), "id")
        return None if target == "*" else _read_id(target), _read_date(root, "revocationDate")
    except _UnreadableError as error:
        raise KeyRingError(f"A revocation cannot be read: {error}.") from error


def _revoke(key: Key, revoked: set[UUID], before: datetime | None) -> Key:
    is_revoked = key.id in revoked or (before is not None and key.creation_date < before)
    return replace(key, is_revoked=is_revoked)


def _child(element: ElementTree.Element, name: str) -> ElementTree.Element:
    child = element.find(name)
    if child is None:
        raise _UnreadableError(f"<{element.tag}> has no <{name}>")
    return child


def _attribute(element: ElementTree.Element, name: str) -> str:
    value = element.get(name)
    if value is None:
        raise _UnreadableError(f"<{element.tag}> has no attribute {name}")
    return value


def _read_id(text: str) -> UUID:
    try:
        return UUID(text)
    except ValueError:
        raise _UnreadableError(f"{text!r} is not an id") from None


def _read_date(root: ElementTree.Element, name: str) -> datetime:
    text = (_child(root, name).text or "").strip()
    try:
        date = datetime.fromisoformat(text)
        return date.replace(tzinfo=UTC) if date.tzinfo is None else date.astimezone(UTC)
    except (ValueError, OverflowError):
        raise _UnreadableError(f"the {name} {text!r} is not a date") from None


def _format_date(date: datetime) -> str:
    return date.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "0Z")
