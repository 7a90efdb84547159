"""Sessions as a part of a host."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiohttp.typedefs import Middleware

from kestrun_py.caching import DistributedCache
from kestrun_py.caching.feature import Caching
from kestrun_py.data_protection.feature import DataProtection
from kestrun_py.errors import InvalidOperationError
from kestrun_py.hosting.base import HostBase
from kestrun_py.hosting.feature import Feature
from kestrun_py.http.cookies import CookieBuilder
from kestrun_py.sessions.options import SessionOptions

__all__ = ["Sessions"]

if TYPE_CHECKING:
    from kestrun_py.sessions.store import SessionStore


class Sessions(Feature):
    """The sessions of a host: made of its cache, its key ring and the registered `SessionOptions`.

    Args:
        host: The host.
        memory_allowed: Whether sessions are kept in memory when no cache was added.
    """

    def __init__(self, host: HostBase, *, memory_allowed: bool = True) -> None:
        self._host = host
        self._memory_allowed = memory_allowed
        self._store: SessionStore | None = None

    def configure(self) -> None:
        # Imported when sessions are used: they need cryptography.
        from kestrun_py.data_protection import CookieProtector  # imported when used
        from kestrun_py.sessions.store import SessionStore  # imported when used

        host = self._host
        options = host.services.require(SessionOptions)
        if host.services.get(DistributedCache) is None and not self._memory_allowed:
            raise InvalidOperationError(
                "Sessions need a distributed cache: call add_distributed_redis_cache "
                "(add_kr_distributed_redis_cache) or its like, or leave out no_distributed_memory_cache."
            )
        host.require(Caching)
        self._check_cookie(options.cookie)
        ring = host.require(DataProtection).ring
        protector = CookieProtector(ring, logger=host.logger)
        cache = host.services.require(DistributedCache)
        self._store = SessionStore(cache, protector, options, host.logger)
        host.services.add(SessionStore, self._store)

    def _check_cookie(self, cookie: CookieBuilder) -> None:
        """Compares the cookie with the endpoints, which are all known by now."""
        with_tls = [endpoint.certificate is not None for endpoint in self._host.endpoints]
        for warning in cookie.validate(serves_http=not all(with_tls), serves_https=any(with_tls)):
            self._host.logger.warning("{Warning}", warning)

    def make_middleware(self) -> Middleware:
        """Returns the session middleware; called when the host is configured."""
        from kestrun_py.sessions.middleware import session_middleware  # imported when used

        assert self._store is not None
        return session_middleware(self._store, self._host.logger)

    async def stop(self) -> None:
        if self._store is not None:
            await self._store.close()
