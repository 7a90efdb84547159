"""The server cmdlets: New-KrServer, Add-KrEndpoint, Start-KrServer and their kin."""

from __future__ import annotations

import asyncio
import inspect
import socket
import threading
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
from waiting import until

from cmdlets import (
    add_kr_endpoint,
    add_kr_listen_unix_socket,
    add_kr_map_route,
    add_kr_session,
    enable_kr_configuration,
    get_kr_context,
    get_kr_server,
    new_kr_server,
    remove_kr_server,
    set_kr_server_options,
    start_kr_server,
    stop_kr_server,
    write_kr_text_response,
)
from kestrun_py import KestrunContext, KestrunHost
from kestrun_py.errors import ArgumentError, ContextError, InvalidOperationError, ServerStartError
from kestrun_py.logging import LoggerConfiguration, get_logger

if TYPE_CHECKING:
    from cmdlet_support import Client

Serve = Callable[[], Awaitable["Client"]]


def hello() -> None:
    write_kr_text_response("hello")


async def get(url: str) -> tuple[int, str]:
    async with aiohttp.ClientSession() as client, client.get(url) as response:
        return response.status, await response.text()


class TestNewAndGet:
    def test_the_first_server_is_the_default(self) -> None:
        first = new_kr_server("One")
        second = new_kr_server("Two")
        assert get_kr_server() is first
        assert get_kr_server(second) is second

    def test_unless_another_is_made_it(self) -> None:
        new_kr_server("One")
        assert new_kr_server("Two", default=True) is get_kr_server()

    def test_without_any(self) -> None:
        text = r"^No Kestrun server instance found\. Please create a Kestrun server instance\.$"
        with pytest.raises(InvalidOperationError, match=text):
            get_kr_server()

    @pytest.mark.parametrize("name", ["Demo", "DEMO"])
    def test_a_name_is_taken_once(self, name: str) -> None:
        first = new_kr_server("Demo")
        with pytest.raises(
            InvalidOperationError, match=f"A KestrunHost instance with the name '{name}' already exists"
        ):
            new_kr_server(name)
        assert get_kr_server() is first

    def test_force_stops_and_replaces_the_old_one(self) -> None:
        old = new_kr_server("Demo")
        add_kr_endpoint(port=0)
        start_kr_server(no_wait=True, quiet=True)
        new = new_kr_server("demo", force=True)
        assert get_kr_server() is new
        assert old.server is not None
        assert not old.server.is_running

    def test_force_replaces_nothing_if_the_new_one_cannot_be(self) -> None:
        old = new_kr_server("Demo")
        with pytest.raises(ArgumentError):
            new_kr_server("Demo", force=True, environment="Nowhere")  # type: ignore[call-overload]
        assert get_kr_server() is old

    @pytest.mark.parametrize("name", ["", None])
    def test_a_name_is_mandatory(self, name: Any) -> None:
        with pytest.raises(ArgumentError, match="name"):
            new_kr_server(name)

    def test_loggers(self) -> None:
        logger = LoggerConfiguration().register("app")
        assert new_kr_server("a", logger=logger).logger is logger
        assert new_kr_server("b", logger_name="APP").logger is logger
        with pytest.raises(ArgumentError, match=r"No logger is registered as 'other': register_kr_logger\('other'\)"):
            new_kr_server("c", logger_name="other")
        with pytest.raises(ArgumentError, match="one choice"):
            new_kr_server("d", logger=logger, logger_name="app")

    def test_environment(self) -> None:
        assert new_kr_server("a", environment="development").environment == "Development"  # type: ignore[call-overload]

    async def test_in_a_route_it_is_the_requests_host(self, host: KestrunHost, serve: Serve) -> None:
        client = await serve()
        other = new_kr_server("other", default=True)
        found: list[Any] = []
        add_kr_map_route("/", script_block=lambda: found.extend([get_kr_server(), get_kr_server(other)]), server=host)
        await client.get("/")
        assert found == [host, other]

    @pytest.mark.parametrize("name", ["piped", "PIPED"])
    def test_a_name_may_be_piped(self, name: str) -> None:
        host = name | new_kr_server(environment="Staging")
        assert (host.name, host.environment) == (name, "Staging")
        name.lower() | remove_kr_server()
        with pytest.raises(InvalidOperationError, match="No Kestrun server"):
            get_kr_server()

    @pytest.mark.parametrize("cmdlet", [new_kr_server, remove_kr_server])
    def test_only_text_may_be_piped_and_something_must(self, cmdlet: Callable[[], Any]) -> None:
        with pytest.raises(ArgumentError, match=f"{cmdlet.__name__} takes a str from the pipe, not a int"):
            5 | cmdlet()
        with pytest.warns(RuntimeWarning, match=f"{cmdlet.__name__} did nothing: pipe a str into it"):
            cmdlet()


