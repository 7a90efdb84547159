import asyncio
import random
from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from uuid import UUID

import pytest
from key_ring_support import START, Clock, Log, Store, key_xml, revocation_xml, stored

from kestrun_py.data_protection import FileXmlRepository, KeyRing, StoredElement, key_ring
from kestrun_py.data_protection.key_elements import read_elements
from kestrun_py.data_protection.keys import Key
from kestrun_py.errors import CacheUnavailableError, DataProtectionError, KeyRingError, UnknownKeyError

ID = UUID(int=1)


class SlowStore(Store):
    """A store that answers when it is told to."""

    def __init__(self, *elements: str) -> None:
        super().__init__(*elements)
        self.answer = asyncio.Event()
        self.asked = asyncio.Event()

    async def read_all(self) -> list[StoredElement]:
        self.asked.set()
        await self.answer.wait()
        return await super().read_all()


@pytest.fixture
def ring(store: Store, clock: Clock, log: Log) -> KeyRing:
    return KeyRing(store, logger=log, clock=clock)


def keys_in(store: Store) -> tuple[Key, ...]:
    return read_elements(stored(*store.elements)).keys


async def refreshed(ring: KeyRing) -> None:
    """Lets a due refresh run to its end."""
    assert ring.current_keys is None
    await ring.load()
    await end_of_task(ring)


async def end_of_task(ring: KeyRing) -> None:
    assert ring._task is not None
    await asyncio.wait([ring._task], timeout=10)
    assert ring._task is None


async def test_an_empty_store_gets_one_key(ring: KeyRing, store: Store, log: Log) -> None:
    await ring.load()
    await ring.load()
    (key,) = keys_in(store)
    assert ring.keys.default == key
    assert key.creation_date == key.activation_date == START
    assert key.expiration_date == START + timedelta(days=90)
    assert str(key.id) in log.texts("information")[0]
    assert store.reads == 1


async def test_two_rings_over_one_store_read_each_other(store: Store, clock: Clock, log: Log) -> None:
    rings = [KeyRing(store, application_name="app", logger=log, clock=clock) for _ in range(2)]
    await asyncio.gather(*(ring.load() for ring in rings))
    first, second = (ring.create_protector("p") for ring in rings)
    assert second.unprotect(first.protect(b"value")) == b"value"
    assert first.unprotect(second.protect(b"value")) == b"value"
    assert len(store.elements) == 1


async def test_a_ring_that_loses_the_race_for_the_first_key_takes_the_winners(clock: Clock, log: Log) -> None:
    class Raced(Store):
        async def append(self, xml: str, friendly_name: str, expected: int) -> bool:
            if not self.elements:
                self.elements.append(key_xml(ID))
            return await super().append(xml, friendly_name, expected)

    store = Raced()
    ring = KeyRing(store, logger=log, clock=clock)
    await ring.load()
    assert ring.keys.default.id == ID
    assert len(store.elements) == 1


async def test_a_store_that_always_changes_is_given_up(clock: Clock, log: Log) -> None:
    class Restless(Store):
        async def append(self, xml: str, friendly_name: str, expected: int) -> bool:
            return False

    with pytest.raises(KeyRingError, match="changed at each of 10 attempts"):
        await KeyRing(Restless(), logger=log, clock=clock).load()


async def test_the_application_name_is_the_first_purpose(store: Store, clock: Clock, log: Log) -> None:
    async def protector(name: str | None, *purposes: str) -> object:
        ring = KeyRing(store, application_name=name, logger=log, clock=clock)
        await ring.load()
        return ring.create_protector(*purposes)

    payload = (await protector("app", "p")).protect(b"value")  # type: ignore[attr-defined]
    assert (await protector(None, "app", "p")).unprotect(payload) == b"value"  # type: ignore[attr-defined]
    for name in ("other", "", None):
        with pytest.raises(DataProtectionError):
            (await protector(name, "p")).unprotect(payload)  # type: ignore[attr-defined]


async def test_a_ring_that_is_not_loaded_says_so(ring: KeyRing) -> None:
    protector = ring.create_protector("p")
    with pytest.raises(KeyRingError, match=r"await KeyRing\.load\(\)"):
        protector.protect(b"value")
    await ring.load()
    protector.protect(b"value")


