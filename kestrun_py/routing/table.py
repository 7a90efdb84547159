"""Verbs, routes, and the table that finds the route of a request."""

from __future__ import annotations

import threading
from bisect import insort
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from enum import Enum
from typing import Any, Final, Literal, TypeAlias

from aiohttp import hdrs, web
from aiohttp.typedefs import Handler
from yarl import URL

from kestrun_py.conversion.enums import to_enum
from kestrun_py.errors import ArgumentError
from kestrun_py.routing.options import RouteEndpoint
from kestrun_py.routing.targets import cleaned, holds_nul
from kestrun_py.routing.templates import PathTemplate

__all__ = ["DuplicateAction", "DuplicateActionText", "HttpVerb", "RouteTable", "to_verbs"]


#: Puts the pipeline around the handler of a route, None for the handler of what no route answers.
Compose: TypeAlias = Callable[[Handler, RouteEndpoint | None], Handler]


class HttpVerb(Enum):
    """The verbs that routes may be mapped for: HTTP's and WebDAV's, as in Kestrun.

    Some of WebDAV's versioning verbs (CHECKIN, LABEL, UPDATE ...) never arrive: aiohttp's parser answers them with 400.
    """

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


DuplicateActionText: TypeAlias = Literal["Throw", "Skip", "Allow", "Warn"]


def to_verbs(verbs: HttpVerb | str | Iterable[HttpVerb | str]) -> tuple[HttpVerb, ...]:
    """Takes one verb or several, as members or as text in any case (``"Get,Post"`` too)."""
    given = verbs.split(",") if isinstance(verbs, str) else verbs
    names: Iterable[HttpVerb | str] = given if isinstance(given, Iterable) else [given]
    found = tuple(dict.fromkeys(to_enum(HttpVerb, _plain(name), "verbs") for name in names))
    if not found:
        raise ArgumentError("verbs must name at least one HTTP verb.")
    return found


def _plain(name: HttpVerb | str) -> HttpVerb | str:
    return name.replace("-", "_") if isinstance(name, str) else name


_NONE: Final[set[str]] = set()
_NO_VALUES: Final[dict[str, str]] = {}


class _MatchInfo(web.UrlMappingMatchInfo):
    """What aiohttp is told of a route that was found. A route without values has one for all of its requests."""

    def __setitem__(self, key: str, value: str) -> None:
        raise TypeError("The values of a route's parameters cannot be changed.")


class _Route(web.ResourceRoute):
    """A route for one verb, on all endpoints or on some."""

    match_info: _MatchInfo | None = None

    def __init__(
        self,
        verb: str,
        handler: Handler,
        table: RouteTable,
        endpoint: RouteEndpoint | None = None,
        hosts: frozenset[str] = frozenset(),
    ) -> None:
        super().__init__(verb, handler, table)
        self._plain_handler = handler
        self.composed = handler
        self.endpoint = endpoint
        self.hosts = hosts

    def bind(self, compose: Compose) -> None:
        self.composed = compose(self._plain_handler, self.endpoint)
        self._handler: Handler = self.composed  # type: ignore[assignment]


class _Entry:
    """The routes of one template, by verb; of several for one verb (on different endpoints) the first that fits."""

    __slots__ = ("routes", "template")

    def __init__(self, template: PathTemplate) -> None:
        self.template = template
        self.routes: dict[str, list[_Route]] = {}

    def find(self, method: str, request: web.Request) -> _Route | None:
        for route in self.routes.get(method, ()):
            if not route.hosts or _host_of(request) in route.hosts:
                return route
        return self.find("GET", request) if method == "HEAD" else None

    def allowed(self, request: web.Request) -> set[str]:
        methods = {method for method in [*self.routes] if self.find(method, request) is not None}
        return methods | {"HEAD"} if "GET" in methods else methods


def _path_of(request: web.Request) -> str:
    """The path, unescaped but for ``%2F``: as in ASP.NET Core an escaped slash does not separate segments."""
    path = cleaned(request).rel_url.path_safe
    return path.replace("%25", "%") if "%25" in path else path


def _host_of(request: web.Request) -> str:
    """The Host header with its port: the scheme's own may be left out of it."""
    host = request.host.lower()
    has_port = host.rpartition("]")[2].rpartition(":")[1]
    return host if has_port else f"{host}:{443 if request.secure else 80}"


async def _answer_bad_request(_: web.Request) -> web.StreamResponse:
    return web.Response(status=400)


