"""The response that a route script builds (Kestrun's ``KestrunResponse``)."""

from __future__ import annotations

import hashlib
import os
from collections.abc import AsyncIterable, Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, BinaryIO, Final
from urllib.parse import quote, quote_plus

from aiohttp import hdrs, web
from multidict import CIMultiDict

from kestrun_py.errors import ArgumentError
from kestrun_py.http.cache_control import CacheControl
from kestrun_py.http.conditions import Validators, evaluate
from kestrun_py.http.connections import PlainResponse
from kestrun_py.http.content_types import guess_type
from kestrun_py.http.error_form import render_error
from kestrun_py.http.file_response import FileResponse
from kestrun_py.http.html_templates import render_template
from kestrun_py.http.media_types import CONTROL, negotiate, with_charset
from kestrun_py.http.response_stream import ResponseStream, stream_payload
from kestrun_py.serialization.csv import QuoteKind, to_csv
from kestrun_py.serialization.form import to_form
from kestrun_py.serialization.json import to_json, to_web_json
from kestrun_py.serialization.plain import is_scalar
from kestrun_py.serialization.xml import to_xml

__all__ = ["FileBody", "KestrunResponse", "StreamBody"]

_JSON: Final = "application/json; charset=utf-8"
_TEXT: Final = "text/plain; charset=utf-8"
_VISIBLE: Final = "".join(map(chr, range(0x21, 0x7F)))


@dataclass(frozen=True, slots=True)
class FileBody:
    """A body that is the contents of a file."""

    path: Path


@dataclass(frozen=True, slots=True)
class StreamBody:
    """A body that is read from a file object, or from an iterable of bytes, while it is sent."""

    source: BinaryIO | Iterable[bytes] | AsyncIterable[bytes]


