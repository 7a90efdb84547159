"""Writes the cmdlets that only call a method of the host or of what flows through a pipe.

Such a cmdlet is one line in a module of `cmdlets`; the function below it is made from the method's signature and
docstring, and is made again when that changes::

    # made from KestrunHost.add_hsts
    # made from LoggerConfiguration.add_console_sink as add_kr_sink_console
    # made from KestrunHost.add_session, cookie first
    # made from KestrunHost.add_endpoint, through _new_names

A verb of the host becomes a function of its name with ``_kr_`` in it and gains `server`. A method of another class
becomes a cmdlet that takes its object from a pipe. ``first`` puts a keyword before all others, and lets it be given by
position. ``through`` hands the host and the call to a function of the module, which makes the result. Aliases come from
the table of counterparts. `__all__` and the imports of the modules, and the module that gathers them, are written too.

Usage: ``python scripts/make_cmdlets.py`` (or ``make generate``); tests/test_generated.py checks that it was run.
"""

from __future__ import annotations

import ast
import builtins
import importlib
import inspect
import re
import subprocess
import sys
import textwrap
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, Final

from kestrun_py.conversion.names import parameter_name, snake_case
from kestrun_py.counterparts import find_cmdlet
from kestrun_py.host import KestrunHost
from kestrun_py.logging import LoggerConfiguration

FOLDER: Final = Path(__file__).parents[1] / "cmdlets"

# The classes whose methods may become cmdlets.
OWNERS: Final[dict[str, type]] = {kind.__name__: kind for kind in (KestrunHost, LoggerConfiguration)}

# Where the names come from that are in no signature.
_HELPERS: Final = {
    "KestrunHost": "kestrun_py.host",
    "LoggerConfiguration": "kestrun_py.logging",
    "MISSING": "cmdlets._arguments",
    "Pending": "cmdlets._pipe",
    "alias": "cmdlets._arguments",
    "overload": "typing",
    "pipe": "cmdlets._pipe",
    "resolve_host": "kestrun_py.host_registry",
}
_LINE: Final = re.compile(
    r"^# made from (?P<owner>\w+)\.(?P<method>\w+)(?: as (?P<name>\w+))?(?:, (?P<first>\w+) first)?"
    r"(?:, through (?P<through>\w+))?$"
)
_WIDTH: Final = 120


def modules() -> dict[Path, str]:
    """Returns what the files of `cmdlets` should hold."""
    texts = {path: module_text(path) for path in sorted(FOLDER.glob("[a-z]*.py"))}
    package = FOLDER / "__init__.py"
    return {**texts, package: _package_text(package.read_text("utf-8"), texts)}


def module_text(path: Path) -> str:
    """Returns the text of a module with its functions made anew."""
    lines = path.read_text("utf-8").splitlines()
    own = {node.name: node for node in ast.parse("\n".join(lines)).body if isinstance(node, ast.FunctionDef)}
    for number in reversed(range(len(lines))):
        if lines[number].startswith("# made from "):
            made = _Cmdlet(lines[number], f"{path.name}:{number + 1}", own)
            lines[number + 1 : _end(lines, number + 1, made.name)] = made.source().splitlines()
    return _tidy(_with_all(_with_imports("\n".join(lines) + "\n")), path.name)


def _end(lines: list[str], start: int, name: str) -> int:
    """The line after the functions of that name that stand below a line."""
    end = start
    for node in ast.parse("\n".join(lines)).body:
        if isinstance(node, ast.FunctionDef) and node.name == name and node.lineno > start:
            end = node.end_lineno or end
    return end


def _with_imports(text: str) -> str:
    """A module's text with imports of what the made functions name; `_tidy` removes those that nothing uses."""
    tree = ast.parse(text)
    known = {*vars(builtins), *_bound(tree)}
    wanted = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)} - known
    lines = [f"from {_origins()[name]} import {name}" for name in sorted(wanted) if name in _origins()]
    start = next(node for node in tree.body if isinstance(node, ast.ImportFrom) and node.module == "__future__")
    before, after = text.splitlines()[: start.lineno], text.splitlines()[start.lineno :]
    return "\n".join([*before, *lines, *after]) + "\n"


