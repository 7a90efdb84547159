import asyncio
import base64
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st
from key_ring_support import START, Clock, Log, Store, key_xml, revocation_xml

from kestrun_py.data_protection import CookieProtector, KeyRing, cookie_protector
from kestrun_py.errors import CacheUnavailableError, KeyRingError

SESSION_KEY = "382c74c3-721d-4f34-80e5-57657b6cbc27"
ID = UUID(int=1)


def make_protector(
    store: Store, *, name: str | None = "app", clock: Clock | None = None
) -> tuple[CookieProtector, Log]:
    log = Log()
    ring = KeyRing(store, application_name=name, logger=log, clock=clock or Clock())
    return CookieProtector(ring, logger=log), log


def flip(text: str, position: int) -> str:
    return text[:position] + ("A" if text[position] != "A" else "B") + text[position + 1 :]


@pytest.mark.parametrize("algorithm", ["cbc", "gcm"])
async def test_reads_the_cookies_of_aspnet(algorithm: str, vectors: dict[str, Any]) -> None:
    cookie = vectors["cookie_cbc"]
    store = Store(key_xml(cookie["key_id"], encryption=f"AES_256_{algorithm.upper()}"))
    protector, log = make_protector(store, name=cookie["purposes"][0])
    assert await protector.read(vectors[f"cookie_{algorithm}"]["cookie_value"]) == cookie["session_key"]
    assert log.texts("warning") == []


@pytest.mark.parametrize(("encryption", "length"), [("AES_256_CBC", 176), ("AES_128_GCM", 134)])
async def test_writes_what_it_reads(encryption: str, length: int) -> None:
    protector, _ = make_protector(Store(key_xml(ID, encryption=encryption)))
    value = await protector.write(SESSION_KEY)
    assert len(value) == length
    assert value.startswith("CfDJ8")
    assert not value.endswith("=")
    assert await protector.read(value) == SESSION_KEY


async def test_writes_with_a_new_key_into_an_empty_store() -> None:
    store = Store()
    writer, _ = make_protector(store)
    reader, _ = make_protector(store)
    assert await reader.read(await writer.write(SESSION_KEY)) == SESSION_KEY
    assert len(store.elements) == 1


async def test_nothing_is_nothing() -> None:
    protector, log = make_protector(Store())
    assert await protector.write("") == ""
    assert await protector.read("") is None
    assert log.lines == []


@pytest.mark.parametrize(
    "cookie_value",
    [
        "x",
        "CfDJ8",
        "A" * 10_000,
        "CfDJ8" + "A" * 10_000,
        "é" * 176,
        "\ud800",
        "\udce9\udcff" * 88,
        "CfDJ8\r\nSet-Cookie: a=b",
        "CfDJ8\0",
        " ",
        "=",
        "====",
        "A" * 176,
        "Cf-J8_" + "A" * 170,
        base64.b64encode(bytes.fromhex("09F0C9F1") + bytes(128)).decode(),
        base64.b64encode(bytes.fromhex("09F0C9F0")).decode().rstrip("="),
    ],
)
async def test_what_is_no_cookie_of_ours_costs_one_warning_and_no_look_at_the_store(
    cookie_value: str,
) -> None:
    store = Store(key_xml(ID))
    protector, log = make_protector(store)
    assert await protector.read(cookie_value) is None
    assert protector.peek(cookie_value) is None
    assert store.reads == 0
    (line,) = log.lines
    assert line[0] == "warning"
    assert len(cookie_value) < 5 or cookie_value not in line[1]


async def test_every_flipped_bit_is_refused() -> None:
    protector, _ = make_protector(Store(key_xml(ID)))
    payload = base64.b64decode(await protector.write(SESSION_KEY))
    for bit in range(len(payload) * 8):
        changed = bytearray(payload)
        changed[bit // 8] ^= 1 << bit % 8
        assert await protector.read(base64.b64encode(changed).decode()) is None


@pytest.mark.parametrize("encryption", ["AES_256_CBC", "AES_256_GCM"])
async def test_every_changed_character_is_refused(encryption: str) -> None:
    # A GCM cookie does not fill its last character: four of its bits carry nothing.
    protector, _ = make_protector(Store(key_xml(ID, encryption=encryption)))
    value = await protector.write(SESSION_KEY)
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    changed = [flip(value, position) for position in range(len(value))]
    changed += [value[:-1] + last for last in alphabet if last != value[-1]]
    changed += [
        value + "=",
        value + "\n",
        " " + value,
        value[:80] + "\r\n" + value[80:],
        value + "A",
        value[:-1],
    ]
    for text in changed:
        assert await protector.read(text) is None
    assert await protector.read(value) == SESSION_KEY


@given(st.text(max_size=250) | st.text("ABCDCfJ8+/=\r\n ", max_size=250).map(lambda tail: "CfDJ8" + tail))
async def test_no_text_raises(text: str) -> None:
    protector, _ = make_protector(Store(key_xml(ID)))
    assert await protector.read(text) is None


@pytest.mark.parametrize("name", ["other", None, "App"])
async def test_the_cookie_of_another_application_is_refused(name: str | None) -> None:
    store = Store(key_xml(ID))
    value = await make_protector(store, name=name)[0].write(SESSION_KEY)
    protector, log = make_protector(store)
    assert await protector.read(value) is None
    assert len(log.texts("warning")) == 1


async def test_a_plaintext_that_is_no_text_is_refused() -> None:
    store = Store(key_xml(ID))
    protector, _ = make_protector(store)
    ring = KeyRing(store, application_name="app", logger=Log(), clock=Clock())
    await ring.load()
    payload = ring.create_protector("SessionMiddleware").protect(b"\xff" * 36)
    assert await protector.read(base64.b64encode(payload).decode()) is None


async def test_the_log_shows_a_fingerprint_of_the_cookie() -> None:
    protector, log = make_protector(Store(key_xml(ID)))
    value = flip(await protector.write(SESSION_KEY), 100)
    await protector.read(value)
    (line,) = log.texts("warning")
    assert cookie_protector._fingerprint(value) in line
    assert value[:20] not in line
    assert SESSION_KEY not in line


async def test_a_cookie_that_was_read_is_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    protector, _ = make_protector(Store(key_xml(ID)))
    value = await protector.write(SESSION_KEY)
    assert protector.peek(value) is None
    assert await protector.read(value) == SESSION_KEY
    monkeypatch.setattr(protector, "_protector", None)
    assert protector.peek(value) == SESSION_KEY
    assert await protector.read(value) == SESSION_KEY


async def test_only_the_last_used_cookies_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cookie_protector, "_MAX_REMEMBERED", 3)
    protector, _ = make_protector(Store(key_xml(ID)))
    values = [await protector.write(str(uuid4())) for _ in range(4)]
    for value in values[:3]:
        await protector.read(value)
    assert protector.peek(values[0])
    await protector.read(values[3])
    assert [protector.peek(value) is not None for value in values] == [True, False, True, True]


