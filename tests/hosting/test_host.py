"""The host: its verbs, its guards, the order of things, what it logs."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.typedefs import Handler, Middleware
from pytest_aiohttp.plugin import AiohttpClient
from recording_log import Log
from yarl import URL

from kestrun_py import CookieBuilder, DistributedCache, HttpVerb, KestrunHost, MemoryCache, SessionOptions
from kestrun_py.context import KestrunContext
from kestrun_py.errors import ArgumentError, InvalidOperationError, ServerStartError
from kestrun_py.logging import LogLevel
from kestrun_py.server.endpoints import resolve_endpoints


def noting(name: str, notes: list[str]) -> Middleware:
    @web.middleware
    async def note(request: web.Request, handler: Handler) -> web.StreamResponse:
        notes.append(f"{name} in")
        response = await handler(request)
        notes.append(f"{name} out")
        return response

    return note


class TestName:
    @pytest.mark.parametrize("name", ["", "  "])
    def test_it_is_required(self, name: str) -> None:
        with pytest.raises(ArgumentError, match=r"^Instance name is required\.$"):
            KestrunHost(name)

    def test_it_shows(self) -> None:
        assert repr(KestrunHost("Demo")) == "<KestrunHost 'Demo'>"


class TestEnvironment:
    @pytest.mark.parametrize(
        ("variables", "environment"),
        [
            ({}, "Production"),
            ({"ASPNETCORE_ENVIRONMENT": "Staging", "DOTNET_ENVIRONMENT": "Development"}, "Staging"),
            ({"DOTNET_ENVIRONMENT": "Development"}, "Development"),
            ({"ASPNETCORE_ENVIRONMENT": "", "DOTNET_ENVIRONMENT": "Testing"}, "Testing"),
        ],
    )
    def test_auto_asks_the_variables(
        self, variables: dict[str, str], environment: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        assert KestrunHost("x").environment == KestrunHost("x", environment="auto").environment == environment  # type: ignore[arg-type]

    @pytest.mark.parametrize("given", ["Development", "staging", "PRODUCTION"])
    def test_a_given_one_counts_in_any_case(self, given: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("ASPNETCORE_ENVIRONMENT", "Other")
        assert KestrunHost("x", environment=given).environment == given.capitalize()  # type: ignore[arg-type]

    def test_another_one_is_refused(self) -> None:
        with pytest.raises(ArgumentError, match="one of Auto, Development, Staging, Production, not 'Test'"):
            KestrunHost("x", environment="Test")  # type: ignore[arg-type]


VERBS: dict[str, Callable[[KestrunHost], KestrunHost]] = {
    "add_endpoint": lambda host: host.add_endpoint(port=5000),
    "add_forwarded_header": lambda host: host.add_forwarded_header(all=True),
    "add_listen_unix_socket": lambda host: host.add_listen_unix_socket("/run/never-bound.sock"),
    "set_server_options": lambda host: host.set_server_options(max_runspaces=2),
    "use": lambda host: host.use(noting("x", [])),
    "add_distributed_memory_cache": lambda host: host.add_distributed_memory_cache(),
    "add_distributed_redis_cache": lambda host: host.add_distributed_redis_cache("localhost:6379"),
    "add_distributed_sqlserver_cache": lambda host: host.add_distributed_sqlserver_cache(
        "Driver=FreeTDS;Server=localhost;Database=x", schema_name="dbo", table_name="Sessions"
    ),
    "add_distributed_postgres_cache": lambda host: host.add_distributed_postgres_cache(
        "Host=localhost;Database=x", schema_name="public", table_name="Sessions"
    ),
    "add_session": lambda host: host.add_session(),
    "add_data_protection": lambda host: host.add_data_protection(application_name="x"),
    "add_map_route": lambda host: host.add_map_route("/x", "Get", lambda: None),
    "enable_configuration": lambda host: host.enable_configuration(),
}


class TestVerbs:
    @pytest.mark.parametrize("verb", VERBS)
    def test_each_returns_the_host(self, verb: str) -> None:
        host = KestrunHost("test")
        assert VERBS[verb](host) is host

    def test_none_is_forgotten_here(self) -> None:
        methods = inspect.getmembers(KestrunHost, inspect.isfunction)
        makers = [name for name, function in methods if function.__annotations__.get("return") == "Self"]
        assert {name for name in makers if not name.startswith("_")} == {*VERBS, "start"}

    @pytest.mark.parametrize("verb", sorted(VERBS.keys() - {"add_map_route", "enable_configuration"}))
    def test_after_the_configuration_each_is_an_error(self, verb: str) -> None:
        host = KestrunHost("test").enable_configuration()
        with pytest.raises(InvalidOperationError) as caught:
            VERBS[verb](host)
        if "endpoint" in verb or "socket" in verb:
            expected = (
                "Cannot add endpoint to a server that is already configured. Please create a new server instance."
            )
        else:
            expected = (
                f"{verb} comes too late: the host 'test' is configured already. Call it before enable_configuration "
                f"({verb.replace('_', '_kr_', 1)} before enable_kr_configuration)."
            )
        assert str(caught.value) == expected

    async def test_a_refused_middleware_does_not_run(self, aiohttp_client: AiohttpClient) -> None:
        host, notes = KestrunHost("test").add_map_route("/", "Get", lambda: None), list[str]()
        app = host.create_app()
        with pytest.raises(InvalidOperationError):
            host.use(noting("late", notes))
        client = await aiohttp_client(app)
        assert (await client.get("/")).status == 200
        assert notes == []

    @pytest.mark.parametrize(
        ("verb", "handed_on_to", "own"),
        [
            ("add_endpoint", resolve_endpoints, {"environ", "logger"}),
            ("add_distributed_memory_cache", MemoryCache, {"clock", "logger"}),
            ("new_cookie_builder", CookieBuilder, set()),
        ],
    )
    def test_a_verb_has_the_arguments_and_defaults_of_what_it_hands_them_on_to(
        self, verb: str, handed_on_to: Callable[..., Any], own: set[str]
    ) -> None:
        def defaults(function: Callable[..., Any]) -> dict[str, object]:
            return {name: parameter.default for name, parameter in inspect.signature(function).parameters.items()}

        expected = {name: default for name, default in defaults(handed_on_to).items() if name not in own}
        assert defaults(getattr(KestrunHost("test"), verb)) == expected

    def test_add_session_has_every_option(self) -> None:
        options = inspect.signature(SessionOptions.of).parameters.keys()
        assert options < inspect.signature(KestrunHost.add_session).parameters.keys()

    @pytest.mark.parametrize(
        "verb", ["add_endpoint", "add_session", "add_distributed_memory_cache", "new_cookie_builder"]
    )
    def test_a_misspelt_argument_is_an_error_that_names_the_verb(self, verb: str) -> None:
        with pytest.raises(TypeError, match=rf"\b{verb}\(\) got an unexpected keyword argument 'nmae'"):
            getattr(KestrunHost("test"), verb)(nmae=1)

    def test_new_cookie_builder(self) -> None:
        cookie = KestrunHost("test").new_cookie_builder(name="Kr.Session", same_site="Lax")
        assert cookie == CookieBuilder(name="Kr.Session", same_site="Lax")


class TestGuards:
    @pytest.mark.parametrize("second", [verb for verb in VERBS if verb.endswith("_cache")])
    def test_a_second_cache_names_the_first(self, second: str) -> None:
        host = KestrunHost("test").add_distributed_memory_cache()
        first = host.services.get(DistributedCache)
        text = (
            r"^A distributed cache implementation is already registered \(the memory cache\)\. "
            r"Only one distributed cache can be registered per host\.$"
        )
        with pytest.raises(InvalidOperationError, match=text):
            VERBS[second](host)
        assert host.services.get(DistributedCache) is first

    def test_a_second_session_names_the_first(self) -> None:
        host = KestrunHost("test").add_session(cookie=CookieBuilder(name="Kr.First"))
        with pytest.raises(InvalidOperationError) as caught:
            host.add_session()
        assert str(caught.value) == (
            "Session services are already registered (with the cookie 'Kr.First'). Only one session configuration can "
            "be registered per host."
        )

    def test_a_session_that_was_refused_is_none(self) -> None:
        host = KestrunHost("test")
        with pytest.raises(ArgumentError, match="idle_timeout must be positive"):
            host.add_session(idle_timeout=0)
        host.add_session(idle_timeout=1)

    def test_options_or_settings_but_not_both(self) -> None:
        with pytest.raises(ArgumentError, match="takes options or idle_timeout, lock, not both"):
            KestrunHost("test").add_session(SessionOptions.of(), idle_timeout=5, lock="none")

    def test_ready_options(self) -> None:
        options = SessionOptions.of(idle_timeout=5)
        assert KestrunHost("test").add_session(options).services.get(SessionOptions) is options

    def test_sessions_bring_a_memory_cache(self) -> None:
        host = KestrunHost("test").add_session().enable_configuration()
        assert isinstance(host.services.get(DistributedCache), MemoryCache)

    def test_or_use_the_one_that_is_there_in_either_order(self) -> None:
        for first, second in (
            ("add_session", "add_distributed_memory_cache"),
            ("add_distributed_memory_cache", "add_session"),
        ):
            host = VERBS[second](VERBS[first](KestrunHost("test")))
            cache = host.services.get(DistributedCache)
            assert host.enable_configuration().services.get(DistributedCache) is cache

    def test_unless_told_not_to(self) -> None:
        host = KestrunHost("test").add_session(no_distributed_memory_cache=True)
        with pytest.raises(
            InvalidOperationError, match="Sessions need a distributed cache: call add_distributed_redis_"
        ):
            host.enable_configuration()
        host.add_distributed_memory_cache().enable_configuration()

    def test_memory_options(self) -> None:
        with pytest.raises(ArgumentError, match="size_limit"):
            KestrunHost("test").add_distributed_memory_cache(size_limit=-1)

    @pytest.mark.parametrize("value", [0, "4", 1.5])
    def test_server_options(self, value: Any) -> None:
        with pytest.raises(ArgumentError, match="max_runspaces must be"):
            KestrunHost("test").set_server_options(max_runspaces=value)

    def test_a_middleware_must_be_marked(self) -> None:
        async def forgotten(request: web.Request, handler: Handler) -> web.StreamResponse:
            return await handler(request)

        with pytest.raises(ArgumentError, match=r"put @aiohttp\.web\.middleware before .*forgotten"):
            KestrunHost("test").use(forgotten)

    def test_key_ring_in_two_places(self, tmp_path: Path) -> None:
        with pytest.raises(ArgumentError, match="give one of them"):
            KestrunHost("test").add_data_protection(folder=tmp_path, redis="localhost:6379")

    @pytest.mark.parametrize(
        ("attributes", "text"),
        [
            ({"secure_policy": "None"}, "never Secure, though the host serves https"),
            ({"secure_policy": "Always", "http_only": False}, "not http_only"),
        ],
    )
    def test_an_unsafe_session_cookie_is_warned_of_at_configuration(
        self, attributes: dict[str, Any], text: str
    ) -> None:
        log = Log()
        host = KestrunHost("test", logger=log.logger).add_endpoint(port=5000, self_signed_cert=True)
        host.add_session(cookie=CookieBuilder(**{"name": "Kr.Session", "http_only": True, **attributes}))
        assert log.texts(LogLevel.WARNING) == []
        host.enable_configuration()
        (warning,) = log.texts(LogLevel.WARNING)
        assert text in warning

    def test_a_session_cookie_that_browsers_refuse_is_an_error_at_once(self) -> None:
        cookie = CookieBuilder(name="Kr.Session", same_site="None", secure_policy="None")
        with pytest.raises(ArgumentError, match="SameSite=None"):
            KestrunHost("test").add_session(cookie=cookie)
        with pytest.raises(ArgumentError, match="needs a name"):
            KestrunHost("test").add_session(cookie=CookieBuilder())


class TestConfiguration:
    def test_a_second_call_does_nothing(self) -> None:
        host = KestrunHost("test").add_session()
        assert not host.is_configured
        host.enable_configuration()
        cache = host.services.get(DistributedCache)
        assert host.enable_configuration().is_configured
        assert host.services.get(DistributedCache) is cache

    @pytest.mark.parametrize(
        ("variables", "url"),
        [
            ({}, "http://127.0.0.1:5000"),
            ({"PORT": "6001"}, "http://0.0.0.0:6001"),
            ({"PORT": "6001", "ASPNETCORE_URLS": "http://localhost:6002"}, "http://127.0.0.1:6002"),
        ],
    )
    def test_without_an_endpoint_the_variables_decide(
        self, variables: dict[str, str], url: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        assert url in map(str, KestrunHost("test").enable_configuration().endpoints)

    def test_a_bad_variable_is_kestruns_error(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("PORT", "http")
        text = "Environment variable PORT has invalid value 'http'. Expected an integer between 1 and 65535."
        with pytest.raises(ArgumentError) as caught:
            KestrunHost("test").enable_configuration()
        assert str(caught.value) == text

    def test_several_endpoints(self, tmp_path: Path) -> None:
        host = KestrunHost("test").add_endpoint(port=6001).add_endpoint(ip_address="0.0.0.0", port=6002)
        host.add_listen_unix_socket(str(tmp_path / "x.sock")).enable_configuration()
        urls = ["http://127.0.0.1:6001", "http://0.0.0.0:6002", f"http://unix:{tmp_path}/x.sock"]
        assert list(map(str, host.endpoints)) == urls

    def test_protocols_beyond_http1_are_left_out_with_a_line_in_the_hosts_log(self) -> None:
        log = Log()
        KestrunHost("test", logger=log.logger).add_endpoint(port=6001, protocols="Http1AndHttp2")
        assert any("HTTP/1.1 only" in line for line in log.texts(LogLevel.DEBUG))

    def test_the_list_of_endpoints_is_a_copy(self) -> None:
        host = KestrunHost("test").add_endpoint(port=6001)
        host.endpoints.clear()
        assert len(host.endpoints) == 1

    def test_a_missing_certificate(self, tmp_path: Path) -> None:
        with pytest.raises(ServerStartError, match=f"^Certificate file not found at path: {tmp_path}/none.pfx$"):
            KestrunHost("test").add_endpoint(port=6001, cert_path=tmp_path / "none.pfx")


class TestApplication:
    async def test_a_host_makes_one(self) -> None:
        host = KestrunHost("test")
        assert isinstance(host.create_app(), web.Application)
        with pytest.raises(InvalidOperationError, match="'test' has made its application already; make a new host"):
            host.create_app()

    async def test_middleware_runs_in_the_order_of_the_script(self, aiohttp_client: AiohttpClient) -> None:
        notes: list[str] = []
        host = KestrunHost("test").use(noting("a", notes)).use(noting("b", notes))
        host.add_map_route("/", "Get", lambda: notes.append("route"))
        client = await aiohttp_client(host.use(noting("c", notes)).create_app())
        await client.get("/")
        assert notes == ["a in", "b in", "c in", "route", "c out", "b out", "a out"]

    async def test_what_no_route_is_for_passes_the_middleware_too(self, aiohttp_client: AiohttpClient) -> None:
        notes: list[str] = []
        client = await aiohttp_client(KestrunHost("test").use(noting("a", notes)).create_app())
        assert (await client.get("/nowhere")).status == 404
        assert notes == ["a in", "a out"]

    async def test_a_middleware_may_answer_by_itself(self, aiohttp_client: AiohttpClient) -> None:
        @web.middleware
        async def stop(request: web.Request, handler: Handler) -> web.StreamResponse:
            if request.path == "/raise":
                raise web.HTTPForbidden
            return web.Response(text="stopped")

        host = KestrunHost("test").use(stop).add_map_route("/", "Get", lambda: None)
        client = await aiohttp_client(host.create_app())
        assert await (await client.get("/")).text() == "stopped"
        assert (await client.get("/raise")).status == 403

    async def test_one_middleware_object_may_be_a_method_or_a_callable(self, aiohttp_client: AiohttpClient) -> None:
        class Counter:
            count = 0

            @web.middleware
            async def run(self, request: web.Request, handler: Handler) -> web.StreamResponse:
                self.count += 1
                return await handler(request)

        counter = Counter()
        host = KestrunHost("test").use(counter.run).use(counter.run).add_map_route("/", "Get", lambda: None)
        client = await aiohttp_client(host.create_app())
        await client.get("/")
        assert counter.count == 2

    async def test_a_middleware_that_raises_is_500_and_logged(self, aiohttp_client: AiohttpClient) -> None:
        @web.middleware
        async def broken(request: web.Request, handler: Handler) -> web.StreamResponse:
            raise ValueError("secret")

        log = Log()
        client = await aiohttp_client(KestrunHost("test", logger=log.logger).use(broken).create_app())
        response = await client.get(URL("/x%0D%0Afake", encoded=True))
        assert response.status == 500
        assert "secret" not in await response.text()
        (error,) = log.errors
        assert error.message == "GET /x%0D%0Afake failed."
        assert "ValueError: secret" in error.exception

    @pytest.mark.parametrize("deny", [False, True])
    async def test_the_server_header(self, deny: bool, aiohttp_client: AiohttpClient) -> None:
        host = KestrunHost("test").set_server_options(deny_server_header=deny)
        client = await aiohttp_client(host.create_app())
        assert (await client.get("/")).headers.get("Server") == (None if deny else "kestrun_py")

    async def test_the_cache_closes_with_the_application(self, aiohttp_client: AiohttpClient) -> None:
        closed: list[str] = []

        class Cache(MemoryCache):
            async def close(self) -> None:
                closed.append("cache")
                await super().close()

        host = KestrunHost("test")
        host.services.add(DistributedCache, Cache())
        client = await aiohttp_client(host.add_session().create_app())
        await client.close()
        assert closed == ["cache"]

    async def test_several_clients_share_one_application(self, aiohttp_client: AiohttpClient) -> None:
        def increment(context: KestrunContext) -> None:
            count = (context.session.get_int32("count") or 0) + 1
            context.session.set_int32("count", count)
            context.response.write_text(count)

        host = KestrunHost("test").add_distributed_memory_cache().add_session()
        app = host.add_map_route("/", "Get", increment).create_app()
        first, second = await aiohttp_client(app), await aiohttp_client(app)
        assert await (await first.get("/")).text() == "1"
        cookie = first.session.cookie_jar.filter_cookies(first.make_url("/"))
        await first.close()
        assert await (await second.get("/", cookies=cookie)).text() == "2"

    async def test_it_can_be_mounted_in_another_application(self, aiohttp_client: AiohttpClient) -> None:
        def script(context: KestrunContext) -> None:
            context.response.write_text(context.request.path)

        outer = web.Application()
        outer.add_domain("demo.test", KestrunHost("test").add_map_route("/a/{b}", "Get", script).create_app())
        client = await aiohttp_client(outer)
        response = await client.get("/a/1", headers={"Host": "demo.test"})
        assert (response.status, await response.text()) == (200, "/a/1")


class TestLog:
    async def test_debug_shows_registrations_and_executions(self, aiohttp_client: AiohttpClient) -> None:
        log = Log()
        host = KestrunHost("Demo", logger=log.logger).add_endpoint(port=6001)
        host.use(noting("x", [])).add_session(cookie=CookieBuilder(name="Kr.Session", http_only=True))

        def hello(context: KestrunContext) -> None:
            context.response.write_text("hello", status=201)

        async def bye() -> None:
            await asyncio.sleep(0)

        host.add_map_route("/hello/{name}", ["Get", HttpVerb.POST], hello).add_map_route("/bye", "Get", bye)
        client = await aiohttp_client(host.create_app())
        await client.get("/hello/max")
        await client.get("/bye")
        lines = log.texts(LogLevel.DEBUG)
        for line in (
            "Service KestrunHost registered: KestrunHost",
            "Endpoint http://127.0.0.1:6001 added",
            "Middleware 1: noting.<locals>.note",
            "Service SessionOptions registered: SessionOptions",
            "Middleware 2: session",
            "Route Get, Post /hello/{name} mapped",
            "Service DistributedCache registered: MemoryCache",
            "Service KeyRing registered: KeyRing",
            "Service SessionStore registered: SessionStore",
            "Host Demo configured",
        ):
            assert line in lines, lines
        runs = [line for line in lines if line.startswith("Route GET")]
        assert [run.partition(" ms")[0].rpartition(": ")[0] for run in runs] == [
            "Route GET /hello/{name} ran TestLog.test_debug_shows_registrations_and_executions.<locals>.hello",
            "Route GET /bye ran TestLog.test_debug_shows_registrations_and_executions.<locals>.bye",
        ]
        assert [run.rpartition(": ")[2].split()[0] for run in runs] == ["201", "200"]

    async def test_an_execution_shows_however_it_ends(self, aiohttp_client: AiohttpClient) -> None:
        def fail() -> None:
            raise ValueError("wrong")

        def refuse() -> None:
            raise web.HTTPConflict

        log = Log()
        host = KestrunHost("Demo", logger=log.logger).add_map_route("/fail", "Get", fail)
        client = await aiohttp_client(host.add_map_route("/refuse", "Get", refuse).create_app())
        assert [(await client.get(path)).status for path in ("/fail", "/refuse")] == [500, 409]
        runs = [line for line in log.texts(LogLevel.DEBUG) if line.startswith("Route GET")]
        assert [run.rpartition(": ")[2].split()[0] for run in runs] == ["500", "409"]

    async def test_information_does_not(self, aiohttp_client: AiohttpClient) -> None:
        log = Log("Information")
        host = KestrunHost("Demo", logger=log.logger).add_map_route("/", "Get", lambda: None)
        client = await aiohttp_client(host.create_app())
        await client.get("/")
        assert log.events == []

    async def test_what_a_client_sends_is_not_taken_for_a_template(self, aiohttp_client: AiohttpClient) -> None:
        def script() -> None:
            raise ValueError("{0} {Name}")

        log = Log()
        host = KestrunHost("Demo", logger=log.logger).add_map_route("/{name}", "Get", script)
        client = await aiohttp_client(host.create_app())
        assert (await client.get("/{Path}%0D%0Ax?{Query}")).status == 500
        assert log.errors[0].message == "GET /{name} failed."
