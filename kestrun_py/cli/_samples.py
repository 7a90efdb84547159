"""``kestrun samples`` and ``kestrun sample``: the tutorials that come with the package."""

from __future__ import annotations

import ast
import json
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import click

import kestrun_py
from kestrun_py.cli._run import PORT
from kestrun_py.cli._script import run_script

__all__ = ["Sample", "find_samples", "sample", "samples"]

_PACKAGE: Final = Path(kestrun_py.__file__).parent

# The wheel has the samples inside this package; in a checkout they are beside it.
_FOLDER: Final = (_PACKAGE if (_PACKAGE / "samples").is_dir() else _PACKAGE.parent) / "samples"

# A line a chapter of Kestrun's tutorial: its number and title, and the titles of its tutorials by number.
_TUTORIALS: Final = _PACKAGE / "counterparts" / "tutorials.jsonl"


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


@click.group(invoke_without_command=True)
@click.pass_context
def samples(context: click.Context) -> None:
    """Lists Kestrun's tutorials, and which of them are here."""
    if context.invoked_subcommand is None:
        context.invoke(list_samples)


@samples.command("list")
def list_samples() -> None:
    """Lists chapters, and the number, state and title of each tutorial."""
    found = {item.number: item.title for item in find_samples()}
    for chapter in map(json.loads, _TUTORIALS.read_text("utf-8").splitlines()):
        click.echo(f"{chapter['chapter']}. {chapter['title']}")
        for line in _lines(f"{chapter['chapter']}.", chapter["tutorials"], found):
            click.echo(f"  {line}")


def _lines(prefix: str, tutorials: dict[str, str], here: dict[str, str]) -> Iterator[str]:
    """Yields a line for each tutorial of a chapter, then for each sample that has no tutorial."""
    for number in [*tutorials, *(number for number in here if number.startswith(prefix) and number not in tutorials)]:
        state = "here" if number in here else "not yet"
        yield f"{number:14} {state:8} {here.get(number) or tutorials[number]}"


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
