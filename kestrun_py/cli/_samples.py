"""``kestrun samples`` and ``kestrun sample``: the tutorials that come with the package."""

from __future__ import annotations

import ast
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import click

import kestrun_py
from kestrun_py.cli._run import PORT
from kestrun_py.cli._script import run_script

__all__ = ["Sample", "find_samples", "sample", "samples"]

# The package of the samples lies beside this one, in a checkout as well as where pip puts it.
_FOLDER: Final = Path(kestrun_py.__file__).parent.parent / "samples"


@dataclass(frozen=True, slots=True)
class Sample:
    """One sample.

    Attributes:
        number: What it is called by ("19.1").
        title: What it shows.
        path: Its file.
    """

    number: str
    title: str
    path: Path


def find_samples(folder: Path = _FOLDER) -> list[Sample]:
    """Returns the samples in a folder by number; both number and title stand in a sample's first line."""
    return sorted((_read(path) for path in folder.glob("[0-9]*.py")), key=_order)


def _read(path: Path) -> Sample:
    first_line = (ast.get_docstring(ast.parse(path.read_text("utf-8"))) or path.stem).splitlines()[0]
    number, _, title = first_line.partition(" ")
    return Sample(number, title.rstrip("."), path)


def _order(item: Sample) -> list[tuple[int, str]]:
    parts = re.split("[.-]", item.number)
    return [(int(part), "") if part.isdigit() else (sys.maxsize, part) for part in parts]


@click.command
def samples() -> None:
    """Lists the samples with number and title."""
    found = find_samples()
    width = max((len(item.number) for item in found), default=0)
    for item in found:
        click.echo(f"{item.number:{width}}  {item.title}")


@click.command(context_settings={"ignore_unknown_options": True})
@click.argument("number")
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
@click.option("--port", type=PORT, help="The port to listen on; 5000 if neither this nor PORT is given.")
def sample(number: str, arguments: tuple[str, ...], port: int | None) -> None:
    """Runs the sample NUMBER ("19.1"); further options are passed on to it."""
    found = find_samples()
    chosen = next((item for item in found if number.lower() in (item.number, item.path.stem)), None)
    if chosen is None:
        numbers = ", ".join(item.number for item in found)
        raise click.UsageError(f"There is no sample {number}. There are: {numbers}.")
    sys.exit(run_script(chosen.path, arguments, port))
