"""What the end of a request does to its session: a pure function of what happened."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Final

__all__ = ["CookieAction", "Origin", "Outcome", "Store", "decide"]


class Origin(Enum):
    """Where the session of a request came from."""

    NONE = "no cookie, or one that is forged, foreign or broken"
    EXPIRED = "a good cookie whose session is no longer stored"
    MOVED = "a good cookie whose session another request has moved to a new key a short time ago"
    KNOWN = "a good cookie and a stored session"


class Store(Enum):
    """What is written."""

    NOTHING = "nothing"
    SAME_KEY = "the values, under the session's own key"
    NEW_KEY = "the values, under a new key"
    REFUSED = "nothing: the request fails, because its client has a newer cookie by now"


class CookieAction(Enum):
    """What the response does to the client's cookie."""

    LEAVE = "nothing"
    SET = "set, to the new key"
    EXPIRE = "expired"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the end of a request does.

    Attributes:
        store: What is written, and under which key.
        remove_old: Whether the entry that the session was read from is removed.
        cookie: What the response does to the client's cookie.
    """

    store: Store
    remove_old: bool
    cookie: CookieAction


NOTHING: Final = Outcome(Store.NOTHING, remove_old=False, cookie=CookieAction.LEAVE)
_UPDATED: Final = Outcome(Store.SAME_KEY, remove_old=False, cookie=CookieAction.LEAVE)
_STARTED: Final = Outcome(Store.NEW_KEY, remove_old=False, cookie=CookieAction.SET)
_RESTARTED: Final = Outcome(Store.NEW_KEY, remove_old=True, cookie=CookieAction.SET)
_ENDED: Final = Outcome(Store.NOTHING, remove_old=True, cookie=CookieAction.EXPIRE)
_REFUSED: Final = Outcome(Store.REFUSED, remove_old=False, cookie=CookieAction.LEAVE)
_FORGOTTEN: Final = Outcome(Store.NOTHING, remove_old=False, cookie=CookieAction.EXPIRE)


def decide(
    origin: Origin | None,
    *,
    has_values: bool = False,
    changed: bool = False,
    emptied: bool = False,
    abandoned: bool = False,
    renewed: bool = False,
) -> Outcome:
    """Decides what the end of a request does to its session.

    Args:
        origin: Where the session came from; None if the request has not used it.
        has_values: Whether the session holds values now.
        changed: Whether a value was set or removed.
        emptied: Whether a stored session was cleared, or lost its last value, at any time during the request.
        abandoned: Whether the session was given up with its cookie.
        renewed: Whether a new key was asked for.
    """
    if origin is None:
        return NOTHING
    if origin is Origin.MOVED:
        if has_values and renewed:
            return _STARTED
        return _REFUSED if has_values or abandoned else NOTHING
    if origin is not Origin.KNOWN:
        if has_values:
            return _STARTED
        return _FORGOTTEN if abandoned and origin is Origin.EXPIRED else NOTHING
    replaced = emptied or abandoned or renewed
    if has_values:
        return _RESTARTED if replaced else _UPDATED if changed else NOTHING
    return _ENDED if replaced or changed else NOTHING
