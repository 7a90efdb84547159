"""Reading a key ring from its store, and giving back to the store what it has lost.

ASP.NET Core forgets a key as soon as it is missing in the store. If the store loses its keys (a Redis that was flushed,
or that evicts), the nodes then use different keys. Here, a node remembers what the store has held.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import datetime
from typing import Final

from kestrun_py.data_protection._repeats import Repeats
from kestrun_py.data_protection.key_elements import KeyElements, RingElement, keep_usable, read_elements
from kestrun_py.data_protection.repositories import StoredElement, XmlRepository
from kestrun_py.errors import KestrunError, KeyRingError
from kestrun_py.logging import Logger

__all__ = ["RingStore", "find_lost", "unexpected"]

_ATTEMPTS: Final = 10
_MAX_REMARKS: Final = 5


class RingStore:
    """Reads the elements of a ring, and writes back those that the store has lost.

    It belongs to one event loop, and to one load of the ring at a time.

    Args:
        repository: Where the elements are.
        logger: Where what cannot be used, and what was written back, is logged: once, until it changes.
        read_only: Never write to it.
    """

    def __init__(self, repository: XmlRepository, logger: Logger, *, read_only: bool) -> None:
        self._repository = repository
        self._logger = logger
        self._read_only = read_only
        self._held = KeyElements()
        self._texts: list[StoredElement] = []
        self._elements = KeyElements()
        self._reported: frozenset[str] = frozenset()
        self._repeats = Repeats()

    async def read(self, now: datetime) -> tuple[KeyElements, int]:
        """Returns what the store holds or has lost, and how many elements are in it (for `XmlRepository.append`).

        Raises:
            KeyRingError: The store or a revocation in it cannot be read, or changes all the time.
        """
        for _ in range(_ATTEMPTS + len(self._held.elements)):
            stored = await self._repository.read_all()
            elements = await self._parse(stored)
            lost = find_lost(self._held.elements, elements.elements, now)
            if lost:
                elements = await self._parse([*stored, *(element.stored for element in lost.values())])
            self._held = keep_usable(self._held, elements)
            count = await self._write_back(lost, len(stored))
            if count is not None:
                self._report(elements)
                return self._held, count
        raise KeyRingError("It changed at each attempt to write back what it has lost.")

    async def add(self, xml: str, name: str, count: int) -> KeyElements | None:
        """Adds an element; returns all of them then, or None if somebody else has changed the store meanwhile."""
        if not await self._repository.append(xml, name, count):
            return None
        elements = await self._parse([*self._texts, StoredElement(f"the new element {name}", xml)])
        self._held = keep_usable(self._held, elements)
        return self._held

    async def _parse(self, texts: list[StoredElement]) -> KeyElements:
        # In a thread: a store may hold any number of elements that are not ours.
        self._elements = await asyncio.to_thread(self._parse_changed, texts)
        self._texts = texts
        return self._elements

    def _parse_changed(self, texts: list[StoredElement]) -> KeyElements:
        return self._elements if texts == self._texts else read_elements(texts)

    async def _write_back(self, lost: Mapping[str, RingElement], count: int) -> int | None:
        """Returns how many elements the store holds then; None when somebody else has changed it meanwhile."""
        if not lost:
            self._repeats.end("write back")
        if not lost or self._read_only:
            return count
        try:
            for name, element in lost.items():
                if not await self._repository.append(element.stored.xml, name, count):
                    return None
                count += 1
        except Exception as error:
            self._report_failure(len(lost), error)
        else:
            self._repeats.end("write back")
            self._logger.warning(
                "{Repository} had lost {Count} elements of the key ring, which were written back: {Names}",
                str(self._repository),
                len(lost),
                ", ".join(lost),
            )
        return count

    def _report_failure(self, count: int, error: Exception) -> None:
        reason = str(error) or repr(error)
        if self._repeats.is_new("write back", reason):
            self._logger.error(
                "{Repository} has lost {Count} elements of the key ring. This process still has them, but cannot write "
                "them back: {Reason}",
                str(self._repository),
                count,
                reason,
                exception=unexpected(error),
            )

    def _report(self, elements: KeyElements) -> None:
        said = [key.fault for key in elements.unusable]
        new = [text for text in (*said, *elements.remarks) if text not in self._reported]
        for text in new[:_MAX_REMARKS]:
            self._logger.warning("The key ring in {Repository}: {Remark}", str(self._repository), text)
        if len(new) > _MAX_REMARKS:
            self._logger.warning(
                "The key ring in {Repository}: {Count} more elements cannot be used",
                str(self._repository),
                len(new) - _MAX_REMARKS,
            )
        self._reported = frozenset((*said, *elements.remarks))


def find_lost(
    held: Mapping[str, RingElement], read: Mapping[str, RingElement], now: datetime
) -> dict[str, RingElement]:
    """Tells what a store has lost of the elements that it once held, in the order to write them back.

    A store without any of them has lost them all. Where some are left, a key that is missing, and that has expired
    or was revoked, was removed on purpose. Revocations come before the keys that they may revoke, and older keys
    before newer ones.
    """
    everything = not any(name in read for name in held)
    lost = [(name, one) for name, one in held.items() if name not in read and (everything or now < one.needed_until)]
    return dict(sorted(lost, key=lambda item: item[1].date))


def unexpected(error: Exception) -> Exception | None:
    """An error that only its traceback explains; an error of ours has a text that does."""
    return None if isinstance(error, KestrunError | TimeoutError) else error
