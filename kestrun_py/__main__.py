"""Lets ``python -m kestrun_py`` stand for the `kestrun` command."""

from kestrun_py.cli import main

main(prog_name="kestrun")
