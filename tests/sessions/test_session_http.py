"""Sessions over HTTP: every row of the outcome table, the cookie, the headers, and ASP.NET Core's own cases."""

from __future__ import annotations

import asyncio
import hashlib
import re
import time
from types import SimpleNamespace
from typing import Any
from urllib.parse import unquote

import pytest
from aiohttp import web
from aiohttp.typedefs import Handler
from session_support import COOKIE, Clock, RecordingCache, Script, Site, Sites, as_async_def
from waiting import until

from kestrun_py import KestrunHost
from kestrun_py.context import KestrunContext, current_context
from kestrun_py.data_protection import cookie_protector
from kestrun_py.errors import SessionNotConfiguredError, SessionReadOnlyError
from kestrun_py.logging import LogLevel
from kestrun_py.sessions import Session, committing

GONE = "is not stored any more: it has expired, or was ended or removed"
NO_CACHE = {"Cache-Control": "no-cache,no-store", "Pragma": "no-cache", "Expires": "-1"}
FORGED = "CfDJ8" + "A" * 171


def clear_then_set(session: Session) -> None:
    session.clear()
    session.set_string("color", "red")


def abandon_then_set(session: Session) -> None:
    session.abandon()
    session.set_string("color", "red")


def set_then_remove(session: Session) -> None:
    session.set_string("shape", "round")
    session.remove("shape")


def renew_and_change(session: Session) -> None:
    session.renew()
    session.set_string("color", "red")


def routes(script: Any) -> dict[str, Script]:
    async def untouched(context: KestrunContext) -> None:
        context.response.write_text("Hello")

    return {
        "/hello": untouched,
        "/get": script(lambda session: session.get_string("color")),
        "/missing": script(lambda session: session.get_string("missing")),
        "/keys": script(lambda session: sorted(session.keys)),
        "/id": script(lambda session: session.id),
        "/available": script(lambda session: session.is_available),
        "/set": script(lambda session: session.set_string("color", "blue")),
        "/set-more": script(lambda session: session.set_string("shape", "round")),
        "/remove": script(lambda session: session.remove("color")),
        "/remove-missing": script(lambda session: session.remove("missing")),
        "/clear": script(Session.clear),
        "/abandon": script(Session.abandon),
        "/renew": script(Session.renew),
        "/renew-and-change": script(renew_and_change),
        "/clear-then-set": script(clear_then_set),
        "/abandon-then-set": script(abandon_then_set),
        "/set-then-remove": script(set_then_remove),
    }


READS = ["/get", "/missing", "/keys", "/id", "/available", "/remove-missing"]


@pytest.fixture
async def site(sites: Sites, script: Any, clock: Clock) -> Site:
    return await sites.serve(routes(script), cache=RecordingCache(clock=clock))


def assert_no_new_cookie(answer: Any) -> None:
    assert answer.set_cookie == []
    assert not {"Pragma", "Expires"} & answer.headers.keys()
    # Whenever the session was looked at, the answer depends on it.
    assert (answer.headers.get("Cache-Control"), answer.headers.get("Vary")) in (
        ("no-cache,no-store", "Cookie"),
        (None, None),
    )


def assert_new_cookie(answer: Any) -> None:
    assert len(answer.set_cookie) == 1
    assert answer.cookie
    assert {name: answer.headers[name] for name in NO_CACHE} == NO_CACHE


def assert_expired_cookie(answer: Any) -> None:
    assert answer.set_cookie == [f"{COOKIE}=; expires=Thu, 01 Jan 1970 00:00:00 GMT; path=/; samesite=lax; httponly"]
    assert answer.headers["Cache-Control"] == "no-cache,no-store"
    assert not {"Pragma", "Expires"} & answer.headers.keys()


