"""`KestrunContext`: a request being handled, with what all features add to it."""

from __future__ import annotations

from typing import cast

import kestrun_py.http.context as http_context
from kestrun_py.sessions.context import SessionContext

__all__ = ["KestrunContext", "current_context"]


class KestrunContext(SessionContext):
    """One request being handled (Kestrun's ``$Context``).

    Attributes:
        services: The host's services; ``context.services.get(DistributedCache)`` is the cache.
        endpoint: The route that was found, with its options; None if no route answers this request.
        response: What will be answered.
        features: What features keep for this request, by type (ASP.NET Core's ``HttpContext.Features``).
        stream: The response that a script has started itself, if any.
        ended: Whether the request has been answered; its context can do nothing more then.
    """

    __slots__ = ()


def current_context(caller: str = "current_context") -> KestrunContext:
    """Returns the context of the request that the calling script handles.

    Args:
        caller: The function on whose behalf it is asked for; the error names it.

    Raises:
        ContextError: No request is being handled here, or the request has been answered already.
    """
    return cast(KestrunContext, http_context.current_context(caller))
