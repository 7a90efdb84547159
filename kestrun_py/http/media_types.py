"""Media types: which are text, and which format an Accept header asks for."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

from kestrun_py.errors import ArgumentError

__all__ = ["CONTROL", "canonical_type", "media_type", "negotiate", "with_charset"]

#: What no header holds.
CONTROL: Final = re.compile("[\0-\x08\n-\x1f\x7f]")
_TEXT_BASED: Final = re.compile(
    r"text/|.*(?:xml|json|yaml|csv)$|application/(?:x-www-form-urlencoded|javascript|graphql)$"
)
_ALIASES: Final = {
    "text/json": "application/json",
    "text/xml": "application/xml",
    "text/yaml": "application/yaml",
    "text/x-yaml": "application/yaml",
    "application/x-yaml": "application/yaml",
    "application/csv": "text/csv",
}
_SUFFIXES: Final = {"json": "application/json", "xml": "application/xml", "yaml": "application/yaml"}
_NEGOTIATED: Final = frozenset(
    {
        "application/json",
        "application/xml",
        "application/yaml",
        "application/bson",
        "application/cbor",
        "application/x-www-form-urlencoded",
        "text/csv",
    }
)
_PLAIN: Final = "text/plain"


def media_type(content_type: str) -> str:
    """The media type of a Content-Type, in lower case and without its parameters."""
    return content_type.partition(";")[0].strip().lower()


def canonical_type(content_type: str) -> str:
    """The media type under its main name: ``text/xml`` and ``application/atom+xml`` are ``application/xml``."""
    name = media_type(content_type)
    return _ALIASES.get(name) or _SUFFIXES.get(name.rpartition("+")[2] if "+" in name else "") or name


def with_charset(content_type: str) -> str:
    """Returns a content type with ``charset=utf-8`` if it is one of text and names no charset.

    Raises:
        ArgumentError: It holds a control character.
    """
    if CONTROL.search(content_type):
        raise ArgumentError("A content type must not hold a line break or another control character.")
    if "charset" in content_type.lower() or not _TEXT_BASED.match(media_type(content_type)):
        return content_type
    return f"{content_type.rstrip(';')}; charset=utf-8"


@lru_cache(maxsize=256)
def negotiate(accept: str) -> str:
    """Returns the media type that an Accept header asks for, as Kestrun's ``Write-KrResponse`` chooses it.

    The entry with the highest quality counts, the first of several; one that stands for no format (``*/*``,
    ``text/html``, ``image/png``) is ``text/plain``.
    """
    best, highest = "", 0.0
    for entry in accept.split(","):
        name, *parameters = entry.split(";")
        quality = _quality(parameters)
        if name.strip() and quality > highest:
            best, highest = name, quality
    wanted = canonical_type(best)
    return wanted if wanted in _NEGOTIATED else _PLAIN


def _quality(parameters: list[str]) -> float:
    """The quality of an entry, 0 to 1; one that is malformed counts as not wanted."""
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip().lower() == "q":
            return float(value) if re.fullmatch(r"\s*(?:0(?:\.\d{0,3})?|1(?:\.0{0,3})?)\s*", value, re.ASCII) else 0.0
    return 1.0
