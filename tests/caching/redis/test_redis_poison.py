"""What other programs wrote under a session's key: it counts as empty or as lost."""

from __future__ import annotations

import uuid
from typing import Any

import pytest
from redis_server import open_redis_cache, shared_server

from kestrun_py.caching import Expiration
from kestrun_py.errors import LeaseLostError

LONG = Expiration(sliding=1200)

EXPIRATIONS: list[dict[str, Any]] = [
    {"absexp": "9" * 5000},
    {"absexp": "9" * 19 + ".5"},
    {"absexp": "soon"},
    {"absexp": ""},
    {"sldexp": "inf"},
    {"sldexp": "nan"},
    {"sldexp": "-inf"},
    {"sldexp": "1e300"},
    {"sldexp": "0x10"},
    {"sldexp": b"\xff\x00"},
]
LOCKS: list[dict[str, Any]] = [
    {"kr.lock": "other", "kr.until": "text"},
    {"kr.lock": "other", "kr.until": "inf"},
    {"kr.lock": "other", "kr.until": "9" * 18},
    {"kr.lock": "other", "kr.until": "9" * 5000},
    {"kr.lock": "other"},
    {"kr.wait": "other", "kr.wait.until": "text"},
    {"kr.wait": "other", "kr.wait.until": "9" * 18},
    {"kr.wait": "other"},
    {"kr.ttl": "text"},
    {"kr.ttl": "9" * 5000},
    {"kr.lock": "", "kr.until": "", "kr.wait": "", "kr.wait.until": "", "kr.ttl": ""},
]


@pytest.mark.parametrize("fields", EXPIRATIONS)
async def test_an_expiration_that_is_no_number_counts_as_none(fields: dict[str, Any]) -> None:
    async with open_redis_cache(instance_name=(name := f"{uuid.uuid4()}:")) as cache:
        with shared_server().client() as client:
            client.hset(f"{name}key", mapping={"absexp": "-1", "sldexp": "-1", "data": b"value"} | fields)
        await cache.refresh("key")
        assert await cache.get("key") == b"value"
        lease = await cache.lock("key", lease_time=30, timeout=60)
        assert lease is not None
        assert lease.absolute is None
        assert await cache.renew(lease, lease_time=30, timeout=60)
        await cache.release(lease)
        lease = await cache.lock("key", lease_time=30, timeout=60)
        assert lease is not None
        await cache.commit(lease, b"new", LONG)
        assert await cache.get("key") == b"new"


@pytest.mark.parametrize("fields", LOCKS)
async def test_a_lock_that_is_none_is_free(fields: dict[str, Any]) -> None:
    async with open_redis_cache(instance_name=(name := f"{uuid.uuid4()}:")) as cache:
        with shared_server().client() as client:
            client.hset(f"{name}key", mapping={"absexp": "-1", "sldexp": "6000000000", "data": b"value"} | fields)
        await cache.refresh("key")
        assert await cache.get("key") == b"value"
        for end in ("release", "commit"):
            lease = await cache.lock("key", lease_time=30, timeout=60)
            assert lease is not None
            if end == "release":
                await cache.release(lease)
            else:
                await cache.commit(lease, b"after", LONG)
        assert await cache.get("key") == b"after"


@pytest.mark.parametrize("field", ["absexp", "sldexp", "kr.until", "kr.ttl", "kr.lock"])
async def test_fields_that_change_under_a_holder(field: str) -> None:
    async with open_redis_cache(instance_name=(name := f"{uuid.uuid4()}:")) as cache:
        for end in ("release", "commit"):
            await cache.store("key", b"before", LONG)
            lease = await cache.lock("key", lease_time=30, timeout=60)
            assert lease is not None
            with shared_server().client() as client:
                client.hset(f"{name}key", field, "text" * 2000)
            await cache.renew(lease, lease_time=30, timeout=60)
            if end == "release":
                await cache.release(lease)
            elif field == "kr.lock":
                with pytest.raises(LeaseLostError):
                    await cache.commit(lease, b"after", LONG)
            else:
                await cache.commit(lease, b"after", LONG)
                assert await cache.get("key") == b"after"


@pytest.mark.parametrize("kind", ["text", "list"])
async def test_a_key_of_another_type_is_no_entry(kind: str) -> None:
    def poison() -> None:
        with shared_server().client() as client:
            client.delete(f"{name}key")
            if kind == "text":
                client.set(f"{name}key", b"value")
            else:
                client.rpush(f"{name}key", b"value")

    async with open_redis_cache(instance_name=(name := f"{uuid.uuid4()}:")) as cache:
        await cache.store("key", b"before", LONG)
        lease = await cache.lock("key", lease_time=30, timeout=60)
        assert lease is not None
        poison()
        await cache.refresh("key")
        assert await cache.get("key") is None
        assert await cache.lock("key", lease_time=30, timeout=60) is None
        assert not await cache.renew(lease, lease_time=30, timeout=60)
        for value in (b"after", None):
            with pytest.raises(LeaseLostError):
                await cache.commit(lease, value, LONG)
        await cache.release(lease)
        await cache.store("key", b"new", LONG)
        assert await cache.get("key") == b"new"
        poison()
        await cache.remove("key")
        with shared_server().client() as client:
            assert not client.exists(f"{name}key")
