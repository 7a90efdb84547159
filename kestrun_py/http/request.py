"""The request as a route script sees it (Kestrun's ``KestrunRequest``)."""

from __future__ import annotations

import asyncio
import codecs
import xml.etree.ElementTree as ElementTree
from collections.abc import Coroutine, Iterable, Mapping
from typing import Any, Final, TypeVar
from urllib.parse import parse_qsl

import orjson
from aiohttp import web
from multidict import CIMultiDictProxy

from kestrun_py.concurrency.bridge import wait
from kestrun_py.errors import BadRequestError
from kestrun_py.http.cookies import read_cookie

__all__ = ["PATH_BASE", "KestrunRequest"]

_T = TypeVar("_T")

_DECLARATIONS: Final = ("<!DOCTYPE", "<!ENTITY")
_GRACE: Final = 5.0  # seconds, and
_LEAST_RATE: Final = 240  # bytes a second, as Kestrel
_MAX_FIELDS: Final = 1024  # as ASP.NET Core
# Python knows codecs that are no charsets, and some that a client could keep it busy with.
_CHARSETS: Final = ("utf-8", "utf-16", "utf-32", "ascii", "iso8859", "cp", "koi8", "gb", "big5", "shift_jis", "euc_")


#: Where a request keeps what a proxy has cut off its path.
PATH_BASE: Final = web.RequestKey("kestrun_py.path_base", str)


class KestrunRequest:
    """What a client asked for. `raw` is aiohttp's request."""

    __slots__ = ("_query", "raw")

    def __init__(self, raw: web.Request) -> None:
        self.raw = raw
        self._query: dict[str, str] | None = None

    @property
    def method(self) -> str:
        """The HTTP method, such as ``GET``."""
        return self.raw.method

    @property
    def scheme(self) -> str:
        """``http`` or ``https``; behind a known proxy what the client used (`add_forwarded_header`)."""
        return self.raw.scheme

    @property
    def host(self) -> str:
        """The host that the client asked for, with its port if it named one."""
        return self.raw.host

    @property
    def remote_address(self) -> str:
        """The client's address; behind a known proxy what the proxy says (`add_forwarded_header`)."""
        return self.raw.remote or ""

    @property
    def path_base(self) -> str:
        """What a known proxy says that it has cut off the path; empty without one."""
        base: str = self.raw.get(PATH_BASE, "")
        return base

    @property
    def path(self) -> str:
        """The path, unescaped, without the query."""
        return self.raw.path

    @property
    def headers(self) -> CIMultiDictProxy[str]:
        """The headers, by name in any case."""
        return self.raw.headers

    @property
    def cookies(self) -> Mapping[str, str]:
        """All cookies, as aiohttp reads them."""
        return self.raw.cookies

    def cookie(self, name: str) -> str | None:
        """A cookie's value, read and unescaped as ASP.NET Core does, or None."""
        headers = self.raw.headers.getall("Cookie", None)
        return None if headers is None else read_cookie("; ".join(headers), name)

    @property
    def route_params(self) -> Mapping[str, str]:
        """The values of the route template's parameters, as text."""
        return self.raw.match_info

    @property
    def query(self) -> dict[str, str]:
        """The query parameters; the values of a repeated name are joined with a comma, as in Kestrun."""
        if self._query is None:
            self._query = _joined(self.raw.query.items())
        return self._query

    @property
    def content_type(self) -> str:
        """The media type of the body, without its parameters; empty if none was sent."""
        return self.raw.content_type if self.raw.headers.get("Content-Type") else ""

    def read_text(self) -> str:
        """The body as text, in the charset that the client named (UTF-8 if it named none, or one that is unknown)."""
        body = wait(self._in_time(self.raw.read())) if self.raw.body_exists else b""
        text = body.decode(self._charset(), "replace")
        return text.removeprefix("\ufeff")

    def _charset(self) -> str:
        try:
            name = codecs.lookup(self.raw.charset or "utf-8").name
        except (LookupError, ValueError):
            return "utf-8"
        return name if name.startswith(_CHARSETS) else "utf-8"

    def read_json(self) -> Any:
        """The body as JSON, whatever its media type.

        Raises:
            BadRequestError: It is not JSON.
        """
        try:
            return orjson.loads(self.read_text())
        except orjson.JSONDecodeError as error:
            raise BadRequestError(f"The request body is not JSON: {error}.") from None

    def read_body(self) -> Any:
        """The body by its media type.

        JSON becomes Python's values, a form a dictionary of texts (those of a repeated name joined with a comma), XML
        a dictionary by element names, and anything else text. The files of a multipart form are aiohttp's
        ``FileField``. Unlike Kestrun, parameters of the media type (``application/json; charset=utf-8``) do not
        matter.

        Raises:
            BadRequestError: The body is not what its media type says.
        """
        match self.content_type:
            case "application/json":
                return self.read_json()
            case "application/x-www-form-urlencoded":
                return _parse_form(self.read_text())
            case "multipart/form-data":
                return self._read_multipart()
            case "application/xml" | "text/xml":
                return _xml_to_dict(self.read_text())
            case _:
                return self.read_text()

    def _read_multipart(self) -> dict[str, Any]:
        if not self.raw.body_exists:
            return {}
        try:
            form = wait(self._in_time(self.raw.post()))
        except (ValueError, LookupError) as error:
            raise BadRequestError(f"The request body is not a multipart form: {error}.") from None
        return dict(form)

    async def _in_time(self, reading: Coroutine[Any, Any, _T]) -> _T:
        """Reads, as long as the client sends: the session that a script may have locked is not its to keep.

        Raises:
            HTTPRequestTimeout: It sends less than Kestrel's ``MinRequestBodyDataRate``.
        """
        content = self.raw.content
        if content.is_eof():  # as nearly always: it has come with its head
            return await reading
        task = asyncio.ensure_future(reading)
        try:
            received = content.total_bytes
            while not (await asyncio.wait((task,), timeout=_GRACE))[0]:
                if content.total_bytes - received < _LEAST_RATE * _GRACE:
                    raise web.HTTPRequestTimeout
                received = content.total_bytes
            return task.result()
        finally:
            task.cancel()


