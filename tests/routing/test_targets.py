"""Dot segments and NULs in the path of a request, as Kestrel treats them."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pytest_aiohttp.plugin import AiohttpClient

from kestrun_py import KestrunContext, KestrunHost
from kestrun_py.routing.targets import clean_path


@pytest.mark.parametrize(
    ("sent", "clean"),
    [
        ("/a/b", "/a/b"),
        ("/a/../b", "/b"),
        ("/a/./b", "/a/b"),
        ("/a/%2e%2e/b", "/b"),
        ("/a/.%2E/b", "/b"),
        ("/a/%2e/b", "/a/b"),
        ("/../../b", "/b"),
        ("/a/b/..", "/a/"),
        ("/a/.", "/a/"),
        ("/..", "/"),
        ("/a//../b", "/a/b"),
        ("//b", "//b"),
        ("/a/.../b", "/a/.../b"),
        ("/a/..b/.c", "/a/..b/.c"),
        ("/a/%252e%252e/b", "/a/%252e%252e/b"),
        ("/a%2F..%2Fb", "/a%2F..%2Fb"),
    ],
)
def test_clean_path(sent: str, clean: str) -> None:
    assert clean_path(sent) == clean


@given(st.lists(st.sampled_from(["a", ".", "..", "%2e", "%2E.", "", "b%2F"])))
def test_nothing_is_left(segments: list[str]) -> None:
    clean = clean_path("/" + "/".join(segments))
    assert clean_path(clean) == clean
    assert not {".", "..", "%2e", "%2E."} & {*clean.split("/")}


async def ask(aiohttp_client: AiohttpClient, target: str) -> tuple[int, str]:
    def script(context: KestrunContext) -> None:
        request = context.request
        context.response.write_text(f"{request.route_params.get('path')} {request.path} {dict(request.query)}")

    host = KestrunHost("test").add_map_route("/files/{*path}", "Get", script).add_map_route("/{path}", "Get", script)
    client = await aiohttp_client(host.create_app())
    reader, writer = await asyncio.open_connection(client.host, client.port)
    writer.write(f"GET {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
    head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    writer.close()
    return int(head.split()[1]), body.decode()


@pytest.mark.parametrize(
    ("target", "answer"),
    [
        ("/files/../secret.txt?a=1", (200, "secret.txt /secret.txt {'a': '1'}")),
        ("/files/%2e%2E/secret.txt", (200, "secret.txt /secret.txt {}")),
        ("/files/a/../b.txt", (200, "b.txt /files/b.txt {}")),
        ("/files/..%2Fx", (200, "..%2Fx /files/../x {}")),
        ("/files/a%00b", (400, "")),
        ("/files/%252e%252e/x", (200, "%2e%2e/x /files/%2e%2e/x {}")),
    ],
)
async def test_what_a_script_sees(target: str, answer: tuple[int, str], aiohttp_client: AiohttpClient) -> None:
    assert await ask(aiohttp_client, target) == answer
