"""Add-KrMapRoute: its ways to take a script, its aliases, its errors."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from cmdlets import add_kr_endpoint, add_kr_map_route, get_kr_context, new_kr_server, write_kr_text_response
from kestrun_py import HttpVerb, KestrunHost
from kestrun_py.errors import ArgumentError, InvalidOperationError

if TYPE_CHECKING:
    from cmdlet_support import Client

Serve = Callable[[], Awaitable["Client"]]


def hello() -> None:
    write_kr_text_response("hello")


class TestScripts:
    async def test_as_a_decorator_it_gives_the_function_back(self, host: KestrunHost, serve: Serve) -> None:
        def plain() -> None:
            write_kr_text_response(get_kr_context().request.method)

        assert add_kr_map_route("/x", verbs=["Get", "Post"])(plain) is plain
        client = await serve()
        assert [await (await client.request(verb, "/x")).text() for verb in ("GET", "POST")] == ["GET", "POST"]

    async def test_decorators_can_be_stacked(self, host: KestrunHost, serve: Serve) -> None:
        @add_kr_map_route("/a")
        @add_kr_map_route("/b")
        async def both() -> None:
            write_kr_text_response("both")

        client = await serve()
        assert [await (await client.get(path)).text() for path in ("/a", "/b")] == ["both", "both"]

    @pytest.mark.parametrize(
        "given",
        [
            {"script_block": hello},
            {"code": "from cmdlets import *\nwrite_kr_text_response('hello')"},
            {"code_block": "context.response.write_text('hello')", "language": "python"},
            {"code": "context.response.write_text(word)", "arguments": {"word": "hello"}},
        ],
    )
    async def test_as_a_call_it_gives_the_host_back(
        self, given: dict[str, Any], host: KestrunHost, serve: Serve
    ) -> None:
        assert add_kr_map_route("/x", **given) is host
        assert await (await (await serve()).get("/x")).text() == "hello"

    async def test_a_file(self, tmp_path: Path, host: KestrunHost, serve: Serve) -> None:
        file = tmp_path / "route.py"
        file.write_text("context.response.write_text('hello')", encoding="utf-8")
        assert add_kr_map_route("/x", code_file_path=file) is host
        assert await (await (await serve()).get("/x")).text() == "hello"

    def test_a_forgotten_script_is_told(self, host: KestrunHost) -> None:
        with pytest.warns(RuntimeWarning, match="add_kr_map_route mapped nothing: give it script_block, code or"):
            add_kr_map_route("/x")

    @pytest.mark.parametrize("given", [{"code": ""}, {"code": "pass", "script_block": hello}])
    def test_one_script_that_is_none(self, given: dict[str, Any], host: KestrunHost) -> None:
        with pytest.raises(ArgumentError):
            add_kr_map_route("/x", **given)

    def test_another_language(self, host: KestrunHost) -> None:
        with pytest.raises(ArgumentError, match="language must be Python, not 'CSharp'"):
            add_kr_map_route("/x", code="return;", language="CSharp")  # type: ignore[call-overload]


class TestParameters:
    async def test_the_defaults_are_get_and_the_root(self, host: KestrunHost, serve: Serve) -> None:
        add_kr_map_route(script_block=hello)
        client = await serve()
        assert await (await client.get("/")).text() == "hello"
        assert (await client.post("/")).status == 405

    @pytest.mark.parametrize("verbs", ["Post", "POST", HttpVerb.POST, ["post"], "Post,Put"])
    @pytest.mark.parametrize("name", ["verbs", "method"])
    async def test_verbs(self, name: str, verbs: Any, host: KestrunHost, serve: Serve) -> None:
        add_kr_map_route(path="/x", script_block=hello, **{name: verbs})
        client = await serve()
        assert [(await client.post("/x")).status, (await client.get("/x")).status] == [200, 405]

    @pytest.mark.parametrize(
        "given",
        [
            {"pattern": "/a", "path": "/b"},
            {"verbs": "Post", "method": "Put"},
            {"code": "a", "code_block": "b"},
        ],
    )
    def test_a_parameter_and_its_alias_at_once(self, given: dict[str, Any], host: KestrunHost) -> None:
        first, second = given
        with pytest.raises(ArgumentError, match=f"{first} and {second} are one parameter; give one of them"):
            add_kr_map_route(**{"script_block": hello, **given} if "code" not in given else given)

    def test_a_pattern_without_a_slash(self, host: KestrunHost) -> None:
        with pytest.raises(ArgumentError, match="'x' does not"):
            add_kr_map_route("x", script_block=hello)

    def test_an_unknown_verb(self, host: KestrunHost) -> None:
        with pytest.raises(ArgumentError, match="verbs: 'Fetch' is not one of Get, Head, Post"):
            add_kr_map_route("/x", verbs="Fetch", script_block=hello)

    async def test_endpoints(self, host: KestrunHost, serve: Serve) -> None:
        names = add_kr_endpoint(port=5001)
        assert names == ["127.0.0.1:5001", "localhost:5001"]
        add_kr_map_route("/x", script_block=hello, endpoints=names)
        client = await serve()
        assert (await client.get("/x", headers={"Host": "localhost:5001"})).status == 200
        assert (await client.get("/x", headers={"Host": "localhost:5002"})).status == 404

    async def test_another_server(self, host: KestrunHost, serve: Serve) -> None:
        other = new_kr_server("other")
        assert add_kr_map_route("/x", script_block=hello, server=other) is other
        assert (await (await serve()).get("/x")).status == 404


class TestDuplicates:
    def test_the_error_is_kestruns(self, host: KestrunHost) -> None:
        add_kr_map_route("/x", script_block=hello)
        with pytest.raises(InvalidOperationError, match=r"^Route '/x' with method\(s\) Get already exists\.$"):
            add_kr_map_route("/x", script_block=hello)

    @pytest.mark.parametrize("how", [{"allow_duplicate": True}, {"duplicate_action": "Skip"}])
    async def test_unless_it_is_allowed(self, how: dict[str, Any], host: KestrunHost, serve: Serve) -> None:
        add_kr_map_route("/x", script_block=hello)
        add_kr_map_route("/x", script_block=lambda: write_kr_text_response("second"), **how)
        assert await (await (await serve()).get("/x")).text() == "hello"


async def test_from_within_a_route(host: KestrunHost, serve: Serve) -> None:
    @add_kr_map_route("/add", verbs="Post")
    def add() -> None:
        add_kr_map_route("/new", script_block=hello)

    client = await serve()
    assert (await client.get("/new")).status == 404
    assert (await client.post("/add")).status == 200
    assert await (await client.get("/new")).text() == "hello"


def test_without_a_server() -> None:
    with pytest.raises(InvalidOperationError, match="No Kestrun server instance found"):
        add_kr_map_route("/x", script_block=hello)


def test_a_decorator_without_its_pattern_is_an_error(host: KestrunHost) -> None:
    with pytest.raises(ArgumentError, match="write @add_kr_map_route"):

        @add_kr_map_route  # type: ignore[call-overload, untyped-decorator, unused-ignore]
        def hello() -> None: ...
