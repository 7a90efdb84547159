"""The page that a browser gets for an error, in Development with what failed."""

from __future__ import annotations

from pytest_aiohttp.plugin import AiohttpClient
from recording_log import Log

from kestrun_py import KestrunHost

BROWSER = {"Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", "Cookie": "sid=secret-1"}


def fail() -> None:
    raise LookupError("no <order> 7")


async def page(aiohttp_client: AiohttpClient, environment: str, headers: dict[str, str]) -> tuple[str, str]:
    host = KestrunHost("test", logger=Log().logger, environment=environment)  # type: ignore[arg-type]
    client = await aiohttp_client(host.add_map_route("/orders", "Get", fail).create_app())
    response = await client.get("/orders?id=7", headers=headers)
    assert response.status == 500
    return await response.text(), response.content_type


async def test_development_shows_what_failed(aiohttp_client: AiohttpClient) -> None:
    text, kind = await page(aiohttp_client, "Development", BROWSER)
    assert kind == "text/html"
    for shown in (
        "LookupError: no &lt;order&gt; 7",
        "test_error_page.py",
        "in fail",
        "raise LookupError",
        "/orders?id=7",
    ):
        assert shown in text, shown
    assert "secret-1" not in text


async def test_production_shows_nothing_of_it(aiohttp_client: AiohttpClient) -> None:
    text, kind = await page(aiohttp_client, "Production", BROWSER)
    assert kind == "text/html"
    assert "An internal server error occurred." in text
    assert not any(inside in text for inside in ("LookupError", "&lt;order", "test_error_page", "secret-1", "raise"))


async def test_other_clients_get_what_they_ask_for(aiohttp_client: AiohttpClient) -> None:
    for accept, kind in {"application/json": "application/json", "*/*": "text/plain"}.items():
        text, sent = await page(aiohttp_client, "Development", {"Accept": accept})
        assert (sent, "LookupError" in text) == (kind, False)
