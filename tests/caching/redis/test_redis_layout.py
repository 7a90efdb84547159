"""What is in Redis, byte for byte, and what ASP.NET Core leaves there."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
import redis
from redis_server import open_redis_cache, shared_server
from waiting import until

from kestrun_py.caching import Expiration
from kestrun_py.caching.redis import RedisCache
from kestrun_py.errors import LeaseLostError

EPOCH_TICKS = 621_355_968_000_000_000
TWENTY_MINUTES = Expiration(sliding=1200)


@pytest.fixture
def prefix() -> str:
    return f"{uuid.uuid4()}:"


@pytest.fixture
async def cache(prefix: str) -> AsyncIterator[RedisCache]:
    async with open_redis_cache(instance_name=prefix) as cache:
        yield cache


@pytest.fixture
def raw() -> Iterator[redis.Redis]:
    with shared_server().client() as client:
        yield client


async def test_session_entry(cache: RedisCache, raw: redis.Redis, prefix: str) -> None:
    await cache.store("key", b"\x02value", TWENTY_MINUTES)
    assert raw.type(prefix + "key") == b"hash"
    assert raw.hgetall(prefix + "key") == {b"absexp": b"-1", b"sldexp": b"12000000000", b"data": b"\x02value"}
    assert 1_190_000 < raw.pttl(prefix + "key") <= 1_200_000


async def test_key_without_instance_name(raw: redis.Redis) -> None:
    key = str(uuid.uuid4())
    async with open_redis_cache(instance_name="") as cache:
        await cache.store(key, b"value", TWENTY_MINUTES)
    assert raw.hget(key, "data") == b"value"
    raw.delete(key)


async def test_absolute_entry(cache: RedisCache, raw: redis.Redis, prefix: str) -> None:
    absolute = int(time.time()) + 500.25
    await cache.store("key", b"value", Expiration(absolute=absolute))
    fields = raw.hgetall(prefix + "key")
    assert fields[b"absexp"] == b"%d" % (int(absolute * 100) * 100_000 + EPOCH_TICKS)
    assert fields[b"sldexp"] == b"-1"
    assert raw.pttl(prefix + "key") == pytest.approx((absolute - time.time()) * 1000, abs=5000)


@pytest.mark.parametrize(("sliding", "left", "expected"), [(100, 500, 100), (500, 100, 100)])
async def test_the_nearer_expiration_is_the_ttl(
    cache: RedisCache, raw: redis.Redis, prefix: str, sliding: float, left: float, expected: float
) -> None:
    await cache.store("key", b"value", Expiration(sliding=sliding, absolute=time.time() + left))
    assert raw.pttl(prefix + "key") == pytest.approx(expected * 1000, abs=5000)
    await cache.get("key")
    assert raw.pttl(prefix + "key") == pytest.approx(expected * 1000, abs=5000)


async def test_nothing_stays_for_ever(cache: RedisCache, raw: redis.Redis, prefix: str) -> None:
    await cache.set("key", b"value")
    assert raw.hget(prefix + "key", "sldexp") == b"12000000000"
    assert raw.ttl(prefix + "key") > 1000
    lease = await cache.lock("key", lease_time=30, timeout=10)
    assert lease is not None
    await cache.commit(lease, b"value", Expiration())
    assert raw.ttl(prefix + "key") > 1000


async def test_every_write_leaves_a_ttl(cache: RedisCache, raw: redis.Redis, prefix: str) -> None:
    key = prefix + "key"
    await cache.store("key", b"value", Expiration(sliding=0.0004))
    assert raw.pttl(key) in (-2, 0, 1)
    await cache.store("key", b"value", TWENTY_MINUTES)
    lease = await cache.lock("key", lease_time=30, timeout=10)
    assert lease is not None
    assert raw.ttl(key) > 0
    await cache.renew(lease, lease_time=30, timeout=10)
    assert raw.ttl(key) > 0
    await cache.release(lease)
    assert raw.ttl(key) > 0


async def test_lock_is_in_the_same_hash_and_leaves_no_trace(cache: RedisCache, raw: redis.Redis, prefix: str) -> None:
    key = prefix + "key"
    for end in ("commit", "release"):
        await cache.store("key", b"value", TWENTY_MINUTES)
        lease = await cache.lock("key", lease_time=30, timeout=10)
        assert lease is not None
        fields = raw.hgetall(key)
        seconds, microseconds = raw.time()
        assert fields[b"kr.lock"] == lease.token.encode()
        assert int(fields[b"kr.until"]) == pytest.approx((seconds + microseconds / 1e6 + 30) * 1000, abs=5000)
        if end == "commit":
            await cache.commit(lease, b"value", TWENTY_MINUTES)
        else:
            await cache.release(lease)
        assert raw.hgetall(key) == {b"absexp": b"-1", b"sldexp": b"12000000000", b"data": b"value"}


async def test_waiting_leaves_no_trace(cache: RedisCache, raw: redis.Redis, prefix: str) -> None:
    await cache.store("key", b"value", TWENTY_MINUTES)
    lease = await cache.lock("key", lease_time=30, timeout=10)
    assert lease is not None
    waiter = asyncio.create_task(cache.lock("key", lease_time=30, timeout=30))
    await until(lambda: raw.hexists(prefix + "key", "kr.wait"))
    await cache.release(lease)
    second = await waiter
    assert second is not None
    await cache.commit(second, b"value", TWENTY_MINUTES)
    assert sorted(raw.hkeys(prefix + "key")) == [b"absexp", b"data", b"sldexp"]


async def test_storing_ends_the_lock_of_what_is_replaced(cache: RedisCache) -> None:
    await cache.store("key", b"value", TWENTY_MINUTES)
    lease = await cache.lock("key", lease_time=30, timeout=10)
    assert lease is not None
    await cache.store("key", b"replaced", TWENTY_MINUTES)
    with pytest.raises(LeaseLostError):
        await cache.commit(lease, b"lost update", TWENTY_MINUTES)
    assert await cache.get("key") == b"replaced"


async def test_expired_lease_that_nobody_took_still_commits(cache: RedisCache) -> None:
    await cache.store("key", b"value", TWENTY_MINUTES)
    lease = await cache.lock("key", lease_time=0.05, timeout=10)
    assert lease is not None
    await asyncio.sleep(0.2)
    await cache.commit(lease, b"after", TWENTY_MINUTES)
    assert await cache.get("key") == b"after"


async def test_microseconds_of_an_absolute_expiration_do_not_drift(
    cache: RedisCache, raw: redis.Redis, prefix: str
) -> None:
    await cache.store("key", b"value", Expiration(sliding=1200, absolute=time.time() + 1000.123457))
    first = raw.hget(prefix + "key", "absexp")
    for _ in range(3):
        lease = await cache.lock("key", lease_time=30, timeout=10)
        assert lease is not None
        await cache.commit(lease, b"value", Expiration(sliding=1200, absolute=lease.absolute))
    assert raw.hget(prefix + "key", "absexp") == first


async def test_far_expirations(cache: RedisCache, raw: redis.Redis, prefix: str) -> None:
    await cache.store("key", b"value", Expiration(sliding=9e11, absolute=1e12))
    assert raw.hget(prefix + "key", "absexp") == b"3155378975999999999"
    assert await cache.get("key") == b"value"


# What ASP.NET Core writes


def aspnet_set(raw: redis.Redis, key: str, data: bytes, sliding: int | None, absolute: int | None = None) -> None:
    """HSET and EXPIRE, as Microsoft.Extensions.Caching.StackExchangeRedis sends them."""
    absexp = -1 if absolute is None else absolute * 10_000_000 + EPOCH_TICKS
    sldexp = -1 if sliding is None else sliding * 10_000_000
    raw.hset(key, mapping={"absexp": absexp, "sldexp": sldexp, "data": data})
    if sliding is not None:
        raw.expire(key, sliding)
    elif absolute is not None:
        raw.expire(key, absolute - int(time.time()))


async def test_reads_and_locks_what_aspnet_wrote(cache: RedisCache, raw: redis.Redis, prefix: str) -> None:
    aspnet_set(raw, prefix + "key", b"theirs", 1200)
    raw.expire(prefix + "key", 100)
    assert await cache.get("key") == b"theirs"
    assert raw.ttl(prefix + "key") > 1000
    raw.expire(prefix + "key", 100)
    await cache.refresh("key")
    assert raw.ttl(prefix + "key") > 1000
    raw.expire(prefix + "key", 100)
    lease = await cache.lock("key", lease_time=30, timeout=10)
    assert lease is not None
    assert (lease.value, lease.absolute) == (b"theirs", None)
    assert raw.ttl(prefix + "key") > 1000
    await cache.commit(lease, b"ours", TWENTY_MINUTES)
    assert raw.hmget(prefix + "key", "absexp", "sldexp", "data") == [b"-1", b"12000000000", b"ours"]


async def test_aspnet_writes_while_we_hold_the_lock(cache: RedisCache, raw: redis.Redis, prefix: str) -> None:
    await cache.store("key", b"ours", TWENTY_MINUTES)
    lease = await cache.lock("key", lease_time=30, timeout=10)
    assert lease is not None
    aspnet_set(raw, prefix + "key", b"theirs", 600)
    assert await cache.get("key") == b"theirs"
    await cache.commit(lease, b"ours again", TWENTY_MINUTES)
    assert await cache.get("key") == b"ours again"


async def test_aspnet_entry_with_absolute_expiration(cache: RedisCache, raw: redis.Redis, prefix: str) -> None:
    absolute = int(time.time()) + 500
    aspnet_set(raw, prefix + "key", b"theirs", None, absolute)
    raw.expire(prefix + "key", 77)
    assert await cache.get("key") == b"theirs"
    await cache.refresh("key")
    assert raw.ttl(prefix + "key") <= 77
    lease = await cache.lock("key", lease_time=30, timeout=10)
    assert lease is not None
    assert lease.absolute == absolute
    await cache.release(lease)


@pytest.mark.parametrize(
    "fields", [{}, {"absexp": -1}, {"sldexp": -1}, {"absexp": -1, "sldexp": -1}, {"absexp": "x", "sldexp": "y"}]
)
async def test_aspnet_entry_without_expiration(
    cache: RedisCache, raw: redis.Redis, prefix: str, fields: dict[Any, Any]
) -> None:
    key = prefix + "key"
    raw.hset(key, mapping={**fields, "data": b"theirs"})
    assert await cache.get("key") == b"theirs"
    await cache.refresh("key")
    lease = await cache.lock("key", lease_time=30, timeout=10)
    assert lease is not None
    assert await cache.renew(lease, lease_time=30, timeout=10)
    await cache.release(lease)
    assert raw.ttl(key) == -1  # ours to read, not to expire
    raw.expire(key, 5)
    lease = await cache.lock("key", lease_time=30, timeout=10)
    assert lease is not None
    assert raw.ttl(key) > 20
    raw.delete(key)


async def test_release_gives_a_short_life_back(cache: RedisCache, raw: redis.Redis, prefix: str) -> None:
    """The time to live of an entry that says nothing of its expiration is longer only while it is held."""
    key = prefix + "key"
    aspnet_set(raw, key, b"theirs", None)
    raw.expire(key, 20)
    for _ in range(2):
        lease = await cache.lock("key", lease_time=30, timeout=10)
        assert lease is not None
        assert raw.ttl(key) > 20
        assert await cache.renew(lease, lease_time=60, timeout=10)
        assert raw.ttl(key) > 40
        await cache.release(lease)
        assert 0 < raw.ttl(key) <= 20
        assert sorted(raw.hkeys(key)) == [b"absexp", b"data", b"sldexp"]
    lease = await cache.lock("key", lease_time=0.5, timeout=10)  # long enough without
    assert lease is not None
    raw.pexpire(key, 1500)
    assert await cache.renew(lease, lease_time=60, timeout=10)
    await asyncio.sleep(1.7)
    assert raw.ttl(key) > 40
    await cache.release(lease)
    assert raw.exists(key) == 0  # its time was up meanwhile


async def test_life_that_a_dead_holder_found_does_not_count_for_ever(
    cache: RedisCache, raw: redis.Redis, prefix: str
) -> None:
    key = prefix + "key"
    aspnet_set(raw, key, b"theirs", None)
    raw.expire(key, 5)
    assert await cache.lock("key", lease_time=0.1, timeout=10) is not None
    assert await cache.lock("key", lease_time=30, timeout=10) is not None  # that one was never released
    raw.hset(key, "kr.until", 0)
    raw.expire(key, 1000)  # and meanwhile ASP.NET Core wrote the entry anew
    lease = await cache.lock("key", lease_time=30, timeout=10)
    assert lease is not None
    await cache.release(lease)
    assert raw.ttl(key) > 900


async def test_hash_without_data_is_no_entry(cache: RedisCache, raw: redis.Redis, prefix: str) -> None:
    raw.hset(prefix + "key", "other", "field")
    raw.expire(prefix + "key", 60)
    assert await cache.get("key") is None
    assert await cache.lock("key", lease_time=30, timeout=10) is None
    assert raw.hgetall(prefix + "key") == {b"other": b"field"}


async def test_entry_past_its_absolute_expiration_is_gone(cache: RedisCache, raw: redis.Redis, prefix: str) -> None:
    aspnet_set(raw, prefix + "key", b"old", 1200, int(time.time()) - 5)
    assert await cache.get("key") is None
    assert await cache.lock("key", lease_time=30, timeout=10) is None
