"""A process that increments an entry under its lock, holds the lock, or waits for a server; run by the tests.

Arguments: a dialect, a connection string, a schema, a table, a key, and a number of increments, ``hold`` and the
seconds of a lease, or ``hang``.
"""

from __future__ import annotations

import asyncio
import sys

from kestrun_py.caching import Expiration
from kestrun_py.caching.sql import PostgresDialect, SqlCache, SqlServerDialect
from kestrun_py.errors import CacheTimeoutError

DIALECTS = {dialect.name: dialect for dialect in (PostgresDialect(), SqlServerDialect())}


async def main(dialect: str, connection_string: str, schema: str, table: str, key: str, *orders: str) -> None:
    cache = SqlCache(connection_string, schema_name=schema, table_name=table, dialect=DIALECTS[dialect])
    if orders[0] == "hold":
        assert await cache.lock(key, lease_time=float(orders[1]), timeout=30) is not None
        print("held", flush=True)
        await asyncio.sleep(600)
    if orders[0] == "hang":
        await cache.get(key)
        print("ready", flush=True)
        await asyncio.to_thread(sys.stdin.readline)
        try:
            await cache.get(key, timeout=0.2)
        except CacheTimeoutError:
            print("timeout", flush=True)
        await cache.close()
        return
    for _ in range(int(orders[0])):
        lease = await cache.lock(key, lease_time=30, timeout=60)
        assert lease is not None
        await cache.commit(lease, str(int(lease.value) + 1).encode(), Expiration(600), timeout=60)
    await cache.close()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
