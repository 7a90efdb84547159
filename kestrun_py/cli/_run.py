"""``kestrun run``: a user's script, in this process, in several, or again after each change."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click

from kestrun_py.cli._reload import run_with_reload
from kestrun_py.cli._script import run_script
from kestrun_py.server.supervisor import WorkerSupervisor

__all__ = ["PORT", "SCRIPT", "run"]

SCRIPT = click.Path(exists=True, dir_okay=False, path_type=Path)
PORT = click.IntRange(1, 65535)


class _RunCommand(click.Command):
    """A command that says how an option reaches the script."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption as error:
            advice = f"Options of the script follow a --: kestrun run FILE -- {error.option_name}"
            raise click.UsageError(f"{error.format_message()}\n{advice}", ctx) from None


@click.command(cls=_RunCommand)
@click.argument("file", type=SCRIPT)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
@click.option("--port", type=PORT, help="The environment variable PORT for the script.")
@click.option("--reload", is_flag=True, help="Start again when a Python file in the folder of FILE changes.")
@click.option("--workers", type=click.IntRange(1), default=1, help="How many processes share the port.")
def run(file: Path, arguments: tuple[str, ...], port: int | None, reload: bool, workers: int) -> None:
    """Runs the host script FILE; what follows a -- is passed on to it.

    PORT is what a script reads its port from (and what add_kr_endpoint() without arguments listens on).
    """
    if reload and workers > 1:
        raise click.UsageError("--reload runs one process; leave out --workers.")
    if reload or workers > 1:
        if port is not None:
            os.environ["PORT"] = str(port)
        # -P: the folder that the command was typed in is no place to import from.
        command = [sys.executable, "-P", "-m", "kestrun_py", "run", str(file), "--", *arguments]
        if reload:
            sys.exit(run_with_reload(command, file.resolve().parent))
        sys.exit(WorkerSupervisor(command, workers).run())
    sys.exit(run_script(file, arguments, port))
