"""Running a command again whenever a Python file in a folder changes."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import Final, NoReturn

import click

__all__ = ["run_with_reload"]

_INTERVAL: Final = 0.25
_STOP_TIMEOUT: Final = 10.0


def run_with_reload(command: Sequence[str], folder: Path) -> int:
    """Runs `command` until it ends with code 0 or this process is told to stop; returns the exit code."""
    signal.signal(signal.SIGTERM, _interrupt)
    while True:
        seen = _python_files(folder)
        process = subprocess.Popen(command)
        try:
            if _ended_before_change(process, folder, seen) and process.returncode == 0:
                return 0
            if process.returncode:
                click.echo("kestrun: waiting for a change ...", err=True)
                _await_change(folder, seen)
        except KeyboardInterrupt:
            return 0
        finally:
            _stop(process)
        click.echo("kestrun: a file has changed, starting again", err=True)


def _interrupt(number: int, frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt


def _python_files(folder: Path) -> dict[str, int]:
    """Returns when each Python file was changed, without hidden folders, caches and virtual environments."""
    times = {}
    for root, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if name[0] not in "._" and not _is_venv(root, name)]
        for name in names:
            if name.endswith(".py"):
                path = os.path.join(root, name)
                try:
                    times[path] = os.stat(path).st_mtime_ns
                except FileNotFoundError:
                    continue  # an editor was just replacing it
    return times


def _is_venv(root: str, name: str) -> bool:
    return os.path.exists(os.path.join(root, name, "pyvenv.cfg"))


def _ended_before_change(process: subprocess.Popen[bytes], folder: Path, seen: dict[str, int]) -> bool:
    while _python_files(folder) == seen:
        try:
            process.wait(_INTERVAL)
        except subprocess.TimeoutExpired:
            continue
        return True
    return False


def _await_change(folder: Path, seen: dict[str, int]) -> None:
    while _python_files(folder) == seen:
        time.sleep(_INTERVAL)


def _stop(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(_STOP_TIMEOUT)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
