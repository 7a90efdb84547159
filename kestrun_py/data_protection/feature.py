"""The key ring as a part of a host."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from kestrun_py.caching.contract import DistributedCache
from kestrun_py.caching.feature import Caching
from kestrun_py.data_protection.key_folder import FileXmlRepository, open_default_repository
from kestrun_py.data_protection.key_ring import KeyRing
from kestrun_py.data_protection.repositories import XmlRepository
from kestrun_py.hosting.base import HostBase
from kestrun_py.hosting.feature import Feature

__all__ = ["DataProtection"]


class DataProtection(Feature):
    """The key ring of a host. It is kept where the sessions are, unless a place is given.

    Attributes:
        application_name: Hosts understand each other's cookies if they share the name and the keys.
        repository: Where the keys are kept; None for the cache's place, or the user's data directory.
        key_cache: The cache that was opened for the keys alone, if any.
    """

    def __init__(self, host: HostBase) -> None:
        self._host = host
        self.application_name = "kestrun"
        self.repository: XmlRepository | None = None
        self.key_cache: DistributedCache | None = None
        self._ring: KeyRing | None = None
        self._watching: asyncio.Task[None] | None = None

    @property
    def ring(self) -> KeyRing:
        """The key ring; there once the host is configured."""
        assert self._ring is not None
        return self._ring

    def configure(self) -> None:
        logger = self._host.logger
        cache = self._host.services.get(DistributedCache)
        if cache is not None:
            self._host.require(Caching)
        repository = self.repository or (cache and cache.key_repository()) or open_default_repository(logger)
        if isinstance(repository, FileXmlRepository) and (weakness := repository.weakness()):
            logger.warning(
                "Others can write to the key folder {Folder}: {Weakness}. Whoever can put a key there can forge "
                "cookies; make it a folder of the user that runs this process, with mode 0700.",
                str(repository.folder),
                weakness,
            )
        self._ring = KeyRing(repository, application_name=self.application_name, logger=logger)
        self._host.services.add(KeyRing, self._ring)

    async def start(self) -> None:
        if self.key_cache is not None:
            await self.key_cache.start()
        self._watching = asyncio.create_task(self.ring.watch())

    async def stop(self) -> None:
        if self._watching is not None:
            self._watching.cancel()
            with suppress(asyncio.CancelledError):
                await self._watching
        await self.ring.close()
        if self.key_cache is not None:
            await self.key_cache.close()
