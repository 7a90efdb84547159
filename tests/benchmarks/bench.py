"""`make bench`: what a request costs the server, with and without sessions, against bare aiohttp.

Every application runs in a process of its own, hosts as `KestrunHost.run` serves them. The scenarios take turns in
short slices, round after round, and each ratio is taken within a round, so that a machine that speeds up or slows down
does not bend it. All of them are sent the same: a request with a session cookie. CPU is what the kernel counts for all
threads of the server. A figure is the median of the rounds; in brackets, the middle half of the ratios.
"""

from __future__ import annotations

import asyncio
import os
import re
import shutil
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
from benchmarks import load
from ports import free_port
from postgres_server import PostgresServer
from redis_server import RedisServer

from kestrun_py.caching.sql import PostgresDialect, create_table

ROOT = Path(__file__).parent.parent.parent
CONNECTIONS = 16
SESSIONS = 64
ROUNDS = int(os.environ.get("BENCH_ROUNDS", "21"))
REQUESTS = int(os.environ.get("BENCH_REQUESTS", "1500"))

# What an application without sessions is sent instead of a cookie of its own: as long as ours, and ignored.
FOREIGN_COOKIE = f"Kr.Session=CfDJ8{'x' * 171}"


@dataclass
class Server:
    """One application in a process of its own, and the cookies that it is sent."""

    process: subprocess.Popen[str]
    port: int
    cookies: list[str] = field(default_factory=list)

    def cpu(self) -> float:
        """Seconds of processor time that all its threads have used, and those of its children."""
        pid = self.process.pid
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        tasks = [task for owner in (pid, *children) for task in Path(f"/proc/{owner}/task").glob("*/schedstat")]
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

    def run(self, client: load.Client, requests: int) -> None:
        before = self.server.cpu()
        elapsed, errors = client.run(
            self.server.port, self.path, CONNECTIONS, requests, self.server.cookies[: self.sessions]
        )
        if errors:
            sys.exit(f"{self.name}: {errors} of {requests} requests were not answered with 200")
        self.micros.append((self.server.cpu() - before) / requests * 1e6)
        self.rates.append(requests / elapsed)


def start(stack: ExitStack, name: str, where: str = "-") -> Server:
    """Starts an application and a set of sessions on it."""
    port = free_port()
    keys = stack.enter_context(tempfile.TemporaryDirectory())
    command = [sys.executable, "-m", "benchmarks.apps", name, str(port), where, keys]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    stack.callback(process.wait)
    stack.callback(process.kill)
    assert process.stdout is not None
    stack.callback(process.stdout.close)
    if process.stdout.readline().strip() != "ready":
        sys.exit(f"{name} did not start")
    return Server(process, port, asyncio.run(_log_in(port)))


async def _log_in(port: int) -> list[str]:
    return [await load.login(port) or FOREIGN_COOKIE for _ in range(SESSIONS)]


def measure(title: str, scenarios: list[Scenario]) -> None:
    """Runs the scenarios in turn and prints their table; the first one is what the ratios are taken to."""
    with load.Client() as client:
        for round_ in range(-2, ROUNDS):
            for scenario in scenarios:
                scenario.run(client, REQUESTS)
                if round_ < 0:  # to warm up
                    scenario.micros.clear()
                    scenario.rates.clear()
    print(f"\n{title}\n")
    print("| scenario | CPU per request | ratio to bare | requests a second |")
    print("|---|---:|---:|---:|")
    for scenario in scenarios:
        ratio = _spread(_ratios(scenario.micros, scenarios[0].micros))
        print(
            f"| {scenario.name} | {statistics.median(scenario.micros):.0f} us "
            f"| {ratio} | {statistics.median(scenario.rates):.0f} |",
            flush=True,
        )


def _ratios(values: list[float], base: list[float]) -> list[float]:
    return [one / other for one, other in zip(values, base, strict=True)]


def _spread(values: list[float]) -> str:
    low, middle, high = statistics.quantiles(values, n=4) if len(values) > 1 else values * 3
    return f"{middle:.2f} ({low:.2f} to {high:.2f})"


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
    with load.Client() as client:
        elapsed, errors = client.run(server.port, "/counter", CONNECTIONS, requests, server.cookies[:1])
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
                (counter := Scenario("counter, `async def`", ours, "/counter")),
                Scenario("counter, `def`", ours, "/counter-def"),
                Scenario("session read, under the lock", ours, "/read"),
                Scenario('session read, `session_access="read_only"`', ours, "/read-only"),
                Scenario("route without session, cookie sent", ours, "/hello"),
                (theirs := Scenario("aiohttp-session with Redis: counter", peer, "/counter")),
            ],
        )
        print(f"\nOur counter on Redis to aiohttp-session's: {_spread(_ratios(counter.micros, theirs.micros))}")
        with redis.client() as asked, load.Client() as client:
            before = asked.info("stats")["total_commands_processed"]
            client.run(ours.port, "/hello", CONNECTIONS, 1000, ours.cookies)
            commands = asked.info("stats")["total_commands_processed"] - before - 1
        print(f"\nRedis commands in 1,000 requests of the route without session: {commands}")
        rate, lost = hot_session(ours, 4000)
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
        rate, lost = hot_session(ours, 1000)
        print(f"\nOne hot session on {CONNECTIONS} connections: {rate:.0f} increments a second, {lost} lost")


