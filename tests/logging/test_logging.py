from __future__ import annotations

import io
import sys
import threading
import timeit
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from enum import Enum
from pathlib import Path
from typing import Any

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from kestrun_py.errors import ArgumentError, InvalidOperationError
from kestrun_py.logging import (
    ConsoleSink,
    FileSink,
    LogEvent,
    Logger,
    LoggerConfiguration,
    LogLevel,
    RollingInterval,
    Sink,
    close_all_loggers,
    close_logger,
    default_logger,
    get_logger,
    output_formatter,
    register_logger,
    registered_loggers,
    set_default_logger,
)
from kestrun_py.logging.formats import format_date, format_value
from kestrun_py.logging.levels import format_level
from kestrun_py.logging.templates import bind, render

PLAIN = output_formatter("{Level:u3} {Message:lj}{NewLine}{Exception}")
MOMENT = datetime(2026, 1, 31, 8, 5, 9, 45_000, timezone(timedelta(hours=-3, minutes=-30)))


class ListSink(Sink):
    def __init__(self, minimum_level: LogLevel = LogLevel.VERBOSE) -> None:
        super().__init__("the list", PLAIN, minimum_level)
        self.events: list[LogEvent] = []
        self.lines: list[str] = []

    def _write(self, text: str, event: LogEvent) -> None:
        self.events.append(event)
        self.lines.append(text)


@pytest.fixture(autouse=True)
def _no_loggers_left() -> Iterator[None]:
    yield
    close_all_loggers()


@pytest.fixture
def sink() -> ListSink:
    return ListSink()


@pytest.fixture
def logger(sink: ListSink) -> Logger:
    return LoggerConfiguration().set_level("Verbose").add_sink(sink).create_logger("test")


def message(template: str, *values: object, style: str = "lj") -> str:
    return render(template, bind(template, values), style)


@dataclass
class Point:
    x: int
    label: str


class Colour(Enum):
    DARK_RED = 1


class Untellable:
    def __str__(self) -> str:
        raise RuntimeError("no text")


class TestMessages:
    @pytest.mark.parametrize(
        ("template", "values", "expected"),
        [
            ("plain", (), "plain"),
            ("", (), ""),
            ("Cache {Cache} took {Ms} ms", ("redis", 12), "Cache redis took 12 ms"),
            ("{A}{B}", (1, 2, 3), "12"),
            ("{A} and {B}", (1,), "1 and {B}"),
            ("{1} then {0}", ("a", "b"), "b then a"),
            ("{0} {5} {99999}", ("a",), "a {5} {99999}"),
            ("{{Name}} is {Name}", ("x",), "{Name} is x"),
            ("{ Name } {} {a-b} } {", ("x",), "{ Name } {} {a-b} } {"),
            ("[{A,5}|{A,-5}]", ("ab", "cd"), "[   cd|cd   ]"),
            ("{N:000} {N:0.00}", (7, 7), "007 7.00"),
            ("{A} {B} {C} {D}", (None, True, 1.5, Decimal("2.50")), "null true 1.5 2.50"),
            ("{L} {D}", ([1, "a", None], {"k": {2}}), '[1,"a",null] {"k":[2]}'),
            ("{P}", (Point(1, "a"),), "Point(x=1, label='a')"),
            ("{@P}", (Point(1, "a"),), '{"x":1,"label":"a"}'),
            ("{@P}", ([Point(1, "a")],), '[{"x":1,"label":"a"}]'),
            ("{$L}", ([1, 2],), "[1, 2]"),
            ("{C}", (Colour.DARK_RED,), "DarkRed"),
            ("{@T}", (threading.Lock,), str(threading.Lock)),
            ("{B}", (b"\x01\xff",), "01FF"),
            ("{event} {level} {self}", (1, 2, 3), "1 2 3"),
            ("{X}", (Untellable(),), "<Untellable>"),
            ("{X}", (MOMENT,), str(MOMENT)),
            ("{X:yyyy-MM-dd}", (MOMENT,), "2026-01-31"),
        ],
    )
    def test_rendering(self, template: str, values: tuple[object, ...], expected: str) -> None:
        assert message(template, *values) == expected

    def test_text_is_quoted_without_l(self) -> None:
        assert message("{A} {B}", 'say "x"', [1, 2], style="") == '"say \\"x\\"" [1, 2]'
        assert message("{A} {B}", "x", [1, 2], style="j") == '"x" [1,2]'

    def test_a_value_cannot_begin_a_line_or_steer_a_terminal(self) -> None:
        assert message("user {User}", "a\r\n[08:00:00 INF] forged \x1b[2J\u2028\t.") == (
            "user a\\r\\n[08:00:00 INF] forged \\u001b[2J\\u2028\t."
        )

    def test_long_bytes_and_deep_or_endless_objects_are_cut(self) -> None:
        endless: list[Any] = []
        endless.append(endless)
        assert message("{B}", bytes(2000)).endswith("... (2000 bytes)")
        assert message("{@L}", endless).startswith("[[[[[[[[[[")

    @given(
        st.text(max_size=60),
        st.lists(st.one_of(st.text(), st.integers(), st.floats(), st.none()), max_size=4),
    )
    def test_no_template_and_no_value_fails(self, template: str, values: list[object]) -> None:
        assert isinstance(message(template, *values), str)

    @given(st.text(alphabet="{}@$:,aN0 -1", max_size=40), st.integers())
    def test_braces_and_formats_never_fail(self, template: str, value: int) -> None:
        assert len(message(template, *[value] * 20)) < 100_000


