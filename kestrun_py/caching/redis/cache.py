"""A cache in Redis, in the layout of ``Microsoft.Extensions.Caching.StackExchangeRedis``."""

from __future__ import annotations

import asyncio
import math
import secrets
from contextlib import suppress
from typing import ClassVar, Final

from kestrun_py.caching._arguments import checked_key, checked_value
from kestrun_py.caching.contract import DEFAULT_TIMEOUT, DistributedCache
from kestrun_py.caching.expiration import Expiration
from kestrun_py.caching.leases import Busy, Lease
from kestrun_py.caching.redis import _scripts as scripts
from kestrun_py.caching.redis._client import RedisClient
from kestrun_py.caching.redis._parsing import parse_options
from kestrun_py.caching.redis._wakeups import Wakeups
from kestrun_py.caching.redis._wire import ConnectionLostError
from kestrun_py.caching.redis.keys import RedisXmlRepository
from kestrun_py.caching.status import CacheStatus
from kestrun_py.data_protection.repositories import XmlRepository
from kestrun_py.errors import ArgumentError, CacheError, CacheTimeoutError, CacheUnavailableError, LeaseLostError
from kestrun_py.logging import Logger, default_logger

__all__ = ["RedisCache"]

_EPOCH_TICKS: Final = 621_355_968_000_000_000  # .NET's ticks of 1970-01-01
_MAX_TICKS: Final = 3_155_378_975_999_999_999  # and of the last moment of 9999
_MAX_TICKS_DIGITS: Final = 19
_DEFAULT_SLIDING_SECONDS: Final = 1200.0
_NONE: Final = b"-1"
_MOST_ABANDONED: Final = 1000


