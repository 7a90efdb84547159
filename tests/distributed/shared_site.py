"""A small site on a distributed cache, and those who visit it; the same in the tests and in processes of their own."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from aiohttp import ClientSession, ClientTimeout, DummyCookieJar, TCPConnector, web
from multidict import CIMultiDictProxy

from kestrun_py import KestrunHost
from kestrun_py.context import KestrunContext
from kestrun_py.logging import Logger
from kestrun_py.sessions import Session

COOKIE = "Kr.Session"

# Seconds after which the lock of a process that died frees itself, with the shorter I/O timeouts.
SHORTEST_LEASE = 2.0


@dataclass(frozen=True)
class Answer:
    """What a request was answered.

    Attributes:
        seconds: How long it took.
    """

    status: int
    text: str
    headers: CIMultiDictProxy[str]
    seconds: float

    @property
    def result(self) -> Any:
        """What the script made of the session; the request must have succeeded."""
        assert self.status == 200, self
        return json.loads(self.text)["result"]

    @property
    def cookie(self) -> str | None:
        """The session cookie's new value; empty if it was expired; None if the response has no cookie."""
        headers = self.headers.getall("Set-Cookie", [])
        assert len(headers) <= 1, headers
        return headers[0].partition(";")[0].removeprefix(f"{COOKIE}=") if headers else None

    def assert_refused(self, within: float) -> None:
        """The answer to a request that needs a session while there is none to be had."""
        assert self.status == 503, self
        assert self.headers["Retry-After"] == "1"
        assert "Set-Cookie" not in self.headers
        assert self.seconds < within


class Visitor:
    """Sends requests to a site, without a cookie jar."""

    def __init__(self, port: int, client: ClientSession) -> None:
        self._url = f"http://127.0.0.1:{port}"
        self._client = client

    async def get(self, path: str, cookie: str | None = None) -> Answer:
        headers = {} if cookie is None else {"Cookie": f"{COOKIE}={cookie}"}
        began = time.monotonic()
        async with self._client.get(self._url + path, headers=headers) as response:
            text = await response.text()
            return Answer(response.status, text, response.headers, time.monotonic() - began)

    async def login(self, path: str = "/counter") -> str:
        """Starts a session; returns its cookie."""
        answer = await self.get(path)
        assert answer.cookie, answer
        return answer.cookie

    async def until_held(self, count: int = 1) -> None:
        """Waits until so many requests have loaded their session and hold it."""
        deadline = time.monotonic() + 60
        while (await self.get("/held")).result < count:
            assert time.monotonic() < deadline, "the request did not get its session"
            await asyncio.sleep(0.005)


@asynccontextmanager
async def visiting(port: int) -> AsyncIterator[Visitor]:
    connector = TCPConnector(limit=0)
    timeout = ClientTimeout(total=100)
    async with ClientSession(connector=connector, cookie_jar=DummyCookieJar(), timeout=timeout) as client:
        yield Visitor(port, client)


@asynccontextmanager
async def listening(host: KestrunHost) -> AsyncIterator[int]:
    """Serves a host on a free port, which it yields."""
    runner = web.AppRunner(host.create_app(), access_log=None, shutdown_timeout=1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


def new_host(
    cache: tuple[str, Mapping[str, Any]],
    *,
    protection: Mapping[str, Any] | None = None,
    logger: Logger | None = None,
    **session: Any,
) -> KestrunHost:
    """The site's host.

    Args:
        cache: The verb that adds its cache, and the verb's arguments.
        protection: Arguments of `add_data_protection`.
        logger: Where it logs.
        session: Arguments of `add_session`.
    """
    host = KestrunHost("shared site", logger=logger)
    host.add_endpoint(port=0)
    verb, arguments = cache
    getattr(host, verb)(**arguments)
    if protection is not None:
        host.add_data_protection(**protection)
    cookie = host.new_cookie_builder(name=COOKIE, http_only=True, same_site="Lax", secure_policy="None")
    host.add_session(cookie=cookie, **session)
    _add_routes(host)
    return host


def _count(session: Session) -> int:
    count = (session.get_int32("counter") or 0) + 1
    session.set_int32("counter", count)
    return count


def _read(session: Session) -> int | None:
    return session.get_int32("counter")


def _renew(session: Session) -> int | None:
    session.renew()
    return _read(session)


def _login(session: Session) -> str | None:
    session.renew()
    session.set_string("user", "max")
    return _user(session)


def _user(session: Session) -> str | None:
    return session.get_string("user")


def _is_available(session: Session) -> bool:
    return session.is_available


def _as_async_def(work: Callable[[Session], Any]) -> Callable[..., Any]:
    async def script(context: KestrunContext) -> None:
        await asyncio.sleep(0)
        context.response.write_json({"result": work(context.session)}, compress=True)

    return script


def _as_def(work: Callable[[Session], Any]) -> Callable[..., Any]:
    def script(context: KestrunContext) -> None:
        context.response.write_json({"result": work(context.session)}, compress=True)

    return script


def _add_routes(host: KestrunHost) -> None:
    gate = asyncio.Event()
    held = 0

    async def slow_counter(context: KestrunContext) -> None:
        count = (context.session.get_int32("counter") or 0) + 1
        await asyncio.sleep(0.001)
        context.session.set_int32("counter", count)
        context.response.write_json({"result": count})

    async def hold(context: KestrunContext) -> None:
        """Loads the session, writes to it, and ends when it is told to."""
        nonlocal held
        count = _count(context.session)
        held += 1
        await gate.wait()
        held -= 1
        context.response.write_json({"result": count})

    async def count_held(context: KestrunContext) -> None:
        context.response.write_json({"result": held})

    async def let_go(context: KestrunContext) -> None:
        gate.set()
        context.response.write_json({"result": held})

    async def stream(context: KestrunContext) -> web.StreamResponse:
        response = web.StreamResponse()
        _count(context.session)
        await response.prepare(context.request.raw)
        await response.write(b"streamed")
        return response

    async def plain(context: KestrunContext) -> None:
        context.response.write_json({"result": "plain"})

    host.add_map_route("/counter", "Get", _as_async_def(_count))
    host.add_map_route("/counter-def", "Get", _as_def(_count))
    host.add_map_route("/slow-counter", "Get", slow_counter)
    host.add_map_route("/read", "Get", _as_async_def(_read))
    host.add_map_route("/read-def", "Get", _as_def(_read))
    host.add_map_route("/peek", "Get", _as_async_def(_read), session_access="read_only")
    host.add_map_route("/logout", "Get", _as_async_def(Session.clear))
    host.add_map_route("/renew", "Get", _as_async_def(_renew))
    host.add_map_route("/login", "Get", _as_async_def(_login))
    host.add_map_route("/who", "Get", _as_async_def(_user))
    host.add_map_route("/available", "Get", _as_async_def(_is_available))
    host.add_map_route("/hold", "Get", hold)
    host.add_map_route("/held", "Get", count_held)
    host.add_map_route("/let-go", "Get", let_go)
    host.add_map_route("/stream", "Get", stream)
    host.add_map_route("/plain", "Get", plain)