def _bound(tree: ast.Module) -> set[str]:
    """The names that a module defines or imports, and those of its functions' arguments."""
    names = {node.arg for node in ast.walk(tree) if isinstance(node, ast.arg)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names |= {alias.asname or alias.name for alias in node.names}
        elif isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
    return names


@cache
def _origins() -> dict[str, str]:
    """The module that each name in the signatures of the owners' methods is imported from."""
    origins: dict[str, str] = {}
    for module in {part.__module__ for owner in OWNERS.values() for part in owner.__mro__[:-1]}:
        tree = ast.parse(inspect.getsource(importlib.import_module(module)))
        imports = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
        origins |= {alias.name: node.module or "" for node in imports for alias in node.names if alias.asname is None}
        origins |= {node.name: module for node in tree.body if isinstance(node, ast.ClassDef)}
    return {**origins, **_HELPERS}


def _with_all(text: str) -> str:
    """A module's text with its public functions in `__all__`."""
    tree = ast.parse(text)
    names = sorted({node.name for node in tree.body if isinstance(node, ast.FunctionDef) if node.name[0] != "_"})
    (node,) = (node for node in tree.body if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__")
    lines = text.splitlines()
    lines[node.lineno - 1 : node.end_lineno] = [f"__all__ = [{', '.join(map(repr, names))}]"]
    return "\n".join(lines) + "\n"


def _package_text(text: str, modules: dict[Path, str]) -> str:
    """The text of the module that gathers the others."""
    head, mark, _ = text.partition("# ruff: noqa: F403, F405")
    names = sorted(name for module in modules.values() for name in _names_in_all(module))
    imports = [f"from cmdlets.{path.stem} import *" for path in modules]
    return _tidy(
        f"{head}{mark} - this module is made of the others by scripts/make_cmdlets.py\n\n"
        + "\n".join(imports)
        + "\n\n# Written out, because type checkers do not add up the modules' lists.\n"
        + f"__all__ = [{', '.join(map(repr, names))}]\n",
        "__init__.py",
    )


def _names_in_all(text: str) -> list[str]:
    found = re.search(r"^__all__ = (\[.*?\])", text, re.MULTILINE | re.DOTALL)
    assert found is not None
    names: list[str] = ast.literal_eval(found[1])
    return names


def _tidy(text: str, file_name: str) -> str:
    """A module's text with its imports sorted and unused ones removed, formatted."""
    place = ["--stdin-filename", str(FOLDER / file_name), "-"]
    for command in (["check", "--fix-only", "--quiet", "--select", "F401,I001"], ["format"]):
        done = subprocess.run(
            [sys.executable, "-m", "ruff", *command, *place], input=text, capture_output=True, text=True
        )
        if done.returncode:
            raise SystemExit(f"{file_name}: {done.stderr}")
        text = done.stdout
    return text


@dataclass(frozen=True)
class _Parameter:
    """A parameter of a function as text."""

    name: str
    annotation: str
    default: str | None
    by_position: bool = False
    stars: str = ""

    def __str__(self) -> str:
        return f"{self.stars}{self.name}: {self.annotation}" + ("" if self.default is None else f" = {self.default}")


class _Cmdlet:
    """A cmdlet that is made from a method.

    Args:
        line: The line that asks for it.
        place: The line's file and number, for messages.
        own: The functions of the module.
    """

    def __init__(self, line: str, place: str, own: dict[str, ast.FunctionDef]) -> None:
        found = _LINE.match(line)
        if found is None or found["owner"] not in OWNERS:
            raise SystemExit(f"{place}: write # made from CLASS.METHOD, where CLASS is one of {', '.join(OWNERS)}.")
        self.owner = OWNERS[found["owner"]]
        self.method: Any = getattr(self.owner, found["method"], None)
        if self.method is None:
            raise SystemExit(f"{place}: {self.owner.__name__} has no method {found['method']}.")
        self.name = found["name"] or found["method"].replace("_", "_kr_", 1)
        self.through = own[found["through"]] if found["through"] else None
        self.kestruns = find_cmdlet(self.name)
        self.parameters, self.returns = _signature(self.method, self.owner)
        self.first = found["first"]
        self.aliases: dict[str, list[str]] = {
            parameter.name: [parameter_name(alias) for alias in kestruns.aliases]
            for parameter in self.parameters
            if self.kestruns and (kestruns := self.kestruns.find_parameter(parameter.name)) and kestruns.aliases
        }

    def source(self) -> str:
        """The text of the function."""
        return self._of_host() if self.owner is KestrunHost else self._of_pipe()

    def _of_host(self) -> str:
        server = _Parameter("server", "KestrunHost | None", "None")
        parameters = [*self._ordered(), server, *self._alias_parameters()]
        if self.through is None:
            return self._function(parameters, self.returns, f"return {self._call('resolve_host(server)')}")
        result = f"{self.through.name}(resolve_host(server), lambda host: {self._call('host')})"
        return self._function(parameters, _annotation(self.through.returns, self.owner), f"return {result}")

    def _of_pipe(self) -> str:
        kind, piped = self.owner.__name__, self._piped_name()
        pending = f"Pending[{kind}, {self.returns}]"
        plain = [*self._ordered(), *self._alias_parameters()]
        hinted = [replace(each, default=each.default and "...") for each in plain]
        call = f"lambda piped: {self._call('piped')}"
        return "\n".join(
            [
                f"@overload\n{self._head([*hinted, _Parameter(piped, kind, None)], self.returns)} ...",
                f"@overload\n{self._head(hinted, pending)} ...",
                self._function(
                    [*plain, _Parameter(piped, kind, "MISSING")],
                    f"{self.returns} | {pending}",
                    f'return pipe("{self.name}", {kind}, {piped}, {call})',
                ),
            ]
        )

    def _piped_name(self) -> str:
        parameters = self.kestruns.parameters.values() if self.kestruns else ()
        piped = [each.keyword for each in parameters if any(role.pipeline for role in each.sets.values())]
        return piped[0] if piped else snake_case(self.owner.__name__)

    def _ordered(self) -> list[_Parameter]:
        if self.first is None:
            return self.parameters
        first = next(each for each in self.parameters if each.name == self.first)
        rest = [replace(each, by_position=False) for each in self.parameters if each is not first]
        return [replace(first, by_position=True), *rest]

    def _alias_parameters(self) -> list[_Parameter]:
        annotations = {parameter.name: parameter.annotation for parameter in self.parameters}
        return [
            _Parameter(alias, annotations[name], "MISSING")
            for name, aliases in self.aliases.items()
            for alias in aliases
        ]

    def _call(self, receiver: str) -> str:
        arguments = (self._argument(each) for each in self.parameters)
        return f"{receiver}.{self.method.__name__}({', '.join(arguments)})"

    def _argument(self, parameter: _Parameter) -> str:
        value, others = parameter.name, self.aliases.get(parameter.name)
        if others:
            given = ", ".join(f"{other}={other}" for other in others)
            value = f'alias({value}, {parameter.default}, "{parameter.name}", {given})'
        return f"{parameter.stars}{value}" if parameter.by_position or parameter.stars else f"{parameter.name}={value}"

    def _head(self, parameters: list[_Parameter], returns: str) -> str:
        texts = [str(each) for each in parameters]
        named = next((number for number, each in enumerate(parameters) if not each.by_position), None)
        if named is not None and not any(each.stars == "*" for each in parameters):
            texts.insert(named, "*")
        return f"def {self.name}({', '.join(texts)}) -> {returns}:"

    def _function(self, parameters: list[_Parameter], returns: str, statement: str) -> str:
        doc = self._docstring()
        text = textwrap.indent(f'"""{doc}\n"""' if "\n" in doc else f'"""{doc}"""', "    ")
        return f"{self._head(parameters, returns)}\n{text}\n    {statement}"

    def _docstring(self) -> str:
        """The method's docstring, in the words of the cmdlets."""
        text = re.sub(r"`(\w+)`", _as_cmdlet, inspect.getdoc(self.method) or "")
        if self.kestruns is not None and self.kestruns.name not in text:
            first, *rest = text.split("\n\n", 1)
            text = "\n\n".join([_fill(f"{first.removesuffix('.')} ({self.kestruns.name})."), *rest])
        for name, aliases in self.aliases.items():
            text = _with_also(text, name, aliases)
        if self.through is not None:
            text = _with_section(text, "Returns", ast.get_docstring(self.through) or "")
        if self.owner is KestrunHost:
            return _with_argument(text, "server: The host.")
        return _with_argument(text, f"{self._piped_name()}: What it works on; the pipeline's input.")


def _signature(method: Callable[..., Any], owner: type) -> tuple[list[_Parameter], str]:
    """The parameters of a method, without self, and what it returns."""
    (function,) = ast.parse(textwrap.dedent(inspect.getsource(method))).body
    assert isinstance(function, ast.FunctionDef)
    given = function.args
    in_order = [*given.posonlyargs, *given.args]
    missing: list[str | None] = [None] * (len(in_order) - len(given.defaults))
    defaults = missing + [ast.unparse(default) for default in given.defaults]
    found = [
        _parameter(each, default, owner, by_position=True) for each, default in zip(in_order, defaults, strict=True)
    ]
    found += [_parameter(given.vararg, None, owner, by_position=True, stars="*")] if given.vararg else []
    found += [
        _parameter(each, ast.unparse(default) if default else None, owner)
        for each, default in zip(given.kwonlyargs, given.kw_defaults, strict=True)
    ]
    found += [_parameter(given.kwarg, None, owner, stars="**")] if given.kwarg else []
    return found[1:], _annotation(function.returns, owner)


def _parameter(node: ast.arg, default: str | None, owner: type, **kind: Any) -> _Parameter:
    annotation = "" if node.arg == "self" else _annotation(node.annotation, owner)
    return _Parameter(node.arg, annotation, default, **kind)


def _annotation(node: ast.expr | None, owner: type) -> str:
    assert node is not None
    return re.sub(r"\bSelf\b", owner.__name__, ast.unparse(node))


def _as_cmdlet(found: re.Match[str]) -> str:
    """A verb of the host in backticks as its cmdlet."""
    function = found[1].replace("_", "_kr_", 1)
    return f"`{function}`" if hasattr(KestrunHost, found[1]) and function in _all_cmdlets() else found[0]


@cache
def _all_cmdlets() -> set[str]:
    """The cmdlets that the modules define or ask for."""
    text = "\n".join(path.read_text("utf-8") for path in FOLDER.glob("[a-z]*.py"))
    made = re.findall(r"^# made from \w+\.([a-z]+)_(\w+)", text, re.MULTILINE)
    return {*re.findall(r"^def (\w+)", text, re.MULTILINE), *(f"{verb}_kr_{noun}" for verb, noun in made)}


def _with_also(text: str, name: str, aliases: list[str]) -> str:
    """A docstring that names the aliases of an argument."""
    entry = re.search(rf"^    {name}: .*(?:\n        .*)*", text, re.MULTILINE)
    if entry is None:
        return text
    also = " and ".join(f"`{alias}`" for alias in aliases)
    words = f"{' '.join(entry[0].split()).removesuffix('.')} (also {also})."
    return text[: entry.start()] + _fill(words, "    ") + text[entry.end() :]


def _with_argument(text: str, entry: str) -> str:
    """A docstring with one more argument, the last."""
    if "\nArgs:\n" not in text:
        return _with_section(text, "Args", entry)
    head, title, rest = text.partition("\nArgs:\n")
    entries, gap, after = rest.partition("\n\n")
    return f"{head}{title}{entries}\n    {entry}{gap}{after}"


def _with_section(text: str, title: str, body: str) -> str:
    """A docstring with one more section, before Raises."""
    head, raises, rest = text.partition("\nRaises:\n")
    return f"{head.rstrip()}\n\n{title}:\n{textwrap.indent(body, '    ')}\n{raises}{rest}".rstrip()


def _fill(text: str, indent: str = "") -> str:
    """A paragraph of a docstring in lines that fit."""
    words = " ".join(text.split())
    return textwrap.fill(words, _WIDTH - 4, initial_indent=indent, subsequent_indent=indent * 2, break_on_hyphens=False)


if __name__ == "__main__":
    for path, text in modules().items():
        path.write_text(text, "utf-8")
