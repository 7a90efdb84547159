"""Content types by the names of files."""

from __future__ import annotations

from mimetypes import MimeTypes
from typing import Final

__all__ = ["guess_type"]

# Python's own table, not that of the machine, so that a host answers alike everywhere.
_TYPES: Final = MimeTypes()
_TYPES.encodings_map = {}
for _kind, _ending in {
    "application/gzip": ".gz",
    "application/yaml": ".yaml",
    "application/x-7z-compressed": ".7z",
    "application/x-bzip2": ".bz2",
    "application/x-xz": ".xz",
    "font/woff": ".woff",
    "font/woff2": ".woff2",
    "image/webp": ".webp",
    "image/x-icon": ".ico",
    "text/javascript": ".js",
    "text/markdown": ".md",
}.items():
    _TYPES.add_type(_kind, _ending)


def guess_type(name: str, *, default: str = "application/octet-stream") -> str:
    """Returns the content type of a file by its name's ending."""
    return _TYPES.guess_type(f"file:{name}")[0] or default
