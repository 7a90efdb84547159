"""Hosts whose cache loses the key ring while they run."""

from __future__ import annotations

import asyncio
import base64
from urllib.parse import quote, unquote

import pytest
from host_nodes import Node, Nodes
from shared_caches import SharedCache
from waiting import until

from kestrun_py.data_protection import key_ring


def with_key(cookie: str, key_id: bytes) -> str:
    """A cookie that says that another key protects it."""
    text = unquote(cookie)
    payload = base64.b64decode(text + "=" * (-len(text) % 4))
    return quote(base64.b64encode(payload[:4] + key_id + payload[20:]).rstrip(b"=").decode(), safe="")


async def assert_understands(node: Node, *cookies: str) -> None:
    for cookie in cookies:
        answer = await node.get("/read", cookie)
        assert answer.result is not None
        assert answer.cookie is None


async def test_nodes_keep_their_sessions_and_agree_when_the_keys_are_lost(
    cache: SharedCache, nodes: Nodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(key_ring, "_WATCH_SECONDS", 3600.0)
    one, two = [await nodes.start(cache) for _ in range(2)]
    before = await one.login()
    await assert_understands(two, before)

    cache.lose_keys()
    restarted = await nodes.start(cache)
    after = await restarted.login()
    made = cache.keys()
    assert len(made) == 1

    # One cookie with a made-up key id makes a node look into the store.
    assert (await one.get("/read", with_key(before, bytes(16)))).result is None
    assert len(cache.keys()) == 2
    assert set(cache.keys()) > set(made)
    for node in (restarted, one, two):
        await assert_understands(node, before, after)

    keys = sorted(cache.keys())
    for number in range(50):
        forged = with_key(before, number.to_bytes(16, "big"))
        await asyncio.gather(*(node.get("/read", forged) for node in (one, two, restarted)))
    assert sorted(cache.keys()) == keys
    await assert_understands(await nodes.start(cache), before, after)


async def test_a_cache_that_was_emptied(cache: SharedCache, nodes: Nodes) -> None:
    one, two = [await nodes.start(cache) for _ in range(2)]
    before = await one.login()
    await assert_understands(two, before)
    cache.empty()
    await asyncio.gather(*(node.get("/read", with_key(before, bytes(16))) for node in (one, two)))
    assert len(cache.keys()) == 1
    cookies = [await node.login() for node in (one, two, await nodes.start(cache))]
    for node in (one, two):
        await assert_understands(node, *cookies)
    assert len(cache.keys()) == 1


async def test_lost_keys_come_back_without_any_request(
    cache: SharedCache, nodes: Nodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(key_ring, "_WATCH_SECONDS", 0.01)
    node = await nodes.start(cache)
    await node.login()
    keys = cache.keys()
    for _ in range(3):
        cache.lose_keys()
        await until(lambda: cache.keys() == keys)
