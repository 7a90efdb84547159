"""A small, steady HTTP client: each of its connections sends the next request when it has the last answer."""

from __future__ import annotations

import asyncio
import sys
import time


class Connection(asyncio.Protocol):
    """One keep-alive connection, with a session of its own or one given to it."""

    def __init__(self, path: str, cookie: str, count: list[int], done: asyncio.Event) -> None:
        head = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n"
        self._request = (head + (f"Cookie: {cookie}\r\n" if cookie else "") + "\r\n").encode()
        self._count = count
        self._done = done
        self._buffer = b""
        self._length = -1
        self.errors = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
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
    """Starts a session and returns its cookie, as the Cookie header has it."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET /login HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")
    head = (await reader.read()).decode("latin-1")
    writer.close()
    for line in head.split("\r\n"):
        name, _, value = line.partition(": ")
        if name.lower() == "set-cookie":
            return value.partition(";")[0]
    return ""


async def run(port: int, path: str, connections: int, requests: int, cookies: list[str]) -> tuple[float, int]:
    """Sends `requests` requests; returns the seconds they took and how many were not answered with 200."""
    loop = asyncio.get_running_loop()
    count, done = [requests, connections], asyncio.Event()
    started = time.perf_counter()
    made = [
        await loop.create_connection(
            lambda i=i: Connection(path, cookies[i % len(cookies)], count, done), "127.0.0.1", port
        )
        for i in range(connections)
    ]
    await done.wait()
    elapsed = time.perf_counter() - started
    for transport, _ in made:
        transport.close()
    return elapsed, sum(protocol.errors for _, protocol in made)


if __name__ == "__main__":
    port, path, connections, requests = int(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    elapsed, errors = asyncio.run(run(port, path, connections, requests, sys.argv[5:] or [""]))
    print(elapsed, errors)
