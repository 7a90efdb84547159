"""The table of counterparts agrees with the cmdlets that are here."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import cmdlets
from kestrun_py.conversion.names import parameter_name
from kestrun_py.counterparts import Counterpart, State, counterparts, kestrun_cmdlets
from kestrun_py.counterparts.decisions import INSTEAD, NOT_MEANT, OTHER_NAMES

FUNCTIONS: Mapping[str, Callable[..., Any]] = {name: getattr(cmdlets, name) for name in cmdlets.__all__}
TABLE = counterparts(FUNCTIONS)


def matches(key: str) -> list[Counterpart | Any]:
    """The rows that a key of the decisions is about."""
    place, _, parameter = key.partition(" -")
    rows = [row for row in TABLE.values() if place in (row.cmdlet.name, row.cmdlet.family, "*")]
    return [row.parameters[parameter] for row in rows if parameter in row.parameters] if parameter else rows


def test_every_cmdlet_and_every_parameter_has_a_row() -> None:
    assert list(TABLE) == list(kestrun_cmdlets())
    assert [row.cmdlet.name for row in TABLE.values() if [*row.parameters] != [*row.cmdlet.parameters]] == []


def test_what_exists_here_is_not_called_missing() -> None:
    missing = [row.cmdlet.function for row in TABLE.values() if row.function is None]
    assert set(missing) & set(cmdlets.__all__) == set()


def test_every_decision_is_about_something() -> None:
    assert [key for key in (*OTHER_NAMES, *NOT_MEANT, *INSTEAD) if not matches(key)] == []


def test_no_decision_has_become_untrue() -> None:
    """Remove the entries that this test names: what they are about has come.

    An entry for the parameter of all cmdlets (`* -PassThru`) is about those that lack it.
    """
    exists = (State.HERE, State.OTHER_NAME)
    own = [key for key in NOT_MEANT if not key.startswith("* ")]
    assert [key for key in own if any(row.state in exists for row in matches(key))] == []
    assert [key for key in INSTEAD if all(row.state is not State.NOT_YET for row in matches(key))] == []
    assert [key for key in OTHER_NAMES if any(row.state is not State.OTHER_NAME for row in matches(key))] == []


def test_what_is_missing_comes_with_advice_or_a_reason() -> None:
    assert [row.cmdlet.name for row in TABLE.values() if row.function is None and not row.note] == []


def test_aliases_are_keywords_too() -> None:
    missing = [
        f"{row.function} {alias}"
        for row in TABLE.values()
        for each in row.parameters.values()
        for alias in each.parameter.aliases
        if row.function is not None
        and each.keyword is not None
        and parameter_name(alias) not in inspect.signature(FUNCTIONS[row.function]).parameters
    ]
    assert missing == []


def test_states_are_found_in_signatures() -> None:
    def add_kr_session(cookie: object = None) -> None: ...

    row = counterparts({"add_kr_session": add_kr_session})["Add-KrSession"]
    assert (row.state, row.function) == (State.HERE, "add_kr_session")
    assert row.parameters["Cookie"].state is State.HERE
    assert row.parameters["IOTimeout"].state is State.NOT_YET
    assert row.parameters["PassThru"].state is State.NOT_MEANT
    assert counterparts({})["Add-KrSession"].parameters["Cookie"].state is State.NOT_YET
    assert counterparts({})["NoDefault"].parameters["Value"].state is State.NOT_MEANT
