"""The `kestrun` command: runs host scripts and the samples, makes projects, looks after caches."""

from __future__ import annotations

import click

from kestrun_py._version import __version__
from kestrun_py.cli._cache import cache
from kestrun_py.cli._project import new
from kestrun_py.cli._run import run
from kestrun_py.cli._samples import sample, samples

__all__ = ["main"]


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="kestrun")
def main() -> None:
    """Runs Kestrun host scripts written in Python."""


for _command in (run, sample, samples, new, cache):
    main.add_command(_command)
