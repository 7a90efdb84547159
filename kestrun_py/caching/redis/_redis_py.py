"""What is used of redis-py that is not its public interface, and the public way for versions that were not tested.

The short way takes over the transport of a connection. On a version of redis-py that was not tested with, a connection
is read and written by redis-py's own methods instead: the same commands, slower.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any, ClassVar, Final, Protocol

import redis
from redis.asyncio.connection import AbstractConnection, DefaultParser
from redis.exceptions import (
    AskError,
    ClusterDownError,
    MasterDownError,
    MovedError,
    RedisError,
    ResponseError,
    TryAgainError,
)

__all__ = ["TESTED", "Errors", "Link", "Listener", "is_tested", "open_link"]

_OLDEST: Final = (5, 2)
_NEWEST: Final = (8, 1)
TESTED: Final = "5.2 to 8.1"

_NO_TIMEOUT_SECONDS: Final = 1e8  # replies have deadlines of their own


def is_tested() -> bool:
    """Whether this version of redis-py was tested with."""
    numbers = redis.__version__.split(".")[:2]
    return all(number.isdecimal() for number in numbers) and _OLDEST <= tuple(map(int, numbers)) <= _NEWEST


class Errors(DefaultParser):  # type: ignore[misc, valid-type]
    """redis-py's table of errors, with those of a cluster, which its older versions keep elsewhere."""

    EXCEPTION_CLASSES: ClassVar = {
        **DefaultParser.EXCEPTION_CLASSES,
        "ASK": AskError,
        "CLUSTERDOWN": ClusterDownError,
        "MASTERDOWN": MasterDownError,
        "MOVED": MovedError,
        "TRYAGAIN": TryAgainError,
    }


class Listener(Protocol):
    """What a link hands on what it receives to."""

    def data_received(self, data: bytes) -> None: ...

    def reply_received(self, reply: Any) -> None: ...

    def link_lost(self, error: Exception | None) -> None: ...


class Link(Protocol):
    """The way to the server."""

    host: str

    def write(self, data: bytes) -> None: ...

    def abort(self) -> None: ...


def open_link(connection: AbstractConnection, listener: Listener) -> Link | None:
    """Starts to use a connection that is connected and has no reply outstanding; None if the server has closed it."""
    if not is_tested():
        return _PublicLink(connection, listener)
    stream, writer = connection._reader, connection._writer
    if stream is None or writer is None or stream.at_eof() or writer.transport.is_closing():
        return None
    return _TransportLink(connection, writer.transport, listener)


class _TransportLink(asyncio.Protocol):
    """A transport that was taken over."""

    def __init__(self, connection: AbstractConnection, transport: Any, listener: Listener) -> None:
        self._connection = connection
        self._listener = listener
        self._stream_protocol = transport.get_protocol()
        peer = transport.get_extra_info("peername")
        self.host = str(peer[0]) if isinstance(peer, tuple) else str(peer)
        self.write = transport.write
        self.abort = transport.abort  # does not wait until a stopped server has read what is on its way
        self.data_received = listener.data_received  # type: ignore[method-assign]
        transport.set_protocol(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._stream_protocol.connection_lost(exc)
        self._connection._close()  # type: ignore[no-untyped-call]
        self._listener.link_lost(exc)

    def pause_writing(self) -> None:
        """Nothing waits for the buffer to drain: deadlines bound what a dead server leaves in it."""


class _PublicLink:
    """Reads and writes with the public methods of a connection."""

    def __init__(self, connection: AbstractConnection, listener: Listener) -> None:
        self._connection = connection
        self._listener = listener
        self.host = str(getattr(connection, "host", "") or "")
        self._outgoing: asyncio.Queue[bytes] = asyncio.Queue()
        loop = asyncio.get_running_loop()
        self._tasks = [loop.create_task(self._write_all()), loop.create_task(self._read_all())]

    def write(self, data: bytes) -> None:
        self._outgoing.put_nowait(data)

    def abort(self) -> None:
        for task in self._tasks:
            task.cancel()
        closing = asyncio.get_running_loop().create_task(self._disconnect())
        self._tasks.append(closing)

    async def _disconnect(self) -> None:
        with contextlib.suppress(Exception):
            await self._connection.disconnect(nowait=True)

    async def _write_all(self) -> None:
        with contextlib.suppress(RedisError, OSError):  # the reader meets it, too
            while True:
                await self._connection.send_packed_command([await self._outgoing.get()], check_health=False)

    async def _read_all(self) -> None:
        error: Exception | None = None
        try:
            while True:
                try:
                    reply = await self._connection.read_response(disable_decoding=True, timeout=_NO_TIMEOUT_SECONDS)
                except ResponseError as refusal:
                    reply = refusal
                self._listener.reply_received(reply)
        except (RedisError, OSError) as lost:
            error = lost
        self._listener.link_lost(error)