async def test_a_bad_cookie_is_not_remembered() -> None:
    protector, _ = make_protector(Store(key_xml(ID)))
    value = await protector.write(SESSION_KEY)
    for position in range(30, 60):
        await protector.read(flip(value, position))
    assert not protector._read


async def test_a_revoked_key_stops_working_at_the_next_refresh() -> None:
    clock, store = Clock(), Store(key_xml(ID, created=START - timedelta(days=3)))
    protector, log = make_protector(store, clock=clock)
    value = await protector.write(SESSION_KEY)
    assert await protector.read(value) == SESSION_KEY
    store.elements.append(revocation_xml(ID, clock.time))
    clock.advance(days=1)
    assert protector.peek(value) is None, "a refresh is due, which only read can start"
    await protector.read(value)
    assert protector._ring._task is not None
    await asyncio.wait([protector._ring._task])
    assert protector.peek(value) is None
    assert await protector.read(value) is None
    assert "revoked" in log.texts("warning")[0]


async def test_an_expired_key_still_reads() -> None:
    clock, store = Clock(), Store(key_xml(ID, created=START - timedelta(days=3)))
    value = await make_protector(store, clock=clock)[0].write(SESSION_KEY)
    clock.advance(days=400)
    protector, _ = make_protector(store, clock=clock)
    assert await protector.read(value) == SESSION_KEY
    assert await protector.write(SESSION_KEY) != value
    assert len(store.elements) == 2


async def test_a_cookie_of_a_key_that_another_node_just_made() -> None:
    store = Store()
    clock = Clock()
    protector, log = make_protector(store, clock=clock)
    await protector.write(SESSION_KEY)
    store.elements.clear()
    value = await make_protector(store, clock=clock)[0].write(SESSION_KEY)
    assert await protector.read(value) == SESSION_KEY
    assert not [text for text in log.texts("warning") if "cookie" in text]


async def test_cookies_with_made_up_keys_do_not_hammer_the_store() -> None:
    clock, store = Clock(), Store(key_xml(ID))
    protector, log = make_protector(store, clock=clock)
    good = await protector.write(SESSION_KEY)
    strange = [await make_protector(Store(), clock=clock)[0].write(SESSION_KEY) for _ in range(50)]
    assert await asyncio.gather(*map(protector.read, strange)) == [None] * 50
    assert store.reads == 2
    assert await protector.read(good) == SESSION_KEY
    assert len(log.texts("warning")) + len(log.texts("debug")) >= 50
    assert len(log.texts("warning")) < 50
    clock.advance(seconds=10)
    for value in strange:
        await protector.read(value)
    assert store.reads == 3


async def test_a_store_that_cannot_be_read_is_no_verdict_on_a_cookie() -> None:
    clock, store = Clock(), Store(key_xml(ID))
    value = await make_protector(store, clock=clock)[0].write(SESSION_KEY)
    strange = await make_protector(Store(), clock=clock)[0].write(SESSION_KEY)
    protector, _ = make_protector(store, clock=clock)
    store.broken = CacheUnavailableError("Redis is down")
    for attempt in (protector.read(value), protector.write(SESSION_KEY)):
        with pytest.raises(KeyRingError, match="Redis is down"):
            await attempt
    assert await protector.read("rubbish") is None
    store.broken = None
    clock.advance(seconds=1)
    assert await protector.read(value) == SESSION_KEY
    store.broken = CacheUnavailableError("Redis is down")
    clock.advance(seconds=10)
    with pytest.raises(KeyRingError, match="Redis is down"):
        await protector.read(strange)
    assert await protector.read(value) == SESSION_KEY
