"""A small, steady HTTP client: each of its connections sends the next request when it has the last answer.

As a process it takes one order after the other on stdin, and answers each on stdout; see `Client`.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Self

ROOT = Path(__file__).parent.parent.parent


class Connection(asyncio.Protocol):
    """One keep-alive connection that sends one request again and again."""

    def __init__(self, request: bytes, count: list[int], done: asyncio.Event) -> None:
        self._request = request
        self._count = count
        self._done = done
        self._buffer = b""
        self._length = -1
        self.errors = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._send()

    def _send(self) -> None:
        if self._count[0] <= 0:
            self._count[1] -= 1
            if self._count[1] == 0:
                self._done.set()
            return
        self._count[0] -= 1
        self._transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if self._length < 0:
            end = self._buffer.find(b"\r\n\r\n")
            if end < 0:
                return
            head = self._buffer[:end].lower()
            self.errors += not head.startswith(b"http/1.1 200")
            at = head.find(b"content-length: ")
            stop = head.find(b"\r\n", at)
            self._length = end + 4 + int(head[at + 16 : stop if stop > 0 else None])
        if len(self._buffer) >= self._length:
            self._buffer, self._length = b"", -1
            self._send()


async def login(port: int) -> str:
    """Starts a session and returns its cookie, as the Cookie header has it; empty if there is none."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET /login HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")
    head = (await reader.read()).decode("latin-1")
    writer.close()
    for line in head.split("\r\n"):
        name, _, value = line.partition(": ")
        if name.lower() == "set-cookie":
            return value.partition(";")[0]
    return ""


async def run(port: int, path: str, connections: int, requests: int, cookies: Sequence[str]) -> tuple[float, int]:
    """Sends `requests` requests; returns the seconds they took and how many were not answered with 200."""
    loop = asyncio.get_running_loop()
    count, done = [requests, connections], asyncio.Event()
    texts = [f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nCookie: {cookie}\r\n\r\n" for cookie in cookies]
    started = time.perf_counter()
    made = [
        await loop.create_connection(
            partial(Connection, texts[i % len(texts)].encode(), count, done), "127.0.0.1", port
        )
        for i in range(connections)
    ]
    await done.wait()
    elapsed = time.perf_counter() - started
    for transport, _ in made:
        transport.close()
    return elapsed, sum(protocol.errors for _, protocol in made)


class Client:
    """`run` in a process of its own, which stays for many runs."""

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.load"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate()

    def run(self, port: int, path: str, connections: int, requests: int, cookies: Sequence[str]) -> tuple[float, int]:
        """As the function `run`."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps([port, path, connections, requests, cookies]) + "\n")
        self._process.stdin.flush()
        elapsed, errors = json.loads(self._process.stdout.readline())
        return elapsed, errors


if __name__ == "__main__":
    for order in sys.stdin:
        print(json.dumps(asyncio.run(run(*json.loads(order)))), flush=True)
