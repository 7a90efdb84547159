"""Sessions in Redis and PostgreSQL: what is stored, and which hosts understand each other."""

from __future__ import annotations

import asyncio
import base64
import gc
import struct
import uuid
from pathlib import Path
from urllib.parse import unquote
from xml.etree import ElementTree

import pytest
from host_nodes import Nodes
from login_bursts import lost_logins
from redis_server import RedisServer
from shared_caches import PostgresShared, RedisShared, SharedCache
from waiting import until

from kestrun_py.context import KestrunContext

GUID = r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"


def blob(session_id: bytes, *entries: tuple[bytes, bytes]) -> bytes:
    """ASP.NET Core's session blob, revision 2."""
    parts = [b"\x02", len(entries).to_bytes(3, "big"), session_id]
    for key, value in entries:
        parts += [struct.pack(">H", len(key)), key, struct.pack(">i", len(value)), value]
    return b"".join(parts)


def key_id_of(cookie: str) -> str:
    """The id of the key that a cookie is protected with."""
    text = unquote(cookie)
    payload = base64.b64decode(text + "=" * (-len(text) % 4))
    assert payload[:4] == bytes.fromhex("09f0c9f0")
    return str(uuid.UUID(bytes_le=payload[4:20]))


def key_ids(elements: list[str]) -> list[str | None]:
    return [ElementTree.fromstring(element).get("id") for element in elements]


def key_ids_in(folder: Path) -> list[str | None]:
    return key_ids([path.read_text(encoding="utf-8") for path in folder.glob("*.xml")])


async def test_counting(cache: SharedCache, nodes: Nodes) -> None:
    node = await nodes.start(cache)
    first = await node.get("/counter")
    assert first.result == 1
    assert first.cookie
    assert first.headers["Cache-Control"] == "no-cache,no-store"
    for path, count in (("/counter", 2), ("/counter-def", 3), ("/slow-counter", 4), ("/counter-def", 5)):
        answer = await node.get(path, first.cookie)
        assert answer.result == count
        assert answer.cookie is None
        assert answer.headers["Vary"] == "Cookie"
    for path in ("/read", "/read-def", "/peek"):
        assert (await node.get(path, first.cookie)).result == 5
    assert len(cache.entries()) == 1
    assert cache.locks() == 0


async def test_no_session_without_a_value(cache: SharedCache, nodes: Nodes) -> None:
    node = await nodes.start(cache)
    for path in ("/read", "/peek", "/logout", "/renew", "/plain"):
        assert (await node.get(path)).cookie is None
    assert cache.entries() == {}


async def test_logout_and_renewal(cache: SharedCache, nodes: Nodes) -> None:
    node = await nodes.start(cache)
    cookie = await node.login()
    [key] = cache.entries()
    renewed = (await node.get("/renew", cookie)).cookie
    assert renewed
    [new_key] = cache.entries()
    assert new_key != key
    assert (await node.get("/read", cookie)).result is None
    assert (await node.get("/read", renewed)).result == 1
    assert (await node.get("/logout", renewed)).cookie == ""
    assert cache.entries() == {}
    again = await node.get("/counter", renewed)
    assert again.result == 1
    assert again.cookie not in (None, "", cookie, renewed)


async def test_a_login_wins_over_other_requests_of_its_browser(cache: SharedCache, nodes: Nodes) -> None:
    hosts = [await nodes.start(cache) for _ in range(2)]
    lost, statuses = await lost_logins(hosts, 40, seed=1)
    assert lost == 0
    assert statuses["/login", 200] == 40
    assert statuses["/counter", 503]  # so there were writes that would have replaced a login's cookie


