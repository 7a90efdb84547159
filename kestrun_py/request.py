"""The request as a route script sees it (Kestrun's ``KestrunRequest``)."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from collections.abc import Mapping
from functools import cached_property
from typing import Any, Final

import orjson
from aiohttp import web
from multidict import CIMultiDictProxy

from kestrun_py._bridge import wait
from kestrun_py.cookies import read_cookie
from kestrun_py.errors import ArgumentError

__all__ = ["KestrunRequest"]

_DECLARATIONS: Final = ("<!DOCTYPE", "<!ENTITY")


class KestrunRequest:
    """What a client asked for. `raw` is aiohttp's request."""

    def __init__(self, raw: web.Request) -> None:
        self.raw = raw

    @property
    def method(self) -> str:
        return self.raw.method

    @property
    def path(self) -> str:
        return self.raw.path

    @property
    def headers(self) -> CIMultiDictProxy[str]:
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

    @cached_property
    def query(self) -> dict[str, str]:
        """The query parameters; the values of a repeated name are joined with a comma, as in Kestrun."""
        query = self.raw.query
        return {name: ",".join(query.getall(name)) for name in query}

    @property
    def content_type(self) -> str:
        """The media type of the body, without its parameters; empty if none was sent."""
        return self.raw.content_type if self.raw.headers.get("Content-Type") else ""

    def read_text(self) -> str:
        """The body as text, in the charset that the client named (UTF-8 otherwise)."""
        body = wait(self.raw.read())
        try:
            return body.decode(self.raw.charset or "utf-8", "replace")
        except LookupError:
            return body.decode("utf-8", "replace")

    def read_body(self) -> Any:
        """The body by its media type.

        JSON becomes Python's values, a form a dictionary of texts, XML a dictionary by element names, and anything
        else text. Unlike Kestrun, parameters of the media type (``application/json; charset=utf-8``) do not matter.

        Raises:
            ArgumentError: The body is not what its media type says.
        """
        match self.content_type:
            case "application/json":
                try:
                    return orjson.loads(wait(self.raw.read()))
                except orjson.JSONDecodeError as error:
                    raise ArgumentError(f"The request body is not JSON: {error}.") from None
            case "application/x-www-form-urlencoded" | "multipart/form-data":
                return dict(wait(self.raw.post()))
            case "application/xml" | "text/xml":
                return _xml_to_dict(self.read_text())
            case _:
                return self.read_text()


def _xml_to_dict(text: str) -> dict[str, Any]:
    # Entities are how small documents grow huge; a request body has no honest use for declaring them.
    if any(word in text for word in _DECLARATIONS):
        raise ArgumentError("The request body declares a document type; XML with one is not accepted.")
    try:
        root = ElementTree.fromstring(text)
    except ElementTree.ParseError as error:
        raise ArgumentError(f"The request body is not XML: {error}.") from None
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
