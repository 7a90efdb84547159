"""Real servers that the hosts of a test share, to be stopped, killed and looked into."""

from __future__ import annotations

import atexit
import functools
import signal
import uuid
from abc import ABC, abstractmethod
from collections.abc import Mapping
from contextlib import closing
from typing import Any

from postgres_server import PostgresServer
from redis_server import RedisServer, execute

from kestrun_py.caching.sql import PostgresDialect, create_table_script

Verb = tuple[str, Mapping[str, Any]]


# What the tests themselves send.
_OURS = ("client", "client|setinfo", "echo", "hello", "info", "monitor")


class SharedCache(ABC):
    """A server with an empty cache. All methods block.

    Attributes:
        name: What the host's log calls the cache.
        prefix: What the keys of the entries begin with.
    """

    name: str
    prefix: str

    @property
    @abstractmethod
    def port(self) -> int:
        """Where the server listens, on 127.0.0.1."""

    @abstractmethod
    def verb(self, port: int | None = None) -> Verb:
        """The host's verb that adds the cache, and its arguments; with another port, for a proxy."""

    @abstractmethod
    def entries(self) -> dict[str, bytes]:
        """What is stored, by key; without locks, and without markers of sessions that were moved."""

    @abstractmethod
    def locks(self) -> int:
        """How many entries are locked."""

    @abstractmethod
    def keys(self) -> list[str]:
        """The elements of the key ring."""

    @abstractmethod
    def kill(self) -> None:
        """Ends the server as in a crash."""

    @abstractmethod
    def start(self) -> None:
        """Starts the server again; it has kept what was committed. It ends with the thread that calls this."""

    @abstractmethod
    def pause(self) -> None: ...

    @abstractmethod
    def resume(self) -> None: ...

    @abstractmethod
    def empty(self) -> None:
        """Removes everything, the key ring, too."""

    @abstractmethod
    def lose_keys(self) -> None:
        """Removes the key ring alone, as an eviction does."""

    @abstractmethod
    def restore(self) -> None:
        """Makes the server run and answer, whatever the test did to it."""


class RedisShared(SharedCache):
    """One Redis, emptied for each test."""

    name = "Redis"
    prefix = "shop:"

    def __init__(self) -> None:
        self.server = _redis_server()
        self._alive = True
        self.empty()

    @property
    def port(self) -> int:
        return self.server.port

    def verb(self, port: int | None = None) -> Verb:
        address = f"127.0.0.1:{port or self.port}"
        return "add_distributed_redis_cache", {"configuration": address, "instance_name": self.prefix}

    def entries(self) -> dict[str, bytes]:
        with self.server.client() as client:
            keys = [key.decode() for key in client.scan_iter(f"{self.prefix}*")]
            return {key: client.hget(key, "data") for key in keys if not key.startswith(f"{self.prefix}kr.moved:")}

    def locks(self) -> int:
        with self.server.client() as client:
            return sum(client.hexists(key, "kr.lock") for key in client.scan_iter(f"{self.prefix}*"))

    def keys(self) -> list[str]:
        with self.server.client() as client:
            return [element.decode() for element in client.lrange("DataProtection-Keys", 0, -1)]

    def kill(self) -> None:
        self.server.kill()
        self._alive = False

    def start(self) -> None:
        self.server.start()
        self._alive = True

    def pause(self) -> None:
        self.server.pause()

    def resume(self) -> None:
        self.server.resume()

    def empty(self) -> None:
        with self.server.client() as client:
            client.flushall()

    def lose_keys(self) -> None:
        with self.server.client() as client:
            client.delete("DataProtection-Keys")

    def restore(self) -> None:
        if self._alive:
            self.server.resume()
        else:
            self.start()

    # What only Redis can tell

    def statistics(self) -> dict[str, int]:
        """How often each command was called by hosts, directly or in scripts."""
        with self.server.client() as client:
            statistics = execute(client, "INFO", "commandstats")
        return {name: one["calls"] for name, one in statistics.items() if name.removeprefix("cmdstat_") not in _OURS}


