"""The statements of the SQL Server dialect, as far as they can be judged without a SQL Server."""

from __future__ import annotations

import dataclasses
import re

import pytest
import sqlglot
from sqlglot import exp

from kestrun_py.caching.sql import PostgresDialect, SqlServerDialect, create_table_script
from kestrun_py.caching.sql.dialect import Failure, Statements, time_text, unix_time, whole_seconds

STATEMENTS = SqlServerDialect().statements("dbo", "Ses]sions")


def texts(statements: Statements) -> dict[str, str]:
    found = {}
    for name, value in dataclasses.asdict(statements).items():
        for number, text in enumerate(value if isinstance(value, tuple) else (value,)):
            found[f"{name}-{number}"] = text
    return found


@pytest.mark.parametrize("name", texts(STATEMENTS))
def test_every_statement_is_t_sql(name: str) -> None:
    text = texts(STATEMENTS)[name]
    parsed = sqlglot.parse(text, dialect="tsql", error_level=sqlglot.ErrorLevel.RAISE)
    assert parsed
    for statement in parsed:
        assert not isinstance(statement, exp.Command), f"sqlglot does not know {statement}"


def test_the_script_is_t_sql() -> None:
    script = create_table_script(SqlServerDialect(), "dbo", "Sessions")
    parsed = [part for part in sqlglot.parse(script, dialect="tsql", error_level=sqlglot.ErrorLevel.RAISE) if part]
    assert [part.key for part in parsed[:4]] == ["set", "transaction", "create", "create"]


@pytest.mark.parametrize("name", texts(STATEMENTS))
def test_statements_avoid_what_compatible_servers_lack(name: str) -> None:
    words = set(re.findall(r"[A-Z_]+", texts(STATEMENTS)[name]))
    assert not words & {"MERGE", "OUTPUT", "TRY", "THROW", "GETDATE", "SYSDATETIMEOFFSET", "IF", "GO"}


@pytest.mark.parametrize("name", texts(STATEMENTS))
def test_both_dialects_take_the_same_parameters(name: str) -> None:
    other = texts(PostgresDialect().statements("public", "Sessions"))
    assert texts(STATEMENTS)[name].count("?") == other[name].count("?")


def test_names_are_quoted() -> None:
    assert "FROM [dbo].[Ses]]sions] WHERE" in STATEMENTS.get
    assert "[dbo].[DataProtectionKeys]" in STATEMENTS.read_keys


def test_hints_serve_speed_only() -> None:
    hinted = {name for name, text in texts(STATEMENTS).items() if "WITH (" in text}
    assert hinted == {"purge-0"}


@pytest.mark.parametrize(
    ("state", "codes", "text", "failure"),
    [
        ("40001", {1205}, "deadlock victim", Failure.DEADLOCK),
        ("42000", {3960}, "snapshot", Failure.DEADLOCK),
        ("23000", {2627}, "primary key", Failure.DUPLICATE),
        ("23000", {2601}, "unique index", Failure.DUPLICATE),
        ("42S02", {208}, "Invalid object name", Failure.NO_TABLE),
        ("HYT00", {0}, "Query timeout expired", Failure.TIMEOUT),
        ("08S01", {10054}, "Communication link failure", Failure.LOST),
        ("08001", {0}, "Client unable to establish connection", Failure.LOST),
        ("IMC06", {0}, "The connection is broken", Failure.LOST),
        ("42000", {40613}, "Database is not currently available", Failure.LOST),
        ("42000", {8134}, "Divide by zero", Failure.OTHER),
        # FreeTDS's
        ("01000", {20017}, "Unexpected EOF from the server", Failure.LOST),
        ("HY000", {0}, "[HY000] [FreeTDS][SQL Server]Unknown error (0) (SQLExecDirectW)", Failure.LOST),
        # Babelfish's
        ("42000", {33557097}, 'relation "site_dbo.sessions" does not exist', Failure.NO_TABLE),
        ("42000", {33557097}, "could not serialize access due to concurrent update", Failure.DEADLOCK),
        ("42000", {33557097}, "canceling statement due to lock timeout", Failure.TIMEOUT),
        ("42000", {33557097}, "'WAITFOR' is not currently supported in Babelfish", Failure.OTHER),
    ],
)
def test_errors_of_sql_server(state: str, codes: set[int], text: str, failure: Failure) -> None:
    assert SqlServerDialect().classify(state, frozenset(codes), text) is failure


@pytest.mark.parametrize(
    ("key", "row_id"),
    [("a", "a"), ("a.", "a."), (" a b", " a b"), ("a ", "a ."), ("a  ", "a  ."), ("a .", "a .."), ("a .b", "a .b")],
)
def test_keys_that_end_in_spaces_stay_apart(key: str, row_id: str) -> None:
    assert SqlServerDialect().row_id(key) == row_id
    assert PostgresDialect().row_id(key) == key


@pytest.mark.parametrize(
    ("time", "text"),
    [
        (None, ""),
        (0.0, "1970-01-01 00:00:00.000000 +00:00"),
        (1_700_000_000.25, "2023-11-14 22:13:20.250000 +00:00"),
        (1e18, "9999-12-31 23:59:59.000000 +00:00"),
        (-5.0, "1970-01-01 00:00:00.000000 +00:00"),
    ],
)
def test_times_are_written_as_utc_text(time: float | None, text: str) -> None:
    assert time_text(time) == text


@pytest.mark.parametrize(
    ("text", "time"),
    [
        (None, None),
        ("2023-11-14 22:13:20.2500000 +00:00", 1_700_000_000.25),
        ("2023-11-15 00:13:20.2500000 +02:00", 1_700_000_000.25),
        ("2023-11-14T22:13:20.25Z", 1_700_000_000.25),
        ("2023-11-14 22:13:20", 1_700_000_000.0),
        ("2023-11-14 22:13:20.25+00", 1_700_000_000.25),
    ],
)
def test_times_are_read_from_any_text_of_a_datetimeoffset(text: str | None, time: float | None) -> None:
    assert unix_time(text) == time


def test_what_is_no_time_is_not_read() -> None:
    with pytest.raises(ValueError, match="datetimeoffset"):
        unix_time("yesterday")


@pytest.mark.parametrize(("window", "seconds"), [(None, 0), (0.1, 1), (20.0, 20), (20.5, 21), (1e12, 2**31 - 1)])
def test_windows_are_whole_seconds(window: float | None, seconds: int) -> None:
    assert whole_seconds(window) == seconds
