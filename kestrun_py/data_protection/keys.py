"""The keys of a ring, and which of them protects: pure functions of the keys and the time.

Mirrors ASP.NET Core's ``DefaultKeyResolver`` and the decision in ``KeyRingProvider``.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final
from uuid import UUID

if TYPE_CHECKING:  # needs cryptography
    from kestrun_py.data_protection.encryptors import Encryptor

__all__ = ["CLOCK_SKEW", "KEY_LIFETIME", "PROPAGATION", "REFRESH_PERIOD", "Key", "KeyChoice", "choose_keys"]

#: How long a new key is valid, counted from its creation.
KEY_LIFETIME: Final = timedelta(days=90)

#: How long it may take until every node has read a new key.
PROPAGATION: Final = timedelta(days=2)

#: How long a ring is used before it is read again.
REFRESH_PERIOD: Final = timedelta(hours=24)

#: How far the clocks of two nodes may differ.
CLOCK_SKEW: Final = timedelta(minutes=5)


@dataclass(frozen=True, slots=True)
class Key:
    """One key of a ring.

    Attributes:
        id: The key's id.
        creation_date: When it was made (aware, as all dates here).
        activation_date: From when on it may protect.
        expiration_date: From when on it protects no more; it goes on unprotecting.
        encryptor: What protects and unprotects with it.
        is_revoked: Whether it must be used for nothing any more.
    """

    id: UUID
    creation_date: datetime
    activation_date: datetime
    expiration_date: datetime
    encryptor: Encryptor = field(repr=False)
    is_revoked: bool = False

    def can_protect(self, now: datetime) -> bool:
        """Tells whether the key is neither revoked nor expired."""
        return not self.is_revoked and now < self.expiration_date


@dataclass(frozen=True, slots=True)
class KeyChoice:
    """What `choose_keys` found.

    Attributes:
        default: The key that protects now, or None.
        fallback: The best of the others, for a ring without a default that must not or cannot have a new
            key. It may be expired.
        new_key_activation: From when on a new key is needed, or None.
    """

    default: Key | None
    fallback: Key | None
    new_key_activation: datetime | None


def choose_keys(keys: Iterable[Key], now: datetime) -> KeyChoice:
    """Tells which key protects, and whether a new one is needed.

    A new key is needed at once when none can protect; and from the default's expiration on when that comes
    before another refresh and the propagation of a new key could be over, and no successor outlives that
    time.

    The keys are preferred in ASP.NET's order, except that there a revoked or expired key hides the key that
    was made to replace it until that one is two days old, and every start of a process adds another key.
    """
    ring = sorted(keys, key=lambda key: key.id)
    default = _default_key(ring, now)
    if default is None:
        return KeyChoice(None, _fallback_key(ring, now), now)
    horizon = now + REFRESH_PERIOD + PROPAGATION
    if default.expiration_date >= horizon:
        return KeyChoice(default, None, None)
    successor = _default_key(ring, default.expiration_date)
    if successor is not None and successor.expiration_date >= horizon:
        return KeyChoice(default, None, None)
    return KeyChoice(default, None, default.expiration_date)


def _default_key(ring: Sequence[Key], now: datetime) -> Key | None:
    active = [key for key in ring if key.activation_date <= now + CLOCK_SKEW]
    propagated, fresh = _by_propagation(active, now)
    if propagated:
        # Never an older one: a newer key, even one that was revoked, has replaced the older ones.
        latest = max(propagated, key=lambda key: key.activation_date)
        if latest.can_protect(now):
            return latest
    usable = [key for key in fresh if key.can_protect(now)]
    return min(usable, key=lambda key: key.activation_date, default=None)


def _fallback_key(ring: Sequence[Key], now: datetime) -> Key | None:
    propagated, fresh = _by_propagation([key for key in ring if not key.is_revoked], now)
    if propagated:
        return max(propagated, key=lambda key: key.creation_date)
    return min(fresh, key=lambda key: key.creation_date, default=None)


def _by_propagation(ring: Sequence[Key], now: datetime) -> tuple[list[Key], list[Key]]:
    cutoff = now - PROPAGATION
    propagated = [key for key in ring if key.creation_date <= cutoff]
    return propagated, [key for key in ring if key.creation_date > cutoff]
