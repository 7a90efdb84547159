"""The fair queue of a session's requests in one process."""

from __future__ import annotations

import asyncio
import gc
import random

import pytest

from kestrun_py.sessions.locks import FairLocks


async def test_it_is_granted_in_the_order_it_was_asked_for() -> None:
    locks = FairLocks()
    order: list[int] = []

    async def use(number: int) -> None:
        await locks.acquire("a", 10)
        order.append(number)
        await asyncio.sleep(0)
        locks.release("a")

    await asyncio.gather(*(use(number) for number in range(20)))
    assert order == list(range(20))
    assert len(locks) == 0


async def test_a_newcomer_does_not_overtake() -> None:
    locks = FairLocks()
    await locks.acquire("a", 10)
    waiting = asyncio.create_task(locks.acquire("a", 10))
    await asyncio.sleep(0)
    locks.release("a")
    with pytest.raises(TimeoutError):
        await locks.acquire("a", 0.01)
    await waiting
    locks.release("a")
    await locks.acquire("a", 0.01)


async def test_keys_are_independent() -> None:
    locks = FairLocks()
    await asyncio.gather(*(locks.acquire(str(number), 0.01) for number in range(10)))
    assert len(locks) == 10


async def test_the_wait_is_bounded() -> None:
    locks = FairLocks()
    loop = asyncio.get_running_loop()
    await locks.acquire("a", 10)
    began = loop.time()
    with pytest.raises(TimeoutError):
        await locks.acquire("a", 0.05)
    assert loop.time() - began >= 0.05
    locks.release("a")
    assert len(locks) == 0


async def test_a_waiter_that_gives_up_is_skipped() -> None:
    locks = FairLocks()
    await locks.acquire("a", 10)
    waiting = [asyncio.create_task(locks.acquire("a", 10)) for _ in range(4)]
    await asyncio.sleep(0)
    waiting[0].cancel()
    waiting[2].cancel()
    locks.release("a")
    await waiting[1]
    locks.release("a")
    await waiting[3]
    locks.release("a")
    assert len(locks) == 0
    assert waiting[0].cancelled()
    assert waiting[2].cancelled()


async def test_cancelled_in_the_moment_of_the_grant() -> None:
    locks = FairLocks()
    await locks.acquire("a", 10)
    waiting = [asyncio.create_task(locks.acquire("a", 10)) for _ in range(2)]
    await asyncio.sleep(0)
    locks.release("a")
    waiting[0].cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting[0]
    await waiting[1]
    locks.release("a")
    assert len(locks) == 0


async def test_a_siege_leaves_nothing_behind() -> None:
    locks = FairLocks()
    await locks.acquire("a", 10)
    for _ in range(200):
        with pytest.raises(TimeoutError):
            await locks.acquire("a", 0)
    gc.collect()
    assert not locks._waiting["a"]
    locks.release("a")


async def test_one_holder_at_a_time_whatever_is_cancelled() -> None:
    locks = FairLocks()
    draw = random.Random(7)
    holders = 0
    uses = 0

    async def use() -> None:
        nonlocal holders, uses
        await locks.acquire("a", draw.choice([0.0, 0.001, 10]))
        holders += 1
        uses += 1
        try:
            assert holders == 1
            await asyncio.sleep(draw.choice([0, 0, 0.001]))
        finally:
            holders -= 1
            locks.release("a")

    tasks = [asyncio.create_task(use()) for _ in range(300)]
    while not all(task.done() for task in tasks):
        draw.choice(tasks).cancel()
        await asyncio.sleep(0)
    for task in tasks:
        assert task.cancelled() or task.exception() is None or isinstance(task.exception(), TimeoutError)
    assert uses
    assert len(locks) == 0
