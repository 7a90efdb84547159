"""Scripts in processes of their own: started on a free port, waited for, stopped by their pid."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import aiohttp
from ports import free_port, listens
from waiting import wait_until

ROOT = Path(__file__).parents[1]
SAMPLES = ROOT / "samples"

KESTRUN = [sys.executable, "-P", "-m", "kestrun_py"]


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


def runs(pid: int) -> bool:
    """Tells whether a process has not ended, even if nobody has asked for its exit code."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


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
            wait_until(lambda: self._is_up(ports))
        except BaseException:
            self.stop(signal.SIGKILL)
            self._log.close()
            raise

    def _is_up(self, ports: Sequence[int]) -> bool:
        assert self.process.poll() is None, f"it ended with {self.process.returncode}:\n{self.output()}"
        return all(map(listens, ports))

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


def run_sample(name: str, *arguments: str, ports: Sequence[int] = (), folder: Path = ROOT, **variables: str) -> Running:
    """Starts ``python samples/name --port N arguments`` in `folder`, on `ports` or on a free one."""
    ports = ports or [free_port()]
    command = [sys.executable, str(SAMPLES / name), "--port", str(ports[0]), *arguments]
    return Running(command, *ports, folder=folder, variables=variables)


def new_client(base_url: str) -> aiohttp.ClientSession:
    """One client with a cookie jar, which takes any certificate; to be called inside an event loop."""
    connector = aiohttp.TCPConnector(ssl=False)
    return aiohttp.ClientSession(base_url, connector=connector, cookie_jar=aiohttp.CookieJar(unsafe=True))
