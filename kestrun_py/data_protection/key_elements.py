"""What the elements of a key ring say together: the keys, which of them were revoked, and what cannot be used.

Mirrors ASP.NET Core's ``XmlKeyManager.ProcessAllElements``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Final, TypeVar
from uuid import UUID
from xml.etree import ElementTree

from kestrun_py.data_protection.key_xml import (
    UnreadableElementError,
    parse_element,
    read_creation,
    read_expiration,
    read_key,
    read_key_id,
    read_revocation,
)
from kestrun_py.data_protection.keys import Key
from kestrun_py.data_protection.repositories import StoredElement
from kestrun_py.errors import KeyRingError

__all__ = ["KeyElements", "RingElement", "UnusableKey", "keep_usable", "read_elements"]

_EXAMPLES: Final = 3

_EARLIEST: Final = datetime.min.replace(tzinfo=UTC)
_LATEST: Final = datetime.max.replace(tzinfo=UTC)

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class UnusableKey:
    """A key that this process can neither protect nor unprotect with, or an element that may be one.

    Attributes:
        fault: Which element it is, and why it is unusable: a sentence.
        id: The key's id, if the element tells it.
        creation_date: When it was made, if the element tells it.
        expiration_date: From when on it protects no more, if the element tells it.
        is_revoked: Whether it must be used for nothing any more.
    """

    fault: str
    id: UUID | None = None
    creation_date: datetime | None = None
    expiration_date: datetime | None = None
    is_revoked: bool = False

    def may_be_needed(self, now: datetime) -> bool:
        """Tells whether other nodes may protect with it."""
        return not self.is_revoked and (self.expiration_date is None or now < self.expiration_date)


@dataclass(frozen=True, slots=True)
class RingElement:
    """An element with what must be known to store it again.

    Attributes:
        stored: The element.
        date: When its key was made; for a revocation the earliest date, since it has to come first.
        needed_until: Until when a ring cannot do without it.
    """

    stored: StoredElement
    date: datetime
    needed_until: datetime


@dataclass(frozen=True, slots=True)
class KeyElements:
    """What the elements of a ring say.

    Attributes:
        keys: The usable keys, with revocations applied.
        unusable: The other keys, and what cannot be read.
        revoked_before: The time before which every key was revoked, or None.
        elements: The keys and revocations by their names ("key-" and the id), as a store may name them.
        remarks: What else is worth a warning, in sentences.
    """

    keys: tuple[Key, ...] = ()
    unusable: tuple[UnusableKey, ...] = ()
    revoked_before: datetime | None = None
    elements: Mapping[str, RingElement] = field(default_factory=dict)
    remarks: tuple[str, ...] = ()


_AnyKey = TypeVar("_AnyKey", Key, UnusableKey)


def read_elements(elements: Sequence[StoredElement]) -> KeyElements:
    """Reads keys and revocations.

    A key that cannot be read or used does not hinder the others, and an element of another kind is passed over.

    Raises:
        KeyRingError: A revocation cannot be read, or an unreadable element may be one. Without it, a key that was
            revoked would be used.
    """
    reader = _Reader()
    for element in elements:
        reader.add(element)
    return reader.result()


def keep_usable(before: KeyElements, now: KeyElements) -> KeyElements:
    """Returns what was read now, with the keys of before that have become unusable (their elements were replaced)."""
    unusable = {key.id: key for key in now.unusable}
    kept = [
        replace(key, is_revoked=key.is_revoked or unusable[key.id].is_revoked)
        for key in before.keys
        if key.id in unusable
    ]
    names = {f"key-{key.id}" for key in kept}
    return replace(
        now,
        keys=(*now.keys, *kept),
        unusable=tuple(key for key in now.unusable if f"key-{key.id}" not in names),
        elements={**now.elements, **{name: before.elements[name] for name in names}},
    )


class _Reader:
    """Collects what the elements of a ring say."""

    def __init__(self) -> None:
        self._keys: dict[UUID, tuple[Key, StoredElement]] = {}
        self._unusable: list[tuple[UnusableKey, StoredElement]] = []
        self._revocations: list[tuple[UUID | None, datetime, StoredElement]] = []
        self._twice: set[UUID] = set()
        self._foreign: list[str] = []

    def add(self, element: StoredElement) -> None:
        try:
            root = parse_element(element)
        except UnreadableElementError as error:
            if _may_be_revocation(element):
                raise KeyRingError(f"A revocation cannot be read: {_sentence(element.name)} {error}.") from None
            self._unusable.append((UnusableKey(f"{_sentence(element.name)} {error}."), element))
            return
        if root.tag == "key":
            self._add_key(root, element)
        elif root.tag == "revocation":
            self._revocations.append((*_read_revocation(root, element), element))
        else:
            self._foreign.append(f"{element.name} (<{root.tag[:40]}>)")

    def result(self) -> KeyElements:
        before = max((date for target, date, _ in self._revocations if target is None), default=None)
        revoked = {target for target, _, _ in self._revocations if target is not None}
        good = (pair for key_id, pair in self._keys.items() if key_id not in self._twice)
        keys = [(_revoke(key, revoked, before), stored) for key, stored in good]
        unusable = [(_revoke(key, revoked, before), stored) for key, stored in self._unusable]
        return KeyElements(
            tuple(key for key, _ in keys),
            tuple(key for key, _ in unusable),
            before,
            _index(self._revocations, keys, unusable),
            tuple(self._remarks(revoked)),
        )

    def _add_key(self, root: ElementTree.Element, element: StoredElement) -> None:
        try:
            key = read_key(root)
        except UnreadableElementError as error:
            self._unusable.append((_describe(root, f"The key {_label(root)} in {element.name} {error}."), element))
            return
        known, first = self._keys.setdefault(key.id, (key, element))
        if known != key and key.id not in self._twice:
            self._twice.add(key.id)
            fault = f"The key {{{key.id}}} is in {first.name} and, different, in {element.name}; remove one of them."
            self._unusable.append((_describe(root, fault), element))

    def _remarks(self, revoked: set[UUID]) -> list[str]:
        known = self._keys.keys() | {key.id for key, _ in self._unusable}
        return [
            f"{len(found):,} {what}: {', '.join(found[:_EXAMPLES])}{', ...' if len(found) > _EXAMPLES else ''}."
            for what, found in (
                ("elements of the key ring are neither keys nor revocations", self._foreign),
                ("keys are revoked that the key ring does not hold", sorted(map(str, revoked - known))),
            )
            if found
        ]


def _may_be_revocation(element: StoredElement) -> bool:
    return "revocation" in element.name.rpartition("/")[2] or "<revocation" in element.xml


def _sentence(name: str) -> str:
    return name[:1].upper() + name[1:]


def _label(root: ElementTree.Element) -> str:
    return f"{{{root.get('id')}}}" if root.get("id") else "without an id"


def _describe(root: ElementTree.Element, fault: str) -> UnusableKey:
    """What an unusable key says of itself."""
    return UnusableKey(
        fault,
        _readable(lambda: read_key_id(root)),
        _readable(lambda: read_creation(root)),
        _readable(lambda: read_expiration(root)),
    )


def _readable(read: Callable[[], _T]) -> _T | None:
    try:
        return read()
    except UnreadableElementError:
        return None


def _read_revocation(root: ElementTree.Element, element: StoredElement) -> tuple[UUID | None, datetime]:
    try:
        return read_revocation(root)
    except UnreadableElementError as error:
        raise KeyRingError(f"A revocation cannot be read: {_sentence(element.name)} {error}.") from None


def _revoke(key: _AnyKey, revoked: set[UUID], before: datetime | None) -> _AnyKey:
    made = key.creation_date
    is_revoked = key.id in revoked or (before is not None and made is not None and made < before)
    return replace(key, is_revoked=is_revoked)


def _index(
    revocations: Iterable[tuple[UUID | None, datetime, StoredElement]],
    keys: Iterable[tuple[Key, StoredElement]],
    unusable: Iterable[tuple[UnusableKey, StoredElement]],
) -> dict[str, RingElement]:
    index = {
        f"revocation-{target or f'{date:%Y%m%dT%H%M%S%f}Z'}": RingElement(stored, _EARLIEST, _LATEST)
        for target, date, stored in revocations
    }
    both: list[tuple[Key | UnusableKey, StoredElement]] = [*keys, *unusable]
    for key, stored in both:
        if key.id is not None:
            expires = key.expiration_date or _EARLIEST
            needed_until = _EARLIEST if key.is_revoked else expires
            index.setdefault(f"key-{key.id}", RingElement(stored, key.creation_date or _EARLIEST, needed_until))
    return index
