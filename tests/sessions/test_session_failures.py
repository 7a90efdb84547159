"""A cache that fails, a lock that is lost, a session that cannot be read: the request fails, never the data."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.typedefs import Handler
from session_support import Answer, Clock, RecordingCache, Script, Sites, as_async_def, as_def
from waiting import until

from kestrun_py.caching import Expiration
from kestrun_py.context import KestrunContext, current_context
from kestrun_py.errors import CacheUnavailableError, SessionTooLargeError, SessionUnavailableError
from kestrun_py.logging import LogLevel
from kestrun_py.sessions import Session, blob, options
from kestrun_py.sessions.store import SessionStore

DOWN = CacheUnavailableError("the server is gone")


def bump(session: Session) -> int:
    count = (session.get_int32("counter") or 0) + 1
    session.set_int32("counter", count)
    return count


def clear_then_bump(session: Session) -> int:
    session.clear()
    return bump(session)


def renew_and_bump(session: Session) -> int:
    session.renew()
    return bump(session)


def routes(script: Any) -> dict[str, Script]:
    async def untouched(context: KestrunContext) -> None:
        context.response.write_text("Hello")

    return {
        "/hello": untouched,
        "/bump": script(bump),
        "/get": script(lambda session: session.get_int32("counter")),
        "/look": script(lambda s: [s.is_available, s.id, s.keys, s.get("a"), s.get_string("a"), s.get_int32("a")]),
        "/clear": script(Session.clear),
        "/abandon": script(Session.abandon),
        "/renew": script(renew_and_bump),
        "/clear-then-bump": script(clear_then_bump),
        "ro:/ro": script(lambda session: session.get_int32("counter")),
    }


def assert_unavailable(answer: Answer) -> None:
    assert answer.status == 503
    assert answer.headers["Retry-After"] == "1"
    assert answer.set_cookie == []
    assert "Error: The service is unavailable" in answer.text
    assert answer.headers["Vary"] == "Cookie"


# Reading


@pytest.mark.parametrize("path", ["/bump", "/get", "/clear", "/renew", "/ro"])
async def test_a_cache_that_cannot_be_read(sites: Sites, script: Any, path: str) -> None:
    site = await sites.serve(routes(script))
    cookie = await site.login("/bump")
    site.cache.break_down(DOWN)
    answer = await site.get(path, cookie)
    assert_unavailable(answer)
    assert answer.calls == ["get" if path == "/ro" else "lock"]
    assert "The session could not be read: the server is gone" in site.log.texts(LogLevel.ERROR)[-1]
    assert (await site.get("/hello", cookie)).status == 200
    assert (await site.get("/get")).status == 200
    site.cache.repair()
    assert (await site.get("/bump", cookie)).text == '{"result":2}'


@pytest.mark.parametrize("path", ["/bump", "/ro"])
async def test_an_outage_that_the_cache_has_reported_makes_debug_lines(sites: Sites, script: Any, path: str) -> None:
    site = await sites.serve(routes(script))
    cookie = await site.login("/bump")
    outage = CacheUnavailableError("the server is gone")
    outage.reported = True
    site.cache.break_down(outage)
    assert_unavailable(await site.get(path, cookie))
    assert site.log.alarms == []
    assert len([text for text in site.log.texts(LogLevel.DEBUG) if "the server is gone" in text]) == 1


@pytest.mark.parametrize("path", ["/bump", "/ro"])
async def test_a_cache_that_does_not_answer(sites: Sites, script: Any, path: str) -> None:
    site = await sites.serve(routes(script), io_timeout=1)
    cookie = await site.login("/bump")
    gate = asyncio.Event()
    site.cache.closed_gates = {"lock": gate, "get": gate}
    began = time.monotonic()
    hanging = asyncio.create_task(site.get(path, cookie))
    await until(lambda: site.cache.calls[-1] in ("lock", "get"))
    others = [await site.get("/hello", cookie) for _ in range(3)] + [await site.get("/get") for _ in range(3)]
    assert not hanging.done()
    assert {answer.status for answer in others} == {200}
    answer = await hanging
    assert 1 <= time.monotonic() - began < 10
    assert answer.status == 503
    gate.set()
    assert (await site.get("/bump", cookie)).text == '{"result":2}'


async def test_a_script_may_handle_it_itself(sites: Sites) -> None:
    def script(context: KestrunContext) -> None:
        with pytest.raises(SessionUnavailableError, match="the server is gone"):
            wrapped(context).get("a")
        context.response.write_json({"result": "without"}, compress=True)

    def wrapped(context: KestrunContext) -> Session:
        return context.session

    async def async_script(context: KestrunContext) -> None:
        script(context)

    site = await sites.serve({"/": async_script, **routes(as_async_def)})
    cookie = await site.login("/bump")
    site.cache.break_down(DOWN)
    assert (await site.get("/", cookie)).text == '{"result":"without"}'
    site.cache.repair()
    assert (await site.get("/bump", cookie)).text == '{"result":2}'


# Writing

#: Scripts that move the session to a new key.
MOVING = ("/renew", "/clear-then-bump")


@pytest.mark.parametrize("path", ["/bump", "/clear", "/abandon", "/renew", "/clear-then-bump"])
@pytest.mark.parametrize("operation", ["commit", "store"])
async def test_a_cache_that_cannot_be_written(sites: Sites, script: Any, path: str, operation: str) -> None:
    site = await sites.serve(routes(script))
    cookie = await site.login("/bump")
    stored = dict(site.cache.entries)
    site.cache.break_down(DOWN, operation)
    answer = await site.get(path, cookie)
    if operation == "commit" and path in MOVING:
        assert answer.cookie  # see below
    elif operation in answer.calls:
        assert_unavailable(answer)
        assert {key: site.cache.entries[key] for key in stored} == stored
        assert "The session could not be stored: the server is gone" in site.log.texts(LogLevel.ERROR)[-1]
        site.cache.repair()
        assert (await site.get("/bump", cookie)).text == '{"result":2}'
    else:
        assert answer.status == 200
    await until(lambda: site.cache.leases == 0)


async def test_a_new_session_that_cannot_be_stored(sites: Sites, script: Any) -> None:
    site = await sites.serve(routes(script))
    site.cache.break_down(DOWN)
    answer = await site.get("/bump")
    assert_unavailable(answer)
    assert answer.headers["Cache-Control"] == "no-cache,no-store"
    assert not {"Pragma", "Expires"} & answer.headers.keys()
    assert site.cache.entries == {}
    site.cache.repair()
    assert (await site.get("/bump")).text == '{"result":1}'


@pytest.mark.parametrize("path", ["/bump", "/renew", "/clear-then-bump"])
@pytest.mark.parametrize("cookie", [True, False])
async def test_the_whole_commit_is_bounded(sites: Sites, path: str, cookie: bool) -> None:
    site = await sites.serve(routes(as_async_def), io_timeout=0.2)
    known = await site.login("/bump")
    sent = known if cookie else None
    site.cache.closed_gates = dict.fromkeys(("store", "commit", "remove"), asyncio.Event())
    began = time.monotonic()
    assert_unavailable(await site.get(path, sent))
    assert 0.2 <= time.monotonic() - began < 10
    site.cache.closed_gates.clear()
    expected = '{"result":2}' if cookie else '{"result":1}'
    assert (await site.get("/bump", sent)).text == expected


async def test_each_step_of_a_commit_has_what_the_others_left(sites: Sites, monkeypatch: pytest.MonkeyPatch) -> None:
    site = await sites.serve(routes(as_async_def), io_timeout=0.4)
    cookie = await site.login("/bump")
    timeouts: list[float] = []

    async def slow_store(key: str, value: bytes, expiration: Expiration, *, timeout: float = 10) -> None:
        timeouts.append(timeout)
        await asyncio.sleep(0.2)

    async def hanging_commit(lease: Any, value: Any, expiration: Any, *, timeout: float = 10) -> None:
        timeouts.append(timeout)
        raise DOWN

    monkeypatch.setattr(site.cache, "store", slow_store)
    monkeypatch.setattr(site.cache, "commit", hanging_commit)
    monkeypatch.setattr(site.cache, "commit_at_once", lambda *_: False)
    assert (await site.get("/renew", cookie)).status == 200
    assert 0 < timeouts[0] <= 0.4
    assert timeouts[1] <= 0.2


@pytest.mark.parametrize("path", ["/bump", "/clear"])
async def test_an_answer_that_was_lost(sites: Sites, path: str) -> None:
    """The cache did what it was asked to, and its answer did not arrive: the lock is free all the same."""
    site = await sites.serve(routes(as_async_def))
    cookie = await site.login("/bump")
    site.cache.late["commit"] = DOWN
    assert_unavailable(await site.get(path, cookie))
    site.cache.repair()
    assert (await site.get("/bump", cookie)).status == 200
    await until(lambda: site.cache.leases == 0)


@pytest.mark.parametrize("path", MOVING)
@pytest.mark.parametrize("removed", [True, False])
async def test_a_session_that_moved_stays_where_its_values_are(sites: Sites, path: str, removed: bool) -> None:
    """It was stored under its new key, and whether its old entry is gone is not known: none of the two is lost."""
    site = await sites.serve(routes(as_async_def))
    cookie = await site.login("/bump")
    [old] = site.cache.entries
    if removed:
        site.cache.late["commit"] = DOWN
    else:
        site.cache.break_down(DOWN, "commit", "remove")
    answer = await site.get(path, cookie)
    assert answer.text == ('{"result":2}' if path == "/renew" else '{"result":1}')
    assert answer.cookie
    assert (old in site.cache.entries) is not removed
    assert "stored under before is removed as soon as possible: the server is gone" in site.log.alarms[-1]
    await until(lambda: site.cache.calls.count("remove") >= (1 if removed else 2))
    site.cache.repair()
    await until(lambda: old not in site.cache.entries)
    assert len(site.cache.entries) == 1
    counted = (await site.get("/bump", answer.cookie)).text
    assert counted == ('{"result":3}' if path == "/renew" else '{"result":2}')
    assert (await site.get("/get", cookie)).text == '{"result":null}'
    await until(lambda: site.cache.leases == 0)


async def test_stopping_does_not_wait_for_a_cache_that_does_not_answer(sites: Sites) -> None:
    site = await sites.serve(routes(as_async_def), io_timeout=60, cancels=True)
    cookie = await site.login("/bump")
    site.cache.closed_gates["release"] = asyncio.Event()
    store = site.host.services.require(SessionStore)
    reading = asyncio.create_task(site.get("/get", cookie))
    await until(lambda: "release" in site.cache.calls)
    reading.cancel()
    await until(lambda: store.holds.background)
    began = time.monotonic()
    await store.close()
    assert time.monotonic() - began < 10


async def test_a_lock_that_cannot_be_released(sites: Sites, script: Any) -> None:
    site = await sites.serve(routes(script), io_timeout=0.1)
    cookie = await site.login("/bump")
    site.cache.break_down(DOWN, "release")
    assert (await site.get("/get", cookie)).text == '{"result":1}'
    assert "could not be released, and frees itself soon: the server is gone" in site.log.alarms[-1]
    site.cache.repair()
    assert (await site.get("/bump", cookie)).status == 503  # it is still locked, but the queue moves on
    site.cache._records.leases.clear()
    assert (await site.get("/bump", cookie)).text == '{"result":2}'


# on_cache_failure="continue"


async def test_reads_see_nothing_and_writes_are_dropped(sites: Sites, script: Any) -> None:
    site = await sites.serve(routes(script), on_cache_failure="continue")
    cookie = await site.login("/bump")
    stored = dict(site.cache.entries)
    site.cache.break_down(DOWN)
    answer = await site.get("/look", cookie)
    assert answer.text == '{"result":[false,"",[],null,null,null]}'
    assert answer.calls == ["lock"]
    assert len(site.log.alarms) == 1
    assert "the request goes on without it: the server is gone" in site.log.texts(LogLevel.ERROR)[0]
    for path in ("/bump", "/clear", "/abandon", "/renew", "/ro"):
        answer = await site.get(path, cookie)
        assert answer.status == 200
        assert answer.set_cookie == []
        assert answer.calls in (["lock"], ["get"])
    assert len(site.log.alarms) == 6
    assert site.cache.entries == stored
    site.cache.repair()
    assert (await site.get("/bump", cookie)).text == '{"result":2}'


@pytest.mark.parametrize("path", ["/bump", "/clear", "/renew", "/clear-then-bump"])
async def test_what_cannot_be_stored_is_dropped(sites: Sites, script: Any, path: str) -> None:
    site = await sites.serve(routes(script), on_cache_failure="continue")
    cookie = await site.login("/bump")
    stored = dict(site.cache.entries)
    site.cache.break_down(DOWN, "store", "commit")
    for sent in (cookie, None):
        answer = await site.get(path, sent)
        assert answer.status == 200
        assert answer.set_cookie == []
    assert site.cache.entries == stored
    assert all("its changes are lost: the server is gone" in text for text in site.log.alarms)
    site.cache.repair()
    assert (await site.get("/bump", cookie)).text == '{"result":2}'


# Locks


@pytest.fixture
def _short_leases(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(options, "_MIN_LEASE_SECONDS", 0.6)


async def slow_bump(context: KestrunContext) -> None:
    count = bump(context.session)
    await asyncio.sleep(1.5)
    context.response.write_json({"result": count}, compress=True)


def slow_bump_def(context: KestrunContext) -> None:
    count = bump(context.session)
    time.sleep(1.5)
    context.response.write_json({"result": count}, compress=True)


@pytest.mark.usefixtures("_short_leases")
@pytest.mark.parametrize("slow", [slow_bump, slow_bump_def])
async def test_a_long_request_keeps_its_lock(sites: Sites, slow: Script) -> None:
    cache = RecordingCache()
    one, two = [
        await sites.serve({"/slow": slow, **routes(as_async_def)}, cache=cache, io_timeout=timeout)
        for timeout in (1, 20)
    ]
    cookie = await one.login("/bump")
    request = asyncio.create_task(one.get("/slow", cookie))
    await until(lambda: cache.leases)
    waiting = asyncio.create_task(two.get("/bump", cookie))
    assert (await request).text == '{"result":2}'
    assert (await waiting).text == '{"result":3}'
    assert cache.calls.count("renew") >= 5
    assert not one.log.alarms


@pytest.mark.parametrize("loss", ["taken over", "removed"])
@pytest.mark.parametrize("path", ["/bump", "/clear", "/renew", "/clear-then-bump"])
async def test_a_lost_lock_writes_nothing(sites: Sites, loss: str, path: str) -> None:
    reached, go_on = asyncio.Event(), asyncio.Event()
    work = {"/bump": bump, "/clear": Session.clear, "/renew": renew_and_bump, "/clear-then-bump": clear_then_bump}

    async def script(context: KestrunContext) -> None:
        context.session.get("a")
        reached.set()
        await go_on.wait()
        work[path](context.session)

    clock = Clock()
    cache = RecordingCache(clock=clock)
    site = await sites.serve({"/slow": script, **routes(as_async_def)}, cache=cache)
    cookie = await site.login("/bump")
    [key] = cache.entries
    request = asyncio.create_task(site.get("/slow", cookie))
    await reached.wait()
    clock.advance(6)  # the holder stood still, or was cut off: nobody has renewed its lock
    if loss == "removed":
        await cache.remove(key)
    else:
        lease = await cache.lock(key, lease_time=5, timeout=1)
        assert lease is not None
        await cache.commit(lease, blob.encode(bytes(16), {"counter": b"\0\0\0\7"}), Expiration(1200))
    go_on.set()
    assert_unavailable(await request)
    assert "nothing was written" in site.log.alarms[-1]
    assert cache.markers == {}
    if loss == "removed":
        assert cache.entries == {}
        assert (await site.get("/bump", cookie)).text == '{"result":1}'
    else:
        assert list(cache.entries) == [key]
        assert (await site.get("/bump", cookie)).text == '{"result":8}'


async def test_the_lock_of_a_process_that_died(sites: Sites) -> None:
    site = await sites.serve(routes(as_async_def))
    cookie = await site.login("/bump")
    [key] = site.cache.entries
    began = time.monotonic()
    assert await site.cache.lock(key, lease_time=0.2, timeout=1) is not None
    assert (await site.get("/bump", cookie)).text == '{"result":2}'
    assert time.monotonic() - began >= 0.15


async def test_the_queue_moves_on_after_a_failure(sites: Sites) -> None:
    site = await sites.serve(routes(as_async_def))
    cookie = await site.login("/bump")
    site.cache.closed_gates["lock"] = asyncio.Event()
    requests = [asyncio.create_task(site.get("/bump", cookie)) for _ in range(5)]
    await until(lambda: site.cache.calls[-1] == "lock")
    site.cache.break_down(DOWN, "lock")
    site.cache.closed_gates.pop("lock").set()
    assert {answer.status for answer in await asyncio.gather(*requests)} == {503}
    site.cache.repair()
    assert (await site.get("/bump", cookie)).text == '{"result":2}'


async def test_an_error_that_is_not_a_cache_error(sites: Sites) -> None:
    """A cache with a fault of its own: 500, and the session is not locked for good."""
    site = await sites.serve(routes(as_async_def))
    cookie = await site.login("/bump")
    for operation in ("lock", "commit", "release"):
        site.cache.break_down(ZeroDivisionError(), operation)
        answer = await site.get("/get" if operation == "release" else "/bump", cookie)
        assert answer.status == 500
        site.cache.repair()
        site.cache._records.leases.clear()
        assert (await site.get("/get", cookie)).text == '{"result":1}'


# What is stored cannot be read

CORRUPT = {
    "empty": b"",
    "noise": b"\xff" * 50,
    "another revision": b"\x01" + bytes(30),
    "truncated": blob.encode(bytes(16), {"secret": b"value"})[:-1],
    "too many": b"\x02\xff\xff\xff" + bytes(16),
}


@pytest.mark.parametrize("stored", CORRUPT.values(), ids=CORRUPT)
async def test_a_corrupt_session_counts_as_empty(sites: Sites, script: Any, stored: bytes) -> None:
    site = await sites.serve(routes(script))
    cookie = await site.login("/bump")
    [key] = site.cache.entries
    await site.cache.store(key, stored, Expiration(1200))
    answer = await site.get("/get", cookie)
    assert answer.text == '{"result":null}'
    assert answer.calls == ["lock", "release"]
    assert answer.set_cookie == []
    [warning] = site.log.texts(LogLevel.WARNING)
    assert "cannot be read" in warning
    assert "secret" not in site.log.everything
    assert site.cache.entries == {key: stored}
    answer = await site.get("/bump", cookie)
    assert answer.text == '{"result":1}'
    assert answer.calls == ["lock", "commit"]
    assert answer.set_cookie == []
    assert list(site.cache.entries) == [key]
    assert (await site.get("/bump", cookie)).text == '{"result":2}'
    assert len(site.log.alarms) == 2


async def test_a_corrupt_session_can_be_cleared(sites: Sites, script: Any) -> None:
    site = await sites.serve(routes(script))
    cookie = await site.login("/bump")
    [key] = site.cache.entries
    await site.cache.store(key, b"\xff" * 50, Expiration(1200))
    answer = await site.get("/clear", cookie)
    assert answer.cookie == ""
    assert site.cache.entries == {}


async def test_the_blob_of_another_application_is_read(sites: Sites, vectors: dict[str, Any]) -> None:
    def look(session: Session) -> list[Any]:
        return [session.id, session.get_int32("n"), session.get_int32("neg"), session.get_string("é")]

    site = await sites.serve({**routes(as_async_def), "/see": as_async_def(look)})
    cookie = await site.login("/bump")
    [key] = site.cache.entries
    known = vectors["session_blobs"]
    stored = bytes.fromhex(known["n=42,neg=-1,e-acute=u-umlaut"])
    await site.cache.store(key, stored, Expiration(1200))
    assert (await site.get("/see", cookie)).text == f'{{"result":["{known["session_id"]}",42,-1,"ü"]}}'
    await site.get("/bump", cookie)
    assert blob.decode(site.cache.entries[key])[0] == stored[4:20]


# Too large


def fill(session: Session) -> None:
    session.set_string("first", "kept out")
    session.set("big", bytes(500))


def fill_and_catch(session: Session) -> list[str]:
    with pytest.raises(SessionTooLargeError):
        fill(session)
    return session.keys


@pytest.mark.parametrize("with_cookie", [True, False])
async def test_a_value_too_many(sites: Sites, script: Any, with_cookie: bool) -> None:
    site = await sites.serve({**routes(script), "/fill": script(fill)}, max_size=400)
    cookie = await site.login("/bump") if with_cookie else None
    stored = dict(site.cache.entries)
    answer = await site.get("/fill", cookie)
    assert answer.status == 500
    assert answer.set_cookie == []
    assert answer.calls == (["lock", "release"] if with_cookie else [])
    size = blob.HEADER_SIZE + (17 if with_cookie else 0) + (6 + 5 + 8) + (6 + 3 + 500)
    assert f"The session would have {size} bytes with 'big'; the limit (max_size) is 400 bytes." in site.log.everything
    assert "bytes" not in answer.text
    assert site.cache.entries == stored
    assert (await site.get("/bump", cookie)).text == f'{{"result":{2 if with_cookie else 1}}}'


async def test_a_script_that_catches_it_goes_on(sites: Sites, script: Any) -> None:
    site = await sites.serve({**routes(script), "/fill": script(fill_and_catch)}, max_size=400)
    cookie = await site.login("/bump")
    answer = await site.get("/fill", cookie)
    assert answer.text == '{"result":["counter","first"]}'
    assert answer.calls == ["lock", "commit"]


async def test_a_value_too_many_in_a_middleware(sites: Sites) -> None:
    @web.middleware
    async def overflow(request: web.Request, handler: Handler) -> web.StreamResponse:
        session = current_context().session
        await session.load()
        fill(session)
        return await handler(request)

    site = await sites.serve(routes(as_async_def), max_size=400)
    cookie = await site.login("/bump")
    stored = dict(site.cache.entries)
    other = await sites.serve(
        routes(as_async_def), cache=site.cache, configure=lambda host: host.use(overflow), max_size=400
    )
    answer = await other.get("/hello", cookie)
    assert answer.status == 500
    assert answer.calls == ["lock", "release"]
    assert site.cache.entries == stored


# The key ring


async def test_a_key_ring_that_cannot_be_read(sites: Sites, tmp_path: Path) -> None:
    folder = tmp_path / "keys"

    def configure(host: Any) -> None:
        host.add_data_protection(folder=folder)

    one = await sites.serve(routes(as_async_def), configure=configure)
    cookie = await one.login("/bump")
    folder.joinpath("bad.xml").write_text('<revocation version="1"/>')
    two = await sites.serve(routes(as_async_def), configure=configure, cache=one.cache)
    answer = await two.get("/get", cookie)
    assert_unavailable(answer)
    assert answer.calls == []
    assert_unavailable(await two.get("/bump"))
    assert (await two.get("/hello", cookie)).status == 200
    assert (await two.get("/get")).status == 200
    folder.joinpath("bad.xml").unlink()
    for _ in range(100):  # the ring is asked again at the first call after a second
        answer = await two.get("/bump", cookie)
        if answer.status == 200:
            break
        await asyncio.sleep(0.1)
    assert answer.text == '{"result":2}'


async def test_a_session_that_a_script_uses_by_a_function(sites: Sites) -> None:
    """A guess at a script's text must not decide whether it gets 503: here the session hides in a function."""

    def hidden(context: KestrunContext) -> None:
        context.response.write_json({"result": use(context)}, compress=True)

    def use(context: KestrunContext) -> int:
        return bump(getattr(context, "sess" + "ion"))

    site = await sites.serve({"/hidden": hidden, **routes(as_def)})
    cookie = await site.login("/bump")
    site.cache.break_down(DOWN)
    assert_unavailable(await site.get("/hidden", cookie))
    site.cache.repair()
    assert (await site.get("/hidden", cookie)).text == '{"result":2}'
