"""What a host says when it starts on a distributed cache, and what it refuses to start with."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable
from typing import Any

import pytest
from host_nodes import Node, Nodes
from ports import free_port
from recording_log import Log
from redis_server import RedisServer
from shared_caches import PostgresShared, SharedCache
from shared_site import listening, new_host, visiting
from waiting import until

from kestrun_py import KestrunHost
from kestrun_py.caching import DistributedCache
from kestrun_py.caching.sql import PostgresDialect, create_table
from kestrun_py.errors import ArgumentError, InvalidOperationError
from kestrun_py.logging import LogLevel

COMMAND = "kestrun cache create-table --connection-string ... --schema {} --table Sessions"

REDIS: dict[str, Any] = {"configuration": "127.0.0.1:1"}
POSTGRES: dict[str, Any] = {"connection_string": "Host=127.0.0.1;Port=1;Username=kestrun"}
MEMORY: dict[str, Any] = {}

VERBS: dict[str, tuple[str, dict[str, Any]]] = {
    "memory": ("add_distributed_memory_cache", MEMORY),
    "Redis": ("add_distributed_redis_cache", REDIS),
    "PostgreSQL": ("add_distributed_postgres_cache", POSTGRES),
}


async def said(log: Log, level: LogLevel, pattern: str) -> str:
    """Waits for a line of the log."""
    await until(lambda: any(re.search(pattern, text) for text in log.texts(level)))
    return next(text for text in log.texts(level) if re.search(pattern, text))


# What it says


async def test_a_host_says_that_its_cache_answers(cache: SharedCache, nodes: Nodes) -> None:
    node = await nodes.start(cache)
    line = await said(node.log, LogLevel.INFORMATION, "cache answers")
    assert re.fullmatch(rf"The {cache.name} cache answers: {cache.name} \d+\.\S+, \d+\.\d ms", line)
    assert "127.0.0.1" in await said(node.log, LogLevel.INFORMATION, "address")


async def test_a_host_in_memory_says_so(nodes: Nodes) -> None:
    node = await nodes.start(("add_distributed_memory_cache", {}))
    assert "The memory cache answers" in await said(node.log, LogLevel.INFORMATION, "cache answers")


async def test_a_host_says_that_its_cache_does_not_answer(cache: SharedCache, nodes: Nodes) -> None:
    await asyncio.to_thread(cache.kill)
    node = await nodes.start(cache)
    line = await said(node.log, LogLevel.WARNING, f"^The {cache.name} cache does not answer")
    assert "127.0.0.1" in line


async def test_a_silent_cache_does_not_delay_the_start(
    cache: SharedCache, nodes: Nodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kestrun_py.caching.feature._PING_TIMEOUT_SECONDS", 60)
    cache.pause()
    node = await nodes.start(cache)
    assert (await node.get("/plain")).result == "plain"
    # It would be there if the start had waited for an answer, and would say that there was none.
    assert not [text for text in node.log.texts(LogLevel.WARNING) if "does not answer" in text]
    cache.resume()
    await said(node.log, LogLevel.INFORMATION, "cache answers")
    assert (await node.get("/counter")).result == 1


async def test_passwords_stay_out_of_the_log(nodes: Nodes) -> None:
    with RedisServer(password="right") as server:
        wrong = await nodes.start(
            ("add_distributed_redis_cache", {"configuration": f"{server.address},password=hunter2"})
        )
        await said(wrong.log, LogLevel.WARNING, "does not answer")
        assert (await wrong.get("/counter")).status == 503
        right = await nodes.start(
            ("add_distributed_redis_cache", {"configuration": f"redis://:right@{server.address}"})
        )
        await said(right.log, LogLevel.INFORMATION, "cache answers")
        assert (await right.get("/counter")).result == 1
    everything = str([(event.message, dict(event.properties), event.exception) for event in wrong.log.events])
    assert "hunter2" not in everything
    assert ":right@" not in str([(event.message, dict(event.properties)) for event in right.log.events])


async def test_a_host_stops_while_its_cache_is_silent(cache: SharedCache) -> None:
    host = new_host(cache.verb(), io_timeout=1)

    async with listening(host) as port, visiting(port) as visitor:
        assert (await visitor.get("/counter")).result == 1
        cache.pause()
        (await visitor.get("/counter")).assert_refused(within=9)
        began = time.monotonic()
    assert time.monotonic() - began < 60


# A table that is missing


async def assert_names_the_command(node: Node, schema: str, path: str, cookie: str | None = None) -> None:
    seen = len(node.log.errors)
    (await node.get(path, cookie)).assert_refused(within=5)
    errors = node.log.errors[seen:]
    assert errors
    assert any(COMMAND.format(schema) in event.message for event in errors), [event.message for event in errors]


async def test_a_missing_table(nodes: Nodes) -> None:
    cache = PostgresShared(table=False)
    node = await nodes.start(cache)
    assert "Sessions does not exist" in await said(node.log, LogLevel.INFORMATION, "table")
    assert COMMAND.format(cache.schema) in await said(node.log, LogLevel.WARNING, "has no table .*Sessions")
    for path in ("/counter", "/counter-def", "/stream"):
        await assert_names_the_command(node, cache.schema, path)
    for path in ("/plain", "/read", "/logout"):
        assert (await node.get(path)).cookie is None
    cache.create_table()
    answer = await node.get("/counter")
    assert answer.result == 1
    assert (await node.get("/counter-def", answer.cookie)).result == 2


async def test_a_table_that_was_dropped(nodes: Nodes) -> None:
    cache = PostgresShared()
    node = await nodes.start(cache)
    cookie = await node.login()
    cache.execute("DROP TABLE {table}")
    for path in ("/counter", "/read-def", "/peek", "/logout"):
        await assert_names_the_command(node, cache.schema, path, cookie)
    await assert_names_the_command(node, cache.schema, "/counter")
    assert (await node.get("/plain", cookie)).result == "plain"
    cache.execute("DROP TABLE {keys}")
    cache.create_table()
    assert (await node.get("/counter", cookie)).result == 1


async def test_a_table_without_the_one_of_the_keys(nodes: Nodes) -> None:
    """As ``dotnet sql-cache create`` leaves it."""
    cache = PostgresShared()
    cache.execute("DROP TABLE {keys}")
    node = await nodes.start(cache)
    await assert_names_the_command(node, cache.schema, "/counter")
    assert "has no table" in node.log.errors[-1].message
    assert "DataProtectionKeys" in node.log.errors[-1].message
    assert cache.entries() == {}
    await create_table(**cache.verb()[1], dialect=PostgresDialect())
    assert (await node.get("/counter")).result == 1


async def test_a_missing_table_when_the_request_goes_on(nodes: Nodes) -> None:
    cache = PostgresShared()
    node = await nodes.start(cache, on_cache_failure="continue")
    cookie = await node.login()
    cache.execute("DROP TABLE {table}")
    answer = await node.get("/counter", cookie)
    assert (answer.result, answer.cookie) == (1, None)
    assert COMMAND.format(cache.schema) in node.log.errors[-1].message


# What is refused


@pytest.mark.parametrize("second", VERBS)
@pytest.mark.parametrize("first", VERBS)
def test_a_second_cache_names_the_first(first: str, second: str) -> None:
    host = KestrunHost("two caches")
    verb, arguments = VERBS[first]
    getattr(host, verb)(**arguments)
    registered = host.services.get(DistributedCache)
    verb, arguments = VERBS[second]
    with pytest.raises(InvalidOperationError, match=rf"already registered \(the {first} cache\)"):
        getattr(host, verb)(**arguments)
    assert host.services.get(DistributedCache) is registered


@pytest.mark.parametrize("name", VERBS)
def test_a_cache_after_the_configuration(name: str) -> None:
    host = KestrunHost("late").enable_configuration()
    verb, arguments = VERBS[name]
    with pytest.raises(InvalidOperationError, match=f"{verb} comes too late"):
        getattr(host, verb)(**arguments)


def test_sessions_without_a_cache() -> None:
    host = KestrunHost("none").add_session(no_distributed_memory_cache=True)
    with pytest.raises(InvalidOperationError, match="add_distributed_redis_cache"):
        host.enable_configuration()


WRONG: dict[str, Callable[[KestrunHost], object]] = {
    "either configuration or configuration_options": lambda host: host.add_distributed_redis_cache(),
    "not both|give one": lambda host: host.add_data_protection(folder="keys", redis="localhost"),
    "connection_string": lambda host: host.add_distributed_postgres_cache(""),
    "less than the minimum value of 5 minutes": lambda host: host.add_distributed_postgres_cache(
        **POSTGRES, expired_items_deletion_interval="00:04:59"
    ),
    "tableName|table_name": lambda host: host.add_distributed_postgres_cache(**POSTGRES, table_name=""),
    "sliding expiration value must be positive": lambda host: host.add_distributed_postgres_cache(
        **POSTGRES, default_sliding_expiration=0
    ),
    "application_name must be text, not int": lambda host: host.add_data_protection(application_name=5),  # type: ignore[arg-type]
    "table_name must be given, as text": lambda host: host.add_distributed_postgres_cache(**POSTGRES, table_name=None),  # type: ignore[arg-type]
    "colour": lambda host: host.add_distributed_redis_cache("localhost,colour=red"),
}


@pytest.mark.parametrize("message", WRONG)
def test_wrong_arguments_are_named(message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        WRONG[message](KestrunHost("wrong"))


def test_a_cache_that_was_refused_leaves_room_for_another() -> None:
    host = KestrunHost("again")
    with pytest.raises(ArgumentError):
        host.add_distributed_redis_cache("localhost,colour=red")
    host.add_distributed_redis_cache(f"127.0.0.1:{free_port()}")
