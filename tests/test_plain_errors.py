"""A script run by Python itself shows a mistake in it as one line with its place."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

import pytest
from sample_process import SAMPLES, environment


def python(*arguments: str | Path, folder: Path | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *map(str, arguments)]
    return subprocess.run(command, env=environment(), cwd=folder, capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize(
    ("sample", "line"), [("1_1_hello_world.py", "start_kr_server"), ("19_1_sessions_host.py", ".run")]
)
def test_a_port_that_is_taken(sample: str, line: str) -> None:
    script = SAMPLES / sample
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = python(script, "--port", str(port))
    assert done.returncode == 1
    number = next(n for n, text in enumerate(script.read_text("utf-8").splitlines(), 1) if text.strip() == f"{line}()")
    shown = done.stderr.splitlines()[-1]
    assert "Failed to bind to address" in shown
    assert f"127.0.0.1:{port}: address already in use." in shown
    assert shown.startswith("Error: ")
    assert shown.endswith(f" ({script}, line {number})")
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "script",
    [
        "from kestrun_py import KestrunHost\n\nKestrunHost('a').add_endpoint(cert_path='none.pem')\n",
        "from kestrun_py.host import KestrunHost\n\nKestrunHost('a').add_endpoint(cert_path='none.pem')\n",
        "from cmdlets import *\nnew_kr_server('a')\nadd_kr_endpoint(cert_path='none.pem')\n",
        "from cmdlets import *\nnew_kr_server('a')\nf = lambda: add_kr_endpoint(cert_path='none.pem')\n\nf()\n",
    ],
)
def test_the_place_is_the_scripts_innermost_line(script: str, tmp_path: Path) -> None:
    tmp_path.joinpath("app.py").write_text(script)
    done = python("app.py", folder=tmp_path)
    assert done.returncode == 1
    assert done.stderr == f"Error: Certificate file not found at path: none.pem ({tmp_path / 'app.py'}, line 3)\n"


@pytest.mark.parametrize(
    "mistake",
    [
        "from cmdlets import add_kr_sesion",
        "import cmdlets; cmdlets.add_kr_sesion()",
        "from cmdlets import *; add_kr_sesion()",
        "from cmdlets import *; new_kr_server('a').add_sesion()",
        "from cmdlets import *; new_kr_server(nme='a')",
        "from cmdlets import *; new_kr_server('a').add_session(cokie=1)",
        "from cmdlets import *; write_kr_log()",
        "from kestrun_py import KestrunHost; add_kr_session()",
        "from kestrun_py import KestrunHost; KestrunHost('a').add_sesion()",
    ],
)
def test_what_does_not_exist_is_one_line(mistake: str, tmp_path: Path) -> None:
    tmp_path.joinpath("routes.py").write_text(mistake)
    tmp_path.joinpath("app.py").write_text("import routes\n")
    done = python("app.py", folder=tmp_path)
    assert done.returncode == 1
    assert done.stderr.startswith("Error: ")
    assert done.stderr.endswith(f" ({tmp_path / 'routes.py'}, line 1)\n")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    "mistake",
    [
        "from cmdlets import *; prnt()",
        "from cmdlets import *; len(1, 2)",
        "from cmdlets import *; [].add_kr_session",
        "from cmdlets import *; import kestrun_py.nothing",
    ],
)
def test_other_mistakes_keep_their_traceback(mistake: str, tmp_path: Path) -> None:
    script = tmp_path / "app.py"
    script.write_text(mistake)
    done = python(script)
    assert done.returncode == 1
    assert done.stderr.startswith("Traceback (most recent call last):\n")


def test_an_error_of_another_kind_keeps_its_traceback(tmp_path: Path) -> None:
    script = tmp_path / "app.py"
    script.write_text("from cmdlets import *\nraise KeyError('mine')\n")
    done = python(script)
    assert done.returncode == 1
    assert done.stderr.startswith("Traceback (most recent call last):\n")
    assert done.stderr.endswith("KeyError: 'mine'\n")


def test_without_a_script_there_is_no_place() -> None:
    done = python("-c", "from cmdlets import *; add_kr_endpoint()")
    assert done.returncode == 1
    assert done.stderr == "Error: No Kestrun server instance found. Please create a Kestrun server instance.\n"
