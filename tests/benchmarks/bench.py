"""`make bench`: what a request costs the server, with and without sessions, against bare aiohttp.

Every application runs in a process of its own. The scenarios take turns, round after round, and each ratio is taken
within a round, so that a machine that speeds up or slows down does not bend it. CPU is what the kernel counts for all
threads of the server. A figure is the median of the rounds; in brackets, the smallest and the largest ratio.
"""

from __future__ import annotations

import asyncio
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp

from kestrun_py.caching.sql import PostgresDialect, create_table
from tests.benchmarks import load
from tests.postgres_server import PostgresServer
from tests.redis_server import RedisServer

ROOT = Path(__file__).parent.parent.parent
CONNECTIONS = 16
SESSIONS = 64
ROUNDS = int(os.environ.get("BENCH_ROUNDS", "7"))
REQUESTS = int(os.environ.get("BENCH_REQUESTS", "4000"))


@dataclass
class Server:
    """One application in a process of its own, and cookies of sessions that it began."""

    process: subprocess.Popen[str]
    port: int
    cookies: list[str] = field(default_factory=list)

    def cpu(self) -> float:
        """Seconds of processor time that all its threads have used."""
        tasks = Path(f"/proc/{self.process.pid}/task").glob("*/schedstat")
        return sum(int(task.read_text().split()[0]) for task in tasks) / 1e9


@dataclass
class Scenario:
    """One line of the table."""

    name: str
    server: Server
    path: str
    sessions: int = SESSIONS
    micros: list[float] = field(default_factory=list)
    rates: list[float] = field(default_factory=list)

    def run(self, requests: int) -> None:
        before = self.server.cpu()
        elapsed, errors = send(self.server, self.path, requests, self.sessions)
        if errors:
            sys.exit(f"{self.name}: {errors} of {requests} requests were not answered with 200")
        self.micros.append((self.server.cpu() - before) / requests * 1e6)
        self.rates.append(requests / elapsed)


def send(server: Server, path: str, requests: int, sessions: int = SESSIONS) -> tuple[float, int]:
    """Sends requests from a process of its own; returns the seconds, and how many had no 200."""
    command = [sys.executable, "-m", "tests.benchmarks.load", str(server.port), path, str(CONNECTIONS), str(requests)]
    out = subprocess.run(
        [*command, *server.cookies[:sessions]], stdout=subprocess.PIPE, text=True, check=True, cwd=ROOT
    ).stdout
    elapsed, errors = out.split()
    return float(elapsed), int(errors)