async def test_loading_is_one_task_for_all_who_wait(clock: Clock, log: Log) -> None:
    store = SlowStore()
    ring = KeyRing(store, logger=log, clock=clock)
    waiters = [asyncio.create_task(ring.load()) for _ in range(20)]
    await store.asked.wait()
    waiters[0].cancel()
    await asyncio.sleep(0)
    store.answer.set()
    answers = await asyncio.gather(*waiters, return_exceptions=True)
    assert isinstance(answers[0], asyncio.CancelledError)
    assert answers[1:] == [None] * 19
    assert store.reads == 1
    assert len(store.elements) == 1


async def test_a_failed_load_fails_for_all_and_the_next_call_tries_again(ring: KeyRing, store: Store, log: Log) -> None:
    store.broken = CacheUnavailableError("Redis is down")
    answers = await asyncio.gather(*(ring.load() for _ in range(5)), return_exceptions=True)
    assert all(isinstance(answer, KeyRingError) and "Redis is down" in str(answer) for answer in answers)
    assert store.reads == 1, "one load serves all who wait for it"
    store.broken = None
    await ring.load()
    assert store.reads == 2
    assert len(log.texts("error")) == 1


@pytest.mark.parametrize("error", [CacheUnavailableError("no connection"), KeyRingError("no connection")])
async def test_a_failure_that_is_known_is_logged_without_a_traceback(
    ring: KeyRing, store: Store, log: Log, error: Exception
) -> None:
    store.broken = error
    with pytest.raises(KeyRingError, match="no connection"):
        await ring.load()
    store.broken = None
    store.read_only = error
    with pytest.raises(KeyRingError, match="no connection"):
        await ring.load()
    store.elements.append(key_xml(ID, created=START - timedelta(days=89)))
    await ring.load()
    load, new_key = log.texts("error")
    assert "was not loaded" in load
    assert "needs a new key" in new_key
    assert all("no connection" in text for text in (load, new_key))
    assert log.tracebacks == []


async def test_a_failure_that_is_not_known_is_logged_with_its_traceback(ring: KeyRing, store: Store, log: Log) -> None:
    store.broken = ZeroDivisionError("oops")
    with pytest.raises(KeyRingError, match="oops"):
        await ring.load()
    assert log.tracebacks == [store.broken]


async def test_a_load_that_nobody_waits_for_any_more_fails_quietly(clock: Clock, log: Log) -> None:
    store = SlowStore()
    store.broken = OSError("broken")
    ring = KeyRing(store, logger=log, clock=clock)
    waiter = asyncio.create_task(ring.load())
    await store.asked.wait()
    waiter.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiter
    store.answer.set()
    await end_of_task(ring)
    assert "broken" in log.texts("error")[0]


