"""The exclusive right to one entry of a cache."""

from __future__ import annotations

import itertools
import os
import secrets
from enum import Enum
from typing import Final

__all__ = ["Busy", "Lease", "new_token"]

# What keeps the tokens of this process apart from those of others, its forks included.
_process_token = secrets.token_hex(8)
_count: Final = itertools.count(1)


def new_token() -> str:
    """Returns an unguessable lease token, unique among all processes."""
    return f"{_process_token}-{next(_count)}"


def _renew_process_token() -> None:
    global _process_token
    _process_token = secrets.token_hex(8)


os.register_at_fork(after_in_child=_renew_process_token)


class Lease:
    """The exclusive right to one entry, and the entry as it was read when the right was given.

    Attributes:
        key: The entry's key.
        token: The lease token.
        value: The entry's bytes.
        absolute: The entry's absolute expiration as Unix time, or None.
    """

    __slots__ = ("absolute", "key", "token", "value")

    def __init__(self, key: str, token: str, value: bytes, absolute: float | None) -> None:
        self.key = key
        self.token = token
        self.value = value
        self.absolute = absolute


class Busy(Enum):
    """The answer of `DistributedCache._try_lock` when another holder has the entry."""

    BUSY = "busy"
