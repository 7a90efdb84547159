"""kestrun_py: Kestrun's web host and client sessions for Python, on aiohttp.

`KestrunHost` is where to start; `cmdlets` has the same as functions, named as Kestrun's cmdlets.
"""

from kestrun_py._plain_errors import show_errors_plainly
from kestrun_py._version import __version__
from kestrun_py.caching import DistributedCache
from kestrun_py.caching.memory import MemoryCache
from kestrun_py.context import KestrunContext, current_context
from kestrun_py.errors import KestrunError
from kestrun_py.host import KestrunHost
from kestrun_py.http.cookies import CookieBuilder, CookieSecurePolicy, SameSiteMode
from kestrun_py.routing.table import HttpVerb
from kestrun_py.sessions import CacheFailurePolicy, Session, SessionAccess, SessionLock, SessionOptions

__all__ = [
    "CacheFailurePolicy",
    "CookieBuilder",
    "CookieSecurePolicy",
    "DistributedCache",
    "HttpVerb",
    "KestrunContext",
    "KestrunError",
    "KestrunHost",
    "MemoryCache",
    "SameSiteMode",
    "Session",
    "SessionAccess",
    "SessionLock",
    "SessionOptions",
    "__version__",
    "current_context",
]

show_errors_plainly()
