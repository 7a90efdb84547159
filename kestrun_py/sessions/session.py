"""A request's session: a small dictionary of bytes, kept by the host's cache between requests.

It mirrors ASP.NET Core's ``ISession`` and its helpers for strings and 32-bit integers. Nothing is read before the
first access, and nothing is written before the request ends.
"""

from __future__ import annotations

import asyncio
import re
import secrets
import threading
import uuid
from struct import Struct
from typing import Any, Final, Protocol

import orjson
from multidict import CIMultiDictProxy

import kestrun_py.sessions.blob as blob
from kestrun_py.caching import Lease
from kestrun_py.concurrency.bridge import can_wait, runs_on_loop, wait
from kestrun_py.errors import (
    ArgumentError,
    SessionClosedError,
    SessionNotLoadedError,
    SessionReadOnlyError,
    SessionTooLargeError,
    SessionUnavailableError,
)
from kestrun_py.sessions.outcome import Origin

__all__ = ["Session", "SessionSource", "SessionState"]

_INT32: Final = Struct(">i")
_INT32_MIN: Final = -(2**31)
_INT32_MAX: Final = 2**31 - 1
_SURROGATE: Final = re.compile("[\ud800-\udfff]")


class SessionState:
    """What was loaded for a session, and where it came from.

    Attributes:
        origin: Where the session came from.
        key: The session key that the cookie carried, if any.
        session_id: The 16 bytes of the id inside the stored session; empty until one is needed.
        values: The values by key.
        size: The bytes that they take when stored.
        lease: The exclusive right to the stored session, if one is held.
        queued: Whether this process's queue for the session key has to be left at the end.
        available: Whether the cache could be read.
        refused_until: When a write is accepted again, as time of the monotonic clock; for a session that was moved.
    """

    lease: Lease | None = None
    refused_until = 0.0
    queued = False

    def __init__(
        self,
        origin: Origin,
        key: str | None = None,
        session_id: bytes = b"",
        values: dict[str, bytes] | None = None,
        size: int = blob.HEADER_SIZE,
        *,
        available: bool = True,
    ) -> None:
        self.origin = origin
        self.key = key
        self.session_id = session_id
        self.values: dict[str, bytes] = {} if values is None else values
        self.size = size
        self.available = available

    def ensure_id(self) -> bytes:
        """Returns the session id, drawn at random if the session has none yet."""
        if not self.session_id:
            self.session_id = secrets.token_bytes(16)
        return self.session_id


class SessionSource(Protocol):
    """Where a session is loaded from: the `SessionLoader`."""

    max_size: int
    """The most bytes that a stored session may have."""

    def load_at_once(self, headers: CIMultiDictProxy[str]) -> SessionState | None:
        """`load` under the lock, if nothing has to be waited for; else None."""

    async def load(self, headers: CIMultiDictProxy[str], *, client: str, read_only: bool) -> SessionState:
        """Loads the session whose cookie is among a request's headers."""

    def give_back(self, state: SessionState) -> None:
        """Releases what was loaded after the request had ended."""


