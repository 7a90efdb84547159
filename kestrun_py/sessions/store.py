"""Reading and storing the sessions of a host: cookie, queue, lease, blob, cache."""

from __future__ import annotations

import asyncio
import hashlib
import math
import secrets
import time
import uuid
from collections.abc import Awaitable, Coroutine
from functools import lru_cache
from typing import Any, Final, TypeVar

from aiohttp import hdrs, web
from multidict import CIMultiDictProxy

import kestrun_py.sessions.blob as blob
from kestrun_py.caching import Busy, DistributedCache, Expiration, Lease
from kestrun_py.data_protection import CookieProtector
from kestrun_py.errors import (
    CacheError,
    CacheTimeoutError,
    CacheUnavailableError,
    DataProtectionError,
    KeyRingError,
    LeaseLostError,
    LockTimeoutError,
    SessionLockTimeoutError,
    SessionUnavailableError,
)
from kestrun_py.http.cookies import read_cookie
from kestrun_py.logging import Logger, LogLevel
from kestrun_py.sessions.leases import LeaseKeeper
from kestrun_py.sessions.locks import FairLocks
from kestrun_py.sessions.options import CacheFailurePolicy, SessionLock, SessionOptions
from kestrun_py.sessions.outcome import CookieAction, Origin, Outcome, Store, decide
from kestrun_py.sessions.session import Session, SessionState

__all__ = ["SessionStore", "fingerprint"]

_KEY_LENGTH: Final = 36

_FAREWELL: Final = 1.0  # seconds that background work gets to end
_MOMENT: Final = 1.0  # seconds
_MOVED: Final = 5.0  # seconds, beyond the I/O timeout, in which a client may still send its former cookie
_FIRST_PAUSE: Final = 0.1  # between two attempts to remove what a session has left behind
_LAST_PAUSE: Final = 5.0

_T = TypeVar("_T")


def fingerprint(session_key: str) -> str:
    """What stands for a session key in logs: the first 8 hex digits of its SHA-256."""
    return hashlib.sha256(session_key.encode("utf-8", "surrogateescape")).hexdigest()[:8]


# A browser sends the same header with each request, so the last ones that were read are worth remembering.
_REMEMBERED_LENGTH: Final = 2048
_remembered_cookie: Final = lru_cache(maxsize=1024)(read_cookie)


