"""The response that a route script builds (Kestrun's ``KestrunResponse``)."""

from __future__ import annotations

import re
import traceback
from collections.abc import Mapping
from datetime import UTC, datetime
from html import escape
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import quote

import orjson
from aiohttp import hdrs, web
from multidict import CIMultiDict

from kestrun_py.errors import ArgumentError
from kestrun_py.http.connections import PlainResponse
from kestrun_py.serialization.json import to_json

__all__ = ["KestrunResponse"]

_JSON: Final = "application/json; charset=utf-8"
_TEXT: Final = "text/plain; charset=utf-8"
_CONTROL: Final = re.compile("[\0-\x08\n-\x1f\x7f]")
_NOT_XML: Final = re.compile("[\0-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")
_VISIBLE: Final = "".join(map(chr, range(0x21, 0x7F)))


class KestrunResponse:
    """What is answered when the script has ended; of several writes the last one counts.

    Attributes:
        status: The HTTP status; 200 until a script writes another.
        body: The body, or None for none.
        content_type: The Content-Type header, or None for none.
    """

    status = 200
    body: bytes | None = None
    content_type: str | None = None
    _headers: CIMultiDict[str] | None = None

    def __init__(self, request: web.BaseRequest) -> None:
        self.request = request

    @property
    def headers(self) -> CIMultiDict[str]:
        """Further headers of the answer."""
        if self._headers is None:
            self._headers = CIMultiDict()
        return self._headers

    def write_json(
        self,
        value: Any,
        *,
        status: int = 200,
        depth: int = 10,
        compress: bool = False,
        content_type: str | None = None,
    ) -> None:
        """Answers with JSON, indented by two spaces unless `compress`.

        Raises:
            ArgumentError: A status outside 200 to 599, a depth outside 0 to 100, a value that JSON cannot express.
        """
        body = to_json(value, depth=depth, compress=compress)
        self._write(body, status, _JSON if content_type is None else _with_charset(content_type))

    def write_text(self, value: object, *, status: int = 200, content_type: str | None = None) -> None:
        """Answers with the text of a value, in UTF-8."""
        body = str(value).encode("utf-8", "replace")
        self._write(body, status, _TEXT if content_type is None else _with_charset(content_type))

    def write_html(self, template: str, *, variables: Mapping[str, object] | None = None, status: int = 200) -> None:
        """Answers with HTML: a template in which ``{{name}}`` and ``{{name.part}}`` are replaced by `variables`.

        A name that is not among the variables stays as it is. Values go in as they are: escape what users typed.
        """
        text = _render(template, variables or {})
        self._write(text.encode("utf-8", "replace"), status, "text/html; charset=utf-8")

    def write_status(self, status: int) -> None:
        """Answers with a status alone: no body, no content type."""
        self._write(None, status, None)

    def write_redirect(self, url: str, *, message: str | None = None) -> None:
        """Answers 302 with a Location; what is not ASCII in the URL is percent-escaped.

        Raises:
            ArgumentError: The URL is empty or holds a line break.
        """
        if not url:
            raise ArgumentError("The URL of a redirect must not be empty.")
        if any(char in url for char in "\r\n\0"):
            raise ArgumentError("The URL of a redirect must not hold a line break.")
        body = None if message is None else message.encode("utf-8", "replace")
        self._write(body, 302, None if message is None else _TEXT)
        self.headers["Location"] = quote(url, safe=_VISIBLE, errors="replace")

    def write_error(
        self,
        error: str | BaseException,
        *,
        status: int = 500,
        content_type: str | None = None,
        details: str | None = None,
        include_stack: bool = False,
    ) -> None:
        """Answers with an error, as JSON, YAML, XML or text by `content_type`, else by the Accept header.

        Args:
            error: A message, or an exception whose message and type are told.
            status: The HTTP status.
            content_type: The form of the answer; the Accept header decides if it is left out.
            details: More about it.
            include_stack: Whether an exception's traceback is told to the client.
        """
        payload: dict[str, object] = {"error": str(error)}
        if details:
            payload["details"] = details
        if isinstance(error, BaseException):
            payload["exception"] = type(error).__name__
            if include_stack:
                payload["stackTrace"] = "".join(traceback.format_exception(error))
        payload |= {
            "status": status,
            "reason": _reason(status),
            "timestamp": datetime.now(UTC).isoformat().replace("+00:00", "Z"),
            "path": self.request.path,
            "method": self.request.method,
        }
        wanted = (content_type or self.request.headers.get("Accept") or "text/plain").lower()
        if "json" in wanted:
            self.write_json(payload, status=status)
        elif "yaml" in wanted or "yml" in wanted:
            self.write_text(_yaml(payload), status=status, content_type="application/yaml")
        elif "xml" in wanted:
            self.write_text(_xml(payload), status=status, content_type="application/xml")
        else:
            self.write_text(_lines(payload), status=status)

    def to_aiohttp(self) -> web.Response:
        """The response as aiohttp sends it.

        Raises:
            ArgumentError: What a script has assigned is no status, no body, or no header.
        """
        headers = CIMultiDict() if self._headers is None else _checked(self._headers)
        if self.content_type is not None:
            if _CONTROL.search(self.content_type):
                raise ArgumentError("The content type holds a line break or another control character.")
            headers[hdrs.CONTENT_TYPE] = self.content_type
        if self.body is not None and not isinstance(self.body, bytes):
            raise ArgumentError(f"The body of a response is bytes, not {type(self.body).__name__}; write_text encodes.")
        return PlainResponse(_checked_status(self.status), headers, self.body)

    def _write(self, body: bytes | None, status: int, content_type: str | None) -> None:
        self.status = _checked_status(status)
        self.body = body
        self.content_type = content_type
        if self._headers is not None:
            self._headers.pop(hdrs.LOCATION, None)


