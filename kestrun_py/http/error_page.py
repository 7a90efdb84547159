"""The HTML page of an error, for browsers: self-contained, light or dark as the browser asks."""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import Iterable, Iterator, Mapping
from html import escape
from pathlib import Path
from typing import Any, Final

import aiohttp
from aiohttp import web

__all__ = ["Section", "developer_sections", "render_page"]

Section = tuple[str, str]
"""A heading and the text below it."""

#: Where the code lies that calls scripts: this package's folder, and those of what it is made of.
_PACKAGES: Final = (
    str(Path(__file__).parents[1]),
    str(Path(aiohttp.__file__).parent),
    str(Path(asyncio.__file__).parent),
)
_SECRET: Final = frozenset({"authorization", "cookie", "proxy-authorization", "x-api-key"})
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


def developer_sections(request: web.BaseRequest, error: BaseException) -> Iterator[Section]:
    """What a developer wants to see of a request that failed. Cookies and credentials are not shown.

    Args:
        request: The request.
        error: What it ended with.
    """
    yield "Exception", "".join(traceback.format_exception_only(error)).rstrip()
    for frame in reversed(_own_frames(error)):
        yield f"{frame.filename}, line {frame.lineno}, in {frame.name}", frame.line or ""
    yield "Request", f"{request.method} {request.rel_url} HTTP/{request.version.major}.{request.version.minor}"
    yield "Headers", "\n".join(f"{name}: {_shown(name, value)}" for name, value in request.headers.items())


def _own_frames(error: BaseException) -> list[traceback.FrameSummary]:
    """The frames of the traceback without those of the packages that called the script."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if not frame.filename.startswith(_PACKAGES)]
    return own or [*frames[-1:]]


def _shown(name: str, value: str) -> str:
    return "(not shown)" if name.lower() in _SECRET else value
