"""What a cache's server says about itself."""

from __future__ import annotations

from dataclasses import dataclass, field

__all__ = ["CacheStatus"]


@dataclass(frozen=True, slots=True)
class CacheStatus:
    """What `DistributedCache.ping` found.

    Attributes:
        server: The server's product name ("Redis", "PostgreSQL", "memory").
        version: Its version.
        round_trip: Seconds from a small command to its answer.
        details: Further findings to show, by label (for instance {"table": "dbo.Sessions exists"}).
        problems: What keeps the cache from working though its server answers, or may lose what it stores, and what
            helps, as sentences.
    """

    server: str
    version: str
    round_trip: float
    details: dict[str, str] = field(default_factory=dict)
    problems: tuple[str, ...] = ()
