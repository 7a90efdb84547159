"""Serving: endpoints that are bound, requests that finish, processes that end."""

from __future__ import annotations

import asyncio
import signal
import socket
import ssl
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from ports import free_port, listens
from recording_log import Log
from sample_process import Running
from waiting import until

from kestrun_py import KestrunHost
from kestrun_py.caching import CacheStatus, DistributedCache
from kestrun_py.caching.memory import MemoryCache
from kestrun_py.certificates.self_signed import development_certificate
from kestrun_py.context import KestrunContext
from kestrun_py.errors import InvalidOperationError, ServerStartError
from kestrun_py.logging import LogLevel
from kestrun_py.server import server as server_module


def hello(context: KestrunContext) -> None:
    context.response.write_text("hello")


def new_host(log: Log | None = None) -> KestrunHost:
    return KestrunHost("test", logger=None if log is None else log.logger).add_map_route("/", "Get", hello)


class Started:
    """Stops a host when the `with` block ends, if it still runs."""

    def __init__(self, host: KestrunHost) -> None:
        self.host = host

    def __enter__(self) -> KestrunHost:
        return self.host.start()

    def __exit__(self, *_: object) -> None:
        if self.host.server is not None and self.host.server.is_running:
            self.host.stop()


def can_be_bound(port: int) -> bool:
    """Whether nothing listens on a port; found out without a connection that might come in the midst of closing."""
    try:
        socket.create_server(("127.0.0.1", port)).close()
    except OSError:
        return False
    return True


async def get(url: str, connector: aiohttp.BaseConnector | None = None) -> str:
    async with aiohttp.ClientSession(connector=connector) as client, client.get(url) as response:
        assert response.status == 200
        return await response.text()


class TestStartAndStop:
    async def test_in_a_thread_of_its_own(self) -> None:
        log = Log()
        host = new_host(log).add_endpoint(port=0)
        assert host.server is None
        with Started(host):
            assert host.server is not None
            assert host.server.is_running
            url = str(host.endpoints[0])
            assert await get(url) == "hello"
            assert f"Kestrun server 'test' listens on {url}" in log.texts(LogLevel.INFORMATION)
            await asyncio.to_thread(host.stop)
        assert not host.server.is_running
        assert "Kestrun server 'test' stopped." in log.texts(LogLevel.INFORMATION)
        assert not listens(host.endpoints[0].port)
        assert not any(thread.name == "test" for thread in threading.enumerate())

    def test_times(self) -> None:
        host = new_host().add_endpoint(port=0)
        with Started(host):
            assert host.server is not None
            assert host.server.start_time is not None
            assert host.server.stop_time is None
            first, second = host.server.uptime, host.server.uptime
            assert first is not None
            assert second is not None
            assert second > first
        assert host.server.stop_time is not None
        assert host.server.uptime == host.server.stop_time - host.server.start_time

    def test_a_host_is_started_once(self) -> None:
        host = new_host().add_endpoint(port=0)
        text = r"^The host 'test' was started already; make a new host\.$"
        with Started(host), pytest.raises(InvalidOperationError, match=text):
            host.start()
        with pytest.raises(InvalidOperationError, match=text):
            host.run()

    def test_what_does_not_run_cannot_be_stopped(self) -> None:
        host = new_host().add_endpoint(port=0)
        text = r"^The server 'test' is not running\.$"
        with pytest.raises(InvalidOperationError, match=text):
            host.stop()
        host.start()
        host.stop()
        with pytest.raises(InvalidOperationError, match=text):
            host.stop()

    def test_an_application_may_not_have_been_made_before(self) -> None:
        host = new_host().add_endpoint(port=0)
        host.create_app()
        with pytest.raises(InvalidOperationError, match="has made its application already"):
            host.start()
        assert host.server is not None
        assert host.server.uptime is None

    async def test_run_in_a_thread_stops_from_another_one(self) -> None:
        host = new_host().add_endpoint(port=0)
        started: list[str] = []
        thread = threading.Thread(target=host.run, args=(lambda: started.append("started"),))
        thread.start()
        await until(lambda: host.server is not None and host.server.is_running)
        assert await get(str(host.endpoints[0])) == "hello"
        await asyncio.to_thread(host.stop)
        assert host.server is not None
        assert not host.server.is_running
        await until(lambda: not thread.is_alive())
        thread.join()
        assert started == ["started"]

    @pytest.mark.parametrize("is_async", [False, True])
    async def test_a_route_may_stop_its_own_server(self, is_async: bool) -> None:
        host = KestrunHost("test").add_endpoint(port=0)

        def script(context: KestrunContext) -> None:
            host.stop()
            context.response.write_text("stopping")

        async def async_script(context: KestrunContext) -> None:
            script(context)

        host.add_map_route("/", "Get", async_script if is_async else script)
        with Started(host):
            started = time.monotonic()
            assert await get(str(host.endpoints[0])) == "stopping"
            server = host.server
            assert server is not None
            await until(lambda: not server.is_running)
            assert time.monotonic() - started < server_module._SHUTDOWN_TIMEOUT

    async def test_the_cache_closes_and_one_that_fails_does_not_keep_the_server(self) -> None:
        closed: list[str] = []

        class Broken(MemoryCache):
            async def ping(self, *, timeout: float = 10) -> CacheStatus:
                raise OSError("connection refused")

            async def close(self) -> None:
                await super().close()
                closed.append("cache")
                raise OSError("connection lost")

        log = Log()
        host = new_host(log).add_endpoint(port=0)
        host.services.add(DistributedCache, Broken())
        with Started(host.add_session()):
            assert await get(str(host.endpoints[0])) == "hello"
            warning = "The memory cache does not answer: connection refused"
            await until(lambda: warning in log.texts(LogLevel.WARNING))
        assert closed == ["cache"]
        assert host.server is not None
        assert not host.server.is_running
        (error,) = log.errors
        assert error.message == "Caching could not be stopped."
        assert "OSError: connection lost" in error.exception


