"""Running T-SQL batches on PostgreSQL: each statement is parsed by sqlglot and translated, variables and all.

It shows that the batches do what they are meant to, statement by statement; it does not show that SQL Server takes
them.
"""

from __future__ import annotations

import functools
import re
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

_query = Link.query


def query(link: Link, statement: str, *parameters: object) -> list[Any]:
    """`Link.query`, with T-SQL batches translated."""
    if "@" in statement or "[" in statement:
        return run_batch(link._raw, statement, parameters)
    return _query(link, statement, *parameters)


def run_batch(connection: pyodbc.Connection, batch: str, parameters: tuple[object, ...]) -> list[Any]:
    """Runs a batch; its statements commit one by one, except between BEGIN and COMMIT TRANSACTION."""
    values = iter(parameters)
    variables: dict[str, exp.Expression] = {}
    rows: list[Any] | None = None
    affected = 0
    in_transaction = False
    try:
        for statement in parsed(batch):
            if isinstance(statement, exp.Declare):
                for item in statement.expressions:
                    default = item.args.get("default")
                    value = filled(default, variables, affected, values) if default else exp.null()
                    variable = item.this[0] if isinstance(item.this, list) else item.this
                    variables[variable.name] = evaluated(connection, value, item.args["kind"])
            elif isinstance(statement, exp.Set):
                assignment = statement.expressions[0].this
                if isinstance(assignment.this, exp.Parameter):
                    value = filled(assignment.expression, variables, affected, values)
                    variables[assignment.this.name] = evaluated(connection, value, exp.DataType.build("int"))
            else:
                in_transaction = (in_transaction or isinstance(statement, exp.Transaction)) and not isinstance(
                    statement, exp.Commit
                )
                text = filled(statement, variables, affected, values).sql("postgres")
                text = text.replace(" LIMIT 1000)", " LIMIT 1000 FOR UPDATE SKIP LOCKED)")
                cursor = connection.execute(text)
                affected = cursor.rowcount
                if cursor.description and rows is None:
                    rows = cursor.fetchall()
    except pyodbc.Error:
        if in_transaction:
            connection.execute("ROLLBACK")
        raise
    assert next(values, None) is None, "a parameter was not used"
    return rows or []


@functools.cache
def parsed(batch: str) -> list[exp.Expression]:
    # sqlglot takes DELETE TOP for something else.
    batch = _DELETE_TOP.sub(r"DELETE FROM \2 WHERE [Id] IN (SELECT TOP (\1) [Id] FROM \2 WHERE \3);", batch)
    statements = [statement for statement in sqlglot.parse(batch, dialect="tsql") if statement is not None]
    assert not any(statement.find(exp.Command) for statement in statements), batch
    return statements


def filled(tree: exp.Expression, variables: dict[str, exp.Expression], affected: int, values: Any) -> exp.Expression:
    """A statement with its variables and parameters replaced by their values."""

    def replace(node: exp.Expression) -> exp.Expression:
        if isinstance(node, exp.Placeholder):
            return literal(next(values))
        if isinstance(node, exp.Parameter):
            if isinstance(node.this, exp.Parameter):
                assert node.this.name == "ROWCOUNT"
                return exp.Literal.number(affected)
            return variables[node.name].copy()
        if isinstance(node, exp.Anonymous) and node.name.upper() == "SYSUTCDATETIME":
            return sqlglot.parse_one("clock_timestamp()", dialect="postgres")
        if isinstance(node, exp.National):
            return exp.Literal.string(node.name)
        if isinstance(node, exp.DataType) and node.this == exp.DataType.Type.VARBINARY:
            return exp.DataType.build("bytea", dialect="postgres")
        if isinstance(node, exp.DataType) and node.this in (exp.DataType.Type.NVARCHAR, exp.DataType.Type.VARCHAR):
            return exp.DataType.build("text")
        return node

    return tree.copy().transform(replace)


def evaluated(connection: pyodbc.Connection, value: exp.Expression, kind: exp.Expression) -> exp.Expression:
    """The value of a variable, as a literal of its type."""
    typed = filled(exp.cast(value.copy(), kind.copy()), {}, 0, iter(()))
    shown = exp.cast(typed, "text")
    text = connection.execute("SELECT " + shown.sql("postgres")).fetchval()
    assert isinstance(typed, exp.Cast)
    return exp.cast(exp.null() if text is None else exp.Literal.string(text), typed.to)


def literal(value: object) -> exp.Expression:
    if isinstance(value, bytes):
        return exp.cast(exp.Literal.string("\\x" + value.hex()), exp.DataType.build("bytea", dialect="postgres"))
    if isinstance(value, int):
        return exp.Literal.number(value)
    assert isinstance(value, str)
    return exp.Literal.string(value)
