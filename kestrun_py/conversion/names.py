"""The rule that turns Kestrun's names into ours: ``Verb-KrNoun -ParamName`` is ``verb_kr_noun(param_name=...)``."""

from __future__ import annotations

import keyword
import re
from typing import Final

__all__ = ["cmdlet_name", "host_verb_name", "parameter_name", "snake_case"]

# Words that keep their letters together. A run of capitals (IPAddress, X509, JWT) needs no entry.
_WHOLE_WORDS: Final = ("ETag", "GitHub", "OAuth2", "OpenApi", "PowerShell", "SignalR", "SqlServer")
_WHOLE_WORD: Final = re.compile("|".join(_WHOLE_WORDS))
_WORD_START: Final = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")


def snake_case(name: str) -> str:
    """Returns a name in PascalCase or camelCase as snake_case: ``IOTimeout`` is ``io_timeout``."""
    return _WORD_START.sub("_", _WHOLE_WORD.sub(lambda word: word[0].capitalize(), name)).lower()


def cmdlet_name(cmdlet: str) -> str:
    """Returns the name of a cmdlet's function: ``Add-KrSession`` is ``add_kr_session``."""
    verb, dash, noun = cmdlet.partition("-")
    if not dash:
        return snake_case(cmdlet)
    prefix = "kr_" if noun.startswith("Kr") else ""
    return f"{snake_case(verb)}_{prefix}{snake_case(noun.removeprefix('Kr'))}"


def parameter_name(parameter: str) -> str:
    """Returns the keyword of a parameter: ``IdleTimeout`` is ``idle_timeout``; Python's own words end in ``_``."""
    name = snake_case(parameter.removeprefix("-"))
    return f"{name}_" if keyword.iskeyword(name) else name


def host_verb_name(function: str) -> str:
    """Returns the host's verb for a cmdlet's function: ``add_kr_session`` is ``add_session``."""
    return function.replace("_kr_", "_", 1)
