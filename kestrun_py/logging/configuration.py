"""Building a logger step by step (Serilog's LoggerConfiguration)."""

from __future__ import annotations

from pathlib import Path

from structlog.typing import Processor

from kestrun_py.conversion.enums import to_enum
from kestrun_py.errors import InvalidOperationError
from kestrun_py.logging.events import Formatter, output_formatter
from kestrun_py.logging.files import FILE_SIZE_LIMIT, FILE_TEMPLATE, FileSink, RollingInterval, RollingIntervalText
from kestrun_py.logging.levels import LogLevel, LogLevelText
from kestrun_py.logging.logger import Logger, sink_logger
from kestrun_py.logging.registry import check_logger_name, register_logger
from kestrun_py.logging.sinks import CONSOLE_TEMPLATE, ConsoleSink, Sink

__all__ = ["LoggerConfiguration"]


class LoggerConfiguration:
    """What a logger will be; every step returns the configuration.

    Example:
        >>> logger = LoggerConfiguration().set_level("Debug").add_console_sink().register("app")
    """

    def __init__(self) -> None:
        self._level = LogLevel.INFORMATION
        self._sinks: list[Sink] = []
        self._processors: list[Processor] = []
        self._created = False

    def set_level(self, level: LogLevel | LogLevelText) -> LoggerConfiguration:
        """Sets the level below which events are left out; Information if never set."""
        self._level = to_enum(LogLevel, level, "level")
        return self

    def add_sink(self, sink: Sink) -> LoggerConfiguration:
        """Adds any sink."""
        self._sinks.append(sink)
        return self

    def add_processor(self, *processors: Processor) -> LoggerConfiguration:
        """Adds structlog processors, run in order before the sinks."""
        self._processors.extend(processors)
        return self

    def add_console_sink(
        self,
        *,
        restricted_to_minimum_level: LogLevel | LogLevelText = LogLevel.VERBOSE,
        output_template: str = CONSOLE_TEMPLATE,
        standard_error_from_level: LogLevel | LogLevelText | None = None,
        formatter: Formatter | None = None,
    ) -> LoggerConfiguration:
        """Adds the console.

        Args:
            restricted_to_minimum_level: Lesser events are left out.
            output_template: The line of an event.
            standard_error_from_level: From this level on events go to stderr instead of stdout.
            formatter: A function that makes the text of an event; used instead of the template.
        """
        error_level = standard_error_from_level
        return self.add_sink(
            ConsoleSink(
                to_enum(LogLevel, restricted_to_minimum_level, "restricted_to_minimum_level"),
                formatter or output_formatter(output_template),
                None if error_level is None else to_enum(LogLevel, error_level, "standard_error_from_level"),
            )
        )

    def add_file_sink(
        self,
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
    ) -> LoggerConfiguration:
        """Adds a file.

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
        """
        return self.add_sink(
            FileSink(
                path,
                to_enum(LogLevel, restricted_to_minimum_level, "restricted_to_minimum_level"),
                formatter or output_formatter(output_template),
                rolling_interval=to_enum(RollingInterval, rolling_interval, "rolling_interval"),
                file_size_limit_bytes=file_size_limit_bytes,
                roll_on_file_size_limit=roll_on_file_size_limit,
                retained_file_count_limit=retained_file_count_limit,
                encoding=encoding,
                buffered=buffered,
            )
        )

    def create_logger(self, name: str = "") -> Logger:
        """Makes the logger.

        Raises:
            InvalidOperationError: The configuration has made its logger: two would close each other's sinks.
        """
        if self._created:
            raise InvalidOperationError(
                "This logger configuration has made its logger already; begin another with new_kr_logger()."
            )
        self._created = True
        return sink_logger(self._sinks, name=name, minimum_level=self._level, processors=self._processors)

    def register(self, name: str, *, set_as_default: bool = False) -> Logger:
        """Makes the logger and keeps it under a name; an older one of that name is closed.

        Args:
            name: In any case of letters; not blank.
            set_as_default: Make it the process's default logger.

        Raises:
            ArgumentError: The name is blank; the configuration can still be used.
            InvalidOperationError: The configuration has made its logger.
        """
        check_logger_name(name)
        return register_logger(name, self.create_logger(name), set_as_default=set_as_default)
