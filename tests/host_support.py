"""What the tests of the host share: a log to look into, and waiting without guessing."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from kestrun_py.logging import LogEvent, Logger, LoggerConfiguration, LogLevel, Sink


class Log(Sink):
    """Keeps what is logged.

    Attributes:
        logger: Writes here, from Debug on.
        events: What was written.
    """

    def __init__(self, level: str = "Debug") -> None:
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


async def until(condition: Callable[[], object], seconds: float = 30) -> None:
    """Waits until a condition is true."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true in time"
        await asyncio.sleep(0.002)
