"""The logger: Serilog's calls in front of a structlog logger."""

from __future__ import annotations

import traceback
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

import structlog
from structlog.typing import EventDict, Processor

from kestrun_py.logging.events import LogEvent
from kestrun_py.logging.levels import LogLevel
from kestrun_py.logging.sinks import FailureNotice, Sink
from kestrun_py.logging.templates import RESERVED, bind, render

__all__ = ["Logger", "sink_logger"]

_OFF = len(LogLevel)
_STRUCTLOG_METHODS = ("debug", "debug", "info", "warning", "error", "critical")
_SINK_METHODS = ("verbose", "debug", "information", "warning", "error", "fatal")


class Logger:
    """Writes events by message template to a structlog logger; a failure is told on stderr, never raised.

    Args:
        structlog_logger: Any structlog logger, such as ``structlog.get_logger()`` or one with bound values.
            Its record has the rendered message as ``event``, the values by name, ``message_template`` and
            ``exc_info``.
        name: The logger's name.
        minimum_level: Lesser events are left out before they reach structlog.

    Example:
        >>> logger = Logger(structlog.get_logger().bind(service="shop"))
        >>> logger.information("Order {Id} costs {Price:0.00}", 7, 12.5)
    """

    def __init__(self, structlog_logger: Any, *, name: str = "", minimum_level: LogLevel = LogLevel.VERBOSE) -> None:
        self._name = name
        self._structlog = structlog_logger
        self._methods: Sequence[str] = _STRUCTLOG_METHODS
        self._sinks: Sequence[Sink] = ()
        self._floor = 0
        self._notice = FailureNotice(f"the logger {name!r}")
        self._minimum_level = minimum_level
        self._threshold: int = minimum_level

    @property
    def name(self) -> str:
        """The name it was registered under, or empty."""
        return self._name

    @property
    def minimum_level(self) -> LogLevel:
        """The level below which events are left out; may be changed at any time."""
        return self._minimum_level

    @minimum_level.setter
    def minimum_level(self, level: LogLevel) -> None:
        self._minimum_level = level
        if self._threshold != _OFF:
            self._threshold = max(level, self._floor)

    def is_enabled(self, level: LogLevel) -> bool:
        """Whether an event of that level would be written anywhere."""
        return level >= self._threshold

    def write(self, level: LogLevel, template: str, *values: object, exception: BaseException | None = None) -> None:
        """Writes an event.

        Args:
            level: How much it matters.
            template: A Serilog message template, such as ``"Cache {Cache} answered in {Milliseconds} ms"``.
            *values: The template's values in order.
            exception: What caused the event; its traceback is logged.
        """
        if level < self._threshold:
            return
        try:
            self._emit(level, template, values, exception)
            self._notice.clear()
        except Exception as error:
            self._notice.give(error)

    def verbose(self, template: str, *values: object, exception: BaseException | None = None) -> None:
        """Writes an event at Verbose."""
        self.write(LogLevel.VERBOSE, template, *values, exception=exception)

    def debug(self, template: str, *values: object, exception: BaseException | None = None) -> None:
        """Writes an event at Debug."""
        self.write(LogLevel.DEBUG, template, *values, exception=exception)

    def information(self, template: str, *values: object, exception: BaseException | None = None) -> None:
        """Writes an event at Information."""
        self.write(LogLevel.INFORMATION, template, *values, exception=exception)

    def warning(self, template: str, *values: object, exception: BaseException | None = None) -> None:
        """Writes an event at Warning."""
        self.write(LogLevel.WARNING, template, *values, exception=exception)

    def error(self, template: str, *values: object, exception: BaseException | None = None) -> None:
        """Writes an event at Error."""
        self.write(LogLevel.ERROR, template, *values, exception=exception)

    def fatal(self, template: str, *values: object, exception: BaseException | None = None) -> None:
        """Writes an event at Fatal."""
        self.write(LogLevel.FATAL, template, *values, exception=exception)

    def close(self) -> None:
        """Writes out and frees the sinks; later events are ignored."""
        self._threshold = _OFF
        for sink in self._sinks:
            sink.close()

    def _emit(self, level: LogLevel, template: str, values: Sequence[object], exception: BaseException | None) -> None:
        try:
            properties = bind(template, values)
            message = render(template, properties, "lj")
        except Exception:  # values that cannot be shown must not keep the event from the log
            properties, message = {}, template
        if exception is not None:
            properties["exc_info"] = exception
        getattr(self._structlog, self._methods[level])(message, message_template=template, **properties)

    def _send_to(self, sinks: Sequence[Sink]) -> None:
        self._sinks = sinks
        self._methods = _SINK_METHODS
        self._floor = min((sink.minimum_level for sink in sinks), default=_OFF)
        self._threshold = max(self._minimum_level, self._floor)


def sink_logger(
    sinks: Iterable[Sink],
    *,
    name: str = "",
    minimum_level: LogLevel = LogLevel.INFORMATION,
    processors: Iterable[Processor] = (),
) -> Logger:
    """A logger whose structlog chain ends in sinks of this package.

    Args:
        sinks: Where events go.
        name: The logger's name.
        minimum_level: Lesser events are left out.
        processors: structlog processors that see, change or drop (``structlog.DropEvent``) each record first.
    """
    targets = tuple(sinks)
    chain = structlog.wrap_logger(
        _SinkSet(targets),
        processors=[_Stamp(name), structlog.contextvars.merge_contextvars, *processors, _to_event],
        wrapper_class=structlog.BoundLogger,
        context_class=dict,
    )
    logger = Logger(chain.bind(), name=name, minimum_level=minimum_level)
    logger._send_to(targets)
    return logger


class _SinkSet:
    """The end of the structlog chain: hands each event to every sink."""

    def __init__(self, sinks: Sequence[Sink]) -> None:
        self._sinks = sinks

    def _write(self, event: LogEvent) -> None:
        for sink in self._sinks:
            sink.emit(event)

    verbose = debug = information = warning = error = fatal = _write


class _Stamp:
    """Gives each record its time, level and logger, under structlog's usual names."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __call__(self, logger: Any, method_name: str, record: EventDict) -> EventDict:
        record["timestamp"] = datetime.now().astimezone()
        record["level"] = method_name
        if self._name:
            record["logger"] = self._name
        return record


def _to_event(logger: Any, method_name: str, record: EventDict) -> tuple[tuple[LogEvent], dict[str, Any]]:
    timestamp = record.get("timestamp")
    event = LogEvent(
        timestamp if isinstance(timestamp, datetime) else datetime.now().astimezone(),
        LogLevel[method_name.upper()],
        str(record.get("event", "")),
        record.get("message_template", ""),
        {key: value for key, value in record.items() if key not in RESERVED},
        _exception_text(record),
        record.get("logger", ""),
    )
    return (event,), {}


def _exception_text(record: EventDict) -> str:
    """What a processor made of the exception, else its traceback; ends with a line end."""
    text = record.get("exception")
    if text is None:
        error = record.get("exc_info")
        text = "".join(traceback.format_exception(error)) if isinstance(error, BaseException) else ""
    return f"{text}\n" if text and not text.endswith("\n") else str(text)