class TestOutcomes:
    @pytest.mark.parametrize("with_cookie", [False, True])
    async def test_untouched(self, site: Site, with_cookie: bool) -> None:
        cookie = await site.login() if with_cookie else None
        answer = await site.get("/hello", cookie)
        assert answer.calls == []
        assert_no_new_cookie(answer)
        assert "Vary" not in answer.headers

    @pytest.mark.parametrize("path", [*READS, "/clear", "/abandon", "/renew", "/set-then-remove"])
    async def test_read_without_a_session(self, site: Site, path: str) -> None:
        answer = await site.get(path)
        assert answer.status == 200
        assert answer.calls == []
        assert_no_new_cookie(answer)
        assert answer.headers["Vary"] == "Cookie"

    @pytest.mark.parametrize("path", READS)
    async def test_read_only(self, site: Site, path: str) -> None:
        cookie = await site.login()
        answer = await site.get(path, cookie)
        assert answer.status == 200
        assert answer.calls == ["lock", "release"]
        assert_no_new_cookie(answer)
        assert answer.headers["Vary"] == "Cookie"
        assert site.cache.leases == 0

    @pytest.mark.parametrize("path", ["/set", "/set-more", "/set-then-remove"])
    async def test_changed(self, site: Site, path: str) -> None:
        cookie = await site.login()
        [key] = site.cache.entries
        answer = await site.get(path, cookie)
        assert answer.calls == ["lock", "commit"]
        assert_no_new_cookie(answer)
        assert answer.headers["Vary"] == "Cookie"
        assert list(site.cache.entries) == [key]
        assert (await site.get("/get", cookie)).text == '{"result":"blue"}'

    async def test_new(self, site: Site) -> None:
        answer = await site.get("/set")
        assert answer.calls == ["store"]
        assert_new_cookie(answer)
        assert answer.headers["Vary"] == "Cookie"
        assert site.cache.sessions == [{"color": b"blue"}]

    @pytest.mark.parametrize("path", ["/remove", "/clear", "/abandon"])
    async def test_emptied_or_abandoned(self, site: Site, path: str) -> None:
        cookie = await site.login()
        answer = await site.get(path, cookie)
        assert answer.calls == ["lock", "commit"]
        assert_expired_cookie(answer)
        assert answer.headers["Vary"] == "Cookie"
        assert site.cache.entries == {}
        assert site.cache.leases == 0
        assert (await site.get("/get", cookie)).text == '{"result":null}'

    @pytest.mark.parametrize("path", ["/clear-then-set", "/abandon-then-set"])
    async def test_emptied_then_set(self, site: Site, path: str) -> None:
        cookie = await site.login()
        [key] = site.cache.entries
        old_id = (await site.get("/id", cookie)).text
        answer = await site.get(path, cookie)
        assert answer.calls == ["lock", "renew", "store", "store", "commit"]
        assert_new_cookie(answer)
        assert key not in site.cache.entries
        assert site.cache.sessions == [{"color": b"red"}]
        assert (await site.get("/id", answer.cookie)).text != old_id
        assert (await site.get("/get", cookie)).text == '{"result":null}'
        assert (await site.get("/get", answer.cookie)).text == '{"result":"red"}'

    @pytest.mark.parametrize(("path", "color"), [("/renew", "blue"), ("/renew-and-change", "red")])
    async def test_renewed(self, site: Site, path: str, color: str) -> None:
        cookie = await site.login()
        [key] = site.cache.entries
        old_id = (await site.get("/id", cookie)).text
        answer = await site.get(path, cookie)
        assert answer.calls == ["lock", "renew", "store", "store", "commit"]
        assert_new_cookie(answer)
        assert answer.cookie != cookie
        assert key not in site.cache.entries
        assert site.cache.sessions == [{"color": color.encode()}]
        assert (await site.get("/id", answer.cookie)).text == old_id
        assert (await site.get("/get", cookie)).text == '{"result":null}'

    async def test_expired(self, site: Site, clock: Clock) -> None:
        cookie = await site.login()
        [key] = site.cache.entries
        clock.advance(1201)
        answer = await site.get("/get", cookie)
        assert answer.text == '{"result":null}'
        assert answer.calls == ["lock", "get"]
        assert_no_new_cookie(answer)
        answer = await site.get("/set", cookie)
        assert answer.calls == ["lock", "get", "store"]
        assert_new_cookie(answer)
        assert list(site.cache.entries) != [key]
        assert site.cache.sessions == [{"color": b"blue"}]

    async def test_an_expired_session_that_is_abandoned(self, site: Site, clock: Clock) -> None:
        cookie = await site.login()
        clock.advance(1201)
        answer = await site.get("/clear", cookie)
        assert answer.calls == ["lock", "get"]
        assert_no_new_cookie(answer)
        answer = await site.get("/abandon", cookie)
        assert answer.calls == ["lock", "get"]
        assert_expired_cookie(answer)

    async def test_forged(self, site: Site) -> None:
        answer = await site.get("/get", FORGED)
        assert answer.text == '{"result":null}'
        assert answer.calls == []
        assert_no_new_cookie(answer)
        assert len(site.log.alarms) == 1
        answer = await site.get("/set", FORGED)
        assert answer.calls == ["store"]
        assert_new_cookie(answer)
        assert (await site.get("/hello", FORGED)).status == 200
        assert len([event for event in site.log.events if "was ignored" in event.message]) == 2


