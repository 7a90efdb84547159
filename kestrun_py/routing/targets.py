"""What Kestrel cleans in the path of a request before it is routed: dot segments, also percent-encoded ones."""

from __future__ import annotations

import re
from typing import Final

from aiohttp import web

__all__ = ["clean_path", "cleaned", "holds_nul"]

_DOTS: Final = re.compile(r"(?:\.|%2e){1,2}", re.IGNORECASE)
_NUL: Final = re.compile(r"%00|\0")


def holds_nul(path: str) -> bool:
    """Whether a path as it was sent holds a NUL, which Kestrel refuses."""
    return _NUL.search(path) is not None


def clean_path(path: str) -> str:
    """Returns a path without dot segments, in the encoding in which it was sent (RFC 3986, 5.2.4).

    ``/a/../b`` is ``/b``, ``/a/%2E%2e`` is ``/``, and nothing leads above the root. Empty segments stay.
    """
    segments = path.split("/")
    kept: list[str] = []
    for segment in segments[1:]:
        dots = len(re.sub("%2e", ".", segment, flags=re.IGNORECASE)) if _DOTS.fullmatch(segment) else 0
        if dots == 2 and kept:
            kept.pop()
        elif not dots:
            kept.append(segment)
    if _DOTS.fullmatch(segments[-1]):
        kept.append("")  # what a dot segment at the end leaves is a folder
    return "/" + "/".join(kept)


def cleaned(request: web.Request) -> web.Request:
    """Returns a request without dot segments in its path; nearly always the request itself."""
    sent = request.rel_url.raw_path
    if "/." not in sent and "%" not in sent:  # a quick look first: most paths hold neither
        return request
    path = clean_path(sent)
    if path == sent or not sent.startswith("/"):
        return request
    return request.clone(rel_url=request.rel_url.with_path(path, encoded=True, keep_query=True))
