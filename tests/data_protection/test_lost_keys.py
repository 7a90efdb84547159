"""A store that loses elements, and keys that nobody needs."""

from __future__ import annotations

import asyncio
import os
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from key_ring_support import START, Clock, Log, Store, key_xml, revocation_xml, stored

from kestrun_py.data_protection import FileXmlRepository, KeyRing, XmlRepository, key_ring
from kestrun_py.data_protection.key_elements import read_elements
from kestrun_py.data_protection.ring_store import find_lost
from kestrun_py.errors import DataProtectionError, KeyRingError, UnknownKeyError

OLD, NOW, NEXT = (UUID(int=number) for number in (1, 2, 3))
DAY = timedelta(days=1)


def encrypted_xml(key_id: UUID, **dates: Any) -> str:
    """A key that DPAPI has encrypted."""
    xml = key_xml(key_id, **dates)
    start, end = xml.index("<masterKey"), xml.index("</descriptor>")
    return (
        f'{xml[:start]}<e:encryptedSecret xmlns:e="http://schemas.asp.net/2015/03/dataProtection" '
        f'decryptorType="My.DpapiXmlDecryptor, My"><v/></e:encryptedSecret>{xml[end:]}'
    )


def open_ring(store: XmlRepository, clock: Clock, log: Log, **options: Any) -> KeyRing:
    return KeyRing(store, logger=log, clock=clock, **options)


@pytest.fixture
def ring(store: Store, clock: Clock, log: Log) -> KeyRing:
    return open_ring(store, clock, log)


def ids_in(store: Store) -> set[UUID]:
    return {key.id for key in read_elements(stored(*store.elements)).keys}


class TestLost:
    """What `find_lost` says: names in the order to write them back."""

    OLD_KEY = key_xml(OLD, created=START - 100 * DAY)
    NOW_KEY = key_xml(NOW, created=START - 40 * DAY)
    NEXT_KEY = key_xml(NEXT, created=START - DAY)
    HELD = (NEXT_KEY, OLD_KEY, NOW_KEY)

    @staticmethod
    def lost(held: tuple[str, ...], read: tuple[str, ...]) -> list[str]:
        before, after = (read_elements(stored(*texts)).elements for texts in (held, read))
        return list(find_lost(before, after, START))

    def test_nothing(self) -> None:
        assert self.lost((), ()) == self.lost((), self.HELD) == self.lost(self.HELD, self.HELD) == []

    def test_everything_is_lost_with_the_expired_keys_and_the_oldest_comes_first(self) -> None:
        names = [f"key-{key_id}" for key_id in (OLD, NOW, NEXT)]
        assert self.lost(self.HELD, ()) == names
        assert self.lost(self.HELD, ("<note/>", key_xml(UUID(int=9)))) == names

    def test_a_key_that_is_still_needed_is_lost(self) -> None:
        assert self.lost(self.HELD, (self.OLD_KEY, self.NEXT_KEY)) == [f"key-{NOW}"]

    def test_an_expired_key_was_removed_on_purpose(self) -> None:
        assert self.lost(self.HELD, (self.NOW_KEY, self.NEXT_KEY)) == []

    def test_a_revoked_key_was_removed_on_purpose(self) -> None:
        revocation = revocation_xml(NOW, START)
        assert self.lost((*self.HELD, revocation), (self.OLD_KEY, self.NEXT_KEY, revocation)) == []

    def test_revocations_come_first(self) -> None:
        revocations = (revocation_xml(NOW, START), revocation_xml("*", START - 2 * DAY))
        names = self.lost((*self.HELD, *revocations), ())
        assert sorted(names[:2]) == [f"revocation-{NOW}", "revocation-20291230T000000000000Z"]
        assert self.lost((*self.HELD, *revocations), self.HELD) == names[:2]

    def test_an_encrypted_key_is_lost_like_any_other(self) -> None:
        encrypted = encrypted_xml(NOW, created=START - DAY)
        assert self.lost((self.NEXT_KEY, encrypted), (self.NEXT_KEY,)) == [f"key-{NOW}"]


async def test_what_the_store_lost_is_written_back(ring: KeyRing, store: Store, clock: Clock, log: Log) -> None:
    texts = [key_xml(OLD, created=START - 100 * DAY), key_xml(NOW), revocation_xml(NEXT, START)]
    store.elements.extend(texts)
    await ring.load()
    keys = ring.keys
    store.elements.clear()
    await ring.find_unknown()
    assert sorted(store.elements) == sorted(texts)
    assert ring.keys is keys
    assert [text for text in log.texts("warning") if "had lost" in text]
    clock.advance(seconds=10)
    await ring.find_unknown()
    assert len(store.elements) == 3


