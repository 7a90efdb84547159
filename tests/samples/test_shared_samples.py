"""19.diag and 19.scale-out, and several processes that share one cache."""

from __future__ import annotations

import asyncio

from aiohttp import ClientSession
from ports import free_port
from sample_process import new_client, run_sample


async def test_diagnostics() -> None:
    with run_sample("19_diag.py") as sample:
        async with new_client(f"https://127.0.0.1:{sample.port}") as client:
            for _ in range(2):
                async with client.get("/diag/session") as response:
                    assert response.status == 200
                    assert await response.json() == {
                        "session": "blue",
                        "cacheType": "kestrun_py.caching.memory.cache.MemoryCache",
                    }
            assert [morsel.key for morsel in client.cookie_jar] == ["Kr.Session"]
        assert sample.stop() == 0


async def count(client: ClientSession, port: int) -> dict[str, object]:
    async with client.get(f"https://127.0.0.1:{port}/session/counter") as response:
        assert response.status == 200
        body: dict[str, object] = await response.json()
        return body


async def test_two_nodes_share_one_session(redis_url: str) -> None:
    port = free_port(1)
    with run_sample("19_scale_out.py", "--redis", redis_url, ports=[port, port + 1]) as sample:
        async with new_client(f"https://127.0.0.1:{port}") as client:
            assert await count(client, port) == {"node": "Node 1", "counter": 1}
            assert await count(client, port + 1) == {"node": "Node 2", "counter": 2}
            answers = await asyncio.gather(*(count(client, port + number % 2) for number in range(30)))
            assert {answer["counter"] for answer in answers} == set(range(3, 33))
        assert sample.stop() == 0


async def test_two_processes_share_one_session(redis_url: str) -> None:
    with (
        run_sample("19_2_sessions_redis.py", "--redis", redis_url) as first,
        run_sample("19_2_sessions_redis.py", UPSTASH_REDIS_URL=redis_url) as second,
    ):
        async with new_client(f"https://127.0.0.1:{first.port}") as client:
            for counter in range(1, 7):
                port = (first, second)[counter % 2].port
                assert (await count(client, port))["counter"] == counter


async def test_a_session_outlives_its_process(redis_url: str) -> None:
    port = free_port()
    async with new_client(f"https://127.0.0.1:{port}") as client:
        for counter in (1, 2, 3):
            with run_sample("19_2_sessions_redis.py", "--redis", redis_url, ports=[port]):
                assert (await count(client, port))["counter"] == counter
