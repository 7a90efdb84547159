"""The Cache-Control header of an answer."""

from __future__ import annotations

from dataclasses import dataclass

from kestrun_py.errors import ArgumentError

__all__ = ["CacheControl"]


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheControl:
    """The directives of a Cache-Control header (ASP.NET Core's ``CacheControlHeaderValue``).

    Ages are seconds, at least 1.

    Raises:
        ArgumentError: An age that is no positive number.
    """

    no_store: bool = False
    no_transform: bool = False
    only_if_cached: bool = False
    public: bool = False
    must_revalidate: bool = False
    proxy_revalidate: bool = False
    no_cache: bool = False
    max_age: int | None = None
    shared_max_age: int | None = None
    max_stale: bool = False
    max_stale_limit: int | None = None
    min_fresh: int | None = None
    private: bool = False

    def __post_init__(self) -> None:
        for name in ("max_age", "shared_max_age", "max_stale_limit", "min_fresh"):
            value = getattr(self, name)
            if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
                raise ArgumentError(f"{name} must be a whole number of seconds from 1, not {value!r}.")

    def __str__(self) -> str:
        """The header's text; the directives in the order in which ASP.NET Core writes them."""
        stale = "" if self.max_stale_limit is None else f"={self.max_stale_limit}"
        parts = [
            ("no-store", self.no_store),
            ("no-transform", self.no_transform),
            ("only-if-cached", self.only_if_cached),
            ("public", self.public),
            ("must-revalidate", self.must_revalidate),
            ("proxy-revalidate", self.proxy_revalidate),
            ("no-cache", self.no_cache),
            (f"max-age={self.max_age}", self.max_age is not None),
            (f"s-maxage={self.shared_max_age}", self.shared_max_age is not None),
            (f"max-stale{stale}", self.max_stale),
            (f"min-fresh={self.min_fresh}", self.min_fresh is not None),
            ("private", self.private),
        ]
        return ", ".join(text for text, wanted in parts if wanted)
