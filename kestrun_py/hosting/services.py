"""The services of a host: one instance a type (ASP.NET Core's service provider)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

from kestrun_py.errors import InvalidOperationError
from kestrun_py.logging import Logger, default_logger

__all__ = ["ServiceRegistry"]

_T = TypeVar("_T")


class ServiceRegistry:
    """Instances by the type under which they are asked for.

    Args:
        logger: Where registrations are logged, at Debug.

    Example:
        cache = host.services.get(DistributedCache)
    """

    def __init__(self, logger: Logger = default_logger) -> None:
        self._logger = logger
        # A type is typed as what makes it, for `type[...]` would not let a type checker pass an abstract one.
        self._instances: dict[Callable[..., Any], Any] = {}

    def add(self, service: Callable[..., _T], instance: _T) -> None:
        """Registers the instance of a service.

        Args:
            service: The type under which it is asked for; may be abstract.
            instance: The instance.

        Raises:
            InvalidOperationError: The service is registered already.
        """
        if service in self._instances:
            raise InvalidOperationError(f"A {service.__name__} is already registered.")
        self._instances[service] = instance
        self._logger.debug("Service {Service} registered: {Type}", service.__name__, type(instance).__name__)

    def replace(self, service: Callable[..., _T], instance: _T) -> None:
        """Registers another instance of a service in the place of the one that is registered.

        Raises:
            InvalidOperationError: None is registered.
        """
        self.require(service)
        del self._instances[service]
        self.add(service, instance)

    def get(self, service: Callable[..., _T]) -> _T | None:
        """Returns the instance registered for a service, or None."""
        return cast("_T | None", self._instances.get(service))

    def require(self, service: Callable[..., _T]) -> _T:
        """Returns the instance registered for a service.

        Raises:
            InvalidOperationError: There is none.
        """
        instance = self.get(service)
        if instance is None:
            raise InvalidOperationError(f"No service of type {service.__name__} has been registered.")
        return instance
