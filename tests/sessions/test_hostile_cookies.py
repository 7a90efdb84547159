"""Cookies that nobody was given: never a 500, never a cache call, nothing echoed, nothing logged raw."""

from __future__ import annotations

import asyncio
import base64
import logging
import random
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

import pytest
from aiohttp import web
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from session_support import COOKIE, RecordingCache, Site, Sites, as_async_def, as_def

from kestrun_py.data_protection import FileXmlRepository, KeyRing
from kestrun_py.sessions import Session

ROUTES: dict[str, Any] = {
    "/get": as_async_def(lambda session: session.get_string("color")),
    "/get-def": as_def(lambda session: session.get_string("color")),
    "/set": as_async_def(lambda session: session.set_string("color", "blue")),
    "/clear": as_async_def(Session.clear),
}


async def send(site: Site, cookie_headers: bytes, path: bytes = b"/get") -> tuple[int, bytes]:
    """Sends raw bytes for header lines; returns the status and all that came back."""
    reader, writer = await asyncio.open_connection("127.0.0.1", site.client.port)
    try:
        writer.write(b"GET " + path + b" HTTP/1.1\r\nHost: a\r\nConnection: close\r\n" + cookie_headers + b"\r\n\r\n")
        await writer.drain()
        answer = await asyncio.wait_for(reader.read(), 20)
    finally:
        writer.close()
        await writer.wait_closed()
    return int(answer.split(b" ", 2)[1]), answer


def named(value: bytes) -> bytes:
    return b"Cookie: " + COOKIE.encode() + b"=" + value


HOSTILE = {
    "no value": named(b""),
    "no equals sign": b"Cookie: " + COOKIE.encode(),
    "only equals signs": named(b"======"),
    "spaces": named(b"   "),
    "ten kilobytes": named(b"CANARY" + b"A" * 10_000),
    "ten kilobytes of escapes": named(b"CANARY" + b"%41" * 3_400),
    "many cookies": b"Cookie: " + b"; ".join(COOKIE.encode() + b"=CANARY%d" % number for number in range(400)),
    "many commas": named(b"CANARY" + b"," * 5_000),
    "many headers": b"\r\n".join([named(b"CANARY")] * 300),
    "latin-1": named(b"CANARY\xe9\xff"),
    "utf-8": named("CANARYé🚲".encode()),
    "broken utf-8": named(b"CANARY\xf0\x9f"),
    "escaped surrogate": named(b"CANARY%ED%A0%80"),
    "escaped nothing": named(b"CANARY%zz%"),
    "escaped line break": named(b"CANARY%0d%0aSet-Cookie:%20a=b"),
    "escaped zero": named(b"CANARY%00"),
    "line break": named(b"CANARY\r\nSet-Cookie: a=b"),
    "folded line": named(b"CANARY\r\n x"),
    "carriage return": named(b"CANARY\rx"),
    "line feed": named(b"CANARY\nx"),
    "zero": named(b"CANARY\x00x"),
    "escape character": named(b"\x1b[2JCANARY"),
    "delete": named(b"CANARY\x7f"),
    "quotes": named(b'"CANARY"'),
    "an open quote": named(b'"CANARY'),
    "markup": named(b"<script>CANARY</script>"),
    "template": named(b"{CANARY}%s%n{0}"),
    "url-safe base64": named(b"CfDJ8CANARY-_"),
    "too short": named(b"CfDJ8"),
    "magic alone": named(base64.b64encode(bytes.fromhex("09f0c9f0")).rstrip(b"=")),
    "an unknown key": named(quote(base64.b64encode(bytes.fromhex("09f0c9f0") + bytes(128)).rstrip(b"=")).encode()),
    "another version": named(quote(base64.b64encode(bytes.fromhex("09f0c9ff") + bytes(128)).rstrip(b"=")).encode()),
    "a guid": named(b"382c74c3-721d-4f34-80e5-57657b6cbc27"),
    "padding": named(b"CANARY=="),
    "digits of other scripts": named("CANARY١٢٣".encode()),
}


@pytest.fixture
async def site(sites: Sites) -> Site:
    return await sites.serve(ROUTES)