class RedisCache(DistributedCache):
    """Keeps entries in Redis 5 or later: one server, a primary found by Sentinels, or a cluster.

    An entry is a hash of ``absexp``, ``sldexp`` (.NET ticks) and ``data`` under the instance name followed by
    the key, as ASP.NET Core's RedisCache stores it; while it is locked the same hash holds the lock. It
    differs in these points: times to live are exact to the millisecond, not cut to whole seconds; an entry
    stored without any expiration gets a sliding one of 20 minutes, so that nothing stays for ever; storing is
    atomic, and ends the lock of whoever held the entry that is replaced.

    Args:
        configuration: StackExchange.Redis text (``host:port,password=...,ssl=true``), a ``redis://``, ``rediss://``
            or ``unix://`` URL, `RedisOptions`, or a mapping or object with the same attributes.
        instance_name: What every key begins with in Redis.
        logger: Where lost and restored connections are reported.

    Raises:
        ArgumentError: An option is unknown or malformed.
    """

    name: ClassVar[str] = "Redis"

    def __init__(self, configuration: object, *, instance_name: str = "", logger: Logger = default_logger) -> None:
        if not isinstance(instance_name, str):
            raise ArgumentError(f"instance_name must be text, not {type(instance_name).__name__}.")
        self._prefix = instance_name
        self._client = RedisClient(parse_options(configuration), logger)
        self._owner = secrets.token_hex(scripts.TOKEN_OWNER // 2)
        self._wakeups = Wakeups(scripts.CHANNEL + self._owner, self._client.listen)
        self._abandoned: set[asyncio.Task[None]] = set()

    @property
    def client(self) -> RedisClient:
        """The connections, which a key ring may share."""
        return self._client

    def key_repository(self) -> XmlRepository:
        """Returns the key ring's place beside the entries: the list ``DataProtection-Keys``."""
        return RedisXmlRepository(self._client)

    async def start(self) -> None:
        self._client.start()

    async def close(self) -> None:
        if self._abandoned:
            await asyncio.wait(self._abandoned, timeout=1.0)
        for task in self._abandoned:
            task.cancel()
        await asyncio.gather(*self._abandoned, return_exceptions=True)
        await self._wakeups.close()
        await self._client.close()

    async def ping(self, *, timeout: float = DEFAULT_TIMEOUT) -> CacheStatus:
        round_trip, version, problems = await self._client.ping(timeout)
        return CacheStatus(
            server=self.name,
            version=version,
            round_trip=round_trip,
            details={"address": self._client.options.where, "mode": self._client.kind},
            problems=problems,
        )

    def _name(self, key: str) -> str:
        """What Redis calls the key of an entry."""
        return self._prefix + checked_key(key)

    # Entries

    async def get(self, key: str, *, timeout: float = DEFAULT_TIMEOUT) -> bytes | None:
        value: bytes | None = await self._client.run(scripts.GET, self._name(key), timeout=timeout, repeat=True)
        return value

    async def store(self, key: str, value: bytes, expiration: Expiration, *, timeout: float = DEFAULT_TIMEOUT) -> None:
        value = checked_value(value)
        await self._client.run(scripts.STORE, self._name(key), *_ticks(expiration), value, timeout=timeout)

    async def refresh(self, key: str, *, timeout: float = DEFAULT_TIMEOUT) -> None:
        await self._client.run(scripts.REFRESH, self._name(key), timeout=timeout, repeat=True)

    async def remove(self, key: str, *, timeout: float = DEFAULT_TIMEOUT) -> None:
        await self._client.run(scripts.REMOVE, self._name(key), timeout=timeout)

    # Entries under a lease

    async def _try_lock(self, key: str, token: str, lease_time: float, timeout: float) -> Lease | Busy | None:
        token = self._owner + token
        try:
            reply = await self._client.run(
                scripts.LOCK,
                self._prefix + key,
                token,
                _milliseconds(lease_time),
                timeout=timeout,
                repeat=True,
            )
        except (asyncio.CancelledError, CacheTimeoutError, ConnectionLostError):
            # The server may have granted the lock, or be about to.
            self._abandon(Lease(key, token, b"", None), lease_time)
            raise
        if reply is None:
            return None
        if reply == 0:
            return Busy.BUSY
        return Lease(key, token, reply[0], _unix_time(reply[1]))

    async def _wait_for_release(self, key: str, pause: float) -> None:
        await self._wakeups.wait(self._prefix + key, pause)

    def _stop_waiting(self, key: str, token: str) -> None:
        self._abandon(Lease(key, self._owner + token, b"", None), DEFAULT_TIMEOUT)

    async def renew(self, lease: Lease, *, lease_time: float, timeout: float) -> bool:
        reply = await self._client.run(
            scripts.RENEW,
            self._prefix + lease.key,
            lease.token,
            _milliseconds(lease_time),
            timeout=timeout,
            repeat=True,
        )
        return bool(reply)

    async def commit(
        self, lease: Lease, value: bytes | None, expiration: Expiration, *, timeout: float = DEFAULT_TIMEOUT
    ) -> None:
        script: scripts.Script = scripts.COMMIT_REMOVAL
        arguments: tuple[bytes, ...] = ()
        if value is not None:
            script, arguments = scripts.COMMIT, (*_ticks(expiration), checked_value(value))
        try:
            reply = await self._client.run(script, self._prefix + lease.key, lease.token, *arguments, timeout=timeout)
        except (asyncio.CancelledError, CacheUnavailableError):
            self._abandon(lease, DEFAULT_TIMEOUT)  # if it failed, or no answer comes, the lock does not stay
            raise
        if reply != 1:
            raise LeaseLostError("The entry was taken over, replaced or removed, or has expired; nothing was written.")

    async def release(self, lease: Lease, *, timeout: float = DEFAULT_TIMEOUT) -> None:
        try:
            await self._client.run(scripts.RELEASE, self._prefix + lease.key, lease.token, timeout=timeout, repeat=True)
        except (asyncio.CancelledError, CacheUnavailableError):
            self._abandon(lease, DEFAULT_TIMEOUT)
            raise

    def _abandon(self, lease: Lease, timeout: float) -> None:
        """Releases in the background a lock, or the turn for it, whose caller has gone.

        On the connection that the grant travels on, the release is behind it; otherwise the lock's own expiry
        is the last resort.
        """
        if len(self._abandoned) >= _MOST_ABANDONED:
            return
        task = asyncio.get_running_loop().create_task(self._release_quietly(lease, timeout))
        self._abandoned.add(task)
        task.add_done_callback(self._abandoned.discard)

    async def _release_quietly(self, lease: Lease, timeout: float) -> None:
        with suppress(CacheError):
            await self._client.run(scripts.RELEASE, self._prefix + lease.key, lease.token, timeout=timeout, repeat=True)


def _ticks(expiration: Expiration) -> tuple[bytes, bytes]:
    """An expiration as ``absexp`` and ``sldexp``."""
    absolute, sliding = expiration.absolute, expiration.sliding
    if absolute is None and sliding is None:
        sliding = _DEFAULT_SLIDING_SECONDS
    absexp = _NONE
    if absolute is not None:
        # Microseconds are what a float holds exactly of the seconds since 1970.
        absexp = b"%d" % min(max(round(absolute * 1_000_000) * 10 + _EPOCH_TICKS, 0), _MAX_TICKS)
    return absexp, _NONE if sliding is None else b"%d" % max(round(sliding * 10_000_000), 1)


def _unix_time(absexp: bytes | None) -> float | None:
    if absexp is None or not absexp.isdigit() or len(absexp) > _MAX_TICKS_DIGITS:  # -1 stands for none
        return None
    return (int(absexp) - _EPOCH_TICKS) / 10_000_000


def _milliseconds(seconds: float) -> int:
    return max(1, math.ceil(seconds * 1000))
