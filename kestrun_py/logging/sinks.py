"""Where events go: the base of all sinks, and the console."""

from __future__ import annotations

import sys
import threading
from abc import ABC, abstractmethod
from contextlib import suppress
from typing import TextIO

from kestrun_py.logging.events import Formatter, LogEvent, output_formatter
from kestrun_py.logging.levels import LogLevel

__all__ = ["CONSOLE_TEMPLATE", "ConsoleSink", "FailureNotice", "Sink"]

CONSOLE_TEMPLATE = "[{Timestamp:HH:mm:ss} {Level:u3}] {Message:lj}{NewLine}{Exception}"


class FailureNotice:
    """Tells the error stream of a failure once, until what failed works again."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._given = False

    def give(self, error: Exception) -> None:
        """Writes one line to stderr, if there is one that can be written to."""
        if not self._given:
            self._given = True
            with suppress(Exception):
                sys.stderr.write(f"kestrun_py: {self._what} failed, events are lost: {error}\n")

    def clear(self) -> None:
        """The next failure is news again."""
        self._given = False


class Sink(ABC):
    """Takes events, from any thread; a failure to write is told on stderr and never raised."""

    def __init__(self, name: str, formatter: Formatter, minimum_level: LogLevel) -> None:
        self.minimum_level = minimum_level
        self._formatter = formatter
        self._notice = FailureNotice(name)
        # reentrant: a signal handler that logs may interrupt a write of its own thread
        self._lock = threading.RLock()
        self._closed = False

    def emit(self, event: LogEvent) -> None:
        """Writes the event if its level is high enough."""
        if event.level < self.minimum_level:
            return
        try:
            text = self._formatter(event)
            with self._lock:
                if not self._closed:
                    self._write(text, event)
            self._notice.clear()
        except Exception as error:
            self._notice.give(error)

    def close(self) -> None:
        """Writes out what is buffered; later events are ignored."""
        with self._lock:
            if not self._closed:
                self._closed = True
                with suppress(Exception):
                    self._close()

    @abstractmethod
    def _write(self, text: str, event: LogEvent) -> None: ...

    def _close(self) -> None:  # noqa: B027
        """Frees what the sink holds."""


class ConsoleSink(Sink):
    """Writes to stdout, and to stderr from a level on (Serilog.Sinks.Console).

    Args:
        minimum_level: Lesser events are left out.
        formatter: Makes the text of an event.
        standard_error_from_level: From this level on events go to stderr; None: never.
    """

    def __init__(
        self,
        minimum_level: LogLevel = LogLevel.VERBOSE,
        formatter: Formatter | None = None,
        standard_error_from_level: LogLevel | None = None,
    ) -> None:
        super().__init__("the console log", formatter or output_formatter(CONSOLE_TEMPLATE), minimum_level)
        self._error_level = standard_error_from_level

    def _write(self, text: str, event: LogEvent) -> None:
        to_error = self._error_level is not None and event.level >= self._error_level
        # looked up each time: a test or a tool may have replaced the stream
        stream: TextIO | None = sys.stderr if to_error else sys.stdout
        if stream is not None:
            _write_text(stream, text)


def _write_text(stream: TextIO, text: str) -> None:
    try:
        stream.write(text)
    except UnicodeEncodeError:
        encoding = stream.encoding or "ascii"
        stream.write(text.encode(encoding, "backslashreplace").decode(encoding))
    stream.flush()
