"""Locks of long requests are renewed, those of short ones cost nothing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest_asyncio
from recording_log import Log
from session_support import RecordingCache
from waiting import until

from kestrun_py.caching import Expiration, Lease
from kestrun_py.errors import CacheUnavailableError
from kestrun_py.logging import LogLevel
from kestrun_py.sessions.leases import LeaseKeeper

LEASE_TIME = 0.2


class Care:
    """A keeper with a cache and a log."""

    def __init__(self) -> None:
        self.log = Log()
        self.cache = RecordingCache()
        self.keeper = LeaseKeeper(self.cache, lease_time=LEASE_TIME, timeout=1, logger=self.log.logger)

    async def take(self, key: str) -> Lease:
        await self.cache.store(key, b"", Expiration())
        lease = await self.cache.lock(key, lease_time=LEASE_TIME, timeout=1)
        assert lease is not None
        self.keeper.add(lease)
        return lease

    def renewals(self) -> int:
        return self.cache.calls.count("renew")


@pytest_asyncio.fixture
async def care() -> AsyncIterator[Care]:
    care = Care()
    yield care
    await care.keeper.close()
    await care.cache.close()


async def test_a_lease_outlives_its_time(care: Care) -> None:
    lease = await care.take("a")
    await until(lambda: care.renewals() >= 8)
    await care.cache.commit(lease, b"kept", Expiration())
    care.keeper.discard(lease)
    assert care.cache.entries == {"a": b"kept"}
    assert not care.log.alarms


async def test_a_lease_that_is_let_go_is_not_renewed(care: Care) -> None:
    kept = await care.take("kept")
    for number in range(20):
        care.keeper.discard(await care.take(str(number)))
    await until(lambda: care.renewals() >= 3)
    assert {key for call, key in zip(care.cache.calls, care.cache.keys, strict=True) if call == "renew"} == {kept.key}


async def test_no_leases_no_timer(care: Care) -> None:
    care.keeper.discard(await care.take("a"))
    await until(lambda: care.keeper._timer is None)
    assert care.renewals() == 0
    await care.take("b")
    await until(lambda: care.renewals() >= 1)


async def test_a_lost_lease_is_logged_once(care: Care) -> None:
    lease = await care.take("a")
    await care.cache.remove("a")
    await until(lambda: care.log.alarms)
    await until(lambda: care.keeper._timer is None)
    assert len(care.log.texts(LogLevel.WARNING)) == 1
    assert "was lost while its request was running" in care.log.alarms[0]
    care.keeper.discard(lease)


async def test_a_cache_that_is_gone_for_a_while(care: Care) -> None:
    lease = await care.take("a")
    care.cache.break_down(CacheUnavailableError("it is gone"), "renew")
    await until(lambda: care.log.alarms)
    care.cache.repair()
    failures = len(care.log.alarms)
    assert "could not be renewed: it is gone" in care.log.alarms[0]
    before = care.renewals()
    await until(lambda: care.renewals() >= before + 2)
    assert len(care.log.alarms) == failures
    await care.cache.commit(lease, b"kept", Expiration())


async def test_closing_ends_what_is_under_way(care: Care) -> None:
    care.cache.closed_gates["renew"] = asyncio.Event()
    await care.take("a")
    await until(lambda: care.renewals() >= 1)
    await care.keeper.close()
    assert not care.keeper._renewals
    assert care.keeper._timer is None
