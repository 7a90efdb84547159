"""What every cache must do, whatever it keeps its entries in."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from waiting import until

from kestrun_py.caching import DistributedCache, Expiration, Lease
from kestrun_py.errors import (
    ArgumentError,
    CacheError,
    CacheUnavailableError,
    LeaseLostError,
)

LONG = Expiration(sliding=1200)

# Entries


async def test_missing_key(cache: DistributedCache) -> None:
    assert await cache.get("missing") is None
    assert await cache.get_string("missing") is None


@pytest.mark.parametrize("value", [b"", b" ", b"abc", bytes(range(256)), b"\r\n$-1\r\n", b"x" * 300_000])
async def test_value_comes_back(cache: DistributedCache, value: bytes) -> None:
    await cache.set("key", value)
    assert await cache.get("key") == value


@pytest.mark.parametrize("text", ["", " ", "abc", "The quick brown fox", "Grüße, 世界 🦊"])
async def test_string_is_utf8(cache: DistributedCache, text: str) -> None:
    await cache.set_string("key", text)
    assert await cache.get_string("key") == text
    assert await cache.get("key") == text.encode()


async def test_string_with_invalid_bytes(cache: DistributedCache) -> None:
    await cache.set("key", b"a\xffb")
    assert await cache.get_string("key") == "a\ufffdb"


@pytest.mark.parametrize("key", ["k", "with space ", "ключ", "{tag}x", "a:b/c?d=e'\";--", "k" * 400])
async def test_any_key(cache: DistributedCache, key: str) -> None:
    await cache.set(key, b"value")
    assert await cache.get(key) == b"value"
    assert await cache.get(key + "x") is None
    await cache.remove(key)
    assert await cache.get(key) is None


async def test_keys_differ_by_case_and_trailing_space(cache: DistributedCache) -> None:
    await cache.set("key", b"lower")
    await cache.set("KEY", b"upper")
    await cache.set("key ", b"padded")
    assert [await cache.get(key) for key in ("key", "KEY", "key ")] == [b"lower", b"upper", b"padded"]
    assert await cache.get("Key") is None


@pytest.mark.parametrize("key", ["", None, 5, b"key", "half \ud800 a pair"])
async def test_what_is_no_key(cache: DistributedCache, key: Any) -> None:
    for use in (
        lambda: cache.get(key),
        lambda: cache.get_string(key),
        lambda: cache.set(key, b"value"),
        lambda: cache.set_string(key, "value"),
        lambda: cache.refresh(key),
        lambda: cache.remove(key),
        lambda: cache.lock(key, lease_time=30, timeout=10),
    ):
        with pytest.raises(ArgumentError, match="key of an entry"):
            await use()


@pytest.mark.parametrize("value", ["text", None, 5, [1, 2]])
async def test_what_is_no_value(cache: DistributedCache, value: Any) -> None:
    await cache.set("key", b"before")
    with pytest.raises(ArgumentError, match="value of an entry must be bytes"):
        await cache.set("key", value)
    lease = await take(cache)
    if value is not None:  # which removes
        with pytest.raises(ArgumentError, match="value of an entry must be bytes"):
            await cache.commit(lease, value, LONG)
    assert await cache.get("key") == b"before"


@pytest.mark.parametrize("kind", [bytearray, memoryview])
async def test_bytes_of_another_kind(cache: DistributedCache, kind: Callable[[bytes], Any]) -> None:
    await cache.set("key", kind(b"value"))
    assert await cache.get("key") == b"value"
    await cache.commit(await take(cache), kind(b"after"), LONG)
    assert await cache.get("key") == b"after"


@pytest.mark.parametrize("value", [b"bytes", None, "half \ud800 a pair"])
async def test_what_is_no_text(cache: DistributedCache, value: Any) -> None:
    with pytest.raises(ArgumentError, match="value of an entry"):
        await cache.set_string("key", value)
    assert await cache.get("key") is None


async def test_set_replaces(cache: DistributedCache) -> None:
    await cache.set("key", b"first value, the longer one")
    await cache.set("key", b"second")
    assert await cache.get("key") == b"second"


async def test_remove(cache: DistributedCache) -> None:
    await cache.set("key", b"value")
    await cache.remove("key")
    assert await cache.get("key") is None
    await cache.remove("key")


async def test_refresh_of_missing_key(cache: DistributedCache) -> None:
    await cache.refresh("missing")
    assert await cache.get("missing") is None


async def test_concurrent_requests_get_their_own_values(cache: DistributedCache) -> None:
    async def one(number: int) -> None:
        await cache.set(f"key{number}", b"%d" % number)
        assert await cache.get(f"key{number}") == b"%d" % number

    await asyncio.gather(*(one(number) for number in range(200)))


# Expiration


async def test_past_absolute_expiration(cache: DistributedCache) -> None:
    past = datetime.now(UTC) - timedelta(seconds=1)
    with pytest.raises(ArgumentError, match=r"The absolute expiration value must be in the future\."):
        await cache.set("key", b"value", absolute_expiration=past)
    assert await cache.get("key") is None


@pytest.mark.parametrize("seconds", [0, -1])
async def test_windows_must_be_positive(cache: DistributedCache, seconds: int) -> None:
    with pytest.raises(ArgumentError, match=r"The sliding expiration value must be positive\."):
        await cache.set("key", b"value", sliding_expiration=seconds)
    with pytest.raises(ArgumentError, match=r"The relative expiration value must be positive\."):
        await cache.set("key", b"value", absolute_expiration_relative_to_now=timedelta(seconds=seconds))


@pytest.mark.parametrize("name", ["sliding_expiration", "absolute_expiration_relative_to_now"])
async def test_windows_that_no_timespan_holds(cache: DistributedCache, name: str) -> None:
    with pytest.raises(ArgumentError, match=rf"^{name}: .* not 1000000000000\.0\.$"):
        await cache.set("key", b"value", **{name: 1e12})  # type: ignore[arg-type]


async def test_naive_time_is_utc(cache: DistributedCache) -> None:
    naive = (datetime.now(UTC) + timedelta(seconds=30)).replace(tzinfo=None)
    await cache.set("key", b"value", absolute_expiration=naive)
    lease = await cache.lock("key", lease_time=10, timeout=10)
    assert lease is not None
    assert lease.absolute == pytest.approx(naive.replace(tzinfo=UTC).timestamp(), abs=0.01)
    await cache.release(lease)


# Locks


async def take(cache: DistributedCache, key: str = "key", lease_time: float = 30, timeout: float = 30) -> Lease:
    lease = await cache.lock(key, lease_time=lease_time, timeout=timeout)
    assert lease is not None
    return lease


async def test_lock_of_missing_key_locks_and_writes_nothing(cache: DistributedCache) -> None:
    assert await cache.lock("key", lease_time=30, timeout=10) is None
    assert await cache.lock("key", lease_time=30, timeout=10) is None
    await cache.set("key", b"value")
    assert (await take(cache)).value == b"value"


async def test_lock_reads_and_commit_stores(cache: DistributedCache) -> None:
    await cache.store("key", b"before", LONG)
    lease = await take(cache)
    assert (lease.key, lease.value, lease.absolute) == ("key", b"before", None)
    await cache.commit(lease, b"after", LONG)
    assert await cache.get("key") == b"after"


async def test_reading_needs_no_lock(cache: DistributedCache) -> None:
    await cache.store("key", b"value", LONG)
    lease = await take(cache)
    assert await cache.get("key") == b"value"
    await cache.refresh("key")
    await cache.commit(lease, b"after", LONG)


async def test_commit_of_nothing_removes(cache: DistributedCache) -> None:
    await cache.store("key", b"value", LONG)
    await cache.commit(await take(cache), None, LONG)
    assert await cache.get("key") is None
    assert await cache.lock("key", lease_time=30, timeout=10) is None


async def test_removed_entry_is_not_brought_back(cache: DistributedCache) -> None:
    await cache.store("key", b"value", LONG)
    lease = await take(cache)
    await cache.remove("key")
    with pytest.raises(LeaseLostError):
        await cache.commit(lease, b"ghost", LONG)
    assert await cache.get("key") is None
    assert not await cache.renew(lease, lease_time=30, timeout=10)
    await cache.release(lease)
    assert await cache.get("key") is None


@pytest.mark.parametrize("how", ["set", "store"])
async def test_storing_ends_the_lock_of_what_is_replaced(cache: DistributedCache, how: str) -> None:
    await cache.store("key", b"before", LONG)
    lease = await take(cache)
    if how == "set":
        await cache.set("key", b"newer")
    else:
        await cache.store("key", b"newer", LONG)
    assert not await cache.renew(lease, lease_time=30, timeout=10)
    for value in (b"lost update", None):
        with pytest.raises(LeaseLostError):
            await cache.commit(lease, value, LONG)
    assert await cache.get("key") == b"newer"
    second = await take(cache)
    assert second.value == b"newer"
    await cache.release(lease)
    await cache.commit(second, b"newest", LONG)
    assert await cache.get("key") == b"newest"


async def test_released_lease_cannot_commit(cache: DistributedCache) -> None:
    await cache.store("key", b"value", LONG)
    lease = await take(cache)
    await cache.release(lease)
    assert not await cache.renew(lease, lease_time=30, timeout=10)
    with pytest.raises(LeaseLostError):
        await cache.commit(lease, b"late", LONG)
    assert await cache.get("key") == b"value"


async def test_lock_is_used_once(cache: DistributedCache) -> None:
    await cache.store("key", b"value", LONG)
    lease = await take(cache)
    await cache.commit(lease, b"first", LONG)
    with pytest.raises(LeaseLostError):
        await cache.commit(lease, b"second", LONG)
    with pytest.raises(LeaseLostError):
        await cache.commit(lease, None, LONG)
    assert await cache.get("key") == b"first"


async def test_who_waits_hears_that_another_holder_has_the_lock(cache: DistributedCache) -> None:
    await cache.store("key", b"value", LONG)
    busy: list[str] = []
    assert await cache.lock("none", lease_time=30, timeout=10, on_busy=busy.append) is None
    lease = await cache.lock("key", lease_time=30, timeout=10, on_busy=busy.append)
    assert lease is not None
    assert busy == []
    waiter = asyncio.create_task(cache.lock("key", lease_time=30, timeout=60, on_busy=busy.append))
    await until(lambda: busy == ["key"])
    await cache.release(lease)
    assert await waiter is not None
    assert busy == ["key"]


async def test_cancelled_lock_is_released(cache: DistributedCache) -> None:
    keys = [f"key{number}" for number in range(40)]
    for key in keys:
        await cache.store(key, b"value", LONG)

    async def give_up(key: str) -> None:
        task = asyncio.create_task(cache.lock(key, lease_time=120, timeout=60))
        await asyncio.sleep(random.uniform(0, 0.003))
        task.cancel()
        try:
            lease = await task
        except asyncio.CancelledError:
            return
        assert lease is not None
        await cache.release(lease)

    await asyncio.gather(*map(give_up, keys))
    for key in keys:
        await cache.release(await take(cache, key, timeout=30))


async def test_no_update_is_lost(cache: DistributedCache) -> None:
    await cache.store("key", b"0", LONG)

    async def increment() -> None:
        for _ in range(10):
            lease = await take(cache, timeout=100)
            await asyncio.sleep(0)
            await cache.commit(lease, b"%d" % (int(lease.value) + 1), LONG)

    await asyncio.gather(*(increment() for _ in range(8)))
    assert await cache.get("key") == b"80"


# The cache as a whole


async def test_ping(cache: DistributedCache) -> None:
    status = await cache.ping()
    assert status.server
    assert status.version
    assert 0 <= status.round_trip < 10


async def test_start_comes_first(cache: DistributedCache) -> None:
    await cache.start()
    await cache.set("key", b"value")
    assert await cache.get("key") == b"value"


async def test_closed_cache_refuses(cache: DistributedCache) -> None:
    await cache.store("key", b"value", LONG)
    lease = await take(cache)
    await cache.close()
    await cache.close()
    for operation in (
        lambda: cache.get("key"),
        lambda: cache.set("key", b"value"),
        lambda: cache.refresh("key"),
        lambda: cache.remove("key"),
        lambda: cache.lock("key", lease_time=30, timeout=10),
        lambda: cache.commit(lease, b"value", LONG),
        lambda: cache.release(lease),
        lambda: cache.renew(lease, lease_time=30, timeout=10),
        lambda: cache.ping(),
    ):
        with pytest.raises(CacheError) as caught:
            await operation()
        assert isinstance(caught.value, CacheUnavailableError)
