"""What the end of a request does to its session: every row of the table, and every combination."""

from __future__ import annotations

from itertools import product

import pytest

from kestrun_py.sessions.outcome import CookieAction, Origin, Outcome, Store, decide

NONE, EXPIRED, KNOWN = Origin.NONE, Origin.EXPIRED, Origin.KNOWN

NOTHING = Outcome(Store.NOTHING, remove_old=False, cookie=CookieAction.LEAVE)
STORED = Outcome(Store.SAME_KEY, remove_old=False, cookie=CookieAction.LEAVE)
STARTED = Outcome(Store.NEW_KEY, remove_old=False, cookie=CookieAction.SET)
MOVED = Outcome(Store.NEW_KEY, remove_old=True, cookie=CookieAction.SET)
REFUSED = Outcome(Store.REFUSED, remove_old=False, cookie=CookieAction.LEAVE)
ENDED = Outcome(Store.NOTHING, remove_old=True, cookie=CookieAction.EXPIRE)
FORGOTTEN = Outcome(Store.NOTHING, remove_old=False, cookie=CookieAction.EXPIRE)

ROWS = [
    # what happened, as (origin, flags), and the outcome
    ("untouched", None, "", NOTHING),
    ("read, no session", NONE, "", NOTHING),
    ("read, expired session", EXPIRED, "", NOTHING),
    ("read", KNOWN, "has_values", NOTHING),
    ("read a session without values", KNOWN, "", NOTHING),
    ("changed", KNOWN, "has_values changed", STORED),
    ("set, new", NONE, "has_values changed", STARTED),
    ("set, expired", EXPIRED, "has_values changed", STARTED),
    ("set and removed, new", NONE, "changed emptied", NOTHING),
    ("set and removed, expired", EXPIRED, "changed emptied", NOTHING),
    ("removed last", KNOWN, "changed emptied", ENDED),
    ("cleared", KNOWN, "changed emptied", ENDED),
    ("cleared, then set", KNOWN, "has_values changed emptied", MOVED),
    ("cleared, then set, new", NONE, "has_values changed emptied", STARTED),
    ("cleared, then set, expired", EXPIRED, "has_values changed emptied", STARTED),
    ("abandoned", KNOWN, "changed emptied abandoned", ENDED),
    ("abandoned, then set", KNOWN, "has_values changed emptied abandoned", MOVED),
    ("abandoned, none there", NONE, "changed emptied abandoned", NOTHING),
    ("abandoned, expired", EXPIRED, "changed emptied abandoned", FORGOTTEN),
    ("renewed", KNOWN, "has_values renewed", MOVED),
    ("renewed and changed", KNOWN, "has_values changed renewed", MOVED),
    ("renewed, then cleared", KNOWN, "changed emptied renewed", ENDED),
    ("renewed, no session", NONE, "renewed", NOTHING),
    ("renewed, expired session", EXPIRED, "renewed", NOTHING),
    ("set and renewed, new", NONE, "has_values changed renewed", STARTED),
    ("set and renewed, expired", EXPIRED, "has_values changed renewed", STARTED),
    ("read, moved meanwhile", Origin.MOVED, "", NOTHING),
    ("set, moved meanwhile", Origin.MOVED, "has_values changed", REFUSED),
    ("set and removed, moved meanwhile", Origin.MOVED, "changed emptied", NOTHING),
    ("set and renewed, moved meanwhile", Origin.MOVED, "has_values changed renewed", STARTED),
    ("renewed, moved meanwhile", Origin.MOVED, "renewed", NOTHING),
    ("abandoned and renewed, moved meanwhile", Origin.MOVED, "changed emptied abandoned renewed", REFUSED),
    ("abandoned, moved meanwhile", Origin.MOVED, "changed emptied abandoned", REFUSED),
]


@pytest.mark.parametrize(("origin", "flags", "outcome"), [row[1:] for row in ROWS], ids=[row[0] for row in ROWS])
def test_rows(origin: Origin | None, flags: str, outcome: Outcome) -> None:
    assert decide(origin, **dict.fromkeys(flags.split(), True)) == outcome


FLAGS = ("has_values", "changed", "emptied", "abandoned", "renewed")


@pytest.mark.parametrize("origin", [None, *Origin])
def test_every_combination(origin: Origin | None) -> None:
    for flags in product((False, True), repeat=len(FLAGS)):
        happened = dict(zip(FLAGS, flags, strict=True))
        outcome = decide(origin, **happened)
        touched = any(happened[flag] for flag in ("changed", "emptied", "abandoned", "renewed"))
        # No record without a value, and a client learns of every new key and of nothing else.
        assert happened["has_values"] or outcome.store in (Store.NOTHING, Store.REFUSED)
        assert (outcome.store is Store.NEW_KEY) == (outcome.cookie is CookieAction.SET)
        # Only what was found can be overwritten or removed; what never was or has expired gets a new key.
        if origin is not KNOWN:
            assert outcome.store is not Store.SAME_KEY
            assert not outcome.remove_old
        # A key that is given up is removed, and what is removed is given up.
        if origin is KNOWN:
            assert outcome.remove_old == (outcome.cookie is not CookieAction.LEAVE)
            assert touched or outcome == NOTHING
            assert not (touched and not happened["has_values"]) or outcome.remove_old
        if origin is None:
            assert outcome == NOTHING
