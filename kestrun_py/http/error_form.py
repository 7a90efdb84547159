"""The form in which errors are told to clients (Kestrun's ``Write-KrErrorResponse``): JSON, YAML, XML, HTML or text."""

from __future__ import annotations

import traceback
from datetime import UTC, datetime
from typing import Any

from aiohttp import web

from kestrun_py.conversion.moments import date_text
from kestrun_py.http.connections import REASONS
from kestrun_py.http.error_page import render_page
from kestrun_py.serialization.json import html_safe, to_json
from kestrun_py.serialization.xml import to_xml

__all__ = ["accepts_page", "error_fields", "render_error"]


def render_error(
    request: web.BaseRequest,
    error: str | BaseException,
    status: int,
    *,
    content_type: str | None = None,
    details: str | None = None,
    include_stack: bool = False,
) -> tuple[bytes, str]:
    """Returns the body of an error and its content type.

    The form is the first of JSON, YAML, HTML and XML that is in `content_type`, or else in the Accept header, whatever
    its quality there; otherwise it is text. HTML goes by the Accept header alone.

    Args:
        request: The request; its path and method are told.
        error: A message, or an exception whose message and type are told.
        status: The HTTP status.
        content_type: The form, instead of the Accept header.
        details: More about the error.
        include_stack: Whether an exception's traceback is told.
    """
    fields = error_fields(request, error, status, details=details, include_stack=include_stack)
    wanted = (content_type or request.headers.get("Accept") or "").lower()
    if "json" in wanted:
        told = {name: value for name, value in fields.items() if value is not None}
        return html_safe(to_json(told)), "application/json; charset=utf-8"
    if "yaml" in wanted or "yml" in wanted:
        return _yaml(fields), "application/yaml; charset=utf-8"
    if content_type is None and accepts_page(request):
        return render_page(fields), "text/html; charset=utf-8"
    if "xml" in wanted:
        return to_xml(_capitalized(fields)), "application/xml; charset=utf-8"
    return _lines(fields).encode("utf-8", "replace"), "text/plain; charset=utf-8"


def error_fields(
    request: web.BaseRequest,
    error: str | BaseException,
    status: int,
    *,
    details: str | None = None,
    include_stack: bool = False,
) -> dict[str, Any]:
    """What is told of an error, by the names that it has in JSON; see `render_error`."""
    fields: dict[str, Any] = {"error": str(error), "details": details or None, "exception": None, "stackTrace": None}
    if isinstance(error, BaseException):
        fields["exception"] = type(error).__name__
        if include_stack:
            fields["stackTrace"] = "".join(traceback.format_exception(error)).rstrip("\n")
    return fields | {
        "status": status,
        "reason": REASONS.get(status, ""),
        "timestamp": date_text(datetime.now(UTC), digits=7),
        "path": request.rel_url.path,
        "method": request.method,
    }


def accepts_page(request: web.BaseRequest) -> bool:
    """Whether a client takes HTML and asks for neither JSON nor YAML: a browser that shows a page."""
    accept = request.headers.get("Accept", "").lower()
    return "text/html" in accept and not any(name in accept for name in ("json", "yaml", "yml"))


def _capitalized(fields: dict[str, Any]) -> dict[str, Any]:
    return {name[0].upper() + name[1:]: value for name, value in fields.items()}


def _yaml(fields: dict[str, Any]) -> bytes:
    from kestrun_py.serialization.yaml import to_yaml  # imported when used

    # A member of a class without a value ends with a blank, as YamlDotNet writes it.
    lines = to_yaml(_capitalized(fields)).decode().splitlines()
    return ("\n".join(f"{line} " if line[-1:] == ":" and line[:1] != " " else line for line in lines) + "\n").encode()


def _lines(fields: dict[str, Any]) -> str:
    lines = [
        f"Status: {fields['status']} ({fields['reason']})",
        f"Error: {fields['error']}",
        f"Time: {fields['timestamp']}",
    ]
    for name, title in (("details", "Details:\n"), ("exception", "Exception: "), ("stackTrace", "StackTrace:\n")):
        if fields[name] is not None:
            lines.append(f"{title}{fields[name]}")
    return "\n".join(lines)
