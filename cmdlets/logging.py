"""The logging cmdlets (Kestrun's family Logging).

A logger is built in a pipe::

    new_kr_logger() | set_kr_logger_level("Debug") | add_kr_sink_console() | register_kr_logger("app")
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TypeAlias, overload

from cmdlets._arguments import MISSING
from cmdlets._pipe import Pending, pipe
from kestrun_py import logging
from kestrun_py.conversion.enums import to_enum
from kestrun_py.errors import ArgumentError
from kestrun_py.logging import (
    CONSOLE_TEMPLATE,
    FILE_SIZE_LIMIT,
    FILE_TEMPLATE,
    Formatter,
    Logger,
    LoggerConfiguration,
    LogLevel,
    RollingInterval,
)
from kestrun_py.logging.files import RollingIntervalText
from kestrun_py.logging.levels import LogLevelText

__all__ = [
    "add_kr_sink_console",
    "add_kr_sink_file",
    "close_kr_logger",
    "new_kr_logger",
    "register_kr_logger",
    "set_kr_logger_level",
    "write_kr_log",
]

Level: TypeAlias = LogLevel | LogLevelText
Step: TypeAlias = Pending[LoggerConfiguration, LoggerConfiguration]


def new_kr_logger() -> LoggerConfiguration:
    """Begins a logger (New-KrLogger); level Information and no sink yet."""
    return LoggerConfiguration()


@overload
def set_kr_logger_level(
    value: Level | None = None,
    *,
    level: Level | None = None,
    dynamic: Level | None = None,
    logger_config: LoggerConfiguration,
) -> LoggerConfiguration: ...
@overload
def set_kr_logger_level(
    value: Level | None = None, *, level: Level | None = None, dynamic: Level | None = None
) -> Step: ...
def set_kr_logger_level(
    value: Level | None = None,
    *,
    level: Level | None = None,
    dynamic: Level | None = None,
    logger_config: LoggerConfiguration = MISSING,
) -> LoggerConfiguration | Step:
    """Sets the level below which events are left out (Set-KrLoggerLevel).

    Args:
        value: Verbose, Debug, Information, Warning, Error or Fatal; the member, or text in any case.
        level: The same, by its other name.
        dynamic: The same; here the level of every logger may be changed later (``logger.minimum_level``).
        logger_config: The pipeline input.

    Raises:
        ArgumentError: An unknown level, none, or more than one.
    """
    given = [choice for choice in (value, level, dynamic) if choice is not None]
    if len(given) != 1:
        raise ArgumentError("set_kr_logger_level takes one level: value (or level), or dynamic.")
    chosen = to_enum(LogLevel, given[0], "value" if dynamic is None else "dynamic")
    return pipe("set_kr_logger_level", LoggerConfiguration, logger_config, lambda config: config.set_level(chosen))


# made from LoggerConfiguration.add_console_sink as add_kr_sink_console
@overload
def add_kr_sink_console(
    *,
    restricted_to_minimum_level: LogLevel | LogLevelText = ...,
    output_template: str = ...,
    standard_error_from_level: LogLevel | LogLevelText | None = ...,
    formatter: Formatter | None = ...,
    logger_config: LoggerConfiguration,
) -> LoggerConfiguration: ...
@overload
def add_kr_sink_console(
    *,
    restricted_to_minimum_level: LogLevel | LogLevelText = ...,
    output_template: str = ...,
    standard_error_from_level: LogLevel | LogLevelText | None = ...,
    formatter: Formatter | None = ...,
) -> Pending[LoggerConfiguration, LoggerConfiguration]: ...
def add_kr_sink_console(
    *,
    restricted_to_minimum_level: LogLevel | LogLevelText = LogLevel.VERBOSE,
    output_template: str = CONSOLE_TEMPLATE,
    standard_error_from_level: LogLevel | LogLevelText | None = None,
    formatter: Formatter | None = None,
    logger_config: LoggerConfiguration = MISSING,
) -> LoggerConfiguration | Pending[LoggerConfiguration, LoggerConfiguration]:
    """Adds the console (Add-KrSinkConsole).

    Args:
        restricted_to_minimum_level: Lesser events are left out.
        output_template: The line of an event.
        standard_error_from_level: From this level on events go to stderr instead of stdout.
        formatter: A function that makes the text of an event; used instead of the template.
        logger_config: What it works on; the pipeline's input.
    """
    return pipe(
        "add_kr_sink_console",
        LoggerConfiguration,
        logger_config,
        lambda piped: piped.add_console_sink(
            restricted_to_minimum_level=restricted_to_minimum_level,
            output_template=output_template,
            standard_error_from_level=standard_error_from_level,
            formatter=formatter,
        ),
    )


# made from LoggerConfiguration.add_file_sink as add_kr_sink_file
@overload
def add_kr_sink_file(
    path: str | Path,
    *,
    restricted_to_minimum_level: LogLevel | LogLevelText = ...,
    output_template: str = ...,
    formatter: Formatter | None = ...,
    rolling_interval: RollingInterval | RollingIntervalText = ...,
    file_size_limit_bytes: int | None = ...,
    roll_on_file_size_limit: bool = ...,
    retained_file_count_limit: int | None = ...,
    encoding: str = ...,
    buffered: bool = ...,
    logger_config: LoggerConfiguration,
) -> LoggerConfiguration: ...
@overload
def add_kr_sink_file(
    path: str | Path,
    *,
    restricted_to_minimum_level: LogLevel | LogLevelText = ...,
    output_template: str = ...,
    formatter: Formatter | None = ...,
    rolling_interval: RollingInterval | RollingIntervalText = ...,
    file_size_limit_bytes: int | None = ...,
    roll_on_file_size_limit: bool = ...,
    retained_file_count_limit: int | None = ...,
    encoding: str = ...,
    buffered: bool = ...,
) -> Pending[LoggerConfiguration, LoggerConfiguration]: ...
def add_kr_sink_file(
    path: str | Path,
    *,
    restricted_to_minimum_level: LogLevel | LogLevelText = LogLevel.VERBOSE,
    output_template: str = FILE_TEMPLATE,
    formatter: Formatter | None = None,
    rolling_interval: RollingInterval | RollingIntervalText = RollingInterval.INFINITE,
    file_size_limit_bytes: int | None = FILE_SIZE_LIMIT,
    roll_on_file_size_limit: bool = False,
    retained_file_count_limit: int | None = 31,
    encoding: str = "utf-8",
    buffered: bool = False,
    logger_config: LoggerConfiguration = MISSING,
) -> LoggerConfiguration | Pending[LoggerConfiguration, LoggerConfiguration]:
    """Adds a file (Add-KrSinkFile).

    Args:
        path: The file, relative to the working directory; made with its folder when the first event comes.
        restricted_to_minimum_level: Lesser events are left out.
        output_template: The line of an event.
        formatter: A function that makes the text of an event; used instead of the template.
        rolling_interval: Infinite, Year, Month, Day, Hour or Minute: when a new file is begun.
        file_size_limit_bytes: Size at which a file is full, in bytes; None: no limit.
        roll_on_file_size_limit: Go on with a further file when one is full, instead of dropping events.
        retained_file_count_limit: How many rolled files are kept; None: all.
        encoding: Of the text.
        buffered: Write when a buffer is full, not with each event.
        logger_config: What it works on; the pipeline's input.
    """
    return pipe(
        "add_kr_sink_file",
        LoggerConfiguration,
        logger_config,
        lambda piped: piped.add_file_sink(
            path,
            restricted_to_minimum_level=restricted_to_minimum_level,
            output_template=output_template,
            formatter=formatter,
            rolling_interval=rolling_interval,
            file_size_limit_bytes=file_size_limit_bytes,
            roll_on_file_size_limit=roll_on_file_size_limit,
            retained_file_count_limit=retained_file_count_limit,
            encoding=encoding,
            buffered=buffered,
        ),
    )


# made from LoggerConfiguration.register as register_kr_logger
@overload
def register_kr_logger(name: str, *, set_as_default: bool = ..., logger_config: LoggerConfiguration) -> Logger: ...
@overload
def register_kr_logger(name: str, *, set_as_default: bool = ...) -> Pending[LoggerConfiguration, Logger]: ...
def register_kr_logger(
    name: str, *, set_as_default: bool = False, logger_config: LoggerConfiguration = MISSING
) -> Logger | Pending[LoggerConfiguration, Logger]:
    """Makes the logger and keeps it under a name; an older one of that name is closed (Register-KrLogger).

    Args:
        name: In any case of letters; not blank.
        set_as_default: Make it the process's default logger.
        logger_config: What it works on; the pipeline's input.

    Raises:
        ArgumentError: The name is blank; the configuration can still be used.
        InvalidOperationError: The configuration has made its logger.
    """
    return pipe(
        "register_kr_logger",
        LoggerConfiguration,
        logger_config,
        lambda piped: piped.register(name, set_as_default=set_as_default),
    )


def write_kr_log(
    level: Level,
    message: str | None,
    values: object = (),
    *,
    logger_name: str | None = None,
    logger: Logger | None = None,
    exception: BaseException | None = None,
) -> None:
    """Writes an event to the log (Write-KrLog).

    Args:
        level: Verbose, Debug, Information, Warning, Error or Fatal.
        message: A message template, such as ``"Order {Id} costs {Price:0.00}"``.
        values: The template's values: a list or tuple, or one value.
        logger_name: A registered logger; unknown: all registered loggers get the event.
        logger: A logger. With neither, the default logger.
        exception: What caused the event.
    """
    if logger is not None and logger_name is not None:
        raise ArgumentError("write_kr_log takes logger or logger_name, not both.")
    chosen = to_enum(LogLevel, level, "level")
    filling = values if isinstance(values, list | tuple) else (values,)
    for target in [logger] if logger is not None else logging.loggers_for(logger_name):
        target.write(chosen, message or "", *filling, exception=exception)


def close_kr_logger(
    logger: Logger | Iterable[Logger] | None = None,
    *,
    logger_name: str | Iterable[str] | None = None,
    default_logger: bool = False,
) -> None:
    """Writes out and closes loggers (Close-KrLogger): the ones named, or without an argument all of them.

    Args:
        logger: One or several loggers.
        logger_name: One or several names; an unknown one is ignored.
        default_logger: Close the process's default logger.
    """
    if logger is None and logger_name is None and not default_logger:
        logging.close_all_loggers()
    targets: list[Logger | str] = [logger] if isinstance(logger, Logger) else [*(logger or ())]
    targets += [logger_name] if isinstance(logger_name, str) else (logger_name or ())
    targets += [logging.default_logger] if default_logger else []
    for target in targets:
        logging.close_logger(target)
