"""Verbs, routes, and the table that finds the route of a request."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from enum import Enum
from typing import Any

from aiohttp import web
from aiohttp.typedefs import Handler
from yarl import URL

from kestrun_py.enums import to_enum
from kestrun_py.errors import ArgumentError
from kestrun_py.templates import PathTemplate

__all__ = ["DuplicateAction", "HttpVerb", "RouteTable", "to_verbs"]


class HttpVerb(Enum):
    """The verbs that routes may be mapped for: HTTP's and WebDAV's, as in Kestrun."""

    GET = "GET"
    HEAD = "HEAD"
    POST = "POST"
    PUT = "PUT"
    PATCH = "PATCH"
    DELETE = "DELETE"
    OPTIONS = "OPTIONS"
    TRACE = "TRACE"
    QUERY = "QUERY"
    PROPFIND = "PROPFIND"
    PROPPATCH = "PROPPATCH"
    MKCOL = "MKCOL"
    COPY = "COPY"
    MOVE = "MOVE"
    LOCK = "LOCK"
    UNLOCK = "UNLOCK"
    REPORT = "REPORT"
    ACL = "ACL"
    VERSION_CONTROL = "VERSION-CONTROL"
    CHECKIN = "CHECKIN"
    CHECKOUT = "CHECKOUT"
    UNCHECKOUT = "UNCHECKOUT"
    MKWORKSPACE = "MKWORKSPACE"
    UPDATE = "UPDATE"
    LABEL = "LABEL"
    MERGE = "MERGE"
    BASELINE_CONTROL = "BASELINE-CONTROL"
    MKACTIVITY = "MKACTIVITY"
    ORDERPATCH = "ORDERPATCH"
    SEARCH = "SEARCH"
    MKCALENDAR = "MKCALENDAR"


class DuplicateAction(Enum):
    """What `add_map_route` does with a route that exists already."""

    THROW = "throw"
    SKIP = "skip"
    ALLOW = "allow"
    WARN = "warn"


def to_verbs(verbs: HttpVerb | str | Iterable[HttpVerb | str]) -> tuple[HttpVerb, ...]:
    """Takes one verb or several, as members or as text in any case (``"Get,Post"`` too)."""
    if isinstance(verbs, HttpVerb):
        return (verbs,)
    names: Iterable[HttpVerb | str] = verbs.split(",") if isinstance(verbs, str) else verbs
    found = tuple(dict.fromkeys(to_enum(HttpVerb, _plain(name), "verbs") for name in names))
    if not found:
        raise ArgumentError("verbs must name at least one HTTP verb.")
    return found


def _plain(name: HttpVerb | str) -> HttpVerb | str:
    return name.replace("-", "_") if isinstance(name, str) else name


class _Entry:
    """The routes of one template, by verb; of several for one verb (on different endpoints) the first that fits."""

    __slots__ = ("routes", "template")

    def __init__(self, template: PathTemplate) -> None:
        self.template = template
        self.routes: dict[str, list[tuple[frozenset[str], web.ResourceRoute]]] = {}

    def find(self, method: str, host: str) -> web.ResourceRoute | None:
        for hosts, route in self.routes.get(method, ()):
            if not hosts or host.casefold() in hosts:
                return route
        return self.find("GET", host) if method == "HEAD" else None

    def allowed(self, host: str) -> set[str]:
        methods = {method for method in self.routes if self.find(method, host) is not None}
        return methods | {"HEAD"} if "GET" in methods else methods


class RouteTable(web.AbstractResource):
    """All routes of a host, as one resource of aiohttp's router.

    It finds a route by ASP.NET Core's rules, which are not aiohttp's: case does not matter, nor does a slash at the
    end, and the most specific template wins whatever the order in which routes were added.
    """

    def __init__(self) -> None:
        super().__init__()
        self._literal: dict[str, _Entry] = {}
        self._templates: dict[str, _Entry] = {}
        self._ordered: list[_Entry] = []

    def add(
        self, template: PathTemplate, verbs: Sequence[HttpVerb], handler: Handler, hosts: Iterable[str] = ()
    ) -> None:
        """Adds a route; `hosts` are the Host headers it answers to, all of them if empty."""
        entries = self._literal if template.is_literal else self._templates
        entry = entries.get(template.key)
        if entry is None:
            entry = entries[template.key] = _Entry(template)
            self._ordered = sorted(self._templates.values(), key=lambda entry: entry.template.precedence)
        names = frozenset(host.casefold() for host in hosts)
        for verb in verbs:
            route = web.ResourceRoute(verb.value, handler, self)
            entry.routes.setdefault(verb.value, []).append((names, route))

    def has(self, template: PathTemplate, verb: HttpVerb) -> bool:
        """Whether a route with this verb and an equivalent template exists."""
        entries = self._literal if template.is_literal else self._templates
        return template.key in entries and verb.value in entries[template.key].routes

    async def resolve(self, request: web.Request) -> tuple[web.UrlMappingMatchInfo | None, set[str]]:
        path, host = request.path, request.host
        folded = path.casefold()
        allowed: set[str] = set()
        entry = self._literal.get(folded) or self._literal.get(folded.rstrip("/") or "/")
        if entry is not None:
            route = entry.find(request.method, host)
            if route is not None:
                return web.UrlMappingMatchInfo({}, route), allowed
            allowed |= entry.allowed(host)
        for entry in self._ordered:
            values = entry.template.match(path)
            if values is None:
                continue
            route = entry.find(request.method, host)
            if route is not None:
                return web.UrlMappingMatchInfo(dict(values), route), allowed
            allowed |= entry.allowed(host)
        return None, allowed

    # What aiohttp's router asks of any resource

    @property
    def canonical(self) -> str:
        return "/"

    def raw_match(self, path: str) -> bool:
        return False

    def add_prefix(self, prefix: str) -> None:
        raise ArgumentError("A host's routes cannot be mounted below a prefix; use the prefix in their patterns.")

    def url_for(self, **kwargs: str) -> URL:
        raise ArgumentError("A host's route table has no single URL.")

    def get_info(self) -> Any:
        return {}

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __iter__(self) -> Iterator[web.AbstractRoute]:
        for entry in (*self._literal.values(), *self._templates.values()):
            for routes in entry.routes.values():
                for _, route in routes:
                    yield route
