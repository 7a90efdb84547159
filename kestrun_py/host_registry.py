"""Hosts by name, and the default one (Kestrun's ``KestrunHostManager``)."""

from __future__ import annotations

from kestrun_py.errors import InvalidOperationError
from kestrun_py.host import KestrunHost
from kestrun_py.http.context import active_context

__all__ = ["add_host", "find_host", "registered_hosts", "remove_host", "resolve_host"]

_hosts: dict[str, KestrunHost] = {}
_default: KestrunHost | None = None


def add_host(host: KestrunHost, *, default: bool = False) -> KestrunHost:
    """Registers a host under its name, in any case; the first one becomes the default.

    Raises:
        InvalidOperationError: The name is taken.
    """
    global _default
    if host.name.casefold() in _hosts:
        raise InvalidOperationError(
            f"A KestrunHost instance with the name '{host.name}' already exists. Remove it first, or use force=True."
        )
    _hosts[host.name.casefold()] = host
    if default or _default is None:
        _default = host
    return host


def find_host(name: str) -> KestrunHost | None:
    """The host of that name, in any case, or None."""
    return _hosts.get(name.casefold())


def registered_hosts() -> list[KestrunHost]:
    """The hosts that were registered and not removed, in the order of registration."""
    return [*_hosts.values()]


def remove_host(host: KestrunHost | str) -> None:
    """Stops a host, given or by its name, if it runs, and forgets it; one that is not there is no error."""
    global _default
    found = find_host(host) if isinstance(host, str) else host
    if found is None:
        return
    if find_host(found.name) is found:
        del _hosts[found.name.casefold()]
    if _default is found:
        _default = next(iter(_hosts.values()), None)
    if found.server is not None and found.server.is_running:
        found.stop()


def resolve_host(host: KestrunHost | None = None) -> KestrunHost:
    """Returns the host that a cmdlet means: the given one, that of the current request, else the default.

    Raises:
        InvalidOperationError: There is none.
    """
    if host is not None:
        return host
    context = active_context()
    if context is not None:
        return context.services.require(KestrunHost)
    if _default is None:
        raise InvalidOperationError("No Kestrun server instance found. Please create a Kestrun server instance.")
    return _default
