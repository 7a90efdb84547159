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

import pytest

import cmdlets
import kestrun_py
from kestrun_py import errors

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
    @pytest.mark.parametrize("name", PUBLIC)
    def test_every_public_module_names_its_public_things_in_order(self, name: str) -> None:
        module = importlib.import_module(name)
        declared = module.__all__
        assert [missing for missing in declared if not hasattr(module, missing)] == []
        assert len(set(declared)) == len(declared)
        assert module.__doc__

    @pytest.mark.parametrize("name", PUBLIC)
    def test_nothing_public_is_forgotten(self, name: str) -> None:
        module = importlib.import_module(name)
        assert set(own_names(module)) - set(module.__all__) == set()

    @pytest.mark.parametrize("name", [name for name in PUBLIC if hasattr(importlib.import_module(name), "__path__")])
    def test_packages_hand_on_what_exists(self, name: str) -> None:
        namespace: dict[str, Any] = {}
        exec(f"from {name} import *", namespace)
        assert set(importlib.import_module(name).__all__) <= set(namespace)

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


def imports_of(module: str) -> set[str]:
    """The modules of this project that a module imports, wherever the import stands."""
    found = importlib.util.find_spec(module)
    assert found is not None
    assert found.origin is not None
    names: set[str] = set()
    for node in ast.walk(ast.parse(Path(found.origin).read_text(encoding="utf-8"))):
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


class TestImports:
    def test_there_are_no_circles(self) -> None:
        list(TopologicalSorter(IMPORTS).static_order())  # raises CycleError, which names them

    @pytest.mark.parametrize("module", [name for name in MODULES if name.startswith("kestrun_py")])
    def test_the_host_knows_nothing_of_cmdlets_samples_and_tests(self, module: str) -> None:
        assert {name for name in IMPORTS[module] if not name.startswith("kestrun_py")} == set()

    @pytest.mark.parametrize("module", MODULES)
    def test_imports_run_one_way(self, module: str) -> None:
        upwards = {name for name in IMPORTS[module] if row_of(name) < row_of(module)}
        assert upwards == set()

    def test_each_module_stands_in_one_row(self) -> None:
        named = [part for row in ROWS for part in row]
        assert sorted(named) == sorted({part_of(name) for name in MODULES if name.startswith("kestrun_py")})

    @pytest.mark.parametrize("module", [name for name in MODULES if not name.startswith("kestrun_py.cli")])
    def test_nobody_needs_the_command_line(self, module: str) -> None:
        assert {name for name in IMPORTS[module] if name.startswith("kestrun_py.cli")} == set()

    @pytest.mark.parametrize("module", MODULES)
    def test_no_import_hides_in_a_function(self, module: str) -> None:
        found = importlib.util.find_spec(module)
        assert found is not None
        assert found.origin is not None
        tree = ast.parse(Path(found.origin).read_text(encoding="utf-8"))
        functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
        hidden = [
            node.lineno for f in functions for node in ast.walk(f) if isinstance(node, ast.Import | ast.ImportFrom)
        ]
        assert hidden == []


