"""The sessions of a host: one loader and one committer on one cache."""

from __future__ import annotations

from kestrun_py.caching import DistributedCache
from kestrun_py.data_protection import CookieProtector
from kestrun_py.logging import Logger
from kestrun_py.sessions.committing import SessionCommitter
from kestrun_py.sessions.holding import SessionHolds
from kestrun_py.sessions.loading import SessionLoader
from kestrun_py.sessions.moves import MovedSessions
from kestrun_py.sessions.options import SessionOptions

__all__ = ["SessionStore"]


class SessionStore:
    """Loads and commits the sessions of a host.

    Args:
        cache: Where the sessions are.
        protector: What protects the session key in the cookie.
        options: The host's session options.
        logger: Where it is logged what happens to sessions.

    Attributes:
        holds: What the requests of this process hold.
        loader: Loads sessions.
        committer: Carries out what the end of a request does to its session.
    """

    def __init__(
        self, cache: DistributedCache, protector: CookieProtector, options: SessionOptions, logger: Logger
    ) -> None:
        moves = MovedSessions(cache, options.io_timeout)
        self.holds = SessionHolds(cache, options, logger)
        self.loader = SessionLoader(cache, protector, options, self.holds, moves, logger)
        self.committer = SessionCommitter(cache, protector, options, self.holds, moves, logger)

    async def close(self) -> None:
        """Ends background work. The cache and the key ring are closed by the features that own them."""
        await self.holds.close()