async def test_a_marker_ends_by_itself(cache: SharedCache, nodes: Nodes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kestrun_py.sessions.moves._LATE_SECONDS", 0.5)
    one, two = [await nodes.start(cache, io_timeout=1.5) for _ in range(2)]
    cookie = await one.login()
    assert (await one.get("/renew", cookie)).cookie
    refused = await two.get("/counter", cookie)
    assert (refused.status, refused.cookie) == (503, None)
    await asyncio.sleep(int(refused.headers["Retry-After"]))
    answer = await two.get("/counter", cookie)
    assert (answer.result, bool(answer.cookie)) == (1, True)


async def test_a_login_is_repeated_on_another_host(cache: SharedCache, nodes: Nodes) -> None:
    one, two = [await nodes.start(cache) for _ in range(2)]
    cookie = await one.login()
    lost = (await one.get("/login", cookie)).cookie
    again = await two.get("/login", cookie)
    assert again.cookie not in (None, "", lost)
    assert (await one.get("/who", again.cookie)).result == "max"


async def test_a_stream_is_stored_when_its_headers_go_out(cache: SharedCache, nodes: Nodes) -> None:
    node = await nodes.start(cache)
    cookie = await node.login("/stream")
    assert (await node.get("/stream", cookie)).text == "streamed"
    assert (await node.get("/read", cookie)).result == 2


async def test_layout_in_redis(redis_cache: RedisShared, nodes: Nodes) -> None:
    node = await nodes.start(redis_cache, idle_timeout=90)
    cookie = await node.login()
    await node.get("/counter", cookie)
    with redis_cache.server.client() as client:
        [key] = client.keys("shop:*")
        entry = client.hgetall(key)
        assert set(entry) == {b"absexp", b"sldexp", b"data"}
        assert entry[b"absexp"] == b"-1"
        assert entry[b"sldexp"] == b"900000000"
        assert 80_000 < client.pttl(key) <= 90_000
        data = entry[b"data"]
        assert data == blob(data[4:20], (b"counter", b"\0\0\0\x02"))
        assert sorted(client.keys()) == sorted([key, b"DataProtection-Keys"])
        assert client.ttl("DataProtection-Keys") == -1
    assert uuid.UUID(key.decode().removeprefix("shop:"))
    assert len(key) == len("shop:") + 36


async def test_layout_in_postgres(postgres_cache: PostgresShared, nodes: Nodes) -> None:
    node = await nodes.start(postgres_cache, idle_timeout=90)
    cookie = await node.login()
    await node.get("/counter", cookie)
    [[key, value, left, sliding, absolute]] = postgres_cache.execute(
        'SELECT "Id", "Value", CAST(extract(epoch FROM "ExpiresAtTime" - clock_timestamp()) AS float8), '
        """"SlidingExpirationInSeconds", "AbsoluteExpiration" FROM {table} WHERE "Id" NOT LIKE 'kr.lock:%'"""
    )
    assert str(uuid.UUID(key)) == key
    assert value == blob(value[4:20], (b"counter", b"\0\0\0\x02"))
    assert 80 < left <= 90
    assert (sliding, absolute) == (90, None)


async def test_entry_that_aspnet_wrote(cache: SharedCache, nodes: Nodes) -> None:
    node = await nodes.start(cache)
    cookie = await node.login()
    [key] = cache.entries()
    data = blob(bytes(range(16)), (b"user", b"max"), (b"counter", b"\0\0\0\x29"))
    if isinstance(cache, RedisShared):
        with cache.server.client() as client:
            client.delete(key)
            client.hset(key, mapping={"absexp": "-1", "sldexp": "12000000000", "data": data})
            client.expire(key, 1200)
    elif isinstance(cache, PostgresShared):
        cache.execute('UPDATE {table} SET "Value" = ? WHERE "Id" = ?', data, key)
    assert (await node.get("/counter", cookie)).result == 42
    assert cache.entries() == {key: blob(bytes(range(16)), (b"user", b"max"), (b"counter", b"\0\0\0\x2a"))}


async def test_absolute_timeout(cache: SharedCache, nodes: Nodes) -> None:
    node = await nodes.start(cache, absolute_timeout=1.5, idle_timeout=60)
    cookie = await node.login()
    began = asyncio.get_running_loop().time()
    while (answer := await node.get("/counter", cookie)).cookie is None:
        assert answer.result > 1
        assert asyncio.get_running_loop().time() - began < 30
        await asyncio.sleep(0.2)
    assert answer.result == 1
    assert answer.cookie != cookie
    assert asyncio.get_running_loop().time() - began > 1


async def test_connections_do_not_hold_on_to_the_requests_that_opened_them(cache: SharedCache, nodes: Nodes) -> None:
    node = await nodes.start(cache, io_timeout=1)  # its timers refer to the latest requests
    cookies = [await node.login() for _ in range(10)]
    await asyncio.gather(*(node.get("/counter", cookie) for cookie in cookies))

    def requests() -> int:
        gc.collect()
        return sum(isinstance(one, KestrunContext) for one in gc.get_objects())

    await asyncio.sleep(1)
    await until(lambda: requests() <= 2)


# Hosts that understand each other


async def test_a_second_process_reads_the_cookie_of_the_first(cache: SharedCache, nodes: Nodes) -> None:
    """Both start at once on an empty cache."""
    one, two = await asyncio.gather(*(nodes.start_process(cache) for _ in range(2)))
    cookies = await asyncio.gather(one.login(), two.login())
    for cookie in cookies:
        assert (await one.get("/counter", cookie)).result == 2
        assert (await two.get("/counter", cookie)).result == 3
    late = await nodes.start(cache)
    for cookie in cookies:
        answer = await late.get("/counter", cookie)
        assert (answer.result, answer.cookie) == (4, None)
    assert len(cache.entries()) == 2
    assert len(cache.keys()) == 1


async def test_hosts_that_start_at_once_on_an_empty_cache(cache: SharedCache, nodes: Nodes) -> None:
    """Each is asked at once, and all have to protect a cookie before any key is there."""

    async def start() -> tuple[str, object]:
        node = await nodes.start(cache)
        return await node.login(), node

    started = await asyncio.gather(*(start() for _ in range(4)))
    [key] = key_ids(cache.keys())
    for cookie, _ in started:
        assert key_id_of(cookie) == key
        for _, node in started:
            assert (await node.get("/read", cookie)).result == 1  # type: ignore[attr-defined]


async def test_the_key_ring_is_beside_the_sessions(cache: SharedCache, nodes: Nodes) -> None:
    node = await nodes.start(cache)
    cookie = await node.login()
    assert key_ids(cache.keys()) == [key_id_of(cookie)]


async def test_key_ring_in_another_redis(cache: SharedCache, nodes: Nodes) -> None:
    with RedisServer() as keys:
        protection = {"redis": keys.address}
        one = await nodes.start(cache, protection=protection)
        two = await nodes.start(cache, protection=protection)
        cookie = await one.login()
        assert (await two.get("/counter", cookie)).result == 2
        assert cache.keys() == []
        with keys.client() as client:
            assert client.keys() == [b"DataProtection-Keys"]
            assert key_ids([e.decode() for e in client.lrange("DataProtection-Keys", 0, -1)]) == [key_id_of(cookie)]
        beside = await nodes.start(cache)
        assert (await beside.get("/read", cookie)).result is None


async def test_key_ring_in_a_folder(cache: SharedCache, nodes: Nodes, tmp_path: Path) -> None:
    protection = {"folder": str(tmp_path)}
    one = await nodes.start(cache, protection=protection)
    cookie = await one.login()
    two = await nodes.start_process(cache, protection=protection)
    assert (await two.get("/counter", cookie)).result == 2
    assert key_ids_in(tmp_path) == [key_id_of(cookie)]
    assert cache.keys() == []


async def test_application_names_separate(cache: SharedCache, nodes: Nodes) -> None:
    one = await nodes.start(cache)
    other = await nodes.start(cache, protection={"application_name": "other"})
    same = await nodes.start(cache, protection={"application_name": "kestrun"})
    cookie = await one.login()
    assert (await other.get("/read", cookie)).result is None
    foreign = await other.get("/counter", cookie)
    assert foreign.result == 1
    assert foreign.cookie
    assert (await one.get("/read", foreign.cookie)).result is None
    assert (await same.get("/counter", cookie)).result == 2
    assert len(cache.entries()) == 2
    assert len(cache.keys()) == 1


@pytest.mark.parametrize("protection", [None, {"application_name": "shop"}])
async def test_cookies_survive_a_restart_of_the_host(
    cache: SharedCache, nodes: Nodes, protection: dict[str, str] | None
) -> None:
    cookie = ""
    for count in range(1, 4):
        node = await nodes.start(cache, protection=protection)
        answer = await node.get("/counter", cookie or None)
        assert answer.result == count
        cookie = cookie or answer.cookie or ""
    assert len(cache.keys()) == 1
