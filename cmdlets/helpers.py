"""The helper cmdlets: paths, objects, YAML."""

from __future__ import annotations

import os
import sys
from pprint import pformat
from typing import Any, Literal, TypeAlias, overload

from cmdlets._arguments import MISSING
from cmdlets._pipe import Pending, pipe
from kestrun_py import roots
from kestrun_py.errors import ArgumentError
from kestrun_py.serialization.plain import members_of

__all__ = [
    "convert_from_kr_yaml",
    "convert_to_kr_yaml",
    "expand_kr_object",
    "get_kr_root",
    "initialize_kr_root",
    "resolve_kr_path",
]

ConsoleColor: TypeAlias = Literal["Black", "Blue", "Cyan", "Gray", "Green", "Magenta", "Red", "White", "Yellow"]


def initialize_kr_root(path: str | os.PathLike[str], *, pass_thru: bool = False) -> str | None:
    """Makes a folder the one that relative paths are below (Initialize-KrRoot).

    Args:
        path: The folder; ``~`` is the user's home folder. A sample writes ``Path(__file__).parent``.
        pass_thru: Return its absolute path.

    Raises:
        ArgumentError: There is no such folder.
    """
    folder = roots.initialize_root(path)
    return str(folder) if pass_thru else None


def get_kr_root() -> str:
    """Returns the folder that relative paths are below (Get-KrRoot); the current one until it is set."""
    return str(roots.root())


def resolve_kr_path(
    path: str | os.PathLike[str],
    *,
    relative_base_path: str | os.PathLike[str] | None = None,
    kestrun_root: bool = False,
    test: bool = False,
) -> str:
    """Returns a path as an absolute one (Resolve-KrPath). ``~`` and ``$NAME`` are expanded.

    Args:
        path: The path.
        relative_base_path: What a relative path is below; the current folder if left out.
        kestrun_root: It is below the folder of `initialize_kr_root`.
        test: Return `path` as it was given if there is nothing at the resolved one.

    Raises:
        ArgumentError: Both bases are given.
    """
    if kestrun_root and relative_base_path is not None:
        raise ArgumentError("resolve_kr_path takes relative_base_path or kestrun_root, not both.")
    return str(roots.resolve_path(path, relative_base_path=relative_base_path, kestrun_root=kestrun_root, test=test))


@overload
def expand_kr_object(input_object: object = ..., *, label: str | None = ..., pass_thru: Literal[True]) -> str: ...
@overload
def expand_kr_object(
    input_object: object = ..., *, foreground_color: ConsoleColor | None = ..., label: str | None = ...
) -> None: ...
def expand_kr_object(
    input_object: object = None,
    *,
    foreground_color: ConsoleColor | None = None,
    label: str | None = None,
    pass_thru: bool = False,
) -> str | None:
    """Prints a value with its type and members, for looking at it while a script is written (Expand-KrObject).

    Args:
        input_object: The value.
        foreground_color: The color on a terminal.
        label: A name that is printed before it.
        pass_thru: Return the text instead of printing it.
    """
    text = (
        "\tNull Value" if input_object is None else f"\tTypeName: {type(input_object).__name__}\n{_shown(input_object)}"
    )
    if label:
        text = f"\tName: {label} {text}"
    if pass_thru:
        return text
    import click  # imported when used

    click.secho(text, fg=foreground_color.lower() if foreground_color else None, file=sys.stdout)
    return None


def _shown(value: object) -> str:
    members = members_of(value)
    if members is None:
        return pformat(value)
    width = max((len(str(name)) for name in members), default=0)
    return "\n".join(f"{name!s:<{width}} : {pformat(item)}" for name, item in members.items())


@overload
def convert_to_kr_yaml(input_object: object) -> str: ...
@overload
def convert_to_kr_yaml() -> Pending[object, str]: ...
def convert_to_kr_yaml(input_object: object = MISSING) -> str | Pending[object, str]:
    """Returns a value as YAML (ConvertTo-KrYaml). Without `input_object` it takes it from a pipe.

    Args:
        input_object: Anything made of mappings, lists, data classes, objects and scalars.

    Raises:
        ArgumentError: The value contains itself.
    """
    from kestrun_py.serialization.yaml import to_yaml  # imported when used

    return pipe("convert_to_kr_yaml", object, input_object, lambda value: to_yaml(value).decode())


@overload
def convert_from_kr_yaml(yaml: str, *, all_documents: bool = ...) -> Any: ...
@overload
def convert_from_kr_yaml(*, yaml_bytes: bytes, all_documents: bool = ...) -> Any: ...
@overload
def convert_from_kr_yaml(*, all_documents: bool = ...) -> Pending[str, Any]: ...
def convert_from_kr_yaml(yaml: str = MISSING, *, yaml_bytes: bytes | None = None, all_documents: bool = False) -> Any:
    """Returns the value of a YAML text (ConvertFrom-KrYaml). Without `yaml` and `yaml_bytes` it takes it from a pipe.

    Args:
        yaml: The text.
        yaml_bytes: Instead, the text as UTF-8.
        all_documents: Return the list of all documents; otherwise there must be one.

    Raises:
        ArgumentError: It is not YAML, or uses aliases.
    """
    from kestrun_py.serialization.yaml import from_yaml  # imported when used

    if yaml_bytes is not None:
        if yaml is not MISSING:
            raise ArgumentError("convert_from_kr_yaml takes yaml or yaml_bytes, not both.")
        return from_yaml(yaml_bytes, all_documents=all_documents)
    return pipe("convert_from_kr_yaml", str, yaml, lambda text: from_yaml(text, all_documents=all_documents))
