"""The file sink: rolling by time and by size, as Serilog.Sinks.File does."""

from __future__ import annotations

import re
from contextlib import suppress
from enum import Enum
from pathlib import Path
from typing import BinaryIO, Literal, TypeAlias

from kestrun_py.errors import ArgumentError
from kestrun_py.logging.events import Formatter, LogEvent, output_formatter
from kestrun_py.logging.formats import format_date
from kestrun_py.logging.levels import LogLevel
from kestrun_py.logging.sinks import Sink

__all__ = ["FILE_SIZE_LIMIT", "FILE_TEMPLATE", "FileSink", "RollingInterval", "RollingIntervalText"]

FILE_TEMPLATE = "{Timestamp:yyyy-MM-dd HH:mm:ss.fff zzz} [{Level:u3}] {Message:lj}{NewLine}{Exception}"
FILE_SIZE_LIMIT = 1024**3


class RollingInterval(Enum):
    """How often a new log file is begun; the value is the date that goes into its name."""

    INFINITE = ""
    YEAR = "yyyy"
    MONTH = "yyyyMM"
    DAY = "yyyyMMdd"
    HOUR = "yyyyMMddHH"
    MINUTE = "yyyyMMddHHmm"


RollingIntervalText: TypeAlias = Literal["Infinite", "Year", "Month", "Day", "Hour", "Minute"]


class FileSink(Sink):
    """Appends to a file, made with its folder when the first event comes.

    Args:
        path: The file; a rolling one gets the period, and the number of a further file, before its suffix:
            ``logs/app-.txt`` becomes ``logs/app-20260131.txt`` and ``logs/app-20260131_001.txt``.
        minimum_level: Lesser events are left out.
        formatter: Makes the text of an event.
        rolling_interval: When a new file is begun.
        file_size_limit_bytes: Size at which a file is full, in bytes; None: no limit.
        roll_on_file_size_limit: A full file is followed by a further one; otherwise events are dropped until
            the next period.
        retained_file_count_limit: How many rolled files are kept, the current one included; None: all.
        encoding: Of the text.
        buffered: Leave it to the operating system's buffer size when events are written; a crash loses some.

    Raises:
        ArgumentError: A limit below 1, an unknown encoding, an empty path.
    """

    def __init__(
        self,
        path: str | Path,
        minimum_level: LogLevel = LogLevel.VERBOSE,
        formatter: Formatter | None = None,
        *,
        rolling_interval: RollingInterval = RollingInterval.INFINITE,
        file_size_limit_bytes: int | None = FILE_SIZE_LIMIT,
        roll_on_file_size_limit: bool = False,
        retained_file_count_limit: int | None = 31,
        encoding: str = "utf-8",
        buffered: bool = False,
    ) -> None:
        super().__init__(f"the log file {path}", formatter or output_formatter(FILE_TEMPLATE), minimum_level)
        _require_positive(file_size_limit_bytes, "file_size_limit_bytes")
        _require_positive(retained_file_count_limit, "retained_file_count_limit")
        self._files = _RollingFiles(path, rolling_interval, retained_file_count_limit)
        self._limit = file_size_limit_bytes
        self._roll_on_limit = roll_on_file_size_limit
        self._rolls = roll_on_file_size_limit or rolling_interval is not RollingInterval.INFINITE
        self._encoding = _known_encoding(encoding)
        self._buffering = -1 if buffered else 0
        self._period: str | None = None
        self._number = 0
        self._file: BinaryIO | None = None
        self._size = 0

    def _write(self, text: str, event: LogEvent) -> None:
        period = self._files.period_of(event)
        # never back: two threads may come with their events in the other order
        if self._period is None or period > self._period:
            self._open(period, self._files.last_number(period) if self._roll_on_limit else 0)
        elif self._file is None:
            self._open(self._period, self._number)
        if self._full() and self._roll_on_limit:
            self._open(self._period or period, self._number + 1)
        if self._full():
            raise OSError(f"it has reached its limit of {self._limit} bytes")
        self._append(text.encode(self._encoding, "backslashreplace"))

    def _append(self, data: bytes) -> None:
        assert self._file is not None
        try:
            self._file.write(data)
        except OSError:
            self._close()  # opened anew with the next event: the disk may have been mounted again
            raise
        self._size += len(data)

    def _full(self) -> bool:
        return self._limit is not None and self._size >= self._limit

    def _open(self, period: str, number: int) -> None:
        self._close()
        path = self._files.path(period, number)
        path.parent.mkdir(parents=True, exist_ok=True)
        # appended in one write an event, so that several processes may share the file
        self._file = open(path, "ab", buffering=self._buffering)  # noqa: SIM115
        self._size = self._file.tell()
        self._period, self._number = period, number
        if self._rolls:
            self._files.remove_old(path)

    def _close(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            with suppress(OSError):
                file.close()


class _RollingFiles:
    """The names of the files of one sink, and those of them that exist."""

    def __init__(self, path: str | Path, interval: RollingInterval, retained: int | None) -> None:
        # a ported script may say logs\app.log; absolute, so that a later chdir does not move the log
        text = str(path).replace("\\", "/")
        if not text.strip() or text.endswith("/"):
            raise ArgumentError(f"path: {str(path)!r} does not name a log file.")
        self._base = Path(text).absolute()
        self._format = interval.value
        self._retained = retained
        digits = "[0-9]" * len(self._format)
        self._pattern = re.compile(
            f"{re.escape(self._base.stem)}({digits})(?:_([0-9]{{3,9}}))?{re.escape(self._base.suffix)}"
        )

    def period_of(self, event: LogEvent) -> str:
        return format_date(event.timestamp, self._format) if self._format else ""

    def path(self, period: str, number: int) -> Path:
        suffix = f"_{number:03}" if number else ""
        return self._base.with_name(f"{self._base.stem}{period}{suffix}{self._base.suffix}")

    def last_number(self, period: str) -> int:
        return max((number for found, number, _ in self._existing() if found == period), default=0)

    def remove_old(self, current: Path) -> None:
        if self._retained is None:
            return
        newest_first = sorted(self._existing(), key=lambda entry: entry[:2], reverse=True)
        for _, _, path in newest_first[self._retained :]:
            if path != current:
                with suppress(OSError):
                    path.unlink()

    def _existing(self) -> list[tuple[str, int, Path]]:
        if not self._base.parent.is_dir():
            return []
        matches = ((self._pattern.fullmatch(path.name), path) for path in self._base.parent.iterdir())
        return [(match[1], int(match[2] or 0), path) for match, path in matches if match]


def _require_positive(value: int | None, name: str) -> None:
    if value is not None and value < 1:
        raise ArgumentError(f"{name}: {value} is too small; it must be at least 1, or None for no limit.")


def _known_encoding(encoding: str) -> str:
    try:
        "".encode(encoding)
    except LookupError:
        raise ArgumentError(f"encoding: {encoding!r} is not known.") from None
    return encoding
