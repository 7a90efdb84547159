"""Committing a session: what the end of a request does to it."""

from __future__ import annotations

import asyncio
import math
import secrets
import time
import uuid
from typing import Final

from aiohttp import web

import kestrun_py.sessions.blob as blob
from kestrun_py.caching import DistributedCache, Expiration, Lease
from kestrun_py.concurrency.background import carry_through
from kestrun_py.data_protection import CookieProtector
from kestrun_py.errors import (
    CacheError,
    CacheUnavailableError,
    DataProtectionError,
    LeaseLostError,
    SessionUnavailableError,
)
from kestrun_py.logging import Logger
from kestrun_py.sessions._deadlines import key_ring_answer, remaining
from kestrun_py.sessions.holding import SessionHolds
from kestrun_py.sessions.moves import MovedSessions
from kestrun_py.sessions.options import CacheFailurePolicy, SessionLock, SessionOptions
from kestrun_py.sessions.outcome import CookieAction, Outcome, Store, decide
from kestrun_py.sessions.session import Session, SessionState
from kestrun_py.sessions.session_log import SessionLog

__all__ = ["SessionCommitter"]

# Between two attempts to remove an entry that a session has left.
_FIRST_PAUSE_SECONDS: Final = 0.1
_LAST_PAUSE_SECONDS: Final = 5.0


