"""`kestrun samples`, `kestrun sample` and `kestrun --version`."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from click.testing import CliRunner
from ports import free_port
from sample_process import KESTRUN, SAMPLES, Running, environment, new_client

import kestrun_py
from kestrun_py.cli import main
from kestrun_py.cli._samples import find_samples


def test_version() -> None:
    done = CliRunner().invoke(main, ["--version"])
    assert done.exit_code == 0
    assert kestrun_py.__version__ in done.output


@pytest.mark.parametrize("command", [["samples"], ["samples", "list"]])
def test_samples_are_listed_by_chapter_with_number_state_and_title(command: list[str]) -> None:
    done = CliRunner().invoke(main, command)
    assert done.exit_code == 0
    lines = done.output.splitlines()
    assert lines[0] == "1. Introduction"
    assert lines[1].split(maxsplit=2) == ["1.1", "here", "Hello World: one route that answers with text"]
    assert [line for line in lines if line[0] != " "][-1] == "23. Applications"
    rows = [line.split() for line in lines if line[0] == " "]
    assert {number for number, state, *_ in rows if state == "here"} == {sample.number for sample in find_samples()}
    assert ["11.1", "not", "yet", "Razor", "Pages", "Quickstart"] in rows
    assert len({number for number, *_ in rows}) == len(rows)


def test_every_sample_has_a_number_that_fits_its_file() -> None:
    files = {path.name for path in SAMPLES.glob("*.py")} - {"__init__.py"}
    samples = find_samples()
    assert {sample.path.name for sample in samples} == files
    for sample in samples:
        assert sample.path.stem.startswith(sample.number.replace(".", "_").replace("-", "_").split("_host")[0])
        assert len(sample.title) > 5


def test_an_unknown_number_is_answered_with_those_that_are_known() -> None:
    done = CliRunner().invoke(main, ["sample", "99.9"])
    assert done.exit_code == 2
    assert "There is no sample 99.9" in done.output
    assert "19.1, 19.1-host" in done.output


@pytest.mark.parametrize("name", ["1.1", "1_1_hello_world"])
async def test_a_sample_runs_by_number_and_by_name(name: str, tmp_path: Path) -> None:
    port = free_port()
    with Running([*KESTRUN, "sample", name, "--port", str(port)], port, folder=tmp_path) as sample:
        async with new_client(f"http://127.0.0.1:{port}") as client, client.get("/hello") as response:
            assert await response.text() == "Hello, World!"
        assert sample.stop() == 0


def test_options_are_passed_on_to_the_sample() -> None:
    done = subprocess.run(
        [*KESTRUN, "sample", "19.2", "--redis", ""],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 1
    assert "Redis URL not provided" in done.stderr
    done = subprocess.run(
        [*KESTRUN, "sample", "1.1", "--prot", "1"],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 2
    assert "unrecognized arguments: --prot 1" in done.stderr