class RouteTable(web.AbstractResource):
    """All routes of a host, as one resource of aiohttp's router.

    It finds a route by ASP.NET Core's rules, which are not aiohttp's: case does not matter, nor does a slash at the
    end, and the most specific template wins whatever the order in which routes were added. Routes may be added while
    it serves, from any thread.
    """

    def __init__(self) -> None:
        super().__init__()
        self._literal: dict[str, _Entry] = {}
        self._templates: dict[str, _Entry] = {}
        self._ordered: list[_Entry] = []
        self._mapped: set[tuple[str, HttpVerb]] = set()
        self._compose: Compose | None = None
        self._no_route = _Route("*", self._answer_no_route, self)
        self._refused = _Route("*", _answer_bad_request, self)
        self.adding = threading.Lock()

    def bind(self, compose: Compose) -> None:
        """Puts `compose` (the middleware) around the handlers of all routes, and of those that are added later."""
        with self.adding:
            self._compose = compose
            for route in [self._no_route, self._refused, *self]:
                route.bind(compose)

    def add(
        self,
        template: PathTemplate,
        verbs: Sequence[HttpVerb],
        handler: Handler,
        endpoint: RouteEndpoint,
        hosts: Iterable[str] = (),
    ) -> None:
        """Adds a route; `hosts` are the Host headers it answers to, all of them if empty.

        The caller holds `adding`, from before it asked whether the route is there.
        """
        names = frozenset(host.lower() for host in hosts)
        entry = self._entry(template)
        for verb in verbs:
            route = _Route(verb.value, handler, self, endpoint, names)
            if self._compose is not None:
                route.bind(self._compose)
            entry.routes.setdefault(verb.value, []).append(route)
            self._mapped.add((template.key, verb))

    def has(self, template: PathTemplate, verb: HttpVerb) -> bool:
        """Whether a route with this verb and an equivalent template exists."""
        return (template.key, verb) in self._mapped

    def _entry(self, template: PathTemplate) -> _Entry:
        if template.is_literal:
            return self._literal.setdefault(template.key, _Entry(template))
        entry = self._templates.get(template.text)
        if entry is None:
            entry = self._templates[template.text] = _Entry(template)
            ordered = self._ordered.copy()  # a request may be looking through the present one
            insort(ordered, entry, key=lambda entry: entry.template.precedence)
            self._ordered = ordered
        return entry

    def dispatch(self, app: web.Application, request: web.Request) -> Awaitable[web.StreamResponse]:
        """Handles a request without aiohttp's router, which asks no one but this table anyway."""
        if hdrs.EXPECT in request.headers:
            return app._handle(request)
        route, values = self._find(request)
        info = None if values else route.match_info
        if info is None:
            info = _MatchInfo(values, route)
            info.add_app(app)
            info.freeze()
            if not values:
                route.match_info = info
        request._match_info = info
        return route.composed(request)

    async def resolve(self, request: web.Request) -> tuple[web.UrlMappingMatchInfo | None, set[str]]:
        route, values = self._find(request)
        return web.UrlMappingMatchInfo(values, route), _NONE

    def _find(self, request: web.Request) -> tuple[_Route, dict[str, str]]:
        entry = self._literal.get(request.rel_url.path_safe)
        if entry is not None:  # a literal path, written as its template is: the shortest way
            routes = entry.routes.get(request.method)
            if routes is not None and not routes[0].hosts:
                return routes[0], _NO_VALUES
        if holds_nul(request.rel_url.raw_path):
            return self._refused, _NO_VALUES
        for entry, values in self._matching(request):
            route = entry.find(request.method, request)
            if route is not None:
                return route, values
        # What no route is for passes through the middleware as well, as in ASP.NET Core.
        return self._no_route, _NO_VALUES

    def _matching(self, request: web.Request) -> Iterator[tuple[_Entry, dict[str, str]]]:
        """The entries whose template matches, the most specific one first, and the values of their parameters."""
        path = _path_of(request)
        folded = path.lower()
        entry = self._literal.get(folded) or self._literal.get(folded.removesuffix("/"))
        if entry is not None:
            yield entry, {}
        for entry in self._ordered:
            values = entry.template.match(path)
            if values is not None:
                yield entry, values

    async def _answer_no_route(self, request: web.Request) -> web.StreamResponse:
        """404, or 405 with Allow if the path has other verbs; without a body, as ASP.NET Core answers."""
        allowed: set[str] = set()
        for entry, _ in self._matching(request):
            allowed |= entry.allowed(request)
        if not allowed:
            return web.Response(status=404)
        return web.Response(status=405, headers={"Allow": ", ".join(sorted(allowed))})

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

    def __iter__(self) -> Iterator[_Route]:
        for entry in (*self._literal.values(), *self._templates.values()):
            for routes in [*entry.routes.values()]:
                yield from [*routes]
