"""Sends commands to whichever server holds a key, over one shared connection for each server."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Final, NoReturn

import redis
from redis.exceptions import (
    AskError,
    AuthenticationError,
    ClusterDownError,
    MovedError,
    NoScriptError,
    ReadOnlyError,
    ResponseError,
)

from kestrun_py.caching.redis._cluster import SlotMap
from kestrun_py.caching.redis._connect import Connector
from kestrun_py.caching.redis._node import Node
from kestrun_py.caching.redis._redis_py import TESTED, is_tested
from kestrun_py.caching.redis._scripts import Script
from kestrun_py.caching.redis._server import check_version, identify, problems_of
from kestrun_py.caching.redis._wire import ConnectionLostError, Reply, Wire, pack
from kestrun_py.caching.redis.options import Endpoint, RedisOptions
from kestrun_py.errors import CacheUnavailableError
from kestrun_py.logging import Logger

__all__ = ["RedisClient"]

_ASKING: Final = pack((b"ASKING",))
_PING: Final = pack((b"PING",))
_ATTEMPTS: Final = 8  # connecting, redirections and one repetition together
_EARLY_ATTEMPTS: Final = 2  # attempts after which the nodes of a cluster get time to agree on who serves a slot
_FIRST_PAUSE_SECONDS: Final = 0.02  # the first time for that; it doubles


class RedisClient:
    """One server, the primary that Sentinels name, or a cluster: which of them shows at the first connection.

    Args:
        options: Where the servers are.
        logger: Where lost and restored connections are reported.
    """

    def __init__(self, options: RedisOptions, logger: Logger) -> None:
        self.options = options
        self._logger = logger
        self._connector = Connector(options)
        if not is_tested():
            logger.warning(
                "redis-py {Version} was not tested with ({Tested} were): the Redis cache works, but takes more CPU.",
                redis.__version__,
                TESTED,
            )
        self._entry = Node(options.where, self._open_entry, logger)
        self._entry_at: Endpoint | None = None
        self._slots = SlotMap(self._connector, logger)
        self._cluster: SlotMap | None = None  # the slots, once a server has said that there are any

    @property
    def kind(self) -> str:
        """What the servers were found to be."""
        if self._cluster is not None:
            return "cluster"
        return "standalone" if self.options.service_name is None else "primary by Sentinel"

    def start(self) -> None:
        """Begins to connect; never fails."""
        self._entry.connect_soon()

    async def close(self) -> None:
        await self._entry.close()
        await self._slots.close()

    # Commands

    async def run(
        self, script: Script, key: str, *arguments: bytes | str | int, timeout: float, repeat: bool = False
    ) -> Reply:
        """Runs a script on a key.

        Args:
            script: The script.
            key: Its key.
            arguments: Its further arguments.
            timeout: Seconds to wait.
            repeat: Whether running it twice does no harm, so that it is sent again if the connection is lost.

        Raises:
            CacheUnavailableError: There was no connection, it was lost, the server refused, or did not answer
                in time.
        """
        deadline = time.monotonic() + timeout  # the event loop's clock; to ask which loop runs costs a system call
        command = pack((b"EVALSHA", script.sha, 1, key, *arguments))
        node = self._node_of(key)
        if node is not None and node.wire is not None:
            try:
                reply = await node.wire.send(command, deadline)
            except ConnectionLostError:
                if not repeat:
                    raise
                repeat = False
            else:
                if not isinstance(reply, Exception):  # as nearly always; any error means that nothing was done
                    return reply
        reply = await self.send(key, command, deadline=deadline, repeat=repeat)
        if reply.__class__ is not NoScriptError:
            return reply
        command = pack((b"EVAL", script.source, 1, key, *arguments))
        return await self.send(key, command, deadline=deadline, repeat=repeat)

    async def send(self, key: str, command: bytes, *, deadline: float, repeat: bool = False) -> Reply:
        """Sends a packed command to the server that holds a key; as `run`, but returns a `NoScriptError`.

        Args:
            key: The key.
            command: The command.
            deadline: The loop's time to wait until.
            repeat: As for `run`.
        """
        for attempt in range(_ATTEMPTS):
            if attempt > _EARLY_ATTEMPTS:
                pause = _FIRST_PAUSE_SECONDS * 2 ** (attempt - _EARLY_ATTEMPTS - 1)
                await asyncio.sleep(min(pause, deadline - asyncio.get_running_loop().time()))
            node = self._node_of(key)
            if node is None or (wire := node.wire) is None:
                await self._connect(key, deadline)
                continue
            try:
                reply = await wire.send(command, deadline)
            except ConnectionLostError:
                if not repeat:
                    raise
                repeat = False
                continue
            if type(reply) is AskError:  # a MovedError is one, too
                node, wire = await self._ask(reply, wire, deadline)
                reply = await wire.send(command, deadline)
            if not isinstance(reply, Exception) or isinstance(reply, NoScriptError):
                return reply
            if isinstance(reply, MovedError):
                await self._move(reply, wire, deadline)
            elif not isinstance(reply, AskError):
                await self._refuse(reply, node, wire)
        raise CacheUnavailableError(f"Redis at {self.options.where} gave no final answer.")

    async def ping(self, timeout: float) -> tuple[float, str, tuple[str, ...]]:
        """Returns the round trip in seconds, the server's version, and how it may lose what it stores."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout
        wire = await self._entry.connected(deadline)
        info = await identify(wire, deadline)
        problems = await problems_of(wire, info, deadline)
        sent = loop.time()
        reply = await wire.send(_PING, deadline)
        if isinstance(reply, Exception):
            await self._refuse(reply, self._entry, wire)
        return loop.time() - sent, info.get("redis_version", "unknown"), problems

    async def listen(self, on_message: Callable[[Reply], None], on_lost: Callable[[str], None]) -> Wire:
        """Opens a connection of its own for subscriptions, to the server that was connected last."""
        return await self._connector.open(self._entry_at, on_lost=on_lost, on_push=on_message)

    # Internals

    def _node_of(self, key: str) -> Node | None:
        return self._entry if self._cluster is None else self._cluster.node_of(key)

    async def _connect(self, key: str, deadline: float) -> None:
        """Connects to the node of a key; in a cluster, another node may have taken its place."""
        cluster = self._cluster
        if cluster is None:
            await self._entry.connected(deadline)
            return
        node = cluster.node_of(key)
        problem = CacheUnavailableError("No node of the Redis cluster serves the slot of this entry.")
        if node is not None:
            try:
                await node.connected(deadline)
                return
            except CacheUnavailableError as error:
                problem = error
        await cluster.discover(deadline)
        if cluster.node_of(key) is node:
            raise problem

    async def _move(self, moved: MovedError, wire: Wire, deadline: float) -> None:
        if self._cluster is None:
            await self._slots.discover(deadline)
            self._cluster = self._slots
        self._cluster.move(moved.slot_id, (moved.host or wire.host, moved.port))

    async def _ask(self, asked: AskError, wire: Wire, deadline: float) -> tuple[Node, Wire]:
        """Finds the node that a key's slot is being moved to, and has it take the next command for the slot."""
        node = self._slots.node_at((asked.host or wire.host, asked.port))
        wire = await node.connected(deadline)
        wire.send(_ASKING, deadline).cancel()  # its reply keeps its place and is not used
        return node, wire

    async def _refuse(self, error: Exception, node: Node, wire: Wire) -> NoReturn:
        """Raises an error reply; some of them mean that this connection leads nowhere any more."""
        if isinstance(error, AuthenticationError | ReadOnlyError) or "READONLY" in str(error):
            await node.drop(wire)
        elif isinstance(error, ClusterDownError) and self._cluster is not None:
            self._cluster.discover_soon()
        raise CacheUnavailableError(f"Redis at {wire.where} refuses to serve: {_text(error)}")

    async def _open_entry(self, on_lost: Callable[[str], None]) -> Wire:
        """Connects to the first endpoint that is a primary, or part of a cluster; to the one it was last, if it can."""
        if self.options.service_name is not None:
            return await self._open_primary(await self._connector.find_primary(), on_lost)
        problems: list[str] = []
        for endpoint in sorted(self._connector.endpoints(), key=lambda endpoint: endpoint != self._entry_at):
            try:
                return await self._open_primary(endpoint, on_lost)
            except CacheUnavailableError as error:
                problems.append(str(error))
        raise CacheUnavailableError(" ".join(problems))

    async def _open_primary(self, endpoint: Endpoint | None, on_lost: Callable[[str], None]) -> Wire:
        wire = await self._connector.open(endpoint, on_lost=on_lost)
        try:
            # A step of its own, which takes as long as one of those before it may.
            info = await identify(wire, asyncio.get_running_loop().time() + self.options.connect_timeout / 1000)
            check_version(info, wire.where)
            if info.get("cluster_enabled") == "1":
                await self._slots.discover(first=endpoint)
                self._cluster = self._slots
            elif info.get("role", "master") != "master":
                raise CacheUnavailableError(f"Redis at {wire.where} is a read-only replica.")
        except BaseException:
            await wire.close()
            raise
        self._entry_at = endpoint
        return wire


def _text(error: Exception) -> str:
    """What the server said; redis-py has taken the first word off the errors that it has a class for."""
    return str(error) if type(error) is ResponseError else f"{type(error).__name__}: {error}"
