"""The errors of kestrun_py.

Every error that a host script or a request can cause derives from `KestrunError`, says what was wrong and what
to do about it, and ends a script as one line, without a traceback::

    KestrunError
    ├── InvalidOperationError (RuntimeError)    a call that comes too early, too late or twice
    │   └── ContextError                        a helper of a route script, called outside a request
    ├── ArgumentError (ValueError)              an argument of the wrong form
    │   └── BadRequestError                     a request that is not what it says it is: 400
    ├── MissingExtraError                       a package that only some hosts need is not installed
    ├── ScriptExitError                         a route script called exit()
    ├── ServerStartError                        a port is taken, a certificate is missing
    ├── CertificateError                        a certificate file that cannot be read or written
    ├── SessionError
    │   ├── SessionNotConfiguredError           the host has no `add_session`
    │   ├── SessionNotLoadedError               first access from a task or thread that cannot load it
    │   ├── SessionReadOnlyError                a write on a route mapped with session_access="read_only"
    │   ├── SessionClosedError                  a write after the session was committed
    │   ├── SessionTooLargeError                more bytes than `max_size`
    │   └── SessionUnavailableError             the cache could not be read or written: 503
    │       └── SessionLockTimeoutError         another request held the session for too long: 503
    ├── CacheError
    │   ├── CacheUnavailableError               no connection, a connection lost, a server that refuses
    │   │   └── CacheTimeoutError               no answer in time
    │   ├── CacheTableMissingError              the SQL table does not exist
    │   ├── LockTimeoutError                    the lock of an entry stayed taken
    │   └── LeaseLostError                      a lock was taken over, or its entry replaced, before the commit
    └── DataProtectionError                     a payload that is not ours, was changed, or whose key is gone
        ├── UnknownKeyError                     protected with a key that the ring does not hold
        └── KeyRingError                        the key ring cannot be read or written
"""

from __future__ import annotations

__all__ = [
    "ArgumentError",
    "BadRequestError",
    "CacheError",
    "CacheTableMissingError",
    "CacheTimeoutError",
    "CacheUnavailableError",
    "CertificateError",
    "ContextError",
    "DataProtectionError",
    "InvalidOperationError",
    "KestrunError",
    "KeyRingError",
    "LeaseLostError",
    "LockTimeoutError",
    "MissingExtraError",
    "ScriptExitError",
    "ServerStartError",
    "SessionClosedError",
    "SessionError",
    "SessionLockTimeoutError",
    "SessionNotConfiguredError",
    "SessionNotLoadedError",
    "SessionReadOnlyError",
    "SessionTooLargeError",
    "SessionUnavailableError",
    "UnknownKeyError",
]


class KestrunError(Exception):
    """The base of every error raised by kestrun_py on purpose.

    Attributes:
        status: The HTTP status of a request that ends with this error; 500 unless a subclass says otherwise.
    """

    status = 500


class InvalidOperationError(KestrunError, RuntimeError):
    """A call that comes too early, too late or twice (.NET's InvalidOperationException)."""


class ContextError(InvalidOperationError):
    """A helper of a route script was called where no request is being handled."""


class ArgumentError(KestrunError, ValueError):
    """An argument of the wrong form (.NET's ArgumentException)."""


class BadRequestError(ArgumentError):
    """A request that is not what it says it is, such as a body that is not JSON; it is answered with 400."""

    status = 400


class MissingExtraError(KestrunError):
    """A package that only some hosts need is not installed; the message says how to install it."""


class ScriptExitError(KestrunError):
    """A route script called ``exit()``, which ends the script and not the server."""


class ServerStartError(KestrunError):
    """The server cannot start: a port is taken, a certificate is missing or unreadable."""


class CertificateError(KestrunError):
    """A certificate file cannot be read or written, or does not fit its password or key."""


class SessionError(KestrunError):
    """The base of the session errors."""


class SessionNotConfiguredError(SessionError, InvalidOperationError):
    """A session was asked for on a host without `add_session`."""


class SessionNotLoadedError(SessionError, InvalidOperationError):
    """The first access to a session came from a task or thread that cannot load it."""


class SessionReadOnlyError(SessionError, InvalidOperationError):
    """A write on a route that was mapped with ``session_access="read_only"``."""


class SessionClosedError(SessionError, InvalidOperationError):
    """A write that comes after the session was committed, so it could not be stored."""


class SessionTooLargeError(SessionError):
    """The session holds more bytes than `max_size` allows; what was stored before is intact."""


class SessionUnavailableError(SessionError):
    """The session cannot be read or written at the moment; the request is answered with 503.

    Attributes:
        retry_after: Seconds after which the client may try again, for the Retry-After header.
    """

    status = 503

    def __init__(self, message: str, *, retry_after: int = 1) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class SessionLockTimeoutError(SessionUnavailableError):
    """Another request held the session's lock for longer than the I/O timeout."""


class CacheError(KestrunError):
    """The base of the cache errors."""


class CacheUnavailableError(CacheError):
    """The cache cannot be reached, or refuses to serve.

    Attributes:
        reported: Whether the cache has logged the outage, so that not each request needs to.
    """

    reported: bool = False


class CacheTimeoutError(CacheUnavailableError):
    """The cache did not answer in time. What was asked may or may not have been done."""


class CacheTableMissingError(CacheError):
    """The table of a SQL cache does not exist."""


class LockTimeoutError(CacheError):
    """The lock of a cache entry stayed taken for as long as the caller would wait."""


class LeaseLostError(CacheError):
    """A lock was taken over, or its entry replaced or removed, before the commit; nothing was written."""


class DataProtectionError(KestrunError):
    """A protected payload is not ours, was changed on its way, or its key was revoked."""


class UnknownKeyError(DataProtectionError):
    """A payload was protected with a key that the key ring does not hold."""


class KeyRingError(DataProtectionError):
    """The key ring cannot be read, or a new key cannot be stored."""
