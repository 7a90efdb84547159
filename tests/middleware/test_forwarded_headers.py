"""What proxies say of the client, and which proxies count."""

from __future__ import annotations

from typing import Any

import pytest
from pytest_aiohttp.plugin import AiohttpClient
from recording_log import Log

from kestrun_py import KestrunContext, KestrunHost
from kestrun_py.errors import ArgumentError

SAID = {
    "X-Forwarded-For": "203.0.113.9",
    "X-Forwarded-Proto": "https",
    "X-Forwarded-Host": "proxy.example.test",
    "X-Forwarded-Prefix": "/myapp",
}


def describe(context: KestrunContext) -> None:
    request = context.request
    context.response.write_json(
        [request.scheme, request.host, request.remote_address, request.path_base, dict(request.headers)]
    )


async def ask(aiohttp_client: AiohttpClient, headers: dict[str, str], **options: Any) -> list[Any]:
    host = KestrunHost("test", logger=Log().logger)
    host.add_forwarded_header(**({"all": True} | options)).add_map_route("/forward", "Get", describe)
    client = await aiohttp_client(host.create_app())
    response = await client.get("/forward", headers=headers)
    answer: list[Any] = await response.json()
    return answer


async def test_a_known_proxy_is_believed(aiohttp_client: AiohttpClient) -> None:
    *seen, headers = await ask(aiohttp_client, SAID, known_proxies="127.0.0.1")
    assert seen == ["https", "proxy.example.test", "203.0.113.9", "/myapp"]
    assert (headers["X-Original-For"], headers["X-Original-Proto"]) == ("127.0.0.1", "http")
    assert "X-Forwarded-For" not in headers


async def test_an_unknown_one_is_not(aiohttp_client: AiohttpClient) -> None:
    scheme, _, remote, base, headers = await ask(aiohttp_client, SAID, known_networks=["10.0.0.0/8"])
    assert (scheme, remote, base, headers["X-Forwarded-For"]) == ("http", "127.0.0.1", "", "203.0.113.9")


@pytest.mark.parametrize(
    ("options", "remote", "rest"),
    [
        ({}, "10.0.0.2", "6.6.6.6, 203.0.113.9"),
        ({"forward_limit": None, "known_networks": ["127.0.0.0/8", "10.0.0.0/8"]}, "203.0.113.9", "6.6.6.6"),
        ({"forward_limit": 2, "known_networks": ["0.0.0.0/0"]}, "203.0.113.9", "6.6.6.6"),
    ],
)
async def test_a_chain_of_proxies(
    options: dict[str, Any], remote: str, rest: str, aiohttp_client: AiohttpClient
) -> None:
    _, _, seen, _, headers = await ask(aiohttp_client, {"X-Forwarded-For": "6.6.6.6, 203.0.113.9, 10.0.0.2"}, **options)
    assert (seen, headers["X-Forwarded-For"]) == (remote, rest)


@pytest.mark.parametrize(
    "header",
    [
        {"X-Forwarded-For": "evil"},
        {"X-Forwarded-Proto": "ja va"},
        {"X-Forwarded-Host": "a/b"},
        {"X-Forwarded-Host": "a@b"},
        {"X-Forwarded-Prefix": "no-slash"},
    ],
)
async def test_what_is_malformed_is_ignored(header: dict[str, str], aiohttp_client: AiohttpClient) -> None:
    scheme, _, remote, base, _ = await ask(aiohttp_client, header)
    assert (scheme, remote, base) == ("http", "127.0.0.1", "")


async def test_symmetry(aiohttp_client: AiohttpClient) -> None:
    uneven = {"X-Forwarded-For": "1.1.1.1, 2.2.2.2", "X-Forwarded-Proto": "https"}
    options: dict[str, Any] = {"all": False, "x_forwarded_for": True, "x_forwarded_proto": True}
    assert (await ask(aiohttp_client, uneven, **options))[0] == "https"
    assert (await ask(aiohttp_client, uneven, require_header_symmetry=True, **options))[0] == "http"


async def test_the_session_cookie_is_secure_behind_a_tls_proxy(aiohttp_client: AiohttpClient) -> None:
    def script(context: KestrunContext) -> None:
        context.session.set_string("a", "b")

    host = KestrunHost("test", logger=Log().logger).add_session().add_forwarded_header(x_forwarded_proto=True)
    client = await aiohttp_client(host.add_map_route("/", "Get", script).create_app())
    secure = await client.get("/", headers={"X-Forwarded-Proto": "https"})
    assert "secure" in secure.headers["Set-Cookie"].lower()
    plain = await client.get("/")
    assert "secure" not in plain.headers.get("Set-Cookie", "").lower()


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"all": False}, "Say which headers count"),
        ({"forward_limit": 0}, "forward_limit must be at least 1"),
        ({"known_proxies": ["proxy"]}, "known_proxies: 'proxy'"),
        ({"known_networks": "10.0.0.0/99"}, "known_networks: "),
    ],
)
def test_bad_options(options: dict[str, Any], why: str) -> None:
    with pytest.raises(ArgumentError, match=why):
        KestrunHost("test").add_forwarded_header(**({"all": True} | options))
