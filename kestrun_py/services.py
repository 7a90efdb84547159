"""The services of a host: one instance a type (ASP.NET Core's service provider)."""

from __future__ import annotations

from typing import Any, Protocol, TypeVar, cast

from kestrun_py.errors import InvalidOperationError
from kestrun_py.logging import Logger, default_logger

__all__ = ["ServiceRegistry"]

_T = TypeVar("_T")
_T_co = TypeVar("_T_co", covariant=True)


class _TypeOf(Protocol[_T_co]):
    """A type, as what makes its instances: type checkers let no abstract type pass as ``type[...]``."""

    __name__: str

    def __call__(self, *args: Any, **kwargs: Any) -> _T_co: ...


class ServiceRegistry:
    """Instances by the type under which they are asked for.

    Args:
        logger: Where registrations are logged, at Debug.

    Example:
        cache = host.services.get(DistributedCache)
    """

    def __init__(self, logger: Logger = default_logger) -> None:
        self._logger = logger
        self._instances: dict[object, Any] = {}

    def add(self, service: _TypeOf[_T], instance: _T) -> None:
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

    def replace(self, service: _TypeOf[_T], instance: _T) -> None:
        """Registers another instance of a service in the place of the one that is registered.

        Raises:
            InvalidOperationError: None is registered.
        """
        self.require(service)
        del self._instances[service]
        self.add(service, instance)

    def get(self, service: _TypeOf[_T]) -> _T | None:
        """Returns the instance registered for a service, or None."""
        return cast("_T | None", self._instances.get(service))

    def require(self, service: _TypeOf[_T]) -> _T:
        """Returns the instance registered for a service.

        Raises:
            InvalidOperationError: There is none.
        """
        instance = self.get(service)
        if instance is None:
            raise InvalidOperationError(f"No service of type {service.__name__} has been registered.")
        return instance
