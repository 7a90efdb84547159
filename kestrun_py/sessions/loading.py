"""Loading a session: cookie, queue, lease, values."""

from __future__ import annotations

import asyncio
import time
from functools import lru_cache, partial
from typing import Final

from aiohttp import hdrs
from multidict import CIMultiDictProxy

import kestrun_py.sessions.blob as blob
from kestrun_py.caching import Busy, DistributedCache, Lease
from kestrun_py.data_protection import CookieProtector
from kestrun_py.errors import (
    CacheError,
    CacheTimeoutError,
    DataProtectionError,
    LockTimeoutError,
    SessionLockTimeoutError,
    SessionUnavailableError,
)
from kestrun_py.http.cookies import read_cookies
from kestrun_py.logging import Logger
from kestrun_py.sessions._deadlines import key_ring_answer, remaining
from kestrun_py.sessions.holding import SessionHolds
from kestrun_py.sessions.moves import MovedSessions
from kestrun_py.sessions.options import CacheFailurePolicy, SessionLock, SessionOptions
from kestrun_py.sessions.outcome import Origin
from kestrun_py.sessions.session import SessionState
from kestrun_py.sessions.session_log import SessionLog

__all__ = ["SessionLoader"]

_KEY_LENGTH: Final = 36

_UNHEARD_SECONDS: Final = 1.0

_MOST_COOKIES: Final = 4  # of the cookie's name that are tried

# A browser sends the same header with each request, so the last ones that were read are worth remembering.
_REMEMBERED_LENGTH: Final = 2048
_read_cookies: Final = partial(read_cookies, limit=_MOST_COOKIES)
_remembered_cookies: Final = lru_cache(maxsize=1024)(_read_cookies)