def _joined(pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    """A dictionary in which the values of a repeated name are joined with a comma, as .NET's StringValues are."""
    values: dict[str, list[str]] = {}
    for name, value in pairs:
        values.setdefault(name, []).append(value)
    return {name: ",".join(several) for name, several in values.items()}


def _parse_form(text: str) -> dict[str, str]:
    try:
        return _joined(parse_qsl(text, keep_blank_values=True, max_num_fields=_MAX_FIELDS))
    except ValueError:
        raise BadRequestError(f"The request body is a form of more than {_MAX_FIELDS} fields.") from None


def _xml_to_dict(text: str) -> dict[str, Any]:
    # Entities are how small documents grow huge; a request body has no honest use for declaring them.
    if any(word in text for word in _DECLARATIONS):
        raise BadRequestError("The request body declares a document type; XML with one is not accepted.")
    try:
        root = ElementTree.fromstring(text)
    except ElementTree.ParseError as error:
        raise BadRequestError(f"The request body is not XML: {error}.") from None
    return {root.tag: _element_value(root)}


def _element_value(element: ElementTree.Element) -> Any:
    values: dict[str, Any] = {f"@{name}": value for name, value in element.attrib.items()}
    for child in element:
        value = _element_value(child)
        if child.tag not in values:
            values[child.tag] = value
        elif isinstance(values[child.tag], list):
            values[child.tag].append(value)
        else:
            values[child.tag] = [values[child.tag], value]
    text = (element.text or "").strip()
    if not values:
        return text
    if text:
        values["#text"] = text
    return values
