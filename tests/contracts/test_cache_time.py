"""What every cache must do as time passes: entries expire, locks are waited for, leases end.

A machine may be so slow that an entry has expired before it is looked at. Such a look has no verdict, which
`Window.open` tells; that time has passed is certain on any machine.
"""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime, timedelta

import pytest
from overlapping import overlapping

from kestrun_py.caching import DistributedCache, Expiration, Lease
from kestrun_py.errors import LeaseLostError, LockTimeoutError

pytestmark = pytest.mark.xdist_group("overlapping")  # one process runs them all

LONG = Expiration(sliding=1200)

SECONDS = 3.0
"""How long what expires in a test lives."""

LATE = 0.4
"""How much later it must be gone."""


class Window:
    """A span of time that began now."""

    def __init__(self, seconds: float = SECONDS) -> None:
        self._seconds = seconds
        self._began = time.monotonic()

    @property
    def open(self) -> bool:
        """Whether what began with the window cannot have ended."""
        return time.monotonic() - self._began < self._seconds

    async def pass_by(self) -> None:
        """Waits until what began with the window has certainly ended."""
        await asyncio.sleep(self._began + self._seconds + LATE - time.monotonic())


async def take(cache: DistributedCache, key: str = "key", lease_time: float = 60, timeout: float = 60) -> Lease:
    lease = await cache.lock(key, lease_time=lease_time, timeout=timeout)
    assert lease is not None
    return lease


async def take_in_time(cache: DistributedCache, window: Window, lease_time: float = 60) -> Lease | None:
    """Takes the lock of "key"; None if this machine was so slow that the entry may be gone."""
    lease = await cache.lock("key", lease_time=lease_time, timeout=60)
    assert lease is not None or not window.open
    return lease


async def assert_alive(cache: DistributedCache, window: Window, value: bytes = b"value") -> None:
    found = await cache.get("key")
    assert found == value or not window.open


# Expiration


@overlapping
async def test_absolute_expiration(cache: DistributedCache) -> None:
    window = Window()
    await cache.set("key", b"value", absolute_expiration=datetime.now(UTC) + timedelta(seconds=SECONDS))
    await assert_alive(cache, window)
    await Window().pass_by()
    assert await cache.get("key") is None


@overlapping
async def test_relative_expiration_wins(cache: DistributedCache) -> None:
    far, window = datetime.now(UTC) + timedelta(hours=1), Window()
    await cache.set("key", b"value", absolute_expiration=far, absolute_expiration_relative_to_now=SECONDS)
    await assert_alive(cache, window)
    await Window().pass_by()
    assert await cache.get("key") is None


@overlapping
async def test_absolute_expiration_is_not_extended(cache: DistributedCache) -> None:
    await cache.set("key", b"value", absolute_expiration_relative_to_now=SECONDS)
    window = Window(SECONDS + LATE)
    while window.open:
        await cache.get("key")
        await cache.refresh("key")
        await asyncio.sleep(0.2)
    assert await cache.get("key") is None


@overlapping
async def test_sliding_expiration(cache: DistributedCache) -> None:
    await cache.set("key", b"value", sliding_expiration=SECONDS)
    await Window().pass_by()
    assert await cache.get("key") is None


@overlapping
async def test_fraction_of_a_second(cache: DistributedCache) -> None:
    window = Window(0.6)
    await cache.set("key", b"value", sliding_expiration=0.6)
    await assert_alive(cache, window)
    await Window(1.6).pass_by()  # a table holds whole seconds
    assert await cache.get("key") is None


async def assert_access_extends(cache: DistributedCache, how: str) -> None:
    async def access() -> None:
        if how == "lock":
            lease = await cache.lock("key", lease_time=0.5, timeout=60)
            if lease is not None:
                await cache.release(lease)
        else:
            await getattr(cache, how)("key")

    window = Window(SECONDS - 0.1)
    await cache.set("key", b"value", sliding_expiration=SECONDS)
    in_time, beyond = True, Window(SECONDS + 1)
    while beyond.open:
        await asyncio.sleep(0.5)
        await access()
        in_time, window = in_time and window.open, Window(SECONDS - 0.1)
    assert await cache.get("key") == b"value" or not (in_time and window.open)
    await Window().pass_by()
    assert await cache.get("key") is None


@overlapping
async def test_get_extends_sliding_expiration(cache: DistributedCache) -> None:
    await assert_access_extends(cache, "get")