class KestrunResponse:
    """What is answered when the script has ended; of several writes the last one counts.

    Attributes:
        request: The request that it answers.
        status: The HTTP status, also `status_code`; 200 until a script writes another.
        body: The body: bytes, text (sent in UTF-8), or None for none; of a file or a stream what the writers put here.
        content_type: The Content-Type header, or None for none; text without one is ``text/plain``.
        cache_control: The Cache-Control header, or None to leave it alone.
    """

    __slots__ = ("_headers", "body", "cache_control", "content_type", "request", "status")

    def __init__(self, request: web.BaseRequest) -> None:
        self.request = request
        self.status = 200
        self.body: bytes | str | FileBody | StreamBody | None = None
        self.content_type: str | None = None
        self.cache_control: CacheControl | None = None
        self._headers: CIMultiDict[str] | None = None

    @property
    def status_code(self) -> int:
        """The HTTP status, by the name that it has in Kestrun."""
        return self.status

    @status_code.setter
    def status_code(self, status: int) -> None:
        self.status = _checked_status(status)

    @property
    def headers(self) -> CIMultiDict[str]:
        """Further headers of the answer."""
        if self._headers is None:
            self._headers = CIMultiDict()
        return self._headers

    # Values

    def write(self, value: Any, *, status: int = 200) -> None:
        """Answers with a value in the form that the Accept header asks for: JSON, XML, YAML, CSV, CBOR, BSON or text.

        Raises:
            ArgumentError: The form cannot express the value.
            MissingExtraError: The package for the form is not installed.
        """
        write = _WRITERS.get(negotiate(self.request.headers.get(hdrs.ACCEPT, "")), KestrunResponse.write_text)
        write(self, value, status=status)

    def _write_web_json(self, value: Any, *, status: int) -> None:
        self._write(to_web_json(value), status, _JSON)

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
        self._write(body, status, _JSON if content_type is None else with_charset(content_type))

    def write_text(self, value: object, *, status: int = 200, content_type: str | None = None) -> None:
        """Answers with the text of a value, in UTF-8."""
        body = str(value).encode("utf-8", "replace")
        self._write(body, status, _TEXT if content_type is None else with_charset(content_type))

    def write_xml(self, value: Any, *, status: int = 200, content_type: str | None = None) -> None:
        """Answers with XML, in an element ``<Response>``.

        Raises:
            ArgumentError: The value contains itself.
        """
        self._write(to_xml(value), status, with_charset(content_type or "application/xml"))

    def write_yaml(self, value: Any, *, status: int = 200, content_type: str | None = None) -> None:
        """Answers with YAML.

        Raises:
            ArgumentError: The value contains itself.
        """
        from kestrun_py.serialization.yaml import to_yaml  # imported when used

        self._write(to_yaml(value), status, with_charset(content_type or "application/yaml"))

    def write_csv(
        self,
        value: Any,
        *,
        status: int = 200,
        content_type: str | None = None,
        delimiter: str = ",",
        use_quotes: QuoteKind = QuoteKind.ALWAYS,
        quote_fields: Iterable[str] = (),
        include_type_information: bool = False,
        no_header: bool = False,
    ) -> None:
        """Answers with CSV: a row, or a list of rows, as `to_csv` writes them."""
        body = to_csv(
            value,
            delimiter=delimiter,
            use_quotes=use_quotes,
            quote_fields=[*quote_fields],
            include_type_information=include_type_information,
            no_header=no_header,
        )
        self._write(body, status, with_charset(content_type or "text/csv"))

    def write_form(self, value: Any, *, status: int = 200) -> None:
        """Answers with a form in URL encoding, made of the members of a value; a scalar is the field ``value``."""
        body = to_form({"value": value} if is_scalar(value) else value)
        self._write(body, status, with_charset("application/x-www-form-urlencoded"))

    def write_bson(self, value: Any, *, status: int = 200, content_type: str | None = None) -> None:
        """Answers with BSON.

        Raises:
            MissingExtraError: The extra ``bson`` is not installed.
            ArgumentError: BSON cannot express the value.
        """
        from kestrun_py.serialization.binary import to_bson  # imported when used

        self._write(to_bson(value), status, with_charset(content_type or "application/bson"))

    def write_cbor(self, value: Any, *, status: int = 200, content_type: str | None = None) -> None:
        """Answers with CBOR.

        Raises:
            MissingExtraError: The extra ``cbor`` is not installed.
            ArgumentError: CBOR cannot express the value.
        """
        from kestrun_py.serialization.binary import to_cbor  # imported when used

        self._write(to_cbor(value), status, with_charset(content_type or "application/cbor"))

    # Bytes, streams and files

    def write_binary(self, data: bytes, *, status: int = 200, content_type: str | None = None) -> None:
        """Answers with bytes.

        Raises:
            ArgumentError: They are not bytes.
        """
        if not isinstance(data, bytes | bytearray | memoryview):
            raise ArgumentError(f"A binary answer is bytes, not {type(data).__name__}.")
        self._write(bytes(data), status, with_charset(content_type or "application/octet-stream"))

    def write_stream(
        self,
        source: BinaryIO | Iterable[bytes] | AsyncIterable[bytes],
        *,
        status: int = 200,
        content_type: str | None = None,
    ) -> None:
        """Answers with what a binary file object, or an iterable of bytes, gives; it is read while it is sent.

        A file object is closed at the end.

        Raises:
            ArgumentError: It is none of these.
        """
        if isinstance(source, str | bytes) or not (
            hasattr(source, "read") or isinstance(source, Iterable | AsyncIterable)
        ):
            raise ArgumentError(
                f"A stream is a binary file object or an iterable of bytes, not {type(source).__name__}."
            )
        self._write(StreamBody(source), status, with_charset(content_type or "application/octet-stream"))

    def write_file(
        self,
        path: str | os.PathLike[str],
        *,
        status: int = 200,
        content_type: str | None = None,
        download_name: str | None = None,
        disposition: str | None = None,
    ) -> None:
        """Answers with a file; ranges and conditions of the request count.

        A file that is not there is answered with 404.

        Args:
            path: The file.
            status: The HTTP status.
            content_type: The content type; guessed from the file's name if left out.
            download_name: The name under which a browser saves it; the file's own if left out.
            disposition: ``"attachment"`` or ``"inline"``; no Content-Disposition if left out.
        """
        file = Path(path)
        if not file.is_file():
            self.write_text(f"File not found: {file.name}", status=404)
            return
        self._write(FileBody(file), status, with_charset(content_type) if content_type else guess_type(file.name))
        if disposition is not None:
            name = quote_plus(download_name or file.name, safe="!()*-._")
            self.headers[hdrs.CONTENT_DISPOSITION] = f'{disposition}; filename="{name}"'

    def open_stream(self, *, status: int | None = None, content_type: str | None = None) -> ResponseStream:
        """Starts the answer now, and returns the stream that the script writes its body to, piece by piece.

        Args:
            status: The HTTP status; what `status` holds if left out.
            content_type: The content type; what `content_type` holds if left out.
        """
        if status is not None:
            self.status = _checked_status(status)
        if content_type is not None:
            self.content_type = with_charset(content_type)
        return ResponseStream(self.request, web.StreamResponse(status=self.status, headers=self._all_headers()))

    # Pages, redirects, errors

    def write_html(self, template: str, *, variables: Mapping[str, object] | None = None, status: int = 200) -> None:
        """Answers with HTML: a template in which ``{{name}}`` and ``{{name.part}}`` are replaced by `variables`.

        A name that is not among the variables stays as it is. Values go in as they are: escape what users typed.
        """
        text = render_template(template, variables) if variables else template
        self._write(text.encode("utf-8", "replace"), status, "text/html; charset=utf-8")

    def write_status(self, status: int) -> None:
        """Answers with a status alone: no body, no content type."""
        self._write(None, status, None)

    def write_redirect(self, url: str) -> None:
        """Answers 302 with a Location; what is not ASCII in the URL is percent-escaped.

        Raises:
            ArgumentError: The URL is empty or holds a line break.
        """
        if not url:
            raise ArgumentError("The URL of a redirect must not be empty.")
        if any(char in url for char in "\r\n\0"):
            raise ArgumentError("The URL of a redirect must not hold a line break.")
        self._write(None, 302, None)
        self.headers[hdrs.LOCATION] = quote(url, safe=_VISIBLE, errors="replace")

    def write_error(
        self,
        error: str | BaseException,
        *,
        status: int = 500,
        content_type: str | None = None,
        details: str | None = None,
        include_stack: bool = False,
    ) -> None:
        """Answers with an error, as JSON, YAML, XML, HTML or text by `content_type`, else by the Accept header.

        Args:
            error: A message, or an exception whose message and type are told.
            status: The HTTP status.
            content_type: The form of the answer; the Accept header decides if it is left out.
            details: More about it.
            include_stack: Whether an exception's traceback is told to the client.
        """
        body, kind = render_error(
            self.request, error, status, content_type=content_type, details=details, include_stack=include_stack
        )
        self._write(body, status, kind)

    # Caching

    def revalidate(
        self,
        payload: object,
        *,
        etag: str | None = None,
        weak: bool = False,
        last_modified: datetime | None = None,
    ) -> bool:
        """Tells the client by which validators it may ask again; True if it has the present state: then 304 is written.

        Args:
            payload: What would be answered; its hash is the tag if none is given.
            etag: The tag, with or without its quotes.
            weak: Whether the tag is a weak one: equal states may differ in their bytes.
            last_modified: When the state changed.

        Raises:
            ArgumentError: The tag holds a blank, a quote or a control character.
        """
        tag = etag or hashlib.sha256(_payload_bytes(payload)).hexdigest()
        if not tag.startswith(("W/", '"')):
            tag = f'"{tag}"'
        validators = Validators(f"W/{tag}" if weak and not tag.startswith("W/") else tag, last_modified)
        self.headers.update(validators.headers)
        unchanged = evaluate(self.request.method, self.request.headers, validators) == 304
        if unchanged:
            self.write_status(304)
        return unchanged

    # Sending

    def to_aiohttp(self) -> web.StreamResponse:
        """The response as aiohttp sends it.

        Raises:
            ArgumentError: What a script has assigned is no status, no body, or no header.
        """
        body = self.body
        if body is not None and body.__class__ is not bytes:
            return self._other(body)
        return PlainResponse(_checked_status(self.status), self._all_headers(), body)

    def _other(self, body: object) -> web.StreamResponse:
        status = _checked_status(self.status)
        if isinstance(body, FileBody):
            return FileResponse(body.path, status=status, headers=self._all_headers(), accept_ranges=False)
        if isinstance(body, StreamBody):
            return web.Response(status=status, headers=self._all_headers(), body=stream_payload(body.source))
        if isinstance(body, str):
            if self.content_type is None:
                self.content_type = _TEXT
            return PlainResponse(status, self._all_headers(), body.encode("utf-8", "replace"))
        if isinstance(body, bytearray | memoryview):
            return PlainResponse(status, self._all_headers(), bytes(body))
        raise ArgumentError(f"The body of a response is bytes or text, not {type(body).__name__}.")

    def _all_headers(self) -> CIMultiDict[str]:
        headers = CIMultiDict() if self._headers is None else _checked(self._headers)
        if self.content_type is not None:
            if CONTROL.search(self.content_type):
                raise ArgumentError("The content type holds a line break or another control character.")
            headers[hdrs.CONTENT_TYPE] = self.content_type
        if self.cache_control is not None:
            headers[hdrs.CACHE_CONTROL] = str(self.cache_control)
        return headers

    def _write(self, body: bytes | FileBody | StreamBody | None, status: int, content_type: str | None) -> None:
        self.status = _checked_status(status)
        self.body = body
        self.content_type = content_type
        if self._headers is not None:
            self._headers.pop(hdrs.LOCATION, None)
            self._headers.pop(hdrs.CONTENT_DISPOSITION, None)


