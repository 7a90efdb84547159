"""The host's verbs for the distributed cache, of which a host has one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

from kestrun_py.caching.contract import DistributedCache
from kestrun_py.caching.feature import Caching
from kestrun_py.caching.memory import MemoryCache
from kestrun_py.conversion.timespan import Duration
from kestrun_py.errors import ArgumentError, InvalidOperationError
from kestrun_py.hosting.base import HostBase

if TYPE_CHECKING:
    from kestrun_py.caching.sql import SqlDialect

__all__ = ["CacheVerbs"]


class CacheVerbs(HostBase):
    """The part of `KestrunHost` that adds a distributed cache."""

    def add_distributed_memory_cache(
        self, *, size_limit: int = 200 * 1024 * 1024, compaction: float = 0.05, scan_interval: float = 60.0
    ) -> Self:
        """Keeps sessions and cache entries in this process; what `add_session` does by itself.

        Args:
            size_limit: The most bytes of memory that entries take, keys and overhead included; 200 MiB.
            compaction: The part of it that is freed when it is full, by what was not used for longest; 0 to 1.
            scan_interval: Seconds between two searches for expired entries.

        Raises:
            InvalidOperationError: There is a cache already, or the host is configured.
            ArgumentError: A number out of its range.
        """
        self._check_no_cache("add_distributed_memory_cache")
        return self._add_cache(
            MemoryCache(size_limit=size_limit, compaction=compaction, scan_interval=scan_interval, logger=self.logger)
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
        from kestrun_py.caching.redis import RedisCache  # imported when used

        self._check_no_cache("add_distributed_redis_cache")
        options = configuration_options if configuration is None else configuration
        return self._add_cache(RedisCache(options, instance_name=instance_name, logger=self.logger))

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
        from kestrun_py.caching.sql import SqlServerDialect  # imported when used

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
            connection_string: The text of Npgsql (``Host=...;Database=...``), libpq or ODBC, or a postgresql:// URL.
            schema_name: The schema of the table.
            table_name: The table.
            expired_items_deletion_interval: How often expired entries are removed; 30 minutes, at least 5.
            default_sliding_expiration: The sliding window of an entry that is stored without any; 20 minutes.

        Raises:
            InvalidOperationError: There is a cache already, or the host is configured.
            ArgumentError: The connection string, a name or a time is not usable.
            CacheError: There is no ODBC driver.
        """
        from kestrun_py.caching.sql import PostgresDialect  # imported when used

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
        from kestrun_py.caching.sql import SqlCache  # imported when used

        self._check_no_cache(verb)
        return self._add_cache(SqlCache(connection_string, dialect=dialect, logger=self.logger, **options))

    def _check_no_cache(self, verb: str) -> None:
        self.check_open(verb)
        registered = self.services.get(DistributedCache)
        if registered is not None:
            raise InvalidOperationError(
                f"A distributed cache implementation is already registered (the {registered.name} cache). Only one "
                "distributed cache can be registered per host."
            )

    def _add_cache(self, cache: DistributedCache) -> Self:
        self.services.add(DistributedCache, cache)
        self.add_feature(Caching(self))
        return self
