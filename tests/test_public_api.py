"""What the packages offer: names, docstrings, errors, cmdlets, and which module may import which."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import inspect
import pkgutil
import re
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path
from types import ModuleType
from typing import Any

import cmdlets
import kestrun_py
from kestrun_py import errors
from kestrun_py.counterparts import counterparts

ROOT = Path(kestrun_py.__file__).parents[1]


def module_names(*packages: ModuleType) -> list[str]:
    """All modules of the packages, the packages included."""
    names = []
    for package in packages:
        names.append(package.__name__)
        names += [found.name for found in pkgutil.walk_packages(package.__path__, f"{package.__name__}.")]
    return names


def is_public(module: str) -> bool:
    return not any(part.startswith("_") for part in module.split("."))


MODULES = module_names(kestrun_py, cmdlets)
PUBLIC = list(filter(is_public, MODULES))


def own_names(module: ModuleType) -> Iterator[str]:
    """The public classes and functions that a module defines itself."""
    for name, value in vars(module).items():
        defined_here = getattr(value, "__module__", None) == module.__name__
        if not name.startswith("_") and defined_here and (inspect.isclass(value) or inspect.isroutine(value)):
            yield name


class TestNames:
    def test_every_public_module_says_what_it_is_and_names_its_public_things_once(self) -> None:
        faults = []
        for name in PUBLIC:
            module = importlib.import_module(name)
            faults += [f"{name} has no {missing}" for missing in module.__all__ if not hasattr(module, missing)]
            faults += [
                f"{name} does not name its {forgotten}" for forgotten in {*own_names(module)} - {*module.__all__}
            ]
            if len(set(module.__all__)) < len(module.__all__) or not module.__doc__:
                faults.append(f"{name} names a thing twice, or has no docstring")
        assert faults == []

    def test_packages_hand_on_what_exists(self) -> None:
        for name in PUBLIC:
            namespace: dict[str, Any] = {}
            exec(f"from {name} import *", namespace)
            assert {*importlib.import_module(name).__all__} <= {*namespace}, name

    def test_the_version(self) -> None:
        assert re.fullmatch(r"\d+\.\d+\.\d+", kestrun_py.__version__)

    def test_it_is_typed(self) -> None:
        assert (ROOT / "kestrun_py" / "py.typed").is_file()


def documented_things() -> Iterator[tuple[str, Any]]:
    seen: set[int] = set()
    for name in PUBLIC:
        module = importlib.import_module(name)
        for thing in own_names(module):
            value = getattr(module, thing)
            if id(value) in seen:
                continue
            seen.add(id(value))
            yield f"{name}.{thing}", value
            if inspect.isclass(value):
                for member, function in vars(value).items():
                    if not member.startswith("_") and (inspect.isroutine(function) or isinstance(function, property)):
                        yield f"{name}.{thing}.{member}", getattr(value, member)


def test_every_public_thing_has_a_docstring() -> None:
    assert [name for name, value in documented_things() if not inspect.getdoc(value)] == []


class TestErrors:
    def tree(self) -> dict[str, tuple[int, str]]:
        """The classes drawn in the docstring of `errors`: their depth and the built-in base in parentheses."""
        drawn = re.findall(r"^    ([│ ├└─]*)(\w+Error)(?: \((\w+)\))?", errors.__doc__ or "", re.MULTILINE)
        return {name: (len(branch) // 4, builtin) for branch, name, builtin in drawn}

    def test_the_drawing_has_every_class_and_no_other(self) -> None:
        classes = {name for name, value in vars(errors).items() if inspect.isclass(value)}
        assert set(self.tree()) == classes == set(errors.__all__)

    def test_each_class_hangs_where_it_is_drawn(self) -> None:
        path: list[str] = []
        for name, (depth, builtin) in self.tree().items():
            del path[depth:]
            bases = [base.__name__ for base in getattr(errors, name).__bases__]
            assert bases[0] == (path[-1] if path else "Exception"), name
            if builtin:
                assert builtin in bases, name
            path.append(name)

    def test_each_says_what_it_is(self) -> None:
        assert [name for name in errors.__all__ if not getattr(errors, name).__doc__] == []


def source_of(module: str) -> str:
    found = importlib.util.find_spec(module)
    assert found is not None
    assert found.origin is not None
    return Path(found.origin).read_text(encoding="utf-8")


def tree_of(module: str) -> ast.Module:
    return ast.parse(source_of(module))


def imports_of(module: str) -> set[str]:
    """The modules of this project that a module imports, wherever the import stands."""
    names: set[str] = set()
    for node in ast.walk(tree_of(module)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module} imports relatively"
            assert node.module is not None
            inner = {f"{node.module}.{alias.name}" for alias in node.names} & set(MODULES)
            names |= inner or {node.module}
    return {name for name in names if name.partition(".")[0] in ("kestrun_py", "cmdlets", "samples", "tests")}


IMPORTS = {module: imports_of(module) for module in MODULES}

# The rows of the table in docs/architecture.md: each part may import what stands in its row or below.
ROWS = [
    re.findall(r"`([\w/.]+)`", parts)
    for parts in re.findall(r"^\| (`[^|]+) \|", (ROOT / "docs/architecture.md").read_text("utf-8"), re.MULTILINE)
]


def part_of(module: str) -> str:
    """What the table calls a module: its own file, or the folder of its package."""
    parts = module.split(".")[1:]
    if not parts:
        return "__init__.py"
    return f"{parts[0]}/" if ROOT.joinpath("kestrun_py", parts[0]).is_dir() else f"{parts[0]}.py"


def row_of(module: str) -> int:
    if not module.startswith("kestrun_py"):
        return -1
    return next(index for index, row in enumerate(ROWS) if part_of(module) in row)


def imports_in_functions(module: str) -> list[int]:
    """The lines of a module on which a function imports something and does not say that it is imported when used."""
    lines = source_of(module).splitlines()
    functions = [node for node in ast.walk(tree_of(module)) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    inner = (node for function in functions for node in ast.walk(function))
    found = [node.lineno for node in inner if isinstance(node, ast.Import | ast.ImportFrom)]
    return [number for number in found if not lines[number - 1].endswith("# imported when used")]


class TestImports:
    def test_there_are_no_circles(self) -> None:
        list(TopologicalSorter(IMPORTS).static_order())  # raises CycleError, which names them

    def test_the_host_knows_nothing_of_cmdlets_samples_and_tests(self) -> None:
        outside = {
            module: {name for name in names if not name.startswith("kestrun_py")}
            for module, names in IMPORTS.items()
            if module.startswith("kestrun_py")
        }
        assert {module: names for module, names in outside.items() if names} == {}

    def test_imports_run_one_way(self) -> None:
        upwards = [
            f"{module} imports {name}"
            for module, names in IMPORTS.items()
            for name in names
            if row_of(name) < row_of(module)
        ]
        assert upwards == []

    def test_each_module_stands_in_one_row(self) -> None:
        named = [part for row in ROWS for part in row]
        assert sorted(named) == sorted({part_of(name) for name in MODULES if name.startswith("kestrun_py")})

    def test_nothing_needs_the_command_line(self) -> None:
        ours = ("kestrun_py.cli", "kestrun_py.__main__")
        outside = {name: names for name, names in IMPORTS.items() if not name.startswith(ours)}
        assert [
            name for name, names in outside.items() if any(each.startswith("kestrun_py.cli") for each in names)
        ] == []

    def test_no_import_hides_in_a_function(self) -> None:
        assert [(module, lines) for module in MODULES if (lines := imports_in_functions(module))] == []


TABLE = counterparts({name: getattr(cmdlets, name) for name in cmdlets.__all__})


class TestCmdlets:
    def test_each_docstring_names_its_kestrun_cmdlet(self) -> None:
        here = {row.function: row.cmdlet.name for row in TABLE.values() if row.function is not None}
        assert [name for name, cmdlet in here.items() if cmdlet not in getattr(cmdlets, name).__doc__] == []

    def test_the_package_hands_on_what_its_modules_offer(self) -> None:
        modules = [importlib.import_module(name) for name in PUBLIC if name.startswith("cmdlets.")]
        assert cmdlets.__all__ == sorted(name for module in modules for name in module.__all__)

    def test_a_star_import_brings_cmdlets_only(self) -> None:
        namespace: dict[str, Any] = {}
        exec("from cmdlets import *", namespace)
        del namespace["__builtins__"]
        assert set(namespace) == set(cmdlets.__all__)