async def test_nodes_that_start_on_a_store_that_lost_its_keys_end_with_the_same_keys(
    ring: KeyRing, store: Store, clock: Clock, log: Log
) -> None:
    await ring.load()
    payload = ring.create_protector("p").protect(b"value")
    store.elements.clear()
    other = open_ring(store, clock, log)
    await other.load()
    await ring.find_unknown()
    assert len(store.elements) == 2
    assert await other.find_unknown()
    assert other.create_protector("p").unprotect(payload) == b"value"
    assert other.keys.keys == ring.keys.keys
    clock.advance(days=3)
    for one in (ring, other, open_ring(store, clock, log)):
        await one.find_unknown()
    assert ring.keys.default.id == other.keys.default.id
    assert len(store.elements) == 2


async def test_many_nodes_write_back_once(store: Store, clock: Clock, log: Log) -> None:
    store.elements.extend(key_xml(UUID(int=number), created=START - number * DAY) for number in range(30))
    rings = [open_ring(store, clock, log) for _ in range(8)]
    await asyncio.gather(*(one.load() for one in rings))
    before = sorted(store.elements)
    store.elements.clear()
    await asyncio.gather(*(one.find_unknown() for one in rings))
    assert sorted(store.elements) == before


async def test_a_revoked_key_stays_revoked_when_the_store_is_lost(ring: KeyRing, store: Store, clock: Clock) -> None:
    await ring.load()
    payload = ring.create_protector("p").protect(b"value")
    store.elements.append(revocation_xml(ring.keys.default.id, START))
    clock.advance(minutes=1)
    await ring.find_unknown()
    store.elements.clear()
    clock.advance(minutes=1)
    await ring.find_unknown()
    assert "<revocation" in store.elements[0]
    with pytest.raises(DataProtectionError, match="revoked"):
        ring.create_protector("p").unprotect(payload)


async def test_a_key_is_kept_where_it_cannot_be_written_back(
    ring: KeyRing, store: Store, clock: Clock, log: Log
) -> None:
    await ring.load()
    protector = ring.create_protector("p")
    payload = protector.protect(b"value")
    store.elements.clear()
    store.read_only = OSError("disk full")
    for _ in range(3):
        await ring.find_unknown()
        clock.advance(seconds=10)
        assert protector.unprotect(payload) == b"value"
    assert [text for text in log.texts("error") if "disk full" in text] == log.texts("error")
    assert len(log.texts("error")) == 1
    store.read_only = None
    await ring.find_unknown()
    assert len(store.elements) == 1


async def test_a_read_only_ring_keeps_lost_keys_and_writes_nothing(store: Store, clock: Clock, log: Log) -> None:
    store.elements.append(key_xml(NOW))
    ring = open_ring(store, clock, log, read_only=True)
    await ring.load()
    store.elements.clear()
    await ring.find_unknown()
    assert NOW in ring.keys.keys
    assert store.elements == []


async def test_made_up_key_ids_do_not_make_nodes_diverge(store: Store, clock: Clock, log: Log) -> None:
    rings = [open_ring(store, clock, log) for _ in range(2)]
    await asyncio.gather(*(ring.load() for ring in rings))
    payload = rings[0].create_protector("p").protect(b"value")
    forged = payload[:4] + bytes(16) + payload[20:]
    reads = store.reads
    for _ in range(100):
        store.elements.clear()
        for ring in rings:
            with pytest.raises(UnknownKeyError):
                ring.create_protector("p").unprotect(forged)
            await ring.find_unknown()
        clock.advance(seconds=1)
    assert store.reads - reads <= 2 * 2 * 10
    assert len(rings[0].keys.keys) == len(rings[1].keys.keys) == 1
    assert rings[1].create_protector("p").unprotect(payload) == b"value"


async def test_watching_brings_lost_keys_back(
    ring: KeyRing, store: Store, monkeypatch: pytest.MonkeyPatch, log: Log
) -> None:
    monkeypatch.setattr(key_ring, "_WATCH_SECONDS", 0.001)
    watching = asyncio.create_task(ring.watch())
    try:
        for failure in (None, KeyRingError("away"), None):
            store.broken = failure
            store.elements.clear()
            reads = store.reads
            while store.reads < reads + 3 or not (failure or store.elements):
                assert not watching.done()
                await asyncio.sleep(0.001)
    finally:
        watching.cancel()
        await asyncio.wait([watching])
        await ring.close()
    assert len(ids_in(store)) == 1
    assert len(log.texts("error")) == 1
    assert [text for text in log.texts("information") if "can be used again" in text]


