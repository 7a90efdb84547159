"""The ODBC libraries: loaded when a SQL cache is made, which needs a system package that may be missing.

``pyodbc`` links against unixODBC's ``libodbc.so.2``. A host that keeps its sessions elsewhere starts without it, and
does not spend the time to load it.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from kestrun_py.errors import CacheError

if TYPE_CHECKING:
    import aioodbc
    import pyodbc

__all__ = ["aioodbc", "check_odbc", "pyodbc"]


def __getattr__(name: str) -> Any:
    """Loads a library when it is first used (PEP 562)."""
    if name not in ("aioodbc", "pyodbc"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    library = globals()[name] = importlib.import_module(name)
    return library


def check_odbc() -> None:
    """Loads the ODBC libraries.

    Raises:
        CacheError: They cannot be loaded.
    """
    try:
        import aioodbc  # noqa: F401  # imported when used
        import pyodbc  # imported when used
    except ImportError as error:
        raise CacheError(
            f"The ODBC driver manager cannot be loaded ({error}). Install unixODBC: "
            "'apt install unixodbc', 'dnf install unixODBC' or 'zypper install unixODBC'."
        ) from None
    # The driver manager's own pool would hand a discarded connection out again.
    pyodbc.pooling = False
