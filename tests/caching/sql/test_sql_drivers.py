"""Finding ODBC drivers."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pyodbc
import pytest

from kestrun_py.caching.sql import PostgresDialect, SqlServerDialect
from kestrun_py.caching.sql.drivers import Driver, find_postgres_driver, find_sqlserver_driver
from kestrun_py.errors import CacheError

FOUND_18 = "ODBC Driver 18 for SQL Server"
FOUND_17 = "ODBC Driver 17 for SQL Server"


@pytest.fixture
def registered(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    names: list[str] = []
    monkeypatch.setattr(pyodbc, "drivers", lambda: names)
    monkeypatch.setattr(sys, "path", [path for path in sys.path if not Path(path, "mssql_python_odbc").is_dir()])
    return names


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package of the layout of mssql-python-odbc, with a library for three families of distributions."""
    root = tmp_path / "mssql_python_odbc"
    for family in ("debian_ubuntu", "rhel", "alpine"):
        for machine in ("x86_64", "arm64"):
            library = root / "libs" / "linux" / family / machine / "lib" / "libmsodbcsql-18.6.so.2.1"
            library.parent.mkdir(parents=True)
            library.touch()
    (root / "__init__.py").touch()
    # Not syspath_prepend: its undoing would leave the path as `registered` has made it to later tests.
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    monkeypatch.setattr("platform.freedesktop_os_release", lambda: {"ID": "debian"})
    return root / "libs" / "linux"


def test_microsofts_newest_registered_driver_comes_first(registered: list[str], package: Path) -> None:
    registered += ["FreeTDS", FOUND_17, FOUND_18]
    assert find_sqlserver_driver() == Driver(FOUND_18)
    registered.remove(FOUND_18)
    assert find_sqlserver_driver() == Driver(FOUND_17)


@pytest.mark.parametrize(
    ("release", "machine", "place"),
    [
        ({"ID": "debian"}, "x86_64", "debian_ubuntu/x86_64"),
        ({"ID": "linuxmint", "ID_LIKE": "ubuntu debian"}, "aarch64", "debian_ubuntu/arm64"),
        ({"ID": "rocky", "ID_LIKE": "rhel centos fedora"}, "x86_64", "rhel/x86_64"),
        ({"ID": "alpine"}, "x86_64", "alpine/x86_64"),
        ({"ID": "opensuse-leap", "ID_LIKE": "suse opensuse"}, "x86_64", "debian_ubuntu/x86_64"),
        ({"ID": "other"}, "x86_64", "debian_ubuntu/x86_64"),
    ],
)
def test_the_packaged_driver_comes_next(
    registered: list[str],
    package: Path,
    monkeypatch: pytest.MonkeyPatch,
    release: dict[str, str],
    machine: str,
    place: str,
) -> None:
    registered.append("FreeTDS")
    monkeypatch.setattr("platform.machine", lambda: machine)
    monkeypatch.setattr("platform.freedesktop_os_release", lambda: release)
    assert find_sqlserver_driver() == Driver(str(package / place / "lib" / "libmsodbcsql-18.6.so.2.1"))


def test_a_machine_that_the_package_does_not_know_falls_back(
    registered: list[str], package: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    registered.append("FreeTDS")
    monkeypatch.setattr("platform.machine", lambda: "riscv64")
    assert find_sqlserver_driver() == Driver("FreeTDS", free_tds=True)


def test_no_driver_is_an_error_that_tells_how_to_get_one(
    registered: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(CacheError, match=r"pip install \"kestrun-py\[sqlserver\]\".*apt install tdsodbc"):
        SqlServerDialect().settings("Server=s;User Id=u")
    with pytest.raises(CacheError, match="apt install odbc-postgresql"):
        find_postgres_driver()


def test_no_driver_is_an_error_that_tells_where_it_looked(
    registered: list[str], request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(CacheError, match=r"'ODBC Driver 18.*'FreeTDS' is registered \(registered are: none\)"):
        find_sqlserver_driver()
    registered.append("MariaDB")
    with pytest.raises(CacheError, match=r"'PostgreSQL Unicode'.* \(registered are: 'MariaDB'\)"):
        find_postgres_driver()
    with pytest.raises(CacheError, match="the package mssql-python-odbc is not installed"):
        find_sqlserver_driver()
    package: Path = request.getfixturevalue("package")
    monkeypatch.setattr("platform.machine", lambda: "riscv64")
    with pytest.raises(CacheError, match=rf"has none for this machine \({package}, riscv64\)"):
        find_sqlserver_driver()


def test_a_driver_named_in_the_string_is_not_looked_for(registered: list[str]) -> None:
    assert SqlServerDialect().settings("Driver=mine;Server=s").odbc == "Driver=mine;Server=s"


def test_unixodbc_that_is_missing_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyodbc", None)
    with pytest.raises(CacheError, match=r"pyodbc.*apt install unixodbc"):
        find_postgres_driver()
    with pytest.raises(CacheError, match="apt install unixodbc"):
        PostgresDialect().settings("Host=h")


def test_the_odbc_libraries_are_loaded_when_a_cache_is_made() -> None:
    program = """
import sys
import kestrun_py.caching.sql as sql
import kestrun_py.cli
loaded = [name for name in ("pyodbc", "aioodbc") if name in sys.modules]
sql.SqlCache("Host=127.0.0.1", schema_name="s", table_name="t", dialect=sql.PostgresDialect())
print(loaded, [name for name in ("pyodbc", "aioodbc") if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "[] ['pyodbc', 'aioodbc']\n"