async def test_a_store_that_never_answers(clock: Clock, log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(key_ring, "_LOAD_TIMEOUT_SECONDS", 0.01)
    with pytest.raises(KeyRingError, match="no answer in time"):
        await KeyRing(SlowStore(), logger=log, clock=clock).load()


async def test_a_read_only_ring_never_adds_a_key(store: Store, clock: Clock, log: Log) -> None:
    ring = KeyRing(store, logger=log, clock=clock, read_only=True)
    with pytest.raises(KeyRingError, match="read-only"):
        await ring.load()
    assert store.elements == []
    store.elements.append(key_xml(ID, created=START - timedelta(days=200)))
    clock.advance(seconds=1)
    await ring.load()
    assert ring.keys.default.id == ID
    assert len(store.elements) == 1


async def test_a_store_that_cannot_be_written_is_used_as_it_is(clock: Clock, log: Log) -> None:
    store = Store(key_xml(ID, created=START - timedelta(days=89)))
    store.read_only = KeyRingError("read-only disk")
    ring = KeyRing(store, logger=log, clock=clock)
    await ring.load()
    assert ring.keys.default.id == ID
    assert "read-only disk" in log.texts("error")[0]
    store.read_only = None
    clock.advance(minutes=2)
    await refreshed(ring)
    assert len(store.elements) == 2


async def test_an_empty_store_that_cannot_be_written(ring: KeyRing, store: Store) -> None:
    store.read_only = KeyRingError("read-only disk")
    with pytest.raises(KeyRingError, match="read-only disk"):
        await ring.load()


async def test_a_revocation_from_the_future_does_not_fill_the_store(ring: KeyRing, store: Store) -> None:
    store.elements.append(revocation_xml("*", START + timedelta(days=1)))
    with pytest.raises(KeyRingError, match="yet to come"):
        await ring.load()
    assert len(store.elements) == 1


async def test_after_every_key_was_revoked_one_key_replaces_them(store: Store, clock: Clock, log: Log) -> None:
    old = Store(key_xml(ID, created=START - timedelta(days=10)))
    before = KeyRing(old, logger=log, clock=clock)
    await before.load()
    payload = before.create_protector("p").protect(b"value")
    old.elements.append(revocation_xml("*", START))
    for _ in range(3):
        ring = KeyRing(old, logger=log, clock=clock)
        await ring.load()
        assert not ring.keys.default.is_revoked
        with pytest.raises(DataProtectionError, match="revoked"):
            ring.create_protector("p").unprotect(payload)
        clock.advance(minutes=1)
    assert len(keys_in(old)) == 2


@pytest.mark.parametrize("luck", [0.0, 0.5, 0.999])
async def test_the_ring_is_read_again_after_a_day_less_a_fifth_at_most(
    luck: float, ring: KeyRing, store: Store, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(random, "random", lambda: luck)
    await ring.load()
    period = timedelta(hours=24) * (1 - 0.2 * luck)
    clock.time = START + period - timedelta(seconds=1)
    assert ring.current_keys is ring.keys
    await ring.load()
    assert ring._task is None
    clock.advance(seconds=1)
    assert ring.current_keys is None
    await refreshed(ring)
    assert store.reads == 2
    assert ring.current_keys is ring.keys


async def test_a_clock_that_is_set_back_does_not_put_the_refresh_off(ring: KeyRing, store: Store, clock: Clock) -> None:
    await ring.load()
    clock.advance(days=-2)
    await refreshed(ring)
    assert store.reads == 2


async def test_a_refresh_delays_nobody(clock: Clock, log: Log) -> None:
    store = SlowStore(key_xml(ID))
    store.answer.set()
    ring = KeyRing(store, logger=log, clock=clock)
    await ring.load()
    store.answer.clear()
    store.asked.clear()
    clock.advance(days=1)
    await ring.load()
    assert ring.current_keys is ring.keys
    assert ring.keys.default.id == ID
    await store.asked.wait()
    await ring.load()
    await ring.close()
    assert ring._task is None
    assert store.reads == 1


async def test_a_failed_refresh_keeps_the_keys_and_is_tried_again_after_two_minutes(
    ring: KeyRing, store: Store, clock: Clock, log: Log
) -> None:
    await ring.load()
    keys = ring.keys
    store.broken = OSError("broken")
    clock.advance(days=1)
    await refreshed(ring)
    assert ring.keys is keys
    assert "broken" in log.texts("error")[0]
    clock.advance(seconds=119)
    await ring.load()
    assert ring.current_keys is ring.keys
    store.broken = None
    clock.advance(seconds=1)
    await refreshed(ring)
    assert store.reads == 3


async def test_a_refresh_that_finds_nothing_new_keeps_the_same_object(
    ring: KeyRing, store: Store, clock: Clock
) -> None:
    await ring.load()
    keys = ring.keys
    clock.advance(days=1)
    await refreshed(ring)
    assert ring.keys is keys


async def test_rotation_over_a_year(ring: KeyRing, store: Store, clock: Clock) -> None:
    payloads = []
    protector = ring.create_protector("p")
    await ring.load()
    for _ in range(365 * 4):
        clock.advance(hours=6)
        if ring.current_keys is None:
            await refreshed(ring)
        assert ring.keys.default.can_protect(clock.time)
        payloads.append(protector.protect(b"value"))
    keys = sorted(keys_in(store), key=lambda key: key.creation_date)
    assert len(keys) == 5
    for before, after in pairwise(keys):
        assert after.activation_date == before.expiration_date
        assert after.expiration_date == after.creation_date + timedelta(days=90)
        assert timedelta(days=2) <= before.expiration_date - after.creation_date < timedelta(days=3)
    assert {protector.unprotect(payload) for payload in payloads} == {b"value"}


async def test_the_successor_takes_over_on_time(ring: KeyRing, store: Store, clock: Clock) -> None:
    await ring.load()
    first = ring.keys.default
    clock.time = first.expiration_date - timedelta(hours=60)
    await refreshed(ring)
    assert ring.keys.default == first
    clock.time = first.expiration_date - timedelta(minutes=6)
    await refreshed(ring)
    clock.time = first.expiration_date
    assert ring.current_keys is None
    await refreshed(ring)
    assert ring.keys.default.activation_date == first.expiration_date
    assert len(store.elements) == 2


async def test_an_unknown_key_is_looked_for_once_in_ten_seconds(ring: KeyRing, store: Store, clock: Clock) -> None:
    await ring.load()
    assert not await ring.find_unknown()
    assert store.reads == 2
    store.elements.append(key_xml(ID))
    clock.advance(seconds=9.9)
    assert not await ring.find_unknown()
    assert store.reads == 2
    clock.advance(seconds=0.1)
    assert await ring.find_unknown()
    assert ID in ring.keys.keys


async def test_a_flood_of_unknown_keys_is_one_read(clock: Clock, log: Log) -> None:
    store = SlowStore(key_xml(ID))
    store.answer.set()
    ring = KeyRing(store, logger=log, clock=clock)
    await ring.load()
    store.answer.clear()
    searches = [asyncio.create_task(ring.find_unknown()) for _ in range(100)]
    await asyncio.sleep(0)
    store.elements.append(key_xml(UUID(int=2)))
    store.answer.set()
    assert await asyncio.gather(*searches) == [True] * 100
    assert not await ring.find_unknown()
    assert store.reads == 2


async def test_a_search_that_fails_is_no_answer(ring: KeyRing, store: Store, clock: Clock) -> None:
    await ring.load()
    store.broken = OSError("broken")
    for _ in range(3):
        with pytest.raises(KeyRingError, match="broken"):
            await ring.find_unknown()
    assert store.reads == 2
    assert ring.keys.default
    store.broken = None
    clock.advance(seconds=1)
    assert not await ring.find_unknown()
    assert store.reads == 3


async def test_a_store_that_came_back_empty_is_followed(store: Store, clock: Clock, log: Log) -> None:
    ring = KeyRing(store, logger=log, clock=clock)
    await ring.load()
    clock.advance(hours=1)
    store.elements.clear()
    other = KeyRing(store, logger=log, clock=clock)
    await other.load()
    payload = other.create_protector("p").protect(b"value")
    protector = ring.create_protector("p")
    with pytest.raises(UnknownKeyError):
        protector.unprotect(payload)
    assert await ring.find_unknown()
    assert protector.unprotect(payload) == b"value"


@pytest.mark.parametrize("started", [False, True])
async def test_close_during_the_first_load(started: bool, clock: Clock, log: Log) -> None:
    store = SlowStore()
    ring = KeyRing(store, logger=log, clock=clock)
    waiter = asyncio.create_task(ring.load())
    await (store.asked.wait() if started else asyncio.sleep(0))
    assert store.asked.is_set() == started
    assert ring._task is not None
    await ring.close()
    with pytest.raises(KeyRingError, match="closed"):
        await waiter
    store.answer.set()
    await ring.load()
    await ring.close()


async def test_the_master_key_is_logged_nowhere(tmp_path: Path, clock: Clock, log: Log) -> None:
    repository = FileXmlRepository(tmp_path)
    ring = KeyRing(repository, logger=log, clock=clock)
    await ring.load()
    xml = (tmp_path / f"key-{ring.keys.default.id}.xml").read_text()
    (tmp_path / "broken.xml").write_text(xml[:-3])
    await ring.find_unknown()
    assert "broken.xml is not XML" in str(log.lines)
    (tmp_path / f"key-{ring.keys.default.id}.xml").unlink()
    with pytest.raises(KeyRingError, match="not XML") as caught:
        await KeyRing(repository, logger=log, clock=clock, read_only=True).load()
    secret = xml.partition("<value>")[2].partition("</value>")[0]
    assert len(secret) == 88
    assert secret not in str(caught.value) + repr(ring.keys) + str(log.lines)
