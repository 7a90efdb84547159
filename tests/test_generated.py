"""The cmdlets that are made from the host's verbs are as the verbs are now."""

from __future__ import annotations

from pathlib import Path

import pytest
from repository_scripts import load_script

make_cmdlets = load_script("make_cmdlets")

HAND_WRITTEN = '''"""A family."""

from __future__ import annotations

__all__: list[str] = []


def get_kr_answer() -> int:
    """Returns 42."""
    return 42
'''


def made(tmp_path: Path, line: str) -> str:
    """A module that holds `line` and a function of its own, with the function that the line asks for."""
    path = tmp_path / "family.py"
    path.write_text(HAND_WRITTEN.replace(": list[str]", "") + f"\n\n{line}\n")
    text: str = make_cmdlets.module_text(path)
    path.write_text(text)
    assert make_cmdlets.module_text(path) == text, "made again, it stays as it is"
    return text


def test_the_cmdlets_are_up_to_date() -> None:
    stale = [path.name for path, text in make_cmdlets.modules().items() if path.read_text("utf-8") != text]
    assert stale == [], "run: make generate"


def test_a_verb_of_the_host(tmp_path: Path) -> None:
    text = made(tmp_path, "# made from KestrunHost.add_listen_unix_socket")
    assert '__all__ = ["add_kr_listen_unix_socket", "get_kr_answer"]' in text
    assert "from pathlib import Path\n\nfrom kestrun_py.host import KestrunHost\n" in text
    assert "(socket_path: str | Path, *, server: KestrunHost | None = None) -> KestrunHost:" in text
    assert "        server: The host.\n\n    Raises:" in text
    assert "    return resolve_host(server).add_listen_unix_socket(socket_path)\n" in text


def test_what_comes_through_a_pipe(tmp_path: Path) -> None:
    text = made(tmp_path, "# made from LoggerConfiguration.register as register_kr_logger")
    assert text.count("@overload") == 2
    assert "logger_config: LoggerConfiguration) -> Logger: ..." in text
    assert "*, set_as_default: bool = ...) -> Pending[LoggerConfiguration, Logger]: ..." in text
    assert "logger_config: LoggerConfiguration = MISSING" in text


def test_aliases_are_keywords(tmp_path: Path) -> None:
    text = made(tmp_path, "# made from KestrunHost.add_endpoint")
    assert "    self_signed: bool = MISSING,\n) -> KestrunHost:" in text
    assert "self_signed=self_signed,\n" in text


def test_a_keyword_may_come_first(tmp_path: Path) -> None:
    text = made(tmp_path, "# made from KestrunHost.add_session, cookie first")
    assert "def add_kr_session(\n    cookie: CookieBuilder | None = None,\n    *,\n    options:" in text
    assert "add_session(\n        options,\n        cookie=cookie," in text


def test_verbs_in_the_docstring_are_called_as_the_cmdlets(tmp_path: Path) -> None:
    text = made(tmp_path, "# made from KestrunHost.add_data_protection")
    assert "as `add_kr_distributed_redis_cache` takes it." in text


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("# made from add_session", r"family.py:\d+: write # made from CLASS.METHOD, where CLASS is one of Kest"),
        ("# made from KestrunHost.add_nothing", r"family.py:\d+: KestrunHost has no method add_nothing."),
    ],
)
def test_a_line_that_asks_for_what_is_not_there(tmp_path: Path, line: str, message: str) -> None:
    with pytest.raises(SystemExit, match=message):
        made(tmp_path, line)