# The cookie


async def test_the_cookie_byte_for_byte(sites: Sites) -> None:
    site = await sites.serve(routes(as_async_def))
    [header] = (await site.get("/set")).set_cookie
    found = re.fullmatch(rf"{re.escape(COOKIE)}=(\S+); path=/; samesite=lax; httponly", header)
    assert found is not None
    value = unquote(found[1])
    assert re.fullmatch(r"CfDJ8[A-Za-z0-9+/]{171}", value)
    assert found[1] == value.replace("+", "%2B").replace("/", "%2F")


async def test_the_default_cookie(sites: Sites) -> None:
    host = KestrunHost("test").add_session()
    host.add_map_route("/", "Get", lambda context: context.session.set("a", b""))
    site = await sites.visit(host)
    [header] = (await site.get("/")).set_cookie
    assert re.fullmatch(r"\.AspNetCore\.Session=CfDJ8[A-Za-z0-9%]+; path=/; samesite=lax; httponly", header)


async def test_every_attribute_and_the_same_when_it_expires(sites: Sites) -> None:
    attributes = {
        "domain": "example.com",
        "path": "/app",
        "max_age": 3600,
        "same_site": "None",
        "secure_policy": "Always",
        "extensions": ["Partitioned", "Priority=High"],
    }
    site = await sites.serve(routes(as_async_def), cookie=attributes)
    answer = await site.get("/set")
    [header] = answer.set_cookie
    tail = "domain=example.com; path=/app; secure; samesite=none; httponly; Partitioned; Priority=High"
    assert header == f"{COOKIE}={answer.cookie}; max-age=3600; {tail}"
    [header] = (await site.get("/clear", answer.cookie)).set_cookie
    assert header == f"{COOKIE}=; expires=Thu, 01 Jan 1970 00:00:00 GMT; {tail}"


@pytest.mark.parametrize(
    ("policy", "https", "secure"),
    [
        ("Always", True, True),
        ("Always", False, True),
        ("None", True, False),
        ("None", False, False),
        ("SameAsRequest", True, True),
        ("SameAsRequest", False, False),
    ],
)
async def test_secure_by_policy_and_scheme(sites: Sites, policy: str, https: bool, secure: bool) -> None:
    site = await sites.serve(routes(as_async_def), cookie={"secure_policy": policy}, https=https)
    answer = await site.get("/set")
    assert ("secure" in answer.set_cookie[0].split("; ")) == secure
    answer = await site.get("/clear", answer.cookie)
    assert ("secure" in answer.set_cookie[0].split("; ")) == secure


