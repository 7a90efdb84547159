"""Kestrun's cmdlets and their parameters, as its PowerShell module declares them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from kestrun_py.conversion.names import cmdlet_name, parameter_name

__all__ = ["Cmdlet", "Parameter", "ParameterSet", "find_cmdlet", "kestrun_cmdlets"]

_FILE: Final = Path(__file__).with_name("kestrun.jsonl")


@dataclass(frozen=True, slots=True)
class ParameterSet:
    """How a parameter takes part in one parameter set.

    Attributes:
        mandatory: Whether it must be given.
        position: Its place among the positional arguments, from 0; None: it is given by name only.
        pipeline: Whether it takes the pipeline's input.
    """

    mandatory: bool = False
    position: int | None = None
    pipeline: bool = False


@dataclass(frozen=True, slots=True)
class Parameter:
    """A parameter of a cmdlet.

    Attributes:
        name: As Kestrun spells it, without the dash.
        type: The short name of its .NET type; ``SwitchParameter`` for a switch.
        aliases: Its other names.
        values: The texts that an enum or a closed set accepts; empty if it has no closed set.
        sets: How it takes part in each parameter set; the key ``""`` stands for all sets.
        by_name: Whether it also takes the member of its name from objects of the pipeline.
        reported: Whether the loaded module lists it. A few are in its source alone, because their types are missing.
    """

    name: str
    type: str
    aliases: tuple[str, ...]
    values: tuple[str, ...]
    sets: Mapping[str, ParameterSet]
    by_name: bool
    reported: bool

    @property
    def keyword(self) -> str:
        """The keyword that it has here by the naming rule."""
        return parameter_name(self.name)

    @property
    def is_switch(self) -> bool:
        """Whether it is a switch, which takes no value in PowerShell."""
        return self.type == "SwitchParameter"


@dataclass(frozen=True, slots=True)
class Cmdlet:
    """A cmdlet.

    Attributes:
        name: As Kestrun spells it.
        family: The folder of Kestrun's module that it is in.
        aliases: Its other names.
        default_set: The parameter set that counts if the arguments fit several; None if it has one set.
        parameters: Its parameters by name, in the order of their declaration.
    """

    name: str
    family: str
    aliases: tuple[str, ...]
    default_set: str | None
    parameters: Mapping[str, Parameter]

    @property
    def function(self) -> str:
        """The name of its function here by the naming rule."""
        return cmdlet_name(self.name)

    def find_parameter(self, name: str) -> Parameter | None:
        """Returns the parameter of that name or alias, as Kestrun or as Python spells it, in any case, or None."""
        for parameter in self.parameters.values():
            if _folded(name) in map(_folded, (parameter.name, *parameter.aliases)):
                return parameter
        return None


@cache
def kestrun_cmdlets() -> Mapping[str, Cmdlet]:
    """Returns Kestrun's cmdlets by name, ordered by family and name."""
    cmdlets = (_cmdlet(**json.loads(line)) for line in _FILE.read_text("utf-8").splitlines())
    return MappingProxyType({cmdlet.name: cmdlet for cmdlet in cmdlets})


def find_cmdlet(name: str) -> Cmdlet | None:
    """Returns the cmdlet of that name or alias, as Kestrun or as Python spells it, in any case, or None."""
    return _by_folded_name().get(_folded(name))


@cache
def _by_folded_name() -> Mapping[str, Cmdlet]:
    cmdlets = kestrun_cmdlets().values()
    return {_folded(name): cmdlet for cmdlet in cmdlets for name in (*cmdlet.aliases, cmdlet.name)}


def _folded(name: str) -> str:
    return name.replace("-", "").replace("_", "").casefold()


def _cmdlet(
    name: str,
    family: str,
    parameters: list[dict[str, Any]],
    aliases: tuple[str, ...] = (),
    default_set: str | None = None,
) -> Cmdlet:
    made = [_parameter(**parameter) for parameter in parameters]
    by_name = MappingProxyType({parameter.name: parameter for parameter in made})
    return Cmdlet(name, family, tuple(aliases), default_set, by_name)


def _parameter(
    name: str,
    type: str,
    aliases: tuple[str, ...] = (),
    values: tuple[str, ...] = (),
    sets: Mapping[str, Mapping[str, Any]] | None = None,
    by_name: bool = False,
    reported: bool = True,
    **everywhere: Any,
) -> Parameter:
    roles = {key: ParameterSet(**role) for key, role in (sets or {"": everywhere}).items()}
    return Parameter(name, type, tuple(aliases), tuple(values), MappingProxyType(roles), by_name, reported)
