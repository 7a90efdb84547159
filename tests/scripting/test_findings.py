"""Mistakes that are found in a script when its route is mapped, and what is no mistake."""

from __future__ import annotations

import importlib.util
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
from recording_log import Log

from kestrun_py import KestrunHost
from kestrun_py.logging import LogLevel
from kestrun_py.scripting.scripts import Script


@pytest.fixture
def script(tmp_path: Path) -> Iterator[ModuleType]:
    """An empty module that is taken for a script's; `fill` runs text in it."""
    spec = importlib.util.spec_from_file_location("script_under_test", tmp_path / "app.py")
    assert spec is not None
    yield importlib.util.module_from_spec(spec)
    sys.modules.pop("script_under_test", None)


def findings(module: ModuleType, text: str, then: str = "") -> list[str]:
    """What is found in the function ``route``, mapped when `text` has run and `then` has not."""
    assert module.__file__ is not None
    Path(module.__file__).write_text(text + then)
    exec(compile(text, module.__file__, "exec"), vars(module))
    return [f"{finding.line}: {finding.text}" for finding in Script.from_function(module.route).findings]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("def route():\n    prnt(1)\n", ["2: The name prnt is not defined. Did you mean print?"]),
        ("def route():\n    zzz\n", ["2: The name zzz is not defined."]),
        (
            "from cmdlets import *\ndef route():\n    x = get_kr_sesion_int32('a')\n",
            ["3: There is no cmdlet get_kr_sesion_int32. Did you mean get_kr_session_int32?"],
        ),
        (
            "import cmdlets\ndef route():\n    cmdlets.get_kr_sesion_int32('a')\n",
            ["3: There is no cmdlet get_kr_sesion_int32. Did you mean get_kr_session_int32?"],
        ),
        (
            "from cmdlets import *\ndef route():\n    write_kr_text_response('a',\n        stats_code=200)\n",
            ["4: write_kr_text_response has no parameter stats_code. Did you mean status_code?"],
        ),
        (
            "def route():\n    def inner():\n        return [zzz for _ in ()]\n    inner()\n",
            ["3: The name zzz is not defined."],
        ),
        (
            "async def route():\n    class A:\n        b = zzz\n    return lambda: yyy\n",
            ["3: The name zzz is not defined.", "4: The name yyy is not defined."],
        ),
        ("def other():\n    count = 1\ndef route():\n    return count\n", ["4: The name count is not defined."]),
    ],
)
def test_a_mistake(script: ModuleType, text: str, found: list[str]) -> None:
    assert findings(script, text) == found


@pytest.mark.parametrize(
    ("text", "then"),
    [
        ("def route():\n    return later()\n", "def later(): ...\n"),
        ("def route():\n    return later\n", "if __name__ == '__main__':\n    later = 5\n"),
        ("def route():\n    return json.dumps(1)\n", "import json\n"),
        ("def route():\n    return later\n", "from os.path import *\n"),
        ("def start():\n    global count\n    count = 1\ndef route():\n    return count\n", ""),
        ("globals()['made'] = 1\ndel globals()['made']\ndef route():\n    return made\n", ""),
        ("def route():\n    try:\n        return unicode\n    except NameError:\n        return str\n", ""),
        ("def route():\n    class A:\n        b = 1\n        c = b\n    return __name__, __file__, A\n", ""),
        ("from cmdlets import *\ndef route():\n    write_kr_text_response('a', **{'status_code': 200})\n", ""),
        (
            "from cmdlets import *\ndef route():\n    get_kr_context = print\n    get_kr_context(end='')\n",
            "",
        ),
        (
            "from cmdlets import *\ndef get_kr_context(end): ...\ndef route():\n    get_kr_context(end='')\n",
            "",
        ),
        ("route = str.upper\nroute = lambda context=None: context.anything\n", ""),
        ("from __future__ import annotations\ndef route(context: Missing = None) -> AlsoMissing: ...\n", ""),
    ],
)
def test_what_is_no_mistake(script: ModuleType, text: str, then: str) -> None:
    assert findings(script, text, then) == []


def test_a_function_without_source_is_not_looked_into(script: ModuleType) -> None:
    exec("def route():\n    return zzz\n", vars(script))
    assert Script.from_function(script.route).findings == []


@pytest.mark.parametrize(
    ("code", "found"),
    [
        ("context.response.write_text(greeting)", ["The name greeting is not defined."]),
        ("from cmdlets import *\nwrite_kr_text('a')", ["There is no cmdlet write_kr_text."]),
        ("from cmdlets import *\nwrite_kr_text_response(5)", []),
        ("from not_loaded_yet import *\nanything()", []),
        ("import json\ndef f():\n    return json, count\ncount = 1\nf()", []),
        ("await asyncio.sleep(0)", ["The name asyncio is not defined."]),
    ],
)
def test_source_text(code: str, found: list[str]) -> None:
    assert [finding.text for finding in Script.from_source(code).findings] == found


def test_arguments_of_source_text_are_defined() -> None:
    assert Script.from_source("greeting", arguments={"greeting": "Hello"}).findings == []


def test_a_route_is_mapped_with_a_warning() -> None:
    log = Log()
    KestrunHost("test", logger=log.logger).add_map_route("/a", "Get,Post", code="1\nzzz")
    [text] = log.texts(LogLevel.WARNING)
    assert re.fullmatch(r"Route Get, Post /a: The name zzz is not defined\. \(<route script \d+>, line 2\)", text)
