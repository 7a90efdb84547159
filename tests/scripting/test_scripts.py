"""Route scripts: functions and source text, on the loop and in worker threads."""

from __future__ import annotations

import asyncio
import functools
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pytest_aiohttp.plugin import AiohttpClient
from recording_log import Log
from waiting import until

from kestrun_py import KestrunHost, current_context
from kestrun_py.context import KestrunContext
from kestrun_py.errors import ArgumentError
from kestrun_py.scripting.scripts import Script

INTERNALS = ("Traceback", "ZeroDivision", "division", "secret", "site-packages", ".py")


def plain() -> None:
    current_context().response.write_text(threading.current_thread().name)


async def on_the_loop(context: KestrunContext) -> None:
    await asyncio.sleep(0)
    context.response.write_text(threading.current_thread().name)


class Greeter:
    def __init__(self, greeting: str) -> None:
        self.greeting = greeting

    def method(self, context: KestrunContext) -> None:
        context.response.write_text(self.greeting)

    async def async_method(self) -> None:
        current_context().response.write_text(self.greeting)

    def __call__(self, context: KestrunContext) -> None:
        context.response.write_text(f"called {self.greeting}")


class AsyncGreeter:
    async def __call__(self, context: KestrunContext) -> None:
        await asyncio.sleep(0)
        context.response.write_text("called async")


def with_arguments(context: KestrunContext, name: str, *, times: int = 1) -> None:
    context.response.write_text(name * times)


