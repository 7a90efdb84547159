"""What is gathered while the event loop is busy is done together, and never put off for long."""

from __future__ import annotations

import asyncio

import pytest

from kestrun_py.concurrency.coalescing import Gathered


class Work:
    """Counts its calls, and the turns of the event loop until each."""

    def __init__(self, *, most_turns: int = 4) -> None:
        self.loop = asyncio.get_running_loop()
        self.turns = 0
        self.called: list[int] = []
        self.gathered = Gathered(self.loop, lambda: self.called.append(self.turns), most_turns)

    async def pass_turns(self, count: int, *, busy: bool) -> None:
        for turn in range(count):
            if busy:
                self.loop.call_soon(lambda: self.loop.call_soon(int))  # what is ready in this turn makes more
            self.turns = turn
            await asyncio.sleep(0)


async def test_an_idle_loop_makes_the_call_in_its_next_turn() -> None:
    work = Work()
    called = work.loop.create_future()
    gathered = Gathered(work.loop, lambda: called.set_result(None), 4)
    gathered.soon()
    await called  # the loop has nothing else to do; that it ends is the test


async def test_several_requests_are_one_call() -> None:
    work = Work()
    for _ in range(5):
        work.gathered.soon()
    await work.pass_turns(10, busy=True)
    assert len(work.called) == 1


@pytest.mark.parametrize("most_turns", [0, 1, 4])
async def test_a_busy_loop_puts_it_off_by_no_more_turns_than_allowed(most_turns: int) -> None:
    work = Work(most_turns=most_turns)
    work.gathered.soon()
    await work.pass_turns(20, busy=True)
    assert work.called == [most_turns]


async def test_what_is_asked_for_in_the_call_is_another_call() -> None:
    loop = asyncio.get_running_loop()
    calls: list[int] = []

    def call() -> None:
        calls.append(1)
        if len(calls) < 3:
            gathered.soon()

    gathered = Gathered(loop, call, 4)
    gathered.soon()
    for _ in range(40):
        await asyncio.sleep(0)
    assert len(calls) == 3


async def test_a_loop_that_does_not_show_what_is_ready_makes_it_at_once() -> None:
    class Opaque:
        def __init__(self) -> None:
            self.soon: list[object] = []

        def call_soon(self, call: object) -> None:
            self.soon.append(call)

    loop = Opaque()
    calls: list[int] = []
    gathered = Gathered(loop, lambda: calls.append(1), 4)  # type: ignore[arg-type]
    gathered.soon()
    (turn,) = loop.soon
    turn()  # type: ignore[operator]
    assert calls == [1]
