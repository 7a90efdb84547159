"""A pytest plugin: where the recordings of Kestrun's answers are, and how many answers here are as Kestrun's.

Options: ``--golden FOLDER`` (``../shared/golden`` beside the repository by default) and ``--golden-table`` (one line
a recording instead of the total alone).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, Final

import pytest

__all__ = ["Recording", "golden_folder", "read_recordings"]

_BESIDE: Final = Path(__file__).parents[2] / "shared" / "golden"

# What a test reports with `record_property`: (name, as Kestrun's, departures, all).
PROPERTY: Final = "as Kestrun's"


@dataclass(frozen=True)
class Recording:
    """What the real Kestrun answered when one tutorial script ran.

    Attributes:
        name: "2.3-Route-Parameters".
        number: The tutorial's number ("2.3").
        exchanges: Requests with their answers, in the order in which they were made.
    """

    name: str
    number: str
    exchanges: Sequence[dict[str, Any]]

    @property
    def offsets(self) -> list[int]:
        """The endpoints that were asked, counted from the first port."""
        return sorted({exchange.get("offset", 0) for exchange in self.exchanges} | {0})


def golden_folder(config: pytest.Config) -> Path:
    return Path(config.getoption("--golden"))


def read_recordings(folder: Path) -> dict[str, Recording]:
    """Returns the recordings of a folder by name; none if there is no such folder."""
    return {path.stem: _read(path) for path in sorted(folder.glob("*.json"))}


def _read(path: Path) -> Recording:
    content = json.loads(path.read_text("utf-8"))
    second_start = path.stem.endswith(".2")  # of a script that the test of another tutorial starts as well
    number = (content["sample"] if second_start else path.stem).partition("-")[0]
    return Recording(path.stem, number, content["exchanges"])


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("golden")
    group.addoption("--golden", default=str(_BESIDE), help="folder with the recordings of Kestrun's answers")
    group.addoption("--golden-table", action="store_true", help="show one line a recording")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    rows = _rows(terminalreporter)
    if not rows:
        return
    recordings = read_recordings(golden_folder(config))
    if config.getoption("--golden-table"):
        terminalreporter.section("answers as Kestrun's")
        for name, recording in sorted(recordings.items(), key=lambda item: _order(item[1])):
            terminalreporter.write_line(_line(name, rows.get(name), len(recording.exchanges)))
    equal, departures = (sum(row[column] for row in rows.values()) for column in (1, 2))
    played = sum(row[3] for row in rows.values())
    every = sum(len(recording.exchanges) for recording in recordings.values())
    terminalreporter.write_line(
        f"Answers as Kestrun's: {equal} of {every} ({played} were played, {departures} depart on purpose)."
    )


def _rows(terminalreporter: pytest.TerminalReporter) -> dict[str, Sequence[Any]]:
    """Returns what the tests have reported, by recording."""
    rows: dict[str, Sequence[Any]] = {}
    for report in chain.from_iterable(terminalreporter.stats.values()):
        properties: dict[str, Any] = dict(getattr(report, "user_properties", ()))
        if PROPERTY in properties:
            rows[properties[PROPERTY][0]] = properties[PROPERTY]
    return rows


def _line(name: str, row: Sequence[Any] | None, every: int) -> str:
    if row is None:
        return f"{name:40} no sample yet, or not played ({every})"
    _, equal, departures, _ = row
    return f"{name:40} {equal:3} of {every:3}" + (f", {departures} on purpose" if departures else "")


def _order(recording: Recording) -> tuple[list[int], str]:
    return [int(part) for part in recording.number.split(".")], recording.name