class TestInFlight:
    @pytest.mark.parametrize("is_async", [False, True])
    async def test_requests_finish_and_new_ones_are_refused(self, is_async: bool) -> None:
        entered, gate = threading.Event(), threading.Event()

        def script(context: KestrunContext) -> None:
            entered.set()
            gate.wait(30)
            context.response.write_text("finished")

        async def async_script(context: KestrunContext) -> None:
            entered.set()
            await until(gate.is_set)
            context.response.write_text("finished")

        host = KestrunHost("test").add_endpoint(port=0)
        host.add_map_route("/", "Get", async_script if is_async else script)
        with Started(host):
            request = asyncio.create_task(get(str(host.endpoints[0])))
            await until(entered.is_set)
            host.stop(wait=False)
            await until(lambda: can_be_bound(host.endpoints[0].port))
            server = host.server
            assert server is not None
            assert server.is_running
            gate.set()
            assert await request == "finished"
            await until(lambda: not server.is_running)

    async def test_but_not_for_ever(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(server_module, "_SHUTDOWN_TIMEOUT", 0.2)
        entered, gate = threading.Event(), threading.Event()

        def script() -> None:
            entered.set()
            gate.wait(30)

        host = KestrunHost("test").add_endpoint(port=0).add_map_route("/", "Get", script)
        with Started(host):
            request = asyncio.create_task(get(str(host.endpoints[0])))
            await until(entered.is_set)
            await asyncio.to_thread(host.stop)
            gate.set()
            with pytest.raises(aiohttp.ClientError):
                await request


class TestEndpoints:
    async def test_several(self) -> None:
        host = new_host().add_endpoint(port=0).add_endpoint(port=0)
        with Started(host):
            first, second = map(str, host.endpoints)
            assert first != second
            assert [await get(first), await get(second)] == ["hello", "hello"]

    def test_a_taken_port_is_kestruns_error(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as other:
            port = other.getsockname()[1]
            host = new_host().add_endpoint(port=port)
            with pytest.raises(ServerStartError) as caught:
                host.start()
        assert str(caught.value).startswith(
            f"Failed to bind to address http://127.0.0.1:{port}: address already in use."
        )
        assert host.server is not None
        assert not host.server.is_running

    def test_run_says_the_same(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as other:
            host = new_host().add_endpoint(port=other.getsockname()[1])
            with pytest.raises(ServerStartError, match="address already in use"):
                host.run(lambda: pytest.fail("it has not started"))

    def test_if_one_cannot_be_bound_none_stays(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as other:
            host = new_host().add_endpoint(port=0).add_endpoint(port=other.getsockname()[1])
            with pytest.raises(ServerStartError):
                host.start()
        assert not listens(host.endpoints[0].port)

    def test_an_address_of_another_machine(self) -> None:
        with pytest.raises(ServerStartError, match=r"http://192\.0\.2\.1:5999: this machine has no such address"):
            new_host().add_endpoint(ip_address="192.0.2.1", port=5999).start()

    @pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="this machine has no dual-stack sockets")
    async def test_the_ipv6_any_address_takes_ipv4_too(self) -> None:
        host = new_host().add_endpoint(ip_address="::", port=0)
        with Started(host):
            port = host.endpoints[0].port
            assert await get(f"http://127.0.0.1:{port}") == "hello"
            assert await get(f"http://[::1]:{port}") == "hello"

    async def test_tls_with_a_development_certificate(self) -> None:
        host = new_host().add_endpoint(port=0, self_signed_cert=True)
        with Started(host):
            port = host.endpoints[0].port
            text = await asyncio.to_thread(ssl.get_server_certificate, ("127.0.0.1", port))
            names = x509.load_pem_x509_certificate(text.encode()).extensions.get_extension_for_class(
                x509.SubjectAlternativeName
            )
            assert names.value.get_values_for_type(x509.DNSName) == ["localhost"]
            assert list(map(str, names.value.get_values_for_type(x509.IPAddress))) == ["127.0.0.1", "::1"]
            connector = aiohttp.TCPConnector(ssl=False)
            assert await get(f"https://localhost:{port}", connector) == "hello"

    async def test_tls_with_a_certificate_file_that_clients_trust(self, tmp_path: Path) -> None:
        certificate = development_certificate()
        file = tmp_path / "site.pem"
        file.write_bytes(certificate.to_pem(b"secret"))
        (root,) = certificate.chain
        trust = ssl.create_default_context(cadata=root.public_bytes(Encoding.PEM).decode())
        host = new_host().add_endpoint(port=0, cert_path=file, cert_password="secret")
        with Started(host):
            connector = aiohttp.TCPConnector(ssl=trust)
            assert await get(f"https://127.0.0.1:{host.endpoints[0].port}", connector) == "hello"

    async def test_malformed_requests_do_no_harm(self) -> None:
        host = new_host().add_endpoint(port=0)
        with Started(host):
            for junk in (
                b"\0\0\0\0\r\n\r\n",
                b"GET / HTTP/9.9\r\n\r\n",
                b"GET " + b"/" * 20_000 + b" HTTP/1.1\r\n\r\n",
            ):
                reader, writer = await asyncio.open_connection("127.0.0.1", host.endpoints[0].port)
                writer.write(junk)
                assert b" 400 " in await reader.readline()
                writer.close()
                await writer.wait_closed()
            assert await get(str(host.endpoints[0])) == "hello"


class TestUnixSockets:
    @pytest.fixture
    def path(self) -> Iterator[Path]:
        """A short path: a socket's has at most 107 bytes."""
        with tempfile.TemporaryDirectory(prefix="kr-") as folder:
            yield Path(folder, "x.sock")

    async def test_served_beside_tcp_and_gone_afterwards(self, path: Path) -> None:
        host = new_host().add_endpoint(port=0).add_listen_unix_socket(str(path))
        with Started(host):
            assert await get("http://localhost/", aiohttp.UnixConnector(str(path))) == "hello"
            assert await get(str(host.endpoints[0])) == "hello"
        assert not await asyncio.to_thread(path.exists)

    async def test_one_that_a_dead_server_left_is_replaced(self, path: Path) -> None:
        with socket.socket(socket.AF_UNIX) as dead:
            dead.bind(str(path))
        with Started(new_host().add_listen_unix_socket(str(path))):
            assert await get("http://localhost/", aiohttp.UnixConnector(str(path))) == "hello"

    async def test_one_that_is_served_is_taken(self, path: Path) -> None:
        with Started(new_host().add_listen_unix_socket(str(path))):
            with pytest.raises(
                ServerStartError, match=f"Failed to bind to address http://unix:{path}: address already"
            ):
                new_host().add_listen_unix_socket(str(path)).start()
            assert await get("http://localhost/", aiohttp.UnixConnector(str(path))) == "hello"

    @pytest.mark.parametrize(("name", "why"), [("file", "in use"), ("missing/x.sock", "No such file or directory")])
    def test_a_place_for_no_socket(self, name: str, why: str, path: Path) -> None:
        place = path.parent / name
        if name == "file":
            place.write_text("mine", encoding="utf-8")
        with pytest.raises(ServerStartError, match=f"Failed to bind to address http://unix:{place}: .*{why}"):
            new_host().add_listen_unix_socket(str(place)).start()
        assert name != "file" or place.read_text(encoding="utf-8") == "mine"


_SCRIPT = """
import sys, threading, time
from kestrun_py import KestrunHost, DistributedCache, MemoryCache

class Cache(MemoryCache):
    async def close(self):
        await super().close()
        print("cache closed", flush=True)

def slow(context):
    print("slow entered", flush=True)
    time.sleep(float(context.request.query["seconds"]))
    context.session.set_int32("n", 1)
    context.response.write_text("slow done")

host = KestrunHost("process").add_endpoint(port=int(sys.argv[1]))
host.services.add(DistributedCache, Cache())
host.add_session().add_map_route("/slow", "Get", slow)
host.run(lambda: print("started", flush=True))
print("after run", threading.active_count(), flush=True)
"""


class TestProcesses:
    @pytest.fixture
    def script(self, tmp_path: Path) -> Path:
        file = tmp_path / "script.py"
        file.write_text(_SCRIPT, encoding="utf-8")
        return file

    @pytest.mark.parametrize("number", ["SIGTERM", "SIGINT"])
    async def test_a_signal_lets_requests_finish_and_ends_with_0(self, number: str, script: Path) -> None:
        port = free_port()
        with Running([sys.executable, script, str(port)], port) as server:
            request = asyncio.create_task(get(f"http://127.0.0.1:{port}/slow?seconds=1"))
            await until(lambda: "slow entered" in server.output())
            code = await asyncio.to_thread(server.stop, signal.Signals[number])
            assert await request == "slow done"
            assert code == 0
            lines = server.output().splitlines()
            assert lines[:3] == ["started", "slow entered", "cache closed"]
            assert lines[3].startswith("after run")
            assert len(lines) == 4, lines

    async def test_a_request_that_takes_for_ever_gets_five_seconds(self, script: Path) -> None:
        port = free_port()
        with Running([sys.executable, script, str(port)], port) as server:
            request = asyncio.create_task(get(f"http://127.0.0.1:{port}/slow?seconds=600"))
            await until(lambda: "slow entered" in server.output())
            started = time.monotonic()
            assert await asyncio.to_thread(server.stop) == 0
            assert 4 < time.monotonic() - started < 25
            with pytest.raises(aiohttp.ClientError):
                await request
            assert "cache closed" in server.output()
