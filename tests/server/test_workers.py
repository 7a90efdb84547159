"""Worker processes: started, started again, stopped together, never left behind."""

from __future__ import annotations

import functools
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sample_process import environment, runs
from waiting import wait_until

from kestrun_py.server import worker

WORKER = """
import os, pathlib, signal, sys, threading, time
from kestrun_py.server.worker import current_worker, shared_between_workers

folder = pathlib.Path(sys.argv[1])
mode = sys.argv[2]
if mode == "importing":
    folder.joinpath(f"begun-{os.getpid()}").touch()
    while not folder.joinpath("go-on").exists():
        time.sleep(0.02)
worker = current_worker()
if worker is None:
    time.sleep(600)  # a process of its own serves until it is told to stop
if mode == "refuse":
    sys.exit("this script cannot start")
if mode == "second-waits" and worker.number == 2 and not list(folder.glob("begun-*")):
    folder.joinpath(f"begun-{os.getpid()}").touch()
    time.sleep(600)
made = shared_between_workers("secret", lambda: os.urandom(8))
runs = len(list(folder.glob(f"{worker.number}-*")))
if mode == "fails-after-first" and runs:
    folder.joinpath("failed").touch()
    sys.exit(9)
worker.stop_with_supervisor()
stop = threading.Event()
if mode == "stubborn":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
else:
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
def end(number, frame):
    if number == signal.SIGUSR1:
        worker.stop_all()
    os._exit(0)
signal.signal(signal.SIGUSR1, end)
signal.signal(signal.SIGUSR2, end)
worker.listening()
folder.joinpath(f"{worker.number}-{os.getpid()}").write_text(made.hex())
while not stop.wait(0.02):
    pass
folder.joinpath(f"stopped-{worker.number}").touch()
"""

SUPERVISOR = """
import sys
from kestrun_py.server.supervisor import WorkerSupervisor

patience = 0.5 if sys.argv[-1] == "stubborn" else 60
sys.exit(WorkerSupervisor(sys.argv[2:], int(sys.argv[1]), stop_timeout=patience).run())
"""


class Group:
    """A supervisor process with its workers, seen through the files that they write."""

    def __init__(self, folder: Path, count: int, mode: str, program: str | Path) -> None:
        self.notes = folder / "notes"
        self.notes.mkdir()
        script = folder / "worker.py"
        script.write_text(WORKER)
        self.process = subprocess.Popen(
            [sys.executable, "-c", SUPERVISOR, str(count), program, str(script), str(self.notes), mode],
            env=environment(),
            stderr=subprocess.PIPE,
            text=True,
        )

    def pids(self, number: int) -> list[int]:
        notes = sorted(self.notes.glob(f"{number}-*"), key=lambda path: path.stat().st_mtime_ns)
        return [int(path.name.split("-")[1]) for path in notes if path.read_text()]

    def begun(self) -> list[int]:
        """The processes that have come to the point where they wait before they listen."""
        return [int(path.name.split("-")[1]) for path in self.notes.glob("begun-*")]

    def has_started(self, number: int, times: int) -> bool:
        return len(self.pids(number)) == times

    def finish(self, timeout: float = 30) -> tuple[int, str]:
        _, errors = self.process.communicate(timeout=timeout)
        return self.process.returncode, errors


Start = Callable[..., Group]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    groups: list[Group] = []

    def begin(count: int, mode: str = "serve", program: str | Path = sys.executable) -> Group:
        groups.append(Group(tmp_path, count, mode, program))
        return groups[-1]

    yield begin
    for group in groups:
        if group.process.poll() is None:
            group.process.terminate()
            group.process.communicate(timeout=30)
        assert group.process.stderr is not None
        group.process.stderr.close()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_workers_are_stopped_together(start: Start, number: signal.Signals) -> None:
    group = start(3, "serve")
    wait_until(lambda: all(group.pids(worker) for worker in (1, 2, 3)))
    group.process.send_signal(number)
    assert group.finish() == (0, "")
    assert all(group.notes.joinpath(f"stopped-{worker}").exists() for worker in (1, 2, 3))


def test_a_worker_that_dies_is_started_again(start: Start) -> None:
    group = start(2, "serve")
    wait_until(lambda: group.pids(1) and group.pids(2))
    for times in (1, 2):
        os.kill(group.pids(2)[-1], signal.SIGKILL)
        wait_until(functools.partial(group.has_started, 2, times + 1))
    assert len(group.pids(1)) == 1
    group.process.terminate()
    code, errors = group.finish()
    assert code == 0
    assert errors.count("Worker 2 of 2 ended with code -9") == 2


def test_a_worker_that_served_before_may_fail_to_start_again(start: Start) -> None:
    group = start(1, "fails-after-first")
    wait_until(lambda: group.pids(1))
    [first] = group.pids(1)
    os.kill(first, signal.SIGKILL)
    wait_until(group.notes.joinpath("failed").exists)
    group.notes.joinpath(f"1-{first}").unlink()
    wait_until(lambda: group.pids(1))
    assert group.process.poll() is None


