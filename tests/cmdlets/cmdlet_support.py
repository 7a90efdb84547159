"""What the tests of cmdlets ask the default host with."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

from aiohttp import web
from aiohttp.test_utils import TestClient

from cmdlets import add_kr_map_route

__all__ = ["Client", "Route"]

Client: TypeAlias = TestClient[web.Request, web.Application]


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
