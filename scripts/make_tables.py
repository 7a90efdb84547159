"""Writes the tables of docs/ that are derived: the counterparts of Kestrun's cmdlets, and the index of the pages.

A page that is written by hand marks the table that is put into it::

    <!-- table: not meant -->
    ...
    <!-- end -->

Usage: ``python scripts/make_tables.py`` (or ``make docs``); tests/test_reference.py checks that it was run.
"""

from __future__ import annotations

import inspect
import re
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import groupby
from pathlib import Path
from typing import Any, Final

import cmdlets
from kestrun_py.conversion.names import parameter_name
from kestrun_py.counterparts import Counterpart, State, counterparts
from kestrun_py.counterparts.decisions import NOT_MEANT

DOCS: Final = Path(__file__).parents[1] / "docs"

_NOTE: Final = "<!-- Written by scripts/make_tables.py. -->"
_MARKED: Final = re.compile(r"(<!-- table: (?P<name>[\w ]+) -->\n).*?(<!-- end -->)", re.DOTALL)
_FUNCTIONS: Final[dict[str, Callable[..., Any]]] = {name: getattr(cmdlets, name) for name in cmdlets.__all__}
_TABLE: Final = counterparts(_FUNCTIONS)


def pages() -> dict[str, str]:
    """Returns the text of each page by its path in docs/."""
    texts = {path.relative_to(DOCS).as_posix(): path.read_text("utf-8") for path in sorted(DOCS.rglob("*.md"))}
    written = {name: _MARKED.sub(_filled, text) for name, text in texts.items() if _MARKED.search(text)}
    written["reference/counterparts.md"] = _counterparts()
    written["index.md"] = _index({**texts, **written})
    return written


def _filled(found: re.Match[str]) -> str:
    return f"{found[1]}\n{_TABLES[found['name']]()}\n\n{found[3]}"


def _rows(head: str, rows: Iterator[str]) -> str:
    return "\n".join([f"| {head} |", "|" + "---|" * (head.count("|") + 1), *rows])


# The index


def _index(texts: dict[str, str]) -> str:
    folders = {
        "Guides": [name for name in texts if name.startswith("guides/") or ("/" not in name and name != "index.md")],
        "Reference": sorted(name for name in texts if name.startswith("reference/")),
        "Tutorials": sorted((name for name in texts if name.startswith("tutorial/")), key=_number),
    }
    parts = [
        f"{_NOTE}\n\n# kestrun_py",
        "Kestrun's host, cmdlets and client sessions for Python. The [README](../README.md) says how to install and\n"
        "run it. `kestrun sample NUMBER` runs the sample of a tutorial.",
    ]
    for title, names in folders.items():
        parts += [f"## {title}", _rows("Page | Subject", (_entry(name, texts[name]) for name in names))]
    return "\n\n".join(parts) + "\n"


def _entry(name: str, text: str) -> str:
    """A row of the index: the title of a page and its first sentence."""
    title, paragraph = re.findall(r"^# (.+)\n\n((?:.+\n)+)", text, re.MULTILINE)[0]
    plain = re.sub(r"\[([^\]]+)\]\([^)]+\)", r"\1", " ".join(paragraph.split()))
    sentence = re.split(r"(?<!\d)\.(?: |$)", plain)[0]
    return f"| [{title}]({name}) | {sentence} |"


def _number(name: str) -> list[tuple[int, str]]:
    """Orders tutorials by the parts of their number."""
    parts = re.split(r"\W|_", name.removeprefix("tutorial/").removesuffix(".md"))
    return [(int(part), "") if part.isdigit() else (1000, part) for part in parts]


# The table of counterparts


def _counterparts() -> str:
    functions = Counter(row.state for row in _TABLE.values())
    parameters = Counter(each.state for row in _TABLE.values() for each in row.parameters.values())
    states = (f"| {state.value} | {functions[state]} | {parameters[state]} |" for state in State)
    parts = [
        f"{_NOTE}\n\n# Counterparts",
        "What became of each of Kestrun's cmdlets and of each of their parameters.\n"
        "[Porting](../guides/porting.md) has the rule that makes the names.",
        _rows("State | Cmdlets | Parameters", states),
        "A parameter in *italics* is in the source of Kestrun's module, though the loaded module does not list it.",
        "## Parameters that have no counterpart",
        _not_meant(parameters_only=True),
    ]
    for family, rows in groupby(_TABLE.values(), key=lambda row: row.cmdlet.family):
        parts += [f"## {family}", _rows("Kestrun | kestrun_py | Parameters", map(_row, rows))]
    return "\n\n".join(parts) + "\n"


def _row(row: Counterpart) -> str:
    here = f"`{row.function}`" if row.function else f"{row.state.value}: {row.note}"
    return f"| `{row.cmdlet.name}` | {here} | {_parameters(row)} |"


def _parameters(row: Counterpart) -> str:
    """The parameters of a cmdlet by state; of a cmdlet that is not here, without the state that it has itself."""
    texts = []
    for state in State:
        names = []
        for each in row.parameters.values():
            if each.state is state:
                name = f"-{each.parameter.name}" if each.parameter.reported else f"*-{each.parameter.name}*"
                names.append(f"{name} (`{each.keyword}`)" if state is State.OTHER_NAME else name)
        if names:
            texts.append(f"{state.value}: {', '.join(names)}")
    return "<br>".join(texts)


# Tables in pages that are written by hand


def _not_meant(*, parameters_only: bool = False) -> str:
    keys = [key for key in NOT_MEANT if " -" in key or not parameters_only]
    return _rows("Kestrun | why", (f"| `{key.removeprefix('* ')}` | {NOT_MEANT[key]} |" for key in keys))


def _ours() -> str:
    """The cmdlets and keywords that Kestrun does not have."""
    kestruns = {row.function for row in _TABLE.values()}
    own = [f"| `{name}` | |" for name in _FUNCTIONS if name not in kestruns]
    for row in _TABLE.values():
        keywords = ", ".join(f"`{keyword}`" for keyword in _own_keywords(row))
        if keywords:
            own.append(f"| `{row.function}` | {keywords} |")
    return _rows("Cmdlet | Arguments", iter(own))


def _own_keywords(row: Counterpart) -> Iterator[str]:
    if row.function is None:
        return
    known = {"server", *(each.keyword for each in row.parameters.values())}
    known |= {parameter_name(alias) for each in row.cmdlet.parameters.values() for alias in each.aliases}
    yield from (name for name in inspect.signature(_FUNCTIONS[row.function]).parameters if name not in known)


_TABLES: Final[dict[str, Callable[[], str]]] = {"not meant": _not_meant, "ours": _ours}


if __name__ == "__main__":
    for name, text in pages().items():
        DOCS.joinpath(name).write_text(text, "utf-8")