# Headers


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("Accept", "Accept, Cookie"),
        ("Accept, cookie", "Accept, cookie"),
        ("*", "*"),
        ("Accept-Encoding,COOKIE , Origin", "Accept-Encoding,COOKIE , Origin"),
    ],
)
async def test_vary_is_added_to(sites: Sites, given: str, expected: str) -> None:
    def script(context: KestrunContext) -> None:
        context.response.headers["Vary"] = given
        context.session.get("a")

    site = await sites.serve({"/": script})
    assert (await site.get("/")).headers.getall("Vary") == [expected]


async def test_a_new_session_overrules_cache_headers(sites: Sites) -> None:
    def script(context: KestrunContext) -> None:
        context.response.headers.update({"Cache-Control": "public", "Expires": "tomorrow", "Set-Cookie": "own=1"})
        context.session.set("a", b"")

    site = await sites.serve({"/": script})
    answer = await site.get("/")
    assert {name: answer.headers.getall(name) for name in NO_CACHE} == {name: [NO_CACHE[name]] for name in NO_CACHE}
    assert len(answer.set_cookie) == 2
    assert answer.set_cookie[0] == "own=1"


async def test_head_is_as_get(sites: Sites, script: Any) -> None:
    site = await sites.serve(routes(script))
    answer = await site.get("/set", method="HEAD")
    assert answer.calls == ["store"]
    assert_new_cookie(answer)
    assert answer.text == ""
    assert (await site.get("/get", answer.cookie)).text == '{"result":"blue"}'


# However it ends, it is stored


def redirect(context: KestrunContext) -> None:
    context.session.set_string("color", "blue")
    context.response.write_redirect("/elsewhere")


def refuse(context: KestrunContext) -> None:
    context.session.set_string("color", "blue")
    context.response.write_json({"error": "no"}, status=409)


def fail(context: KestrunContext) -> None:
    context.session.set_string("color", "blue")
    raise ValueError("the script's own secret")


def raise_redirect(context: KestrunContext) -> None:
    context.session.set_string("color", "blue")
    raise web.HTTPFound("/elsewhere")


def raise_forbidden(context: KestrunContext) -> None:
    context.session.set_string("color", "blue")
    raise web.HTTPForbidden


def return_response(context: KestrunContext) -> web.Response:
    context.session.set_string("color", "blue")
    return web.Response(status=202, text="own")


def leave(context: KestrunContext) -> None:
    context.session.set_string("color", "blue")
    raise SystemExit(3)


ENDINGS = [
    (redirect, 302),
    (refuse, 409),
    (fail, 500),
    (raise_redirect, 302),
    (raise_forbidden, 403),
    (return_response, 202),
    (leave, 500),
]


def also_async(ending: Any) -> Script:
    async def script(context: KestrunContext) -> Any:
        return ending(context)

    return script


@pytest.mark.parametrize(("ending", "status"), ENDINGS, ids=[ending.__name__ for ending, _ in ENDINGS])
@pytest.mark.parametrize("kind", ["def", "async def"])
async def test_every_ending_commits(sites: Sites, ending: Script, status: int, kind: str) -> None:
    script = ending if kind == "def" else also_async(ending)
    site = await sites.serve({"/end": script, **routes(as_async_def)})
    answer = await site.get("/end")
    assert answer.status == status
    assert answer.calls == ["store"]
    assert_new_cookie(answer)
    assert answer.headers["Vary"] == "Cookie"
    assert (await site.get("/get", answer.cookie)).text == '{"result":"blue"}'
    known = await site.login("/set-more")
    answer = await site.get("/end", known)
    assert answer.status == status
    assert answer.calls == ["lock", "commit"]
    assert (await site.get("/keys", known)).text == '{"result":["color","shape"]}'
    assert site.cache.leases == 0


