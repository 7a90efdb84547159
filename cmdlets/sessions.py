"""The session cmdlets: Add-KrSession, Get- and Set-KrSessionString and their kin, and a few of our own.

In a route they work on the request's session: nothing is read before the first of them, and what they change is
stored when the script has ended.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from cmdlets._arguments import checked_text, mandatory_text
from kestrun_py.conversion.timespan import Duration
from kestrun_py.errors import ArgumentError
from kestrun_py.host import KestrunHost
from kestrun_py.host_registry import resolve_host
from kestrun_py.http.cookies import CookieBuilder
from kestrun_py.sessions import CacheFailurePolicy, SessionLock, SessionOptions
from kestrun_py.sessions.context import current_session
from kestrun_py.sessions.options import CacheFailurePolicyText, SessionLockText

__all__ = [
    "abandon_kr_session",
    "add_kr_data_protection",
    "add_kr_session",
    "clear_kr_session",
    "get_kr_session_byte",
    "get_kr_session_id",
    "get_kr_session_int32",
    "get_kr_session_json",
    "get_kr_session_string",
    "remove_kr_session",
    "renew_kr_session",
    "set_kr_session_byte",
    "set_kr_session_int32",
    "set_kr_session_json",
    "set_kr_session_string",
]


def add_kr_session(
    cookie: CookieBuilder | None = None,
    *,
    idle_timeout: Duration | None = None,
    io_timeout: Duration | None = None,
    absolute_timeout: Duration | None = None,
    lock: SessionLock | SessionLockText | None = None,
    on_cache_failure: CacheFailurePolicy | CacheFailurePolicyText | None = None,
    max_size: int | None = None,
    options: SessionOptions | None = None,
    no_distributed_memory_cache: bool = False,
    memory_cache_options: Mapping[str, Any] | None = None,
    server: KestrunHost | None = None,
) -> KestrunHost:
    """Adds sessions to the host (Add-KrSession), in memory unless another cache is added.

    Args:
        cookie: The session cookie; ``.AspNetCore.Session``, HttpOnly, SameSite Lax if left out.
        idle_timeout: A session not used for this long is gone; 20 minutes.
        io_timeout: The longest a request waits for its session, and again at its commit; 10 seconds.
        absolute_timeout: A session is gone this long after it began, used or not; never.
        lock: ``"exclusive"``, or ``"none"`` to let requests of one session overlap as in ASP.NET Core.
        on_cache_failure: ``"fail"`` (503), or ``"continue"`` without the session as in ASP.NET Core.
        max_size: The most bytes of a stored session; 1 MiB.
        options: Instead of all these, ready options.
        no_distributed_memory_cache: Do not fall back to memory: a cache must be added.
        memory_cache_options: Arguments of the memory cache: ``size_limit``, ``compaction``, ``scan_interval``.
        server: The host.

    Raises:
        InvalidOperationError: Sessions were added already, or the host is configured.
        ArgumentError: A value out of its range, or a cookie that browsers would refuse.
    """
    host = resolve_host(server)
    if memory_cache_options is not None:
        if no_distributed_memory_cache:
            raise ArgumentError("memory_cache_options are for the cache that no_distributed_memory_cache leaves out.")
        host.add_distributed_memory_cache(**memory_cache_options)
    return host.add_session(
        options,
        cookie=cookie,
        idle_timeout=idle_timeout,
        io_timeout=io_timeout,
        absolute_timeout=absolute_timeout,
        lock=lock,
        on_cache_failure=on_cache_failure,
        max_size=max_size,
        no_distributed_memory_cache=no_distributed_memory_cache,
    )


# made from KestrunHost.add_data_protection
def add_kr_data_protection(
    *,
    application_name: str | None = None,
    folder: str | os.PathLike[str] | None = None,
    redis: object = None,
    server: KestrunHost | None = None,
) -> KestrunHost:
    """Sets how session cookies are protected: the application's name, and where the key ring is kept.

    Args:
        application_name: Hosts understand each other's cookies if they share name and key ring; ``kestrun``.
        folder: Where to keep the key ring. Left out, it is where the sessions are; for the memory cache that is
            the user's data directory.
        redis: Instead, the Redis server to keep it in, as `add_kr_distributed_redis_cache` takes it.
        server: The host.

    Raises:
        InvalidOperationError: The host is configured.
        ArgumentError: The name is no text, both places are given, or an option of Redis is malformed.
    """
    return resolve_host(server).add_data_protection(application_name=application_name, folder=folder, redis=redis)


def get_kr_session_string(key: str) -> str | None:
    """Returns a text of the session, or None (Get-KrSessionString)."""
    return current_session("get_kr_session_string").get_string(mandatory_text(key, "key"))


def set_kr_session_string(key: str, value: str) -> None:
    """Stores a text in the session; it may be empty (Set-KrSessionString)."""
    session = current_session("set_kr_session_string")
    session.set_string(mandatory_text(key, "key"), checked_text(value, "value"))


def get_kr_session_int32(key: str) -> int | None:
    """Returns a 32-bit integer of the session, or None (Get-KrSessionInt32)."""
    return current_session("get_kr_session_int32").get_int32(mandatory_text(key, "key"))


def set_kr_session_int32(key: str, value: int) -> None:
    """Stores a 32-bit integer in the session (Set-KrSessionInt32)."""
    current_session("set_kr_session_int32").set_int32(mandatory_text(key, "key"), value)


def get_kr_session_byte(key: str) -> bytes | None:
    """Returns bytes of the session, or None (Get-KrSessionByte)."""
    return current_session("get_kr_session_byte").get(mandatory_text(key, "key"))


def set_kr_session_byte(key: str, value: bytes) -> None:
    """Stores bytes in the session (Set-KrSessionByte)."""
    current_session("set_kr_session_byte").set(mandatory_text(key, "key"), value)


def get_kr_session_json(key: str) -> Any:
    """Returns a value that was stored as JSON, or None."""
    return current_session("get_kr_session_json").get_json(mandatory_text(key, "key"))


def set_kr_session_json(key: str, value: Any) -> None:
    """Stores a value in the session as JSON."""
    current_session("set_kr_session_json").set_json(mandatory_text(key, "key"), value)


def remove_kr_session(key: str) -> None:
    """Removes a value from the session (Remove-KrSession)."""
    current_session("remove_kr_session").remove(mandatory_text(key, "key"))


def clear_kr_session() -> None:
    """Removes all values from the session, and with them the session and its cookie (Clear-KrSession)."""
    current_session("clear_kr_session").clear()


def renew_kr_session() -> None:
    """Moves the session to a new key; call it when the user signs in, so that an older cookie is worthless."""
    current_session("renew_kr_session").renew()


def abandon_kr_session() -> None:
    """Ends the session: its values are removed and the client's cookie is expired."""
    current_session("abandon_kr_session").abandon()


def get_kr_session_id() -> str:
    """Returns the session's id: a GUID inside the stored session, not the key in the cookie, and no secret."""
    return current_session("get_kr_session_id").id
