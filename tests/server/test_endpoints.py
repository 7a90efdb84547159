from __future__ import annotations

import ipaddress
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kestrun_py.certificates.certificate import Certificate
from kestrun_py.certificates.self_signed import development_certificate
from kestrun_py.errors import ArgumentError, ServerStartError
from kestrun_py.logging import LoggerConfiguration
from kestrun_py.server import worker as worker_module
from kestrun_py.server.endpoints import Endpoint, HttpProtocols, resolve_endpoints, unix_endpoint


def urls(environ: dict[str, str] | None = None, **arguments: Any) -> list[str]:
    return [endpoint.url for endpoint in resolve_endpoints(environ=environ or {}, **arguments)]


@pytest.fixture(scope="module")
def certificate() -> Certificate:
    return development_certificate()


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Makes names resolve to addresses."""

    def resolve_to(*addresses: str) -> None:
        entries = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 0)) for address in addresses]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *arguments, **options: entries)

    return resolve_to


class TestPlaces:
    @pytest.mark.parametrize(
        ("arguments", "url"),
        [
            ({}, "http://127.0.0.1:5000"),
            ({"port": 8080}, "http://127.0.0.1:8080"),
            ({"port": "8080"}, "http://127.0.0.1:8080"),
            ({"ip_address": "10.1.2.3"}, "http://10.1.2.3:5000"),
            ({"port": 1, "ip_address": ipaddress.IPv6Address("::1")}, "http://[::1]:1"),
            ({"port": 65535, "ip_address": "0.0.0.0"}, "http://0.0.0.0:65535"),
            ({"port": 80, "address_family": "IPv6"}, "http://[::1]:80"),
            ({"port": 80, "address_family": ["InterNetwork", "InterNetworkV6"]}, "http://127.0.0.1:80"),
            ({"address_family": socket.AF_INET6}, "http://[::1]:5000"),
            ({"host_name": "10.1.2.3"}, "http://10.1.2.3:5000"),
            ({"host_name": "::1", "port": 81}, "http://[::1]:81"),
            ({"uri": "http://127.0.0.1:5001"}, "http://127.0.0.1:5001"),
            ({"uri": "http://127.0.0.1:5001/", "port": 9}, "http://127.0.0.1:5001"),
            ({"uri": "HTTP://[::1]"}, "http://[::1]:80"),
            ({"uri": "http://*:5001"}, "http://0.0.0.0:5001"),
        ],
    )
    def test_arguments(self, arguments: dict[str, Any], url: str) -> None:
        ignored = {"ASPNETCORE_URLS": "http://1.1.1.1:1", "PORT": "2"} if arguments.keys() - {"address_family"} else {}
        assert urls(ignored, **arguments) == [url]

    @pytest.mark.parametrize(
        ("environ", "url"),
        [
            ({"PORT": "8080"}, "http://0.0.0.0:8080"),
            ({"PORT": " 8080 "}, "http://0.0.0.0:8080"),
            ({"PORT": ""}, "http://127.0.0.1:5000"),
            ({"PORT": "8080", "ASPNETCORE_URLS": " ; http://+:7000 ;http://*:1"}, "http://0.0.0.0:7000"),
            ({"PORT": "8080", "ASPNETCORE_URLS": " ; "}, "http://0.0.0.0:8080"),
            ({"ASPNETCORE_URLS": "http://*:7000/"}, "http://0.0.0.0:7000"),
            ({"ASPNETCORE_URLS": "http://[::1]:7000"}, "http://[::1]:7000"),
        ],
    )
    def test_environment(self, environ: dict[str, str], url: str) -> None:
        assert urls(environ) == [url]

    def test_the_process_environment_is_the_default(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("ASPNETCORE_URLS", raising=False)
        monkeypatch.setenv("PORT", "6001")
        assert [endpoint.port for endpoint in resolve_endpoints()] == [6001]

    def test_any_ipv6_address_is_ipv4_too(self) -> None:
        assert urls(ip_address="::") == ["http://[::]:5000", "http://0.0.0.0:5000"]
        assert urls(ip_address="::", address_family="ipv6") == ["http://[::]:5000"]

    def test_a_name_binds_every_address(self, names: Callable[..., None]) -> None:
        names("10.0.0.1", "10.0.0.1", "fe80::1")
        assert urls(host_name="web.test", port=81) == ["http://10.0.0.1:81", "http://[fe80::1]:81"]
        assert urls(uri="http://web.test:81", address_family="IPv6") == ["http://[fe80::1]:81"]
        assert urls({"ASPNETCORE_URLS": "http://web.test:81"}, address_family="IPv4") == ["http://10.0.0.1:81"]

    def test_localhost_is_bound_where_it_can_be(
        self, names: Callable[..., None], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        names("::1", "127.0.0.1")
        real = socket.socket

        def no_ipv6(family: int = -1, *arguments: Any, **options: Any) -> socket.socket:
            if family == socket.AF_INET6:
                raise OSError("Address family not supported by protocol")
            return real(family, *arguments, **options)

        monkeypatch.setattr(socket, "socket", no_ipv6)
        assert urls(host_name="localhost") == ["http://127.0.0.1:5000"]

    def test_port_0_is_a_free_port_now(self) -> None:
        (endpoint,) = resolve_endpoints(port=0, environ={})
        assert endpoint.port > 1023
        with socket.socket() as probe:
            probe.bind((endpoint.host, endpoint.port))

    def test_port_0_is_one_port_on_every_address(self, names: Callable[..., None]) -> None:
        names("127.0.0.1", "127.0.0.2")
        first, second = resolve_endpoints(host_name="two.test", port=0, environ={})
        assert (first.host, second.host) == ("127.0.0.1", "127.0.0.2")
        assert first.port == second.port > 0

    def test_workers_share_a_free_port(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("kestrun_py.server._addresses._free_ports", iter([0, 0, 1]))
        channel = os.open(os.devnull, os.O_RDWR)
        worker = worker_module.Worker(1, 2, os.getppid(), channel, str(tmp_path))
        monkeypatch.setattr(worker_module, "current_worker", lambda: worker)
        try:
            ports = [resolve_endpoints(port=0, environ={})[0].port for _ in range(3)]
        finally:
            os.close(channel)
        assert ports[0] == ports[1] != ports[2]


class TestNames:
    @pytest.mark.parametrize(
        ("arguments", "expected"),
        [
            ({}, ["127.0.0.1:5000", "localhost:5000"]),
            ({"ip_address": "::1"}, ["[::1]:5000", "localhost:5000"]),
            ({"ip_address": "10.1.2.3"}, ["10.1.2.3:5000"]),
            ({"ip_address": "0.0.0.0"}, ["localhost:5000", "127.0.0.1:5000", "[::1]:5000"]),
        ],
    )
    def test_of_addresses(self, arguments: dict[str, Any], expected: list[str]) -> None:
        (endpoint,) = resolve_endpoints(environ={}, **arguments)
        assert list(endpoint.names) == expected

    def test_of_a_name(self, names: Callable[..., None]) -> None:
        names("10.0.0.1", "fe80::1")
        first, second = resolve_endpoints(host_name="web.test", port=81, environ={})
        assert first.names == ("web.test:81", "10.0.0.1:81")
        assert second.names == ("web.test:81", "[fe80::1]:81")


class TestErrors:
    @pytest.mark.parametrize(
        ("arguments", "text"),
        [
            ({"ip_address": "::1", "host_name": "a"}, "Cannot specify both IPAddress and HostName. Please choose one."),
            ({"ip_address": "::1", "uri": "http://a:1"}, "Cannot specify both IPAddress and Uri. Please choose one."),
            ({"host_name": "a", "uri": "http://a:1"}, "Cannot specify both HostName and Uri. Please choose one."),
            (
                {"ip_address": "::1", "address_family": "IPv4"},
                "The specified IPAddress does not match the provided AddressFamily filter.",
            ),
            ({"ip_address": "localhost"}, "ip_address: 'localhost' is not an IP address; for a name use host_name."),
            ({"ip_address": 5000}, "ip_address: 5000 is not an IP address; for a name use host_name."),
            ({"host_name": " "}, "host_name: Host name must be provided."),
            ({"port": 65536}, "port: 65536 is not a port. Expected an integer between 0 and 65535."),
            ({"port": -1}, "port: -1 is not a port. Expected an integer between 0 and 65535."),
            ({"port": True}, "port: True is not a port. Expected an integer between 0 and 65535."),
            ({"port": "http"}, "port: 'http' is not a port. Expected an integer between 0 and 65535."),
            (
                {"address_family": "IPX"},
                "address_family: 'IPX' is not one of IPv4 (InterNetwork), IPv6 (InterNetworkV6).",
            ),
            ({"uri": "localhost"}, "Invalid binding URL 'localhost'. Expected http://host:port or https://host:port."),
            (
                {"uri": "ftp://a:1"},
                "Invalid binding URL 'ftp://a:1'. Expected http://host:port or https://host:port.",
            ),
            ({"uri": "http://a:99999"}, "port: '99999' is not a port. Expected an integer between 0 and 65535."),
            (
                {"uri": "https://10.0.0.1:1"},
                "Binding URL 'https://10.0.0.1:1' needs a certificate: give cert_path, x509_certificate or "
                "self_signed_cert.",
            ),
            (
                {"self_signed_cert": True, "cert_path": "a.pem"},
                "cert_path, self_signed_cert and x509_certificate exclude each other. Please choose one.",
            ),
            (
                {"cert_password": "x"},
                "cert_password is the password of a certificate file: give cert_path too.",
            ),
            ({"protocols": "Http2"}, "protocols: HTTP/1.1 is the protocol that aiohttp speaks; use 'Http1'."),
            (
                {"protocols": HttpProtocols.HTTP3},
                "protocols: HTTP/1.1 is the protocol that aiohttp speaks; use 'Http1'.",
            ),
        ],
    )
    def test_arguments(self, arguments: dict[str, Any], text: str) -> None:
        with pytest.raises(ArgumentError) as caught:
            resolve_endpoints(environ={}, **arguments)
        assert str(caught.value) == text

    @pytest.mark.parametrize(
        ("environ", "text"),
        [
            (
                {"PORT": value},
                f"Environment variable PORT has invalid value '{value}'. Expected an integer between 1 and 65535.",
            )
            for value in ("0", "65536", "-1", "http", "5.0", "٥٠٠٠", "9" * 5000)
        ]
        + [
            ({"ASPNETCORE_URLS": "http://+"}, "Binding URL 'http://+' does not specify a port."),
            (
                {"ASPNETCORE_URLS": "localhost:5000"},
                "Invalid binding URL 'localhost:5000'. Expected http://host:port or https://host:port.",
            ),
            (
                {"ASPNETCORE_URLS": "http://a:1/app"},
                "Invalid binding URL 'http://a:1/app'. Expected http://host:port or https://host:port.",
            ),
            (
                {"ASPNETCORE_URLS": "https://+:1"},
                "Binding URL 'https://+:1' needs a certificate: give cert_path, x509_certificate or self_signed_cert.",
            ),
        ],
    )
    def test_environment(self, environ: dict[str, str], text: str) -> None:
        with pytest.raises(ArgumentError) as caught:
            resolve_endpoints(environ=environ)
        assert str(caught.value) == text

    @pytest.mark.parametrize("name", ["no-such-host.invalid", "a" * 70 + ".test", "a..b"])
    def test_a_name_without_an_address(self, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
        def fail(*arguments: object, **options: object) -> None:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

        if name.endswith("invalid"):
            monkeypatch.setattr(socket, "getaddrinfo", fail)
        with pytest.raises(ServerStartError) as caught:
            resolve_endpoints(host_name=name, environ={})
        assert str(caught.value) == f"No IPv4/IPv6 addresses resolved for host '{name}'."

    def test_a_family_that_a_name_does_not_have(self, names: Callable[..., None]) -> None:
        names("10.0.0.1")
        with pytest.raises(ServerStartError, match=r"No IPv4/IPv6 addresses resolved for host 'web\.test'"):
            resolve_endpoints(host_name="web.test", address_family="IPv6", environ={})

    def test_a_missing_certificate(self, tmp_path: Path) -> None:
        with pytest.raises(ServerStartError, match=r"Certificate file not found at path: .*gone\.pfx"):
            resolve_endpoints(port=5000, cert_path=tmp_path / "gone.pfx", environ={})


class TestCertificates:
    def test_self_signed(self) -> None:
        (endpoint,) = resolve_endpoints(port=5000, self_signed_cert=True, environ={})
        assert endpoint.url == "https://127.0.0.1:5000"
        assert endpoint.certificate is not None
        assert endpoint.certificate.subject == "CN=localhost"

    def test_file_and_object(self, certificate: Certificate, tmp_path: Path) -> None:
        path = tmp_path / "cert.pem"
        path.write_bytes(certificate.to_pem(b"pw"))
        for arguments in (
            {"cert_path": path, "cert_password": "pw"},
            {"x509_certificate": certificate},
            {"x509_certificate": (certificate.leaf, certificate.key)},
        ):
            (endpoint,) = resolve_endpoints(uri="https://127.0.0.1", environ={}, **arguments)
            assert endpoint.url == "https://127.0.0.1:443"
            assert endpoint.certificate is not None
            assert endpoint.certificate.leaf == certificate.leaf

    def test_the_certificate_decides_not_the_variable(self, certificate: Certificate) -> None:
        assert urls({"ASPNETCORE_URLS": "http://+:8080"}, x509_certificate=certificate) == ["https://0.0.0.0:8080"]

    def test_the_key_is_not_in_the_text_of_an_endpoint(self, certificate: Certificate) -> None:
        (endpoint,) = resolve_endpoints(x509_certificate=certificate, environ={})
        assert "<Certificate CN=localhost" in repr(endpoint)

    def test_workers_share_the_development_certificate(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        channel = os.open(os.devnull, os.O_RDWR)
        worker = worker_module.Worker(1, 2, os.getppid(), channel, str(tmp_path))
        monkeypatch.setattr(worker_module, "current_worker", lambda: worker)
        try:
            first, second = (resolve_endpoints(self_signed_cert=True, environ={})[0] for _ in range(2))
        finally:
            os.close(channel)
        assert first.certificate == second.certificate


class TestProtocols:
    @pytest.mark.parametrize("value", ["Http1", "http1andhttp2", HttpProtocols.HTTP1_AND_HTTP2_AND_HTTP3])
    def test_http1_is_enough(self, value: Any, capsys: pytest.CaptureFixture[str]) -> None:
        logger = LoggerConfiguration().set_level("Debug").add_console_sink().create_logger()
        assert urls(protocols=value, logger=logger) == ["http://127.0.0.1:5000"]
        assert ("speaks HTTP/1.1 only" in capsys.readouterr().out) is (value != "Http1")


class TestUnixSockets:
    def test_a_unix_socket(self) -> None:
        endpoint = unix_endpoint(Path("/run/app.sock"))
        assert endpoint == Endpoint("", 0, unix_path="/run/app.sock")
        assert str(endpoint) == "http://unix:/run/app.sock"

    @pytest.mark.parametrize("path", ["", "/tmp/" + "é" * 52, "/tmp/a\0b"])
    def test_a_path_that_the_system_does_not_take(self, path: str) -> None:
        with pytest.raises(ArgumentError) as caught:
            unix_endpoint(path)
        assert str(caught.value).startswith(f"socket_path: {path[:60]!r} must have 1 to 107 bytes")
