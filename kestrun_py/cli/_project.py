"""``kestrun new``: a small project to start from, with a test in it."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Final

import click

__all__ = ["new"]

_TEMPLATE: Final = Path(__file__).parent / "template"


@click.command
@click.argument("name")
def new(name: str) -> None:
    """Makes the folder NAME with a host script, a test for it and what to install."""
    folder = Path(name)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise click.ClickException(f"{name} exists and is not empty; choose another name.")
    title = folder.resolve().name
    if not title.isprintable() or set(title) & set('"\\`'):
        raise click.ClickException(f"{title!r} cannot stand in a script; leave out quotes and backslashes.")
    folder.mkdir(parents=True, exist_ok=True)
    for template in _TEMPLATE.glob("*.template"):
        text = template.read_text("utf-8").replace("$name", title)
        folder.joinpath(template.stem).write_text(text, "utf-8")
    click.echo(f"Made {name}. Next:\n  cd {shlex.quote(name)}\n  kestrun run app.py")
