"""The key ring in Redis, where ASP.NET Core keeps it (``PersistKeysToStackExchangeRedis``)."""

from __future__ import annotations

import asyncio
from typing import Final

from kestrun_py.caching.redis._client import RedisClient
from kestrun_py.caching.redis._scripts import APPEND
from kestrun_py.caching.redis._wire import pack
from kestrun_py.data_protection.repositories import StoredElement, XmlRepository

__all__ = ["RedisXmlRepository"]

_TIMEOUT_SECONDS: Final = 10.0


class RedisXmlRepository(XmlRepository):
    """A list of XML elements without expiration, outside of the cache's instance name.

    `RedisCache.key_repository` makes one; it shares the cache's connections.

    Args:
        client: The connections.
        key: The list's key.
    """

    def __init__(self, client: RedisClient, key: str = "DataProtection-Keys") -> None:
        self._client = client
        self._key = key

    def __str__(self) -> str:
        return f"the list {self._key} of Redis at {self._client.options.where}"

    async def read_all(self) -> list[StoredElement]:
        command = pack((b"LRANGE", self._key, 0, -1))
        deadline = asyncio.get_running_loop().time() + _TIMEOUT_SECONDS
        stored: list[bytes] = await self._client.send(self._key, command, deadline=deadline, repeat=True)
        # In a thread: others may have put any number of entries into the list.
        return await asyncio.to_thread(lambda: [self._element(index, data) for index, data in enumerate(stored)])

    def _element(self, index: int, data: bytes) -> StoredElement:
        name = f"entry {index} of the list {self._key}"
        try:
            return StoredElement(name, data.decode())
        except UnicodeDecodeError as error:
            return StoredElement(name, "", f"cannot be read: {error}")

    async def append(self, xml: str, friendly_name: str, expected: int) -> bool:
        reply = await self._client.run(APPEND, self._key, expected, xml, timeout=_TIMEOUT_SECONDS)
        return bool(reply)
