"""Running T-SQL batches on PostgreSQL: each statement is parsed by sqlglot and translated, variables and all.

It shows that the batches do what they are meant to, statement by statement; it does not show that SQL Server takes
them.
"""

from __future__ import annotations

import contextlib
import functools
import re
import threading
from typing import Any

import pyodbc
import sqlglot
from sqlglot import exp

from kestrun_py.caching.sql import PostgresDialect, SqlServerDialect
from kestrun_py.caching.sql.connection_string import ConnectionSettings
from kestrun_py.caching.sql.dialect import Failure
from kestrun_py.caching.sql.link import Link

__all__ = ["TranslatedDialect", "run_batch"]


class TranslatedDialect(SqlServerDialect):
    """SQL Server's statements, run by PostgreSQL."""

    name = "SQL Server, translated"

    def settings(self, connection_string: str) -> ConnectionSettings:
        return PostgresDialect().settings(connection_string)

    def classify(self, state: str, codes: frozenset[int], text: str) -> Failure:
        return PostgresDialect().classify(state, codes, text)


_DELETE_TOP = re.compile(r"DELETE TOP \((\d+)\) FROM (\S+) WITH \(READPAST\) WHERE ([^;]*);")

_sqlglot = threading.Lock()  # sqlglot is not made for several threads at once
_query = Link.query


def query(link: Link, statement: str, *parameters: object) -> list[Any]:
    """`Link.query`, with T-SQL batches translated."""
    if "@" in statement or "[" in statement:
        return run_batch(link._raw, statement, parameters)
    if "SERVERPROPERTY" in statement:
        return _query(link, PostgresDialect().statements("public", "Sessions").server_version)
    return _query(link, statement, *parameters)


def run_batch(connection: pyodbc.Connection, batch: str, parameters: tuple[object, ...]) -> list[Any]:
    """Runs a batch; its statements commit one by one, except between BEGIN and COMMIT TRANSACTION."""
    run = _Run(connection, parameters)
    with _sqlglot:
        statements = parsed(batch)
    for statement in statements:
        run.step(statement)
    assert next(run.values, None) is None, "a parameter was not used"
    return run.rows or []


class _Run:
    """One run of a batch: its variables, and what it has found."""

    def __init__(self, connection: pyodbc.Connection, parameters: tuple[object, ...]) -> None:
        self.values = iter(parameters)
        self.rows: list[Any] | None = None
        self._connection = connection
        self._variables: dict[str, exp.Expression] = {}
        self._affected = 0
        self._in_transaction = False

    def step(self, statement: exp.Expression) -> None:
        if isinstance(statement, exp.Declare):
            for item in statement.expressions:
                variable = item.this[0] if isinstance(item.this, list) else item.this
                self._assign(variable.name, item.args.get("default") or exp.null(), item.args["kind"])
        elif isinstance(statement, exp.Set):
            assignment = statement.expressions[0].this
            if isinstance(assignment.this, exp.Parameter):
                self._assign(assignment.this.name, assignment.expression, exp.DataType.build("int"))
        else:
            if isinstance(statement, exp.Transaction | exp.Commit):
                self._in_transaction = isinstance(statement, exp.Transaction)
            self._execute(statement)

    def _assign(self, name: str, value: exp.Expression, kind: exp.Expression) -> None:
        """Gives a variable a value, as a literal of its type."""
        with _sqlglot:
            typed = self._filled(exp.cast(value.copy(), kind.copy()))  # type: ignore[arg-type]
            question = "SELECT " + exp.cast(typed, "text").sql("postgres")
        with contextlib.closing(self._connection.cursor()) as cursor:
            text = cursor.execute(question).fetchval()
        assert isinstance(typed, exp.Cast)
        with _sqlglot:
            self._variables[name] = exp.cast(exp.null() if text is None else exp.Literal.string(text), typed.to)

    def _execute(self, statement: exp.Expression) -> None:
        with _sqlglot:
            text = self._filled(statement).sql("postgres")
        text = text.replace(" LIMIT 1000)", " LIMIT 1000 FOR UPDATE SKIP LOCKED)")
        with contextlib.closing(self._connection.cursor()) as cursor:
            try:
                cursor.execute(text)
            except pyodbc.Error:
                if self._in_transaction:
                    cursor.execute("ROLLBACK")
                raise
            self._affected = cursor.rowcount
            if cursor.description and self.rows is None:
                self.rows = cursor.fetchall()

    def _filled(self, tree: exp.Expression) -> exp.Expression:
        """A statement with its variables and parameters replaced by their values."""
        return tree.copy().transform(self._replaced)

    def _replaced(self, node: exp.Expression) -> exp.Expression:
        if isinstance(node, exp.Placeholder):
            return literal(next(self.values))
        if isinstance(node, exp.Parameter):
            if isinstance(node.this, exp.Parameter):
                assert node.this.name == "ROWCOUNT"
                return exp.Literal.number(self._affected)
            return self._variables[node.name].copy()
        if isinstance(node, exp.Anonymous) and node.name.upper() == "SYSUTCDATETIME":
            return sqlglot.parse_one("clock_timestamp()", dialect="postgres")  # type: ignore[return-value]
        if isinstance(node, exp.National):
            return exp.Literal.string(node.name)
        if isinstance(node, exp.DataType) and node.this == exp.DataType.Type.VARBINARY:
            return exp.DataType.build("bytea", dialect="postgres")
        if isinstance(node, exp.DataType) and node.this in (exp.DataType.Type.NVARCHAR, exp.DataType.Type.VARCHAR):
            return exp.DataType.build("text")
        return node


@functools.cache
def parsed(batch: str) -> list[exp.Expression]:
    # sqlglot takes DELETE TOP for something else.
    batch = _DELETE_TOP.sub(r"DELETE FROM \2 WHERE [Id] IN (SELECT TOP (\1) [Id] FROM \2 WHERE \3);", batch)
    statements = [statement for statement in sqlglot.parse(batch, dialect="tsql") if statement is not None]
    assert not any(statement.find(exp.Command) for statement in statements), batch
    return statements  # type: ignore[return-value]


def literal(value: object) -> exp.Expression:
    if isinstance(value, bytes):
        return exp.cast(exp.Literal.string("\\x" + value.hex()), exp.DataType.build("bytea", dialect="postgres"))
    if isinstance(value, int):
        return exp.Literal.number(value)
    assert isinstance(value, str)
    return exp.Literal.string(value)
