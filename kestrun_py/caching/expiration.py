"""When an entry of a cache expires."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Self

from kestrun_py.conversion.timespan import Duration, to_seconds
from kestrun_py.errors import ArgumentError

__all__ = ["Expiration"]


@dataclass(frozen=True, slots=True)
class Expiration:
    """When an entry expires.

    Attributes:
        sliding: The entry expires when it was not read for this many seconds.
        absolute: The entry expires at this Unix time, read or not.
    """

    sliding: float | None = None
    absolute: float | None = None

    @classmethod
    def of(
        cls,
        *,
        sliding_expiration: Duration | None = None,
        absolute_expiration: datetime | None = None,
        absolute_expiration_relative_to_now: Duration | None = None,
    ) -> Self:
        """Builds an expiration from what ASP.NET's ``DistributedCacheEntryOptions`` takes.

        A relative absolute expiration wins over a fixed one, as it does there.

        Raises:
            ArgumentError: A window that is not positive, or an absolute time that has passed.
        """
        sliding = None
        if sliding_expiration is not None:
            sliding = to_seconds(sliding_expiration, "sliding_expiration")
            if sliding <= 0:
                raise ArgumentError("The sliding expiration value must be positive.")
        absolute = None
        if absolute_expiration_relative_to_now is not None:
            relative = to_seconds(absolute_expiration_relative_to_now, "absolute_expiration_relative_to_now")
            if relative <= 0:
                raise ArgumentError("The relative expiration value must be positive.")
            absolute = time.time() + relative
        elif absolute_expiration is not None:
            if absolute_expiration.tzinfo is None:
                absolute_expiration = absolute_expiration.replace(tzinfo=UTC)
            absolute = absolute_expiration.timestamp()
            if absolute <= time.time():
                raise ArgumentError("The absolute expiration value must be in the future.")
        return cls(sliding, absolute)
