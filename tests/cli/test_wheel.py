"""What `pip install` gives: the package, the cmdlets, the samples and the command."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from sample_process import ROOT, SAMPLES, environment


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.Path:
    """The wheel, built as pip builds it but for the isolation."""
    folder = tmp_path_factory.mktemp("wheel")
    build = f"from hatchling.build import build_wheel; build_wheel({os.fspath(folder)!r})"
    subprocess.run([sys.executable, "-c", build], cwd=ROOT, check=True, stdout=subprocess.DEVNULL, timeout=120)
    [path] = folder.glob("*.whl")
    return zipfile.Path(path)


def test_it_holds_the_packages_and_nothing_else(wheel: zipfile.Path) -> None:
    names = {entry.name for entry in wheel.iterdir()}
    [metadata] = [name for name in names if name.endswith(".dist-info")]
    assert names == {"kestrun_py", "cmdlets", metadata}
    assert (wheel / metadata / "licenses" / "LICENSE").exists()
    assert "kestrun = kestrun_py.cli:main" in (wheel / metadata / "entry_points.txt").read_text()


def test_it_holds_every_file_of_them(wheel: zipfile.Path) -> None:
    held = set(wheel.root.namelist())
    for package in ("kestrun_py", "cmdlets", "samples"):
        for path in (ROOT / package).rglob("*"):
            if path.is_file() and "__pycache__" not in path.parts:
                name = path.relative_to(ROOT).as_posix()
                assert ("kestrun_py/" * (package == "samples") + name) in held
    assert {"kestrun_py/py.typed", "cmdlets/py.typed"} <= held


def test_the_command_finds_the_samples_and_the_template(wheel: zipfile.Path, tmp_path: Path) -> None:
    wheel.root.extractall(tmp_path / "installed")
    (tmp_path / "empty").mkdir()

    def kestrun(*arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, "-P", "-m", "kestrun_py", *arguments],
            cwd=tmp_path / "empty",
            env=environment(PYTHONPATH=str(tmp_path / "installed")),
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    here = [line for line in kestrun("samples", "list").splitlines() if " here " in line]
    assert len(here) == len(list(SAMPLES.glob("[0-9]*.py")))
    kestrun("new", "shop")
    assert (tmp_path / "empty" / "shop" / "app.py").exists()