class TestUnusable:
    async def test_a_key_that_has_expired_or_was_revoked(self, ring: KeyRing, store: Store, log: Log) -> None:
        store.elements.extend(
            [
                encrypted_xml(OLD, created=START - 100 * DAY),
                encrypted_xml(NEXT),
                revocation_xml(NEXT, START),
                key_xml(NOW),
            ]
        )
        await ring.load()
        assert ring.keys.default.id == NOW
        assert len(store.elements) == 4
        assert len([text for text in log.texts("warning") if "DpapiXmlDecryptor" in text]) == 2
        assert log.texts("error") == []

    async def test_a_readable_key_beside_it_protects(self, ring: KeyRing, store: Store) -> None:
        store.elements.extend([encrypted_xml(NEXT, activated=START - DAY), key_xml(NOW, activated=START - 2 * DAY)])
        await ring.load()
        assert ring.keys.default.id == NOW

    async def test_the_payload_of_another_node_tells_why_it_cannot_be_read(
        self, ring: KeyRing, store: Store, clock: Clock, log: Log
    ) -> None:
        foreign = open_ring(Store(key_xml(NEXT)), clock, log)
        await foreign.load()
        payload = foreign.create_protector("p").protect(b"value")
        store.elements.extend([encrypted_xml(NEXT), key_xml(NOW)])
        await ring.load()
        with pytest.raises(KeyRingError, match=f"The key {{{NEXT}}} in element 1 is encrypted"):
            ring.create_protector("p").unprotect(payload)
        store.elements.append(revocation_xml(NEXT, START))
        await ring.find_unknown()
        with pytest.raises(UnknownKeyError):
            ring.create_protector("p").unprotect(payload)

    @pytest.mark.parametrize("text", [encrypted_xml(NOW), "", "<key", key_xml(NOW, encryption="ROT_13")])
    async def test_no_key_is_made_in_place_of_one_that_may_be_needed(
        self, text: str, ring: KeyRing, store: Store
    ) -> None:
        store.elements.extend([text, key_xml(OLD, created=START - 100 * DAY)])
        with pytest.raises(KeyRingError, match=r"(?i)holds no key that can protect\. .*element 1"):
            await ring.load()
        assert len(store.elements) == 2

    @pytest.mark.parametrize("spoiled", [[encrypted_xml(NOW)], [key_xml(NOW), key_xml(NOW, master_key=bytes(64))]])
    async def test_a_key_whose_element_becomes_unusable_is_kept(
        self, spoiled: list[str], ring: KeyRing, store: Store, clock: Clock, log: Log
    ) -> None:
        store.elements.append(key_xml(NOW))
        await ring.load()
        payload = ring.create_protector("p").protect(b"value")
        for elements in (spoiled, []):
            store.elements[:] = elements
            await ring.find_unknown()
            clock.advance(seconds=10)
            assert ring.create_protector("p").unprotect(payload) == b"value"
        assert store.elements == [key_xml(NOW)]
        assert len([text for text in log.texts("warning") if str(NOW) in text]) == 2
        store.elements[:] = [*spoiled, revocation_xml(NOW, START)]
        await ring.find_unknown()
        with pytest.raises(DataProtectionError, match="revoked"):
            ring.create_protector("p").unprotect(payload)

    async def test_a_key_is_made_when_the_others_have_expired(self, ring: KeyRing, store: Store) -> None:
        store.elements.append(encrypted_xml(OLD, created=START - 100 * DAY))
        await ring.load()
        assert len(store.elements) == 2

    async def test_what_does_not_change_is_logged_once(
        self, ring: KeyRing, store: Store, clock: Clock, log: Log
    ) -> None:
        store.elements.extend([key_xml(NOW), *[""] * 1000, *["<note/>"] * 1000])
        for _ in range(3):
            await ring.load()
            await ring.find_unknown()
            clock.advance(seconds=10)
        assert len(log.texts("warning")) == 6
        assert log.texts("warning")[-1].endswith("| 996")


async def test_a_folder_with_foreign_files_and_a_fifo(tmp_path: Path, clock: Clock, log: Log) -> None:
    for number in range(1000):
        (tmp_path / f"{number}.xml").write_text("<note/>")
    os.mkfifo(tmp_path / "pipe.xml")
    ring = open_ring(FileXmlRepository(tmp_path), clock, log)
    await asyncio.wait_for(ring.load(), 60)
    assert (tmp_path / f"key-{ring.keys.default.id}.xml").exists()
    assert len(log.lines) <= 3


async def test_a_folder_that_is_removed_comes_back(tmp_path: Path, clock: Clock, log: Log) -> None:
    folder = tmp_path / "keys"
    ring = open_ring(FileXmlRepository(folder), clock, log)
    await ring.load()
    (key,) = folder.glob("*.xml")
    text = key.read_text()
    key.write_bytes(b"")
    await ring.find_unknown()
    assert key.read_text() == text
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()
    clock.advance(seconds=10)
    await ring.find_unknown()
    assert key.read_text() == text
