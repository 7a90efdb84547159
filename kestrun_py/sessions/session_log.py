"""What is logged of sessions. Logs hold neither a session key nor a cookie: a fingerprint stands for them."""

from __future__ import annotations

import hashlib

from kestrun_py.logging import Logger, LogLevel

__all__ = ["SessionLog", "fingerprint"]


def fingerprint(session_key: str) -> str:
    """The first 8 hex digits of a session key's SHA-256."""
    return hashlib.sha256(session_key.encode("utf-8", "surrogateescape")).hexdigest()[:8]


class SessionLog:
    """The life of sessions in log lines: Information when one starts, is renewed or ends, Debug for the rest.

    Args:
        logger: Where the lines are written.
    """

    def __init__(self, logger: Logger) -> None:
        self._logger = logger

    def started(self, key: str) -> None:
        """A session was stored for the first time."""
        self._information("Session {Session} started", key)

    def renewed(self, old: str, new: str) -> None:
        """A session was moved to a new key with its values."""
        if self._logger.is_enabled(LogLevel.INFORMATION):
            self._logger.information(
                "Session {Session} was renewed: it is {NewSession} now", fingerprint(old), fingerprint(new)
            )

    def ended(self, key: str) -> None:
        """A request has emptied or abandoned the session."""
        self._information("Session {Session} ended", key)
        self._debug("Session {Session} was removed from the cache", key)

    def ended_elsewhere(self, key: str) -> None:
        """The entry was removed while a request used the session."""
        self._information("Session {Session} was ended by another program or request while a request used it", key)

    def not_stored(self, key: str) -> None:
        """A cookie's session is not in the cache; expiry, removal and eviction look alike."""
        self._information("Session {Session} is not stored any more: it has expired, or was ended or removed", key)

    def moved(self, key: str) -> None:
        """A request came with the cookie from before a renewal."""
        self._debug("Session {Session} was moved to a new key; the request has the old cookie", key)

    def loaded(self, key: str, count: int) -> None:
        """A request has read a session of `count` values."""
        if self._logger.is_enabled(LogLevel.DEBUG):
            self._logger.debug("Session {Session} loaded with {Count} values", fingerprint(key), count)

    def stored(self, key: str, count: int) -> None:
        """A request has stored a session of `count` values."""
        if self._logger.is_enabled(LogLevel.DEBUG):
            self._logger.debug("Session {Session} stored with {Count} values", fingerprint(key), count)

    def unreadable(self, key: str, error: Exception) -> None:
        """The stored bytes are not a session."""
        self._logger.warning(
            "What is stored for session {Session} cannot be read ({Error}); it counts as empty.",
            fingerprint(key),
            error,
        )

    def removed_later(self, key: str, error: Exception) -> None:
        """The entry under a session's old key could not be removed yet."""
        self._logger.warning(
            "What session {Session} was stored under before is removed as soon as possible: {Error}",
            fingerprint(key),
            error,
        )

    def _information(self, template: str, key: str) -> None:
        if self._logger.is_enabled(LogLevel.INFORMATION):
            self._logger.information(template, fingerprint(key))

    def _debug(self, template: str, key: str) -> None:
        if self._logger.is_enabled(LogLevel.DEBUG):
            self._logger.debug(template, fingerprint(key))