async def test_an_error_tells_the_client_nothing(sites: Sites) -> None:
    site = await sites.serve({"/end": fail})
    answer = await site.get("/end")
    assert "secret" not in answer.text
    assert "ValueError" not in answer.text
    assert "the script's own secret" in site.log.everything


async def test_a_commit_comes_before_the_response(sites: Sites) -> None:
    """What middleware queued before the sessions sees is stored already."""
    seen = []

    @web.middleware
    async def outer(request: web.Request, handler: Handler) -> web.StreamResponse:
        response = await handler(request)
        seen.append(len(cache.entries))
        return response

    cache = RecordingCache()
    host = KestrunHost("test").use(outer)
    site = await sites.serve(routes(as_async_def), cache=cache, host=host)
    await site.login()
    assert seen == [1]


# Middleware


async def test_middleware_after_the_session_uses_it(sites: Sites) -> None:
    @web.middleware
    async def count(request: web.Request, handler: Handler) -> web.StreamResponse:
        session = current_context().session
        await session.load()
        session.set_int32("seen", (session.get_int32("seen") or 0) + 1)
        return await handler(request)

    site = await sites.serve(
        {"/": as_async_def(lambda session: session.get_int32("seen"))}, configure=lambda host: host.use(count)
    )
    first = await site.get("/")
    assert first.text == '{"result":1}'
    assert (await site.get("/", first.cookie)).text == '{"result":2}'
    assert (await site.get("/nowhere", first.cookie)).status == 404
    assert (await site.get("/", first.cookie)).text == '{"result":4}'


async def test_middleware_before_the_session_has_none(sites: Sites) -> None:
    seen: list[str] = []

    @web.middleware
    async def outer(request: web.Request, handler: Handler) -> web.StreamResponse:
        with pytest.raises(SessionNotConfiguredError):
            _ = current_context().session
        return await handler(request)

    def without(context: KestrunContext) -> None:
        try:
            _ = context.session
        except SessionNotConfiguredError as error:
            seen.append(str(error))
            raise

    host = KestrunHost("test").use(outer)
    site = await sites.serve(routes(as_async_def), host=host)
    assert (await site.get("/set")).status == 200
    site = await sites.visit(KestrunHost("test").use(outer).add_map_route("/", "Get", without))
    assert (await site.get("/")).status == 500
    assert "call add_session on the host" in seen[0]


@pytest.mark.parametrize("failing", [False, True])
async def test_a_request_that_ended_has_no_session_any_more(sites: Sites, failing: bool) -> None:
    kept: list[KestrunContext] = []

    def script(context: KestrunContext) -> None:
        kept.append(context)
        context.session.set("a", b"1")
        if failing:
            raise ValueError

    site = await sites.serve({"/": script})
    assert (await site.get("/")).status == (500 if failing else 200)
    with pytest.raises(RuntimeError, match="was stored when the response started"):
        kept[0].session.set("a", b"2")
    assert site.cache.sessions == [{"a": b"1"}]


# Read-only routes


@pytest.mark.parametrize(
    "write",
    [
        lambda session: session.set("a", b"1"),
        lambda session: session.set_int32("a", 1),
        lambda session: session.remove("color"),
        Session.clear,
        Session.renew,
        Session.abandon,
    ],
)
async def test_a_read_only_route_cannot_write(sites: Sites, script: Any, write: Any) -> None:
    site = await sites.serve({**routes(script), "ro:/write": script(write)})
    cookie = await site.login()
    answer = await site.get("/write", cookie)
    assert answer.status == 500
    assert answer.set_cookie == []
    assert "commit" not in answer.calls
    assert 'session_access="read_only"' in site.log.everything
    assert (await site.get("/get", cookie)).text == '{"result":"blue"}'


