"""The pages and the README say what is so: their sources, their links, and what their curl lines print."""

from __future__ import annotations

import ast
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from ports import free_port
from repository_scripts import load_script
from sample_process import KESTRUN, ROOT, SAMPLES, Running, run_sample

from kestrun_py.cli import main

PAGES = sorted((ROOT / "docs" / "tutorial").glob("*.md"))
SECTIONS = ["Source", "Step by step", "Try it", "Key points", "Troubleshooting"]


def title(path: Path) -> str:
    return path.stem


def test_each_sample_has_its_page_and_stands_in_the_index() -> None:
    assert [page.stem for page in PAGES] == sorted(sample.stem for sample in SAMPLES.glob("[0-9]*.py"))
    index = ROOT.joinpath("docs", "index.md").read_text("utf-8")
    assert [page.name for page in PAGES if f"(tutorial/{page.name})" not in index] == []


@pytest.mark.parametrize("page", PAGES, ids=title)
def test_a_page_shows_its_source_as_it_is(page: Path) -> None:
    text = page.read_text("utf-8")
    assert f"<!-- source: samples/{page.stem}.py -->" in text
    assert SAMPLES.joinpath(f"{page.stem}.py").read_text("utf-8") in text
    assert load_script("include_sources").with_sources(text) == text, "run: python scripts/include_sources.py"


@pytest.mark.parametrize("page", PAGES, ids=title)
def test_a_page_has_the_shape_of_a_tutorial(page: Path) -> None:
    text = page.read_text("utf-8")
    assert re.findall(r"^## (.+)$", text, re.MULTILINE) == SECTIONS
    number = re.match(r"# (\S+) ", text)
    source = ast.get_docstring(ast.parse(SAMPLES.joinpath(f"{page.stem}.py").read_text("utf-8")))
    assert number is not None
    assert source is not None
    assert source.startswith(f"{number[1]} ")
    assert f"kestrun sample {number[1]}" in text


@pytest.mark.parametrize("page", [ROOT / "README.md", ROOT / "docs" / "index.md", *PAGES], ids=title)
def test_links_lead_somewhere(page: Path) -> None:
    prose = re.sub(r"```.*?```", "", page.read_text("utf-8"), flags=re.DOTALL)
    for link in re.findall(r"\]\(([^)]+)\)", prose):
        if not link.startswith("https://"):
            path, _, anchor = link.partition("#")
            target = (page.parent / path).resolve() if path else page
            assert target.exists(), link
            if anchor:
                headings = re.findall(r"^#+ (.+)$", target.read_text("utf-8"), re.MULTILINE)
                assert anchor in {re.sub(r"[^\w -]", "", text).lower().replace(" ", "-") for text in headings}


def console(page: Path, scheme: str = "https") -> Iterator[tuple[str, str]]:
    """The curl lines of a page's console blocks that have an answer below them, with that answer."""
    for block in re.findall(r"^```console\n(.*?)^```$", page.read_text("utf-8"), re.DOTALL | re.MULTILINE):
        for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            command, _, answer = part.partition("\n")
            if command.startswith("curl ") and answer and f"{scheme}://" in command:
                yield command, answer


@pytest.mark.parametrize(
    ("page", "sample"),
    [
        ("README.md", "19_1_sessions.py"),
        ("docs/tutorial/1_1_hello_world.md", "1_1_hello_world.py"),
        ("docs/tutorial/2_3_route_parameters.md", "2_3_route_parameters.py"),
        ("docs/tutorial/6_2_cert_csr.md", "6_2_cert_csr.py"),
        ("docs/tutorial/6_3_cert_import_export.md", "6_3_cert_import_export.py"),
        ("docs/tutorial/7_1_basic_server.md", "7_1_basic_server.py"),
        ("docs/tutorial/7_2_multiple_listeners.md", "7_2_multiple_listeners.py"),
        ("docs/tutorial/7_3_https.md", "7_3_https.py"),
        ("docs/tutorial/19_1_sessions.md", "19_1_sessions.py"),
        ("docs/tutorial/19_scale_out.md", "19_scale_out.py"),
        ("docs/tutorial/19_diag.md", "19_diag.py"),
    ],
)
def test_curl_prints_what_the_page_says(page: str, sample: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed")
    lines = list(console(ROOT / page, "https" if sample.startswith("19") else "http"))
    assert lines
    port = free_port(1, 433, 443)
    arguments = ["--redis", request.getfixturevalue("redis_url")] if sample == "19_scale_out.py" else []
    offset = {"19_scale_out.py": 1, "7_2_multiple_listeners.py": 433, "7_3_https.py": 443}.get(sample, 0)
    with run_sample(sample, *arguments, ports=[port, port + offset]):
        prints(lines, port, tmp_path)


def prints(lines: list[tuple[str, str]], port: int, folder: Path) -> None:
    """Runs the curl lines on ports that are free here, and compares what they print with the answers."""
    for command, answer in lines:
        here = re.sub(r":(5\d{3})", lambda found: f":{port + int(found[1]) - 5000}", command)
        done = subprocess.run(shlex.split(here), cwd=folder, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0
        assert done.stdout.strip() == answer.strip(), command


@pytest.mark.parametrize(
    "way", ["kestrun run first.py --port 8080", "kestrun run first.py --reload", "python first.py"]
)
def test_the_readmes_first_script_runs_as_it_says(way: str, tmp_path: Path) -> None:
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed")
    readme = ROOT / "README.md"
    text = readme.read_text("utf-8")
    assert f"$ {way}\n" in text
    (script,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    tmp_path.joinpath("first.py").write_text(script)
    port = free_port()
    command, *arguments = way.replace("8080", str(port)).split()
    program = KESTRUN if command == "kestrun" else [sys.executable]
    variables = {} if "--port" in arguments else {"PORT": str(port)}
    with Running([*program, *arguments], port, folder=tmp_path, variables=variables) as app:
        prints(list(console(readme, "http")), port, tmp_path)
        assert app.stop() == 0


def command_lines() -> Iterator[tuple[str, str]]:
    """Every line with the `kestrun` command in the README and the pages, and where it stands."""
    for page in [ROOT / "README.md", *sorted(ROOT.joinpath("docs").rglob("*.md"))]:
        for line in re.findall(r"^(?:\$ |    )(kestrun .+)$|`(kestrun [^`]+)`", page.read_text("utf-8"), re.MULTILINE):
            yield page.name, "".join(line)


@pytest.mark.parametrize(("page", "line"), sorted(set(command_lines())))
def test_command_lines_have_commands_and_options_that_exist(page: str, line: str) -> None:
    command: click.Command = main
    words = shlex.split(line)[1:]
    while isinstance(command, click.Group) and words and not words[0].startswith("-"):
        assert words[0] in command.commands, line
        command = command.commands[words.pop(0)]
    command.make_parser(click.Context(command, **command.context_settings)).parse_args(words)  # raises NoSuchOption
