"""Which route answers a request: ASP.NET Core's rules, seen from outside."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
from pytest_aiohttp.plugin import AiohttpClient
from recording_log import Log
from yarl import URL

from kestrun_py import HttpVerb, KestrunHost
from kestrun_py.context import KestrunContext
from kestrun_py.errors import ArgumentError, InvalidOperationError
from kestrun_py.logging import LogLevel
from kestrun_py.routing.table import to_verbs

Script = Callable[[KestrunContext], None]


# aiohttp's C parser answers requests with these methods itself; its Python parser lets them through.
REFUSED_BY_AIOHTTP = {
    HttpVerb.BASELINE_CONTROL,
    HttpVerb.CHECKIN,
    HttpVerb.LABEL,
    HttpVerb.MKWORKSPACE,
    HttpVerb.ORDERPATCH,
    HttpVerb.UNCHECKOUT,
    HttpVerb.UPDATE,
    HttpVerb.VERSION_CONTROL,
}


def answer(text: str) -> Script:
    def script(context: KestrunContext) -> None:
        context.response.write_text(text)

    return script


def show_parameters(context: KestrunContext) -> None:
    context.response.write_json(dict(context.request.route_params), compress=True)


class TestVerbs:
    @pytest.mark.parametrize(
        ("given", "verbs"),
        [
            ("Get", (HttpVerb.GET,)),
            ("GET", (HttpVerb.GET,)),
            (HttpVerb.POST, (HttpVerb.POST,)),
            ("Get,Post", (HttpVerb.GET, HttpVerb.POST)),
            (["get", HttpVerb.PUT], (HttpVerb.GET, HttpVerb.PUT)),
            (("Get", "GET"), (HttpVerb.GET,)),
            ("VersionControl", (HttpVerb.VERSION_CONTROL,)),
            ("version-control", (HttpVerb.VERSION_CONTROL,)),
        ],
    )
    def test_one_or_several_as_members_or_text(self, given: Any, verbs: tuple[HttpVerb, ...]) -> None:
        assert to_verbs(given) == verbs

    @pytest.mark.parametrize("given", ["Fetch", "", "Get;Post", ["Get", 5], 5, None])
    def test_an_unknown_verb_is_named_and_the_known_ones_are_listed(self, given: Any) -> None:
        with pytest.raises(ArgumentError, match=r"verbs: .* is not one of Get, Head, Post"):
            to_verbs(given)

    def test_at_least_one(self) -> None:
        with pytest.raises(ArgumentError, match="at least one"):
            to_verbs([])

    async def test_every_verb_can_be_mapped_and_called(self, aiohttp_client: AiohttpClient) -> None:
        host = KestrunHost("test")
        for verb in HttpVerb:
            host.add_map_route(f"/{verb.value}", verb, answer(verb.value))
        client = await aiohttp_client(host.create_app())
        refused = set()
        for verb in HttpVerb:
            response = await client.request(verb.value, f"/{verb.value}")
            if response.status == 400:
                refused.add(verb)
                continue
            body = "" if verb is HttpVerb.HEAD else verb.value
            assert (response.status, await response.text()) == (200, body), verb
        assert refused <= REFUSED_BY_AIOHTTP


class TestPaths:
    @pytest.mark.parametrize("path", ["/hello", "/Hello", "/HELLO/", "/hello?x=1", "/%68ello"])
    async def test_case_escapes_and_a_slash_at_the_end_do_not_matter(
        self, path: str, aiohttp_client: AiohttpClient
    ) -> None:
        client = await aiohttp_client(KestrunHost("test").add_map_route("/hello", "Get", answer("hi")).create_app())
        response = await client.get(path)
        assert (response.status, await response.text()) == (200, "hi")

    @pytest.mark.parametrize("path", ["/hello//", "//hello", "/hell", "/hello/x", "/"])
    async def test_other_paths_are_not_found(self, path: str, aiohttp_client: AiohttpClient) -> None:
        client = await aiohttp_client(KestrunHost("test").add_map_route("/hello", "Get", answer("hi")).create_app())
        async with client.session.get(f"http://{client.host}:{client.port}{path}") as response:
            assert (response.status, await response.read()) == (404, b"")

    @pytest.mark.parametrize(
        ("path", "values"),
        [
            ("/show/a%20b", '{"name":"a b"}'),
            ("/show/%C3%A9", '{"name":"é"}'),
            ("/show/a%2Fb", '{"name":"a%2Fb"}'),  # an escaped slash is no separator, and stays escaped
            ("/show/100%25", '{"name":"100%"}'),
            ("/show/%FF", '{"name":"%FF"}'),  # what is no UTF-8 stays escaped
        ],
    )
    async def test_values_are_unescaped(self, path: str, values: str, aiohttp_client: AiohttpClient) -> None:
        host = KestrunHost("test").add_map_route("/show/{name}", "Get", show_parameters)
        client = await aiohttp_client(host.create_app())
        response = await client.get(URL(path, encoded=True))
        assert (response.status, await response.text()) == (200, values)

    async def test_a_number_of_many_digits_is_no_int(self, aiohttp_client: AiohttpClient) -> None:
        host = KestrunHost("test").add_map_route("/items/{id:int}", "Get", show_parameters)
        client = await aiohttp_client(host.create_app())
        assert (await client.get(f"/items/{'9' * 5000}")).status == 404


class TestPrecedence:
    @pytest.mark.parametrize("backwards", [False, True])
    async def test_the_most_specific_template_wins_in_any_order(
        self, backwards: bool, aiohttp_client: AiohttpClient
    ) -> None:
        patterns = ["/users/me", "/users/{id:int}", "/users/{name}", "/{*rest}"]
        host = KestrunHost("test")
        for pattern in reversed(patterns) if backwards else patterns:
            host.add_map_route(pattern, "Get", answer(pattern))
        client = await aiohttp_client(host.create_app())
        paths = ["/users/me", "/users/7", "/users/max", "/anything/else"]
        assert [await (await client.get(path)).text() for path in paths] == patterns

    async def test_a_less_specific_route_answers_verbs_that_the_specific_one_has_not(
        self, aiohttp_client: AiohttpClient
    ) -> None:
        host = KestrunHost("test")
        host.add_map_route("/users/me", "Get", answer("me")).add_map_route("/users/{id}", "Post", show_parameters)
        client = await aiohttp_client(host.create_app())
        assert await (await client.post("/users/me")).text() == '{"id":"me"}'
        refused = await client.delete("/users/me")
        assert (refused.status, refused.headers["Allow"]) == (405, "GET, HEAD, POST")

    async def test_each_verb_has_its_own_parameter_names(self, aiohttp_client: AiohttpClient) -> None:
        host = KestrunHost("test").add_map_route("/items/{id}", "Get", show_parameters)
        host.add_map_route("/items/{key}", "Post", show_parameters).add_map_route("/i/{a?}", "Get", show_parameters)
        host.add_map_route("/i/{b:int?}", "Post", show_parameters)
        client = await aiohttp_client(host.create_app())
        assert await (await client.get("/items/7")).text() == '{"id":"7"}'
        assert await (await client.post("/items/7")).text() == '{"key":"7"}'
        assert (await client.post("/i/x")).status == 405
        assert await (await client.post("/i/7")).text() == '{"b":"7"}'


class TestMethods:
    async def test_a_verb_without_a_route_gets_405_with_allow(self, aiohttp_client: AiohttpClient) -> None:
        host = KestrunHost("test").add_map_route("/x", ["Post", "Put"], answer("x"))
        client = await aiohttp_client(host.create_app())
        response = await client.get("/x")
        assert (response.status, response.headers["Allow"], await response.read()) == (405, "POST, PUT", b"")
        assert "Content-Type" not in response.headers

    async def test_a_method_that_no_route_can_have_gets_405(self, aiohttp_client: AiohttpClient) -> None:
        client = await aiohttp_client(KestrunHost("test").add_map_route("/x", "Get", answer("x")).create_app())
        assert (await client.request("PURGE", "/x")).status == 405

    @pytest.mark.parametrize("pattern", ["/x", "/{name}"])
    async def test_head_answers_on_get_routes(self, pattern: str, aiohttp_client: AiohttpClient) -> None:
        client = await aiohttp_client(KestrunHost("test").add_map_route(pattern, "Get", answer("four")).create_app())
        response = await client.head("/x")
        assert (response.status, response.headers["Content-Length"], await response.read()) == (200, "4", b"")

    async def test_a_head_route_comes_before_the_get_route(self, aiohttp_client: AiohttpClient) -> None:
        def head(context: KestrunContext) -> None:
            context.response.write_status(204)

        host = KestrunHost("test").add_map_route("/x", "Get", answer("x")).add_map_route("/x", "Head", head)
        client = await aiohttp_client(host.create_app())
        assert (await client.head("/x")).status == 204

    async def test_head_does_not_answer_on_post_routes(self, aiohttp_client: AiohttpClient) -> None:
        client = await aiohttp_client(KestrunHost("test").add_map_route("/x", "Post", answer("x")).create_app())
        response = await client.head("/x")
        assert (response.status, response.headers["Allow"]) == (405, "POST")


class TestDuplicates:
    TEXT = r"Route '/X/{{b}}' with method\(s\) {} already exists\."

    def host(self, log: Log | None = None) -> KestrunHost:
        logger = None if log is None else log.logger
        return KestrunHost("test", logger=logger).add_map_route("/x/{a}", "Get", answer("first"))

    @pytest.mark.parametrize("verbs", ["Get", "Post,Get"])
    def test_a_second_route_is_an_error_with_kestruns_text(self, verbs: str) -> None:
        text = self.TEXT.format("Post, Get" if "Post" in verbs else "Get")
        with pytest.raises(InvalidOperationError, match=f"^{text}$"):
            self.host().add_map_route("/X/{b}", verbs, answer("second"))

    async def test_a_refused_route_leaves_nothing_behind(self, aiohttp_client: AiohttpClient) -> None:
        host = self.host()
        with pytest.raises(InvalidOperationError):
            host.add_map_route("/x/{b}", "Post,Get", answer("second"))
        client = await aiohttp_client(host.create_app())
        assert (await client.post("/x/1")).status == 405

    def test_another_verb_or_another_constraint_is_another_route(self) -> None:
        host = self.host().add_map_route("/x/{a}", "Post", answer("post"))
        host.add_map_route("/x/{a:int}", "Get", answer("int"))

    @pytest.mark.parametrize(("action", "level"), [("Skip", LogLevel.DEBUG), ("warn", LogLevel.WARNING)])
    async def test_skip_and_warn_keep_the_first(
        self, action: str, level: LogLevel, aiohttp_client: AiohttpClient
    ) -> None:
        log = Log()
        host = self.host(log).add_map_route("/x/{a}", "Get", answer("second"), duplicate_action=action)  # type: ignore[arg-type]
        assert "Route '/x/{a}' with method(s) Get already exists. It is skipped." in log.texts(level)
        client = await aiohttp_client(host.create_app())
        assert await (await client.get("/x/1")).text() == "first"

    @pytest.mark.parametrize("how", [{"allow_duplicate": True}, {"duplicate_action": "Allow"}])
    async def test_allowed_duplicates_answer_in_the_order_in_which_they_were_added(
        self, how: dict[str, Any], aiohttp_client: AiohttpClient
    ) -> None:
        host = self.host().add_map_route("/x/{a}", "Get", answer("second"), **how)
        client = await aiohttp_client(host.create_app())
        assert await (await client.get("/x/1")).text() == "first"

    def test_an_unknown_action(self) -> None:
        with pytest.raises(ArgumentError, match="duplicate_action: 'replace' is not one of Throw, Skip, Allow, Warn"):
            self.host().add_map_route("/x", "Get", answer("x"), duplicate_action="replace")  # type: ignore[arg-type]

    def test_threads_that_add_one_route_at_once_add_it_once(self) -> None:
        host = KestrunHost("test")
        outcomes: list[str] = []
        start = threading.Barrier(8)

        def add(number: int) -> None:
            start.wait()
            try:
                host.add_map_route("/same/{x}", "Get", answer("x"))
                outcomes.append("added")
            except InvalidOperationError:
                outcomes.append("refused")
            host.add_map_route(f"/own{number}/{{x}}", "Get", answer("x"))

        threads = [threading.Thread(target=add, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(outcomes) == ["added"] + ["refused"] * 7
        assert len(host.routes) == len(host.routes._ordered) == 9


class TestEndpoints:
    def host(self) -> KestrunHost:
        host = KestrunHost("test").add_endpoint(port=5000).add_endpoint(port=5001, ip_address="127.0.0.1")
        host.add_map_route("/x", "Get", answer("one"), endpoints="127.0.0.1:5000")
        host.add_map_route("/x", "Get", answer("two"), endpoints=["HTTP://LocalHost:5001/"], allow_duplicate=True)
        return host.add_map_route("/both", "Get", answer("both"))

    @pytest.mark.parametrize(
        ("name", "path", "status", "text"),
        [
            ("127.0.0.1:5000", "/x", 200, "one"),
            ("LOCALHOST:5001", "/x", 200, "two"),
            ("127.0.0.1:5001", "/x", 404, ""),
            ("localhost:5000", "/x", 404, ""),
            ("elsewhere", "/x", 404, ""),
            ("elsewhere", "/both", 200, "both"),
        ],
    )
    async def test_a_route_answers_to_the_endpoints_it_was_mapped_for(
        self, name: str, path: str, status: int, text: str, aiohttp_client: AiohttpClient
    ) -> None:
        client = await aiohttp_client(self.host().create_app())
        response = await client.get(path, headers={"Host": name})
        assert (response.status, await response.text()) == (status, text)

    async def test_the_port_of_the_scheme_may_be_left_out(self, aiohttp_client: AiohttpClient) -> None:
        host = KestrunHost("test").add_endpoint(port=80).add_endpoint(ip_address="::1", port=80)
        host.add_map_route("/x", "Get", answer("x"), endpoints=["localhost:80", "[::1]:80"])
        client = await aiohttp_client(host.create_app())
        for name in ("localhost", "localhost:80", "[::1]", "[::1]:80"):
            assert (await client.get("/x", headers={"Host": name})).status == 200, name
        assert (await client.get("/x", headers={"Host": "localhost:81"})).status == 404

    def test_an_unknown_endpoint_is_named_with_kestruns_text(self) -> None:
        host = KestrunHost("test").add_endpoint(port=5000)
        with pytest.raises(ArgumentError, match=r"^Invalid Endpoints: 127\.0\.0\.1:6000\. .*127\.0\.0\.1:5000"):
            host.add_map_route("/x", "Get", answer("x"), endpoints=["127.0.0.1:5000", "127.0.0.1:6000"])

    def test_a_host_without_endpoints_says_so(self) -> None:
        with pytest.raises(ArgumentError, match="listens on none yet"):
            KestrunHost("test").add_map_route("/x", "Get", answer("x"), endpoints="127.0.0.1:6000")


async def test_routes_can_be_added_while_it_serves(aiohttp_client: AiohttpClient) -> None:
    host = KestrunHost("test").add_map_route("/old/{x}", "Get", answer("old"))
    client = await aiohttp_client(host.create_app())
    assert (await client.get("/new")).status == 404

    def add(context: KestrunContext) -> None:
        host.add_map_route("/new", "Get", answer("new")).add_map_route("/old/{x:int}", "Get", answer("int"))

    host.add_map_route("/add", "Post", add)
    assert (await client.post("/add")).status == 200
    texts = [await (await client.get(path)).text() for path in ("/new", "/old/1", "/old/x")]
    assert texts == ["new", "int", "old"]


async def test_the_table_cannot_be_mounted_or_named(aiohttp_client: AiohttpClient) -> None:
    host = KestrunHost("test").add_map_route("/a", "Get,Post", answer("a")).add_map_route("/b/{c}", "Get", answer("b"))
    app = host.create_app()
    (table,) = app.router.resources()
    assert [route.method for route in table] == ["GET", "POST", "GET"]
    assert len(table) == 3
    with pytest.raises(ArgumentError, match="prefix in their patterns"):
        table.add_prefix("/api")
    with pytest.raises(ArgumentError, match="no single URL"):
        table.url_for()
