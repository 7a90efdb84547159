"""Copies the samples into the tutorial pages that show them.

A page says where its source comes from in a comment, and the Python block below it is that file::

    <!-- source: samples/19_1_sessions.py -->

Usage: ``python scripts/include_sources.py``; tests/samples/test_tutorials.py checks that it was run.
"""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGES = ROOT / "docs" / "tutorial"

_BLOCK = re.compile(r"(<!-- source: (?P<path>\S+) -->\n\n```python\n).*?(?=^```$)", re.DOTALL | re.MULTILINE)


def with_sources(page: str) -> str:
    """Returns a page's text with each source block as its file is now."""
    return _BLOCK.sub(lambda found: found[1] + (ROOT / found["path"]).read_text("utf-8"), page)


if __name__ == "__main__":
    for path in sorted(PAGES.glob("*.md")):
        path.write_text(with_sources(path.read_text("utf-8")), "utf-8")