class SessionLoader:
    """Loads sessions.

    Args:
        cache: Where the sessions are.
        protector: What protects the session key in the cookie.
        options: The host's session options.
        holds: What the requests of this process hold.
        moves: The sessions that were moved to a new key.
        logger: Where it is logged what was found.

    Attributes:
        max_size: The most bytes that a stored session may have.
    """

    def __init__(
        self,
        cache: DistributedCache,
        protector: CookieProtector,
        options: SessionOptions,
        holds: SessionHolds,
        moves: MovedSessions,
        logger: Logger,
    ) -> None:
        self.max_size = options.max_size
        self._options = options
        self._cookie_name = options.cookie.name or ""
        self._cache = cache
        self._protector = protector
        self._holds = holds
        self._moves = moves
        self._logger = logger
        self._log = SessionLog(logger)
        self._immediate = cache.immediate and options.lock is SessionLock.EXCLUSIVE
        # Keys whose lock the cache was asked for, and has not answered yet.
        self._unheard: set[str] = set()

    def load_at_once(self, headers: CIMultiDictProxy[str]) -> SessionState | None:
        """`load` under the lock, if neither the cache nor another request has to be waited for; else None."""
        if not self._immediate:
            return None
        cookies = self._cookies(headers)
        if not cookies:
            return SessionState(Origin.NONE)
        key = self._protector.peek(cookies[0])
        queues = self._holds.queues
        if key is None or len(key) != _KEY_LENGTH or not queues.try_acquire(key):
            return None
        lease: Lease | Busy | None = None
        try:
            lease = self._cache.lock_at_once(key, lease_time=self._holds.lease_time)
            return self._locked(lease) if isinstance(lease, Lease) else None
        except CacheError:
            return None
        finally:
            if not isinstance(lease, Lease):
                queues.release(key)

    async def load(self, headers: CIMultiDictProxy[str], *, client: str, read_only: bool) -> SessionState:
        """Loads the session whose cookie is among a request's headers, under its lock unless `read_only`.

        Of several cookies of the name, the first one that opens a session counts.

        Args:
            headers: The request's headers.
            client: The client's address, for the log.
            read_only: Whether the session is read without its lock.

        Raises:
            SessionUnavailableError: The cache or the key ring cannot be read, or the lock was not free, in time.
        """
        cookies = self._cookies(headers)
        if not cookies:
            return SessionState(Origin.NONE)
        deadline = time.monotonic() + self._options.io_timeout
        try:
            return await self._load_first(cookies, client, deadline, read_only=read_only)
        except LockTimeoutError as error:
            raise SessionLockTimeoutError(
                f"Another request held the session for more than {self._options.io_timeout:g} seconds (io_timeout)."
            ) from error
        except (CacheError, DataProtectionError) as error:
            if self._options.on_cache_failure is CacheFailurePolicy.FAIL:
                raise SessionUnavailableError(f"The session could not be read: {error}") from error
            self._logger.error(
                "The session could not be read from the {Cache} cache; the request goes on without it: {Error}",
                self._cache.name,
                error,
            )
            return SessionState(Origin.NONE, available=False)

    def give_back(self, state: SessionState) -> None:
        """Releases what a session holds whose request had ended before it was loaded."""
        self._holds.give_back(state)

    def _cookies(self, headers: CIMultiDictProxy[str]) -> tuple[str, ...]:
        """The values of the session cookies that a request carries."""
        found = headers.getall(hdrs.COOKIE, None)
        if found is None:
            return ()
        header = found[0] if len(found) == 1 else "; ".join(found)
        read = _remembered_cookies if len(header) <= _REMEMBERED_LENGTH else _read_cookies
        return read(header, self._cookie_name)

    async def _load_first(
        self, cookies: tuple[str, ...], client: str, deadline: float, *, read_only: bool
    ) -> SessionState:
        """The session of the first cookie that opens one; otherwise a moved one, then an expired one."""
        states: dict[Origin, SessionState] = {}
        for cookie in cookies:
            state = await self._load(cookie, client, deadline, read_only=read_only)
            if state.origin is Origin.KNOWN:
                return state
            states.setdefault(state.origin, state)
        return states.get(Origin.MOVED) or states.get(Origin.EXPIRED) or states[Origin.NONE]

    async def _load(self, cookie: str, client: str, deadline: float, *, read_only: bool) -> SessionState:
        key = self._protector.peek(cookie)
        if key is None:
            key = await key_ring_answer(self._protector.read(cookie, client=client), self._options.io_timeout)
        if key is None:
            return SessionState(Origin.NONE)
        if len(key) != _KEY_LENGTH:
            self._protector.refuse(cookie, client, "What it protects is not a session key.")
            return SessionState(Origin.NONE)
        if read_only or self._options.lock is SessionLock.NONE:
            stored = await self._cache.get(key, timeout=remaining(deadline))
            return await self._missing(key, deadline) if stored is None else self._opened(key, stored)
        lease = await self._lock(key, deadline)
        return await self._missing(key, deadline) if lease is None else self._locked(lease)

    async def _lock(self, key: str, deadline: float) -> Lease | None:
        """Waits for the turn in this process, then for the lease; keeps the turn if there is a session."""
        queues, unheard = self._holds.queues, self._unheard
        if not queues.try_acquire(key):
            try:
                await queues.acquire(key, remaining(deadline))
            except TimeoutError:
                if key not in unheard:
                    raise LockTimeoutError("the session stayed in use in this process") from None
                raise CacheTimeoutError(
                    f"The {self._cache.name} cache has not answered another request of the session."
                ) from None
        lease = None
        unheard.add(key)
        try:
            lease = await self._cache.lock(
                key, lease_time=self._holds.lease_time, timeout=remaining(deadline), on_busy=unheard.discard
            )
            unheard.discard(key)
            return lease
        except BaseException:
            # Requests in the queue run out of time in the same moment; they still report the true reason.
            asyncio.get_running_loop().call_later(_UNHEARD_SECONDS, unheard.discard, key)
            raise
        finally:
            if lease is None:
                queues.release(key)

    def _locked(self, lease: Lease) -> SessionState:
        state = self._opened(lease.key, lease.value)
        self._holds.hold(state, lease)
        return state

    async def _missing(self, key: str, deadline: float) -> SessionState:
        """The state for a key without an entry: moved, or no longer stored."""
        seconds = await self._moves.seconds_left(key, deadline)
        if seconds:
            state = SessionState(Origin.MOVED, key)
            state.refused_until = time.monotonic() + seconds
            self._log.moved(key)
            return state
        self._log.not_stored(key)
        return SessionState(Origin.EXPIRED, key)

    def _opened(self, key: str, stored: bytes) -> SessionState:
        try:
            session_id, values = blob.decode(stored)
        except blob.CorruptBlobError as error:
            self._log.unreadable(key, error)
            return SessionState(Origin.KNOWN, key)
        self._log.loaded(key, len(values))
        return SessionState(Origin.KNOWN, key, session_id, values, len(stored))