class TestEndpoints:
    def test_names_for_add_kr_map_route(self, host: KestrunHost) -> None:
        assert add_kr_endpoint(port=5001) == ["127.0.0.1:5001", "localhost:5001"]
        assert add_kr_endpoint(5002) == ["127.0.0.1:5002", "localhost:5002"]
        assert add_kr_endpoint(uri="http://127.0.0.1:5003") == ["127.0.0.1:5003", "localhost:5003"]

    def test_without_arguments_it_is_the_default(self, host: KestrunHost) -> None:
        add_kr_endpoint()
        assert list(map(str, host.endpoints)) == ["http://127.0.0.1:5000"]

    @pytest.mark.parametrize("switch", ["self_signed_cert", "self_signed", "self_signed_certificate"])
    def test_a_development_certificate_by_any_of_its_names(self, switch: str, host: KestrunHost) -> None:
        add_kr_endpoint(port=5001, **{switch: True})  # type: ignore[arg-type]
        assert str(host.endpoints[0]) == "https://127.0.0.1:5001"

    @pytest.mark.parametrize(
        ("given", "text"),
        [
            ({"ip_address": "127.0.0.1", "host_name": "localhost"}, "Cannot specify both IPAddress and HostName."),
            ({"host_name": "localhost", "uri": "http://x:1"}, "Cannot specify both HostName and Uri."),
            ({"ip_address": "127.0.0.1", "address_family": "IPv6"}, "does not match the provided AddressFamily filter"),
            ({"port": 70000}, "port"),
            ({"cert_password": "x"}, "cert_path"),
        ],
    )
    def test_arguments_that_contradict_each_other(self, given: dict[str, Any], text: str, host: KestrunHost) -> None:
        with pytest.raises(ArgumentError, match=text):
            add_kr_endpoint(**given)

    def test_a_missing_certificate(self, host: KestrunHost) -> None:
        with pytest.raises(ServerStartError, match=r"^Certificate file not found at path: /no/such\.pfx$"):
            add_kr_endpoint(port=5001, cert_path="/no/such.pfx")

    def test_after_the_configuration(self, host: KestrunHost) -> None:
        enable_kr_configuration(quiet=True)
        text = "Cannot add endpoint to a server that is already configured. Please create a new server instance."
        with pytest.raises(InvalidOperationError) as caught:
            add_kr_endpoint(port=5001)
        assert str(caught.value) == text

    def test_a_unix_socket(self, host: KestrunHost) -> None:
        assert add_kr_listen_unix_socket(socket_path="/run/x.sock") is host
        assert str(host.endpoints[0]) == "http://unix:/run/x.sock"
        with pytest.raises(ArgumentError, match="socket_path"):
            add_kr_listen_unix_socket("")

    def test_names_and_defaults(self) -> None:
        names = ["port", "ip_address", "host_name", "uri", "address_family", "cert_path", "cert_password"]
        names += ["self_signed_cert", "x509_certificate", "protocols"]
        assert {*names} <= {*inspect.signature(add_kr_endpoint).parameters}


