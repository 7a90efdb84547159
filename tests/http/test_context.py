"""The current context: where helpers work, and where they say that they cannot."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from aiohttp import web
from aiohttp.typedefs import Handler
from pytest_aiohttp.plugin import AiohttpClient
from waiting import until

from kestrun_py import KestrunContext, KestrunHost, current_context
from kestrun_py.errors import ContextError, SessionNotConfiguredError
from kestrun_py.http.context import active_context

OUTSIDE = r"^{} must be called inside a route script, where a request is being handled\.$"
ANSWERED = r"^{} was called for a request that has been answered already\.$"


def outcome(work: Any) -> Any:
    """What `work` returns, or what it raises."""
    try:
        return work()
    except Exception as error:
        return error


def test_outside_a_request_it_says_so_and_names_the_caller() -> None:
    with pytest.raises(ContextError, match=OUTSIDE.format("my_helper")):
        current_context("my_helper")
    with pytest.raises(ContextError, match=OUTSIDE.format("current_context")):
        current_context()
    assert active_context() is None


@pytest.mark.parametrize("is_async", [False, True])
async def test_a_script_gets_the_same_context_either_way(is_async: bool, aiohttp_client: AiohttpClient) -> None:
    def script(context: KestrunContext) -> None:
        assert context is current_context() is active_context()
        assert isinstance(context.request.raw, web.Request)
        context.response.write_text("ok")

    async def async_script(context: KestrunContext) -> None:
        await asyncio.sleep(0)
        script(context)

    host = KestrunHost("test").add_map_route("/", "Get", async_script if is_async else script)
    client = await aiohttp_client(host.create_app())
    assert await (await client.get("/")).text() == "ok"


async def test_a_middleware_has_it_too(aiohttp_client: AiohttpClient) -> None:
    @web.middleware
    async def mark(request: web.Request, handler: Handler) -> web.StreamResponse:
        context = current_context()
        assert context.request.raw is request
        response = await handler(request)
        assert current_context() is context
        response.headers["X-Path"] = context.request.path
        return response

    host = KestrunHost("test").use(mark).add_map_route("/a", "Get", lambda: None)
    client = await aiohttp_client(host.create_app())
    for path in ("/a", "/missing"):
        assert (await client.get(path)).headers["X-Path"] == path


async def test_it_ends_with_the_request(aiohttp_client: AiohttpClient) -> None:
    contexts: list[KestrunContext] = []

    async def script(context: KestrunContext) -> None:
        contexts.append(context)
        assert not context.ended

    client = await aiohttp_client(KestrunHost("test").add_map_route("/", "Get", script).create_app())
    await client.get("/")
    assert contexts[0].ended
    assert active_context() is None


class TestTasksAndThreads:
    async def test_what_a_script_starts_belongs_to_its_request(self, aiohttp_client: AiohttpClient) -> None:
        async def child() -> str:
            await asyncio.sleep(0)
            return current_context().request.path

        async def script() -> None:
            found = [
                await asyncio.create_task(child()),
                await asyncio.to_thread(lambda: current_context().request.path),
            ]
            thread = threading.Thread(target=lambda: found.append(current_context().request.path))
            thread.start()
            await until(lambda: not thread.is_alive())
            thread.join()
            current_context().response.write_json(found, compress=True)

        client = await aiohttp_client(KestrunHost("test").add_map_route("/x", "Get", script).create_app())
        assert await (await client.get("/x")).text() == '["/x","/x","/x"]'

    async def test_threads_of_a_def_script_too(self, aiohttp_client: AiohttpClient) -> None:
        def script() -> None:
            found: list[str] = []
            thread = threading.Thread(target=lambda: found.append(current_context().request.path))
            thread.start()
            thread.join()
            current_context().response.write_json(found, compress=True)

        client = await aiohttp_client(KestrunHost("test").add_map_route("/x", "Get", script).create_app())
        assert await (await client.get("/x")).text() == '["/x"]'

    async def test_after_the_answer_they_are_told_so(self, aiohttp_client: AiohttpClient) -> None:
        answered, found = threading.Event(), []

        async def child() -> None:
            await asyncio.to_thread(answered.wait, 30)
            found.append(outcome(lambda: current_context("late_helper")))
            assert active_context() is None

        tasks: list[asyncio.Task[None]] = []

        async def script() -> None:
            tasks.append(asyncio.create_task(child()))

        client = await aiohttp_client(KestrunHost("test").add_map_route("/", "Get", script).create_app())
        await client.get("/")
        answered.set()
        await tasks[0]
        assert isinstance(found[0], ContextError)
        assert str(found[0]) == "late_helper was called for a request that has been answered already."

    async def test_a_thread_pool_belongs_to_nobody(self, aiohttp_client: AiohttpClient) -> None:
        with ThreadPoolExecutor(1) as pool:

            def script(context: KestrunContext) -> None:
                error = pool.submit(outcome, current_context).result()
                context.response.write_text(f"{type(error).__name__}: {error}")

            client = await aiohttp_client(KestrunHost("test").add_map_route("/", "Get", script).create_app())
            for _ in range(2):
                text = await (await client.get("/")).text()
                assert text.startswith("ContextError: current_context must be called inside a route script")
                assert text.endswith("takes the request along with contextvars.copy_context().run.")

    def test_a_thread_started_elsewhere_is_an_ordinary_thread(self) -> None:
        found: list[Any] = []
        thread = threading.Thread(target=lambda: found.append(outcome(current_context)))
        thread.start()
        thread.join()
        assert isinstance(found[0], ContextError)

    async def test_a_runspace_that_starts_during_a_request_serves_the_next_one(
        self, aiohttp_client: AiohttpClient
    ) -> None:
        def script(context: KestrunContext) -> None:
            assert current_context() is context
            context.response.write_text(context.request.route_params["name"])

        host = KestrunHost("test").set_server_options(max_runspaces=4, min_runspaces=0)
        client = await aiohttp_client(host.add_map_route("/{name}", "Get", script).create_app())
        for name in "abc":
            assert await (await client.get(f"/{name}")).text() == name


class TestWaiting:
    async def test_a_def_script_waits(self, aiohttp_client: AiohttpClient) -> None:
        def script(context: KestrunContext) -> None:
            context.response.write_text(context.wait(asyncio.sleep(0.001, "slept")))

        client = await aiohttp_client(KestrunHost("test").add_map_route("/", "Get", script).create_app())
        assert await (await client.get("/")).text() == "slept"

    async def test_on_the_event_loop_there_is_await(self, aiohttp_client: AiohttpClient) -> None:
        async def script(context: KestrunContext) -> None:
            async def child() -> object:
                return outcome(lambda: context.wait(asyncio.sleep(0)))

            context.response.write_json([str(await asyncio.create_task(child())), str(await child())], compress=True)

        client = await aiohttp_client(KestrunHost("test").add_map_route("/", "Get", script).create_app())
        text = "context.wait is for def scripts; code on the event loop uses await."
        assert await (await client.get("/")).json() == [text, text]


class TestSession:
    @pytest.mark.parametrize("is_async", [False, True])
    async def test_without_add_session_the_error_names_the_missing_call(
        self, is_async: bool, aiohttp_client: AiohttpClient
    ) -> None:
        def script(context: KestrunContext) -> None:
            error = outcome(lambda: context.session)
            assert isinstance(error, SessionNotConfiguredError)
            context.response.write_text(str(error))

        async def async_script(context: KestrunContext) -> None:
            script(context)

        host = KestrunHost("test").add_map_route("/", "Get", async_script if is_async else script)
        client = await aiohttp_client(host.create_app())
        text = await (await client.get("/")).text()
        assert "call add_session on the host (add_kr_session in a script) before enable_configuration" in text

    async def test_a_middleware_before_add_session_has_none_and_one_after_it_has(
        self, aiohttp_client: AiohttpClient
    ) -> None:
        found: list[Any] = []

        @web.middleware
        async def before(request: web.Request, handler: Handler) -> web.StreamResponse:
            found.append(outcome(lambda: current_context().session))
            return await handler(request)

        @web.middleware
        async def after(request: web.Request, handler: Handler) -> web.StreamResponse:
            session = current_context().session
            await session.load()
            found.append(session.get_string("name"))
            return await handler(request)

        host = KestrunHost("test").use(before).add_session().use(after).add_map_route("/", "Get", lambda: None)
        client = await aiohttp_client(host.create_app())
        assert (await client.get("/")).status == 200
        assert isinstance(found[0], SessionNotConfiguredError)
        assert found[1] is None
