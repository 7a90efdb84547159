"""Writes docs/reference from signatures, docstrings and the options of the `kestrun` command.

Usage: ``python scripts/make_reference.py``; tests/test_reference.py checks that it was run.
"""

from __future__ import annotations

import importlib
import inspect
import json
import pkgutil
import re
from collections.abc import Callable, Iterator
from enum import Enum
from pathlib import Path
from typing import Any, Final

import click

import cmdlets
from kestrun_py import caching, cli, context, errors, host, logging
from kestrun_py import sessions as session_types
from kestrun_py.caching import memory
from kestrun_py.http import cookies, request, response
from kestrun_py.routing import table as routing
from kestrun_py.server import endpoints
from kestrun_py.services import ServiceRegistry

FOLDER: Final = Path(__file__).parents[1] / "docs" / "reference"

FAMILIES: Final = [found.name for found in pkgutil.iter_modules(cmdlets.__path__) if found.name[0] != "_"]

TYPES: Final[dict[str, tuple[type, ...]]] = {
    "The host": (host.KestrunHost, ServiceRegistry, endpoints.Endpoint, endpoints.HttpProtocols),
    "Routes": (routing.HttpVerb, routing.DuplicateAction),
    "A request": (context.KestrunContext, request.KestrunRequest, response.KestrunResponse),
    "Sessions": (
        session_types.Session,
        session_types.SessionOptions,
        session_types.SessionLock,
        session_types.SessionAccess,
        session_types.CacheFailurePolicy,
    ),
    "Cookies": (cookies.CookieBuilder, cookies.SameSiteMode, cookies.CookieSecurePolicy),
    "Caches": (caching.DistributedCache, memory.MemoryCache),
    "Logging": (logging.LoggerConfiguration, logging.Logger, logging.LogLevel, logging.RollingInterval),
}

# What only the host itself calls, though from other modules.
INNER: Final[dict[type, tuple[str, ...]]] = {session_types.Session: ("close", "load_at_once", "state")}

_WIDTH: Final = 110
_SECTION: Final = re.compile(r"^(Args|Attributes|Returns|Raises|Example):$", re.MULTILINE)
_TITLES: Final = {"Args": "Arguments", "Attributes": "Attributes", "Returns": "Returns", "Raises": "Raises"}


def pages() -> dict[str, str]:
    """Returns the text of each page by its file name."""
    return {"cmdlets.md": _cmdlets(), "host.md": _host(), "cli.md": _cli()}


# Pages


def _cmdlets() -> str:
    parts = [
        "# Cmdlets",
        "What `from cmdlets import *` brings, by family. [Porting](../guides/porting.md) has the rule of names.",
    ]
    for family in FAMILIES:
        module = importlib.import_module(f"cmdlets.{family}")
        parts += [f"## {family.capitalize()}", _prose(module)]
        for name in module.__all__:
            parts += _entry("###", name, getattr(module, name))
    return _page(parts)


def _host() -> str:
    parts = [
        "# The host and its types",
        "What the cmdlets stand on, and what a script in the style of the host object uses.",
    ]
    for area, types in TYPES.items():
        parts.append(f"## {area}")
        for kind in types:
            parts += _class(kind)
    return _page([*parts, "## Errors", _prose(errors)])


def _cli() -> str:
    return _page(
        ["# The command line", "The `kestrun` command, its commands and their options.", *_command("kestrun", cli.main)]
    )


def _page(parts: list[str]) -> str:
    note = "<!-- Written by scripts/make_reference.py; change the docstrings instead. -->"
    return "\n\n".join([note, *filter(None, parts)]) + "\n"


# Functions and classes


def _entry(level: str, name: str, function: Callable[..., Any]) -> list[str]:
    return [f"{level} {name}", f"```python\n{_signature(name, function)}\n```", _prose(function)]


def _class(kind: type) -> list[str]:
    parts = [f"### {kind.__name__}"]
    if issubclass(kind, Enum):
        return [*parts, _prose(kind), "Members: " + ", ".join(f"`{member}`" for member in kind.__members__) + "."]
    if not inspect.isabstract(kind):
        parts.append(f"```python\n{_signature(kind.__name__, kind)}\n```")
    parts.append(_prose(kind))
    for name, member in _members(kind):
        if isinstance(member, classmethod | staticmethod) or inspect.isfunction(member):
            parts += _entry("####", f"{kind.__name__}.{name}", getattr(kind, name))
        else:
            parts += [f"#### {kind.__name__}.{name}", f"*Attribute.* {_prose(member)}"]
    return parts


