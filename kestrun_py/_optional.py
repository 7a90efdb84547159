"""Packages that only some hosts need: they are imported when used."""

from __future__ import annotations

import importlib
from typing import Any

from kestrun_py.errors import MissingExtraError

__all__ = ["import_extra"]


def import_extra(module: str, extra: str) -> Any:
    """Imports the module of an optional dependency.

    Raises:
        MissingExtraError: It is not installed; the message says how to install it.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is not None and error.name.split(".")[0] != module.split(".")[0]:
            raise
        raise MissingExtraError(f"The package {module} is not installed: pip install 'kestrun-py[{extra}]'.") from None
