"""Where the elements of a key ring are kept: the contract, and the memory of this process.

`FileXmlRepository` keeps them in a folder. The Redis and SQL caches bring repositories of their own.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Final

__all__ = ["MAX_ELEMENT_BYTES", "MemoryXmlRepository", "StoredElement", "XmlRepository"]

#: A longer element is not read. A key takes about 1,000 bytes, and one that a certificate encrypts about 5,000.
MAX_ELEMENT_BYTES: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class StoredElement:
    """One element of a key ring, as its store holds it.

    Attributes:
        name: Where it is, for messages: "the file /var/keys/key-1.xml".
        xml: Its text; "" if it cannot be read.
        fault: Why it cannot be read; "" if it can.
    """

    name: str
    xml: str
    fault: str = ""


class XmlRepository(ABC):
    """A list of XML elements that only grows (ASP.NET's ``IXmlRepository``).

    ``str()`` of a repository names it in messages. A method that fails raises `KeyRingError` or the error of
    its store; the key ring wraps what is not a `KeyRingError`.
    """

    @abstractmethod
    async def read_all(self) -> list[StoredElement]:
        """Returns every element, in no particular order.

        An element that alone cannot be read is returned with its fault, since the others may suffice.
        """

    @abstractmethod
    async def append(self, xml: str, friendly_name: str, expected: int) -> bool:
        """Stores one more element if nobody else has stored one meanwhile.

        Two nodes that start at once on an empty store both want to add the first key; checking and adding
        must be one step, so that only one of them does.

        Args:
            xml: The element.
            friendly_name: A name for it ("key-" and its id), for stores that name their elements.
            expected: How many elements the caller has read.

        Returns:
            False, with nothing stored, when the store no longer holds exactly `expected` elements.
        """


class MemoryXmlRepository(XmlRepository):
    """Keeps the elements in this process: they are gone when it ends."""

    def __init__(self) -> None:
        self._elements: list[str] = []

    def __str__(self) -> str:
        return "the memory of this process"

    async def read_all(self) -> list[StoredElement]:
        return [StoredElement(f"element {number}", xml) for number, xml in enumerate(self._elements, 1)]

    async def append(self, xml: str, friendly_name: str, expected: int) -> bool:
        if len(self._elements) != expected:
            return False
        self._elements.append(xml)
        return True