def start(stack: ExitStack, name: str, where: str = "-") -> Server:
    """Starts an application and a set of sessions on it."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "tests.benchmarks.apps", name, str(port), where, _keys(stack)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    stack.callback(process.wait)
    stack.callback(process.kill)
    assert process.stdout is not None
    stack.callback(process.stdout.close)
    if process.stdout.readline().strip() != "ready":
        sys.exit(f"{name} did not start")
    server = Server(process, port)
    server.cookies = asyncio.run(_log_in(port))
    return server


def _keys(stack: ExitStack) -> str:
    return stack.enter_context(tempfile.TemporaryDirectory())


async def _log_in(port: int) -> list[str]:
    return [await load.login(port) for _ in range(SESSIONS)]


def measure(title: str, scenarios: list[Scenario]) -> None:
    """Runs the scenarios in turn and prints their table; the first one is what the ratios are taken to."""
    for scenario in scenarios:
        send(scenario.server, scenario.path, max(REQUESTS // 4, 200), scenario.sessions)
    for _ in range(ROUNDS):
        for scenario in scenarios:
            scenario.run(REQUESTS)
    print(f"\n{title}\n")
    print("| scenario | CPU per request | ratio to bare | requests a second |")
    print("|---|---:|---:|---:|")
    base = scenarios[0].micros
    for scenario in scenarios:
        ratios = [one / bare for one, bare in zip(scenario.micros, base, strict=True)]
        print(
            f"| {scenario.name} | {statistics.median(scenario.micros):.0f} us "
            f"| {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f}) "
            f"| {statistics.median(scenario.rates):.0f} |",
            flush=True,
        )


def counted(server: Server, cookie: str) -> int:
    """The counter of one session, after one more increment."""

    async def ask() -> int:
        async with (
            aiohttp.ClientSession() as client,
            client.get(f"http://127.0.0.1:{server.port}/counter", headers={"Cookie": cookie}) as response,
        ):
            return int((await response.json())["counter"])

    return asyncio.run(ask())


def hot_session(server: Server, requests: int) -> tuple[float, int]:
    """Read-modify-writes of one session on all connections: increments a second, and how many were lost."""
    before = counted(server, server.cookies[0])
    elapsed, errors = send(server, "/counter", requests, 1)
    return requests / elapsed, before + requests + 1 - counted(server, server.cookies[0]) + errors


def memory_table() -> None:
    with ExitStack() as stack:
        bare, memory, peer = (start(stack, name) for name in ("bare", "memory", "peer-cookie"))
        measure(
            "Memory cache",
            [
                Scenario("bare aiohttp", bare, "/counter"),
                Scenario("counter, `async def`", memory, "/counter"),
                Scenario("counter, `def`", memory, "/counter-def"),
                Scenario("session read only, `async def`", memory, "/read"),
                Scenario("route without session, cookie sent", memory, "/hello"),
                Scenario("aiohttp-session, encrypted cookie: counter", peer, "/counter"),
            ],
        )


def redis_table() -> None:
    with ExitStack() as stack:
        redis = stack.enter_context(RedisServer())
        url = f"redis://{redis.address}"
        bare, ours, peer = start(stack, "bare"), start(stack, "redis", url), start(stack, "peer-redis", url)
        measure(
            "Redis on loopback",
            [
                Scenario("bare aiohttp", bare, "/counter"),
                Scenario("counter, `async def`", ours, "/counter"),
                Scenario("counter, `def`", ours, "/counter-def"),
                Scenario("session read, under the lock", ours, "/read"),
                Scenario('session read, `session_access="read_only"`', ours, "/read-only"),
                Scenario("route without session, cookie sent", ours, "/hello"),
                Scenario("aiohttp-session with Redis: counter", peer, "/counter"),
            ],
        )
        with redis.client() as client:
            before = client.info("stats")["total_commands_processed"]
            send(ours, "/hello", 1000)
            commands = client.info("stats")["total_commands_processed"] - before - 1
        print(f"\nRedis commands in 1,000 requests of the route without session: {commands}")
        rate, lost = hot_session(ours, REQUESTS)
        print(f"One hot session on {CONNECTIONS} connections: {rate:.0f} increments a second, {lost} lost")


def postgres_table() -> None:
    with ExitStack() as stack:
        database = stack.enter_context(PostgresServer())
        text = database.connection_string()
        asyncio.run(create_table(text, schema_name="public", table_name="Sessions", dialect=PostgresDialect()))
        bare, ours = start(stack, "bare"), start(stack, "postgres", text)
        measure(
            "PostgreSQL over ODBC, on the same machine",
            [Scenario("bare aiohttp", bare, "/counter"), Scenario("counter, `async def`", ours, "/counter")],
        )
        rate, lost = hot_session(ours, min(REQUESTS, 1000))
        print(f"\nOne hot session on {CONNECTIONS} connections: {rate:.0f} increments a second, {lost} lost")


def workers_table() -> None:
    """Throughput of one worker and of two. The client and Redis use the same cores, so 2.0 is out of reach on two."""
    with ExitStack() as stack:
        redis = stack.enter_context(RedisServer())
        servers = [_start_workers(stack, count, f"redis://{redis.address}") for count in (1, 2)]
        ratios, rates = [], []
        for _ in range(ROUNDS):
            one, two = (REQUESTS / send(server, "/counter", REQUESTS)[0] for server in servers)
            rates.append((one, two))
            ratios.append(two / one)
        one, two = (statistics.median(column) for column in zip(*rates, strict=True))
        print(f"\nWorkers, counter on Redis: one {one:.0f}, two {two:.0f} requests a second, ", end="")
        print(f"ratio {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})", flush=True)


def _start_workers(stack: ExitStack, count: int, url: str) -> Server:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    script = str(Path(__file__).with_name("worker_host.py"))
    process = subprocess.Popen(
        [sys.executable, "-m", "kestrun_py.cli", "run", script, "--workers", str(count)],
        env={**os.environ, "PORT": str(port), "BENCH_REDIS": url},
        stdout=subprocess.DEVNULL,
        text=True,
        cwd=ROOT,
    )
    stack.callback(process.wait)
    stack.callback(process.terminate)
    server = Server(process, port)
    for _ in range(600):
        try:
            server.cookies = asyncio.run(_log_in(port))
            break
        except OSError:
            time.sleep(0.1)
    else:
        sys.exit("the workers did not start")
    send(server, "/counter", REQUESTS)
    return server


def main() -> None:
    print(f"aiohttp {aiohttp.__version__}, Python {sys.version.split()[0]}, {os.cpu_count()} cores;")
    print(f"{CONNECTIONS} connections, {SESSIONS} sessions, {ROUNDS} rounds of {REQUESTS} requests a scenario.")
    tables: dict[str, Callable[[], Any]] = {
        "memory": memory_table,
        "redis": redis_table,
        "postgres": postgres_table,
        "workers": workers_table,
    }
    for name in sys.argv[1:] or tables:
        tables[name]()


if __name__ == "__main__":
    main()
