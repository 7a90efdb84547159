"""Mistakes that show in a script before it runs: names that nothing defines, arguments that no cmdlet has."""

from __future__ import annotations

import ast
import builtins
import dis
import inspect
import linecache
import symtable
import sys
from bisect import bisect_left, bisect_right
from collections import ChainMap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from types import CodeType, ModuleType
from typing import Any, Final

from kestrun_py.counterparts.mistakes import did_you_mean, missing_cmdlet, missing_parameter

__all__ = ["Finding", "find_mistakes"]

# What can define names that the source does not show.
_HIDDEN_DEFINITIONS: Final = {"exec", "globals", "locals", "setattr", "vars"}


@dataclass(frozen=True, slots=True)
class Finding:
    """A mistake in a script.

    Attributes:
        text: What is wrong.
        file: The file, or the name of a source text.
        line: The line in it, from 1.
    """

    text: str
    file: str
    line: int

    def __str__(self) -> str:
        return f"{self.text} ({self.file}, line {self.line})"


def find_mistakes(code: CodeType, scope: dict[str, Any], source: str | None = None) -> list[Finding]:
    """Returns the mistakes of a script, in the order of their lines.

    A name counts as defined if the script's module has it by now or defines it anywhere, so that what comes later in
    the module is no mistake. Nothing is reported where the source cannot be read or can define names out of sight.

    Args:
        code: The code of the script's function, or of its source text.
        scope: The names of the module that the script is in, or those that a source text starts with.
        source: The source of that module; it is looked up if left out.
    """
    text = "".join(linecache.getlines(code.co_filename)) if source is None else source
    module = _read(text, code.co_filename) if text else None
    if module is None:
        return []
    known = ChainMap(scope, {} if source is None else module.from_stars(), vars(builtins))
    found = [*_wrong_calls(code, known, module)]
    if not module.hides_names(code, is_running=source is None):
        found += _unknown_names(code, known, module.names)
    return sorted({*found}, key=lambda finding: (finding.line, finding.text))


@dataclass(frozen=True)
class _Module:
    """What a module's source shows.

    Attributes:
        calls: The calls in it, by line.
        names: The names that it defines somewhere.
        stars: The line and the module of each star import.
        defines_out_of_sight: Whether it calls what can define names that the source does not show.
    """

    calls: tuple[ast.Call, ...]
    names: frozenset[str]
    stars: tuple[tuple[int, str], ...]
    defines_out_of_sight: bool

    def from_stars(self) -> dict[str, Any]:
        """What its star imports bring, as far as their modules are loaded."""
        modules = [sys.modules[name] for _, name in self.stars if name in sys.modules]
        return {name: value for module in modules for name, value in _exports(module)}

    def hides_names(self, code: CodeType, *, is_running: bool) -> bool:
        """Whether it may define names for `code` that are not known.

        Args:
            code: The script.
            is_running: Whether the module has run up to the script, so that the star imports above are done.
        """
        hidden = [line > code.co_firstlineno if is_running else name not in sys.modules for line, name in self.stars]
        return self.defines_out_of_sight or any(hidden)


@lru_cache(maxsize=8)
def _read(source: str, file: str) -> _Module | None:
    try:
        tree = ast.parse(source)
        names = frozenset(_defined(symtable.symtable(source, file, "exec")))
    except (SyntaxError, ValueError):
        return None
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.names[0].name == "*"]
    stars = tuple((node.lineno, "." * node.level + (node.module or "")) for node in imports)
    used = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    calls = sorted((node for node in ast.walk(tree) if isinstance(node, ast.Call)), key=_line_of)
    return _Module(tuple(calls), names, stars, bool(used & _HIDDEN_DEFINITIONS))


def _line_of(node: ast.Call) -> int:
    return node.lineno


def _exports(module: ModuleType) -> Iterator[tuple[str, Any]]:
    names = getattr(module, "__all__", [name for name in vars(module) if not name.startswith("_")])
    return ((name, getattr(module, name)) for name in names if hasattr(module, name))


def _defined(table: symtable.SymbolTable, *, is_module: bool = True) -> Iterator[str]:
    """The global names that a scope and those inside it define."""
    for symbol in table.get_symbols():
        defines = symbol.is_assigned() or symbol.is_imported() or symbol.is_namespace()
        if defines and (is_module or symbol.is_declared_global()):
            yield symbol.get_name()
    for child in table.get_children():
        yield from _defined(child, is_module=False)


def _unknown_names(code: CodeType, known: Mapping[str, Any], defined: frozenset[str]) -> Iterator[Finding]:
    for name, line in _global_loads(code):
        if name not in known and name not in defined:
            text = missing_cmdlet(name) or f"The name {name} is not defined.{did_you_mean(name, [*known, *defined])}"
            yield Finding(text, code.co_filename, line)


def _global_loads(code: CodeType) -> Iterator[tuple[str, int]]:
    """The global names that code and the functions in it read, with their lines."""
    if "NameError" in code.co_names:
        return  # it expects that a name is missing
    instructions = [*dis.get_instructions(code)]
    own = {each.argval for each in instructions if each.opname == "STORE_NAME"}
    line = code.co_firstlineno
    for each in instructions:
        line = (each.positions and each.positions.lineno) or line
        if each.opname in ("LOAD_GLOBAL", "LOAD_NAME") and each.argval not in own:
            yield each.argval, line
    for constant in code.co_consts:
        if isinstance(constant, CodeType) and constant.co_name != "__annotate__":
            yield from _global_loads(constant)


def _wrong_calls(code: CodeType, known: Mapping[str, Any], module: _Module) -> Iterator[Finding]:
    """Calls in a script of cmdlets that do not exist, or with keywords that they do not have."""
    first, last = _lines(code)
    local = {*_local_names(code)}
    start, end = bisect_left(module.calls, first, key=_line_of), bisect_right(module.calls, last, key=_line_of)
    for node in module.calls[start:end]:
        match node.func:
            case ast.Name(id=name) if name not in local:
                cmdlet = known.get(name)
            case ast.Attribute(value=ast.Name(id=name), attr=attribute) if _is_cmdlets(known.get(name)):
                cmdlet = getattr(known[name], attribute, None)
                if cmdlet is None and (text := missing_cmdlet(attribute)):
                    yield Finding(text, code.co_filename, node.lineno)
            case _:
                continue
        if inspect.isfunction(cmdlet) and cmdlet.__module__.startswith("cmdlets."):
            parameters = inspect.signature(cmdlet).parameters
            for keyword in node.keywords:
                if keyword.arg is not None and keyword.arg not in parameters:
                    yield Finding(missing_parameter(cmdlet, keyword.arg), code.co_filename, keyword.lineno)


def _is_cmdlets(value: object) -> bool:
    return isinstance(value, ModuleType) and value.__name__ == "cmdlets"


def _lines(code: CodeType) -> tuple[int, int]:
    """The first and the last line of code, with the functions in it."""
    inner = [_lines(constant)[1] for constant in code.co_consts if isinstance(constant, CodeType)]
    own = [line for _, _, line in code.co_lines() if line]
    return code.co_firstlineno, max([code.co_firstlineno, *own, *inner])


def _local_names(code: CodeType) -> Iterator[str]:
    yield from (*code.co_varnames, *code.co_cellvars)
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _local_names(constant)
