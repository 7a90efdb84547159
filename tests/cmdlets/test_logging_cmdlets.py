from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from cmdlets._pipe import Pending
from cmdlets.logging import (
    add_kr_sink_console,
    add_kr_sink_file,
    close_kr_logger,
    new_kr_logger,
    register_kr_logger,
    set_kr_logger_level,
    write_kr_log,
)
from kestrun_py.errors import ArgumentError
from kestrun_py.logging import (
    Logger,
    LoggerConfiguration,
    LogLevel,
    close_all_loggers,
    default_logger,
    get_logger,
)

TEMPLATE = "{Level:u3} {Message:lj}{NewLine}{Exception}"


@pytest.fixture(autouse=True)
def _no_loggers_left() -> Iterator[None]:
    yield
    close_all_loggers()


@pytest.fixture
def log(tmp_path: Path) -> Callable[[str], list[str]]:
    """Registers file loggers; called with a name, what that logger has written."""

    def lines(name: str) -> list[str]:
        path = tmp_path / f"{name}.log"
        return path.read_text().splitlines() if path.exists() else []

    for name in ("a", "b"):
        step = add_kr_sink_file(tmp_path / f"{name}.log", output_template=TEMPLATE)
        _ = new_kr_logger() | step | register_kr_logger(name)
    return lines


def _drop(pending: object) -> None:
    del pending
    gc.collect()


class TestPipe:
    def test_the_pipe_of_the_samples(self, capsys: pytest.CaptureFixture[str]) -> None:
        logger = (
            new_kr_logger()
            | set_kr_logger_level("debug")  # type: ignore[call-overload]
            | add_kr_sink_console()
            | register_kr_logger("myLogger", set_as_default=True)
        )
        write_kr_log("Debug", "Hello {Name}", "max")
        assert capsys.readouterr().out.endswith(" DBG] Hello max\n")
        assert isinstance(logger, Logger)
        assert get_logger("MYLOGGER") is logger
        assert default_logger.name == "myLogger"

    def test_the_pipeline_input_may_be_an_argument(self, tmp_path: Path) -> None:
        config = new_kr_logger()
        assert set_kr_logger_level(level=LogLevel.FATAL, logger_config=config) is config
        assert add_kr_sink_console(logger_config=config) is config
        assert add_kr_sink_file(tmp_path / "a.log", logger_config=config) is config
        assert register_kr_logger("x", logger_config=config).minimum_level is LogLevel.FATAL

    def test_dynamic_level(self) -> None:
        logger = new_kr_logger() | set_kr_logger_level(dynamic="Warning") | register_kr_logger("x")
        assert logger.minimum_level is LogLevel.WARNING

    @pytest.mark.parametrize("arguments", [{}, {"value": "Debug", "dynamic": "Error"}])
    def test_one_level(self, arguments: dict[str, Any]) -> None:
        with pytest.raises(ArgumentError, match="takes one level"):
            set_kr_logger_level(**arguments)

    def test_bad_arguments_are_refused_in_their_line(self) -> None:
        with pytest.raises(ArgumentError, match="value: 'Loud' is not one of Verbose, Debug, Information"):
            set_kr_logger_level("Loud")  # type: ignore[call-overload]
        with pytest.raises(ArgumentError, match="restricted_to_minimum_level: 'x' is not one of"):
            _ = new_kr_logger() | add_kr_sink_console(restricted_to_minimum_level="x")  # type: ignore[call-overload]

    @pytest.mark.parametrize("name", ["", "  "])
    def test_a_logger_without_a_name_is_refused_before_it_is_made(self, name: str) -> None:
        config = new_kr_logger()
        with pytest.raises(ArgumentError, match="a logger needs a name"):
            _ = config | register_kr_logger(name)
        assert (config | register_kr_logger("app")).name == "app"

    def test_the_wrong_thing_in_the_pipe(self) -> None:
        with pytest.raises(
            ArgumentError, match="add_kr_sink_console takes a LoggerConfiguration from the pipe, not a str"
        ):
            _ = "logger" | add_kr_sink_console()  # type: ignore[operator]

    def test_a_cmdlet_that_nothing_is_piped_into_says_so(self) -> None:
        with pytest.warns(RuntimeWarning, match="add_kr_sink_console did nothing: pipe a LoggerConfiguration into it"):
            _drop(add_kr_sink_console())

    def test_a_pipe_takes_any_value_of_its_kind(self) -> None:
        assert [1] | Pending("sort", list, sorted) == [1]
        assert {"a": 1} | Pending("count", dict, len) == 1


