"""`kestrun new`: the project runs and its test passes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from ports import free_port
from sample_process import KESTRUN, Running, environment, new_client

from kestrun_py.cli import main


def new(name: str | Path) -> tuple[int, str]:
    done = CliRunner().invoke(main, ["new", str(name)])
    return done.exit_code, done.output


async def test_the_project_serves(tmp_path: Path) -> None:
    assert new(tmp_path / "shop")[0] == 0
    port = free_port()
    with Running([*KESTRUN, "run", "app.py", "--port", str(port)], port, folder=tmp_path / "shop") as app:
        async with new_client(f"http://127.0.0.1:{port}") as client:
            async with client.get("/hello") as response:
                assert await response.text() == "Hello from shop!"
            for visits in (1, 2):
                async with client.get("/counter") as response:
                    assert await response.json() == {"visits": visits}
        assert app.stop() == 0


def test_its_test_passes(tmp_path: Path) -> None:
    new(tmp_path / "shop")
    home = tmp_path / "home"
    home.mkdir()
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"],
        cwd=tmp_path / "shop",
        env=environment(HOME=str(home), XDG_DATA_HOME=""),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert "2 passed" in done.stdout, done.stdout
    assert list(home.rglob("*")) == []  # no key of the test's cookies is left there


def test_what_it_wrote_is_told(tmp_path: Path) -> None:
    folder = tmp_path / "my shop"
    code, output = new(folder)
    assert code == 0
    assert f"Next:\n  cd '{folder}'\n" in output
    assert "kestrun run app.py" in output
    assert {path.name for path in folder.iterdir()} == {
        *("app.py", "test_app.py", "pytest.ini", "requirements.txt", "README.md")
    }
    assert not [path for path in folder.iterdir() if "$name" in path.read_text()]


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    tmp_path.joinpath("mine.txt").write_text("mine")
    code, output = new(tmp_path)
    assert code == 1
    assert "exists and is not empty" in output
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


@pytest.mark.parametrize("name", ['a"b', "a\\b", "a`b"])
def test_a_name_that_cannot_stand_in_a_script(tmp_path: Path, name: str) -> None:
    code, output = new(tmp_path / name)
    assert code == 1
    assert "leave out quotes" in output
    assert list(tmp_path.iterdir()) == []
