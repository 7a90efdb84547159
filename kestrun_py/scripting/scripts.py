"""Route scripts: a function, or source text, run on the event loop or in a worker thread."""

from __future__ import annotations

import ast
import inspect
import linecache
import textwrap
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any, Final

from kestrun_py.errors import ArgumentError
from kestrun_py.http.context import RequestContext
from kestrun_py.scripting.findings import Finding, find_mistakes

__all__ = ["Script"]

_numbers: Final = count(1)


class Script:
    """What a route runs.

    Attributes:
        name: What log lines call it.
        is_async: Whether it runs on the event loop; otherwise it runs in a worker thread.
        call: Runs it for a context; of an asynchronous one it returns the coroutine.
        findings: The mistakes that show before it runs.
    """

    __slots__ = ("call", "findings", "is_async", "name")

    def __init__(
        self, name: str, call: Callable[[RequestContext], Any], *, is_async: bool, findings: Sequence[Finding] = ()
    ) -> None:
        self.name = name
        self.is_async = is_async
        self.findings = findings
        self.call = call

    @classmethod
    def from_function(cls, function: Callable[..., Any], arguments: Mapping[str, Any] | None = None) -> Script:
        """Makes a script of a function with no parameter, or with one named ``context``.

        Args:
            function: A ``def`` or ``async def`` function.
            arguments: Values for further parameters, by name.

        Raises:
            ArgumentError: It is no function, or it has parameters of other names.
        """
        if not callable(function):
            raise ArgumentError(f"A route script must be a function, not {type(function).__name__}.")
        given = dict(arguments or {})
        name = getattr(function, "__qualname__", type(function).__qualname__)
        if inspect.isgeneratorfunction(_unwrapped(function)) or inspect.isasyncgenfunction(_unwrapped(function)):
            raise ArgumentError(f"The route script {name} is a generator, which would not run: leave out yield.")
        parameters = _parameters(function, name)
        unknown = [
            parameter.name
            for parameter in parameters
            if parameter.name not in given and parameter.name != "context" and parameter.default is parameter.empty
        ]
        if unknown:
            raise ArgumentError(
                f"The route script {name} takes {', '.join(unknown)}; a script has no parameter, or one named context "
                "(others are given through arguments={...})."
            )
        if any(parameter.kind is parameter.POSITIONAL_ONLY for parameter in parameters):
            raise ArgumentError(
                f"The route script {name} takes context before '/'; it is given by name: leave out '/'."
            )
        names = {parameter.name for parameter in parameters}
        if given:
            unused = given.keys() - names
            if unused:
                raise ArgumentError(f"The route script {name} has no parameter {', '.join(sorted(unused))}.")
            function = partial(function, **given)
        takes_context = "context" in names - given.keys()
        call = (lambda context: function(context=context)) if takes_context else (lambda _: function())
        plain = inspect.unwrap(_unwrapped(function))
        code = getattr(plain, "__code__", None)
        findings = find_mistakes(code, plain.__globals__) if code is not None else ()
        return cls(name, call, is_async=_is_async(function), findings=findings)

    @classmethod
    def from_source(
        cls, source: str, filename: str | None = None, arguments: Mapping[str, Any] | None = None
    ) -> Script:
        """Makes a script of Python source text, compiled once; ``context`` and `arguments` are in scope.

        Text that uses ``await`` at its top level runs on the event loop.

        Raises:
            ArgumentError: The text does not compile; the message has the line.
        """
        name = filename or f"<route script {next(_numbers)}>"
        if not isinstance(source, str) or not source.strip():
            raise ArgumentError(f"The route script {name} is empty; give Python source text.")
        text = textwrap.dedent(source)
        try:
            code = compile(text, name, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)
        except (SyntaxError, ValueError) as error:
            raise ArgumentError(f"The route script {name} does not compile: {error}.") from None
        if filename is None:  # so that a traceback shows the script's own lines
            linecache.cache[name] = (len(text), None, text.splitlines(keepends=True), name)
        scope = {"__name__": "__route__", "__file__": name, **(arguments or {})}

        def call(context: RequestContext) -> Any:
            return eval(code, {**scope, "context": context})

        findings = find_mistakes(code, {**scope, "context": None}, text)
        return cls(name, call, is_async=bool(code.co_flags & inspect.CO_COROUTINE), findings=findings)

    @classmethod
    def from_file(cls, path: str | Path, arguments: Mapping[str, Any] | None = None) -> Script:
        """Makes a script of a Python file.

        Raises:
            ArgumentError: The file cannot be read, is no ``.py`` file, or does not compile.
        """
        file = Path(path)
        if file.suffix.lower() != ".py":
            raise ArgumentError(f"The code file {str(path)!r} must be a .py file.")
        try:
            source = file.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else error
            raise ArgumentError(f"The code file {str(file.absolute())!r} cannot be read: {reason}.") from None
        return cls.from_source(source, str(file.absolute()), arguments)


def _parameters(function: Callable[..., Any], name: str) -> list[inspect.Parameter]:
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        raise ArgumentError(
            f"The parameters of the route script {name} cannot be read; give a plain function."
        ) from None
    variable = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return [parameter for parameter in parameters if parameter.kind not in variable]


def _unwrapped(function: Any) -> Any:
    while isinstance(function, partial):
        function = function.func
    return function


def _is_async(function: Any) -> bool:
    plain = _unwrapped(function)
    return inspect.iscoroutinefunction(plain) or inspect.iscoroutinefunction(type(plain).__call__)
