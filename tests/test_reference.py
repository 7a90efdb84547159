"""The reference pages are those that the generator writes, and nothing public is missing in them."""

from __future__ import annotations

import pytest
from repository_scripts import ROOT, load_script

import cmdlets
import kestrun_py

PAGES: dict[str, str] = load_script("make_reference").pages()


@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_up_to_date_and_linked(name: str) -> None:
    written = ROOT.joinpath("docs", "reference", name).read_text("utf-8")
    assert written == PAGES[name], "run: python scripts/make_reference.py"
    assert f"(reference/{name})" in ROOT.joinpath("docs", "index.md").read_text("utf-8")


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
