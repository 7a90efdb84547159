"""Hosts by name, and which one a cmdlet means."""

from __future__ import annotations

import pytest
from pytest_aiohttp.plugin import AiohttpClient

from kestrun_py import KestrunHost
from kestrun_py.errors import InvalidOperationError
from kestrun_py.host_registry import add_host, find_host, remove_host, resolve_host


def test_by_name_in_any_case() -> None:
    host = add_host(KestrunHost("Demo"))
    assert find_host("demo") is find_host("DEMO") is host
    assert find_host("other") is None


def test_a_name_is_taken_once() -> None:
    add_host(KestrunHost("Demo"))
    with pytest.raises(InvalidOperationError, match="A KestrunHost instance with the name 'DEMO' already exists"):
        add_host(KestrunHost("DEMO"))


def test_the_first_host_is_the_default_unless_another_is_made_it() -> None:
    first = add_host(KestrunHost("a"))
    add_host(KestrunHost("b"))
    assert resolve_host() is first
    third = add_host(KestrunHost("c"), default=True)
    assert resolve_host() is third
    assert resolve_host(first) is first


def test_without_a_host_the_error_is_kestruns() -> None:
    text = r"^No Kestrun server instance found\. Please create a Kestrun server instance\.$"
    with pytest.raises(InvalidOperationError, match=text):
        resolve_host()


def test_a_removed_default_hands_over_to_the_next() -> None:
    add_host(KestrunHost("a"))
    second = add_host(KestrunHost("b"))
    remove_host("A")
    assert find_host("a") is None
    assert resolve_host() is second
    remove_host("b")
    with pytest.raises(InvalidOperationError):
        resolve_host()
    remove_host("b")  # not there: no error


def test_another_host_of_that_name_stays() -> None:
    registered = add_host(KestrunHost("a"))
    remove_host(KestrunHost("a"))
    assert find_host("a") is registered


def test_a_removed_host_that_runs_is_stopped() -> None:
    host = add_host(KestrunHost("a").add_endpoint(port=0))
    host.start()
    assert host.server is not None
    assert host.server.is_running
    remove_host("a")
    assert not host.server.is_running


async def test_in_a_request_its_host_comes_before_the_default(aiohttp_client: AiohttpClient) -> None:
    add_host(KestrunHost("default"))
    host = KestrunHost("other")
    found: list[KestrunHost] = []
    host.add_map_route("/", "Get", lambda: found.append(resolve_host()))
    client = await aiohttp_client(host.create_app())
    assert (await client.get("/")).status == 200
    assert found == [host]
