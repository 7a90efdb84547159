"""Waiting without await, from coroutines and from worker threads."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import threading
import weakref
from collections.abc import Awaitable
from typing import Any

import pytest
from waiting import until

from kestrun_py.concurrency import bridge as _bridge
from kestrun_py.concurrency.bridge import can_wait, run_on_loop, wait, worker_loop
from kestrun_py.errors import ContextError

variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")


async def later(value: Any, turns: int = 3) -> Any:
    for _ in range(turns):
        await asyncio.sleep(0)
    return value


async def fail(error: BaseException) -> None:
    await asyncio.sleep(0)
    raise error


class TestOnTheLoop:
    async def test_helpers_wait_without_await(self) -> None:
        async def script() -> list[int]:
            return [wait(later(1)), await later(2), wait(later(3))]

        assert await run_on_loop(script()) == [1, 2, 3]

    async def test_any_awaitable_will_do(self) -> None:
        future: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().call_soon(future.set_result, "future")

        async def script() -> tuple[str, str]:
            return wait(future), wait(asyncio.create_task(later("task")))

        assert await run_on_loop(script()) == ("future", "task")

    async def test_waits_can_be_nested(self) -> None:
        def helper(depth: int) -> int:
            return wait(climb(depth - 1)) + 1 if depth else 0

        async def climb(depth: int) -> int:
            await asyncio.sleep(0)
            return helper(depth)

        assert await run_on_loop(climb(20)) == 20

    async def test_others_run_meanwhile(self) -> None:
        order: list[str] = []
        gate = asyncio.Event()

        async def waiting() -> None:
            wait(gate.wait())
            order.append("waited")

        async def other() -> None:
            order.append("other")
            gate.set()

        await asyncio.gather(run_on_loop(waiting()), other())
        assert order == ["other", "waited"]

    async def test_many_scripts_at_once_do_not_mix_up_their_answers(self) -> None:
        async def script(number: int) -> int:
            first = wait(later(number, number % 7))
            assert variable.get() == "unset"
            second = await later(first, number % 5)
            return int(wait(later(second, number % 3)))

        for _ in range(20):
            numbers = range(100)
            assert await asyncio.gather(*(run_on_loop(script(number)) for number in numbers)) == list(numbers)

    async def test_errors_cross_the_bridge(self) -> None:
        async def script() -> str:
            try:
                wait(fail(ValueError("inner")))
            except ValueError as error:
                raise KeyError("outer") from error
            return "not reached"

        with pytest.raises(KeyError, match="outer") as caught:
            await run_on_loop(script())
        assert isinstance(caught.value.__cause__, ValueError)

    @pytest.mark.parametrize("error", [SystemExit(3), StopAsyncIteration(), GeneratorExit()])
    async def test_even_odd_ones(self, error: BaseException) -> None:
        async def script() -> None:
            await asyncio.sleep(0)
            raise error

        with pytest.raises(type(error)):
            await run_on_loop(script())
        assert await run_on_loop(later("works still")) == "works still"

    async def test_a_cancelled_wait_raises_where_it_waits(self) -> None:
        cleaned: list[str] = []

        async def script() -> None:
            try:
                wait(asyncio.Event().wait())
            finally:
                wait(later(None))
                cleaned.append("up")

        async def request() -> None:
            await run_on_loop(script())

        task = asyncio.create_task(request())
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert cleaned == ["up"]

    async def test_a_timeout_around_a_wait(self) -> None:
        async def script() -> str:
            try:
                async with asyncio.timeout(0.01):  # noqa: ASYNC100 - `wait` is the checkpoint
                    wait(asyncio.Event().wait())
            except TimeoutError:
                return str(wait(later("timed out")))
            return "not reached"

        assert await run_on_loop(script()) == "timed out"

    async def test_what_a_script_sets_its_caller_sees(self) -> None:
        async def script() -> str:
            before = variable.get()
            wait(later(None))
            variable.set("script")
            return before

        async def request() -> tuple[str, str]:
            variable.set("request")
            return await run_on_loop(script()), variable.get()

        assert await asyncio.create_task(request()) == ("request", "script")
        assert variable.get() == "unset"

    async def test_no_context_leaks_into_the_next_script(self) -> None:
        async def request(value: str) -> str:
            async def script() -> str:
                seen = variable.get()
                variable.set(value)
                wait(later(None))
                return seen

            return await run_on_loop(script())

        for number in range(10):
            assert await asyncio.create_task(request(str(number))) == "unset"

    async def test_nothing_of_a_script_outlives_it(self) -> None:
        class Thing:
            pass

        alive: list[weakref.ref[Thing]] = []

        async def script(fails: bool) -> Thing:
            thing = Thing()
            alive.append(weakref.ref(thing))
            wait(later(thing))
            if fails:
                raise ValueError("wrong")
            return thing

        async def request(fails: bool) -> None:
            try:
                await run_on_loop(script(fails))
            except ValueError:
                assert fails

        for fails in (False, True):
            await asyncio.create_task(request(fails))
        gc.collect()
        assert [reference() for reference in alive] == [None, None]

    async def test_a_script_that_is_given_up_ends(self) -> None:
        ended: list[str] = []

        async def script() -> None:
            try:
                wait(asyncio.Event().wait())
            finally:
                ended.append("closed")

        async def request() -> None:
            await run_on_loop(script())

        steps = request()
        steps.send(None)
        steps.close()
        assert ended == ["closed"]
        assert await run_on_loop(later("works still")) == "works still"

    async def test_a_crowd_leaves_no_crowd_of_greenlets(self) -> None:
        gate = asyncio.Event()

        async def script() -> None:
            wait(gate.wait())

        crowd = asyncio.gather(*(run_on_loop(script()) for _ in range(1000)))
        await asyncio.sleep(0)
        gate.set()
        await crowd
        gc.collect()
        assert sum(type(thing) is _bridge._ScriptGreenlet for thing in gc.get_objects()) <= _bridge._MOST_IDLE
        assert await run_on_loop(later("works still")) == "works still"


class TestOutside:
    async def test_code_beside_a_script_cannot_wait(self) -> None:
        assert not can_wait()
        with pytest.raises(ContextError, match="Only a route script itself can wait without await"):
            wait(later(1))

    async def test_neither_can_a_task_that_a_script_starts(self) -> None:
        async def child() -> bool:
            await asyncio.sleep(0)
            return can_wait()

        async def script() -> tuple[bool, bool]:
            return can_wait(), await asyncio.create_task(child())

        assert await run_on_loop(script()) == (True, False)

    async def test_nor_a_thread_that_a_script_starts(self) -> None:
        async def script() -> bool:
            return await asyncio.to_thread(can_wait)

        assert await run_on_loop(script()) is False

    async def test_nor_a_callback_of_the_loop(self) -> None:
        seen: list[bool] = []

        async def script() -> None:
            asyncio.get_running_loop().call_soon(lambda: seen.append(can_wait()))
            wait(later(None))

        await run_on_loop(script())
        assert seen == [False]


class TestInAWorkerThread:
    async def run(self, work: Any) -> Any:
        loop = asyncio.get_running_loop()
        outcome: list[Any] = []

        def thread() -> None:
            try:
                with worker_loop(loop):
                    outcome.append(work())
            except BaseException as error:
                outcome.append(error)
            assert not can_wait()

        worker = threading.Thread(target=thread)
        worker.start()
        await until(lambda: not worker.is_alive())
        worker.join()
        return outcome[0]

    async def test_waiting_blocks_the_thread_only(self) -> None:
        loop_thread = threading.get_ident()

        async def where() -> int:
            await asyncio.sleep(0)
            return threading.get_ident()

        assert await self.run(lambda: (wait(where()), threading.get_ident() == loop_thread)) == (loop_thread, False)

    async def test_any_awaitable_will_do(self) -> None:
        future: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().call_later(0.01, future.set_result, "future")
        assert await self.run(lambda: wait(future)) == "future"

    async def test_errors_cross_the_bridge(self) -> None:
        error = ValueError("inner")
        assert await self.run(lambda: wait(fail(error))) is error

    async def test_context_variables_reach_what_is_waited_for(self) -> None:
        async def read() -> str:
            return variable.get()

        def work() -> Awaitable[str] | str:
            variable.set("thread")
            return wait(read())

        assert await self.run(work) == "thread"