class TestOptionsAndConfiguration:
    def test_runspaces(self, host: KestrunHost) -> None:
        assert set_kr_server_options(max_runspaces=3, min_runspaces=2) is host
        assert (host.runspaces._max_runspaces, host.runspaces._min_runspaces) == (3, 2)
        with pytest.raises(ArgumentError, match="max_runspaces must be at least 1"):
            set_kr_server_options(max_runspaces=0)

    @pytest.mark.parametrize("deny", [False, True])
    async def test_the_server_header(self, deny: bool, host: KestrunHost, serve: Serve) -> None:
        set_kr_server_options(deny_server_header=deny)
        response = await (await serve()).get("/")
        assert ("Server" in response.headers) is not deny

    async def test_a_second_call_leaves_the_options_of_the_first(self, host: KestrunHost, serve: Serve) -> None:
        set_kr_server_options(deny_server_header=True, max_runspaces=3)
        set_kr_server_options(min_runspaces=2)
        assert (host.runspaces._max_runspaces, host.runspaces._min_runspaces) == (3, 2)
        assert "Server" not in (await (await serve()).get("/")).headers

    def test_enable_says_so_once_unless_quiet(self, host: KestrunHost, capsys: pytest.CaptureFixture[str]) -> None:
        assert enable_kr_configuration() is enable_kr_configuration() is host
        assert capsys.readouterr().out == "Kestrun server 'test' is configured.\n"
        enable_kr_configuration(new_kr_server("other"), quiet=True)
        assert capsys.readouterr().out == ""

    def test_what_comes_after_it_is_an_error(self, host: KestrunHost) -> None:
        enable_kr_configuration(quiet=True)
        calls: list[Callable[[], object]] = [add_kr_session, lambda: set_kr_server_options(max_runspaces=2)]
        for call in calls:
            with pytest.raises(InvalidOperationError, match="comes too late: the host 'test' is configured already"):
                call()


class TestStartAndStop:
    async def test_in_the_background(self, host: KestrunHost, capsys: pytest.CaptureFixture[str]) -> None:
        add_kr_endpoint(port=0)
        add_kr_map_route("/", script_block=hello)
        assert start_kr_server(no_wait=True) is host
        url = str(host.endpoints[0])
        assert await get(url) == (200, "hello")
        await asyncio.to_thread(stop_kr_server)
        assert capsys.readouterr().out.splitlines() == [
            "Starting Kestrun server 'test' ...",
            "Kestrun server started successfully.",
            f"Listening on {url} with protocols: Http1",
            "Stopping Kestrun server...",
            "Kestrun server stopped.",
        ]
        with pytest.raises(InvalidOperationError, match="No Kestrun server"):
            get_kr_server()

    async def test_quietly(self, host: KestrunHost, capsys: pytest.CaptureFixture[str]) -> None:
        add_kr_endpoint(port=0)
        start_kr_server(no_wait=True, quiet=True)
        await asyncio.to_thread(stop_kr_server, quiet=True)
        assert capsys.readouterr().out == ""

    async def test_no_wait_does_not_wait(self, host: KestrunHost) -> None:
        entered, gate = threading.Event(), threading.Event()

        def script() -> None:
            entered.set()
            gate.wait(30)

        add_kr_endpoint(port=0)
        add_kr_map_route("/", script_block=script)
        start_kr_server(no_wait=True, quiet=True)
        request = asyncio.create_task(get(str(host.endpoints[0])))
        await until(entered.is_set)
        stop_kr_server(no_wait=True)
        server = host.server
        assert server is not None
        assert server.is_running
        gate.set()
        assert (await request)[0] == 200
        await until(lambda: not server.is_running)

    @pytest.mark.parametrize("is_async", [False, True])
    async def test_from_within_a_route(
        self, is_async: bool, host: KestrunHost, capsys: pytest.CaptureFixture[str]
    ) -> None:
        async def async_stop() -> None:
            stop_kr_server()

        add_kr_endpoint(port=0)
        add_kr_map_route("/shutdown", script_block=async_stop if is_async else stop_kr_server)
        thread = threading.Thread(target=start_kr_server)
        thread.start()
        await until(lambda: host.server is not None and host.server.is_running)
        assert await get(f"{host.endpoints[0]}/shutdown") == (202, "Server is stopping...")
        await until(lambda: not thread.is_alive())
        thread.join()
        assert capsys.readouterr().out.splitlines()[-2:] == [
            "Press Ctrl+C to stop the server.",
            "Kestrun server stopped.",
        ]
        with pytest.raises(InvalidOperationError, match="No Kestrun server"):
            get_kr_server()

    def test_a_taken_port_ends_the_call(self, host: KestrunHost) -> None:
        with socket.create_server(("127.0.0.1", 0)) as other:
            port = other.getsockname()[1]
            add_kr_endpoint(port=port)
            with pytest.raises(ServerStartError, match=f"to bind to address http://127.0.0.1:{port}: address already"):
                start_kr_server(quiet=True)
        with pytest.raises(InvalidOperationError, match="No Kestrun server"):
            get_kr_server()

    async def test_logs_are_closed_on_exit(self) -> None:
        LoggerConfiguration().register("app")
        host = new_kr_server("closing", logger_name="app")
        add_kr_endpoint(port=0)
        thread = threading.Thread(target=start_kr_server, kwargs={"close_logs_on_exit": True, "quiet": True})
        thread.start()
        await until(lambda: host.server is not None and host.server.is_running)
        assert get_logger("app") is not None
        await asyncio.to_thread(stop_kr_server, quiet=True)
        await until(lambda: not thread.is_alive())
        thread.join()
        assert get_logger("app") is None

    def test_what_does_not_run_cannot_be_stopped(self, host: KestrunHost) -> None:
        with pytest.raises(InvalidOperationError, match=r"The server 'test' is not running\."):
            stop_kr_server()

    def test_a_named_server_of_the_same_name_stays(self, host: KestrunHost) -> None:
        double = KestrunHost("test").add_endpoint(port=0)
        start_kr_server(double, no_wait=True, quiet=True)
        stop_kr_server(double, quiet=True)
        assert get_kr_server() is host


