"""The shell helper that installs system packages, run with stand-ins for apt-get, id and sudo."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "scripts" / "debian-packages"
PLAIN_TOOLS = ("sh", "env", "tr", "grep", "xargs", "echo", "cat", "ls")
NEEDED = ("curl", "redis-server", "initdb", "pgbouncer", "odbcinst", "chromium")

# `sudo -n command`: runs the command, but leaves out what would write outside of the test's folder.
SUDO = 'shift; case $1 in tee|chmod|rm) cat >/dev/null ;; *) "$@" ;; esac'


@pytest.fixture
def commands(tmp_path: Path) -> Path:
    """A folder for PATH with nothing in it but what every Debian has."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in PLAIN_TOOLS:
        found = shutil.which(name)
        assert found is not None
        folder.joinpath(name).symlink_to(found)
    add(folder, "id", "echo 1000")
    return folder


def add(folder: Path, name: str, body: str) -> None:
    path = folder / name
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)


def add_apt(folder: Path) -> None:
    add(folder, "apt-get", f'echo "$@" >> {folder}/asked')


def run(folder: Path, what: str, **environment: str) -> subprocess.CompletedProcess[str]:
    variables = {"PATH": str(folder), "CI": "", **environment}
    return subprocess.run([SCRIPT, what], env={**os.environ, **variables}, capture_output=True, text=True)


def test_nothing_is_done_when_nothing_is_missing(commands: Path) -> None:
    for name in NEEDED:
        add(commands, name, "echo '[PostgreSQL Unicode]'")
    add_apt(commands)
    done = run(commands, "tests")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert not commands.joinpath("asked").exists()


def test_without_rights_the_line_to_type_is_shown(commands: Path) -> None:
    for name in set(NEEDED) - {"redis-server", "chromium"}:
        add(commands, name, "echo '[PostgreSQL Unicode]'")
    add_apt(commands)
    done = run(commands, "tests")
    assert done.returncode == 0
    assert "As root, type: apt-get install -y redis-server chromium\n" in done.stderr
    assert "tests that need them are skipped" in done.stderr
    assert not commands.joinpath("asked").exists()


def test_in_ci_what_is_missing_is_an_error(commands: Path) -> None:
    assert run(commands, "tests", CI="true").returncode == 1


def test_elsewhere_than_on_debian_the_names_are_shown(commands: Path) -> None:
    done = run(commands, "tests")
    assert done.returncode == 0
    assert "curl redis-server" in done.stderr
    assert "package manager" in done.stderr


def test_venv_is_needed_for_everything(commands: Path) -> None:
    add(commands, "python-without-venv", "exit 1")
    done = run(commands, "venv", PYTHON="python-without-venv")
    assert done.returncode == 1
    assert "python3-venv" in done.stderr


def test_sudo_is_used_where_it_asks_for_no_password(commands: Path) -> None:
    for name in set(NEEDED) - {"chromium"}:
        add(commands, name, "echo '[PostgreSQL Unicode]'")
    add_apt(commands)
    add(commands, "sudo", SUDO)
    done = run(commands, "tests")
    assert "install -y -qq --no-install-recommends chromium\n" in commands.joinpath("asked").read_text()
    assert "Installing chromium" in done.stdout
    assert "could not install: chromium" in done.stderr


def test_an_installed_server_is_not_enabled(commands: Path) -> None:
    for name in set(NEEDED) - {"redis-server"}:
        add(commands, name, "echo '[PostgreSQL Unicode]'")
    add_apt(commands)
    add(commands, "systemctl", f'echo "$@" >> {commands}/disabled')
    add(commands, "sudo", SUDO)
    run(commands, "tests")
    assert commands.joinpath("disabled").read_text() == "--quiet disable redis-server\n"
