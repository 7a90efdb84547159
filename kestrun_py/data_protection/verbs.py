"""The host's verb for data protection."""

from __future__ import annotations

import os
from typing import Self

from kestrun_py.data_protection.feature import DataProtection
from kestrun_py.data_protection.key_folder import FileXmlRepository
from kestrun_py.errors import ArgumentError
from kestrun_py.hosting.base import HostBase

__all__ = ["DataProtectionVerbs"]


class DataProtectionVerbs(HostBase):
    """The part of `KestrunHost` that sets how cookies and tokens are protected."""

    def add_data_protection(
        self,
        *,
        application_name: str | None = None,
        folder: str | os.PathLike[str] | None = None,
        redis: object = None,
    ) -> Self:
        """Sets how session cookies are protected: the application's name, and where the key ring is kept.

        Args:
            application_name: Hosts understand each other's cookies if they share name and key ring; ``kestrun``.
            folder: Where to keep the key ring. Left out, it is where the sessions are; for the memory cache that is
                the user's data directory.
            redis: Instead, the Redis server to keep it in, as `add_distributed_redis_cache` takes it.

        Raises:
            InvalidOperationError: The host is configured.
            ArgumentError: The name is no text, both places are given, or an option of Redis is malformed.
        """
        self.check_open("add_data_protection")
        if not isinstance(application_name, str | None):
            raise ArgumentError(f"application_name must be text, not {type(application_name).__name__}.")
        if folder is not None and redis is not None:
            raise ArgumentError("The key ring is kept in a folder or in redis; give one of them.")
        protection = self.find(DataProtection)
        if protection is None:
            protection = DataProtection(self)
            self.add_feature(protection)
        if application_name is not None:
            protection.application_name = application_name
        if redis is not None:
            from kestrun_py.caching.redis import RedisCache  # imported when used

            protection.key_cache = RedisCache(redis, logger=self.logger)
            protection.repository = protection.key_cache.key_repository()
        if folder is not None:
            protection.repository = FileXmlRepository(folder)
        return self
