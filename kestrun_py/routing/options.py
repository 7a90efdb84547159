"""What a route says of itself, known before the middleware runs (ASP.NET Core's endpoint metadata)."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Literal, TypeAlias

__all__ = ["RouteEndpoint", "RouteOptions", "SessionAccess", "SessionAccessText"]


class SessionAccess(Enum):
    """What a route may do with the session."""

    READ_WRITE = "read_write"
    READ_ONLY = "read_only"


SessionAccessText: TypeAlias = Literal["read_write", "read_only"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteOptions:
    """The options of a route (Kestrun's ``MapRouteOptions``).

    Attributes:
        session_access: ``READ_ONLY`` reads the session without its lock, and refuses writes.
    """

    session_access: SessionAccess = SessionAccess.READ_WRITE


@dataclass(frozen=True, slots=True)
class RouteEndpoint:
    """The route that was found for a request.

    Attributes:
        pattern: The route's pattern, as it was mapped.
        options: The route's options.
    """

    pattern: str
    options: RouteOptions = field(default_factory=RouteOptions)
