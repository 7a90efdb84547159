"""The ring of keys that a host protects its cookies with.

Mirrors ASP.NET Core's ``KeyRingProvider`` and ``XmlKeyManager``. It departs in three points: no request waits for a
refresh while older keys are there; an unknown key makes the ring look for it at any time, not only in the first two
minutes; and a key that the store has lost is kept and written back.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Final

from kestrun_py.data_protection._repeats import Repeats
from kestrun_py.data_protection.key_elements import KeyElements
from kestrun_py.data_protection.key_xml import new_key
from kestrun_py.data_protection.keys import KEY_LIFETIME, REFRESH_PERIOD, Key, choose_keys
from kestrun_py.data_protection.protector import DataProtector, KeySet
from kestrun_py.data_protection.repositories import XmlRepository
from kestrun_py.data_protection.ring_store import RingStore, unexpected
from kestrun_py.errors import KeyRingError
from kestrun_py.logging import Logger, default_logger

__all__ = ["KeyRing"]

_JITTER: Final = 0.2
_WATCH_SECONDS: Final = 10.0
_WATCH_SHARE: Final = 20
_AFTER_FAILED_REFRESH: Final = timedelta(minutes=2)
_BETWEEN_SEARCHES: Final = timedelta(seconds=10)
_BETWEEN_FAILED_SEARCHES: Final = timedelta(seconds=1)

_MAX_PERIOD_SECONDS: Final = REFRESH_PERIOD.total_seconds()
_LOAD_TIMEOUT_SECONDS: Final = 30.0
_ATTEMPTS: Final = 10


class KeyRing:
    """Loads keys from a repository, keeps them fresh, and adds new ones in time.

    A ring belongs to one event loop; loading is one task, however many requests wait for it. Except `load`
    and `find_unknown`, no method waits.

    Args:
        repository: Where the keys are.
        application_name: The first purpose of every protector: applications with different names do not
            understand each other's payloads. ASP.NET's ``SetApplicationName``; None or "" for none.
        logger: Where keys made, elements left out and failures are logged.
        read_only: Never add a key.
        clock: The time now, as Unix time.
    """

    def __init__(
        self,
        repository: XmlRepository,
        *,
        application_name: str | None = None,
        logger: Logger = default_logger,
        read_only: bool = False,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._repository = repository
        self._application_name = application_name
        self._logger = logger
        self._read_only = read_only
        self._clock = clock
        self._keys: KeySet | None = None
        self._refresh_at = 0.0
        self._task: asyncio.Task[None] | None = None
        self._failure: KeyRingError | None = None
        self._searched_at: datetime | None = None
        self._store = RingStore(repository, logger, read_only=read_only)
        self._repeats = Repeats()

    @property
    def keys(self) -> KeySet:
        """The keys as they were last read; another object only when they have changed.

        Raises:
            KeyRingError: The ring was not loaded yet.
        """
        if self._keys is None:
            raise KeyRingError("The key ring is not loaded; await KeyRing.load() first.")
        return self._keys

    @property
    def current_keys(self) -> KeySet | None:
        """`keys`; None if they were not loaded yet, or a refresh is waiting to be started."""
        # A clock that was set back must not put the refresh off for as long.
        if self._task is None and not 0 < self._refresh_at - self._clock() <= _MAX_PERIOD_SECONDS:
            return None
        return self._keys

    def create_protector(self, *purposes: str) -> DataProtector:
        """Makes a protector for the application name and these purposes.

        It may be made before the ring is loaded, and uses what the ring holds at each call.
        """
        chain = (self._application_name, *purposes) if self._application_name else purposes
        return DataProtector(lambda: self.keys, chain)

    async def load(self) -> None:
        """Loads the ring if that has not happened yet, and starts a refresh in the background if one is due.

        Raises:
            KeyRingError: The repository cannot be read, or there is no key and none can be made. The next call
                asks again: the first request after the repository is back works.
        """
        if self._keys is None:
            await self._load_now()
        elif self.current_keys is None:
            self._start()

    async def find_unknown(self) -> bool:
        """Reads the ring again because of a payload whose key it does not hold.

        Anyone can make up such payloads, so the ring is read at most once in ten seconds.

        Returns:
            Whether the keys have changed.

        Raises:
            KeyRingError: The repository cannot be read, so it is unknown whether the key exists.
        """
        before = self._keys
        now = self._now()
        if self._task is None:
            interval = _BETWEEN_SEARCHES if self._failure is None else _BETWEEN_FAILED_SEARCHES
            if _is_within(self._searched_at, now, interval):
                self._raise_failure()
                return False
            self._searched_at = now
        await self._load_now()
        return self._keys is not before

    async def watch(self) -> None:
        """Reads the ring every ten seconds, until it is cancelled, so that lost keys come back soon.

        A store that answers slowly is asked less often: reading takes a twentieth of the time at most.
        """
        loop = asyncio.get_running_loop()
        while True:
            started = loop.time()
            with suppress(KeyRingError):  # `_fail` has logged it, and the next request tells its client
                await self._load_now()
            pause = max(_WATCH_SECONDS, _WATCH_SHARE * (loop.time() - started))
            await asyncio.sleep(pause * (1 - _JITTER * random.random()))

    async def close(self) -> None:
        """Ends what runs in the background. A closed ring loads again when it is used again."""
        task = self._task
        if task is not None:
            task.cancel()
            await asyncio.wait([task])
            if self._task is task:  # it was cancelled before it ran
                self._task = None

    def _now(self) -> datetime:
        return datetime.fromtimestamp(self._clock(), UTC)

    async def _load_now(self) -> None:
        """Waits for the load that is under way or a new one."""
        task = self._task or self._start()
        # Unlike a plain await, this neither cancels the task with its waiter nor the other way round.
        await asyncio.wait([task])
        self._raise_failure()
        if self._keys is None:
            raise KeyRingError("The key ring was closed while it was loading.")

    def _raise_failure(self) -> None:
        if self._failure is not None:
            raise KeyRingError(str(self._failure)) from self._failure

    def _start(self) -> asyncio.Task[None]:
        self._task = asyncio.get_running_loop().create_task(self._run(), name="key ring")
        return self._task

    async def _run(self) -> None:
        now = self._now()
        try:
            async with asyncio.timeout(_LOAD_TIMEOUT_SECONDS):
                keys, period = await self._read_keys(now)
        except Exception as error:
            self._fail(error)
        else:
            self._succeed(keys, now + period)
        finally:
            self._task = None

    def _fail(self, error: Exception) -> None:
        reason = "there was no answer in time" if isinstance(error, TimeoutError) else str(error) or repr(error)
        self._failure = KeyRingError(f"The key ring in {self._repository} cannot be used: {reason}")
        self._refresh_at = self._clock() + _AFTER_FAILED_REFRESH.total_seconds()
        if self._repeats.is_new("load", reason):
            self._logger.error(
                "The key ring in {Repository} was not loaded: {Reason}",
                str(self._repository),
                reason,
                exception=unexpected(error),
            )

    def _succeed(self, keys: KeySet, refresh_at: datetime) -> None:
        self._failure = None
        expiration = keys.default.expiration_date
        if self._now() < expiration < refresh_at:
            refresh_at = expiration
        self._refresh_at = refresh_at.timestamp()
        if self._repeats.end("load"):
            self._logger.information("The key ring in {Repository} can be used again", str(self._repository))
        if keys != self._keys:
            self._keys = keys
            self._logger.debug(
                "The key ring in {Repository} has {Count} keys; {KeyId} protects until {Expiration}",
                str(self._repository),
                len(keys.keys),
                str(keys.default.id),
                expiration.isoformat(),
            )

    async def _read_keys(self, now: datetime) -> tuple[KeySet, timedelta]:
        """Returns the keys, a new one included if one was needed, and how long they may be used."""
        for _ in range(_ATTEMPTS):
            elements, count = await self._store.read(now)
            choice = choose_keys(elements.keys, now)
            if choice.default is None:
                _refuse_unusable(elements, now)
            existing = choice.default or choice.fallback
            if choice.new_key_activation is None or self._read_only:
                self._repeats.end("new key")
                return _key_set(elements, existing, now), _refresh_period()
            try:
                added = await self._add_key(elements, count, now, choice.new_key_activation)
            except Exception as error:
                if existing is None:
                    raise
                self._report_missing_key(error)
                return _key_set(elements, existing, now), _AFTER_FAILED_REFRESH
            if added is not None:
                self._repeats.end("new key")
                elements, key = added
                return _key_set(elements, choice.default or key, now), _refresh_period()
        raise KeyRingError(f"It changed at each of {_ATTEMPTS} attempts to add a key.")

    def _report_missing_key(self, error: Exception) -> None:
        reason = str(error) or repr(error)
        if self._repeats.is_new("new key", reason):
            self._logger.error(
                "The key ring needs a new key, and goes on without: {Reason}", reason, exception=unexpected(error)
            )

    async def _add_key(
        self, elements: KeyElements, count: int, now: datetime, activation: datetime
    ) -> tuple[KeyElements, Key] | None:
        """Adds a key to the repository; None when somebody else changed it since it was read."""
        if elements.revoked_before is not None and elements.revoked_before > now:
            raise KeyRingError(
                f"It revokes every key made before {elements.revoked_before.isoformat()}, which is yet to "
                "come, so a new key would be revoked."
            )
        key, xml = new_key(now, activation, now + KEY_LIFETIME)
        grown = await self._store.add(xml, f"key-{key.id}", count)
        if grown is None:
            return None
        self._logger.information(
            "The key {KeyId} was added to the ring in {Repository}, for {Activation} to {Expiration}",
            str(key.id),
            str(self._repository),
            activation.isoformat(),
            key.expiration_date.isoformat(),
        )
        return grown, key


def _refuse_unusable(elements: KeyElements, now: datetime) -> None:
    """Raises for a ring whose only keys that may protect are unusable here; a key of ours would hide that."""
    needed = [key for key in elements.unusable if key.may_be_needed(now)]
    if needed:
        more = f" The same holds for {len(needed) - 1:,} more." if len(needed) > 1 else ""
        raise KeyRingError(f"It holds no key that can protect. {needed[0].fault}{more}")


def _key_set(elements: KeyElements, default: Key | None, now: datetime) -> KeySet:
    if default is None:
        raise KeyRingError("It holds no key that can protect and is used read-only; the owner must add one.")
    unusable = {key.id: key.fault for key in elements.unusable if key.id is not None and key.may_be_needed(now)}
    return KeySet({key.id: key for key in elements.keys}, default, unusable)


def _refresh_period() -> timedelta:
    return REFRESH_PERIOD * (1 - _JITTER * random.random())


def _is_within(past: datetime | None, now: datetime, interval: timedelta) -> bool:
    return past is not None and timedelta(0) <= now - past < interval
