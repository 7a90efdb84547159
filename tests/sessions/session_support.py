"""What the session tests share: a cache that keeps count, a log to look into, a site to talk to."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any

from aiohttp import DummyCookieJar, TCPConnector
from aiohttp.test_utils import TestClient, TestServer
from multidict import CIMultiDictProxy
from recording_log import Log

from kestrun_py import KestrunHost
from kestrun_py.caching import Busy, DistributedCache, Expiration, Lease
from kestrun_py.caching.memory import MemoryCache
from kestrun_py.certificates.tls import ssl_context
from kestrun_py.context import KestrunContext
from kestrun_py.errors import CacheTimeoutError
from kestrun_py.http.connections import HttpRunner
from kestrun_py.sessions import Session, SessionAccessText, blob

COOKIE = "Kr.Session"
MARKER = "kr.moved:"

Script = Callable[..., Any]


class Clock:
    """The time now; it moves as real time does, and further when it is told to."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def __call__(self) -> float:
        return time.time() + self.ahead

    def advance(self, seconds: float) -> None:
        self.ahead += seconds


class RecordingCache(MemoryCache):
    """A memory cache that notes every call, and fails or hangs when told to.

    Attributes:
        calls: The names of the operations that were called.
        keys: The keys they were called with.
        broken: What operations raise, by name.
        late: What operations raise, by name, after they have done what they do.
        closed_gates: Operations that wait, by name, until the event is set; in vain beyond their timeout.
    """

    shared = True  # so that its locks are leases that are renewed, as those of other caches

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.calls: list[str] = []
        self.keys: list[str] = []
        self.broken: dict[str, Exception] = {}
        self.late: dict[str, Exception] = {}
        self.closed_gates: dict[str, asyncio.Event] = {}

    def break_down(self, error: Exception, *names: str) -> None:
        self.broken = dict.fromkeys(names or ("get", "store", "refresh", "remove", "lock", "renew", "commit"), error)

    def repair(self) -> None:
        self.broken.clear()
        self.late.clear()

    @property
    def entries(self) -> dict[str, bytes]:
        """What is stored, by key, without markers; expired entries that were not removed yet included."""
        return {key: value for key, value in self._stored.items() if not key.startswith(MARKER)}

    @property
    def markers(self) -> dict[str, bytes]:
        """The markers of sessions that were moved, by the old key."""
        return {key.removeprefix(MARKER): value for key, value in self._stored.items() if key.startswith(MARKER)}

    @property
    def _stored(self) -> dict[str, bytes]:
        return {key: record[24:] for shard in self._records.shards for key, record in shard.items()}

    @property
    def sessions(self) -> list[dict[str, bytes]]:
        """The values of all stored sessions."""
        return [blob.decode(value)[1] for value in self.entries.values()]

    @property
    def leases(self) -> int:
        """How many entries are locked."""
        return len(self._records.leases)

    def _note(self, name: str, key: str) -> None:
        self.calls.append(name)
        self.keys.append(key)

    async def _record(self, name: str, key: str, timeout: float) -> None:
        self._note(name, key)
        gate = self.closed_gates.get(name)
        if gate is not None:
            try:
                await asyncio.wait_for(gate.wait(), timeout)
            except TimeoutError:
                raise CacheTimeoutError(f"no answer within {timeout:g} seconds") from None
        if name in self.broken:
            raise self.broken[name]

    def _fail_late(self, name: str) -> None:
        if name in self.late:
            raise self.late[name]

    async def get(self, key: str, *, timeout: float = 10) -> bytes | None:
        await self._record("get", key, timeout)
        return await super().get(key, timeout=timeout)

    async def store(self, key: str, value: bytes, expiration: Expiration, *, timeout: float = 10) -> None:
        await self._record("store", key, timeout)
        await super().store(key, value, expiration, timeout=timeout)
        self._fail_late("store")

    async def refresh(self, key: str, *, timeout: float = 10) -> None:
        await self._record("refresh", key, timeout)
        await super().refresh(key, timeout=timeout)

    async def remove(self, key: str, *, timeout: float = 10) -> None:
        await self._record("remove", key, timeout)
        await super().remove(key, timeout=timeout)

    async def lock(
        self, key: str, *, lease_time: float, timeout: float, on_busy: Callable[[str], object] | None = None
    ) -> Lease | None:
        await self._record("lock", key, timeout)
        return await super().lock(key, lease_time=lease_time, timeout=timeout, on_busy=on_busy)

    def lock_at_once(self, key: str, *, lease_time: float) -> Lease | Busy | None:
        if "lock" in self.closed_gates or "lock" in self.broken:
            return Busy.BUSY
        found = super().lock_at_once(key, lease_time=lease_time)
        if isinstance(found, Lease):  # otherwise the session asks again by `lock`
            self._note("lock", key)
        return found

    async def renew(self, lease: Lease, *, lease_time: float, timeout: float) -> bool:
        await self._record("renew", lease.key, timeout)
        return await super().renew(lease, lease_time=lease_time, timeout=timeout)

    async def commit(self, lease: Lease, value: bytes | None, expiration: Expiration, *, timeout: float = 10) -> None:
        await self._record("commit", lease.key, timeout)
        await super().commit(lease, value, expiration, timeout=timeout)
        self._fail_late("commit")

    def commit_at_once(self, lease: Lease, value: bytes | None, expiration: Expiration) -> bool:
        if "commit" in {*self.closed_gates, *self.broken, *self.late}:
            return False
        super().commit_at_once(lease, value, expiration)
        self._note("commit", lease.key)
        return True

    async def release(self, lease: Lease, *, timeout: float = 10) -> None:
        await self._record("release", lease.key, timeout)
        await super().release(lease, timeout=timeout)


