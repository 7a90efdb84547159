"""The cache cmdlets: Add-KrDistributedRedisCache, Add-KrDistributedSqlServerCache, and the same for PostgreSQL."""

from __future__ import annotations

from kestrun_py.conversion.timespan import Duration
from kestrun_py.host import KestrunHost
from kestrun_py.host_registry import resolve_host

__all__ = ["add_kr_distributed_postgres_cache", "add_kr_distributed_redis_cache", "add_kr_distributed_sqlserver_cache"]


# made from KestrunHost.add_distributed_redis_cache
def add_kr_distributed_redis_cache(
    configuration: str | None = None,
    *,
    configuration_options: object = None,
    instance_name: str = "",
    server: KestrunHost | None = None,
) -> KestrunHost:
    """Keeps sessions and cache entries in Redis, as ASP.NET Core's ``AddStackExchangeRedisCache``
    (Add-KrDistributedRedisCache).

    Args:
        configuration: StackExchange.Redis text (``host:port,password=...,ssl=true``) or a redis:// URL.
        configuration_options: Instead, the options as an object's attributes (`RedisOptions`).
        instance_name: What every key begins with in Redis.
        server: The host.

    Raises:
        InvalidOperationError: There is a cache already, or the host is configured.
        ArgumentError: An option is missing, unknown or malformed.
    """
    return resolve_host(server).add_distributed_redis_cache(
        configuration, configuration_options=configuration_options, instance_name=instance_name
    )


# made from KestrunHost.add_distributed_sqlserver_cache
def add_kr_distributed_sqlserver_cache(
    connection_string: str,
    *,
    schema_name: str,
    table_name: str,
    expired_items_deletion_interval: Duration = 1800,
    default_sliding_expiration: Duration = 1200,
    server: KestrunHost | None = None,
) -> KestrunHost:
    """Keeps sessions and cache entries in a table of SQL Server, as ``AddDistributedSqlServerCache``
    (Add-KrDistributedSqlServerCache).

    ``kestrun cache create-table`` makes the table.

    Args:
        connection_string: An ADO.NET or an ODBC connection string.
        schema_name: The schema of the table.
        table_name: The table.
        expired_items_deletion_interval: How often expired entries are removed; 30 minutes, at least 5.
        default_sliding_expiration: The sliding window of an entry that is stored without any; 20 minutes.
        server: The host.

    Raises:
        InvalidOperationError: There is a cache already, or the host is configured.
        ArgumentError: The connection string, a name or a time is not usable.
        CacheError: There is no ODBC driver.
    """
    return resolve_host(server).add_distributed_sqlserver_cache(
        connection_string,
        schema_name=schema_name,
        table_name=table_name,
        expired_items_deletion_interval=expired_items_deletion_interval,
        default_sliding_expiration=default_sliding_expiration,
    )


# made from KestrunHost.add_distributed_postgres_cache
def add_kr_distributed_postgres_cache(
    connection_string: str,
    *,
    schema_name: str = "public",
    table_name: str = "Sessions",
    expired_items_deletion_interval: Duration = 1800,
    default_sliding_expiration: Duration = 1200,
    server: KestrunHost | None = None,
) -> KestrunHost:
    """Keeps sessions and cache entries in a table of PostgreSQL, over its ODBC driver.

    ``kestrun cache create-table`` makes the table.

    Args:
        connection_string: The text of Npgsql (``Host=...;Database=...``), libpq or ODBC, or a postgresql:// URL.
        schema_name: The schema of the table.
        table_name: The table.
        expired_items_deletion_interval: How often expired entries are removed; 30 minutes, at least 5.
        default_sliding_expiration: The sliding window of an entry that is stored without any; 20 minutes.
        server: The host.

    Raises:
        InvalidOperationError: There is a cache already, or the host is configured.
        ArgumentError: The connection string, a name or a time is not usable.
        CacheError: There is no ODBC driver.
    """
    return resolve_host(server).add_distributed_postgres_cache(
        connection_string,
        schema_name=schema_name,
        table_name=table_name,
        expired_items_deletion_interval=expired_items_deletion_interval,
        default_sliding_expiration=default_sliding_expiration,
    )