class SessionStore:
    """Loads sessions and carries out what the end of a request does to them.

    Args:
        cache: Where the sessions are.
        protector: What protects the session key in the cookie.
        options: The host's session options.
        logger: Where is logged what happens to sessions.

    Attributes:
        options: The host's session options.
        max_size: The most bytes that a stored session may have.
    """

    def __init__(
        self, cache: DistributedCache, protector: CookieProtector, options: SessionOptions, logger: Logger
    ) -> None:
        self.options = options
        self.max_size = options.max_size
        self._cookie_name = options.cookie.name or ""
        self._cache = cache
        self._protector = protector
        self._logger = logger
        self._sliding = Expiration(options.idle_timeout)
        # The lock of a cache of this process ends with the process, so it needs no lease.
        self._lease_time = options.lease_time if cache.shared else math.inf
        self._immediate = cache.immediate and options.lock is SessionLock.EXCLUSIVE
        self._queues = FairLocks()
        # Keys whose lock the cache was asked for, and has not said a word about.
        self._unheard: set[str] = set()
        # When the keys that sessions were moved away from are forgotten; in that order.
        self._moved: dict[str, float] = {}
        self._leases = LeaseKeeper(cache, lease_time=options.lease_time, timeout=options.io_timeout, logger=logger)
        self._background: set[asyncio.Task[None]] = set()

    async def close(self) -> None:
        """Ends background work; the cache and the key ring are their owners' to close.

        What still waits for a cache that does not answer is given up: locks free themselves, and entries expire.
        """
        await self._leases.close()
        if self._background:
            await asyncio.wait(self._background, timeout=_FAREWELL)
        for task in self._background:
            task.cancel()
        await asyncio.gather(*self._background, return_exceptions=True)

    # Loading

    def load_at_once(self, headers: CIMultiDictProxy[str]) -> SessionState | None:
        """`load` under the lock, if neither the cache nor another request has to be waited for; else None."""
        if not self._immediate:
            return None
        cookie = self._cookie(headers)
        if cookie is None:
            return SessionState(Origin.NONE)
        key = self._protector.peek(cookie)
        if key is None or len(key) != _KEY_LENGTH or not self._queues.try_acquire(key):
            return None
        lease: Lease | Busy | None = None
        try:
            lease = self._cache.lock_at_once(key, lease_time=self._lease_time)
            return None if isinstance(lease, Busy) else self._locked(key, lease)
        except CacheError:
            return None
        finally:
            if not isinstance(lease, Lease):
                self._queues.release(key)

    async def load(self, headers: CIMultiDictProxy[str], *, read_only: bool) -> SessionState:
        """Loads the session whose cookie is among a request's headers, under its lock unless `read_only`.

        Raises:
            SessionUnavailableError: The cache or the key ring cannot be read, or the lock was not free, in time.
        """
        cookie = self._cookie(headers)
        if cookie is None:
            return SessionState(Origin.NONE)
        deadline = time.monotonic() + self.options.io_timeout
        try:
            key = self._protector.peek(cookie) or await self._in_time(self._protector.read(cookie))
            if key is None:
                return SessionState(Origin.NONE)
            if len(key) != _KEY_LENGTH:
                self._logger.warning("A session cookie was refused: what it protects is no session key.")
                return SessionState(Origin.NONE)
            if read_only or self.options.lock is SessionLock.NONE:
                return self._opened(key, await self._cache.get(key, timeout=self._remaining(deadline)))
            return await self._load_locked(key, deadline)
        except LockTimeoutError as error:
            raise SessionLockTimeoutError(
                f"Another request held the session for more than {self.options.io_timeout:g} seconds (io_timeout)."
            ) from error
        except (CacheError, DataProtectionError) as error:
            if self.options.on_cache_failure is CacheFailurePolicy.FAIL:
                raise SessionUnavailableError(f"The session could not be read: {error}") from error
            self._logger.error(
                "The session could not be read from the {Cache} cache; the request goes on without it: {Error}",
                self._cache.name,
                error,
            )
            return SessionState(Origin.NONE, available=False)

    def _cookie(self, headers: CIMultiDictProxy[str]) -> str | None:
        """The value of the session cookie that a request carries, if any."""
        found = headers.getall(hdrs.COOKIE, None)
        if found is None:
            return None
        header = found[0] if len(found) == 1 else "; ".join(found)
        read = _remembered_cookie if len(header) <= _REMEMBERED_LENGTH else read_cookie
        return read(header, self._cookie_name)

    async def _load_locked(self, key: str, deadline: float) -> SessionState:
        if not self._queues.try_acquire(key):
            try:
                await self._queues.acquire(key, self._remaining(deadline))
            except TimeoutError:
                if key not in self._unheard:
                    raise LockTimeoutError("the session stayed in use in this process") from None
                raise CacheTimeoutError(
                    f"The {self._cache.name} cache has not answered another request of the session."
                ) from None
        lease = None
        unheard = self._unheard
        unheard.add(key)
        try:
            lease = await self._cache.lock(
                key, lease_time=self._lease_time, timeout=self._remaining(deadline), on_busy=unheard.discard
            )
            if lease is None and key not in unheard:  # another process had it, and may have moved it
                return self._opened(key, None, moved=True)
            unheard.discard(key)
            return self._locked(key, lease)
        except BaseException:
            # Those who queue run out of time in the same moment, and shall still know why.
            asyncio.get_running_loop().call_later(_MOMENT, unheard.discard, key)
            raise
        finally:
            if lease is None:
                self._queues.release(key)

    def _locked(self, key: str, lease: Lease | None) -> SessionState:
        """The session that was found under its lock; None where there was nothing to lock."""
        if lease is None:
            return self._opened(key, None)
        state = self._opened(key, lease.value)
        state.lease = lease
        state.queued = True
        if self._cache.shared:
            self._leases.add(lease)
        return state

    def _opened(self, key: str, stored: bytes | None, *, moved: bool = False) -> SessionState:
        if stored is None:
            if moved or self._moved.get(key, 0) > time.monotonic():
                return SessionState(Origin.MOVED, key)
            if self._logger.is_enabled(LogLevel.INFORMATION):
                self._logger.information("Accessing expired session {Session}", fingerprint(key))
            return SessionState(Origin.EXPIRED, key)
        try:
            session_id, values = blob.decode(stored)
        except blob.CorruptBlobError as error:
            self._logger.warning(
                "What is stored for session {Session} cannot be read ({Error}); it counts as empty.",
                fingerprint(key),
                error,
            )
            return SessionState(Origin.KNOWN, key)
        if self._logger.is_enabled(LogLevel.DEBUG):
            self._logger.debug("Session {Session} loaded with {Count} values", fingerprint(key), len(values))
        return SessionState(Origin.KNOWN, key, session_id, values, len(stored))

    # Ending

    def commit_at_once(self, session: Session) -> bool:
        """`commit`, if it is an update that has nothing to wait for; False, and nothing done, otherwise."""
        state = session.state
        if not self._immediate or session.ended or state is None or state.lease is None:
            return False
        if _outcome(session, state).store is not Store.SAME_KEY:
            return False
        lease = state.lease
        value = blob.encode(state.ensure_id(), state.values)
        try:
            if not self._cache.commit_at_once(lease, value, self._expiration(lease.absolute)):
                return False
        except Exception:
            return False  # `commit` meets it again, and deals with it
        session.ended = True
        state.lease = None
        state.queued = False
        self._leases.discard(lease)
        self._queues.release(lease.key)
        self._log_stored(lease.key, state)
        return True

    async def commit(self, session: Session, request: web.BaseRequest) -> None:
        """Does what the end of a request does to its session, once; the session then says what to tell the client.

        Raises:
            SessionUnavailableError: The session could not be stored in time, its lock was lost, or another request
                has moved it; nothing was written that the client can see.
        """
        if session.ended:
            return
        session.ended = True
        state = session.close()
        if state is None or not state.available:
            return
        outcome = _outcome(session, state)
        deadline = time.monotonic() + self.options.io_timeout
        try:
            if outcome.store is Store.REFUSED:
                raise SessionUnavailableError(
                    "Another request has moved the session to a new key, or ended it, while this one waited for it; "
                    "what this one has changed was not stored."
                )
            if outcome.store is Store.NEW_KEY:
                start = self._start(session, state, deadline, remove_old=outcome.remove_old, is_https=request.secure)
                await self._to_the_end(start)
            elif outcome.store is Store.SAME_KEY or outcome.remove_old:
                await self._write(state, deadline, remove=outcome.remove_old)
            elif state.lease is not None:
                await self._release(state.lease)
                state.lease = None
            if outcome.cookie is CookieAction.EXPIRE:
                session.set_cookie = self.options.cookie.delete_cookie_header(is_https=request.secure)
        except (CacheError, DataProtectionError) as error:
            if self.options.on_cache_failure is CacheFailurePolicy.FAIL:
                raise SessionUnavailableError(f"The session could not be stored: {error}") from error
            self._logger.error(
                "The session could not be stored in the {Cache} cache; its changes are lost: {Error}",
                self._cache.name,
                error,
            )
        finally:
            if state.lease is None:
                self._leave(state)
            else:  # nothing was written: the lock is still ours to give back
                self.give_back(state)

    async def _start(
        self, session: Session, state: SessionState, deadline: float, *, remove_old: bool, is_https: bool
    ) -> None:
        """Stores the values under a new key, then removes what was stored under the old one."""
        lease = (state.lease or await self._lease(state, deadline)) if remove_old else None
        key = str(uuid.UUID(bytes=secrets.token_bytes(16)))
        cookie = await self._in_time(self._protector.write(key))
        value = blob.encode(state.ensure_id(), state.values)
        absolute = None if session.emptied or lease is None else lease.absolute
        await self._cache.store(key, value, self._expiration(absolute), timeout=self._remaining(deadline))
        if lease is not None:
            self._note_moved(lease.key)
            try:
                await self._write(state, deadline, remove=True)
            except LeaseLostError:
                await self._cache.remove(key, timeout=self._remaining(deadline))
                raise
            except CacheUnavailableError as error:
                # Whether the old entry is gone, nobody knows; the new one is there, so it is what the client gets.
                self._in_background(self._remove_later(lease, error))
                state.lease = None
        if self._logger.is_enabled(LogLevel.INFORMATION):
            self._logger.information("Session {Session} started", fingerprint(key))
        self._log_stored(key, state)
        session.started = True
        session.set_cookie = self.options.cookie.set_cookie_header(cookie, is_https=is_https)

    def _note_moved(self, key: str) -> None:
        """Remembers, as long as requests with the old cookie may come, that the session has not just ended."""
        now = time.monotonic()
        while self._moved and self._moved[first := next(iter(self._moved))] < now:
            del self._moved[first]
        self._moved[key] = now + self.options.io_timeout + _MOVED

    async def _to_the_end(self, work: Coroutine[Any, Any, None]) -> None:
        """Waits for what must not be left half done, also when the request is cancelled meanwhile."""
        task = asyncio.get_running_loop().create_task(work)
        cancelled: asyncio.CancelledError | None = None
        while not task.done():
            try:
                await asyncio.wait((task,))
            except asyncio.CancelledError as error:
                cancelled = error
        if cancelled is not None and task.exception() is None:
            raise cancelled
        task.result()

    async def _remove_later(self, lease: Lease, error: CacheUnavailableError) -> None:
        """Removes what a session left under its old key, for it opens the session no less than the new one."""
        self._logger.warning(
            "What session {Session} was stored under before is removed as soon as possible: {Error}",
            fingerprint(lease.key),
            error,
        )
        pause = _FIRST_PAUSE
        give_up = time.monotonic() + self.options.idle_timeout
        while time.monotonic() < give_up:
            try:
                await self._cache.remove(lease.key, timeout=self.options.io_timeout)
                return
            except CacheError:
                await asyncio.sleep(pause)
                pause = min(pause * 2, _LAST_PAUSE)

    async def _write(self, state: SessionState, deadline: float, *, remove: bool) -> None:
        """Replaces or removes the stored session, which only the holder of its lease can do."""
        try:
            lease = state.lease or await self._lease(state, deadline)
        except LeaseLostError:
            if remove:
                return  # another request has done it
            raise
        value = None if remove else blob.encode(state.ensure_id(), state.values)
        expiration = self._expiration(lease.absolute)
        self._leases.discard(lease)
        await self._cache.commit(lease, value, expiration, timeout=self._remaining(deadline))
        state.lease = None
        if value is not None:
            self._log_stored(lease.key, state)

    async def _lease(self, state: SessionState, deadline: float) -> Lease:
        """For ``lock="none"``: overlapping requests may overwrite a session, but never revive it."""
        assert state.key is not None
        state.lease = await self._cache.lock(state.key, lease_time=self._lease_time, timeout=self._remaining(deadline))
        if state.lease is None:
            raise LeaseLostError("The session was removed by another request.")
        return state.lease

    def _expiration(self, absolute: float | None) -> Expiration:
        if absolute is None:
            if self.options.absolute_timeout is None:
                return self._sliding
            absolute = time.time() + self.options.absolute_timeout
        return Expiration(self.options.idle_timeout, absolute)

    def _log_stored(self, key: str, state: SessionState) -> None:
        if self._logger.is_enabled(LogLevel.DEBUG):
            self._logger.debug("Session {Session} stored with {Count} values", fingerprint(key), len(state.values))

    def discard(self, session: Session) -> None:
        """Ends a session without storing it: its request was cancelled, or failed in a way that stores nothing."""
        if session.ended:
            return
        session.ended = True
        state = session.close()
        if state is not None:
            self.give_back(state)

    def give_back(self, state: SessionState) -> None:
        """Releases what a session that will not be committed holds."""
        self._in_background(self._abort(state))

    async def _abort(self, state: SessionState) -> None:
        try:
            if state.lease is not None:
                await self._release(state.lease)
        finally:
            self._leave(state)

    async def _release(self, lease: Lease) -> None:
        self._leases.discard(lease)
        try:
            await self._cache.release(lease, timeout=self.options.io_timeout)
        except CacheError as error:
            self._logger.warning("A session's lock could not be released, and frees itself soon: {Error}", error)

    def _leave(self, state: SessionState) -> None:
        if state.queued:
            state.queued = False
            assert state.key is not None
            self._queues.release(state.key)

    # Waiting

    @staticmethod
    def _remaining(deadline: float) -> float:
        return max(deadline - time.monotonic(), 0.001)

    async def _in_time(self, answer: Awaitable[_T]) -> _T:
        """Waits for the key ring, which knows no I/O timeout of its own."""
        try:
            async with asyncio.timeout(self.options.io_timeout):
                return await answer
        except TimeoutError:
            raise KeyRingError(
                f"The key ring did not answer within {self.options.io_timeout:g} seconds (io_timeout)."
            ) from None

    def _in_background(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)


def _outcome(session: Session, state: SessionState) -> Outcome:
    return decide(
        state.origin,
        has_values=bool(state.values),
        changed=session.changed,
        emptied=session.emptied,
        abandoned=session.abandoned,
        renewed=session.renewed,
    )
