"""The records of a memory cache: when they expire, who holds them, and how much memory they take.

Records live in many small dictionaries (shards) instead of one large one. So neither the growth of a dictionary nor a
walk through it holds up the event loop, however many records there are. A record is one ``bytes`` object: a header and
the value. The garbage collector does not visit dictionaries of strings and bytes.

A shard is kept in order of last use: reading a record takes it out and puts it back at the end.
"""

from __future__ import annotations

import math
from struct import Struct
from sys import getsizeof
from typing import Final

__all__ = ["HEADER", "HEADER_BYTES", "SHARD_COUNT", "Records", "bytes_taken", "last_access"]

SHARD_COUNT: Final = 1024  # a power of two; a million records make a thousand to a shard
_MASK: Final = SHARD_COUNT - 1

#: Last access, sliding window, deadline; inf where there is none.
HEADER: Final = Struct("<ddd")
_STAMP: Final = Struct("<d")
HEADER_BYTES: Final = HEADER.size

# What a record takes beside its bytes and its key: its share of a dictionary that has room for three to six times as
# many entries (12.7 bytes for each), which is how CPython leaves one after entries were taken out and put back.
_SLOT_BYTES: Final = 56
_ROUNDED: Final = getsizeof(b"") + 15  # memory is given out in units of 16 bytes


class Records:
    """Records by key.

    All times are those of one clock that never goes back.

    Attributes:
        shards: The records.
        leases: The token of the holder of a record, and the time at which its lease ends.
        size: The bytes of memory that the records take; expired ones that were not removed yet count.
    """

    __slots__ = ("leases", "shards", "size")

    def __init__(self) -> None:
        self.shards: list[dict[str, bytes]] = [{} for _ in range(SHARD_COUNT)]
        self.leases: dict[str, tuple[str, float]] = {}
        self.size = 0

    def __len__(self) -> int:
        return sum(map(len, self.shards))

    def clear(self) -> None:
        """Removes everything."""
        self.shards[:] = [{} for _ in range(SHARD_COUNT)]
        self.leases.clear()
        self.size = 0

    def live(self, key: str, now: float) -> bytes | None:
        """Returns a record that has not expired; one that has is removed."""
        record = self.shards[hash(key) & _MASK].get(key)
        if record is None:
            return None
        accessed, sliding, deadline = HEADER.unpack_from(record)
        if (now < accessed + sliding and now < deadline) or self.is_held(key, now):
            return record
        self.drop(key)
        return None

    def touch(self, key: str, now: float) -> bytes | None:
        """Returns a live record, stamped with this access and moved to the end of its shard."""
        record = self.live(key, now)
        if record is None:
            return None
        shard = self.shards[hash(key) & _MASK]
        del shard[key]
        record = shard[key] = _STAMP.pack(now) + record[_STAMP.size :]
        return record

    def put(self, key: str, value: bytes, sliding: float | None, deadline: float, now: float) -> None:
        """Stores a record in the place of the one that is there, whose lease ends."""
        shard = self.shards[hash(key) & _MASK]
        old = shard.pop(key, None)
        record = shard[key] = HEADER.pack(now, math.inf if sliding is None else sliding, deadline) + value
        if old is None:
            self.size += (len(record) + _ROUNDED & -16) + (getsizeof(key) + _SLOT_BYTES + 15 & -16)
        else:
            self.size += (len(record) + _ROUNDED & -16) - (len(old) + _ROUNDED & -16)
        self.leases.pop(key, None)

    def drop(self, key: str) -> None:
        """Removes a record and its lease, if they are there."""
        record = self.shards[hash(key) & _MASK].pop(key, None)
        if record is not None:
            self.size -= bytes_taken(key, len(record) - HEADER_BYTES)
        self.leases.pop(key, None)

    def is_held(self, key: str, now: float) -> bool:
        """Whether a live lease protects a record from expiry and eviction."""
        held = self.leases.get(key)
        return held is not None and held[1] > now

    def growth(self, key: str, value: bytes) -> int:
        """How many bytes `size` grows by if this value is stored."""
        old = self.shards[hash(key) & _MASK].get(key)
        new = bytes_taken(key, len(value))
        return new if old is None else new - bytes_taken(key, len(old) - HEADER_BYTES)

    def drop_expired(self, shard: dict[str, bytes], now: float) -> None:
        """Removes what has expired of a shard."""
        for key in [*shard]:
            self.live(key, now)


def bytes_taken(key: str, value_length: int) -> int:
    """The bytes of memory that a record takes with its key."""
    return (getsizeof(key) + _SLOT_BYTES + 15 & -16) + (value_length + HEADER_BYTES + _ROUNDED & -16)


def last_access(record: bytes) -> float:
    """When a record was used last."""
    stamp: float = _STAMP.unpack_from(record)[0]
    return stamp
