"""Small documents from the web: revocation lists, discovery documents."""

from __future__ import annotations

import time
import urllib.request
from typing import Final

__all__ = ["fetch"]

_SECONDS: Final = 10.0
_CHUNK_BYTES: Final = 1 << 16


def fetch(url: str, max_bytes: int) -> bytes:
    """Returns what a URL answers. It blocks, for about ten seconds at most, however slowly the server answers.

    Raises:
        OSError: No answer, an answer that is an error, or one that takes too long.
        ValueError: A URL that is none of HTTP, or a longer answer.
    """
    if not url.lower().startswith(("http://", "https://")):
        raise ValueError(f"{url!r:.80} is no http or https URL")
    deadline = time.monotonic() + _SECONDS
    data = bytearray()
    with urllib.request.urlopen(url, timeout=_SECONDS) as response:
        while chunk := response.read1(_CHUNK_BYTES):
            data += chunk
            if len(data) > max_bytes:
                raise ValueError(f"{url} has more than {max_bytes:,} bytes")
            if time.monotonic() > deadline:
                raise TimeoutError(f"{url} was not read within {_SECONDS:g} seconds")
    return bytes(data)
