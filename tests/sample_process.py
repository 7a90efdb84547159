"""Scripts in processes of their own: started on a free port, waited for, stopped by their pid."""

from __future__ import annotations

import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import aiohttp

ROOT = Path(__file__).parents[1]
SAMPLES = ROOT / "samples"

KESTRUN = [sys.executable, "-P", "-m", "kestrun_py.cli"]


def is_free(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0


def free_port(*offsets: int) -> int:
    """A port that nothing listens on, nor on the ports at these offsets from it.

    It is drawn from below the range that outgoing connections use, so that nobody takes it meanwhile.
    """
    while True:
        port = random.randrange(10_000, 32_000)
        if all(is_free(port + offset) for offset in (0, *offsets)):
            return port


def until(condition: Callable[[], object], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true in time"
        time.sleep(0.05)


def environment(**variables: str) -> dict[str, str]:
    """This process's environment, without what would redirect a script, importing from the project's root."""
    without = {
        "PORT",
        "ASPNETCORE_URLS",
        "UPSTASH_REDIS_URL",
        "KESTRUN_SQL",
        "KESTRUN_POSTGRES",
        "KESTRUN_WORKER",
    }
    kept = {name: value for name, value in os.environ.items() if name not in without}
    return {**kept, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1", **variables}


class Running:
    """A process that serves; leaving the `with` block stops it.

    Args:
        command: The program and its arguments.
        ports: It is up when something listens on each of them.
        variables: Added to its environment.
    """

    def __init__(
        self,
        command: Sequence[str | Path],
        *ports: int,
        folder: Path = ROOT,
        variables: Mapping[str, str] | None = None,
    ) -> None:
        self.port = ports[0]
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the process
        self.process = subprocess.Popen(
            command, env=environment(**variables or {}), cwd=folder, stdout=self._log, stderr=subprocess.STDOUT
        )
        try:
            until(lambda: self._is_up(ports))
        except BaseException:
            self.stop(signal.SIGKILL)
            self._log.close()
            raise

    def _is_up(self, ports: Sequence[int]) -> bool:
        assert self.process.poll() is None, f"it ended with {self.process.returncode}:\n{self.output()}"
        return not any(is_free(port) for port in ports)

    def output(self) -> str:
        """What it has written so far."""
        # Not by seek and read: where the process writes next, is where this file was read last.
        return os.pread(self._log.fileno(), os.fstat(self._log.fileno()).st_size, 0).decode()

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Stops it and returns its exit code; `output` is still there."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.process.wait(30)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        if error is not None:
            print(self.output())
        self._log.close()


def run_sample(name: str, *arguments: str, ports: Sequence[int] = (), **variables: str) -> Running:
    """Starts ``python samples/name --port N arguments`` on `ports` or on a free one."""
    ports = ports or [free_port()]
    command = [sys.executable, str(SAMPLES / name), "--port", str(ports[0]), *arguments]
    return Running(command, *ports, variables=variables)


def new_client(base_url: str) -> aiohttp.ClientSession:
    """One client with a cookie jar, which takes any certificate; to be called inside an event loop."""
    connector = aiohttp.TCPConnector(ssl=False)
    return aiohttp.ClientSession(base_url, connector=connector, cookie_jar=aiohttp.CookieJar(unsafe=True))
