"""What to say about a cmdlet, a host verb or a parameter that does not exist."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterable, Mapping
from difflib import get_close_matches
from typing import Any, Final

from kestrun_py.conversion.names import host_verb_name
from kestrun_py.counterparts.facts import Cmdlet, find_cmdlet, kestrun_cmdlets
from kestrun_py.counterparts.table import Counterpart, ParameterCounterpart, State, counterparts

__all__ = ["cmdlet_functions", "did_you_mean", "missing_cmdlet", "missing_host_verb", "missing_parameter"]

# How alike two names must be, from 0 to 1: one wrong letter in a short name, a wrong word in a long one.
_SIMILARITY: Final = 0.75


def cmdlet_functions() -> Mapping[str, Callable[..., Any]]:
    """Returns the cmdlets by name if something has imported them, else nothing."""
    module = sys.modules.get("cmdlets")
    return {name: getattr(module, name) for name in getattr(module, "__all__", ())}


def did_you_mean(name: str, names: Iterable[str]) -> str:
    """Returns a sentence that names the nearest of `names`, with a space before it, or an empty text."""
    nearest = get_close_matches(name, names, n=1, cutoff=_SIMILARITY)
    return f" Did you mean {nearest[0]}?" if nearest else ""


def missing_cmdlet(name: str) -> str | None:
    """Returns what to say about a name that is not defined, or None if it looks like no cmdlet.

    Args:
        name: As the script has it; Kestrun's spelling is understood too.
    """
    if "kr" not in name.casefold():
        return None
    functions = cmdlet_functions()
    if name in functions:
        return f"{name} is not imported: write `from cmdlets import {name}`."
    known = find_cmdlet(name)
    if known is not None and not functions:
        return f"{known.function} is a cmdlet: begin the script with `from cmdlets import *`."
    if known is not None:
        return _missing(name, counterparts(functions)[known.name])
    suggestion = did_you_mean(name, functions) or did_you_mean(name, _all_functions())
    return f"There is no cmdlet {name}.{suggestion}" if suggestion or "_kr_" in name else None


def missing_host_verb(kind: type, name: str) -> str:
    """Returns what to say about an attribute that the host does not have.

    Args:
        kind: The host's class.
        name: The attribute.
    """
    cmdlet = find_cmdlet(name) or _by_host_verb().get(name)
    functions = cmdlet_functions()
    if cmdlet is None or not functions:
        return f"{kind.__name__} has no {name}.{did_you_mean(name, dir(kind))}"
    row, verb = counterparts(functions)[cmdlet.name], host_verb_name(cmdlet.function)
    if hasattr(kind, verb):
        return f"{kind.__name__} has no {name}: it is called {verb} there."
    if row.function is not None:
        return f"{kind.__name__} has no {name}: use the cmdlet {row.function}."
    return _missing(f"{kind.__name__}.{name}", row)


def missing_parameter(function: Callable[..., Any], keyword: str) -> str:
    """Returns what to say about a keyword that a cmdlet or a host verb does not take."""
    name = function.__name__
    parameters = inspect.signature(function).parameters
    cmdlet = find_cmdlet(name)
    known = cmdlet.find_parameter(keyword) if cmdlet is not None else None
    if cmdlet is not None and known is not None:
        row = counterparts(cmdlet_functions())[cmdlet.name]
        return _missing_parameter(name, keyword, row.parameters[known.name])
    return f"{name} has no parameter {keyword}.{did_you_mean(keyword, parameters)}"


def _missing(name: str, row: Counterpart) -> str:
    cmdlet = row.cmdlet.name
    if row.function is not None:
        return f"{name} does not exist: {cmdlet} is {row.function} here."
    if row.state is State.NOT_MEANT:
        return f"{name} does not exist: {cmdlet} has no counterpart ({row.note})."
    return f"{name} does not exist: {cmdlet} is not ported yet{_advice(row.note)}."


def _missing_parameter(function: str, keyword: str, row: ParameterCounterpart) -> str:
    name = f"-{row.parameter.name}"
    if row.keyword is not None:
        return f"{function} has no parameter {keyword}: {name} is {row.keyword} here."
    if row.state is State.NOT_MEANT:
        return f"{function} has no parameter {keyword}: {name} has no counterpart ({row.note})."
    return f"{function} has no parameter {keyword}: {name} is not ported yet{_advice(row.note)}."


def _advice(note: str) -> str:
    return f"; {note}" if note else ""


def _all_functions() -> list[str]:
    return [cmdlet.function for cmdlet in kestrun_cmdlets().values()]


def _by_host_verb() -> Mapping[str, Cmdlet]:
    return {host_verb_name(cmdlet.function): cmdlet for cmdlet in kestrun_cmdlets().values()}
