"""Fixtures of the cmdlet tests."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from cmdlet_support import Client, Route
from pytest_aiohttp.plugin import AiohttpClient
from recording_log import Log

from cmdlets import get_kr_server, new_kr_server
from kestrun_py import KestrunHost


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


@pytest.fixture
def route(host: KestrunHost, serve: Callable[[], Awaitable[Client]], as_script: Callable[[Any], Any]) -> Route:
    return Route(serve, as_script)
