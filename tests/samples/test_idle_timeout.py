"""The sessions of sample 19.1 end when they were idle for as long as it says, by the clock."""

from __future__ import annotations

import asyncio
from pathlib import Path

from aiohttp import ClientSession
from ports import free_port
from sample_process import KESTRUN, SAMPLES, Running, new_client


async def count(client: ClientSession) -> int:
    async with client.get("/session/counter") as response:
        body = await response.json()
        return int(body["counter"])


async def test_an_idle_session_ends(tmp_path: Path) -> None:
    source = SAMPLES.joinpath("19_1_sessions.py").read_text("utf-8")
    assert "idle_timeout=20," in source
    script = tmp_path / "sample.py"
    script.write_text(source.replace("idle_timeout=20,", "idle_timeout=2,"), "utf-8")
    port = free_port()
    with Running([*KESTRUN, "run", script, "--port", str(port)], port) as sample:
        async with new_client(f"https://127.0.0.1:{sample.port}") as client:
            assert await count(client) == 1
            [first] = client.cookie_jar
            await asyncio.sleep(2.5)  # a request that looked at the session would keep it alive
            assert await count(client) == 1
            [second] = client.cookie_jar
            assert second.value != first.value
