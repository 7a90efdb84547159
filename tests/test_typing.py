"""What a type checker makes of a host script: `mypy --strict` knows the cmdlets and their arguments."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

README = Path(__file__).parents[1] / "README.md"

GOOD = """
from datetime import datetime, timedelta
import os

from cmdlets import *
from kestrun_py import DistributedCache, KestrunContext, KestrunHost, MemoryCache


class Mine(MemoryCache): ...


new_kr_logger() | set_kr_logger_level("Debug") | add_kr_sink_console() | register_kr_logger("console")

host: KestrunHost = new_kr_server("One")
host.services.add(DistributedCache, Mine())
cache: DistributedCache | None = host.services.get(DistributedCache)
piped: KestrunHost = "Two" | new_kr_server()
found: KestrunHost = get_kr_server()
since: datetime | None = get_kr_server(host, start_time=True)
until: datetime | None = get_kr_server(host, stop_time=True)
uptime: timedelta | None = get_kr_server(host, uptime=True)
names: list[str] = add_kr_endpoint(port=os.environ.get("PORT") or 5000)
host.add_endpoint(port="5001", self_signed_cert=True).add_distributed_memory_cache(size_limit=1_000_000)
with_session: KestrunHost = new_kr_cookie_builder(name="Shop") | add_kr_session(idle_timeout=20)


@add_kr_map_route("/visits", verbs="Get", endpoints=names)
def visits() -> None:
    {"visits": 1} | write_kr_json_response(status_code=201)


@add_kr_map_route("/hello", session_access="read_only")
async def hello(context: KestrunContext) -> None:
    number: int = get_kr_request_route_param("id", as_int=True)
    price: float = get_kr_request_query("price", as_double=True)
    flag: bool = get_kr_request_cookie("flag", as_bool=True)
    there: str = get_kr_request_header("Host", throw_if_missing=True)
    maybe: str | None = get_kr_request_header("Host")
    "Hello" | write_kr_text_response()


visits()
mapped: KestrunHost = add_kr_map_route("/code", code="pass", arguments={"a": 1})
mapped = add_kr_map_route(path="/block", method=["Get", "Post"], script_block=visits)
"Two" | remove_kr_server(force=True)
start_kr_server()
"""

# Each line, and what mypy says of it.
BAD = {
    "add_kr_endpoint(prot=5000)": '"prot" for "add_kr_endpoint"',
    "get_kr_server().add_endpoint(prot=5000)": '"prot" for "add_endpoint"',
    "get_kr_server().add_session(idle_timout=20)": '"idle_timout" for "add_session"',
    "get_kr_server().add_distributed_memory_cache(limit=20)": '"limit" for "add_distributed_memory_cache"',
    "get_kr_server().new_cookie_builder(same_sight='Lax')": '"same_sight" for "new_cookie_builder"',
    "add_kr_map_route('/x', code='pass', verb='Get')": 'No overload variant of "add_kr_map_route"',
    "write_kr_json_response({}, status='200')": 'No overload variant of "write_kr_json_response"',
    "5 | new_kr_server()": "Unsupported operand types",
    "number: int = get_kr_server(uptime=True)": "Incompatible types in assignment",
    "new_kr_cookie_builder(same_site='Laks')": 'Argument "same_site" to "new_kr_cookie_builder"',
    "add_kr_session(lock='sometimes')": 'Argument "lock" to "add_kr_session"',
    "write_kr_log('Informational', 'text')": 'Argument 1 to "write_kr_log"',
    "text: str = get_kr_request_query('a')": "Incompatible types in assignment",
    "new_kr_sever('x')": '"new_kr_sever" is not defined',
}


def check(script: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "mypy", "--strict", "--cache-dir", str(script.parent / "cache"), script.name]
    return subprocess.run(command, cwd=script.parent, capture_output=True, text=True, timeout=110)


@pytest.mark.xdist_group("mypy")
def test_a_script_that_is_right(tmp_path: Path) -> None:
    (first,) = re.findall(r"```python\n(.*?)```", README.read_text("utf-8"), re.DOTALL)
    tmp_path.joinpath("first.py").write_text(re.sub(r"^(def \w+\(\)):", r"\1 -> None:", first, flags=re.MULTILINE))
    script = tmp_path / "script.py"
    script.write_text(f"import first\n{GOOD}\nfirst\n")
    done = check(script)
    assert (done.returncode, done.stdout) == (0, "Success: no issues found in 1 source file\n")


@pytest.mark.xdist_group("mypy")
def test_mistakes_are_found(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text("from cmdlets import *\n" + "\n".join(BAD))
    found = check(script).stdout
    for number, (line, text) in enumerate(BAD.items(), 2):
        assert re.search(rf"^script\.py:{number}: error: .*{re.escape(text)}", found, re.MULTILINE), (line, found)