@dataclass
class Answer:
    """What a request was answered, and what it did to the cache.

    Attributes:
        calls: The cache operations between request and answer.
    """

    status: int
    text: str
    headers: CIMultiDictProxy[str]
    calls: list[str] = field(default_factory=list)

    @property
    def set_cookie(self) -> list[str]:
        return self.headers.getall("Set-Cookie", [])

    @property
    def cookie(self) -> str | None:
        """The session cookie's new value as it has to be sent back; empty if it was expired; None if untouched."""
        for header in self.set_cookie:
            name, _, value = header.partition(";")[0].partition("=")
            if name == COOKIE:
                return value
        return None


class Site:
    """A served host, and a client without a cookie jar."""

    def __init__(self, host: KestrunHost, cache: RecordingCache, log: Log, client: TestClient[Any, Any]) -> None:
        self.host = host
        self.cache = cache
        self.log = log
        self.client = client

    async def get(
        self, path: str, cookie: str | None = None, *, method: str = "GET", headers: Mapping[str, str] | None = None
    ) -> Answer:
        """Sends a request with the session cookie given; answers as `Answer`."""
        sent = dict(headers or {})
        if cookie is not None:
            sent["Cookie"] = f"{COOKIE}={cookie}"
        before = len(self.cache.calls)
        async with self.client.request(method, path, headers=sent, allow_redirects=False) as response:
            text = await response.text()
            return Answer(response.status, text, response.headers, self.cache.calls[before:])

    async def login(self, path: str = "/set") -> str:
        """Starts a session by a request; returns its cookie. A slow disk may hold up the key ring at first."""
        for _ in range(200):
            answer = await self.get(path)
            if answer.status != 503:
                break
            await asyncio.sleep(0.05)
        assert answer.status == 200, answer
        assert answer.cookie
        return answer.cookie


class _Server(TestServer):
    """A test server that treats disconnected clients as a real one does, unless told otherwise."""

    cancels = False

    async def _make_runner(self, **options: Any) -> HttpRunner:
        return HttpRunner(self.app, **{**options, "handler_cancellation": self.cancels})


class Sites:
    """Serves hosts until the test ends."""

    def __init__(self, stack: AsyncExitStack) -> None:
        self._stack = stack

    async def serve(
        self,
        routes: Mapping[str, Script],
        *,
        cache: RecordingCache | None = None,
        cookie: Mapping[str, Any] | None = None,
        host: KestrunHost | None = None,
        configure: Callable[[KestrunHost], object] | None = None,
        max_runspaces: int | None = None,
        cancels: bool = False,
        https: bool = False,
        **session: Any,
    ) -> Site:
        """Serves `routes` (scripts by path), with sessions in `cache`.

        Args:
            routes: A path that begins with ``ro:`` is mapped with ``session_access="read_only"``.
            cache: Where the sessions are.
            cookie: Attributes of the session cookie beside its name.
            host: A host on which something is queued already.
            configure: Called with the host after `add_session`.
            max_runspaces: Worker threads.
            cancels: Whether a request ends when its client disconnects (aiohttp's ``handler_cancellation``).
            https: Serve with TLS.
            session: Arguments of `add_session`.
        """
        log = Log()
        cache = RecordingCache(logger=log.logger) if cache is None else cache
        host = KestrunHost("test", logger=log.logger) if host is None else host
        host.services.add(DistributedCache, cache)
        host.add_endpoint(port=0, self_signed_cert=https)
        host.set_server_options(max_runspaces=max_runspaces)
        builder = host.new_cookie_builder(**{"name": COOKIE, "http_only": True, "same_site": "Lax", **(cookie or {})})
        host.add_session(cookie=builder, **session)
        if configure is not None:
            configure(host)
        for path, script in routes.items():
            access: SessionAccessText = "read_only" if path.startswith("ro:") else "read_write"
            host.add_map_route(path.removeprefix("ro:"), "Get,Post", script, session_access=access)
        return await self.visit(host, cache, log, cancels=cancels)

    async def visit(
        self,
        host: KestrunHost,
        cache: RecordingCache | None = None,
        log: Log | None = None,
        *,
        cancels: bool = False,
    ) -> Site:
        """Serves a host that is ready."""
        server = _Server(host.create_app())
        server.cancels = cancels
        [certificate] = {endpoint.certificate for endpoint in host.endpoints}
        await server.start_server(ssl=None if certificate is None else ssl_context(certificate))
        connector = TCPConnector(limit=0, ssl=False)
        client = TestClient(server, cookie_jar=DummyCookieJar(), connector=connector)
        await self._stack.enter_async_context(client)
        cache = RecordingCache() if cache is None else cache  # an empty cache is falsy
        return Site(host, cache, log or Log(), client)


def as_def(work: Callable[[Session], Any]) -> Script:
    """A ``def`` script that works with the session and answers with what comes of it."""

    def script(context: KestrunContext) -> None:
        context.response.write_json({"result": work(context.session)}, compress=True)

    return script


def as_async_def(work: Callable[[Session], Any]) -> Script:
    """The same as an ``async def`` script."""

    async def script(context: KestrunContext) -> None:
        await asyncio.sleep(0)
        context.response.write_json({"result": work(context.session)}, compress=True)

    return script