class RedisMonitor:
    """Listens to what clients send to a Redis.

    Args:
        server: The Redis.
    """

    def __init__(self, server: RedisServer) -> None:
        self._client = server.client()
        self._monitor: Any = self._client.monitor()  # type: ignore[no-untyped-call]
        self._monitor.__enter__()

    def commands(self) -> list[list[str]]:
        """The commands since the last call, without those that scripts call."""
        end = f"end-{uuid.uuid4()}"
        self._client.echo(end)
        found: list[list[str]] = []
        while (heard := self._monitor.next_command())["command"] != f"ECHO {end}":
            words = heard["command"].split(" ")
            if heard["client_type"] != "lua" and words[0].lower() not in _OURS:
                found.append(words)
        return found

    def close(self) -> None:
        self._monitor.__exit__()
        self._client.close()


class PostgresShared(SharedCache):
    """A new schema with the table, in one PostgreSQL server."""

    name = "PostgreSQL"
    prefix = ""

    def __init__(self, *, table: bool = True) -> None:
        self.server = _postgres_server()
        self.schema = f"test_{uuid.uuid4().hex}"
        self._alive = True
        self.server.execute(f'CREATE SCHEMA "{self.schema}"')
        if table:
            self.create_table()

    @property
    def port(self) -> int:
        return self.server.port

    def create_table(self) -> None:
        with closing(self.server.connect()) as connection:
            connection.execute(create_table_script(PostgresDialect(), self.schema, "Sessions"))

    def verb(self, port: int | None = None) -> Verb:
        address = f"Host=127.0.0.1;Port={port or self.port};Database=postgres;Username=kestrun"
        arguments = {"connection_string": address, "schema_name": self.schema, "table_name": "Sessions"}
        return "add_distributed_postgres_cache", arguments

    def execute(self, statement: str, *parameters: object) -> list[Any]:
        """Runs a statement in which ``{table}`` and ``{keys}`` stand for the tables."""
        names = {"{table}": "Sessions", "{keys}": "DataProtectionKeys"}
        for place, name in names.items():
            statement = statement.replace(place, f'"{self.schema}"."{name}"')
        return self.server.execute(statement, *parameters)

    def entries(self) -> dict[str, bytes]:
        rows = self.execute("""SELECT "Id", "Value" FROM {table} WHERE "Id" NOT LIKE 'kr.%'""")
        return {key: bytes(value) for key, value in rows}

    def locks(self) -> int:
        statement = (
            'SELECT count(*) FROM {table} WHERE "ExpiresAtTime" >= clock_timestamp() '
            """AND "Id" LIKE 'kr.lock:%' AND "Id" NOT LIKE 'kr.lock:kr.%'"""
        )
        return int(self.execute(statement)[0][0])

    def keys(self) -> list[str]:
        return [row[0] for row in self.execute('SELECT "Xml" FROM {keys}')]

    def kill(self) -> None:
        self.server.stop(signal.SIGKILL)
        self._alive = False

    def start(self) -> None:
        self.server.start()
        self._alive = True

    def pause(self) -> None:
        self.server.pause()

    def resume(self) -> None:
        self.server.resume()

    def empty(self) -> None:
        self.execute("TRUNCATE {table}, {keys}")

    def lose_keys(self) -> None:
        self.execute("DELETE FROM {keys}")

    def restore(self) -> None:
        if self._alive:
            self.server.resume()
        else:
            self.start()
        self.server.execute(f'DROP SCHEMA "{self.schema}" CASCADE')


@functools.cache
def _redis_server() -> RedisServer:
    """This process's Redis. It keeps its entries in a file, so that a crash loses none."""
    server = RedisServer("--appendonly", "yes", "--appendfsync", "no")
    atexit.register(server.close)
    return server


@functools.cache
def _postgres_server() -> PostgresServer:
    """This process's PostgreSQL server."""
    server = PostgresServer()
    server.start()
    atexit.register(server.__exit__)
    return server
