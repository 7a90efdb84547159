"""Path templates by ASP.NET Core's rules: ``/items/{id:int}``, ``/files/{*path}``, ``/hello/{name=you}``.

Literal parts match in any case, and a slash at the end does not matter.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Final

from kestrun_py.errors import ArgumentError

__all__ = ["PathTemplate"]

Check = Callable[[str], bool]

_PARAMETER: Final = re.compile(
    r"(?P<star>\*{0,2})(?P<name>[^\W\d]\w*)(?P<constraints>(?::[^:=?(]+(?:\([^)]*\))?)*)"
    r"(?:(?P<optional>\?)|=(?P<default>.*))?"
)
_CONSTRAINT: Final = re.compile(r":(?P<name>[^:(]+)(?:\((?P<argument>[^)]*)\))?")
_TOKEN: Final = re.compile(r"\{([^{}]*)\}")

_PATTERNS: Final[dict[str, str]] = {
    "alpha": r"[A-Za-z]+",
    "bool": r"(?i:true|false)",
    "datetime": r"\d{4}-\d{1,2}-\d{1,2}(?:[T ]\d{1,2}:\d{2}(?::\d{2}(?:\.\d+)?)?(?:Z|[+-]\d{2}:\d{2})?)?",
    "decimal": r"[+-]?\d+(?:\.\d+)?",
    "double": r"[+-]?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?",
    "float": r"[+-]?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?",
    "guid": r"\{?[0-9A-Fa-f]{8}-?(?:[0-9A-Fa-f]{4}-?){3}[0-9A-Fa-f]{12}\}?",
    "int": r"[+-]?\d+",
    "long": r"[+-]?\d+",
}


class PathTemplate:
    """A route's path template, ready to match.

    Args:
        text: The template; starts with a slash.

    Attributes:
        text: The template as given.
        key: What is equal for templates that match the same paths.
        is_literal: Whether it has no parameters, so that `key` is the only path (folded) it matches.
        precedence: Templates with smaller values are more specific and are tried first.

    Raises:
        ArgumentError: The template is malformed, names a parameter twice, or uses an unknown constraint.
    """

    def __init__(self, text: str) -> None:
        if not text.startswith("/"):
            raise ArgumentError(f"A route pattern starts with '/'; {text!r} does not.")
        self.text = text
        self._checks: dict[str, list[Check]] = {}
        self._defaults: dict[str, str] = {}
        segments = [segment for segment in text.split("/") if segment]
        ranks: list[int] = []
        parts: list[str] = []
        keys: list[str] = []
        for index, segment in enumerate(segments):
            part, key, rank = self._segment(segment, is_last=index == len(segments) - 1)
            parts.append(part)
            keys.append(key)
            ranks.append(rank)
        self.is_literal = not any(ranks)
        self.key = "/" + "/".join(keys)
        self.precedence = tuple(ranks)
        self._regex = re.compile("".join(parts) + "/?", re.IGNORECASE)

    def match(self, path: str) -> Mapping[str, str] | None:
        """Returns the values of the parameters if the path matches, else None."""
        found = self._regex.fullmatch(path)
        if found is None:
            return None
        values = self._defaults | {name: value for name, value in found.groupdict().items() if value}
        for name, checks in self._checks.items():
            if name in values and not all(check(values[name]) for check in checks):
                return None
        return values

    def _segment(self, segment: str, *, is_last: bool) -> tuple[str, str, int]:
        """Returns a segment's regular expression, its part of the key, and its rank (0 is a literal)."""
        pieces = _TOKEN.split(segment)
        if "{" in "".join(pieces[::2]) or "}" in "".join(pieces[::2]):
            raise self._malformed(f"the braces of {segment!r} do not match")
        if len(pieces) == 1:
            return f"/{re.escape(segment)}", segment.casefold(), 0
        if len(pieces) == 3 and not pieces[0] and not pieces[2]:
            return self._whole_segment(pieces[1], is_last=is_last)
        regex, key = "", ""
        for index, piece in enumerate(pieces):
            if index % 2 == 0:
                regex += re.escape(piece)
                key += piece.casefold()
            else:
                name, constrained, star, optional = self._parameter(piece)
                if star or optional:
                    raise self._malformed(f"{{{piece}}} must be a segment of its own")
                regex += f"(?P<{name}>[^/]+?)"
                key += "{:}" if constrained else "{}"
        return f"/{regex}", key, 1

    def _whole_segment(self, text: str, *, is_last: bool) -> tuple[str, str, int]:
        name, constrained, star, optional = self._parameter(text)
        if (star or optional) and not is_last:
            raise self._malformed(f"{{{text}}} must be the last segment")
        if star:
            return f"(?:/(?P<{name}>.*))?", "{*}", 4 if constrained else 5
        if optional:
            return f"(?:/(?P<{name}>[^/]+))?", "{?}", 2 if constrained else 3
        key = f"{{{text.partition(':')[2]}}}" if constrained else "{}"
        return f"/(?P<{name}>[^/]+)", key, 2 if constrained else 3

    def _parameter(self, text: str) -> tuple[str, bool, bool, bool]:
        """Takes in a parameter: its name, and whether it is constrained, a catch-all, optional."""
        found = _PARAMETER.fullmatch(text)
        if found is None:
            raise self._malformed(f"{{{text}}} is no parameter: {{name}}, {{name:int}}, {{name?}}, {{*rest}}")
        name = found["name"]
        if name in self._checks:
            raise self._malformed(f"the parameter {name!r} appears twice")
        self._checks[name] = [
            self._check(constraint["name"], constraint["argument"])
            for constraint in _CONSTRAINT.finditer(found["constraints"])
        ]
        if found["default"] is not None:
            self._defaults[name] = found["default"]
        optional = found["optional"] is not None or found["default"] is not None
        return name, bool(found["constraints"]), bool(found["star"]), optional

    def _check(self, name: str, argument: str | None) -> Check:
        if argument is None and name in _PATTERNS:
            pattern = re.compile(_PATTERNS[name])
            if name in ("int", "long"):
                limit = 2 ** (31 if name == "int" else 63)
                return lambda value: pattern.fullmatch(value) is not None and -limit <= int(value) < limit
            return lambda value: pattern.fullmatch(value) is not None
        if argument is None and name == "required":
            return bool
        if argument is not None:
            if name == "regex":
                expression = re.compile(argument, re.IGNORECASE)
                return lambda value: expression.search(value) is not None
            try:
                return _numeric_check(name, [int(number) for number in argument.split(",")])
            except (KeyError, ValueError, TypeError):
                pass
        raise self._malformed(f"the constraint {name!r} is not known, or its arguments are wrong")

    def _malformed(self, why: str) -> ArgumentError:
        return ArgumentError(f"The route pattern {self.text!r} is malformed: {why}.")


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
    return re.fullmatch(_PATTERNS["long"], value) is not None and len(value) <= 20
