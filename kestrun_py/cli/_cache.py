"""``kestrun cache``: is the cache there, and its table."""

from __future__ import annotations

import asyncio
import contextlib
import io
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final, TypeVar

import click

from kestrun_py.caching import DistributedCache, sql
from kestrun_py.caching.redis import RedisCache
from kestrun_py.caching.sql import DIALECTS, SqlCache, SqlDialect, SqlServerDialect, create_table_script, dialect_of
from kestrun_py.cli._run import SCRIPT
from kestrun_py.cli._script import load_host
from kestrun_py.errors import CacheError, KestrunError
from kestrun_py.logging import LoggerConfiguration

__all__ = ["cache"]

_F = TypeVar("_F", bound=Callable[..., Any])

_PROBE_LIFE: Final = 60


def _sql_options(function: _F) -> _F:
    options = [
        click.option("--connection-string", help="ADO.NET or ODBC text, or a URL."),
        click.option("--schema", help="The table's schema; dbo, or public in PostgreSQL."),
        click.option("--table", default="Sessions", show_default=True, help="The table's name."),
        click.option("--dialect", type=click.Choice(list(DIALECTS)), help="Told from the connection string."),
    ]
    for option in reversed(options):
        function = option(function)
    return function


@click.group
def cache() -> None:
    """Looks after the cache that sessions are kept in."""


@cache.command
@click.option("--redis", help="StackExchange.Redis text or a redis:// URL.")
@click.option("--instance-name", default="", help="What every key begins with in Redis.")
@_sql_options
@click.option("--file", type=SCRIPT, help="A host script: its cache is asked.")
def ping(redis: str | None, instance_name: str, connection_string: str | None, file: Path | None, **table: Any) -> None:
    """Asks a cache who it is, and writes, reads and removes an entry. Exit code 0 if all went well, else 1."""
    if (redis is not None) + (connection_string is not None) + (file is not None) != 1:
        raise click.UsageError("Give one of --redis, --connection-string and --file.")
    with _messages():
        if file is not None:
            asked = _cache_of(file)
        elif redis is not None:
            # Its errors are what this command shows.
            asked = RedisCache(redis, instance_name=instance_name, logger=LoggerConfiguration().create_logger())
        else:
            asked = _sql_cache(connection_string or "", **table)
        asyncio.run(_ask(asked))


@cache.command("create-table")
@_sql_options
@click.option("--script", is_flag=True, help="Print the statements instead of running them.")
def create_table(
    connection_string: str | None, schema: str | None, table: str, dialect: str | None, script: bool
) -> None:
    """Makes the tables for sessions and for the key ring; exit code 1 if both are there already."""
    chosen = _dialect(dialect, connection_string)
    schema = schema or chosen.default_schema
    with _messages():
        if script:
            click.echo(create_table_script(chosen, schema, table), nl=False)
        elif connection_string is None:
            raise click.UsageError("Give --connection-string, or --script to print the statements.")
        else:
            made = asyncio.run(
                sql.create_table(connection_string, schema_name=schema, table_name=table, dialect=chosen)
            )
            if table not in made:
                click.echo(f"The table {schema}.{table} exists already, and is left as it is.")
            for name in made:
                click.echo(f"The table {schema}.{name} is made.")


@contextlib.contextmanager
def _messages() -> Iterator[None]:
    """Shows an error of kestrun_py as its message."""
    try:
        yield
    except KestrunError as error:
        raise click.ClickException(str(error)) from None


def _cache_of(script: Path) -> DistributedCache:
    with contextlib.redirect_stdout(io.StringIO()):  # the script tells that it starts a server, which it does not
        cache = load_host(script).services.get(DistributedCache)
    if cache is None:
        raise click.ClickException(f"{script} adds no cache.")
    return cache


def _dialect(name: str | None, connection_string: str | None) -> SqlDialect:
    if name is not None:
        return DIALECTS[name]()
    return SqlServerDialect() if connection_string is None else dialect_of(connection_string)


def _sql_cache(connection_string: str, schema: str | None, table: str, dialect: str | None) -> SqlCache:
    chosen = _dialect(dialect, connection_string)
    return SqlCache(connection_string, schema_name=schema or chosen.default_schema, table_name=table, dialect=chosen)


async def _ask(cache: DistributedCache) -> None:
    """Tells what a cache says about itself, and whether an entry makes its way through it."""
    try:
        await cache.start()
        status = await cache.ping()
        _tell("server", f"{status.server} {status.version}")
        _tell("round trip", f"{status.round_trip * 1000:.1f} ms")
        for label, finding in status.details.items():
            _tell(label, finding)
        for problem in status.problems:
            _tell("warning", problem)
        await _probe(cache)
        _tell("probe", "written, read, removed")
    finally:
        await cache.close()


def _tell(label: str, finding: str) -> None:
    click.echo(f"{label + ':':12} {finding}")


async def _probe(cache: DistributedCache) -> None:
    key, value = f"kestrun-ping-{secrets.token_hex(8)}", secrets.token_bytes(16)
    await cache.set(key, value, absolute_expiration_relative_to_now=_PROBE_LIFE)
    read = await cache.get(key)
    await cache.remove(key)
    if read != value or await cache.get(key) is not None:
        raise CacheError("An entry that was written and removed did not come back as it was.")