def _checked_status(status: int) -> int:
    if not isinstance(status, int) or not 200 <= status <= 599:
        raise ArgumentError(f"An HTTP status is an integer from 200 to 599, not {status!r}.")
    return status


def _checked(headers: CIMultiDict[str]) -> CIMultiDict[str]:
    for name, value in headers.items():
        if _CONTROL.search(name) or _CONTROL.search(value):
            raise ArgumentError(f"The header {name!r} holds a line break or another control character.")
    return headers


def _with_charset(content_type: str) -> str:
    if any(char in content_type for char in "\r\n\0"):
        raise ArgumentError("A content type must not hold a line break.")
    return content_type if "charset" in content_type.lower() else f"{content_type}; charset=utf-8"


def _reason(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return ""


def _yaml(payload: Mapping[str, object]) -> str:
    # A JSON scalar is a YAML scalar, so each line is.
    return "".join(f"{key}: {orjson.dumps(value).decode()}\n" for key, value in payload.items())


def _xml(payload: Mapping[str, object]) -> str:
    fields = "".join(f"<{key}>{escape(str(value))}</{key}>" for key, value in payload.items())
    return f"<Response>{_NOT_XML.sub(chr(0xFFFD), fields)}</Response>"


def _lines(payload: Mapping[str, object]) -> str:
    lines = [
        f"Status: {payload['status']} ({payload['reason']})",
        f"Error: {payload['error']}",
        f"Time: {payload['timestamp']}",
    ]
    if "details" in payload:
        lines.append(f"Details:\n{payload['details']}")
    if "exception" in payload:
        lines.append(f"Exception: {payload['exception']}")
    if "stackTrace" in payload:
        lines.append(f"StackTrace:\n{payload['stackTrace']}")
    return "\n".join(lines)


def _render(template: str, variables: Mapping[str, object]) -> str:
    head, *rest = template.split("{{")
    parts = [head]
    for part in rest:
        name, closed, tail = part.partition("}}")
        value = _resolve(name.strip(), variables) if closed else None
        parts.append(f"{{{{{part}" if value is None else f"{value}{tail}")
    return "".join(parts)


def _resolve(path: str, variables: Mapping[str, object]) -> object | None:
    current: object = variables
    for name in path.split("."):
        current = current.get(name) if isinstance(current, Mapping) else getattr(current, name, None)
        if current is None:
            return None
    return current