@overlapping
async def test_refresh_extends_sliding_expiration(cache: DistributedCache) -> None:
    await assert_access_extends(cache, "refresh")


@overlapping
async def test_lock_extends_sliding_expiration(cache: DistributedCache) -> None:
    await assert_access_extends(cache, "lock")


@overlapping
async def test_sliding_expiration_ends_at_the_absolute_one(cache: DistributedCache) -> None:
    await cache.set("key", b"value", sliding_expiration=2, absolute_expiration_relative_to_now=SECONDS)
    window = Window(SECONDS + LATE)
    while window.open:
        await cache.get("key")
        await asyncio.sleep(0.2)
    assert await cache.get("key") is None


@overlapping
async def test_set_replaces_the_expiration(cache: DistributedCache) -> None:
    await cache.set("key", b"first", absolute_expiration_relative_to_now=SECONDS)
    await cache.set("key", b"second", sliding_expiration=600)
    await Window().pass_by()
    assert await cache.get("key") == b"second"


# Waiting for a lock


@overlapping
async def test_lock_is_exclusive(cache: DistributedCache) -> None:
    await cache.store("key", b"value", LONG)
    await cache.store("other", b"value", LONG)
    lease = await take(cache)
    window = Window(0.25)
    with pytest.raises(LockTimeoutError):
        await cache.lock("key", lease_time=30, timeout=1)
    assert not window.open
    await cache.release(await take(cache, "other"))
    await cache.release(lease)
    await cache.release(await take(cache))


async def wait_for_end(cache: DistributedCache, end: str) -> Lease | None:
    """The lock of "key" as a waiter got it when the first holder's lease had ended."""
    await cache.store("key", b"before", LONG)
    lease = await take(cache)
    waiter = asyncio.create_task(cache.lock("key", lease_time=60, timeout=60))
    await asyncio.sleep(0.5)
    assert not waiter.done()
    if end == "release":
        await cache.release(lease)
    else:
        await cache.commit(lease, b"after" if end == "commit" else None, LONG)
    return await waiter


@overlapping
async def test_waiter_gets_the_lock_after_a_commit(cache: DistributedCache) -> None:
    taken = await wait_for_end(cache, "commit")
    assert taken is not None
    assert taken.value == b"after"
    await cache.commit(taken, b"last", LONG)
    assert await cache.get("key") == b"last"


@overlapping
async def test_waiter_gets_the_lock_after_a_release(cache: DistributedCache) -> None:
    taken = await wait_for_end(cache, "release")
    assert taken is not None
    assert taken.value == b"before"
    await cache.commit(taken, b"last", LONG)
    assert await cache.get("key") == b"last"


@overlapping
async def test_waiter_finds_nothing_after_a_removal(cache: DistributedCache) -> None:
    assert await wait_for_end(cache, "remove") is None


@overlapping
async def test_waiter_gets_the_lock_of_a_lease_that_ended(cache: DistributedCache) -> None:
    await cache.store("key", b"before", LONG)
    window = Window(1.9)
    lost = await take(cache, lease_time=2)
    taken = await take(cache)
    assert not window.open
    await cache.commit(taken, b"last", LONG)
    with pytest.raises(LeaseLostError):
        await cache.commit(lost, b"late", LONG)
    assert await cache.get("key") == b"last"


@overlapping
async def test_cancelled_waiter_leaves_no_lock(cache: DistributedCache) -> None:
    await cache.store("key", b"value", LONG)
    lease = await take(cache)
    waiters = [asyncio.create_task(cache.lock("key", lease_time=600, timeout=600)) for _ in range(5)]
    await asyncio.sleep(0.5)
    for waiter in waiters:
        waiter.cancel()
    outcomes = await asyncio.gather(*waiters, return_exceptions=True)
    assert all(isinstance(outcome, asyncio.CancelledError) for outcome in outcomes)
    await cache.release(lease)
    await cache.release(await take(cache))


# Leases that end


async def expired_lease(cache: DistributedCache) -> Lease:
    await cache.store("key", b"before", LONG)
    lease = await take(cache, lease_time=0.2)
    await asyncio.sleep(0.5)
    return lease


@overlapping
async def test_expired_lease_that_nobody_took_still_commits(cache: DistributedCache) -> None:
    await cache.commit(await expired_lease(cache), b"after", LONG)
    assert await cache.get("key") == b"after"