class TestFormats:
    @pytest.mark.parametrize(
        ("value", "spec", "expected"),
        [
            (7, "000", "007"),
            (-7, "000", "-007"),
            (1234567, "#,##0", "1,234,567"),
            (0.5, "0", "1"),
            (2.345, "0.00", "2.35"),
            (1.5, "0.0##", "1.5"),
            (0.126, "#.##", ".13"),
            (0.25, "0%", "25%"),
            (1234.5, "N1", "1,234.5"),
            (1234.5, "N", "1,234.50"),
            (2.5, "F0", "3"),
            (5, "D3", "005"),
            (-5, "D3", "-005"),
            (255, "X4", "00FF"),
            (255, "x", "ff"),
            (0.125, "P1", "12.5 %"),
            (float("nan"), "0.0", "nan"),
            (1.25, "D2", "1.25"),
            (12345, ",", "12,345"),
            ("ab", ">4", "  ab"),
            ("ab", "000", "ab"),
            (5, "nonsense", "5"),
            (5, "99999999", "5"),
            (True, "0.0", "True"),
            (10**40, "0.0", f"{10**40}.0"),
        ],
    )
    def test_values(self, value: object, spec: str, expected: str) -> None:
        assert format_value(value, spec) == expected

    @pytest.mark.parametrize(
        ("spec", "expected"),
        [
            ("yyyy-MM-dd HH:mm:ss.fff zzz", "2026-01-31 08:05:09.045 -03:30"),
            ("o", "2026-01-31T08:05:09.045000-03:30"),
            ("d MMM yy, dddd", "31 Jan 26, Saturday"),
            ("MMMM ddd M H h hh m s", "January Sat 1 8 8 08 5 9"),
            ("tt fffffff FFF zz", "AM 0450000 045 -03"),
            ("HH'h' \\H", "08h H"),
            ("", "2026-01-31T08:05:09.045000-03:30"),
        ],
    )
    def test_dates(self, spec: str, expected: str) -> None:
        assert format_date(MOMENT, spec) == expected

    def test_dates_and_times_alone(self) -> None:
        assert format_date(MOMENT.date(), "") == "2026-01-31"
        assert format_date(MOMENT.time(), "HH:mm") == "08:05"
        assert format_date(MOMENT.replace(tzinfo=None), "HH zzz") == "08 "

    @pytest.mark.parametrize(
        ("spec", "expected"),
        [
            ("", "Information"),
            ("u3", "INF"),
            ("w4", "info"),
            ("t3", "Inf"),
            ("u", "INFORMATION"),
            ("w", "information"),
            ("u1", "I"),
            ("u8", "INFORMAT"),
            ("u0", "INFORMATION"),
            ("ux", "INFORMATION"),
        ],
    )
    def test_levels(self, spec: str, expected: str) -> None:
        assert format_level(LogLevel.INFORMATION, spec) == expected

    def test_three_letters_of_every_level(self) -> None:
        assert [format_level(level, "u3") for level in LogLevel] == ["VRB", "DBG", "INF", "WRN", "ERR", "FTL"]

    def test_output_template(self) -> None:
        line = output_formatter(
            "{Timestamp:HH:mm:ss} [{Level:u3}] {LoggerName,-5}|{Message:lj}|{Message}|{User}|{Gone}|"
            "{Properties}{NewLine}"
        )
        event = LogEvent(
            MOMENT,
            LogLevel.ERROR,
            "hi max",
            "hi {Name}",
            {"Name": "max", "User": "u\n1", "Extra": 1},
            "",
            "app",
        )
        assert line(event) == '08:05:09 [ERR] app  |hi max|hi "max"|u\\n1||{"Extra": 1}\n'


