"""Path templates by ASP.NET Core's rules: ``/items/{id:int}``, ``/files/{*path}``, ``/hello/{name=you}``.

Literal parts match in any case, and a slash at the end does not matter.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from itertools import zip_longest
from typing import Final, NamedTuple

from kestrun_py.errors import ArgumentError

__all__ = ["PathTemplate"]

Check = Callable[[str], bool]

_PARAMETER: Final = re.compile(
    r"(?P<star>\*{0,2})(?P<name>[^*/{}:=?()\s][^/{}:=?()]*)(?P<constraints>(?::[^:=?(]+(?:\([^)]*\))?)*)"
    r"(?:(?P<optional>\?)|=(?P<default>.*))?"
)
_CONSTRAINT: Final = re.compile(r":(?P<name>[^:(]+)(?:\((?P<argument>[^)]*)\))?")
_TOKEN: Final = re.compile(r"\{([^{}]*)\}")

_INTEGER: Final = r"[+-]?[0-9]{1,20}"
_PATTERNS: Final[dict[str, str]] = {
    "alpha": r"[A-Za-z]+",
    "bool": r"(?i:true|false)",
    "datetime": r"\d{4}-\d{1,2}-\d{1,2}(?:[T ]\d{1,2}:\d{2}(?::\d{2}(?:\.\d+)?)?(?:Z|[+-]\d{2}:\d{2})?)?",
    "decimal": r"[+-]?\d+(?:\.\d+)?",
    "double": r"[+-]?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?",
    "float": r"[+-]?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?",
    "guid": r"\{?[0-9A-Fa-f]{8}-?(?:[0-9A-Fa-f]{4}-?){3}[0-9A-Fa-f]{12}\}?",
    "int": _INTEGER,
    "long": _INTEGER,
}


class PathTemplate:
    """A route's path template, ready to match.

    Args:
        text: The template; starts with a slash.

    Attributes:
        text: The template as given.
        key: What is equal for templates that match the same paths.
        is_literal: Whether it has no parameters, so that `key` is the only path (in lower case) it matches.
        precedence: Templates with smaller values are more specific and are tried first.

    Raises:
        ArgumentError: The template is malformed, names a parameter twice, or uses an unknown constraint.
    """

    def __init__(self, text: str) -> None:
        if not isinstance(text, str) or not text.startswith("/"):
            raise ArgumentError(f"A route pattern starts with '/'; {text!r} does not.")
        self.text = text
        self._names: set[str] = set()  # in lower case
        self._captures: list[str | _Mixture] = []  # what the groups of the expression hold
        self._checks: list[tuple[str, Check]] = []
        self._defaults: dict[str, str] = {}
        parts = text[1:].split("/")
        segments = [self._segment(part) for part in (parts if parts[-1] else parts[:-1])]
        if any(segment.is_rest for segment in segments[:-1]):
            raise self._malformed("a catch-all parameter must be the last segment")
        self.key = "/" + "/".join(segment.key for segment in segments)
        self.precedence = tuple(segment.rank for segment in segments)
        self.is_literal = not any(self.precedence)
        self._regex = re.compile(_join(segments), re.IGNORECASE | re.DOTALL)

    def match(self, path: str) -> dict[str, str] | None:
        """Returns the values of the parameters if the path matches, else None."""
        found = self._regex.fullmatch(path)
        if found is None:
            return None
        values = dict(self._defaults)
        for capture, text in zip(self._captures, found.groups(), strict=True):
            if not text:
                continue
            if isinstance(capture, str):
                values[capture] = text
            elif (parts := capture.split(text)) is not None:
                values.update(parts)
            else:
                return None
        if all(check(values[name]) for name, check in self._checks if name in values):
            return values
        return None

    def _segment(self, text: str) -> _Segment:
        pieces = _TOKEN.split(text)
        literals = pieces[::2]
        if not text:
            raise self._malformed("two slashes follow each other")
        if "?" in "".join(literals):
            raise self._malformed("'?' begins a query, which is no part of a path")
        if "{" in "".join(literals) or "}" in "".join(literals):
            raise self._malformed(f"the braces of {text!r} do not match")
        if len(pieces) == 1:
            return _Segment(re.escape(text), text.lower(), 0)
        if pieces[0] == pieces[-1] == "" and len(pieces) == 3:
            name, segment = self._parameter(pieces[1])
            self._captures.append(name)
            return segment
        if "" in literals[1:-1]:
            raise self._malformed(f"text must separate the parameters of {text!r}")
        key, names = "", []
        for literal, parameter in zip_longest(literals, pieces[1::2]):
            key += literal.lower()
            if parameter is not None:
                name, part = self._parameter(parameter)
                if part.is_optional:
                    raise self._malformed(f"{{{parameter}}} must be a segment of its own")
                key += part.key
                names.append(name)
        self._captures.append(_Mixture([_lower(literal) for literal in literals], names))
        return _Segment("([^/]+)", key, 1)

    def _parameter(self, text: str) -> tuple[str, _Segment]:
        """Takes in a parameter; returns its name, and what it is as a segment of its own."""
        found = _PARAMETER.fullmatch(text)
        if found is None:
            raise self._malformed(f"{{{text}}} is no parameter: {{name}}, {{name:int}}, {{name?}}, {{*rest}}")
        name, constraints, is_rest = found["name"], found["constraints"], bool(found["star"])
        if name.lower() in self._names:
            raise self._malformed(f"the parameter {name!r} appears twice")
        self._names.add(name.lower())
        for constraint in _CONSTRAINT.finditer(constraints):
            self._checks.append((name, self._check(constraint["name"].lower(), constraint["argument"])))
        if found["default"] is not None:
            self._defaults[name] = found["default"]
        is_optional = is_rest or found["optional"] is not None or found["default"] is not None
        rank = (5 if is_rest else 3) - bool(constraints)
        key = f"{{{'*' if is_rest else '?' if is_optional else ''}{constraints}}}"
        return name, _Segment("(.*)" if is_rest else "([^/]+)", key, rank, is_optional, is_rest)

    def _check(self, name: str, argument: str | None) -> Check:
        if argument is None and name in _PATTERNS:
            pattern = re.compile(_PATTERNS[name], re.ASCII)
            if name in ("int", "long"):
                limit = 2 ** (31 if name == "int" else 63)
                return lambda value: pattern.fullmatch(value) is not None and -limit <= int(value) < limit
            return lambda value: pattern.fullmatch(value) is not None
        if argument is None and name == "required":
            return bool
        try:
            if argument is not None and name == "regex":
                expression = re.compile(argument, re.IGNORECASE)
                return lambda value: expression.search(value) is not None
            if argument is not None:
                return _numeric_check(name, [int(number) for number in argument.split(",")])
        except (KeyError, ValueError, re.error):
            pass
        raise self._malformed(f"the constraint {name!r} is not known, or its arguments are wrong")

    def _malformed(self, why: str) -> ArgumentError:
        return ArgumentError(f"The route pattern {self.text!r} is malformed: {why}.")


class _Segment(NamedTuple):
    """A part of a template between slashes: what it matches, and how specific it is (rank 0 is a literal)."""

    regex: str
    key: str
    rank: int
    is_optional: bool = False
    is_rest: bool = False


class _Mixture(NamedTuple):
    """A segment of several parameters, or of one with text beside it: ``{year}-{month}.html``.

    Attributes:
        literals: The text before, between and after the parameters, in lower case.
        names: The names of the parameters.
    """

    literals: list[str]
    names: list[str]

    def split(self, text: str) -> dict[str, str] | None:
        """Returns the parameters' values if the text matches, else None.

        From the right, as ASP.NET Core: each literal is looked for where it stands last. An expression would try
        every way to divide the text, which takes a client's long path minutes.
        """
        first, *between, last = self.literals
        lower = _lower(text)
        end = len(text) - len(last)
        if not (lower.startswith(first) and lower.endswith(last)):
            return None
        values: dict[str, str] = {}
        for name, literal in zip(reversed(self.names[1:]), reversed(between), strict=True):
            at = lower.rfind(literal, len(first), max(end - 1, 0))  # a parameter has at least one character
            if at < 0:
                return None
            values[name] = text[at + len(literal) : end]
            end = at
        if end <= len(first):
            return None
        values[self.names[0]] = text[len(first) : end]
        return values


def _lower(text: str) -> str:
    """The text in lower case, character by character, so that positions stay what they are."""
    if text.isascii():
        return text.lower()
    return "".join(lower if len(lower := char.lower()) == 1 else char for char in text)


def _join(segments: Sequence[_Segment]) -> str:
    """The expression of a whole path. Optional segments may be left out as long as nothing comes after them."""
    pattern, at_end = "", True
    for segment in reversed(segments):
        at_end = at_end and segment.is_optional
        pattern = f"(?:/{segment.regex}{pattern})?" if at_end else f"/{segment.regex}{pattern}"
    return f"{pattern}/?"


def _numeric_check(name: str, numbers: list[int]) -> Check:
    low, high = numbers[0], numbers[-1]
    by_length: dict[tuple[str, int], Check] = {
        ("length", 1): lambda value: len(value) == low,
        ("length", 2): lambda value: low <= len(value) <= high,
        ("minlength", 1): lambda value: len(value) >= low,
        ("maxlength", 1): lambda value: len(value) <= low,
        ("min", 1): lambda value: _is_integer(value) and int(value) >= low,
        ("max", 1): lambda value: _is_integer(value) and int(value) <= low,
        ("range", 2): lambda value: _is_integer(value) and low <= int(value) <= high,
    }
    return by_length[name, len(numbers)]


def _is_integer(value: str) -> bool:
    return re.fullmatch(_INTEGER, value) is not None