def decorated(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    return wrapper


async def answer_of(host: KestrunHost, aiohttp_client: AiohttpClient) -> tuple[int, str]:
    client = await aiohttp_client(host.create_app())
    response = await client.get("/")
    return response.status, await response.text()


class TestFunctions:
    @pytest.mark.parametrize(
        ("function", "is_async"),
        [
            (plain, False),
            (on_the_loop, True),
            (lambda: None, False),
            (Greeter("x").method, False),
            (Greeter("x").async_method, True),
            (Greeter("x"), False),
            (AsyncGreeter(), True),
            (functools.partial(plain), False),
            (functools.partial(on_the_loop), True),
        ],
    )
    def test_only_async_def_runs_on_the_loop(self, function: Callable[..., Any], is_async: bool) -> None:
        assert Script.from_function(function).is_async is is_async

    async def test_def_runs_in_a_worker_thread(self, aiohttp_client: AiohttpClient) -> None:
        _, thread = await answer_of(KestrunHost("test").add_map_route("/", "Get", plain), aiohttp_client)
        assert thread.startswith("runspace-")

    async def test_async_def_runs_in_the_loops_thread(self, aiohttp_client: AiohttpClient) -> None:
        _, thread = await answer_of(KestrunHost("test").add_map_route("/", "Get", on_the_loop), aiohttp_client)
        assert thread == threading.current_thread().name

    @pytest.mark.parametrize(
        ("function", "text"),
        [
            (Greeter("hi").method, "hi"),
            (Greeter("hi").async_method, "hi"),
            (Greeter("hi"), "called hi"),
            (AsyncGreeter(), "called async"),
            (functools.partial(with_arguments, name="ab", times=2), "abab"),
            (decorated(Greeter("hi").method), "hi"),
            (decorated(Greeter("hi").async_method), "hi"),
            (lambda context: AsyncGreeter()(context), "called async"),
        ],
    )
    async def test_whatever_can_be_called(
        self, function: Callable[..., Any], text: str, aiohttp_client: AiohttpClient
    ) -> None:
        assert await answer_of(KestrunHost("test").add_map_route("/", "Get", function), aiohttp_client) == (200, text)

    async def test_arguments(self, aiohttp_client: AiohttpClient) -> None:
        host = KestrunHost("test").add_map_route("/", "Get", with_arguments, arguments={"name": "ab", "times": 2})
        assert await answer_of(host, aiohttp_client) == (200, "abab")

    async def test_a_context_among_the_arguments_is_the_callers_own(self, aiohttp_client: AiohttpClient) -> None:
        def script(context: str) -> None:
            current_context().response.write_text(context)

        host = KestrunHost("test").add_map_route("/", "Get", script, arguments={"context": "mine"})
        assert await answer_of(host, aiohttp_client) == (200, "mine")

    async def test_arguments_may_change_after_the_call(self, aiohttp_client: AiohttpClient) -> None:
        given = {"name": "before"}
        host = KestrunHost("test").add_map_route("/", "Get", with_arguments, arguments=given)
        given["name"] = "after"
        assert await answer_of(host, aiohttp_client) == (200, "before")


class TestSignatures:
    def test_a_parameter_of_another_name(self) -> None:
        def script(request: object, more: object) -> None:
            raise NotImplementedError

        with pytest.raises(ArgumentError, match=r"script takes request, more; a script has no parameter, or one named"):
            Script.from_function(script)

    def test_an_argument_without_a_parameter(self) -> None:
        with pytest.raises(ArgumentError, match="plain has no parameter color"):
            Script.from_function(plain, {"color": "red"})

    def test_a_parameter_with_a_default_and_variable_ones_are_let_be(self) -> None:
        def script(size: int = 1, *rest: object, **more: object) -> None:
            raise NotImplementedError

        assert not Script.from_function(script).is_async

    def test_a_context_that_has_no_name(self) -> None:
        def script(context: KestrunContext, /) -> None:
            raise NotImplementedError

        with pytest.raises(ArgumentError, match=r"script takes context before '/'"):
            Script.from_function(script)

    @pytest.mark.parametrize("script", ["write_text('x')", 5])
    def test_what_is_no_function(self, script: Any) -> None:
        with pytest.raises(ArgumentError, match=f"A route script must be a function, not {type(script).__name__}"):
            Script.from_function(script)

    def test_what_hides_its_parameters(self) -> None:
        class Hidden:
            __signature__ = "none of your business"

            def __call__(self) -> None:
                raise NotImplementedError

        with pytest.raises(ArgumentError, match="Hidden cannot be read; give a plain function"):
            Script.from_function(Hidden())

    def test_generators_would_do_nothing(self) -> None:
        def generator() -> Iterator[int]:
            yield 1

        async def async_generator() -> AsyncIterator[int]:
            yield 1

        for script in (generator, async_generator, functools.partial(generator)):
            with pytest.raises(ArgumentError, match="is a generator"):
                Script.from_function(script)

    @pytest.mark.parametrize(
        "given",
        [{}, {"script": plain, "code": "pass"}, {"code": "pass", "code_file_path": "x.py"}],
    )
    def test_a_route_takes_exactly_one_script(self, given: dict[str, Any]) -> None:
        with pytest.raises(ArgumentError, match="exactly one of a script function, code and code_file_path"):
            KestrunHost("test").add_map_route("/", "Get", **given)


class TestSource:
    async def run(self, aiohttp_client: AiohttpClient, code: str, **options: Any) -> tuple[int, str]:
        self.log = Log()
        host = KestrunHost("test", logger=self.log.logger).add_map_route("/", "Get", code=code, **options)
        return await answer_of(host, aiohttp_client)

    async def test_context_is_in_scope(self, aiohttp_client: AiohttpClient) -> None:
        code = """
            import threading
            context.response.write_text(threading.current_thread().name)
        """
        status, thread = await self.run(aiohttp_client, code)
        assert (status, thread.startswith("runspace-")) == (200, True)

    async def test_await_at_the_top_level_puts_it_on_the_loop(self, aiohttp_client: AiohttpClient) -> None:
        code = """
            import asyncio, threading
            await asyncio.sleep(0)
            context.response.write_text(threading.current_thread().name)
        """
        assert await self.run(aiohttp_client, code) == (200, threading.current_thread().name)

    async def test_arguments_are_names_in_it(self, aiohttp_client: AiohttpClient) -> None:
        code = "context.response.write_text(greeting + ' ' + name)"
        given = {"greeting": "Hello", "name": "Max"}
        assert await self.run(aiohttp_client, code, arguments=given) == (200, "Hello Max")

    async def test_each_run_starts_with_fresh_names(self, aiohttp_client: AiohttpClient) -> None:
        code = "context.response.write_text(str('seen' in globals()))\nseen = True"
        client = await aiohttp_client(KestrunHost("test").add_map_route("/", "Get", code=code).create_app())
        for _ in range(3):
            assert await (await client.get("/")).text() == "False"

    async def test_functions_in_it_see_its_names(self, aiohttp_client: AiohttpClient) -> None:
        code = "import math\ndef area(r):\n    return round(math.pi * r)\ncontext.response.write_text(area(2))"
        assert await self.run(aiohttp_client, code) == (200, "6")

    async def test_it_borrows_no_future_import(self, aiohttp_client: AiohttpClient) -> None:
        code = "def f(x: int): pass\ncontext.response.write_text(f.__annotations__['x'].__name__)"
        assert await self.run(aiohttp_client, code) == (200, "int")

    @pytest.mark.parametrize(
        ("code", "text"),
        [
            ("context.response.write_text('x'", r"does not compile: .*line 1"),
            ("a = 1\nb =", r"does not compile: invalid syntax .*line 2"),
            ("return 5", "does not compile: 'return' outside function"),
            ("a\0b", "does not compile"),
            ("", "is empty"),
            (" \n", "is empty"),
        ],
    )
    def test_text_that_does_not_compile_is_an_error_when_it_is_mapped(self, code: str, text: str) -> None:
        with pytest.raises(ArgumentError, match=text):
            KestrunHost("test").add_map_route("/", "Get", code=code)

    async def test_a_failure_shows_the_users_lines(self, aiohttp_client: AiohttpClient) -> None:
        code = """
            secret = 0
            context.response.write_text("never sent")
            quotient = 1 / secret
        """
        status, text = await self.run(aiohttp_client, code)
        assert status == 500
        assert "An internal server error occurred." in text
        assert not any(word in text for word in (*INTERNALS, "never sent"))
        (error,) = self.log.errors
        assert "quotient = 1 / secret" in error.exception
        assert ", line 4, in <module>" in error.exception
        assert "ZeroDivisionError" in error.exception

    async def test_two_texts_are_told_apart_in_tracebacks(self, aiohttp_client: AiohttpClient) -> None:
        log = Log()
        host = KestrunHost("test", logger=log.logger).add_map_route("/a", "Get", code="first = 1 / 0")
        client = await aiohttp_client(host.add_map_route("/b", "Get", code="second = 1 / 0").create_app())
        for path in ("/a", "/b"):
            assert (await client.get(path)).status == 500
        assert ["first = 1 / 0" in error.exception for error in log.errors] == [True, False]
        assert ["second = 1 / 0" in error.exception for error in log.errors] == [False, True]


class TestFiles:
    async def test_a_file_with_text(self, tmp_path: Path, aiohttp_client: AiohttpClient) -> None:
        file = tmp_path / "script.py"
        file.write_text("context.response.write_text(f'{name} {__file__}')", encoding="utf-8")
        host = KestrunHost("test").add_map_route("/", "Get", code_file_path=file, arguments={"name": "Grüße"})
        assert await answer_of(host, aiohttp_client) == (200, f"Grüße {file}")

    async def test_a_failure_names_the_file(
        self, tmp_path: Path, aiohttp_client: AiohttpClient, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "script.py").write_text("\n\nraise ValueError('wrong')\n", encoding="utf-8")
        monkeypatch.chdir(tmp_path)
        log = Log()
        host = KestrunHost("test", logger=log.logger).add_map_route("/", "Get", code_file_path="script.py")
        monkeypatch.chdir("/")
        assert (await answer_of(host, aiohttp_client))[0] == 500
        assert f'File "{tmp_path}/script.py", line 3, in <module>' in log.errors[0].exception
        assert "raise ValueError('wrong')" in log.errors[0].exception

    @pytest.mark.parametrize(
        ("name", "content", "text"),
        [
            ("script.ps1", b"", r"script\.ps1' must be a \.py file"),
            ("missing.py", None, r"missing\.py' cannot be read: .*No such file"),
            ("folder.py", ..., r"folder\.py' cannot be read: .*Is a directory"),
            ("binary.py", b"\xff", r"binary\.py' cannot be read: .*utf-8"),
            ("wrong.py", b"a =", r"wrong\.py does not compile: .*line 1"),
            ("empty.py", b"", r"empty\.py is empty"),
        ],
    )
    def test_a_file_that_cannot_be_used(self, name: str, content: Any, text: str, tmp_path: Path) -> None:
        file = tmp_path / name
        if content is ...:
            file.mkdir()
        elif content is not None:
            file.write_bytes(content)
        with pytest.raises(ArgumentError, match=text):
            KestrunHost("test").add_map_route("/", "Get", code_file_path=file)


class TestFailures:
    @pytest.mark.parametrize("is_async", [False, True])
    async def test_an_exception_is_500_without_internals_and_a_logged_traceback(
        self, is_async: bool, aiohttp_client: AiohttpClient
    ) -> None:
        def script(context: KestrunContext) -> None:
            context.response.headers["X-Partial"] = "1"
            context.response.write_text("never sent")
            raise ValueError("the secret is 42")

        async def async_script(context: KestrunContext) -> None:
            await asyncio.sleep(0)
            script(context)

        log = Log()
        host = KestrunHost("test", logger=log.logger)
        host.add_map_route("/", "Get", async_script if is_async else script)
        client = await aiohttp_client(host.create_app())
        response = await client.get("/", headers={"Accept": "application/json"})
        payload = await response.json()
        assert (response.status, payload["error"]) == (500, "An internal server error occurred.")
        assert set(payload) == {"error", "status", "reason", "timestamp", "path", "method"}
        assert "X-Partial" not in response.headers
        (error,) = log.errors
        assert error.message == "GET / failed."
        assert 'raise ValueError("the secret is 42")' in error.exception
        assert "kestrun_py" not in error.exception
        assert (await client.get("/")).status == 500

    @pytest.mark.parametrize("raised", [SystemExit(1), StopIteration(), RecursionError(), MemoryError()])
    @pytest.mark.parametrize("is_async", [False, True])
    async def test_not_even_exit_ends_the_server(
        self, raised: BaseException, is_async: bool, aiohttp_client: AiohttpClient
    ) -> None:
        def script() -> None:
            raise raised

        async def async_script() -> None:
            raise raised

        log = Log()
        host = KestrunHost("test", logger=log.logger)
        host.add_map_route("/", "Get", async_script if is_async else script)
        client = await aiohttp_client(host.create_app())
        for _ in range(2):
            assert (await client.get("/")).status == 500
        assert len(log.errors) == 2

    async def test_an_exception_that_cannot_be_shown(self, aiohttp_client: AiohttpClient) -> None:
        class Mute(Exception):
            def __str__(self) -> str:
                raise RuntimeError("no words")

        def script() -> None:
            raise Mute

        status, _ = await answer_of(KestrunHost("test").add_map_route("/", "Get", script), aiohttp_client)
        assert status == 500


class TestConcurrency:
    async def test_max_runspaces_bounds_the_def_scripts_of_all_routes(self, aiohttp_client: AiohttpClient) -> None:
        gate, lock, inside = threading.Event(), threading.Lock(), [0, 0]

        def script() -> None:
            with lock:
                inside[0] += 1
                inside[1] = max(inside)
            gate.wait(30)
            with lock:
                inside[0] -= 1

        host = KestrunHost("test").set_server_options(max_runspaces=2)
        host.add_map_route("/a", "Get", script).add_map_route(
            "/b", "Get", code="script()", arguments={"script": script}
        )
        host.add_map_route("/free", "Get", on_the_loop)
        client = await aiohttp_client(host.create_app())
        blocked = [asyncio.create_task(client.get(path)) for path in ("/a", "/b") * 3]
        await until(lambda: inside[0] == 2)
        assert (await client.get("/free")).status == 200  # nobody on the loop waits for them
        gate.set()
        assert [response.status for response in await asyncio.gather(*blocked)] == [200] * 6
        assert inside == [0, 2]

    @pytest.mark.parametrize("is_async", [False, True])
    async def test_requests_at_once_keep_to_their_own_context(
        self, is_async: bool, aiohttp_client: AiohttpClient
    ) -> None:
        def script() -> None:
            name = current_context().request.route_params["name"]
            assert current_context().request.read_text() == name * 1000
            assert current_context().request.route_params["name"] == name
            current_context().response.write_text(name)

        async def async_script() -> None:
            await asyncio.sleep(0)
            script()

        host = KestrunHost("test").add_map_route("/{name}", "Post", async_script if is_async else script)
        client = await aiohttp_client(host.create_app())

        async def slowly(name: str) -> AsyncIterator[bytes]:
            for _ in range(10):
                yield name.encode() * 100
                await asyncio.sleep(0.001)

        async def ask(name: str) -> str:
            return await (await client.post(f"/{name}", data=slowly(name))).text()

        names = [f"n{number}" for number in range(100)]
        assert await asyncio.gather(*map(ask, names)) == names