def test_a_script_that_cannot_start_says_so_once_and_ends_all(start: Start) -> None:
    code, errors = start(4, "refuse").finish()
    assert code == 1
    assert errors.count("this script cannot start") == 1


def test_a_program_that_is_missing_for_a_while_is_tried_again(start: Start, tmp_path: Path) -> None:
    program = tmp_path / "program"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    program.chmod(0o700)
    group = start(2, "serve", program)
    wait_until(lambda: group.pids(1) and group.pids(2))
    hidden = program.rename(tmp_path / "hidden")
    os.kill(group.pids(2)[0], signal.SIGKILL)
    assert group.process.stderr is not None
    while "Worker 2 of 2 could not be started" not in (line := group.process.stderr.readline()):
        assert line
    hidden.rename(program)
    wait_until(functools.partial(group.has_started, 2, 2))
    assert len(group.pids(1)) == 1


def test_a_program_that_does_not_exist_is_an_error(start: Start, tmp_path: Path) -> None:
    code, errors = start(2, "serve", tmp_path / "missing").finish()
    assert code == 1
    assert errors.count("Worker 1 of 2 could not be started: [Errno 2] No such file or directory") == 1
    assert "Traceback" not in errors


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR2])
def test_a_worker_that_ends_in_order_is_started_again(start: Start, number: signal.Signals) -> None:
    """Somebody else has ended it; a code of 0 does not mean that nobody is to serve any more."""
    group = start(2, "serve")
    wait_until(lambda: group.pids(1) and group.pids(2))
    os.kill(group.pids(1)[0], number)
    wait_until(functools.partial(group.has_started, 1, 2))
    assert group.process.poll() is None
    assert len(group.pids(2)) == 1
    group.process.terminate()
    code, errors = group.finish()
    assert code == 0
    assert errors.count("Worker 1 of 2 ended with code 0; it starts again") == 1


def test_a_worker_that_dies_before_it_listens_is_started_again(start: Start) -> None:
    group = start(2, "second-waits")
    wait_until(group.begun)
    os.kill(group.begun()[0], signal.SIGKILL)
    wait_until(lambda: group.pids(2))
    assert len(group.pids(1)) == 1
    group.process.terminate()
    code, errors = group.finish()
    assert code == 0
    assert errors.count("Worker 2 of 2 ended with code -9; it starts again") == 1


def test_a_first_worker_that_is_killed_before_it_listens_ends_all(start: Start) -> None:
    group = start(2, "importing")
    wait_until(group.begun)
    os.kill(group.begun()[0], signal.SIGKILL)
    code, errors = group.finish()
    assert code == 128 + 9
    assert "Worker 1 of 2 was ended by the signal 9" in errors


def test_a_worker_whose_script_stops_the_server_ends_all(start: Start) -> None:
    group = start(2, "serve")
    wait_until(lambda: group.pids(1) and group.pids(2))
    os.kill(group.pids(1)[0], signal.SIGUSR1)
    assert group.finish() == (0, "")
    assert group.notes.joinpath("stopped-2").exists()


def test_a_worker_that_does_not_stop_is_killed(start: Start) -> None:
    group = start(2, "stubborn")
    wait_until(lambda: group.pids(1) and group.pids(2))
    group.process.terminate()
    code, errors = group.finish()
    assert code == 0
    assert errors.count("did not stop in time and is killed") == 2


def test_workers_end_when_their_supervisor_was_killed(start: Start) -> None:
    group = start(2, "serve")
    wait_until(lambda: group.pids(1) and group.pids(2))
    pids = [*group.pids(1), *group.pids(2)]
    group.process.kill()
    wait_until(lambda: not any(runs(pid) for pid in pids))


def test_a_worker_whose_supervisor_was_killed_before_it_listens_ends(start: Start) -> None:
    group = start(2, "importing")
    wait_until(group.begun)
    group.process.kill()
    group.process.wait(30)
    [pid] = group.begun()
    group.notes.joinpath("go-on").touch()
    wait_until(lambda: not runs(pid))


def test_workers_share_what_the_first_one_made(start: Start) -> None:
    group = start(3, "serve")
    wait_until(lambda: all(group.pids(worker) for worker in (1, 2, 3)))
    assert len({path.read_text() for path in group.notes.glob("?-*")}) == 1


def test_a_process_of_its_own_is_no_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    told = {"number": 1, "count": 2, "supervisor": os.getppid() + 1, "channel": 99, "folder": "/nonexistent"}
    monkeypatch.setenv("KESTRUN_WORKER", json.dumps(told))
    worker.current_worker.cache_clear()
    assert worker.current_worker() is None
    assert worker.shared_between_workers("secret", lambda: b"own") == b"own"
