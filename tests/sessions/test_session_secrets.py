"""Logs and messages never hold a session key or a cookie value."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
from typing import Any
from urllib.parse import unquote

import pytest
from session_support import Clock, RecordingCache, Sites, as_async_def, as_def

from kestrun_py.caching import Expiration
from kestrun_py.errors import CacheUnavailableError
from kestrun_py.logging import LogLevel
from kestrun_py.sessions import Session


def clear_then_set(session: Session) -> None:
    session.clear()
    session.set_string("color", "red")


def fail(session: Session) -> None:
    session.get("color")
    raise ValueError("by design")


def swell(session: Session) -> None:
    session.set("big", bytes(5000))


PATHS: dict[str, Any] = {
    "/set": lambda session: session.set_string("color", "blue"),
    "/get": lambda session: session.get_string("color"),
    "/id": lambda session: session.id,
    "/renew": Session.renew,
    "/replace": clear_then_set,
    "/fail": fail,
    "/swell": swell,
    "/abandon": Session.abandon,
}


async def test_a_busy_life_leaves_no_secret_in_the_log(
    sites: Sites, clock: Clock, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    cookies: set[str] = set()
    routes = {path + kind.__name__: kind(work) for path, work in PATHS.items() for kind in (as_def, as_async_def)}
    routes |= {f"ro:/ro{path}": as_async_def(work) for path, work in PATHS.items()}
    cache = RecordingCache(clock=clock)
    site = await sites.serve(routes, cache=cache, max_size=2000, io_timeout=0.2)

    async def live(cookie: str) -> None:
        for route in [*(path.removeprefix("ro:") for path in routes), "/getas_def", "/nowhere"]:
            answer = await site.get(route, cookie)
            cookie = answer.cookie or cookie
            cookies.add(cookie)
            if answer.cookie == "":
                cookie = await site.login("/setas_def")
                cookies.add(cookie)

    first = [await site.login("/setas_def") for _ in range(4)]
    cookies.update(first)
    await asyncio.gather(*(live(cookie) for cookie in first))
    survivors = [await site.login("/setas_def") for _ in range(4)]
    cookies.update(survivors)
    for operation in ("lock", "commit", "store", "release", "get"):
        cache.break_down(CacheUnavailableError("by design"), operation)
        await asyncio.gather(*(live(cookie) for cookie in survivors[:2]), return_exceptions=True)
        cache.repair()
        cache._records.leases.clear()
    for key in list(cache.entries):
        with contextlib.suppress(KeyError):
            await cache.store(key, b"\xff\xff", Expiration(1200))
    await live(survivors[2])
    held = [await cache.lock(key, lease_time=60, timeout=1) for key in list(cache.entries)]
    assert any(held)
    await site.get("/setas_def", survivors[3])
    cache._records.leases.clear()
    clock.advance(5000)
    await live(survivors[3])
    await site.get("/getas_def", survivors[3][:-8] + "AAAAAAAA")

    output = capfd.readouterr()
    log = "\n".join([site.log.everything, caplog.text, output.out, output.err])
    keys = set(cache.keys)
    assert len(keys) >= 20
    assert len(cookies) >= 20
    for secret in keys | cookies | {unquote(cookie) for cookie in cookies}:
        assert secret not in log
        assert secret[:20] not in log
    # They are known by their fingerprints, and every kind of event was among them.
    assert any(hashlib.sha256(key.encode()).hexdigest()[:8] in log for key in keys)
    for text in (
        "started",
        "stored with",
        "loaded with",
        "is not stored any more",
        "could not be stored",
        "could not be read",
        "cannot be read",
        "Another request held the session",
        "was ignored",
    ):
        assert text in log
    assert {event.level for event in site.log.events} >= {
        LogLevel.DEBUG,
        LogLevel.INFORMATION,
        LogLevel.WARNING,
        LogLevel.ERROR,
    }