# Kestrun's cmdlets and parameters that have a counterpart. -PassThru has none, and neither have those that concern
# other languages, authentication, or what Python does by itself (-ExcludeVariables).
KESTRUN = """
New-KrServer Name Logger LoggerName Default Environment Force
Get-KrServer Server StartTime StopTime Uptime
Remove-KrServer Name Force
Start-KrServer Server NoWait Quiet CloseLogsOnExit
Stop-KrServer Server NoWait Quiet
Add-KrEndpoint Port IPAddress HostName Uri AddressFamily CertPath CertPassword SelfSignedCert X509Certificate Protocols
Add-KrListenUnixSocket Server SocketPath
Enable-KrConfiguration Server Quiet
Set-KrServerOptions MaxRunspaces MinRunspaces DenyServerHeader
Add-KrMapRoute Server Verbs Pattern ScriptBlock Code CodeFilePath Language Arguments Endpoints AllowDuplicate
Get-KrRequestQuery Name AsInt AsBool AsDouble AsString ThrowIfMissing
Get-KrRequestHeader Name AsInt AsBool AsDouble AsString ThrowIfMissing
Get-KrRequestCookie Name AsInt AsBool AsDouble AsString ThrowIfMissing
Get-KrRequestRouteParam Name AsInt AsBool AsDouble AsString ThrowIfMissing
Get-KrRequestBody Raw Type
Write-KrJsonResponse InputObject StatusCode Depth Compress ContentType
Write-KrTextResponse InputObject StatusCode ContentType
Write-KrStatusResponse StatusCode
Write-KrErrorResponse Message Exception StatusCode ContentType Details IncludeStack
Write-KrHtmlResponse FilePath Template StatusCode Variables
Write-KrRedirectResponse Url Message
New-KrLogger
Set-KrLoggerLevel LoggerConfig Value Dynamic
Add-KrSinkConsole LoggerConfig RestrictedToMinimumLevel OutputTemplate StandardErrorFromLevel Formatter
Add-KrSinkFile LoggerConfig Path RollingInterval OutputTemplate Formatter RestrictedToMinimumLevel
Register-KrLogger Name LoggerConfig SetAsDefault
Write-KrLog Level Message Values LoggerName Logger Exception
Close-KrLogger Logger LoggerName DefaultLogger
New-KrCookieBuilder Name Domain Path HttpOnly IsEssential MaxAge Expiration SecurePolicy SameSite Extensions
Add-KrSession Server Options Cookie IdleTimeout IOTimeout NoDistributedMemoryCache MemoryCacheOptions
Add-KrDistributedRedisCache Server ConfigurationOptions Configuration InstanceName
Add-KrDistributedSqlServerCache Server ConnectionString SchemaName TableName DefaultSlidingExpiration
Get-KrSessionString Key
Set-KrSessionString Key Value
Get-KrSessionInt32 Key
Set-KrSessionInt32 Key Value
Get-KrSessionByte Key
Set-KrSessionByte Key Value
Remove-KrSession Key
Clear-KrSession
"""
OWN = [
    "get_kr_context",
    "get_kr_session_json",
    "set_kr_session_json",
    "renew_kr_session",
    "abandon_kr_session",
    "get_kr_session_id",
    "add_kr_data_protection",
    "add_kr_distributed_postgres_cache",
]
ALIASES = [
    ("get_kr_request_query", "as_boolean"),
    ("get_kr_request_header", "as_boolean"),
    ("get_kr_request_cookie", "as_boolean"),
    ("get_kr_request_route_param", "as_boolean"),
    ("add_kr_map_route", "path"),
    ("add_kr_map_route", "method"),
    ("add_kr_map_route", "code_block"),
    ("write_kr_text_response", "text"),
    ("set_kr_logger_level", "level"),
    ("add_kr_endpoint", "self_signed"),
    ("add_kr_endpoint", "self_signed_certificate"),
]


def snake_case(name: str) -> str:
    """The naming rule: an underscore before each capital, but some words are kept whole."""
    kept = {"IPAddress": "ip_address", "IOTimeout": "io_timeout", "SqlServer": "sqlserver", "X509": "x509_"}
    for word, text in kept.items():
        name = name.replace(word, text.capitalize())
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower().replace("__", "_")


class TestCmdlets:
    @pytest.mark.parametrize("line", KESTRUN.strip().splitlines(), ids=lambda line: line.split()[0])
    def test_kestruns_cmdlets_and_parameters_are_here_by_the_naming_rule(self, line: str) -> None:
        cmdlet, *parameters = line.split()
        name = "_".join(map(snake_case, cmdlet.split("-")))
        assert name in cmdlets.__all__
        known = inspect.signature(getattr(cmdlets, name)).parameters
        assert [parameter for parameter in parameters if snake_case(parameter) not in known] == []

    def test_and_no_others_but_ours(self) -> None:
        kestruns = {"_".join(map(snake_case, line.split()[0].split("-"))) for line in KESTRUN.strip().splitlines()}
        assert {*cmdlets.__all__} == {*kestruns, *OWN}

    @pytest.mark.parametrize(("name", "parameter"), ALIASES)
    def test_aliases_are_keywords(self, name: str, parameter: str) -> None:
        assert parameter in inspect.signature(getattr(cmdlets, name)).parameters

    @pytest.mark.parametrize("name", [name for name in cmdlets.__all__ if name not in OWN])
    def test_each_docstring_names_its_kestrun_cmdlet(self, name: str) -> None:
        verb, noun = name.split("_kr_")
        named = re.search(rf"\b{verb}-Kr(\w+)|\((\w+-Kr\w+)\)", inspect.getdoc(getattr(cmdlets, name)) or "", re.I)
        assert named, name
        assert snake_case(named.group(1) or named.group(2).partition("-Kr")[2]).removeprefix("_") == noun

    def test_the_package_hands_on_what_its_modules_offer(self) -> None:
        modules = [importlib.import_module(name) for name in PUBLIC if name.startswith("cmdlets.")]
        assert cmdlets.__all__ == sorted(name for module in modules for name in module.__all__)

    def test_a_star_import_brings_cmdlets_only(self) -> None:
        namespace: dict[str, Any] = {}
        exec("from cmdlets import *", namespace)
        del namespace["__builtins__"]
        assert set(namespace) == set(cmdlets.__all__)
