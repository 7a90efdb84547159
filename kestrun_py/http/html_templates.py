"""HTML templates with ``{{name}}`` (Kestrun's ``Write-KrHtmlResponse``)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

__all__ = ["render_template"]

_PLACEHOLDER: Final = re.compile(r"\{\{(.+?)\}\}", re.DOTALL)


def render_template(template: str, variables: Mapping[str, object]) -> str:
    """Replaces ``{{name}}`` and ``{{name.part}}``; the case of names does not matter.

    A name that is not there, or None, stays. Values go in as they are: escape what users typed.
    """

    def value_of(found: re.Match[str]) -> str:
        path = found[1].strip()
        value = _resolve(path, variables)
        return f"{{{{{path}}}}}" if value is None else str(value)

    return _PLACEHOLDER.sub(value_of, template)


def _resolve(path: str, variables: Mapping[str, object]) -> object | None:
    current: object = variables
    for name in path.split("."):
        current = _member(current, name)
        if current is None:
            return None
    return current


def _member(value: Any, name: str) -> Any:
    if isinstance(value, Mapping):
        if name in value:
            return value[name]
        folded = name.casefold()
        return next((item for key, item in value.items() if str(key).casefold() == folded), None)
    return None if name.startswith("_") else getattr(value, name, None)