class TestLogger:
    def test_levels_and_values_reach_the_sink(self, logger: Logger, sink: ListSink) -> None:
        for level in LogLevel:
            getattr(logger, level.name.lower())("{Level} {N}", level.name, int(level))
        assert sink.lines == [
            "VRB VERBOSE 0\n",
            "DBG DEBUG 1\n",
            "INF INFORMATION 2\n",
            "WRN WARNING 3\n",
            "ERR ERROR 4\n",
            "FTL FATAL 5\n",
        ]
        assert sink.events[0].properties == {"Level": "VERBOSE", "N": 0}
        assert sink.events[0].template == "{Level} {N}"
        assert sink.events[0].logger == "test"
        assert sink.events[0].timestamp.tzinfo is not None

    def test_minimum_level_may_change(self, logger: Logger, sink: ListSink) -> None:
        logger.minimum_level = LogLevel.WARNING
        logger.information("no")
        logger.warning("yes")
        assert sink.lines == ["WRN yes\n"]
        assert not logger.is_enabled(LogLevel.INFORMATION)
        assert logger.is_enabled(LogLevel.WARNING)

    def test_sinks_have_their_own_level(self) -> None:
        all_events, errors = ListSink(LogLevel.DEBUG), ListSink(LogLevel.ERROR)
        logger = LoggerConfiguration().set_level("verbose").add_sink(all_events).add_sink(errors).create_logger()  # type: ignore[arg-type]
        assert not logger.is_enabled(LogLevel.VERBOSE)
        logger.debug("a")
        logger.error("b")
        assert (len(all_events.lines), len(errors.lines)) == (2, 1)

    def test_the_default_level_is_information_and_without_a_sink_nothing_is_enabled(self, sink: ListSink) -> None:
        assert not LoggerConfiguration().create_logger().is_enabled(LogLevel.FATAL)
        logger = LoggerConfiguration().add_sink(sink).create_logger()
        assert logger.is_enabled(LogLevel.INFORMATION)
        assert not logger.is_enabled(LogLevel.DEBUG)

    def test_exception_is_a_traceback(self, logger: Logger, sink: ListSink) -> None:
        try:
            raise LookupError("gone")
        except LookupError as error:
            logger.error("Failed at {Step}", 3, exception=error)
        assert sink.lines[0].startswith("ERR Failed at 3\nTraceback (most recent call last):")
        assert sink.lines[0].endswith("LookupError: gone\n")

    def test_a_closed_logger_is_silent(self, logger: Logger, sink: ListSink) -> None:
        logger.close()
        logger.minimum_level = LogLevel.VERBOSE
        logger.fatal("late")
        assert sink.lines == []
        assert not logger.is_enabled(LogLevel.FATAL)

    def test_a_sink_that_fails_is_told_of_once_and_harms_no_other(
        self, sink: ListSink, capsys: pytest.CaptureFixture[str]
    ) -> None:
        class Broken(ListSink):
            def _write(self, text: str, event: LogEvent) -> None:
                raise OSError("disk full")

        logger = LoggerConfiguration().add_sink(Broken()).add_sink(sink).create_logger()
        logger.error("one")
        logger.error("two")
        assert len(sink.lines) == 2
        assert capsys.readouterr().err == "kestrun_py: the list failed, events are lost: disk full\n"

    def test_values_that_cannot_be_shown_leave_the_template(self, logger: Logger, sink: ListSink) -> None:
        logger.error("Number {N}", 10**5000)
        assert sink.lines == ["ERR Number {N}\n"]

    def test_reserved_names_do_not_collide(self, logger: Logger, sink: ListSink) -> None:
        logger.error("{event} {level} {exc_info} {method_name} {self} {timestamp}", 1, 2, 3, 4, 5, 6)
        assert sink.lines == ["ERR 1 2 3 4 5 6\n"]
        assert sink.events[0].properties["event_"] == 1

    def test_threads_do_not_mix_lines(self, tmp_path: Path) -> None:
        path = tmp_path / "log.txt"
        logger = LoggerConfiguration().add_file_sink(path, output_template="{Message:lj}{NewLine}").create_logger()

        def write(number: int) -> None:
            for i in range(50):
                logger.error("{T}-{I}", str(number) * 200, i)

        threads = [threading.Thread(target=write, args=(n,)) for n in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        logger.close()
        lines = path.read_text().splitlines()
        assert sorted(lines) == sorted(f"{str(n) * 200}-{i}" for n in range(8) for i in range(50))

    def test_is_enabled_costs_next_to_nothing(self, logger: Logger) -> None:
        set_default_logger(logger)
        level, rounds = LogLevel.DEBUG, 20_000
        asked = min(timeit.repeat(lambda: default_logger.is_enabled(level), number=rounds, repeat=5))
        called = min(timeit.repeat(lambda: level.__hash__(), number=rounds, repeat=5))
        assert asked < called * 10


class TestStructlog:
    def test_processors_see_change_and_drop(self, sink: ListSink) -> None:
        seen: list[dict[str, Any]] = []

        def watch(logger: Any, method: str, record: structlog.typing.EventDict) -> structlog.typing.EventDict:
            seen.append(dict(record))
            if record["event"] == "drop":
                raise structlog.DropEvent
            return {**record, "event": str(record["event"]).replace("secret", "***"), "host": "h1"}

        logger = LoggerConfiguration().add_sink(sink).add_processor(watch).create_logger("app")
        logger.information("drop")
        logger.information("is {Word}", "secret")
        assert sink.lines == ["INF is ***\n"]
        assert sink.events[0].render_message("") == "is ***"
        assert sink.events[0].properties == {"Word": "secret", "host": "h1"}
        record = seen[1]
        assert (record["event"], record["message_template"], record["Word"]) == (
            "is secret",
            "is {Word}",
            "secret",
        )
        assert (record["level"], record["logger"]) == ("information", "app")

    def test_context_variables_are_properties(self, logger: Logger, sink: ListSink) -> None:
        with structlog.contextvars.bound_contextvars(request_id="r1"):
            logger.information("x")
        assert sink.events[0].properties == {"request_id": "r1"}

    def test_a_processor_that_fails_is_no_ones_problem(
        self, sink: ListSink, capsys: pytest.CaptureFixture[str]
    ) -> None:
        def broken(logger: Any, method: str, record: structlog.typing.EventDict) -> structlog.typing.EventDict:
            raise KeyError("x")

        LoggerConfiguration().add_sink(sink).add_processor(broken).create_logger("app").error("a")
        assert "the logger 'app' failed" in capsys.readouterr().err

    def test_a_processor_may_render_the_exception(self, sink: ListSink) -> None:
        logger = (
            LoggerConfiguration().add_sink(sink).add_processor(structlog.processors.format_exc_info).create_logger()
        )
        logger.error("a", exception=ValueError("bad"))
        assert sink.lines == ["ERR a\nValueError: bad\n"]

    def test_a_structlog_logger_of_the_user(self) -> None:
        capture = structlog.testing.CapturingLogger()
        chain = structlog.wrap_logger(capture, processors=[], wrapper_class=structlog.BoundLogger).bind(app="shop")
        logger = Logger(chain, name="own", minimum_level=LogLevel.DEBUG)
        error = ValueError("bad")
        logger.verbose("no")
        logger.debug("a")
        logger.information("b {event}", 1)
        logger.warning("c")
        logger.error("d", exception=error)
        logger.fatal("e")
        assert [call.method_name for call in capture.calls] == [
            "debug",
            "info",
            "warning",
            "error",
            "critical",
        ]
        assert capture.calls[1].kwargs == {
            "app": "shop",
            "event": "b 1",
            "message_template": "b {event}",
            "event_": 1,
        }
        assert capture.calls[3].kwargs["exc_info"] is error
        logger.close()
        assert not logger.is_enabled(LogLevel.FATAL)


class TestConsole:
    def test_kestruns_template_on_stdout(self, capsys: pytest.CaptureFixture[str]) -> None:
        logger = LoggerConfiguration().add_console_sink().create_logger()
        logger.information("Hello {Name}", "max")
        out, err = capsys.readouterr()
        assert out[0] == "["
        assert out[9:] == " INF] Hello max\n"
        assert err == ""

    def test_errors_may_go_to_stderr(self, capsys: pytest.CaptureFixture[str]) -> None:
        logger = (
            LoggerConfiguration()
            .add_console_sink(output_template="{Message}{NewLine}", standard_error_from_level="Error")
            .create_logger()
        )
        logger.information("a")
        logger.fatal("b")
        assert capsys.readouterr() == ("a\n", "b\n")

    def test_what_the_console_cannot_show_is_escaped(self, monkeypatch: pytest.MonkeyPatch) -> None:
        buffer = io.BytesIO()
        monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(buffer, encoding="ascii"))
        LoggerConfiguration().add_console_sink(output_template="{Message:lj}").create_logger().error("{A}", "é\ud800")
        assert buffer.getvalue() == b"\\xe9\\ud800"

    @pytest.mark.parametrize("stream", [None, "closed"])
    def test_no_console_no_harm(self, monkeypatch: pytest.MonkeyPatch, stream: str | None) -> None:
        closed = io.StringIO()
        closed.close()
        for name in ("stdout", "stderr"):
            monkeypatch.setattr(sys, name, closed if stream else None)
        LoggerConfiguration().add_console_sink().create_logger().error("a")