class Session:
    """The session of the request that is being handled.

    Scripts use it without `await`; the first access loads it. Other code (a middleware, a task that a script has
    started) calls ``await session.load()`` first.

    Keys are text, compared exactly; values are bytes, with helpers for text, 32-bit integers and JSON.

    Args:
        source: Loads the session; asked for one load at a time.
        headers: The request's headers. A session does not refer to its request: a cycle would leave each request to
            the garbage collector.
        client: The client's address, for the log.

    Attributes:
        read_only: Whether a write is an error, and the session is loaded without its lock.
        accessed: Whether the request has used it; loading it alone does not count.
        changed: Whether a value was set or removed.
        emptied: Whether it was cleared, or lost its last value, at any time during the request.
        abandoned: Whether it was ended together with its cookie.
        renewed: Whether a new key was asked for.
        ended: Whether it was committed or discarded.
        started: Whether it was stored under a new key, which `set_cookie` gives to the client.
        set_cookie: The Set-Cookie header for the response, if the client's cookie changes.
    """

    read_only = False
    accessed = False
    changed = False
    emptied = False
    abandoned = False
    renewed = False
    ended = False
    started = False
    set_cookie: str | None = None
    _state: SessionState | None = None
    _loading = False
    _waiting: tuple[asyncio.Future[None], ...] = ()
    _closed = False

    def __init__(self, source: SessionSource, headers: CIMultiDictProxy[str], client: str | None = None) -> None:
        self._source = source
        self._headers = headers
        self._client = client
        self._lock = threading.Lock()

    # Loading and ending

    @property
    def state(self) -> SessionState | None:
        """What was loaded; None as long as the request has not used its session."""
        return self._state

    def load_at_once(self) -> bool:
        """Loads the session if nothing has to be waited for; called on the event loop.

        Returns:
            Whether the session is loaded now.
        """
        if self._state is None and not (self._loading or self._closed or self.read_only):
            self._state = self._source.load_at_once(self._headers)
        return self._state is not None

    async def load(self) -> None:
        """Loads the session unless it is loaded: waits for its lock and reads it.

        Raises:
            SessionUnavailableError: The cache cannot be read, or the lock was not free, within the I/O timeout.
        """
        while self._state is None:
            if self._closed:
                raise SessionClosedError("The request has ended; its session can no longer be loaded.")
            if self._loading:
                loaded = asyncio.get_running_loop().create_future()
                self._waiting += (loaded,)
                await loaded
                continue
            self._loading = True
            try:
                state = await self._source.load(
                    self._headers, client=self._client or "an unknown address", read_only=self.read_only
                )
                if self._closed:  # the request has ended, and a task or thread of its script goes on
                    self._source.give_back(state)
                else:
                    self._state = state
            except SessionUnavailableError:
                self.accessed = True  # the answer depends on it even if the script has not used it
                raise
            finally:
                self._loading = False
                waiting, self._waiting = self._waiting, ()
                for loaded in waiting:
                    if not loaded.done():
                        loaded.set_result(None)

    @property
    def closed(self) -> bool:
        """Whether the response has started or will start now, so that nothing can be written any more."""
        return self._closed

    def close(self) -> SessionState | None:
        """Ends the session for this request: a later write is an error.

        Returns:
            What was loaded, if anything.
        """
        if not self._closed:
            with self._lock:
                self._closed = True
        return self._state

    def _loaded(self) -> SessionState:
        self.accessed = True
        return self._state or self._load_now()

    def _load_now(self) -> SessionState:
        if self._closed:
            raise SessionClosedError("The request has ended; its session can no longer be loaded.")
        if not can_wait():
            raise SessionNotLoadedError(
                "The session was not loaded yet, and this task or thread cannot load it: access the session once in "
                "the script before starting it, or call await context.session.load()."
            )
        if not (runs_on_loop() and self.load_at_once()):
            wait(self.load())
        assert self._state is not None
        return self._state

    # What a session is

    @property
    def id(self) -> str:
        """The session's id, a GUID in text; not the session key, and no secret. Empty if it could not be read."""
        state = self._loaded()
        if not state.available:
            return ""
        with self._lock:
            return str(uuid.UUID(bytes_le=state.ensure_id()))

    @property
    def is_available(self) -> bool:
        """Whether the session could be read. Only ``on_cache_failure="continue"`` lets a request see False."""
        return self._loaded().available

    @property
    def keys(self) -> list[str]:
        """The keys of all values."""
        held = list(self._loaded().values)  # copied in one step, because a thread of the script may write meanwhile
        return [key.encode("utf-8", "surrogateescape").decode("utf-8", "replace") for key in held]

    # Values

    def get(self, key: str) -> bytes | None:
        """Returns the bytes stored under `key`, or None."""
        self.accessed = True
        state = self._state or self._load_now()
        return state.values.get(_checked_key(key))

    def set(self, key: str, value: bytes) -> None:
        """Stores bytes under `key`.

        Raises:
            ArgumentError: The key has more than 65535 bytes in UTF-8, or the value is not bytes.
            SessionTooLargeError: The session would have more than `max_size` bytes.
            SessionReadOnlyError: The route was mapped with ``session_access="read_only"``.
            SessionClosedError: The response has started, so the session was stored already.
        """
        if not isinstance(value, (bytes, bytearray, memoryview)):
            raise ArgumentError(f"A session value must be bytes, not {type(value).__name__}: set_string, set_json ...")
        self._put(key, bytes(value))

    def _put(self, key: str, value: bytes) -> None:
        state = self._writable()
        key = _checked_key(key)
        with self._lock:
            if self._closed:
                raise _closed_error()
            if not state.available:
                return
            old = state.values.get(key)
            size = state.size + (blob.entry_size(key, value) if old is None else len(value) - len(old))
            if size > self._source.max_size:
                raise SessionTooLargeError(
                    f"The session would have {size} bytes with {key!r}; the limit (max_size) is "
                    f"{self._source.max_size} bytes."
                )
            state.values[key] = value
            state.size = size
            self.changed = True

    def get_string(self, key: str) -> str | None:
        """Returns the text stored under `key`, or None; invalid UTF-8 reads as U+FFFD."""
        value = self.get(key)
        return None if value is None else value.decode("utf-8", "replace")

    def set_string(self, key: str, value: str) -> None:
        """Stores text under `key`, as UTF-8."""
        if not isinstance(value, str):
            raise ArgumentError(f"set_string takes text, not {type(value).__name__}.")
        self._put(key, _utf8(value))

    def get_int32(self, key: str) -> int | None:
        """Returns the 32-bit integer stored under `key`; None if there is none, or fewer than 4 bytes."""
        value = self.get(key)
        return None if value is None or len(value) < 4 else int(_INT32.unpack_from(value)[0])

    def set_int32(self, key: str, value: int) -> None:
        """Stores a 32-bit integer under `key`, as 4 bytes, big-endian.

        Raises:
            ArgumentError: Not an integer from -2147483648 to 2147483647.
        """
        if not isinstance(value, int) or isinstance(value, bool) or not _INT32_MIN <= value <= _INT32_MAX:
            raise ArgumentError(f"set_int32 takes an integer from {_INT32_MIN} to {_INT32_MAX}, not {value!r}.")
        self._put(key, _INT32.pack(value))

    def get_json(self, key: str) -> Any:
        """Returns the value stored under `key` as JSON, or None.

        Raises:
            ArgumentError: What is stored there is not JSON.
        """
        value = self.get(key)
        if value is None:
            return None
        try:
            return orjson.loads(value)
        except orjson.JSONDecodeError as error:
            raise ArgumentError(f"What the session holds under {key!r} is not JSON: {error}.") from None

    def set_json(self, key: str, value: Any) -> None:
        """Stores a value under `key` as JSON.

        Raises:
            ArgumentError: JSON cannot express the value.
        """
        try:
            encoded = orjson.dumps(value)
        except orjson.JSONEncodeError as error:
            raise ArgumentError(f"JSON cannot express the value for {key!r}: {error}.") from None
        self._put(key, encoded)

    def remove(self, key: str) -> None:
        """Removes what is stored under `key`, if anything. A session that loses its last value is removed."""
        key = _checked_key(key)
        state = self._writable()
        with self._lock:
            if self._closed:
                raise _closed_error()
            old = state.values.pop(key, None)
            if old is None:
                return
            state.size -= blob.entry_size(key, old)
            self.changed = True
            if not state.values:
                self._end(state)

    def clear(self) -> None:
        """Removes all values, and with them the session; values set afterwards start a new one."""
        state = self._writable()
        with self._lock:
            if self._closed:
                raise _closed_error()
            state.values.clear()
            state.size = blob.HEADER_SIZE
            self.changed = True
            self._end(state)

    # The session as a whole

    def renew(self) -> None:
        """Moves the session to a new key at the end of the request; call it when the user's rights change.

        The values stay. A new key at sign-in protects against session fixation.
        """
        self._writable()
        with self._lock:
            if self._closed:
                raise _closed_error()
            self.renewed = True

    def abandon(self) -> None:
        """Ends the session: its values are removed and the client's cookie is expired."""
        self.clear()
        self.abandoned = True

    def _end(self, state: SessionState) -> None:
        """Notes that the session ended; values set from now on belong to another one."""
        self.emptied = True
        state.session_id = b""

    def _writable(self) -> SessionState:
        if self.read_only:
            raise SessionReadOnlyError(
                'This route was mapped with session_access="read_only", so it cannot write to the session.'
            )
        self.accessed = True
        return self._state or self._load_now()


def _closed_error() -> SessionClosedError:
    return SessionClosedError(
        "The session was stored when the response started; it cannot be changed any more in this request."
    )


def _checked_key(key: str) -> str:
    """Returns the key in the form in which a session holds it."""
    if not isinstance(key, str):
        raise ArgumentError(f"A session key must be text, not {type(key).__name__}.")
    size = len(key)
    if not key.isascii():
        encoded = _utf8(key)
        size = len(encoded)
        key = encoded.decode("utf-8")
    if size > blob.MAX_KEY_SIZE:
        raise ArgumentError(
            f"A session key has at most {blob.MAX_KEY_SIZE} bytes when encoded as UTF-8; this one has {size}."
        )
    return key


def _utf8(text: str) -> bytes:
    """Encodes text; an unpaired surrogate, which UTF-8 cannot express, becomes U+FFFD as in .NET."""
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError:
        return _SURROGATE.sub("\ufffd", text).encode("utf-8")