def workers_table() -> None:
    """One worker and two, on the counter with Redis.

    The client and Redis use the same cores, so a second worker finds less than a core. What a request costs says
    whether the workers get into each other's way; how busy the cores were, what there was left to gain.
    """
    with ExitStack() as stack:
        redis = stack.enter_context(RedisServer())
        servers = [_start_workers(stack, count, f"redis://{redis.address}") for count in (1, 2)]
        send = _send_with_wrk if shutil.which("wrk") else _send_with_client
        rates: list[list[float]] = [[], []]
        micros: list[list[float]] = [[], []]
        busy: list[list[float]] = [[], []]
        for _ in range(max(ROUNDS // 3, 1)):
            for index, server in enumerate(servers):
                before, machine = server.cpu(), _machine_cpu()
                requests, elapsed = send(stack, server)
                rates[index].append(requests / elapsed)
                micros[index].append((server.cpu() - before) / requests * 1e6)
                busy[index].append((_machine_cpu() - machine) / elapsed)
        one, two = (statistics.median(column) for column in rates)
        print(f"\nWorkers, counter on Redis: one {one:.0f}, two {two:.0f} requests a second,", end=" ")
        print(f"ratio {_spread(_ratios(rates[1], rates[0]))};", end=" ")
        one, two = (statistics.median(column) for column in micros)
        print(f"CPU per request {one:.0f} and {two:.0f} us, ratio {_spread(_ratios(micros[1], micros[0]))};", end=" ")
        one, two = (statistics.median(column) for column in busy)
        print(f"cores busy with all of it: {one:.1f} and {two:.1f} of {os.cpu_count()}", flush=True)


def _machine_cpu() -> float:
    """Seconds of processor time that the whole machine has used: client and Redis too."""
    user, nice, system, _, _, irq, softirq = map(int, Path("/proc/stat").read_text().split(maxsplit=8)[1:8])
    return (user + nice + system + irq + softirq) / os.sysconf("SC_CLK_TCK")


def _send_with_client(stack: ExitStack, server: Server) -> tuple[int, float]:
    with load.Client() as client:
        elapsed, errors = client.run(server.port, "/counter", CONNECTIONS, 2 * REQUESTS, server.cookies)
    if errors:
        sys.exit(f"{errors} requests were not answered with 200")
    return 2 * REQUESTS, elapsed


def _send_with_wrk(stack: ExitStack, server: Server) -> tuple[int, float]:
    """A client that leaves more of the two cores to the workers."""
    script = Path(stack.enter_context(tempfile.TemporaryDirectory()), "cookies.lua")
    cookies = ", ".join(f'"{cookie}"' for cookie in server.cookies)
    script.write_text(
        f"local cookies = {{{cookies}}}\nlocal at = 0\n"
        "function request()\n  at = at % #cookies + 1\n"
        '  return wrk.format("GET", "/counter", {Cookie = cookies[at]})\nend\n'
    )
    command = ["wrk", "-t1", f"-c{CONNECTIONS}", "-d3", "-s", str(script), f"http://127.0.0.1:{server.port}/"]
    text = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
    found = re.search(r"(\d+) requests in ([\d.]+)s", text)
    if found is None or "Non-2xx" in text:
        sys.exit(f"wrk says:\n{text}")
    return int(found[1]), float(found[2])


def _start_workers(stack: ExitStack, count: int, url: str) -> Server:
    port = free_port()
    script = str(Path(__file__).with_name("worker_host.py"))
    process = subprocess.Popen(
        [sys.executable, "-m", "kestrun_py", "run", script, "--workers", str(count)],
        env={**os.environ, "PORT": str(port), "BENCH_REDIS": url},
        stdout=subprocess.DEVNULL,
        text=True,
        cwd=ROOT,
    )
    stack.callback(process.wait)
    stack.callback(process.terminate)
    for _ in range(600):
        try:
            return Server(process, port, asyncio.run(_log_in(port)))
        except OSError:
            time.sleep(0.1)
    sys.exit("the workers did not start")


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
