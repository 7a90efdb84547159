"""One connection to a Redis server that all requests of the process share.

Connecting, TLS, the login and the texts of errors are redis-py's. Once that is done, the transport is taken
over: the commands of a turn of the event loop are written together, and replies are matched with their
callers in order. A slot in that order is never given up before its reply has come, whatever became of the
caller.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections import deque
from collections.abc import Callable
from typing import Any, Final, TypeAlias, cast

import hiredis
from redis.asyncio.connection import AbstractConnection
from redis.exceptions import (
    InvalidResponse,
)

from kestrun_py.caching.redis._redis_py import Errors, open_link
from kestrun_py.concurrency.coalescing import Gathered
from kestrun_py.errors import CacheTimeoutError, CacheUnavailableError

__all__ = ["ConnectionLostError", "Reply", "Wire", "pack"]

Reply: TypeAlias = Any
"""bytes, int, None, a list of these, or (not raised) an exception of redis-py."""

pack: Final[Callable[[tuple[bytes | str | int, ...]], bytes]] = cast(Any, hiredis.pack_command)
"""Turns a command and its arguments into RESP."""

_MORE: Final = object()

_MOST_TURNS: Final = 4  # of the event loop that a command waits for others; a system call costs more than a command
_BATCH_COMMANDS: Final = 24  # commands that are written at once, so that the server works on them while others are made


class ConnectionLostError(CacheUnavailableError):
    """A connection went away with a command on its way: the server may or may not have seen it."""

    reported = True  # whoever keeps up the connection logs that it was lost


class Wire:
    """A connected and pipelined connection.

    Args:
        connection: A connection of redis-py that is connected and has no reply outstanding.
        where: The server's address, for messages.
        stall: Seconds without a single byte after which a server that owes an overdue reply counts as gone.
        on_lost: Called once when the connection has ended, with a reason, unless `close` ended it.
        on_push: Called with what the server sends unasked; without it such a message ends the connection.

    Raises:
        ConnectionLostError: The server has closed the connection already.
    """

    def __init__(
        self,
        connection: AbstractConnection,
        *,
        where: str,
        stall: float,
        on_lost: Callable[[str], None],
        on_push: Callable[[Reply], None] | None = None,
    ) -> None:
        loop = asyncio.get_running_loop()
        self.where = where
        self.ended = False
        self._connection = connection
        self._stall = stall
        self._on_lost = on_lost
        self._on_push = on_push
        self._loop = loop
        self._time = loop.time
        self._create_future = loop.create_future
        self._slots: deque[tuple[float, asyncio.Future[Reply]]] = deque()
        self._outgoing: list[bytes] = []
        self._flushing = Gathered(loop, self._flush, _MOST_TURNS)
        self._heard = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = math.inf
        self._closing = False
        self._replies = hiredis.Reader(
            protocolError=InvalidResponse, replyError=Errors.parse_error, notEnoughData=_MORE
        )
        link = open_link(connection, self)
        if link is None:
            raise ConnectionLostError(f"Redis at {where} closed the connection.")
        self._link = link

    @property
    def host(self) -> str:
        """The server's address, without a port."""
        return self._link.host

    def send(self, command: bytes, deadline: float) -> asyncio.Future[Reply]:
        """Queues a packed command; what is queued while the event loop is busy is written at once.

        Args:
            command: The command in RESP.
            deadline: The loop's time to wait until.

        Returns:
            The reply to come, an error reply included. It fails with `CacheTimeoutError` when no reply came
            in time, and with `ConnectionLostError` when none will come.
        """
        future = self._create_future()
        if self.ended:
            future.set_exception(ConnectionLostError(f"The connection to Redis at {self.where} was lost."))
            return future
        slots = self._slots
        if not slots:
            self._heard = self._time()
        slots.append((deadline, future))
        if deadline < self._timer_at:
            self._set_timer(deadline)
        self._outgoing.append(command)
        if len(self._outgoing) >= _BATCH_COMMANDS:
            self._flush()
        else:
            self._flushing.soon()
        return future

    def write(self, command: bytes) -> None:
        """Sends a command that is answered by `on_push` messages."""
        self._link.write(command)

    async def close(self) -> None:
        """Ends the connection; what is outstanding fails."""
        self._closing = True
        self._link.abort()
        with contextlib.suppress(Exception):
            await self._connection.disconnect()
        self._end("the cache was closed")

    # What the link receives

    def data_received(self, data: bytes) -> None:
        replies = self._replies
        try:
            replies.feed(data)
            while (reply := replies.gets()) is not _MORE:
                self.reply_received(reply)
                if self.ended:
                    return
        except InvalidResponse:
            self._end("the server sent what is no Redis reply")

    def reply_received(self, reply: Reply) -> None:
        self._heard = self._time()
        if self._slots:
            future = self._slots.popleft()[1]
            if not future.done():
                future.set_result(reply)
        elif self._on_push is not None:
            self._on_push(reply)
        else:
            self._end("the server sent a reply without a command")

    def link_lost(self, error: Exception | None) -> None:
        self._end("the server closed the connection" if error is None else str(error))

    # Internals

    def _flush(self) -> None:
        outgoing = self._outgoing
        if outgoing and not self.ended:
            self._link.write(outgoing[0] if len(outgoing) == 1 else b"".join(outgoing))
        outgoing.clear()

    def _set_timer(self, when: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer_at = when
        self._timer = self._loop.call_at(when, self._on_timer)

    def _on_timer(self) -> None:
        """Fails the callers whose time has passed; the timer stands at the oldest deadline, not at each."""
        self._timer, self._timer_at = None, math.inf
        if not self._slots:
            return
        now = self._time()
        following = earliest = math.inf
        for deadline, future in self._slots:
            earliest = min(earliest, deadline)  # also of commands that were given up: their replies are still to come
            if future.done():
                continue
            if deadline <= now:
                future.set_exception(CacheTimeoutError(f"Redis at {self.where} did not answer in time."))
            else:
                following = min(following, deadline)
        silent_until = max(earliest, self._heard + self._stall)
        if silent_until <= now:
            self._end(f"the server has been silent for {now - self._heard:.1f} seconds")
        else:
            self._set_timer(min(following, silent_until))

    def _end(self, reason: str) -> None:
        if self.ended:
            return
        self.ended = True
        if self._timer is not None:
            self._timer.cancel()
        for _, future in self._slots:
            if not future.done():
                future.set_exception(
                    ConnectionLostError(f"The connection to Redis at {self.where} was lost: {reason}.")
                )
        self._slots.clear()
        if not self._closing:
            self._link.abort()
            self._on_lost(reason)