def _members(kind: type) -> Iterator[tuple[str, Any]]:
    """The public methods and properties of a class, with those of its bases that have no entry of their own."""
    bases = [part for part in kind.__mro__[1:] if any(part in types for types in TYPES.values())]
    shown = {name for base in bases for name in vars(base)}
    names = {name for part in kind.__mro__ if part.__module__.startswith("kestrun_py") for name in vars(part)}
    for name in sorted(names - shown - {*INNER.get(kind, ())}):
        member = inspect.getattr_static(kind, name)
        documented = inspect.isroutine(member) or isinstance(member, property) or hasattr(member, "func")
        if not name.startswith("_") and documented and inspect.getdoc(member):
            yield name, member


def _signature(name: str, function: Callable[..., Any]) -> str:
    signature = inspect.signature(function)
    texts: list[str] = []
    kinds: list[inspect._ParameterKind] = []
    for parameter in signature.parameters.values():
        if parameter.name == "self":
            continue
        if parameter.kind is parameter.KEYWORD_ONLY and not {parameter.KEYWORD_ONLY, parameter.VAR_POSITIONAL} & {
            *kinds
        }:
            texts.append("*")
        kinds.append(parameter.kind)
        texts.append(_parameter(parameter))
    arrow = "" if inspect.isclass(function) else f" -> {_annotation(signature.return_annotation)}"
    start = "async def " if inspect.iscoroutinefunction(function) else ""
    line = f"{start}{name}({', '.join(texts)}){arrow}"
    if len(line) <= _WIDTH:
        return line
    return f"{start}{name}(\n" + "".join(f"    {text},\n" for text in texts) + f"){arrow}"


def _parameter(parameter: inspect.Parameter) -> str:
    signs: dict[object, str] = {parameter.VAR_POSITIONAL: "*", parameter.VAR_KEYWORD: "**"}
    stars = signs.get(parameter.kind, "")
    text = f"{stars}{parameter.name}: {_annotation(parameter.annotation)}"
    return text if parameter.default is parameter.empty else f"{text} = {_default(parameter.default)}"


def _annotation(annotation: object) -> str:
    return annotation if isinstance(annotation, str) else getattr(annotation, "__name__", str(annotation))


def _default(value: object) -> str:
    if isinstance(value, Enum):
        return f"{type(value).__name__}.{value.name}"
    if isinstance(value, str):
        return json.dumps(value)
    plain = isinstance(value, int | float | tuple | None)
    return repr(value) if plain else "..."  # an object's own text may hold its address


# Docstrings


def _prose(thing: object) -> str:
    """A docstring in Google's style as Markdown."""
    text, *sections = _SECTION.split(inspect.getdoc(thing) or "")
    parts = [_paragraphs(text)]
    for title, body in zip(sections[::2], sections[1::2], strict=True):
        body = inspect.cleandoc(body)
        if title == "Example":
            parts.append(f"**Example**\n\n```python\n{body}\n```")
        elif title == "Returns":
            parts.append(f"**Returns** {_words(body)}")
        else:
            items = re.split(r"\n(?=\S)", body)
            parts.append(f"**{_TITLES[title]}**\n\n" + "\n".join(map(_item, items)))
    return "\n\n".join(filter(None, parts))


def _paragraphs(text: str) -> str:
    """Paragraphs; those that are indented after a ``::`` are code."""
    parts: list[str] = []
    for block in re.split(r"\n\n(?=\S)", text.strip()):
        prose, colons, code = block.partition("::\n\n")
        parts.append(_words(prose) + (":" if colons else ""))
        if code:
            parts.append(f"```\n{inspect.cleandoc(code)}\n```")
    return "\n\n".join(parts)


def _item(text: str) -> str:
    name, colon, rest = text.partition(": ")
    return f"- `{name}`: {_words(rest)}" if colon else f"- {_words(text)}"


def _words(text: str) -> str:
    return " ".join(text.replace("``", "`").split())


# The command line


def _command(name: str, command: click.Command) -> Iterator[str]:
    click_context = click.Context(command, info_name=name)
    yield f"## {name}"
    yield f"```\n{name} {' '.join(command.collect_usage_pieces(click_context))}\n```"
    yield _paragraphs(inspect.cleandoc(command.help or ""))
    options = [option for option in command.params if isinstance(option, click.Option)]
    yield "\n".join(map(_option, options))
    for inner in command.commands.values() if isinstance(command, click.Group) else ():
        yield from _command(f"{name} {inner.name}", inner)


def _option(option: click.Option) -> str:
    value = "" if option.is_flag else f" {_value(option.type)}"
    default = f" Default: {option.default}." if option.show_default else ""
    return _words(f"- `{', '.join(option.opts)}{value}`: {option.help or ''}{default}")


def _value(kind: Any) -> str:
    return "|".join(kind.choices) if isinstance(kind, click.Choice) else kind.name.upper()


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for file_name, text in pages().items():
        FOLDER.joinpath(file_name).write_text(text, "utf-8")