class TestSinks:
    def test_console_options(self, capsys: pytest.CaptureFixture[str]) -> None:
        logger = (
            new_kr_logger()
            | add_kr_sink_console(
                restricted_to_minimum_level="Warning",
                output_template=TEMPLATE,
                standard_error_from_level="Error",
            )
            | register_kr_logger("x")
        )
        logger.information("a")
        logger.warning("b")
        logger.error("c")
        assert capsys.readouterr() == ("WRN b\n", "ERR c\n")

    def test_formatter(self, capsys: pytest.CaptureFixture[str]) -> None:
        step = add_kr_sink_console(formatter=lambda event: f"{event.template}|{dict(event.properties)}\n")
        logger = new_kr_logger() | step | register_kr_logger("x")
        logger.error("a {N}", 1)
        assert capsys.readouterr().out == "a {N}|{'N': 1}\n"

    def test_file_options(self, tmp_path: Path) -> None:
        step = add_kr_sink_file(
            tmp_path / "log-.txt",
            output_template=TEMPLATE,
            restricted_to_minimum_level="Error",
            rolling_interval="Infinite",
            file_size_limit_bytes=5,
            roll_on_file_size_limit=True,
            retained_file_count_limit=2,
            encoding="utf-16-le",
            buffered=True,
        )
        logger = new_kr_logger() | step | register_kr_logger("x")
        for text in ("1", "2", "3"):
            logger.error(text)
            logger.warning(text)
        close_kr_logger()
        texts = {path.name: path.read_text("utf-16-le") for path in tmp_path.iterdir()}
        assert texts == {"log-_001.txt": "ERR 2\n", "log-_002.txt": "ERR 3\n"}


class TestWrite:
    def test_by_name_by_logger_and_to_the_default(self, log: Callable[[str], list[str]]) -> None:
        write_kr_log("Information", "one {A} {B}", [1, 2], logger_name="A")
        write_kr_log(LogLevel.WARNING, "two {A}", ("x",), logger=get_logger("b"))
        write_kr_log("information", "nowhere")  # type: ignore[arg-type]
        assert log("a") == ["INF one 1 2"]
        assert log("b") == ["WRN two x"]

    def test_an_unknown_name_reaches_every_logger(self, log: Callable[[str], list[str]]) -> None:
        write_kr_log("Error", "all", logger_name="nobody")
        assert (log("a"), log("b")) == (["ERR all"], ["ERR all"])

    def test_exception_empty_message_and_braces(self, log: Callable[[str], list[str]]) -> None:
        write_kr_log("Error", None, logger_name="a", exception=ValueError("bad"))
        write_kr_log("Error", "", logger_name="a")
        write_kr_log("Error", '{"json": 1}', logger_name="a")
        write_kr_log("Error", "{None}", None, logger_name="a")
        assert log("a") == ["ERR ", "ValueError: bad", "ERR ", 'ERR {"json": 1}', "ERR null"]

    def test_bad_arguments(self, log: Callable[[str], list[str]]) -> None:
        with pytest.raises(ArgumentError, match="level: 'Loud' is not one of"):
            write_kr_log("Loud", "x")  # type: ignore[arg-type]
        with pytest.raises(ArgumentError, match="logger or logger_name, not both"):
            write_kr_log("Error", "x", logger=default_logger, logger_name="a")


class TestClose:
    def test_one_name_closes_that_logger_only(self, log: Callable[[str], list[str]]) -> None:
        close_kr_logger(logger_name="A")
        assert get_logger("a") is None
        assert get_logger("b") is not None

    @pytest.mark.parametrize("arguments", [{}, {"logger_name": ["a", "b", "nobody"]}])
    def test_all_and_several(self, log: Callable[[str], list[str]], arguments: dict[str, Any]) -> None:
        close_kr_logger(**arguments)
        assert (get_logger("a"), get_logger("b")) == (None, None)

    def test_given_loggers_and_the_default(self, log: Callable[[str], list[str]]) -> None:
        main = LoggerConfiguration().register("main", set_as_default=True)
        a, b = get_logger("a"), get_logger("b")
        assert a is not None
        assert b is not None
        close_kr_logger(a)
        close_kr_logger([b])
        assert get_logger("main") is main
        close_kr_logger(default_logger=True)
        assert [get_logger(name) for name in ("a", "b", "main")] == [None] * 3