@pytest.mark.parametrize("loads", [True, False])
async def test_a_read_only_route_is_read_only_for_its_middleware_too(sites: Sites, loads: bool) -> None:
    @web.middleware
    async def count(request: web.Request, handler: Handler) -> web.StreamResponse:
        session = current_context().session
        if loads and request.path == "/write":
            await session.load()
            with pytest.raises(SessionReadOnlyError):
                session.set_string("color", "red")
        return await handler(request)

    def write(session: Session) -> str:
        with pytest.raises(SessionReadOnlyError):
            session.set_string("color", "green")
        return session.get_string("color") or ""

    site = await sites.serve(
        {**routes(as_async_def), "ro:/write": as_async_def(write)}, configure=lambda host: host.use(count)
    )
    answer = await site.get("/write", await site.login())
    assert answer.text == '{"result":"blue"}'
    assert answer.calls == ["get"]


async def test_a_read_only_route_takes_no_lock(sites: Sites, script: Any) -> None:
    site = await sites.serve(
        {**routes(script), "ro:/read": script(lambda session: [session.get_string("color"), session.id])}
    )
    cookie = await site.login()
    answer = await site.get("/read", cookie)
    assert answer.calls == ["get"]
    assert answer.headers["Vary"] == "Cookie"
    assert answer.set_cookie == []
    session_id = (await site.get("/id", cookie)).text
    assert answer.text == f'{{"result":["blue",{session_id[10:-1]}]}}'
    assert (await site.get("/read")).calls == []


# Time


async def test_reading_keeps_a_session_alive(sites: Sites, script: Any, clock: Clock) -> None:
    site = await sites.serve(
        {**routes(script), "ro:/ro": script(lambda session: session.is_available)}, cache=RecordingCache(clock=clock)
    )
    cookie = await site.login()
    for path in ("/get", "/ro", "/missing"):
        clock.advance(1100)
        assert (await site.get(path, cookie)).status == 200
    clock.advance(1100)
    assert (await site.get("/get", cookie)).text == '{"result":"blue"}'
    clock.advance(1100)
    await site.get("/hello", cookie)
    clock.advance(200)
    assert (await site.get("/get", cookie)).text == '{"result":null}'


async def test_a_short_idle_time(sites: Sites, script: Any) -> None:
    site = await sites.serve(routes(script), idle_timeout=0.05)
    cookie = await site.login()
    await until(lambda: all_expired(site))
    assert (await site.get("/get", cookie)).text == '{"result":null}'
    assert "is not stored any more" in site.log.texts(LogLevel.INFORMATION)[-1]


def all_expired(site: Site) -> bool:
    now = site.cache._clock()
    return not any(site.cache._records.live(key, now) for shard in site.cache._records.shards for key in [*shard])


async def test_an_absolute_time_is_never_extended(sites: Sites, script: Any, clock: Clock) -> None:
    cache = RecordingCache(clock=clock)
    site = await sites.serve(routes(script), cache=cache, absolute_timeout=3000, idle_timeout=1200)
    cookie: str | None = await site.login()
    for path in ("/get", "/set-more", "/renew"):
        clock.advance(900)
        answer = await site.get(path, cookie)
        assert answer.status == 200
        cookie = answer.cookie or cookie
    assert (await site.get("/get", cookie)).text == '{"result":"blue"}'
    clock.advance(400)
    assert (await site.get("/get", cookie)).text == '{"result":null}'


