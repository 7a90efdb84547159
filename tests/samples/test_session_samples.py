"""The session samples, each in a process of its own, over TLS: 19.1 in both styles, 19.2, 19.3, 19.4."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from http.cookies import Morsel

import pytest
from aiohttp import ClientSession
from sample_process import SAMPLES, Running, environment, new_client, run_sample

pytestmark = pytest.mark.xdist_group("session-samples")

ROUTES = "# --- Routes"
COOKIE = "Kr.Session"


@pytest.fixture(
    scope="module",
    params=[
        "19_1_sessions",
        "19_1_sessions_host",
        "19_2_sessions_redis",
        "19_3_sessions_sql",
        "19_4_sessions_postgres",
    ],
)
def sample(request: pytest.FixtureRequest) -> Iterator[Running]:
    name = request.param
    arguments: list[str] = []
    if name == "19_2_sessions_redis":
        arguments = ["--redis", request.getfixturevalue("redis_url")]
    elif name == "19_3_sessions_sql":
        arguments = ["--sql", request.getfixturevalue("sqlserver_table")]
    elif name == "19_4_sessions_postgres":
        arguments = ["--postgres", request.getfixturevalue("postgres_table")]
    with run_sample(f"{name}.py", *arguments) as running:
        yield running
    assert running.process.returncode == 0


@pytest.fixture
async def client(sample: Running) -> AsyncIterator[ClientSession]:
    async with new_client(f"https://127.0.0.1:{sample.port}") as client:
        yield client


async def get(client: ClientSession, path: str) -> tuple[int, object]:
    async with client.get(path) as response:
        assert response.headers["Content-Type"] == "application/json; charset=utf-8"
        return response.status, await response.json()


def cookies(client: ClientSession) -> dict[str, Morsel[str]]:
    return {morsel.key: morsel for morsel in client.cookie_jar}


async def test_hello_knows_no_session(client: ClientSession) -> None:
    async with client.get("/hello") as response:
        assert response.status == 200
        assert response.content_type == "text/plain"
        assert await response.text() == "Hello, Session World!"
        assert "Set-Cookie" not in response.headers
        assert "Vary" not in response.headers


async def test_the_counter_counts_per_client(client: ClientSession, sample: Running) -> None:
    for count in (1, 2, 3):
        assert await get(client, "/session/counter") == (
            200,
            {"message": "Counter incremented", "counter": count},
        )
    async with new_client(f"https://127.0.0.1:{sample.port}") as other:
        assert await get(other, "/session/counter") == (200, {"message": "Counter incremented", "counter": 1})


async def test_no_increment_is_lost_when_requests_come_at_once(client: ClientSession) -> None:
    await get(client, "/session/counter")
    answers = await asyncio.gather(*(get(client, "/session/counter") for _ in range(20)))
    counts = [body["counter"] for status, body in answers if status == 200 and isinstance(body, dict)]
    assert sorted(counts) == list(range(2, 22))


async def test_login_whoami_logout(client: ClientSession) -> None:
    nobody = (401, {"error": "No active session or user not set"})
    assert await get(client, "/session/whoami") == nobody
    assert not cookies(client)
    assert await get(client, "/session/login?user=admin") == (200, {"message": "Logged in", "user": "admin"})
    assert await get(client, "/session/whoami") == (200, {"user": "admin"})
    assert await get(client, "/session/logout") == (200, {"message": "Session cleared"})
    assert await get(client, "/session/whoami") == nobody


async def test_a_logged_out_cookie_opens_nothing(client: ClientSession, sample: Running) -> None:
    await get(client, "/session/login?user=admin")
    stolen = {COOKIE: cookies(client)[COOKIE].value}
    await get(client, "/session/logout")
    async with new_client(f"https://127.0.0.1:{sample.port}") as thief:
        thief.cookie_jar.update_cookies(stolen)
        assert (await get(thief, "/session/whoami"))[0] == 401


async def test_set_and_get(client: ClientSession, sample: Running) -> None:
    stored = {"message": "Stored in session", "key": "color", "value": "purple"}
    assert await get(client, "/session/set?key=color&value=purple") == (200, stored)
    assert await get(client, "/session/get?key=color") == (200, {"key": "color", "value": "purple"})
    missing = (404, {"error": "Key 'color' not found in session"})
    async with new_client(f"https://127.0.0.1:{sample.port}") as other:
        assert await get(other, "/session/get?key=color") == missing


@pytest.mark.parametrize("value", ["über 🚲", "a&b=c%20+", '"</script>"'])
async def test_any_text_comes_back(client: ClientSession, value: str) -> None:
    async with client.get("/session/set", params={"key": "text", "value": value}) as response:
        assert (await response.json())["value"] == value
    assert await get(client, "/session/get?key=text") == (200, {"key": "text", "value": value})


@pytest.mark.parametrize(
    ("path", "error", "example"),
    [
        ("/session/login", "Missing 'user' query parameter", "/session/login?user=max"),
        ("/session/login?user=", "Missing 'user' query parameter", "/session/login?user=max"),
        ("/session/login?user=%20%20", "Missing 'user' query parameter", "/session/login?user=max"),
        *(
            (
                f"/session/set{query}",
                "Missing 'key' and/or 'value' query parameter(s)",
                "/session/set?key=color&value=purple",
            )
            for query in ("", "?key=color", "?value=purple", "?key=%20&value=purple", "?key=color&value=%20")
        ),
        ("/session/get", "Missing 'key' query parameter", "/session/get?key=color"),
        ("/session/get?key=%20", "Missing 'key' query parameter", "/session/get?key=color"),
    ],
)
async def test_what_is_missing_is_named(client: ClientSession, path: str, error: str, example: str) -> None:
    assert await get(client, path) == (400, {"error": error, "example": example})
    assert not cookies(client)


async def test_the_cookie(client: ClientSession) -> None:
    async with client.get("/session/counter") as response:
        [header] = response.headers.getall("Set-Cookie")
        assert response.headers["Cache-Control"] == "no-cache,no-store"
        assert response.headers["Pragma"] == "no-cache"
        assert response.headers["Expires"] == "-1"
        assert response.headers["Vary"] == "Cookie"
    name, *attributes = header.split("; ")
    assert name.startswith(f"{COOKIE}=")
    assert sorted(attribute.lower() for attribute in attributes) == [
        "httponly",
        "path=/",
        "samesite=lax",
        "secure",
    ]
    async with client.get("/session/counter") as response:
        assert "Set-Cookie" not in response.headers


async def test_logout_expires_the_cookie(client: ClientSession) -> None:
    await get(client, "/session/counter")
    async with client.get("/session/logout") as response:
        [header] = response.headers.getall("Set-Cookie")
    attributes = {attribute.lower() for attribute in header.split("; ")}
    assert attributes == {
        *("kr.session=", "expires=thu, 01 jan 1970 00:00:00 gmt"),
        *("path=/", "secure", "samesite=lax", "httponly"),
    }


async def test_a_forged_cookie_is_a_new_session(client: ClientSession) -> None:
    client.cookie_jar.update_cookies({COOKIE: "CfDJ8" + "A" * 180})
    assert await get(client, "/session/whoami") == (401, {"error": "No active session or user not set"})
    assert await get(client, "/session/counter") == (200, {"message": "Counter incremented", "counter": 1})
    assert await get(client, "/session/counter") == (200, {"message": "Counter incremented", "counter": 2})


async def test_paths_match_as_in_aspnet(client: ClientSession) -> None:
    assert await get(client, "/Session/COUNTER/") == (200, {"message": "Counter incremented", "counter": 1})


def test_the_samples_have_the_same_routes() -> None:
    names = ["19_1_sessions", "19_2_sessions_redis", "19_3_sessions_sql", "19_4_sessions_postgres"]
    routes = {SAMPLES.joinpath(f"{name}.py").read_text().partition(ROUTES)[2] for name in names}
    assert len(routes) == 1
    assert "/session/counter" in routes.pop()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("19_2_sessions_redis", "Set the environment variable UPSTASH_REDIS_URL or pass --redis."),
        ("19_3_sessions_sql", "Set the variable KESTRUN_SQL or pass --sql."),
        ("19_4_sessions_postgres", "Set the variable KESTRUN_POSTGRES or pass --postgres."),
        ("19_scale_out", "Set the environment variable UPSTASH_REDIS_URL or pass --redis."),
    ],
)
def test_a_sample_says_what_it_needs(name: str, message: str) -> None:
    done = subprocess.run(
        [sys.executable, SAMPLES / f"{name}.py"],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 1
    assert done.stderr.strip().endswith(message)
    assert "Traceback" not in done.stderr
