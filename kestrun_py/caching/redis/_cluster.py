"""Which node of a Redis Cluster holds a key."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Final

from redis.crc import REDIS_CLUSTER_HASH_SLOTS, key_slot

from kestrun_py.caching.redis._connect import Connector
from kestrun_py.caching.redis._node import Node
from kestrun_py.caching.redis.options import Endpoint, address
from kestrun_py.errors import CacheTimeoutError, CacheUnavailableError
from kestrun_py.logging import Logger

__all__ = ["SlotMap"]

_DISCOVERY_PAUSE_SECONDS: Final = 0.5  # between two discoveries, however many requests ask for one


class SlotMap:
    """The slots of a cluster and the nodes that serve them.

    Args:
        connector: What asks for the slots and opens connections.
        logger: Where lost and restored connections are reported.
    """

    def __init__(self, connector: Connector, logger: Logger) -> None:
        self._connector = connector
        self._logger = logger
        self._slots: list[Node | None] = [None] * REDIS_CLUSTER_HASH_SLOTS
        self._nodes: dict[Endpoint, Node] = {}
        self._discovery: asyncio.Task[None] | None = None
        self._discovered = -_DISCOVERY_PAUSE_SECONDS
        self._closed = False

    def node_of(self, key: str) -> Node | None:
        """The node that serves a key's slot, or None if there is none."""
        return self._slots[key_slot(key.encode())]

    def node_at(self, endpoint: Endpoint) -> Node:
        """The node at an address."""
        node = self._nodes.get(endpoint)
        if node is None:
            node = self._nodes[endpoint] = Node(
                address(endpoint),
                lambda on_lost: self._connector.open(endpoint, on_lost=on_lost),
                self._logger,
            )
        return node

    def move(self, slot: int, endpoint: Endpoint) -> None:
        """Notes what a node said about a slot that it does not serve; the rest of the map may be old, too."""
        self._slots[slot] = self.node_at(endpoint)
        self.discover_soon()

    async def discover(self, deadline: float | None = None, *, first: Endpoint | None = None) -> None:
        """Asks the cluster who serves what.

        Args:
            deadline: The loop's time to wait until.
            first: A node that is known to answer.

        Raises:
            CacheUnavailableError: No node answers.
        """
        if self._closed:
            raise CacheUnavailableError("The Redis cache is closed.")
        try:
            async with asyncio.timeout_at(deadline):
                await asyncio.shield(self.discover_soon(first))
        except TimeoutError:
            raise CacheTimeoutError("The Redis cluster did not say in time which node serves what.") from None

    def discover_soon(self, first: Endpoint | None = None) -> asyncio.Task[None]:
        """Joins the discovery that is under way, or begins one."""
        if self._discovery is None:
            self._discovery = asyncio.get_running_loop().create_task(self._discover(first))
            self._discovery.add_done_callback(lambda task: task.cancelled() or task.exception())
        return self._discovery

    async def close(self) -> None:
        self._closed = True
        if self._discovery is not None:
            self._discovery.cancel()
            await asyncio.gather(self._discovery, return_exceptions=True)
        for node in self._nodes.values():
            await node.close()

    async def _discover(self, first: Endpoint | None) -> None:
        loop = asyncio.get_running_loop()
        try:
            await asyncio.sleep(self._discovered + _DISCOVERY_PAUSE_SECONDS - loop.time())
            found = await self._connector.find_slots(self._candidates(first))
            nodes: dict[Endpoint | None, Node] = {at: self.node_at(at) for at in set(found.values())}
            self._slots = [nodes.get(found.get(slot)) for slot in range(REDIS_CLUSTER_HASH_SLOTS)]
        finally:
            self._discovered = loop.time()
            self._discovery = None
        for endpoint in self._nodes.keys() - nodes.keys():
            if not self._nodes[endpoint].wanted:  # it has left the cluster, or is down
                await self._nodes.pop(endpoint).close()

    def _candidates(self, first: Endpoint | None) -> Iterable[Endpoint]:
        """The nodes to ask for the slots: those first that are likely to answer at once."""
        connected = sorted(self._nodes, key=lambda at: self._nodes[at].wire is None)
        configured = [at for at in self._connector.endpoints() if at is not None]
        return dict.fromkeys([*([] if first is None else [first]), *connected, *configured])
