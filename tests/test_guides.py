"""The guides: their Python calls what exists with arguments it has, and their links lead somewhere."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pytest_aiohttp.plugin import AiohttpClient

import cmdlets
from cmdlets import add_kr_map_route, add_kr_session, get_kr_server, new_kr_server, set_kr_session_json
from kestrun_py import KestrunHost
from kestrun_py.host_registry import resolve_host

GUIDES = sorted((Path(__file__).parents[1] / "docs" / "guides").glob("*.md"))


CODE = {
    f"{guide.stem}-{number}": block
    for guide in GUIDES
    for number, block in enumerate(re.findall(r"```python\n(.*?)```", guide.read_text(encoding="utf-8"), re.DOTALL), 1)
}


def calls(block: str) -> Iterator[tuple[str, list[str]]]:
    """What a block calls: cmdlets and verbs of a host, with the names of their keyword arguments."""
    for node in ast.walk(ast.parse(block)):
        if isinstance(node, ast.Call):
            keywords = [keyword.arg for keyword in node.keywords if keyword.arg]
            if isinstance(node.func, ast.Name) and "_kr_" in node.func.id:
                yield node.func.id, keywords
            if isinstance(node.func, ast.Attribute) and hasattr(KestrunHost, node.func.attr):
                yield f"host.{node.func.attr}", keywords


def parameters(name: str) -> set[str]:
    """The names that a call takes."""
    owner, verb = (KestrunHost, name.removeprefix("host.")) if name.startswith("host.") else (cmdlets, name)
    return {*inspect.signature(getattr(owner, verb)).parameters}


@pytest.mark.parametrize("name", CODE)
def test_python_calls_what_exists(name: str) -> None:
    for called, keywords in calls(CODE[name]):
        assert set(keywords) <= parameters(called), called


def test_there_is_code_to_test() -> None:
    assert len([call for block in CODE.values() for call in calls(block)]) > 40


async def test_the_ported_script_works(aiohttp_client: AiohttpClient, monkeypatch: pytest.MonkeyPatch) -> None:
    served: list[KestrunHost] = []

    def start(**options: object) -> None:
        assert options == {"close_logs_on_exit": True}
        served.append(resolve_host())

    monkeypatch.setattr(cmdlets, "start_kr_server", start)
    exec(CODE["porting-1"], {"__name__": "__main__"})
    client = await aiohttp_client(served[0].create_app())
    assert await (await client.get("/visits")).json() == {"visits": 1}
    assert await (await client.get("/products/7")).json() == {"id": 7}
    assert (await client.get("/products/101")).status == 404


async def test_the_script_on_the_host_object_works(
    aiohttp_client: AiohttpClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    served: list[KestrunHost] = []
    monkeypatch.setattr(KestrunHost, "run", lambda host: served.append(host))
    exec(CODE[[name for name in CODE if name.startswith("porting")][-1]], {"__name__": "__main__"})
    client = await aiohttp_client(served[0].create_app())
    assert await (await client.get("/visits")).json() == {"visits": 1}


async def test_an_executor_is_handed_the_request(aiohttp_client: AiohttpClient) -> None:
    (block,) = [code for code in CODE.values() if "ThreadPoolExecutor" in code]
    new_kr_server("test")
    add_kr_session()
    add_kr_map_route("/cart", script_block=lambda: set_kr_session_json("prices", [1, 2, 3]))
    exec(f"from cmdlets import *\n{block}", script := dict[str, Any]())
    client = await aiohttp_client(get_kr_server().create_app())
    await client.get("/cart")
    assert await (await client.get("/cart/total")).json() == {"total": 6}
    script["pool"].shutdown()


@pytest.mark.parametrize("guide", GUIDES, ids=lambda guide: guide.stem)
def test_cmdlets_that_the_text_names_exist(guide: Path) -> None:
    named = set(re.findall(r"`([a-z]+_kr_[a-z0-9_]+)", guide.read_text(encoding="utf-8")))
    assert named - set(cmdlets.__all__) - {"verb_kr_noun"} == set()


@pytest.mark.parametrize("guide", GUIDES, ids=lambda guide: guide.stem)
def test_links_lead_somewhere(guide: Path) -> None:
    targets = re.findall(r"\]\((?!https?://)([^)#]+)", guide.read_text(encoding="utf-8"))
    assert [target for target in targets if not (guide.parent / target).exists()] == []


@pytest.mark.parametrize("heading", ["ASP.NET Core's sessions", "ASP.NET Core's routing", "Kestrun"])
def test_differences_has_its_parts(heading: str) -> None:
    text = (GUIDES[0].parent / "differences.md").read_text(encoding="utf-8")
    assert f"\n## From {heading}\n" in text
