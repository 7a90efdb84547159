"""Finding the ODBC driver of a database."""

from __future__ import annotations

import importlib.util
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from kestrun_py.caching.sql import _odbc
from kestrun_py.errors import CacheError

__all__ = ["Driver", "find_postgres_driver", "find_sqlserver_driver"]

_MICROSOFT: Final = ("ODBC Driver 18 for SQL Server", "ODBC Driver 17 for SQL Server")
_POSTGRES: Final = ("PostgreSQL Unicode", "PostgreSQL Unicode(x64)", "PostgreSQL", "psqlODBC", "PostgreSQL ANSI")
_FREE_TDS: Final = "FreeTDS"
_ARCHITECTURES: Final = {"aarch64": "arm64", "amd64": "x86_64"}


@dataclass(frozen=True, slots=True)
class Driver:
    """An ODBC driver.

    Attributes:
        name: What follows ``Driver=`` in a connection string: a registered name, or the path of a library.
        free_tds: Whether it is FreeTDS, whose keywords differ from Microsoft's.
    """

    name: str
    free_tds: bool = False


def find_sqlserver_driver() -> Driver:
    """Returns Microsoft's driver (registered, else the one in the ``mssql-python-odbc`` package), else FreeTDS.

    Raises:
        CacheError: There is none; the message tells how to get one.
    """
    _odbc.check_odbc()
    registered = _odbc.pyodbc.drivers()
    for name in _MICROSOFT:
        if name in registered:
            return Driver(name)
    library = _packaged_library()
    if library is not None:
        return Driver(str(library))
    if _FREE_TDS in registered:
        return Driver(_FREE_TDS, free_tds=True)
    raise CacheError(
        f"No ODBC driver for SQL Server was found: none of {_listed((*_MICROSOFT, _FREE_TDS))} is registered "
        f"(registered are: {_listed(registered)}), and {_package_state()}. "
        'Get Microsoft\'s by pip install "kestrun-py[sqlserver]", or by '
        "installing the package msodbcsql18; or FreeTDS by 'apt install tdsodbc'; or name one in the connection "
        "string (Driver=...)."
    )


def find_postgres_driver() -> Driver:
    """Returns PostgreSQL's registered driver.

    Raises:
        CacheError: There is none; the message tells how to get one.
    """
    _odbc.check_odbc()
    registered = _odbc.pyodbc.drivers()
    for name in _POSTGRES:
        if name in registered:
            return Driver(name)
    raise CacheError(
        f"No ODBC driver for PostgreSQL was found: none of {_listed(_POSTGRES)} is registered (registered are: "
        f"{_listed(registered)}). Install it by 'apt install odbc-postgresql' or "
        "'dnf install postgresql-odbc'; or name one in the connection string (Driver=...)."
    )


def _packaged_library() -> Path | None:
    """The driver in the ``mssql-python-odbc`` package, which holds a folder a family of Linux distributions."""
    package = _package()
    if package is None:
        return None
    machine = platform.machine().lower()
    machine = _ARCHITECTURES.get(machine, machine)
    for family in _families():
        found = sorted((package / family / machine / "lib").glob("libmsodbcsql-*.so*"))
        if found:
            return found[-1]
    return None


def _package() -> Path | None:
    """Where the ``mssql-python-odbc`` package has its libraries for Linux."""
    spec = importlib.util.find_spec("mssql_python_odbc")
    return None if spec is None or spec.origin is None else Path(spec.origin).parent / "libs" / "linux"


def _package_state() -> str:
    package = _package()
    if package is None:
        return "the package mssql-python-odbc is not installed"
    return f"the package mssql-python-odbc has none for this machine ({package}, {platform.machine()})"


def _listed(names: Sequence[str]) -> str:
    return ", ".join(f"'{name}'" for name in names) or "none"


def _families() -> Sequence[str]:
    try:
        release = platform.freedesktop_os_release()
    except OSError:
        release = {}
    names = {release.get("ID", ""), *release.get("ID_LIKE", "").split()}
    if "alpine" in names:
        return ("alpine",)
    if names & {"rhel", "fedora", "centos", "amzn"}:
        return ("rhel", "debian_ubuntu")
    if names & {"suse", "opensuse", "sles"}:
        return ("suse", "debian_ubuntu")
    return ("debian_ubuntu", "rhel")
