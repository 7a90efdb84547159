"""`KestrunHost`: the core of a host and the verbs of all its features.

It mirrors Kestrun's ``KestrunHost``. Every verb returns the host, so that verbs can be chained::

    host = KestrunHost("Demo")
    host.add_endpoint(port=5000).add_session(idle_timeout=20).add_map_route("/hello", HttpVerb.GET, hello)
    host.run()
"""

from __future__ import annotations

from kestrun_py.caching.verbs import CacheVerbs
from kestrun_py.context import KestrunContext
from kestrun_py.data_protection.verbs import DataProtectionVerbs
from kestrun_py.hosting.base import EnvironmentText
from kestrun_py.hosting.cookie_verbs import CookieVerbs
from kestrun_py.hosting.endpoint_verbs import EndpointVerbs
from kestrun_py.hosting.route_verbs import RouteVerbs
from kestrun_py.logging import Logger
from kestrun_py.middleware.verbs import MiddlewareVerbs
from kestrun_py.sessions.verbs import SessionVerbs

__all__ = ["KestrunHost"]


class KestrunHost(
    EndpointVerbs, RouteVerbs, CookieVerbs, CacheVerbs, SessionVerbs, DataProtectionVerbs, MiddlewareVerbs
):
    """A web host in the making, and then running.

    Args:
        name: The application's name.
        logger: Where the host logs; the process's default logger if left out.
        environment: ``"Development"``, ``"Staging"``, ``"Production"``, or ``"Auto"`` for what the environment
            variables ASPNETCORE_ENVIRONMENT or DOTNET_ENVIRONMENT say, else Production.

    Attributes:
        name: The application's name.
        logger: Where the host logs.
        environment: The environment it runs in.
        services: The services, by type.
        routes: The route table.
        runspaces: The threads for ``def`` scripts.
    """

    context_type = KestrunContext

    def __init__(self, name: str, *, logger: Logger | None = None, environment: EnvironmentText = "Auto") -> None:
        super().__init__(name, logger=logger, environment=environment)
        self.services.add(KestrunHost, self)
