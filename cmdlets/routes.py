"""The route cmdlet: Add-KrMapRoute."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal, TypeAlias, TypedDict, TypeVar, Unpack, overload

from cmdlets._arguments import MISSING, alias
from kestrun_py.errors import ArgumentError
from kestrun_py.host import KestrunHost
from kestrun_py.host_registry import resolve_host
from kestrun_py.routing.options import SessionAccessText
from kestrun_py.routing.table import DuplicateAction, DuplicateActionText, HttpVerb
from kestrun_py.sessions import SessionAccess

__all__ = ["add_kr_map_route"]

F = TypeVar("F", bound=Callable[..., Any])
Verbs: TypeAlias = HttpVerb | str | Iterable[HttpVerb | str]


class _Route(TypedDict, total=False):
    """What all forms of `add_kr_map_route` take besides the script."""

    verbs: Verbs
    arguments: Mapping[str, Any] | None
    endpoints: str | Iterable[str]
    session_access: SessionAccess | SessionAccessText
    allow_duplicate: bool
    duplicate_action: DuplicateAction | DuplicateActionText
    server: KestrunHost | None
    path: str
    method: Verbs
    language: Literal["Python"]


@overload
def add_kr_map_route(
    pattern: str = ..., *, script_block: Callable[..., Any], **route: Unpack[_Route]
) -> KestrunHost: ...
@overload
def add_kr_map_route(pattern: str = ..., *, code: str, **route: Unpack[_Route]) -> KestrunHost: ...
@overload
def add_kr_map_route(pattern: str = ..., *, code_block: str, **route: Unpack[_Route]) -> KestrunHost: ...
@overload
def add_kr_map_route(
    pattern: str = ..., *, code_file_path: str | os.PathLike[str], **route: Unpack[_Route]
) -> KestrunHost: ...
@overload
def add_kr_map_route(pattern: str = ..., **route: Unpack[_Route]) -> _Decorator: ...
def add_kr_map_route(
    pattern: str = "/",
    *,
    verbs: Verbs = "Get",
    script_block: Callable[..., Any] | None = None,
    code: str | None = None,
    code_file_path: str | os.PathLike[str] | None = None,
    language: Literal["Python"] = "Python",
    arguments: Mapping[str, Any] | None = None,
    endpoints: str | Iterable[str] = (),
    session_access: SessionAccess | SessionAccessText = "read_write",
    allow_duplicate: bool = False,
    duplicate_action: DuplicateAction | DuplicateActionText = "Throw",
    server: KestrunHost | None = None,
    path: str = MISSING,
    method: Verbs = MISSING,
    code_block: str | None = MISSING,
) -> KestrunHost | _Decorator:
    """Maps a route to a script (Add-KrMapRoute). Without a script it is a decorator for one.

    Example:
        @add_kr_map_route("/hello", verbs="Get")
        def hello():
            write_kr_text_response("Hello")

    Args:
        pattern: The path template (also `path`); starts with a slash.
        verbs: One verb or several (also `method`).
        script_block: The script: a function with no parameter, or with one named ``context``.
        code: Instead, source text with ``context`` in scope (also `code_block`).
        code_file_path: Instead, a file with such text.
        language: The language of `code`; Python.
        arguments: Values for further parameters of the function, or for names in the text.
        endpoints: The listeners that the route is for, as `add_kr_endpoint` returned them; all if empty.
        session_access: ``"read_only"`` reads the session without its lock, and refuses writes.
        allow_duplicate: Short for ``duplicate_action="Allow"``.
        duplicate_action: Throw, Skip, Allow or Warn.
        server: The host.

    Returns:
        The host; as a decorator, the function.

    Raises:
        ArgumentError: A malformed pattern, script or argument.
        InvalidOperationError: The route exists already.
    """
    if language.casefold() != "python":
        raise ArgumentError(f"language must be Python, not {language!r}.")
    if callable(pattern):
        raise ArgumentError('add_kr_map_route needs a pattern: write @add_kr_map_route("/path") before the function.')
    source = alias(code, None, "code", code_block=code_block)
    route = _Decorator(
        resolve_host(server),
        pattern=alias(pattern, "/", "pattern", path=path),
        verbs=alias(verbs, "Get", "verbs", method=method),
        code=source,
        code_file_path=code_file_path,
        arguments=arguments,
        endpoints=endpoints,
        session_access=session_access,
        allow_duplicate=allow_duplicate,
        duplicate_action=duplicate_action,
    )
    given = (script_block, source, code_file_path)
    return route if given == (None, None, None) else route.map(script_block)


class _Decorator:
    """Maps the function that it is put before."""

    def __init__(self, host: KestrunHost, **route: Any) -> None:
        self._host = host
        self._route = route
        self._used = False

    def map(self, script: Callable[..., Any] | None) -> KestrunHost:
        self._used = True
        return self._host.add_map_route(script=script, **self._route)

    def __call__(self, script: F) -> F:
        self.map(script)
        return script

    def __del__(self) -> None:
        # without this a call whose script was forgotten would silently map nothing
        if not self._used:
            warnings.warn(
                "add_kr_map_route mapped nothing: give it script_block, code or code_file_path, or put it before a "
                "function with @.",
                RuntimeWarning,
                stacklevel=2,
            )