class SessionCommitter:
    """Carries out what the end of a request does to its session.

    Args:
        cache: Where the sessions are.
        protector: What protects the session key in the cookie.
        options: The host's session options.
        holds: What the requests of this process hold.
        moves: The sessions that were moved to a new key.
        logger: Where it is logged what was done.
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
        self._cache = cache
        self._protector = protector
        self._options = options
        self._holds = holds
        self._moves = moves
        self._logger = logger
        self._log = SessionLog(logger)
        self._sliding = Expiration(options.idle_timeout)
        self._immediate = cache.immediate and options.lock is SessionLock.EXCLUSIVE

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
            return False  # `commit` tries again and handles the error
        session.ended = True
        state.lease = None
        state.queued = False
        self._holds.leases.discard(lease)
        self._holds.queues.release(lease.key)
        self._log.stored(lease.key, len(state.values))
        return True

    async def commit(self, session: Session, request: web.BaseRequest) -> None:
        """Does what the end of a request does to its session, once; the session then says what to tell the client.

        Raises:
            SessionUnavailableError: The session could not be stored in time, its lock was lost, or another request
                has moved it; the client sees nothing of what was written.
        """
        if session.ended:
            return
        session.ended = True
        state = session.close()
        if state is None or not state.available:
            return
        outcome = _outcome(session, state)
        try:
            await self._carry_out(outcome, session, state, is_https=request.secure)
        except (CacheError, DataProtectionError) as error:
            retry_after = await self._after_loss(state) if isinstance(error, LeaseLostError) else 1
            if self._options.on_cache_failure is CacheFailurePolicy.FAIL:
                raise SessionUnavailableError(
                    f"The session could not be stored: {error}", retry_after=retry_after
                ) from error
            self._logger.error(
                "The session could not be stored in the {Cache} cache; its changes are lost: {Error}",
                self._cache.name,
                error,
            )
        finally:
            if state.lease is None:
                self._holds.leave(state)
            else:  # nothing was written: the lock still has to be released
                self._holds.give_back(state)

    def discard(self, session: Session) -> None:
        """Ends a session without storing it: its request was cancelled, or failed in a way that stores nothing."""
        if session.ended:
            return
        session.ended = True
        state = session.close()
        if state is not None:
            self._holds.give_back(state)

    async def _carry_out(self, outcome: Outcome, session: Session, state: SessionState, *, is_https: bool) -> None:
        deadline = time.monotonic() + self._options.io_timeout
        if outcome.store is Store.REFUSED:
            raise SessionUnavailableError(
                "Another request has moved the session to a new key, for which the client has a new cookie by now; "
                "what this request has changed was not stored.",
                retry_after=max(math.ceil(state.refused_until - time.monotonic()), 1),
            )
        if outcome.store is Store.NEW_KEY:
            await carry_through(self._start(session, state, deadline, remove_old=outcome.remove_old, is_https=is_https))
        elif outcome.store is Store.SAME_KEY:
            await self._write(state, deadline)
        elif outcome.remove_old:
            await self._end(state, deadline)
        elif state.lease is not None:
            await self._holds.release(state.lease)
            state.lease = None
        if outcome.cookie is CookieAction.EXPIRE:
            session.set_cookie = self._options.cookie.delete_cookie_header(is_https=is_https)

    async def _after_loss(self, state: SessionState) -> int:
        """Finds out what became of a session whose lease was lost: seconds after which a write is accepted."""
        assert state.key is not None
        deadline = time.monotonic() + self._options.io_timeout
        try:
            seconds = await self._moves.seconds_left(state.key, deadline)
            if not seconds and await self._cache.get(state.key, timeout=remaining(deadline)) is None:
                self._log.ended_elsewhere(state.key)
        except CacheError:
            return 1
        return max(math.ceil(seconds), 1)

    async def _start(
        self, session: Session, state: SessionState, deadline: float, *, remove_old: bool, is_https: bool
    ) -> None:
        """Stores the values under a new key, then removes what was stored under the old one."""
        lease = (state.lease or await self._lease(state, deadline)) if remove_old else None
        key = str(uuid.UUID(bytes=secrets.token_bytes(16)))
        cookie = await key_ring_answer(self._protector.write(key), self._options.io_timeout)
        value = blob.encode(state.ensure_id(), state.values)
        absolute = None if session.emptied or lease is None else lease.absolute
        if lease is not None:
            await self._keep(lease, deadline)
            await self._moves.mark(lease.key, deadline)
        await self._cache.store(key, value, self._expiration(absolute), timeout=remaining(deadline))
        if lease is not None:
            await self._remove_old(lease, state, key, deadline)
        self._log_start(session, key, lease)
        self._log.stored(key, len(state.values))
        session.started = True
        session.set_cookie = self._options.cookie.set_cookie_header(cookie, is_https=is_https)

    async def _remove_old(self, lease: Lease, state: SessionState, new_key: str, deadline: float) -> None:
        """Removes the old entry of a session that was moved, or takes the move back."""
        try:
            await self._commit(lease, state, None, deadline)
        except LeaseLostError:
            await self._cache.remove(new_key, timeout=remaining(deadline))
            await self._moves.unmark(lease.key, deadline)
            raise
        except CacheUnavailableError as error:
            # Whether the old entry is gone is not known; the new one is there, so the client gets its cookie.
            self._holds.background.start(self._remove_later(lease, error))
            state.lease = None

    async def _keep(self, lease: Lease, deadline: float) -> None:
        """Checks that the lease is held: a request that has lost it must not touch the marker of another's move."""
        lease_time = self._holds.lease_time
        if not await self._cache.renew(lease, lease_time=lease_time, timeout=remaining(deadline)):
            raise LeaseLostError("The session was taken over, replaced or removed; nothing was written.")

    async def _remove_later(self, lease: Lease, error: CacheUnavailableError) -> None:
        """Removes the entry under a session's old key, whose cookie would go on opening the session."""
        self._log.removed_later(lease.key, error)
        pause = _FIRST_PAUSE_SECONDS
        give_up = time.monotonic() + self._options.idle_timeout
        while time.monotonic() < give_up:
            try:
                await self._cache.remove(lease.key, timeout=self._options.io_timeout)
                return
            except CacheError:
                await asyncio.sleep(pause)
                pause = min(pause * 2, _LAST_PAUSE_SECONDS)

    async def _write(self, state: SessionState, deadline: float) -> None:
        """Replaces the stored values."""
        lease = state.lease or await self._lease(state, deadline)
        await self._commit(lease, state, blob.encode(state.ensure_id(), state.values), deadline)
        self._log.stored(lease.key, len(state.values))

    async def _end(self, state: SessionState, deadline: float) -> None:
        """Removes the stored session, unless another request has done it."""
        try:
            lease = state.lease or await self._lease(state, deadline)
        except LeaseLostError:
            return
        await self._commit(lease, state, None, deadline)
        self._log.ended(lease.key)

    async def _commit(self, lease: Lease, state: SessionState, value: bytes | None, deadline: float) -> None:
        """Replaces or removes the entry, which only the holder of its lease can do."""
        expiration = self._expiration(lease.absolute)
        self._holds.leases.discard(lease)
        await self._cache.commit(lease, value, expiration, timeout=remaining(deadline))
        state.lease = None

    async def _lease(self, state: SessionState, deadline: float) -> Lease:
        """For ``lock="none"``: overlapping requests may overwrite a session, but never revive it."""
        assert state.key is not None
        state.lease = await self._cache.lock(state.key, lease_time=self._holds.lease_time, timeout=remaining(deadline))
        if state.lease is None:
            raise LeaseLostError("The session was removed by another request.")
        return state.lease

    def _expiration(self, absolute: float | None) -> Expiration:
        if absolute is None:
            if self._options.absolute_timeout is None:
                return self._sliding
            absolute = time.time() + self._options.absolute_timeout
        return Expiration(self._options.idle_timeout, absolute)

    def _log_start(self, session: Session, key: str, old: Lease | None) -> None:
        if old is not None and not session.emptied:
            self._log.renewed(old.key, key)
            return
        if old is not None:
            self._log.ended(old.key)
        self._log.started(key)


def _outcome(session: Session, state: SessionState) -> Outcome:
    return decide(
        state.origin,
        has_values=bool(state.values),
        changed=session.changed,
        emptied=session.emptied,
        abandoned=session.abandoned,
        renewed=session.renewed,
    )
