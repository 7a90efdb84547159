"""The host's verb for routes."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Self

from kestrun_py.conversion.enums import enum_text, to_enum
from kestrun_py.errors import ArgumentError, InvalidOperationError
from kestrun_py.hosting.base import HostBase
from kestrun_py.logging import LogLevel
from kestrun_py.routing.options import RouteEndpoint, RouteOptions, SessionAccess, SessionAccessText
from kestrun_py.routing.table import DuplicateAction, DuplicateActionText, HttpVerb, to_verbs
from kestrun_py.routing.templates import PathTemplate
from kestrun_py.scripting.handler import RouteHandler
from kestrun_py.scripting.scripts import Script

__all__ = ["RouteVerbs"]


class RouteVerbs(HostBase):
    """The part of `KestrunHost` that maps routes to scripts."""

    def add_map_route(
        self,
        pattern: str = "/",
        verbs: HttpVerb | str | Iterable[HttpVerb | str] = HttpVerb.GET,
        script: Callable[..., Any] | None = None,
        *,
        code: str | None = None,
        code_file_path: str | os.PathLike[str] | None = None,
        arguments: Mapping[str, Any] | None = None,
        endpoints: str | Iterable[str] = (),
        session_access: SessionAccess | SessionAccessText = SessionAccess.READ_WRITE,
        allow_duplicate: bool = False,
        duplicate_action: DuplicateAction | DuplicateActionText = DuplicateAction.THROW,
    ) -> Self:
        """Maps a route to a script, as Kestrun's ``Add-KrMapRoute``. Routes may be added at any time.

        Args:
            pattern: The path template; starts with a slash.
            verbs: One verb or several, as members or text in any case.
            script: A function with no parameter, or with one named ``context``.
            code: Instead of a function, source text with ``context`` in scope.
            code_file_path: Instead, a file with such text.
            arguments: Values for further parameters of the function, or for names in the text.
            endpoints: Listeners (``host:port``) that the route is for; all if empty.
            session_access: ``"read_only"`` reads the session without its lock, and refuses writes.
            allow_duplicate: Short for ``duplicate_action="Allow"``.
            duplicate_action: If the route exists: ``"Throw"``, ``"Skip"``, ``"Warn"`` (and skip) or ``"Allow"``.

        Raises:
            ArgumentError: A malformed pattern, script or argument.
            InvalidOperationError: The route exists already.
        """
        template = PathTemplate(pattern)
        methods = to_verbs(verbs)
        made = _make_script(script, code, code_file_path, arguments)
        options = RouteOptions(session_access=to_enum(SessionAccess, session_access, "session_access"))
        action = to_enum(DuplicateAction, duplicate_action, "duplicate_action")
        hosts = self._hosts([endpoints] if isinstance(endpoints, str) else endpoints)
        handler = RouteHandler(pattern, made, self.runspaces, self.logger)
        names = ", ".join(map(enum_text, methods))
        with self.routes.adding:
            exists = any(self.routes.has(template, verb) for verb in methods)
            if exists and not allow_duplicate and action is not DuplicateAction.ALLOW:
                self._refuse_route(f"Route '{pattern}' with method(s) {names} already exists.", action)
                return self
            self.routes.add(template, methods, handler.handle, RouteEndpoint(pattern, options), hosts)
        for finding in made.findings:
            self.logger.warning("Route {Verbs} {Pattern}: {Finding}", names, pattern, str(finding))
        self.logger.debug("Route {Verbs} {Pattern} mapped", names, pattern)
        return self

    def _refuse_route(self, text: str, action: DuplicateAction) -> None:
        if action is DuplicateAction.THROW:
            raise InvalidOperationError(text)
        level = LogLevel.WARNING if action is DuplicateAction.WARN else LogLevel.DEBUG
        self.logger.write(level, "{Text} It is skipped.", text)

    def _hosts(self, names: Iterable[str]) -> list[str]:
        known = {name.lower() for endpoint in self.endpoints for name in endpoint.names}
        wanted = [(name.partition("://")[2] or name).rstrip("/") for name in names]
        unknown = [name for name in wanted if name.lower() not in known]
        if unknown:
            places = ", ".join(sorted(known)) or "none yet"
            raise ArgumentError(f"Invalid Endpoints: {', '.join(unknown)}. The host listens on {places}.")
        return wanted


def _make_script(
    script: Callable[..., Any] | None,
    code: str | None,
    code_file_path: str | os.PathLike[str] | None,
    arguments: Mapping[str, Any] | None,
) -> Script:
    if (script is not None) + (code is not None) + (code_file_path is not None) != 1:
        raise ArgumentError("A route takes exactly one of a script function, code and code_file_path.")
    if script is not None:
        return Script.from_function(script, arguments)
    if code is not None:
        return Script.from_source(code, arguments=arguments)
    return Script.from_file(str(code_file_path), arguments)