@overlapping
async def test_expired_lease_that_nobody_took_still_removes(cache: DistributedCache) -> None:
    await cache.commit(await expired_lease(cache), None, LONG)
    assert await cache.get("key") is None


@overlapping
async def test_expired_lease_that_nobody_took_can_be_renewed(cache: DistributedCache) -> None:
    lease = await expired_lease(cache)
    assert await cache.renew(lease, lease_time=60, timeout=60)
    with pytest.raises(LockTimeoutError):
        await cache.lock("key", lease_time=30, timeout=1)
    await cache.commit(lease, b"after", LONG)


@overlapping
async def test_expired_lease_of_an_expired_entry_is_lost(cache: DistributedCache) -> None:
    for value in (b"ghost", None):
        window = Window()
        await cache.store("key", b"before", Expiration(sliding=SECONDS))
        lease = await take_in_time(cache, window, lease_time=0.2)
        if lease is None:
            return
        await Window().pass_by()
        assert not await cache.renew(lease, lease_time=30, timeout=60)
        with pytest.raises(LeaseLostError):
            await cache.commit(lease, value, LONG)
        assert await cache.get("key") is None


@overlapping
async def test_live_lease_of_an_expired_entry_commits_what_has_expired(cache: DistributedCache) -> None:
    window, absolute = Window(), time.time() + SECONDS
    await cache.store("key", b"before", Expiration(absolute=absolute))
    lease = await take_in_time(cache, window)
    if lease is not None:
        await window.pass_by()
        await cache.commit(lease, b"after", Expiration(absolute=absolute))
        assert await cache.get("key") is None


@overlapping
async def test_lost_lease_harms_nobody(cache: DistributedCache) -> None:
    await cache.store("key", b"value", LONG)
    lost = await take(cache, lease_time=0.2)
    holder = await take(cache)
    assert not await cache.renew(lost, lease_time=30, timeout=60)
    await cache.release(lost)
    for value in (b"late", None):
        with pytest.raises(LeaseLostError):
            await cache.commit(lost, value, LONG)
    with pytest.raises(LockTimeoutError):
        await cache.lock("key", lease_time=30, timeout=1)
    await cache.commit(holder, b"in time", LONG)
    assert await cache.get("key") == b"in time"


@overlapping
async def test_renewed_lease_holds(cache: DistributedCache) -> None:
    await cache.store("key", b"value", LONG)
    lease = await take(cache, lease_time=SECONDS)
    assert await cache.renew(lease, lease_time=60, timeout=60)
    with pytest.raises(LockTimeoutError):
        await cache.lock("key", lease_time=30, timeout=SECONDS + LATE)
    await cache.commit(lease, b"after", LONG)


@overlapping
async def test_entry_lives_as_long_as_its_lease(cache: DistributedCache) -> None:
    window = Window()
    await cache.store("key", b"value", Expiration(sliding=SECONDS))
    lease = await take_in_time(cache, window)
    if lease is not None:
        await Window().pass_by()
        assert await cache.renew(lease, lease_time=60, timeout=60)
        await cache.commit(lease, b"after", LONG)
        assert await cache.get("key") == b"after"


@overlapping
async def test_released_entry_expires_as_before(cache: DistributedCache) -> None:
    window = Window()
    await cache.store("key", b"value", Expiration(sliding=SECONDS))
    lease = await take_in_time(cache, window)
    if lease is not None:
        await cache.release(lease)
    await Window().pass_by()
    assert await cache.lock("key", lease_time=30, timeout=60) is None


@overlapping
async def test_lease_knows_the_absolute_expiration(cache: DistributedCache) -> None:
    window, absolute = Window(), time.time() + SECONDS
    await cache.store("key", b"value", Expiration(sliding=600, absolute=absolute))
    for _ in range(2):
        lease = await take_in_time(cache, window)
        if lease is not None:
            assert lease.absolute == pytest.approx(absolute, abs=0.001)
            await cache.commit(lease, b"after", Expiration(sliding=600, absolute=lease.absolute))
    await window.pass_by()
    assert await cache.get("key") is None
    assert await cache.lock("key", lease_time=30, timeout=60) is None


@overlapping
async def test_commit_sets_the_expiration(cache: DistributedCache) -> None:
    await cache.store("key", b"value", LONG)
    await cache.commit(await take(cache), b"after", Expiration(sliding=SECONDS))
    await Window().pass_by()
    assert await cache.get("key") is None
