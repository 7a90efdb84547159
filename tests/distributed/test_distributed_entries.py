"""An application's own cache entries, through the cache that its sessions use."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from host_nodes import Nodes
from shared_caches import PostgresShared, RedisShared, SharedCache, Verb
from shared_site import Visitor, new_host

from kestrun_py import KestrunHost
from kestrun_py.caching import DistributedCache
from kestrun_py.context import KestrunContext
from kestrun_py.errors import ArgumentError
from kestrun_py.sessions import Session

Work = Callable[[DistributedCache], Any]
Make = Callable[[Work], Callable[..., Any]]


@pytest.fixture(params=[None, RedisShared, PostgresShared], ids=["memory", "redis", "postgres"])
def verb(request: pytest.FixtureRequest) -> Iterator[Verb]:
    """What adds an empty cache of each kind."""
    if request.param is None:
        yield "add_distributed_memory_cache", {}
        return
    cache = request.param()
    yield cache.verb()
    cache.restore()


def as_def(work: Work) -> Callable[..., Any]:
    """A ``def`` script that waits for what the cache does, and answers with what comes of it."""

    def script(context: KestrunContext) -> None:
        cache = context.services.get(DistributedCache)
        assert cache is not None
        context.response.write_json({"result": context.wait(work(cache))})

    return script


def as_async_def(work: Work) -> Callable[..., Any]:
    async def script(context: KestrunContext) -> None:
        cache = context.services.get(DistributedCache)
        assert cache is not None
        context.response.write_json({"result": await work(cache)})

    return script


@pytest.fixture(params=[as_def, as_async_def], ids=["def", "async def"])
def make(request: pytest.FixtureRequest) -> Make:
    """Makes a script of each kind from what works with a cache."""
    made: Make = request.param
    return made


async def serve(nodes: Nodes, verb: Verb, routes: dict[str, Callable[..., Any]]) -> Visitor:
    host = new_host(verb)
    for path, script in routes.items():
        host.add_map_route(path, "Get", script)
    return await nodes.visit(host)


async def test_strings_and_bytes(nodes: Nodes, verb: Verb, make: Make) -> None:
    async def read_bytes(cache: DistributedCache) -> str | None:
        value = await cache.get("bytes")
        return None if value is None else value.hex()

    node = await serve(
        nodes,
        verb,
        {
            "/set": make(lambda cache: cache.set_string("text", "Grüße, 世界")),
            "/get": make(lambda cache: cache.get_string("text")),
            "/set-bytes": make(lambda cache: cache.set("bytes", bytes(range(256)))),
            "/get-bytes": make(read_bytes),
            "/remove": make(lambda cache: cache.remove("text")),
        },
    )
    assert (await node.get("/get")).result is None
    assert (await node.get("/set")).result is None
    assert (await node.get("/get")).result == "Grüße, 世界"
    assert (await node.get("/set-bytes")).result is None
    assert (await node.get("/get-bytes")).result == bytes(range(256)).hex()
    await node.get("/remove")
    assert (await node.get("/get")).result is None
    assert (await node.get("/get-bytes")).result is not None


async def test_expiration(nodes: Nodes, verb: Verb) -> None:
    """The windows of 2 seconds slide; the other times are fixed."""

    async def store(cache: DistributedCache) -> None:
        soon = datetime.now(UTC) + timedelta(seconds=1.5)
        await cache.set_string("read", "here", sliding_expiration=timedelta(seconds=2))
        await cache.set_string("refreshed", "here", sliding_expiration=2)
        await cache.set_string("left alone", "here", sliding_expiration=2)
        await cache.set_string("absolute", "here", absolute_expiration=soon)
        await cache.set_string("relative", "here", absolute_expiration_relative_to_now="00:00:01.5")
        await cache.set_string("both", "here", sliding_expiration=60, absolute_expiration_relative_to_now=1.5)
        await cache.set_string("without", "here")

    async def touch(cache: DistributedCache) -> list[str | None]:
        await cache.refresh("refreshed")
        return [await cache.get_string(key) for key in ("read", "absolute", "relative", "both")]

    async def find(cache: DistributedCache) -> list[str]:
        keys = ("read", "refreshed", "left alone", "absolute", "relative", "both", "without")
        return [key for key in keys if await cache.get_string(key) == "here"]

    node = await serve(nodes, verb, {"/store": as_def(store), "/touch": as_async_def(touch), "/find": as_def(find)})
    clock = asyncio.get_running_loop().time
    began = clock()
    await node.get("/store")
    assert (await node.get("/touch")).result == ["here"] * 4 or clock() - began > 1.4
    touched, gap = clock(), 0.0
    while clock() - began < 2.6:
        await asyncio.sleep(0.3)
        await node.get("/touch")
        gap, touched = max(gap, clock() - touched), clock()
    assert (await node.get("/find")).result == ["read", "refreshed", "without"] or gap > 1.9


async def test_arguments_are_checked(nodes: Nodes, verb: Verb, make: Make) -> None:
    async def try_it(cache: DistributedCache) -> list[str]:
        messages = []
        for wrong in (
            {"sliding_expiration": 0},
            {"absolute_expiration": datetime(2020, 1, 1, tzinfo=UTC)},
            {"absolute_expiration_relative_to_now": -1},
        ):
            try:
                await cache.set("key", b"value", **wrong)
            except ArgumentError as error:
                messages.append(str(error))
        return messages

    node = await serve(nodes, verb, {"/try": make(try_it)})
    assert (await node.get("/try")).result == [
        "The sliding expiration value must be positive.",
        "The absolute expiration value must be in the future.",
        "The relative expiration value must be positive.",
    ]


async def test_entries_and_sessions_side_by_side(nodes: Nodes, verb: Verb) -> None:
    """A counter in the session and one in the cache, by scripts of both kinds in turn."""

    async def count(cache: DistributedCache) -> int:
        value = int(await cache.get_string("visits") or 0) + 1
        await cache.set_string("visits", str(value), sliding_expiration=60)
        return value

    def visit(session: Session) -> int:
        session.set_int32("counter", (session.get_int32("counter") or 0) + 1)
        return session.get_int32("counter") or 0

    def both(context: KestrunContext) -> None:
        visits = context.wait(count(context.services.require(DistributedCache)))
        context.response.write_json({"result": [visit(context.session), visits]})

    async def both_async(context: KestrunContext) -> None:
        visits = await count(context.services.require(DistributedCache))
        context.response.write_json({"result": [visit(context.session), visits]})

    node = await serve(nodes, verb, {"/def": both, "/async": both_async})
    first = await node.get("/def")
    assert first.result == [1, 1]
    for number, path in enumerate(("/async", "/def", "/async"), start=2):
        assert (await node.get(path, first.cookie)).result == [number, number]
    assert (await node.get("/def")).result == [1, 5]


async def test_entries_without_sessions(nodes: Nodes, verb: Verb, make: Make) -> None:
    host = KestrunHost("entries alone")
    name, arguments = verb
    getattr(host, name)(**arguments)
    host.add_map_route("/set", "Get", make(lambda cache: cache.set_string("key", "value")))
    host.add_map_route("/get", "Get", make(lambda cache: cache.get_string("key")))
    node = await nodes.visit(host)
    await node.get("/set")
    assert (await node.get("/get")).result == "value"


async def test_two_hosts_share_entries(cache: SharedCache, nodes: Nodes, make: Make) -> None:
    routes = {
        "/set": make(lambda cache: cache.set_string("key", "of the first")),
        "/get": make(lambda cache: cache.get_string("key")),
    }
    one, two = [await serve(nodes, cache.verb(), routes) for _ in range(2)]
    await one.get("/set")
    assert (await two.get("/get")).result == "of the first"
