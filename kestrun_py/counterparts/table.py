"""The table of counterparts: what became of each of Kestrun's cmdlets and parameters.

What exists is found in the signatures of the functions that are given; `decisions` adds what they cannot tell.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from types import MappingProxyType
from typing import Any, Final

from kestrun_py.counterparts.decisions import INSTEAD, NOT_MEANT, OTHER_NAMES
from kestrun_py.counterparts.facts import Cmdlet, Parameter, kestrun_cmdlets

__all__ = ["Counterpart", "ParameterCounterpart", "State", "counterparts"]


class State(Enum):
    """What became of a cmdlet or a parameter."""

    HERE = "here"
    OTHER_NAME = "other name"
    NOT_YET = "not yet"
    NOT_MEANT = "not meant"


@dataclass(frozen=True, slots=True)
class ParameterCounterpart:
    """What became of a parameter.

    Attributes:
        parameter: The parameter in Kestrun.
        state: What became of it.
        keyword: The keyword that it has here, or None.
        note: Why it is not meant, or what to use until it is here; empty if there is nothing to say.
    """

    parameter: Parameter
    state: State
    keyword: str | None
    note: str


@dataclass(frozen=True, slots=True)
class Counterpart:
    """What became of a cmdlet.

    Attributes:
        cmdlet: The cmdlet in Kestrun.
        state: What became of it.
        function: The name of its function here, or None.
        note: Why it is not meant, or what to use until it is here; empty if there is nothing to say.
        parameters: What became of its parameters, by their name in Kestrun.
    """

    cmdlet: Cmdlet
    state: State
    function: str | None
    note: str
    parameters: Mapping[str, ParameterCounterpart]


_EXISTS: Final = (State.HERE, State.OTHER_NAME)


def counterparts(functions: Mapping[str, Callable[..., Any]]) -> Mapping[str, Counterpart]:
    """Returns what became of each of Kestrun's cmdlets, by its name in Kestrun.

    Args:
        functions: The cmdlets that exist here by name, as ``vars(cmdlets)``.
    """
    rows = (_counterpart(cmdlet, functions) for cmdlet in kestrun_cmdlets().values())
    return MappingProxyType({row.cmdlet.name: row for row in rows})


def _counterpart(cmdlet: Cmdlet, functions: Mapping[str, Callable[..., Any]]) -> Counterpart:
    state, function, note = _place(cmdlet.function, functions, [cmdlet.name, cmdlet.family])
    if function is None:
        rows = {name: _missing(cmdlet, each, state) for name, each in cmdlet.parameters.items()}
    else:
        keywords = inspect.signature(functions[function]).parameters
        rows = {name: _parameter(cmdlet, each, keywords) for name, each in cmdlet.parameters.items()}
    return Counterpart(cmdlet, state, function, note, MappingProxyType(rows))


def _parameter(cmdlet: Cmdlet, parameter: Parameter, keywords: Mapping[str, object]) -> ParameterCounterpart:
    return ParameterCounterpart(parameter, *_place(parameter.keyword, keywords, _keys(cmdlet, parameter)))


def _missing(cmdlet: Cmdlet, parameter: Parameter, state: State) -> ParameterCounterpart:
    """A parameter of a cmdlet that is not here."""
    reason = next(_found(NOT_MEANT, _keys(cmdlet, parameter)), "")
    return ParameterCounterpart(parameter, State.NOT_MEANT if reason else state, None, reason)


def _keys(cmdlet: Cmdlet, parameter: Parameter) -> list[str]:
    return [f"{cmdlet.name} -{parameter.name}", f"* -{parameter.name}"]


def _place(name: str, existing: Mapping[str, object], keys: list[str]) -> tuple[State, str | None, str]:
    """What became of something that the naming rule calls `name`; `keys` are those of the decisions about it."""
    if name in existing:
        return State.HERE, name, ""
    for other in _found(OTHER_NAMES, keys):
        return State.OTHER_NAME, other, ""
    for reason in _found(NOT_MEANT, keys):
        return State.NOT_MEANT, None, reason
    return State.NOT_YET, None, next(_found(INSTEAD, keys), "")


def _found(decisions: Mapping[str, str], keys: list[str]) -> Iterator[str]:
    return (decisions[key] for key in keys if key in decisions)
