"""The folder that a host's relative paths are below (Kestrun's ``KestrunRoot``)."""

from __future__ import annotations

import os
from pathlib import Path

from kestrun_py.errors import ArgumentError

__all__ = ["initialize_root", "resolve_path", "root"]

_root: Path | None = None


def initialize_root(path: str | os.PathLike[str]) -> Path:
    """Makes a folder the one that relative paths are below; ``~`` is the user's home folder.

    Raises:
        ArgumentError: There is no such folder.
    """
    global _root
    folder = _expanded(path).resolve()
    if not folder.is_dir():
        raise ArgumentError(f"There is no folder {folder}.")
    _root = folder
    return folder


def root() -> Path:
    """The folder that `initialize_root` has set; the current one before that."""
    return Path.cwd() if _root is None else _root


def resolve_path(
    path: str | os.PathLike[str],
    *,
    relative_base_path: str | os.PathLike[str] | None = None,
    kestrun_root: bool = False,
    test: bool = False,
) -> Path:
    """Returns a path as an absolute one without ``.`` and ``..``; ``~`` and ``$NAME`` are expanded.

    It may lead out of the base: for paths that a client names use static files.

    Args:
        path: The path; backslashes count as slashes.
        relative_base_path: What a relative path is below; the current folder if left out.
        kestrun_root: It is below `root`.
        test: Return `path` as it was given if there is nothing at the resolved one.
    """
    base = root() if kestrun_root else Path.cwd() if relative_base_path is None else _expanded(relative_base_path)
    resolved = Path(os.path.abspath(base / _expanded(path)))
    return Path(path) if test and not resolved.exists() else resolved


def _expanded(path: str | os.PathLike[str]) -> Path:
    text = os.fspath(path)
    if "\0" in text:
        raise ArgumentError("A path must not hold a NUL character.")
    return Path(os.path.expandvars(text if os.sep == "\\" else text.replace("\\", "/"))).expanduser()