@pytest.mark.parametrize("header", HOSTILE.values(), ids=HOSTILE)
@pytest.mark.parametrize("path", [b"/get", b"/get-def", b"/clear"])
async def test_hostile_cookies(
    site: Site,
    header: bytes,
    path: bytes,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    caplog.set_level(logging.DEBUG)
    status, answer = await send(site, header, path)
    assert status in (200, 400)
    assert site.cache.calls == []
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"set-cookie" not in head.lower()
    assert body == (b'{"result":null}' if status == 200 else b"")
    for noise in (answer.decode("latin-1"), site.log.everything, caplog.text, "".join(capfd.readouterr())):
        assert "CANARY" not in noise
    assert (await site.get("/get")).status == 200


async def test_a_cookie_that_http_allows_is_not_a_bad_request(site: Site) -> None:
    """A cookie that another application has set must not keep users out."""
    for name in ("ten kilobytes", "utf-8", "latin-1", "many cookies", "markup", "an open quote"):
        assert (await send(site, HOSTILE[name]))[0] == 200
    site.log.events.clear()
    assert (await send(site, HOSTILE["ten kilobytes"]))[0] == 200
    assert len([event for event in site.log.events if "was ignored" in event.message]) == 1


async def test_a_hostile_cookie_is_replaced_when_a_value_is_set(site: Site) -> None:
    status, answer = await send(site, HOSTILE["ten kilobytes"], b"/set")
    assert status == 200
    assert answer.count(b"Set-Cookie: ") == 1
    assert site.cache.calls == ["store"]


async def test_a_good_cookie_with_one_bit_flipped(site: Site) -> None:
    cookie = unquote(await site.login())
    payload = base64.b64decode(cookie + "=" * (-len(cookie) % 4))
    site.cache.calls.clear()
    draw = random.Random(5)
    bits = [0, 7, 8 * 4, 8 * 20, 8 * 36, 8 * 52, 8 * 100, 8 * len(payload) - 1]
    for bit in bits + draw.sample(range(8 * len(payload)), 60):
        flipped = bytearray(payload)
        flipped[bit // 8] ^= 1 << bit % 8
        text = base64.b64encode(flipped).rstrip(b"=").decode()
        answer = await site.get("/get", quote(text, safe=""))
        assert (answer.status, answer.text, answer.calls) == (200, '{"result":null}', [])
    for at in draw.sample(range(len(cookie)), 40):
        text = cookie[:at] + chr(ord(cookie[at]) ^ 1) + cookie[at + 1 :]
        answer = await site.get("/get", quote(text, safe=""))
        assert (answer.status, answer.text, answer.calls) == (200, '{"result":null}', [])
    assert site.cache.calls == []
    assert (await site.get("/get", quote(cookie, safe=""))).text == '{"result":"blue"}'


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(value=st.one_of(st.binary(max_size=200), st.text(max_size=100).map(str.encode)))
async def test_any_bytes_at_all(site: Site, value: bytes) -> None:
    status, _ = await send(site, named(value))
    assert status in (200, 400)
    assert site.cache.calls == []


async def test_a_cookie_of_another_application(sites: Sites, tmp_path: Path) -> None:
    def named_application(name: str) -> Any:
        return lambda host: host.add_data_protection(application_name=name, folder=tmp_path)

    cache = RecordingCache()
    one = await sites.serve(ROUTES, cache=cache, configure=named_application("one"))
    other = await sites.serve(ROUTES, cache=cache, configure=named_application("other"))
    cookie = await one.login()
    answer = await other.get("/get", cookie)
    assert (answer.status, answer.text, answer.calls) == (200, '{"result":null}', [])
    assert len(other.log.alarms) == 1
    assert (await one.get("/get", cookie)).text == '{"result":"blue"}'


async def test_a_cookie_of_another_key_ring(sites: Sites, tmp_path: Path) -> None:
    def with_keys(folder: str) -> Any:
        return lambda host: host.add_data_protection(folder=tmp_path / folder)

    cache = RecordingCache()
    one = await sites.serve(ROUTES, cache=cache, configure=with_keys("one"))
    other = await sites.serve(ROUTES, cache=cache, configure=with_keys("other"))
    answer = await other.get("/get", await one.login())
    assert (answer.status, answer.text, answer.calls) == (200, '{"result":null}', [])


@pytest.mark.parametrize("text", ["x", "k" * 35, "k" * 37, "é" * 18, "", "k" * 4000])
async def test_a_good_payload_that_is_not_a_session_key(sites: Sites, tmp_path: Path, text: str) -> None:
    site = await sites.serve(ROUTES, configure=lambda host: host.add_data_protection(folder=tmp_path))
    await site.login()
    site.cache.calls.clear()
    site.log.events.clear()
    answer = await site.get("/get", await protected(tmp_path, text.encode()))
    assert (answer.status, answer.text, answer.calls) == (200, '{"result":null}', [])
    assert text == "" or text not in site.log.everything


async def test_any_text_of_36_characters_is_a_session_key(sites: Sites, tmp_path: Path) -> None:
    """As in ASP.NET Core: who can protect a text can also choose it."""
    site = await sites.serve(ROUTES, configure=lambda host: host.add_data_protection(folder=tmp_path))
    await site.login()
    answer = await site.get("/get", await protected(tmp_path, b"this text has exactly 36 characters."))
    assert answer.calls == ["lock", "get"]
    assert site.cache.keys[-2] == "this text has exactly 36 characters."


async def protected(folder: Path, text: bytes) -> str:
    ring = KeyRing(FileXmlRepository(folder), application_name="kestrun", read_only=True)
    await ring.load()
    try:
        payload = ring.create_protector("SessionMiddleware").protect(text)
    finally:
        await ring.close()
    return quote(base64.b64encode(payload).rstrip(b"=").decode(), safe="")


async def test_the_same_name_twice(site: Site) -> None:
    """The first one that opens a session counts, wherever it stands."""
    good = (await site.login()).encode()
    gone = (await site.login()).encode()
    await site.get("/clear", gone.decode())
    name = COOKIE.encode()
    bad = b"CANARY"
    for header, color in (
        (named(bad) + b"; " + name + b"=" + good, b"blue"),
        (named(good) + b"; " + name + b"=" + bad, b"blue"),
        (named(gone) + b"; " + name + b"=" + good, b"blue"),
        (named(bad) + b"\r\n" + named(good), b"blue"),
        (named(good) + b"\r\n" + named(bad), b"blue"),
        (named(good) + b"; " + name + b"=", b"blue"),
        (named(good) + b"; x" + name + b"=" + bad, b"blue"),
        (named(good) + b"; " + name + b"x=" + bad, b"blue"),
        (named(b"1") + b"; %b=2; %b=3; %b=%b" % (name, name, name, good), b"blue"),
        (named(b"1") + b"; %b=2; %b=3; %b=4; %b=%b" % (name, name, name, name, good), None),
        (named(bad) + b", " + name + b"=" + good, None),
    ):
        status, answer = await send(site, header)
        assert status == 200
        assert answer.endswith(b'{"result":null}' if color is None else b'{"result":"' + color + b'"}'), header
    assert site.cache.leases == 0


@pytest.mark.parametrize("lock", ["exclusive", "none"])
async def test_two_sessions_of_one_name(sites: Sites, lock: str) -> None:
    """Cookies with the paths / and /app: the browser sends the one with the longer path first."""
    routes = {**ROUTES, "/green": as_async_def(lambda session: session.set_string("color", "green"))}
    site = await sites.serve(routes, lock=lock)
    old, new = await site.login(), await site.login("/green")
    assert (await site.get("/get", f"{new}; {COOKIE}={old}")).text == '{"result":"green"}'
    answer = await site.get("/clear", f"{new}; {COOKIE}={old}")
    assert answer.cookie == ""
    assert (await site.get("/get", f"{new}; {COOKIE}={old}")).text == '{"result":"blue"}'
    assert len(site.cache.entries) == 1
    assert site.cache.leases == 0


@pytest.mark.parametrize(
    "pair", ["theme=x,{}={}", "x {}={}", "={}={}", "theme=x, {}={}", '"{}={}', "theme=x\t{}={}", "{}={},x"]
)
async def test_no_other_cookie_carries_the_session_cookie(site: Site, pair: str) -> None:
    cookie = await site.login()
    status, answer = await send(site, b"Cookie: " + pair.format(COOKIE, cookie).encode())
    assert (status, answer.endswith(b'{"result":null}')) == (200, True)
    status, answer = await send(site, named(cookie.encode()).replace(COOKIE.encode(), COOKIE.upper().encode()))
    assert (status, answer.endswith(b'{"result":null}')) == (200, True)


async def test_an_error_of_the_application_is_still_answered(sites: Sites) -> None:
    """Only what is no HTTP is answered in silence: an application's own 400 keeps its text."""

    async def refuse(context: Any) -> None:
        raise web.HTTPBadRequest(text="own text")

    site = await sites.serve({"/": refuse})
    answer = await site.get("/")
    assert (answer.status, answer.text) == (400, "own text")