def file_logger(path: Path, **options: Any) -> Logger:
    return LoggerConfiguration().add_file_sink(path, output_template="{Message:lj}{NewLine}", **options).create_logger()


def event_at(moment: datetime, text: str = "x") -> LogEvent:
    return LogEvent(moment, LogLevel.ERROR, text, text)


class TestFiles:
    def test_appends_and_makes_the_folder(self, tmp_path: Path) -> None:
        path = tmp_path / "new" / "app.log"
        for word in ("one", "zwö", "\ud800"):
            logger = file_logger(path)
            logger.error("{W}", word)
            logger.close()
        assert path.read_text("utf-8") == "one\nzwö\n\\ud800\n"

    def test_kestruns_template(self, tmp_path: Path) -> None:
        logger = LoggerConfiguration().add_file_sink(tmp_path / "a.log").create_logger()
        logger.warning("x")
        logger.close()
        stamp, rest = (tmp_path / "a.log").read_text().split(" [")
        assert datetime.strptime(stamp, "%Y-%m-%d %H:%M:%S.%f %z").tzinfo is not None
        assert rest == "WRN] x\n"

    def test_backslashes_are_separators_and_a_later_chdir_changes_nothing(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        logger = file_logger(Path("logs\\app.log"))
        (tmp_path / "elsewhere").mkdir()
        monkeypatch.chdir(tmp_path / "elsewhere")
        logger.error("x")
        logger.close()
        assert (tmp_path / "logs" / "app.log").read_text() == "x\n"

    @pytest.mark.parametrize(
        ("interval", "name"),
        [
            ("Infinite", "app-.txt"),
            ("Year", "app-2026.txt"),
            ("Month", "app-202601.txt"),
            ("Day", "app-20260131.txt"),
            ("Hour", "app-2026013108.txt"),
            ("Minute", "app-202601310805.txt"),
        ],
    )
    def test_names_by_interval(self, tmp_path: Path, interval: str, name: str) -> None:
        sink = FileSink(tmp_path / "app-.txt", rolling_interval=RollingInterval[interval.upper()])
        sink.emit(event_at(MOMENT))
        sink.close()
        assert [path.name for path in tmp_path.iterdir()] == [name]

    def test_rolls_with_the_period_and_never_back(self, tmp_path: Path) -> None:
        sink = FileSink(tmp_path / "a.log", formatter=lambda e: e.message, rolling_interval=RollingInterval.DAY)
        sink.emit(event_at(MOMENT, "1"))
        sink.emit(event_at(MOMENT + timedelta(days=1), "2"))
        sink.emit(event_at(MOMENT, "3"))
        sink.close()
        assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {
            "a20260131.log": "1",
            "a20260201.log": "23",
        }

    def test_rolls_by_size_and_goes_on_with_the_last_file(self, tmp_path: Path) -> None:
        def write(*texts: str) -> None:
            sink = FileSink(
                tmp_path / "a.log",
                formatter=lambda e: e.message,
                file_size_limit_bytes=4,
                roll_on_file_size_limit=True,
            )
            for text in texts:
                sink.emit(event_at(MOMENT, text))
            sink.close()

        write("1111", "22", "22", "3")
        write("3", "33", "4")
        assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {
            "a.log": "1111",
            "a_001.log": "2222",
            "a_002.log": "3333",
            "a_003.log": "4",
        }

    def test_a_full_file_drops_events_and_says_so(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        logger = file_logger(tmp_path / "a.log", file_size_limit_bytes=4)
        for text in ("1234567", "gone", "gone"):
            logger.error(text)
        logger.close()
        assert (tmp_path / "a.log").read_text() == "1234567\n"
        assert capsys.readouterr().err.count("has reached its limit of 4 bytes") == 1

    def test_only_the_newest_files_are_kept(self, tmp_path: Path) -> None:
        for name in (
            "a20250101.log",
            "a20250102.log",
            "a20250102_001.log",
            "b20250101.log",
            "a2025.log",
            "a20250101.txt",
        ):
            (tmp_path / name).touch()
        sink = FileSink(tmp_path / "a.log", rolling_interval=RollingInterval.DAY, retained_file_count_limit=2)
        sink.emit(event_at(MOMENT))
        sink.close()
        assert sorted(path.name for path in tmp_path.iterdir()) == [
            "a2025.log",
            "a20250101.txt",
            "a20250102_001.log",
            "a20260131.log",
            "b20250101.log",
        ]

    def test_an_unwritable_path_is_told_of_and_tried_again(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        blocked = tmp_path / "folder"
        blocked.write_text("a file where the folder should be")
        logger = file_logger(blocked / "a.log")
        logger.error("lost")
        logger.error("lost")
        assert capsys.readouterr().err.count("a.log failed, events are lost") == 1
        blocked.unlink()
        logger.error("kept")
        logger.close()
        assert (blocked / "a.log").read_text() == "kept\n"

    def test_a_full_disk_is_survived(self, capsys: pytest.CaptureFixture[str]) -> None:
        if not Path("/dev/full").exists():
            pytest.skip("no /dev/full on this system")
        logger = file_logger(Path("/dev/full"))
        logger.error("a")
        logger.error("b")
        logger.close()
        assert capsys.readouterr().err.count("No space left on device") == 1

    def test_buffered_events_are_written_when_closed(self, tmp_path: Path) -> None:
        logger = file_logger(tmp_path / "a.log", buffered=True)
        logger.error("a")
        assert (tmp_path / "a.log").read_text() == ""
        logger.close()
        assert (tmp_path / "a.log").read_text() == "a\n"

    @pytest.mark.parametrize(
        ("options", "text"),
        [
            ({"file_size_limit_bytes": 0}, "file_size_limit_bytes: 0 is too small"),
            ({"retained_file_count_limit": 0}, "retained_file_count_limit: 0 is too small"),
            (
                {"rolling_interval": "Weekly"},
                "rolling_interval: 'Weekly' is not one of Infinite, Year, Month, Day",
            ),
            ({"encoding": "utf-9"}, "encoding: 'utf-9' is not known"),
            (
                {"restricted_to_minimum_level": "Loud"},
                "restricted_to_minimum_level: 'Loud' is not one of Verbose, Debug",
            ),
        ],
    )
    def test_bad_options(self, tmp_path: Path, options: dict[str, Any], text: str) -> None:
        with pytest.raises(ArgumentError, match=text):
            file_logger(tmp_path / "a.log", **options)

    @pytest.mark.parametrize("path", ["", " ", "logs/", "logs\\"])
    def test_a_path_without_a_file_name(self, path: str) -> None:
        with pytest.raises(ArgumentError, match="does not name a log file"):
            FileSink(path)


class TestRegistry:
    def test_names_ignore_case_and_the_newer_logger_replaces_the_older(self, sink: ListSink) -> None:
        older = LoggerConfiguration().add_sink(sink).register("App")
        assert get_logger("APP") is older
        assert older.name == "App"
        newer = LoggerConfiguration().add_sink(ListSink()).register("app")
        older.error("x")
        assert sink.lines == []
        assert registered_loggers() == [newer]
        assert register_logger("aPP", newer) is newer
        assert newer.is_enabled(LogLevel.ERROR)

    def test_a_replaced_default_logger_hands_over(self, sink: ListSink) -> None:
        LoggerConfiguration().register("app", set_as_default=True)
        LoggerConfiguration().add_sink(sink).register("APP")
        default_logger.error("x")
        assert sink.lines == ["ERR x\n"]

    def test_without_a_default_errors_are_on_stderr(self, capsys: pytest.CaptureFixture[str]) -> None:
        default_logger.information("quiet")
        default_logger.warning("Watch {It}", "out")
        out, err = capsys.readouterr()
        assert out == ""
        assert err.endswith("WRN] Watch out\n")
        assert err.count("\n") == 1

    def test_the_default_logger_follows(self, sink: ListSink, capsys: pytest.CaptureFixture[str]) -> None:
        logger = LoggerConfiguration().set_level("Debug").add_sink(sink).register("app", set_as_default=True)
        assert (default_logger.name, default_logger.minimum_level) == ("app", LogLevel.DEBUG)
        default_logger.debug("a")
        default_logger.minimum_level = LogLevel.ERROR
        assert not logger.is_enabled(LogLevel.DEBUG)
        assert not default_logger.is_enabled(LogLevel.DEBUG)
        default_logger.close()
        default_logger.error("b")
        assert sink.lines == ["DBG a\n"]
        assert get_logger("app") is None
        assert "ERR] b" in capsys.readouterr().err

    def test_set_default_logger(self, logger: Logger, sink: ListSink) -> None:
        set_default_logger(logger)
        set_default_logger(default_logger)
        default_logger.error("a")
        set_default_logger(None)
        assert sink.lines == ["ERR a\n"]
        assert default_logger.name == ""

    def test_close_one_by_name_or_itself(self, logger: Logger, sink: ListSink) -> None:
        register_logger("a", logger)
        other = register_logger("b", LoggerConfiguration().add_sink(ListSink()).create_logger())
        assert close_logger("A")
        assert not close_logger("A")
        assert not logger.is_enabled(LogLevel.FATAL)
        assert other.is_enabled(LogLevel.FATAL)
        assert close_logger(other)
        assert not close_logger(other)
        assert registered_loggers() == []

    def test_close_all(self, logger: Logger) -> None:
        other = LoggerConfiguration().add_sink(ListSink()).register("b")
        set_default_logger(logger)
        close_all_loggers()
        assert not logger.is_enabled(LogLevel.FATAL)
        assert not other.is_enabled(LogLevel.FATAL)
        assert default_logger.is_enabled(LogLevel.WARNING)

    @pytest.mark.parametrize("name", ["", "  "])
    def test_a_logger_needs_a_name(self, logger: Logger, name: str) -> None:
        with pytest.raises(ArgumentError, match="a logger needs a name"):
            register_logger(name, logger)

    def test_a_configuration_makes_one_logger(self) -> None:
        configuration = LoggerConfiguration()
        configuration.create_logger()
        with pytest.raises(InvalidOperationError, match="has made its logger already"):
            configuration.create_logger()

    def test_bad_level(self) -> None:
        with pytest.raises(ArgumentError, match="level: 'Loud' is not one of Verbose, Debug, Information, Warning"):
            LoggerConfiguration().set_level("Loud")  # type: ignore[arg-type]


def test_console_sink_alone(capsys: pytest.CaptureFixture[str]) -> None:
    ConsoleSink(LogLevel.ERROR).emit(LogEvent(MOMENT, LogLevel.WARNING, "a", "a"))
    ConsoleSink().emit(LogEvent(MOMENT, LogLevel.WARNING, "b", "b"))
    assert capsys.readouterr().out == "[08:05:09 WRN] b\n"
