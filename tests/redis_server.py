"""Real Redis servers for the tests: started on free ports, ended by their pid."""

from __future__ import annotations

import asyncio
import atexit
import functools
import os
import shutil
import signal
import subprocess
import tempfile
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import pytest
import redis
from ports import free_port, listens
from waiting import wait_until

from kestrun_py.caching.redis import RedisCache

# A node of a cluster also listens on its port plus this.
_BUS_OFFSET: Final = 10_000


def redis_program() -> str:
    """The path of redis-server; skips the test if there is none."""
    program = shutil.which("redis-server")
    if program is not None:
        return program
    reason = "redis-server is not installed"
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)


def execute(client: redis.Redis, *command: Any) -> Any:
    """Sends a command of which redis-py knows no types."""
    return client.execute_command(*command)  # type: ignore[no-untyped-call]


class RedisServer:
    """A redis-server process, in a folder of its own.

    Args:
        arguments: Its further command line.
        password: The password of the default user.
        sentinel: The configuration file of a Sentinel, which it rewrites; then this is one.
    """

    def __init__(self, *arguments: str, password: str | None = None, sentinel: Path | None = None) -> None:
        self._program = redis_program()
        self._folder = tempfile.mkdtemp(prefix="kestrun-redis-")
        self._arguments = [*arguments, *(["--requirepass", password] if password else [])]
        self._sentinel = sentinel
        self._process: subprocess.Popen[bytes] | None = None
        self.password = password
        self.port = 0
        self.start()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def client(self) -> redis.Redis:
        """A plain blocking client, to look behind the cache."""
        return redis.Redis(host="127.0.0.1", port=self.port, password=self.password, socket_timeout=30)

    def start(self, *arguments: str, wait: bool = True) -> None:
        """Starts the server, on the port that it had."""
        for _ in range(5):
            port = self.port or free_port(_BUS_OFFSET)
            common = ["--port", str(port), "--bind", "127.0.0.1", "--dir", self._folder]
            if self._sentinel is not None:
                command = [self._program, str(self._sentinel), "--sentinel", *common]
            else:
                debugging = ["--save", "", "--enable-debug-command", "yes", "--repl-diskless-sync-delay", "0"]
                command = [self._program, *common, *debugging, *self._arguments, *arguments]
            self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
            wait_until(lambda: self._ended() or listens(port))  # noqa: B023 - ends before the next port is drawn
            if not self._ended():
                self.port = port
                if wait:
                    wait_until(self._answers)
                return
        raise RuntimeError("redis-server does not start")

    def kill(self) -> None:
        """Ends the server at once, with SIGKILL."""
        assert self._process is not None
        self._process.kill()
        self._process.wait(30)

    def pause(self) -> None:
        os.kill(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    def close(self) -> None:
        self.kill()
        shutil.rmtree(self._folder, ignore_errors=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _ended(self) -> bool:
        assert self._process is not None
        return self._process.poll() is not None

    def _answers(self) -> bool:
        with self.client() as client, suppress(redis.RedisError):
            return bool(client.ping()) and client.info().get("loading", 0) == 0
        return False


class RedisCluster:
    """A cluster of primaries that share the slots."""

    def __init__(self, nodes: int = 3) -> None:
        self.servers = [RedisServer("--cluster-enabled", "yes") for _ in range(nodes)]
        clients = [server.client() for server in self.servers]
        share = -(-16384 // nodes)
        for index, client in enumerate(clients):
            execute(client, "CLUSTER SET-CONFIG-EPOCH", index + 1)
            execute(client, "CLUSTER ADDSLOTS", *range(index * share, min((index + 1) * share, 16384)))
            execute(client, "CLUSTER MEET", "127.0.0.1", self.servers[0].port)
        wait_until(lambda: all(self._is_whole(client, nodes) for client in clients))
        for client in clients:
            client.close()

    @property
    def configuration(self) -> str:
        return ",".join(server.address for server in self.servers)

    def server_of(self, slot: int) -> RedisServer:
        """The server that serves a slot at first."""
        return self.servers[slot // -(-16384 // len(self.servers))]

    def close(self) -> None:
        for server in self.servers:
            server.close()

    @staticmethod
    def _is_whole(client: redis.Redis, nodes: int) -> bool:
        info, slots = execute(client, "CLUSTER INFO"), execute(client, "CLUSTER SLOTS")
        return info["cluster_state"] == "ok" and len(slots) == nodes == int(info["cluster_known_nodes"])


@functools.cache
def shared_server() -> RedisServer:
    """A server for all tests of this process that do not harm it."""
    server = RedisServer()
    atexit.register(server.close)
    return server


@functools.cache
def shared_cluster() -> RedisCluster:
    """A cluster for all tests of this process that do not harm it."""
    cluster = RedisCluster()
    atexit.register(cluster.close)
    return cluster


@asynccontextmanager
async def open_redis_cache(
    configuration: object = None, *, instance_name: str | None = None
) -> AsyncIterator[RedisCache]:
    """A cache on the shared server, under an instance name of its own."""
    if configuration is None:
        configuration = shared_server().address
    name = f"{uuid.uuid4()}:" if instance_name is None else instance_name
    cache = RedisCache(configuration, instance_name=name)
    try:
        yield cache
    finally:
        await cache.close()


@asynccontextmanager
async def open_redis_cluster_cache() -> AsyncIterator[RedisCache]:
    """A cache on the shared cluster of three nodes, under an instance name of its own."""
    async with open_redis_cache(shared_cluster().configuration) as cache:
        yield cache


class SlowProxy:
    """A TCP proxy that passes everything on, and what the server says only after a delay.

    Args:
        port: The server's port.
        delay: Seconds by which each piece of an answer is late; may be changed at any time.
    """

    def __init__(self, port: int, delay: float) -> None:
        self._target = port
        self.delay = delay
        self.port = 0
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._server is not None
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            upstream, downstream = await asyncio.open_connection("127.0.0.1", self._target)
            try:
                await asyncio.gather(
                    self._pass(reader, downstream, late=False), self._pass(upstream, writer, late=True)
                )
            finally:
                downstream.close()
        except (asyncio.CancelledError, OSError):
            pass
        finally:
            writer.close()
            self._tasks.discard(task)

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, late: bool) -> None:
        pieces: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()
        sender = asyncio.create_task(self._send(pieces, writer))
        loop = asyncio.get_running_loop()
        try:
            data = b"-"
            while data:
                data = await reader.read(65536)
                pieces.put_nowait((loop.time() + (self.delay if late else 0), data))
            await sender
        finally:
            sender.cancel()

    @staticmethod
    async def _send(pieces: asyncio.Queue[tuple[float, bytes]], writer: asyncio.StreamWriter) -> None:
        loop = asyncio.get_running_loop()
        while True:
            due, data = await pieces.get()
            await asyncio.sleep(due - loop.time())
            if not data:
                break
            writer.write(data)
            await writer.drain()
        writer.close()