class TestTimes:
    def test_before_and_while_and_after(self, host: KestrunHost) -> None:
        def times() -> list[Any]:
            return [get_kr_server(host, **{name: True}) for name in ("start_time", "stop_time", "uptime")]

        assert times() == [None, None, None]
        add_kr_endpoint(port=0)
        start_kr_server(no_wait=True, quiet=True)
        start, stop, uptime = times()
        assert isinstance(start, datetime)
        assert isinstance(uptime, timedelta)
        assert stop is None
        stop_kr_server(quiet=True)
        start, stop, uptime = times()
        assert uptime == stop - start


class TestRemove:
    def test_by_name_in_any_case(self, host: KestrunHost) -> None:
        remove_kr_server("TEST")
        with pytest.raises(InvalidOperationError):
            get_kr_server()
        remove_kr_server("test")  # not there: no error

    def test_one_that_runs_needs_force(self, host: KestrunHost) -> None:
        add_kr_endpoint(port=0)
        start_kr_server(no_wait=True, quiet=True)
        with pytest.raises(InvalidOperationError, match=r"'test' is running: remove_kr_server\(\.\.\., force=True\)"):
            remove_kr_server("test")
        remove_kr_server("test", force=True)
        assert host.server is not None
        assert not host.server.is_running

    def test_a_name_is_mandatory(self) -> None:
        with pytest.raises(ArgumentError, match="name"):
            remove_kr_server("")


class TestContext:
    async def test_in_a_route(self, host: KestrunHost, serve: Serve) -> None:
        found: list[Any] = []
        add_kr_map_route("/x", script_block=lambda: found.append(get_kr_context()))
        await (await serve()).get("/x")
        (context,) = found
        assert isinstance(context, KestrunContext)
        assert context.request.raw.path == "/x"

    def test_outside_a_route(self) -> None:
        with pytest.raises(ContextError, match="get_kr_context must be called inside a route script"):
            get_kr_context()
