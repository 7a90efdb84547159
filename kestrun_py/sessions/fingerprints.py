"""What stands for a session in logs."""

from __future__ import annotations

import hashlib

__all__ = ["fingerprint"]


def fingerprint(session_key: str) -> str:
    """The first 8 hex digits of a session key's SHA-256; logs hold neither the key nor the cookie."""
    return hashlib.sha256(session_key.encode("utf-8", "surrogateescape")).hexdigest()[:8]
