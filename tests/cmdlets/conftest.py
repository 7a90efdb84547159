"""Fixtures of the cmdlet tests."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient
from pytest_aiohttp.plugin import AiohttpClient
from recording_log import Log

from cmdlets import add_kr_map_route, get_kr_server, new_kr_server
from kestrun_py import KestrunHost

Client = TestClient[web.Request, web.Application]


@pytest.fixture
def log() -> Log:
    return Log()


@pytest.fixture
def host(log: Log) -> KestrunHost:
    """The default host, made with new_kr_server; it writes to `log`."""
    return new_kr_server("test", logger=log.logger)


@pytest.fixture
def serve(aiohttp_client: AiohttpClient) -> Callable[[], Awaitable[Client]]:
    """Serves the default host to a client with a cookie jar."""

    async def go() -> Client:
        host = get_kr_server()
        assert isinstance(host, KestrunHost)
        return await aiohttp_client(host.create_app())

    return go


@pytest.fixture(params=["def", "async def"])
def as_script(request: pytest.FixtureRequest) -> Callable[[Callable[[], Any]], Callable[[], Any]]:
    """Makes a ``def`` or an ``async def`` script of a function."""
    if request.param == "def":
        return lambda work: work

    def wrap(work: Callable[[], Any]) -> Callable[[], Any]:
        async def script() -> Any:
            await asyncio.sleep(0)
            return work()

        return script

    return wrap


class Route:
    """The only route of the default host: runs a function in either kind of script."""

    def __init__(self, serve: Callable[[], Awaitable[Client]], as_script: Callable[[Any], Any]) -> None:
        self._serve = serve
        self._as_script = as_script
        self.found: list[Any] = []

    async def run(
        self, work: Callable[[], Any], *, method: str = "GET", path: str = "/", pattern: str = "/", **request: Any
    ) -> tuple[int, str, dict[str, str]]:
        """Answers with status, text and headers; what `work` returns is appended to `found`."""
        add_kr_map_route(
            pattern,
            verbs="Get,Post,Put",
            script_block=self._as_script(lambda: self.found.append(work())),
            allow_duplicate=True,
        )
        client = await self._serve()
        async with client.request(method, path, allow_redirects=False, **request) as response:
            return response.status, await response.text(), dict(response.headers)

    async def value(self, work: Callable[[], Any], **request: Any) -> Any:
        """What `work` returned, or the status if it failed."""
        status, _, _ = await self.run(work, **request)
        return self.found[0] if status == 200 else status


@pytest.fixture
def route(host: KestrunHost, serve: Callable[[], Awaitable[Client]], as_script: Callable[[Any], Any]) -> Route:
    return Route(serve, as_script)
