"""YAML as Kestrun's ``Write-KrYamlResponse`` writes it (YamlDotNet's block style), with PyYAML."""

from __future__ import annotations

import math
import re
from datetime import date, datetime, time, timedelta
from typing import Any, Final

import yaml
from yaml.nodes import ScalarNode

from kestrun_py.conversion.moments import date_text, duration_text
from kestrun_py.errors import ArgumentError
from kestrun_py.serialization.plain import to_plain

__all__ = ["from_yaml", "to_yaml"]

_NO_WRAP: Final = 1 << 30  # columns
_TEXT: Final = "tag:yaml.org,2002:str"
_NULL: Final = "tag:yaml.org,2002:null"
_EXACT: Final = 1e15  # whole numbers below it are written without an exponent


class _Dumper(yaml.SafeDumper):
    """Sequences are indented below their key; text is plain where it reads back as text."""

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        super().increase_indent(flow, False)

    def ignore_aliases(self, data: Any) -> bool:
        return True

    def choose_scalar_style(self) -> str:
        style: str = super().choose_scalar_style()
        event: Any = self.event  # a ScalarEvent
        reads_as_text = event.implicit[0]
        return '"' if style == "'" and (not reads_as_text or "'" in event.value) else style


# Dates are plain; Y and N are booleans in YAML 1.1.
_Dumper.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if not tag.endswith(":timestamp")]
    for first, resolvers in yaml.SafeDumper.yaml_implicit_resolvers.items()
}
_Dumper.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile(r"^(?:y|Y|n|N)$"), list("yYnN"))


def _text(dumper: _Dumper, value: str) -> ScalarNode:
    return dumper.represent_scalar(_TEXT, value, style="|" if "\n" in value else None)


def _plain(dumper: _Dumper, text: str) -> ScalarNode:
    return dumper.represent_scalar(_TEXT, text)


def _number(dumper: _Dumper, value: float) -> ScalarNode:
    if math.isfinite(value) and value.is_integer() and abs(value) < _EXACT:
        return dumper.represent_int(int(value))
    return dumper.represent_float(value)


_Dumper.add_representer(str, _text)
_Dumper.add_representer(type(None), lambda dumper, _: dumper.represent_scalar(_NULL, ""))
_Dumper.add_representer(date, lambda dumper, value: _plain(dumper, date_text(value)))
_Dumper.add_representer(datetime, lambda dumper, value: _plain(dumper, date_text(value, digits=7)))
_Dumper.add_multi_representer(time, lambda dumper, value: _plain(dumper, date_text(value)))
_Dumper.add_multi_representer(timedelta, lambda dumper, value: _plain(dumper, duration_text(value)))
_Dumper.add_representer(float, _number)
_Dumper.add_multi_representer(object, lambda dumper, value: _text(dumper, str(value)))


def to_yaml(value: Any) -> bytes:
    """Writes a value as a YAML document. Dates have seven digits after the seconds; spans of time are text.

    Raises:
        ArgumentError: The value contains itself.
    """
    text: str = yaml.dump(
        to_plain(value), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=_NO_WRAP, default_flow_style=False
    )
    return text.removesuffix("...\n").encode("utf-8", "replace")


def from_yaml(text: str | bytes, *, all_documents: bool = False) -> Any:
    """Reads one YAML document, or the list of all of them.

    Raises:
        ArgumentError: It is not YAML, or uses aliases (a short text could grow without bound).
    """
    try:
        for event in yaml.parse(text, Loader=yaml.SafeLoader):
            if isinstance(event, yaml.AliasEvent):
                raise ArgumentError(f"YAML aliases are not accepted (*{event.anchor}).")
        return [*yaml.safe_load_all(text)] if all_documents else yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        if isinstance(error, ArgumentError):
            raise
        raise ArgumentError(f"The text is not YAML: {' '.join(str(error).split())}.") from None