async def test_a_new_session_has_all_its_time(
    sites: Sites, script: Any, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    clocks = SimpleNamespace(time=clock, monotonic=time.monotonic)
    monkeypatch.setattr(committing, "time", clocks)
    monkeypatch.setattr("kestrun_py.caching.memory.cache.time", clocks)
    cache = RecordingCache(clock=clock)
    site = await sites.serve(routes(script), cache=cache, absolute_timeout=1000, idle_timeout=1200)
    cookie = await site.login()
    clock.advance(900)
    cookie = (await site.get("/clear-then-set", cookie)).cookie or ""
    clock.advance(900)
    assert (await site.get("/get", cookie)).text == '{"result":"red"}'
    clock.advance(200)
    assert (await site.get("/get", cookie)).text == '{"result":null}'


@pytest.mark.parametrize("lock", ["exclusive", "none"])
async def test_renewing_does_not_prolong_the_absolute_time(
    sites: Sites, script: Any, clock: Clock, monkeypatch: pytest.MonkeyPatch, lock: str
) -> None:
    clocks = SimpleNamespace(time=clock, monotonic=time.monotonic)
    monkeypatch.setattr(committing, "time", clocks)
    monkeypatch.setattr("kestrun_py.caching.memory.cache.time", clocks)
    cache = RecordingCache(clock=clock)
    site = await sites.serve(routes(script), cache=cache, absolute_timeout=1000, idle_timeout=5000, lock=lock)
    cookie = await site.login()
    clock.advance(900)
    cookie = (await site.get("/renew", cookie)).cookie or ""
    assert cookie
    clock.advance(200)
    assert (await site.get("/get", cookie)).text == '{"result":null}'


# ASP.NET Core's own cases


async def test_a_counter(sites: Sites, script: Any) -> None:
    def count(session: Session) -> int:
        value = session.get_int32("n")
        following = 0 if value is None else value + 1
        session.set_int32("n", following)
        assert session.get_int32("n") == following
        return following

    site = await sites.serve({"/": script(count)})
    first = await site.get("/")
    assert first.text == '{"result":0}'
    for number in (1, 2, 3):
        answer = await site.get("/", first.cookie)
        assert answer.text == f'{{"result":{number}}}'
        assert answer.set_cookie == []


@pytest.mark.parametrize("path", ["/remove", "/clear"])
async def test_what_was_removed_is_gone(site: Site, path: str) -> None:
    cookie = await site.login()
    assert (await site.get("/get", cookie)).text == '{"result":"blue"}'
    await site.get(path, cookie)
    assert (await site.get("/get", cookie)).text == '{"result":null}'


async def test_a_key_in_another_case_is_another_key(sites: Sites, script: Any) -> None:
    def work(session: Session) -> list[str | None]:
        session.set_string("key", "lower")
        session.set_string("KEY", "upper")
        return [session.get_string("key"), session.get_string("KEY"), session.get_string("Key")]

    site = await sites.serve({"/": script(work), "/keys": script(lambda session: sorted(session.keys))})
    answer = await site.get("/")
    assert answer.text == '{"result":["lower","upper",null]}'
    assert (await site.get("/keys", answer.cookie)).text == '{"result":["KEY","key"]}'


async def test_what_is_logged_of_a_session(site: Site, clock: Clock) -> None:
    def session_lines() -> list[tuple[LogLevel, str]]:
        lines = [(event.level, re.sub(r" [0-9a-f]{8}\b", "", event.message)) for event in site.log.events]
        return [line for line in lines if "ession" in line[1] and "oute" not in line[1]]

    site.log.events.clear()
    cookie = await site.login()
    assert session_lines() == [
        (LogLevel.INFORMATION, "Session started"),
        (LogLevel.DEBUG, "Session stored with 1 values"),
    ]
    site.log.events.clear()
    await site.get("/set-more", cookie)
    assert session_lines() == [
        (LogLevel.DEBUG, "Session loaded with 1 values"),
        (LogLevel.DEBUG, "Session stored with 2 values"),
    ]
    site.log.events.clear()
    renewed = (await site.get("/renew", cookie)).cookie
    assert session_lines() == [
        (LogLevel.DEBUG, "Session loaded with 2 values"),
        (LogLevel.INFORMATION, "Session was renewed: it is now"),
        (LogLevel.DEBUG, "Session stored with 2 values"),
    ]
    site.log.events.clear()
    await site.get("/get", cookie)
    assert session_lines() == [(LogLevel.DEBUG, "Session was moved to a new key; the request has the old cookie")]
    site.log.events.clear()
    again = (await site.get("/clear-then-set", renewed)).cookie
    assert session_lines() == [
        (LogLevel.DEBUG, "Session loaded with 2 values"),
        (LogLevel.INFORMATION, "Session ended"),
        (LogLevel.DEBUG, "Session was removed from the cache"),
        (LogLevel.INFORMATION, "Session started"),
        (LogLevel.DEBUG, "Session stored with 1 values"),
    ]
    site.log.events.clear()
    await site.get("/abandon", again)
    assert session_lines() == [
        (LogLevel.DEBUG, "Session loaded with 1 values"),
        (LogLevel.INFORMATION, "Session ended"),
        (LogLevel.DEBUG, "Session was removed from the cache"),
    ]
    cookie = await site.login()
    site.log.events.clear()
    clock.advance(1201)
    await site.get("/get", cookie)
    assert session_lines() == [(LogLevel.INFORMATION, f"Session {GONE}")]


async def test_an_entry_that_an_operator_removed(site: Site) -> None:
    cookie = await site.login()
    [key] = site.cache.entries
    await site.cache.remove(key)
    await site.get("/get", cookie)
    fingerprint = hashlib.sha256(key.encode()).hexdigest()[:8]
    assert site.log.texts(LogLevel.INFORMATION)[-1] == f"Session {fingerprint} {GONE}"


@pytest.mark.parametrize("lock", ["exclusive", "none"])
async def test_an_entry_that_an_operator_removes_while_a_request_uses_it(sites: Sites, lock: str) -> None:
    entered, go_on = asyncio.Event(), asyncio.Event()

    async def slow(context: KestrunContext) -> None:
        context.session.set_string("color", "red")
        entered.set()
        await go_on.wait()

    site = await sites.serve({**routes(as_async_def), "/slow": slow}, lock=lock)
    cookie = await site.login()
    [key] = site.cache.entries
    request = asyncio.create_task(site.get("/slow", cookie))
    await entered.wait()
    await site.cache.remove(key)
    go_on.set()
    assert (await request).status == 503
    fingerprint = hashlib.sha256(key.encode()).hexdigest()[:8]
    assert site.log.texts(LogLevel.INFORMATION)[-1] == (
        f"Session {fingerprint} was ended by another program or request while a request used it"
    )
    assert site.cache.entries == {}


async def test_warnings_of_forged_cookies_name_the_client_and_do_not_flood(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock()
    monkeypatch.setattr(cookie_protector, "time", SimpleNamespace(monotonic=clock))
    for _ in range(5):
        await site.get("/get", FORGED)
    [warning] = site.log.alarms
    assert re.fullmatch(r"A session cookie [0-9a-f]{8} from 127\.0\.0\.1 was ignored\. .+", warning)
    assert len([event for event in site.log.events if "was ignored" in event.message]) == 5
    clock.advance(1.1)
    await site.get("/get", FORGED)
    await site.get("/get", FORGED)
    assert len(site.log.alarms) == 2
    assert site.log.alarms[1].endswith("(Since the last warning, 4 more were ignored.)")
    clock.advance(1.1)
    await site.get("/get", FORGED)
    assert site.log.alarms[2].endswith("(Since the last warning, 1 more were ignored.)")


@pytest.mark.parametrize("path", ["/get", "/clear", "/missing"])
async def test_a_cache_control_of_the_script_gives_way(sites: Sites, path: str) -> None:
    """No cache may keep an answer that depends on a session."""
    scripts = routes(as_async_def)

    async def cacheable(context: KestrunContext) -> None:
        await scripts[path](context)
        context.response.headers["Cache-Control"] = "public, max-age=3600"

    site = await sites.serve({**scripts, "/cacheable": cacheable})
    cookie = await site.login()
    assert (await site.get("/cacheable", cookie)).headers["Cache-Control"] == "no-cache,no-store"
