"""Sample 19.1's sessions end when they were idle for 20 seconds, by the clock."""

from __future__ import annotations

import asyncio

from aiohttp import ClientSession
from sample_process import new_client, run_sample


async def count(client: ClientSession) -> int:
    async with client.get("/session/counter") as response:
        body = await response.json()
        return int(body["counter"])


async def test_an_idle_session_ends_after_twenty_seconds() -> None:
    with run_sample("19_1_sessions.py") as sample:
        async with new_client(f"https://127.0.0.1:{sample.port}") as client:
            assert await count(client) == 1
            [first] = client.cookie_jar
            await asyncio.sleep(20.5)  # a request that looked at the session would keep it alive
            assert await count(client) == 1
            [second] = client.cookie_jar
            assert second.value != first.value
            assert await count(client) == 2