#: What `KestrunResponse.write` calls for each media type that a client may ask for; text for all others.
_WRITERS: Final[Mapping[str, Callable[..., None]]] = {
    "application/json": KestrunResponse._write_web_json,
    "application/xml": KestrunResponse.write_xml,
    "application/yaml": KestrunResponse.write_yaml,
    "application/bson": KestrunResponse.write_bson,
    "application/cbor": KestrunResponse.write_cbor,
    "application/x-www-form-urlencoded": KestrunResponse.write_form,
    "text/csv": KestrunResponse.write_csv,
}


def _checked_status(status: int) -> int:
    if not isinstance(status, int) or not 200 <= status <= 599:
        raise ArgumentError(f"An HTTP status is an integer from 200 to 599, not {status!r}.")
    return status


def _checked(headers: CIMultiDict[str]) -> CIMultiDict[str]:
    for name, value in headers.items():
        if CONTROL.search(name) or CONTROL.search(value):
            raise ArgumentError(f"The header {name!r} holds a line break or another control character.")
    return headers


def _payload_bytes(payload: object) -> bytes:
    if isinstance(payload, bytes | bytearray | memoryview):
        return bytes(payload)
    return (payload if isinstance(payload, str) else to_json(payload, compress=True).decode()).encode(
        "utf-8", "replace"
    )
