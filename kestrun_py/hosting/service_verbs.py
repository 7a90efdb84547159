"""The host's verbs for caches, sessions and data protection."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, Self

from aiohttp.typedefs import Middleware

from kestrun_py.caching import DistributedCache
from kestrun_py.caching.memory import MemoryCache
from kestrun_py.caching.redis import RedisCache
from kestrun_py.caching.sql import PostgresDialect, SqlCache, SqlDialect, SqlServerDialect
from kestrun_py.conversion.timespan import Duration
from kestrun_py.data_protection import FileXmlRepository, KeyRing, XmlRepository, open_default_repository
from kestrun_py.errors import ArgumentError, InvalidOperationError
from kestrun_py.hosting.application import add_session_services
from kestrun_py.hosting.pipeline import session_middleware
from kestrun_py.hosting.services import ServiceRegistry
from kestrun_py.http.cookies import (
    CookieBuilder,
    CookieSecurePolicy,
    CookieSecurePolicyText,
    SameSiteMode,
    SameSiteText,
)
from kestrun_py.logging import Logger
from kestrun_py.server.endpoints import Endpoint
from kestrun_py.sessions import CacheFailurePolicy, SessionLock, SessionOptions, SessionStore
from kestrun_py.sessions.options import CacheFailurePolicyText, SessionLockText

__all__ = ["ServiceVerbs"]

_SECOND_CACHE = (
    "A distributed cache implementation is already registered ({}). Only one distributed cache can be registered "
    "per host."
)
_SECOND_SESSION = (
    "Session services are already registered (with the cookie '{}'). Only one session configuration can be registered "
    "per host."
)


class ServiceVerbs(ABC):
    """The part of `KestrunHost` that adds caches, sessions and data protection, one of each."""

    logger: Logger
    services: ServiceRegistry

    def __init__(self) -> None:
        self._memory_allowed = True
        self._application_name = "kestrun"
        self._key_repository: XmlRepository | None = None
        self._key_cache: RedisCache | None = None

    @abstractmethod
    def _check_open(self, verb: str) -> None:
        """Refuses a verb that comes after the configuration."""

    @abstractmethod
    def _queue(self, name: str, make: Callable[[], Middleware]) -> None:
        """Queues a middleware, which is made when the application is."""

    def add_distributed_memory_cache(
        self, *, size_limit: int = 200 * 1024 * 1024, compaction: float = 0.05, scan_interval: float = 60.0
    ) -> Self:
        """Keeps sessions and cache entries in this process; what `add_session` does by itself.

        Args:
            size_limit: The most bytes of all values; 200 MiB.
            compaction: The part of it that is freed when it is full, by what was not used for longest; 0 to 1.
            scan_interval: Seconds between two searches for expired entries.

        Raises:
            InvalidOperationError: There is a cache already, or the host is configured.
            ArgumentError: A number out of its range.
        """
        return self._add_cache(
            lambda: MemoryCache(
                size_limit=size_limit, compaction=compaction, scan_interval=scan_interval, logger=self.logger
            ),
            "add_distributed_memory_cache",
        )

    def add_distributed_redis_cache(
        self, configuration: str | None = None, *, configuration_options: object = None, instance_name: str = ""
    ) -> Self:
        """Keeps sessions and cache entries in Redis, as ASP.NET Core's ``AddStackExchangeRedisCache``.

        Args:
            configuration: StackExchange.Redis text (``host:port,password=...,ssl=true``) or a redis:// URL.
            configuration_options: Instead, the options as an object's attributes (`RedisOptions`).
            instance_name: What every key begins with in Redis.

        Raises:
            InvalidOperationError: There is a cache already, or the host is configured.
            ArgumentError: An option is missing, unknown or malformed.
        """
        if (configuration is None) == (configuration_options is None):
            raise ArgumentError("add_distributed_redis_cache takes either configuration or configuration_options.")
        options = configuration_options if configuration is None else configuration
        return self._add_cache(
            lambda: RedisCache(options, instance_name=instance_name, logger=self.logger), "add_distributed_redis_cache"
        )

    def add_distributed_sqlserver_cache(
        self,
        connection_string: str,
        *,
        schema_name: str,
        table_name: str,
        expired_items_deletion_interval: Duration = 1800,
        default_sliding_expiration: Duration = 1200,
    ) -> Self:
        """Keeps sessions and cache entries in a table of SQL Server, as ``AddDistributedSqlServerCache``.

        ``kestrun cache create-table`` makes the table.

        Args:
            connection_string: An ADO.NET or an ODBC connection string.
            schema_name: The schema of the table.
            table_name: The table.
            expired_items_deletion_interval: How often expired entries are removed; 30 minutes, at least 5.
            default_sliding_expiration: The sliding window of an entry that is stored without any; 20 minutes.

        Raises:
            InvalidOperationError: There is a cache already, or the host is configured.
            ArgumentError: The connection string, a name or a time is not usable.
            CacheError: There is no ODBC driver.
        """
        return self._add_sql_cache(
            "add_distributed_sqlserver_cache",
            SqlServerDialect(),
            connection_string,
            schema_name=schema_name,
            table_name=table_name,
            expired_items_deletion_interval=expired_items_deletion_interval,
            default_sliding_expiration=default_sliding_expiration,
        )

    def add_distributed_postgres_cache(
        self,
        connection_string: str,
        *,
        schema_name: str = "public",
        table_name: str = "Sessions",
        expired_items_deletion_interval: Duration = 1800,
        default_sliding_expiration: Duration = 1200,
    ) -> Self:
        """Keeps sessions and cache entries in a table of PostgreSQL, over its ODBC driver.

        ``kestrun cache create-table`` makes the table.

        Args:
            connection_string: Npgsql's form (``Host=...;Database=...``), a postgresql:// URL or an ODBC string.
            schema_name: The schema of the table.
            table_name: The table.
            expired_items_deletion_interval: How often expired entries are removed; 30 minutes, at least 5.
            default_sliding_expiration: The sliding window of an entry that is stored without any; 20 minutes.

        Raises:
            InvalidOperationError: There is a cache already, or the host is configured.
            ArgumentError: The connection string, a name or a time is not usable.
            CacheError: There is no ODBC driver.
        """
        return self._add_sql_cache(
            "add_distributed_postgres_cache",
            PostgresDialect(),
            connection_string,
            schema_name=schema_name,
            table_name=table_name,
            expired_items_deletion_interval=expired_items_deletion_interval,
            default_sliding_expiration=default_sliding_expiration,
        )

    def _add_sql_cache(self, verb: str, dialect: SqlDialect, connection_string: str, **options: Any) -> Self:
        return self._add_cache(
            lambda: SqlCache(connection_string, dialect=dialect, logger=self.logger, **options), verb
        )

    def _add_cache(self, make: Callable[[], DistributedCache], verb: str) -> Self:
        self._check_open(verb)
        registered = self.services.get(DistributedCache)
        if registered is not None:
            raise InvalidOperationError(_SECOND_CACHE.format(f"the {registered.name} cache"))
        self.services.add(DistributedCache, make())
        return self

    def add_session(
        self,
        options: SessionOptions | None = None,
        *,
        cookie: CookieBuilder | None = None,
        idle_timeout: Duration | None = None,
        io_timeout: Duration | None = None,
        absolute_timeout: Duration | None = None,
        lock: SessionLock | SessionLockText | None = None,
        on_cache_failure: CacheFailurePolicy | CacheFailurePolicyText | None = None,
        max_size: int | None = None,
        no_distributed_memory_cache: bool = False,
    ) -> Self:
        """Adds sessions: their services, and the session middleware at this place of the queue.

        Without another cache they are kept in memory.

        Args:
            options: Ready options, instead of those that follow.
            cookie: The session cookie; ``.AspNetCore.Session``, HttpOnly, SameSite Lax if left out.
            idle_timeout: A session not used for this long is gone; 20 minutes.
            io_timeout: The longest a request waits for its session, and again at its commit; 10 seconds.
            absolute_timeout: A session is gone this long after it began, used or not; never.
            lock: ``"exclusive"``, or ``"none"`` to let requests of one session overlap as in ASP.NET Core.
            on_cache_failure: ``"fail"`` (503), or ``"continue"`` without the session as in ASP.NET Core.
            max_size: The most bytes of a stored session; 1 MiB.
            no_distributed_memory_cache: Do not fall back to a memory cache: a cache must be added.

        Raises:
            InvalidOperationError: Sessions were added already, or the host is configured.
            ArgumentError: An option out of its range, or a cookie that browsers would refuse.
        """
        self._check_open("add_session")
        registered = self.services.get(SessionOptions)
        if registered is not None:
            raise InvalidOperationError(_SECOND_SESSION.format(registered.cookie.name))
        settings: dict[str, Any] = {
            "cookie": cookie,
            "idle_timeout": idle_timeout,
            "io_timeout": io_timeout,
            "absolute_timeout": absolute_timeout,
            "lock": lock,
            "on_cache_failure": on_cache_failure,
            "max_size": max_size,
        }
        given = {name: value for name, value in settings.items() if value is not None}
        if options is not None and given:
            raise ArgumentError(f"add_session takes options or {', '.join(given)}, not both.")
        self.services.add(SessionOptions, SessionOptions.of(**given) if options is None else options)
        self._memory_allowed = not no_distributed_memory_cache
        self._queue("session", lambda: session_middleware(self.services.require(SessionStore), self.logger))
        return self

    def new_cookie_builder(
        self,
        name: str | None = None,
        *,
        domain: str | None = None,
        path: str | None = None,
        http_only: bool = False,
        is_essential: bool = False,
        max_age: Duration | None = None,
        expiration: Duration | None = None,
        secure_policy: CookieSecurePolicy | CookieSecurePolicyText = CookieSecurePolicy.SAME_AS_REQUEST,
        same_site: SameSiteMode | SameSiteText = SameSiteMode.UNSPECIFIED,
        extensions: Sequence[str] = (),
    ) -> CookieBuilder:
        """Describes a cookie, as Kestrun's ``New-KrCookieBuilder``; see `CookieBuilder` for the attributes."""
        return CookieBuilder(
            name=name,
            domain=domain,
            path=path,
            http_only=http_only,
            is_essential=is_essential,
            max_age=max_age,
            expiration=expiration,
            secure_policy=secure_policy,
            same_site=same_site,
            extensions=extensions,
        )

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
        self._check_open("add_data_protection")
        if not isinstance(application_name, str | None):
            raise ArgumentError(f"application_name must be text, not {type(application_name).__name__}.")
        if application_name is not None:
            self._application_name = application_name
        if folder is not None and redis is not None:
            raise ArgumentError("The key ring is kept in a folder or in redis; give one of them.")
        if redis is not None:
            self._key_cache = RedisCache(redis, logger=self.logger)
            self._key_repository = self._key_cache.key_repository()
        if folder is not None:
            self._key_repository = FileXmlRepository(folder)
        return self

    def _build_sessions(self, options: SessionOptions, endpoints: Sequence[Endpoint]) -> None:
        """Registers what sessions are made of, once it is known where the host listens."""
        if self.services.get(DistributedCache) is None:
            if not self._memory_allowed:
                raise InvalidOperationError(
                    "Sessions need a distributed cache: call add_distributed_redis_cache "
                    "(add_kr_distributed_redis_cache) or its like, or leave out no_distributed_memory_cache."
                )
            self.add_distributed_memory_cache()
        with_tls = [endpoint.certificate is not None for endpoint in endpoints]
        for warning in options.cookie.validate(serves_http=not all(with_tls), serves_https=any(with_tls)):
            self.logger.warning("{Warning}", warning)
        cache = self.services.require(DistributedCache)
        repository = self._key_repository or cache.key_repository() or open_default_repository(self.logger)
        ring = KeyRing(repository, application_name=self._application_name, logger=self.logger)
        add_session_services(self.services, options, ring, self.logger)
