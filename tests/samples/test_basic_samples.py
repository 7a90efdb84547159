"""The samples without sessions: 1.1, 2.3, 7.1, 7.2."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
from aiohttp import ClientSession
from ports import free_port
from sample_process import SAMPLES, environment, new_client, run_sample


async def text(client: ClientSession, path: str, method: str = "GET", **options: Any) -> str:
    async with client.request(method, path, **options) as response:
        assert response.status == 200
        assert response.headers["Content-Type"] == "text/plain; charset=utf-8"
        return await response.text()


async def test_hello_world() -> None:
    with run_sample("1_1_hello_world.py") as sample:
        async with new_client(f"http://127.0.0.1:{sample.port}") as client:
            assert await text(client, "/hello") == "Hello, World!"
        assert sample.stop() == 0


async def test_the_port_may_come_from_the_environment() -> None:
    port = free_port()
    with run_sample("1_1_hello_world.py", "--port", str(port), ports=[port], PORT="1"):
        pass  # an argument wins
    with run_sample("1_1_hello_world.py", ports=[port], PORT=str(port)) as sample:
        async with new_client(f"http://127.0.0.1:{sample.port}") as client:
            assert await text(client, "/hello") == "Hello, World!"


@pytest.mark.parametrize("sample", sorted(path.name for path in SAMPLES.glob("[0-9]*.py")))
def test_a_port_that_is_none_is_the_endpoints_error(sample: str) -> None:
    variables = {"UPSTASH_REDIS_URL": "redis://127.0.0.1:1", "KESTRUN_SQL": "Server=x;Database=y;User Id=z;Password=p"}
    variables["KESTRUN_POSTGRES"] = "Host=localhost;Database=x"
    done = subprocess.run(
        [sys.executable, SAMPLES / sample],
        env=environment(PORT="many", **variables),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 1
    assert "Error: port: 'many' is not a port. Expected an integer between 0 and 65535." in done.stderr
    assert "Traceback" not in done.stderr


async def test_basic_server() -> None:
    with run_sample("7_1_basic_server.py") as sample:
        async with new_client(f"http://127.0.0.1:{sample.port}") as client:
            assert await text(client, "/hello") == "Hello from basic server"
        assert sample.stop() == 0
        log = sample.output()
    assert 'Server "Endpoints Basic" configured.' in log or "Server Endpoints Basic configured." in log
    assert "Processing /hello request" in log


async def test_multiple_listeners() -> None:
    port = free_port(433)
    with run_sample("7_2_multiple_listeners.py", ports=[port, port + 433]) as sample:
        for one in (port, port + 433):
            async with new_client(f"http://127.0.0.1:{one}") as client:
                assert await text(client, "/ping") == "pong"
        assert f"({port}, {port + 433})" in sample.output()


@pytest.mark.parametrize("path", ["/input", "/input/"])
async def test_route_parameters(path: str) -> None:
    with run_sample("2_3_route_parameters.py") as sample:
        async with new_client(f"http://127.0.0.1:{sample.port}") as client:
            said = await text(client, "/input/demoPath")
            assert said == "The Path Parameter 'value' was: demoPath"
            said = await text(client, f"{path}?value=demoQuery", "PATCH")
            assert said == "The Query String 'value' was: demoQuery"
            said = await text(client, path, "POST", json={"value": "demoBody"})
            assert said == "The Body Parameter 'value' was: demoBody"
            said = await text(client, path, "POST", data={"value": "demoForm"})
            assert said == "The Body Parameter 'value' was: demoForm"
            said = await text(client, path, "PUT", headers={"value": "demoHeader"})
            assert said == "The Header Parameter 'value' was: demoHeader"
            said = await text(client, path, "DELETE", headers={"Cookie": "value=demoCookie"})
            assert said == "The Cookie Parameter 'value' was: demoCookie"
            async with client.request("GET", path) as response:
                assert response.status == 405
                allowed = {verb.strip() for verb in response.headers["Allow"].split(",")}
                assert allowed == {"DELETE", "PATCH", "POST", "PUT"}
