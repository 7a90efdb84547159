"""A log to look into."""

from __future__ import annotations

from kestrun_py.logging import LogEvent, Logger, LoggerConfiguration, LogLevel, LogLevelText, Sink

__all__ = ["Log"]


class Log(Sink):
    """Keeps what is logged.

    Args:
        level: What `logger` lets through.

    Attributes:
        logger: Writes here.
        events: What was written.
    """

    def __init__(self, level: LogLevelText = "Debug") -> None:
        super().__init__("the test's log", lambda event: event.message, LogLevel.VERBOSE)
        self.events: list[LogEvent] = []
        self.logger: Logger = LoggerConfiguration().set_level(level).add_sink(self).create_logger()

    def _write(self, text: str, event: LogEvent) -> None:
        self.events.append(event)

    def texts(self, level: LogLevel) -> list[str]:
        """The messages of a level, in order."""
        return [event.message for event in self.events if event.level is level]

    @property
    def errors(self) -> list[LogEvent]:
        return [event for event in self.events if event.level is LogLevel.ERROR]

    @property
    def alarms(self) -> list[str]:
        """The messages from Warning on."""
        return [event.message for event in self.events if event.level >= LogLevel.WARNING]

    @property
    def everything(self) -> str:
        """All that was logged, with values and tracebacks."""
        return "\n".join(f"{event.message} {dict(event.properties)!r} {event.exception}" for event in self.events)

    @property
    def last_exception(self) -> str:
        """The last line of the last error's traceback."""
        return self.errors[-1].exception.strip().splitlines()[-1]
