"""The ODBC libraries, which need a system package that may be missing.

``pyodbc`` links against unixODBC's ``libodbc.so.2``. A host that keeps its sessions elsewhere must start without it,
so a failed import is only reported when a SQL cache is made.
"""

from __future__ import annotations

from kestrun_py.errors import CacheError

try:
    import aioodbc
    import pyodbc

    _failure: ImportError | None = None
except ImportError as error:  # where unixODBC is not installed: everything but the SQL caches works without
    aioodbc = pyodbc = None
    _failure = error

__all__ = ["aioodbc", "check_odbc", "pyodbc"]


def check_odbc() -> None:
    """Raises `CacheError` if the ODBC libraries could not be loaded."""
    if _failure is not None:
        raise CacheError(
            f"The ODBC driver manager cannot be loaded ({_failure}). Install unixODBC: "
            "'apt install unixodbc', 'dnf install unixODBC' or 'zypper install unixODBC'."
        )
    # The driver manager's own pool would hand a discarded connection out again.
    pyodbc.pooling = False
