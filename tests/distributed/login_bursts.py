"""Browsers that sign in while other requests of theirs are under way, on two hosts with one cache.

Run as a program, it measures how often a browser is signed out afterwards::

    PYTHONPATH=tests .venv/bin/python tests/distributed/login_bursts.py 2000
"""

from __future__ import annotations

import asyncio
import random
import sys
from collections import Counter
from collections.abc import Sequence
from contextlib import AsyncExitStack

from host_nodes import Nodes
from shared_caches import PostgresShared, RedisShared, SharedCache
from shared_site import Visitor

_OTHERS = 5  # requests beside the login
_BROWSERS = 8
_SPREAD_SECONDS = 0.01


class Browser:
    """Keeps the cookie of the answer that came last."""

    def __init__(self, hosts: Sequence[Visitor], chance: random.Random) -> None:
        self.statuses: Counter[tuple[str, int]] = Counter()
        self._hosts = hosts
        self._chance = chance
        self._cookie: str | None = None

    async def get(self, path: str) -> str:
        """Sends a request to one of the hosts, with the cookie that the browser has now."""
        answer = await self._chance.choice(self._hosts).get(path, self._cookie)
        self.statuses[path, answer.status] += 1
        if answer.cookie is not None:
            self._cookie = answer.cookie or None
        return answer.text

    async def get_soon(self, path: str) -> None:
        await asyncio.sleep(self._chance.uniform(0, _SPREAD_SECONDS))
        await self.get(path)

    async def sign_in(self) -> bool:
        """Makes a session, signs in among other requests that write, and tells whether the user is signed in then."""
        self._cookie = None
        await self.get("/counter")
        paths = ["/login", *["/counter"] * _OTHERS]
        self._chance.shuffle(paths)
        await asyncio.gather(*(self.get_soon(path) for path in paths))
        return "max" in await self.get("/who")


async def lost_logins(hosts: Sequence[Visitor], count: int, seed: int) -> tuple[int, Counter[tuple[str, int]]]:
    """Has browsers sign in `count` times.

    Returns:
        How many were signed out by one of their other requests, and how often a path was answered with a status.
    """
    chance = random.Random(seed)
    browsers = [Browser(hosts, chance) for _ in range(_BROWSERS)]
    lost = 0
    left = count

    async def use(browser: Browser) -> None:
        nonlocal lost, left
        while left > 0:
            left -= 1
            lost += not await browser.sign_in()

    await asyncio.gather(*map(use, browsers))
    statuses: Counter[tuple[str, int]] = Counter()
    for browser in browsers:
        statuses += browser.statuses
    return lost, statuses


async def _measure(cache: SharedCache, count: int) -> None:
    async with AsyncExitStack() as stack:
        nodes = Nodes(stack)
        hosts = [await nodes.start_process(cache) for _ in range(2)]
        lost, statuses = await lost_logins(hosts, count, seed=count)
    print(f"{cache.name}: {lost} of {count} logins lost; {dict(sorted(statuses.items()))}", flush=True)


if __name__ == "__main__":
    for kind in (RedisShared, PostgresShared):
        asyncio.run(_measure(kind(), int(sys.argv[1])))
