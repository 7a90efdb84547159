"""What a Redis server says about itself, and whether sessions can be kept in it."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Final

from kestrun_py.caching.redis._wire import Wire, pack
from kestrun_py.caching.redis.options import Endpoint
from kestrun_py.errors import CacheUnavailableError

__all__ = ["check_version", "first_words", "identify", "problems_of"]

_INFO: Final = pack((b"INFO",))
_SAVE_POINTS: Final = pack((b"CONFIG", b"GET", b"save"))
_MIN_VERSION: Final = 5
_FIRST_WORDS_SECONDS: Final = 0.5
_FIRST_WORDS_BYTES: Final = 4096


async def identify(wire: Wire, deadline: float) -> dict[str, str]:
    """What INFO says; nothing if this user may not ask."""
    reply = await wire.send(_INFO, deadline)
    if not isinstance(reply, bytes):
        return {}
    lines = (line.partition(":") for line in reply.decode("utf-8", "replace").splitlines())
    return {name: value for name, colon, value in lines if colon}


def check_version(info: dict[str, str], where: str) -> None:
    """Refuses a server that is too old.

    Raises:
        CacheUnavailableError: It is older than Redis 5.
    """
    version = info.get("redis_version", "")
    major = version.partition(".")[0]
    if major.isascii() and major.isdecimal() and int(major) < _MIN_VERSION:
        raise CacheUnavailableError(f"Redis at {where} is version {version}; Redis {_MIN_VERSION} or later is needed.")


async def problems_of(wire: Wire, info: dict[str, str], deadline: float) -> tuple[str, ...]:
    """How a server may lose sessions or the key ring, as sentences. What this user may not ask is left out."""
    problems = []
    policy = info.get("maxmemory_policy", "")
    if policy.startswith("allkeys-"):
        problems.append(
            f"Redis at {wire.where} evicts any key when its memory is full (maxmemory-policy {policy}), also sessions "
            "and the key ring; without the key ring all users lose their sessions. Set maxmemory-policy to noeviction."
        )
    if info.get("aof_enabled") == "0" and await _has_no_save_points(wire, deadline):
        problems.append(
            f"Redis at {wire.where} writes nothing to disk (no save points, appendonly no): when it restarts, sessions "
            "and the key ring are lost. Set save points or appendonly yes."
        )
    return tuple(problems)


async def _has_no_save_points(wire: Wire, deadline: float) -> bool:
    reply = await wire.send(_SAVE_POINTS, deadline)
    return isinstance(reply, list) and len(reply) == 2 and reply[1] == b""


async def first_words(endpoint: Endpoint | None, unix_socket: str | None) -> str | None:
    """The error that a server sends as soon as a connection is made: that it is full, or lets this host not in.

    Such a server closes the connection at once, so a client that is about to write sees that alone.
    """
    opening = asyncio.open_unix_connection(unix_socket) if endpoint is None else asyncio.open_connection(*endpoint)
    with suppress(OSError, TimeoutError, ValueError):
        async with asyncio.timeout(_FIRST_WORDS_SECONDS):
            reader, writer = await opening
            try:
                said = await reader.read(_FIRST_WORDS_BYTES)
            finally:
                writer.close()
        if said.startswith(b"-"):
            line = said[1:].partition(b"\r\n")[0].decode("utf-8", "replace")
            return "".join(character if character.isprintable() else " " for character in line)
    return None
