"""Sample 19.1 in a real browser: Debian's Chromium, driven by playwright."""

from __future__ import annotations

import json
import shutil
from collections.abc import AsyncIterator, Iterator

import pytest
from playwright.async_api import BrowserContext, Page, async_playwright
from sample_process import Running, run_sample

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")

pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed"),
    pytest.mark.xdist_group("browser"),
]

FLAGS = [
    "--no-sandbox",  # tests may run as root
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@pytest.fixture(scope="module")
def sample() -> Iterator[Running]:
    with run_sample("19_1_sessions.py") as running:
        yield running


@pytest.fixture
async def browser(sample: Running) -> AsyncIterator[BrowserContext]:
    async with async_playwright() as playwright:
        chromium = await playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        context = await chromium.new_context(base_url=f"https://127.0.0.1:{sample.port}", ignore_https_errors=True)
        yield context
        await chromium.close()


async def shown(page: Page) -> dict[str, object]:
    """The JSON that the page shows."""
    content: dict[str, object] = json.loads(await page.inner_text("pre"))
    return content


async def test_a_session_from_login_to_logout(browser: BrowserContext) -> None:
    page = await browser.new_page()

    response = await page.goto("/session/whoami")
    assert response is not None
    assert response.status == 401
    assert await browser.cookies() == []

    await page.goto("/session/login?user=max")
    [cookie] = await browser.cookies()
    assert cookie["name"] == "Kr.Session"
    assert cookie["httpOnly"] is True
    assert cookie["secure"] is True
    assert cookie["sameSite"] == "Lax"
    assert cookie["path"] == "/"
    assert cookie["expires"] == -1  # a session cookie: gone with the browser
    assert await page.evaluate("document.cookie") == ""

    await page.goto("/session/whoami")
    assert await shown(page) == {"user": "max"}
    await page.reload()
    assert await shown(page) == {"user": "max"}
    assert await browser.cookies() == [cookie]

    await page.goto("/session/logout")
    assert await browser.cookies() == []
    response = await page.goto("/session/whoami")
    assert response is not None
    assert response.status == 401


async def test_tabs_share_a_session_and_profiles_do_not(browser: BrowserContext) -> None:
    first, second = await browser.new_page(), await browser.new_page()
    await first.goto("/session/counter")
    await second.goto("/session/counter")
    assert (await shown(second))["counter"] == 2
    assert browser.browser is not None
    stranger = await browser.browser.new_context(ignore_https_errors=True)
    page = await stranger.new_page()
    await page.goto(first.url)
    assert (await shown(page))["counter"] == 1
