"""With CI=true a skip is a failure, but for tests that want what no package installs."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = """
import pytest

def test_passes(): pass

def test_skips(): pytest.skip("no browser")

@pytest.mark.skip(reason="not today")
def test_marked(): pass

@pytest.mark.xfail
def test_expected_failure(): assert False

def test_sql_server(): pytest.skip("KESTRUN_TEST_SQLSERVER is not set")

def test_recordings(): pytest.skip("--golden names no folder")
"""


def run(folder: Path, text: str, ci: str) -> str:
    folder.joinpath("test_it.py").write_text(text)
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-p",
            "no_skips",
            "-p",
            "no:cacheprovider",
            "-q",
            "--rootdir",
            folder,
            folder,
        ],
        env={**os.environ, "CI": ci, "PYTHONPATH": str(Path(__file__).parent)},
        cwd=folder,
        capture_output=True,
        text=True,
    )
    return done.stdout


@pytest.mark.parametrize(
    ("ci", "outcome"),
    [("", "1 passed, 4 skipped, 1 xfailed"), ("true", "1 failed, 1 passed, 2 skipped, 1 xfailed, 1 error")],
)
def test_a_skip_fails_in_ci_alone(tmp_path: Path, ci: str, outcome: str) -> None:
    assert outcome in run(tmp_path, TESTS, ci)


@pytest.mark.parametrize(("ci", "outcome"), [("", "1 skipped"), ("true", "1 error")])
def test_a_skipped_module_counts_as_well(tmp_path: Path, ci: str, outcome: str) -> None:
    text = "import pytest\npytest.skip('no server', allow_module_level=True)\n"
    assert outcome in run(tmp_path, text, ci)
