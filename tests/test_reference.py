"""The reference pages are those that the generator writes, and nothing public is missing in them."""

from __future__ import annotations

import re

import pytest
from repository_scripts import ROOT, load_script

import cmdlets
import kestrun_py
from kestrun_py.counterparts import kestrun_cmdlets

PAGES: dict[str, str] = load_script("make_reference").pages()
TABLES: dict[str, str] = load_script("make_tables").pages()
DOCS = ROOT / "docs"


@pytest.mark.parametrize("name", [*PAGES, *TABLES])
def test_a_page_is_up_to_date(name: str) -> None:
    path, text = (DOCS / "reference" / name, PAGES[name]) if name in PAGES else (DOCS / name, TABLES[name])
    assert path.read_text("utf-8") == text, "run: make docs"


def test_every_page_stands_in_the_index() -> None:
    names = {path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md")} - {"index.md"}
    assert {name for name in names if f"]({name})" not in TABLES["index.md"]} == set()


def test_the_table_of_counterparts_has_every_cmdlet_and_parameter() -> None:
    page = TABLES["reference/counterparts.md"]
    for cmdlet in kestrun_cmdlets().values():
        (row,) = re.findall(rf"^\| `{cmdlet.name}` \|.*$", page, re.MULTILINE)
        assert [name for name in cmdlet.parameters if not re.search(rf"-{name}\b", row)] == []


def test_every_cmdlet_has_an_entry() -> None:
    assert [name for name in cmdlets.__all__ if f"\n### {name}\n" not in PAGES["cmdlets.md"]] == []


def test_every_type_of_the_package_has_an_entry() -> None:
    types = {name for name in kestrun_py.__all__ if isinstance(getattr(kestrun_py, name), type)} - {"KestrunError"}
    assert [name for name in types if f"\n### {name}\n" not in PAGES["host.md"]] == []


def test_every_command_has_an_entry() -> None:
    for name in ("run", "sample", "samples", "new", "cache ping", "cache create-table"):
        assert f"\n## kestrun {name}\n" in PAGES["cli.md"]


def test_docstrings_become_markdown() -> None:
    page = PAGES["cmdlets.md"]
    assert "``" not in page.replace("```", "")
    assert "- `idle_timeout`: A session not used for this long is gone; 20 minutes.\n" in page
    assert " at 0x" not in "".join(PAGES.values())
