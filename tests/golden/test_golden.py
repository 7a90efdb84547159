"""The samples answer as the real Kestrun did: each recording is played against the sample of its number.

A new sample needs no entry here unless it takes arguments, or departs on purpose (departures.py).
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any, ClassVar, Final

import pytest
from departures import DEPARTURES
from golden_recordings import PROPERTY, Recording, golden_folder, read_recordings
from ports import free_port
from sample_process import ROOT, run_sample
from waiting import wait_until

from kestrun_py.cli._samples import find_samples

_SAMPLES: Final = {sample.number: sample.path.name for sample in find_samples()}

# The option that a sample takes, and the fixture with its value.
_ARGUMENTS: Final = {"19.2": ("--redis", "redis_url"), "19.4": ("--postgres", "postgres_table")}

# The sample for SQL Server has the routes of the one for PostgreSQL, which can be had everywhere.
_PLAYED_BY: Final = {"19.3": "19.4"}

# Their clients ask for a state again and again until it has changed.
_POLLED: Final = {"20.1"}

_MOST_DEPARTURES: Final = 0.08


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "recording" in metafunc.fixturenames:
        folder = golden_folder(metafunc.config)
        recordings = [one for one in read_recordings(folder).values() if _sample_of(one) is not None]
        missing = pytest.param(None, marks=pytest.mark.skip(f"--golden names no folder with recordings: {folder}"))
        metafunc.parametrize("recording", recordings or [missing], ids=lambda one: one.name if one else "none")


def _sample_of(recording: Recording) -> str | None:
    return _SAMPLES.get(_PLAYED_BY.get(recording.number, recording.number))


@pytest.fixture
def arguments(recording: Recording, request: pytest.FixtureRequest) -> list[str]:
    option, fixture = _ARGUMENTS.get(_PLAYED_BY.get(recording.number, recording.number), (None, ""))
    return [] if option is None else [option, request.getfixturevalue(fixture)]


def test_the_sample_answers_as_kestrun_did(
    recording: Recording,
    arguments: Sequence[str],
    tmp_path: Path,
    pytestconfig: pytest.Config,
    record_property: Any,
) -> None:
    sample = _sample_of(recording)
    assert sample is not None
    port = free_port(*recording.offsets)
    player = _load_replay(golden_folder(pytestconfig)).Player(f"http://127.0.0.1:{port}")
    ports = [port + offset for offset in recording.offsets]
    with run_sample(sample, *arguments, ports=ports, folder=tmp_path) as running:
        differences = list(_play(player, recording))
        output = running.output()
    on_purpose = {index for name, index in DEPARTURES if name == recording.name}
    departing = {index for index, found in enumerate(differences) if found}
    row = (recording.name, len(differences) - len(departing), len(departing & on_purpose), len(differences))
    record_property(PROPERTY, row)
    unexpected = [
        f"{index} {recording.exchanges[index]['method']} {recording.exchanges[index]['target']}: {differences[index]}"
        for index in sorted(departing - on_purpose)
    ]
    assert not unexpected, "\n".join([*unexpected, output])
    assert departing == on_purpose, "an answer is as Kestrun's that departures.py says departs"


def _load_replay(folder: Path) -> Any:
    """The program that comes with the recordings and compares answers with them."""
    spec = importlib.util.spec_from_file_location("golden_replay", folder / "replay.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _play(player: Any, recording: Recording) -> Iterator[list[str]]:
    """Yields the differences of each exchange; requests follow each other without the pauses of the recording."""
    exchanges = [{**exchange, "wait": 0} for exchange in recording.exchanges]
    if recording.number not in _POLLED:
        yield from map(player.play, exchanges)
        return
    for _, same in groupby(exchanges, key=lambda exchange: (exchange["method"], exchange["target"])):
        yield from _poll(player, list(same))


def _poll(player: Any, exchanges: Sequence[dict[str, Any]]) -> list[list[str]]:
    """Asks until the answer is the last recorded one; how often that takes says nothing."""
    found: list[str] = []

    def asked() -> bool:
        found[:] = player.play(exchanges[-1])
        return not found or len(exchanges) == 1

    wait_until(asked)
    return [found] * len(exchanges)


def test_a_poll_asks_until_the_last_answer_has_come() -> None:
    class Player:
        differences: ClassVar = [["running"], ["running"], []]

        def play(self, exchange: dict[str, Any]) -> list[str]:
            return self.differences.pop(0)

    assert _poll(Player(), [{}, {}]) == [[], []]
    assert Player.differences == []


def test_departures_are_few_and_explained(pytestconfig: pytest.Config) -> None:
    differences = ROOT.joinpath("docs", "guides", "differences.md").read_text("utf-8")
    assert [reason for reason in DEPARTURES.values() if reason not in differences] == []
    recordings = read_recordings(golden_folder(pytestconfig))
    if recordings:
        every = sum(len(recording.exchanges) for recording in recordings.values())
        assert {name for name, _ in DEPARTURES} <= recordings.keys()
        assert len(DEPARTURES) <= _MOST_DEPARTURES * every
