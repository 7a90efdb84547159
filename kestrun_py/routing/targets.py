"""What Kestrel cleans in the path of a request before it is routed: dot segments, also percent-encoded ones."""

from __future__ import annotations

from aiohttp import web

__all__ = ["clean_path", "cleaned", "holds_nul"]


def holds_nul(path: str) -> bool:
    """Whether a path as it was sent holds a NUL, which Kestrel refuses."""
    return "%00" in path or "\0" in path


def clean_path(path: str) -> str:
    """Returns a path without dot segments, in the encoding in which it was sent (RFC 3986, 5.2.4).

    ``/a/../b`` is ``/b``, ``/a/%2E%2e`` is ``/``, and nothing leads above the root. Empty segments stay.
    """
    kept: list[str] = []
    plain = ""
    for segment in path.split("/")[1:]:
        plain = segment.replace("%2e", ".").replace("%2E", ".")
        if plain == "..":
            del kept[-1:]
        elif plain != ".":
            kept.append(segment)
    if plain in {".", ".."}:
        kept.append("")  # what a dot segment at the end leaves is a folder
    return "/" + "/".join(kept)


def cleaned(request: web.Request) -> web.Request:
    """Returns a request without dot segments in its path; nearly always the request itself."""
    sent = request.rel_url.raw_path
    if "/." not in sent and "/%2" not in sent:  # a quick look first: how a dot segment begins
        return request
    path = clean_path(sent)
    if path == sent or not sent.startswith("/"):
        return request
    return request.clone(rel_url=request.rel_url.with_path(path, encoded=True, keep_query=True))
