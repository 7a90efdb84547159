"""A process that increments an entry under its lock, or takes a lock and hangs; run by the tests of locks.

Arguments: a connection string, a schema, a key, and a number of increments, or ``hold`` and the seconds of a lease.
"""

from __future__ import annotations

import asyncio
import sys

from kestrun_py.caching.contract import Expiration
from kestrun_py.caching.sql import PostgresDialect, SqlCache


async def main(connection_string: str, schema: str, key: str, *orders: str) -> None:
    cache = SqlCache(connection_string, schema_name=schema, table_name="Sessions", dialect=PostgresDialect())
    if orders[0] == "hold":
        assert await cache.lock(key, lease_time=float(orders[1]), timeout=30) is not None
        print("held", flush=True)
        await asyncio.sleep(600)
    for _ in range(int(orders[0])):
        lease = await cache.lock(key, lease_time=30, timeout=60)
        assert lease is not None
        await cache.commit(lease, str(int(lease.value) + 1).encode(), Expiration(600), timeout=60)
    await cache.close()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
