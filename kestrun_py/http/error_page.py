"""The HTML page of an error, for browsers: self-contained, light or dark as the browser asks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from html import escape
from typing import Any, Final

__all__ = ["Section", "render_page"]

Section = tuple[str, str]
"""A heading and the text below it."""

_STYLE: Final = (
    ":root{color-scheme:light dark}"
    "body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:3rem auto;padding:0 1rem}"
    "h1{font-size:1.5rem}h2{font-size:1rem;margin:1.5rem 0 .25rem}"
    "pre{overflow:auto;padding:.75rem;border:1px solid color-mix(in srgb,currentColor 25%,transparent);"
    "border-radius:.25rem;font-size:.875rem}"
    "p.request{opacity:.7}"
)


def render_page(fields: Mapping[str, Any], sections: Iterable[Section] = ()) -> bytes:
    """Returns the page of an error as UTF-8.

    Args:
        fields: What is told of the error, by the names that the error form has in JSON.
        sections: Further texts, each below its heading.
    """
    title = escape(f"{fields['status']} {fields['reason']}".strip())
    told = [("Details", fields.get("details")), ("Exception", fields.get("exception"))]
    told += [("Stack trace", fields.get("stackTrace")), *sections]
    blocks = "".join(f"<h2>{escape(name)}</h2><pre>{escape(str(text))}</pre>" for name, text in told if text)
    page = (
        '<!DOCTYPE html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{title}</title><style>{_STYLE}</style></head><body><h1>{title}</h1>"
        f"<p>{escape(str(fields['error']))}</p>{blocks}"
        f'<p class="request">{escape(str(fields["method"]))} {escape(str(fields["path"]))} '
        f"at {escape(str(fields['timestamp']))}</p></body></html>"
    )
    return page.encode("utf-8", "replace")
