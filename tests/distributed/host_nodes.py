"""Hosts of the shared site: in the test's process, and in processes of their own.

Run as a program, it serves the host that its argument describes, and prints the port.
"""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from recording_log import Log
from sample_process import environment
from shared_caches import SharedCache, Verb
from shared_site import SHORTEST_LEASE, Visitor, listening, new_host, visiting

from kestrun_py import KestrunHost
from kestrun_py.sessions import options as session_options

TESTS = Path(__file__).parents[1]


class Node(Visitor):
    """A host in the test's process.

    Attributes:
        host: The host.
        log: What it logs, from Debug on.
    """

    host: KestrunHost
    log: Log


class ProcessNode(Visitor):
    """A host in a process of its own."""

    process: asyncio.subprocess.Process

    def send_signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)


class Nodes:
    """Starts hosts; they end with the test."""

    def __init__(self, stack: AsyncExitStack) -> None:
        self._stack = stack

    async def start(self, cache: SharedCache | Verb, **options: Any) -> Node:
        """Serves a host in this process, with the options of `new_host`."""
        log = Log()
        host = new_host(cache.verb() if isinstance(cache, SharedCache) else cache, logger=log.logger, **options)
        return await self.visit(host, log)

    async def visit(self, host: KestrunHost, log: Log | None = None) -> Node:
        """Serves a host that is ready."""
        port = await self._stack.enter_async_context(listening(host))
        visitor = await self._stack.enter_async_context(visiting(port))
        node = Node(port, visitor._client)
        node.host, node.log = host, log or Log()
        self._stack.callback(_print_alarms, node.log)
        return node

    async def start_process(self, cache: SharedCache, **options: Any) -> ProcessNode:
        """Serves a host in a process of its own."""
        description = json.dumps({"cache": cache.verb(), **options})
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, __file__, description),
            env={**environment(), "PYTHONPATH": f"{TESTS.parent}:{TESTS}"},
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        self._stack.push_async_callback(_end, process)
        assert process.stdout is not None
        port = int(await process.stdout.readline())
        visitor = await self._stack.enter_async_context(visiting(port))
        node = ProcessNode(port, visitor._client)
        node.process = process
        return node


def _print_alarms(log: Log) -> None:
    """Shows with a failed test what its hosts had to say."""
    for text in log.alarms:
        print(text)


async def _end(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        process.kill()
    await process.communicate()


async def serve(description: str) -> None:
    """Serves a host until the standard input ends."""
    session_options._MIN_LEASE_SECONDS = SHORTEST_LEASE  # type: ignore[misc]
    async with listening(new_host(**json.loads(description))) as port:
        print(port, flush=True)
        await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(serve(sys.argv[1]))
