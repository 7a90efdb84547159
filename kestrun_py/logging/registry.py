"""The process's loggers by name, and its default logger (Kestrun's LoggerManager, Serilog's Log.Logger)."""

from __future__ import annotations

import atexit
import threading

from kestrun_py.errors import ArgumentError
from kestrun_py.logging.levels import LogLevel
from kestrun_py.logging.logger import Logger, sink_logger
from kestrun_py.logging.sinks import ConsoleSink

__all__ = [
    "check_logger_name",
    "close_all_loggers",
    "close_logger",
    "default_logger",
    "get_logger",
    "loggers_for",
    "register_logger",
    "registered_loggers",
    "set_default_logger",
]

# until a script sets a default logger, errors are not invisible
_fallback = sink_logger([ConsoleSink(standard_error_from_level=LogLevel.VERBOSE)], minimum_level=LogLevel.WARNING)
_lock = threading.RLock()
_loggers: dict[str, Logger] = {}


class _DefaultLogger(Logger):
    """Whatever the process's default logger is at the moment."""

    def __init__(self) -> None:
        super().__init__(None)
        self._target = _fallback

    @property
    def name(self) -> str:
        return self._target.name

    @property
    def minimum_level(self) -> LogLevel:
        return self._target.minimum_level

    @minimum_level.setter
    def minimum_level(self, level: LogLevel) -> None:
        self._target.minimum_level = level

    def is_enabled(self, level: LogLevel) -> bool:
        return level >= self._target._threshold

    def write(self, level: LogLevel, template: str, *values: object, exception: BaseException | None = None) -> None:
        self._target.write(level, template, *values, exception=exception)

    def close(self) -> None:
        close_logger(self._target)


_default = _DefaultLogger()
default_logger: Logger = _default
"""Always writes to the process's default logger; without one, to stderr from Warning on."""


def set_default_logger(logger: Logger | None) -> None:
    """Makes a logger the process's default one; None goes back to stderr."""
    if logger is not _default:
        _default._target = logger or _fallback


def register_logger(name: str, logger: Logger, *, set_as_default: bool = False) -> Logger:
    """Keeps a logger under a name, in any case of letters; an older logger of that name is closed.

    Returns:
        `logger`.

    Raises:
        ArgumentError: The name is blank.
    """
    check_logger_name(name)
    with _lock:
        older = _loggers.get(name.casefold())
        _loggers[name.casefold()] = logger
        if set_as_default or (older is not None and _is_default(older)):
            set_default_logger(logger)
    if older is not None and older is not logger:
        older.close()
    return logger


def check_logger_name(name: str) -> None:
    """Refuses a name that no logger can be registered under.

    Raises:
        ArgumentError: The name is blank.
    """
    if not name.strip():
        raise ArgumentError("name: a logger needs a name.")


def get_logger(name: str) -> Logger | None:
    """The logger registered under a name, in any case of letters, or None."""
    return _loggers.get(name.casefold())


def registered_loggers() -> list[Logger]:
    """All registered loggers."""
    return list(_loggers.values())


def loggers_for(name: str | None) -> list[Logger]:
    """Who gets an event: the default logger if no name is given, the logger of that name, else every one."""
    if not name:
        return [default_logger]
    found = get_logger(name)
    return registered_loggers() if found is None else [found]


def close_logger(logger: Logger | str) -> bool:
    """Closes a logger, given or by name, and forgets its names.

    Returns:
        Whether it was registered.
    """
    with _lock:
        found = get_logger(logger) if isinstance(logger, str) else logger
        if found is _default:
            found = _default._target
        if found is None:
            return False
        names = [name for name, registered in _loggers.items() if registered is found]
        for name in names:
            del _loggers[name]
        if _is_default(found):
            set_default_logger(None)
    if found is not _fallback:
        found.close()
    return bool(names)


def close_all_loggers() -> None:
    """Closes every registered logger and the default one."""
    for logger in [*registered_loggers(), default_logger]:
        close_logger(logger)


def _is_default(logger: Logger) -> bool:
    return _default._target is logger


atexit.register(close_all_loggers)
