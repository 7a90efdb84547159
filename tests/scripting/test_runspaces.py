"""The worker threads of def scripts: how many, in which context, and how they end."""

from __future__ import annotations

import asyncio
import contextvars
import os
import threading
import time
import weakref
from collections.abc import Iterator
from concurrent.futures import CancelledError
from functools import partial

import pytest
from waiting import until

from kestrun_py.concurrency.bridge import can_wait, wait
from kestrun_py.errors import ArgumentError, InvalidOperationError
from kestrun_py.scripting import runspaces
from kestrun_py.scripting.runspaces import RunspacePool

variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")


@pytest.fixture
def pool() -> Iterator[RunspacePool]:
    """A pool of at most three threads; the test starts it."""
    made = RunspacePool()
    made.resize(3)
    yield made
    made.close()


class Gauge:
    """How many are inside at once, and a gate that keeps them there."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.gate = threading.Event()
        self.inside = self.most = 0

    def enter(self) -> None:
        with self.lock:
            self.inside += 1
            self.most = max(self.most, self.inside)
        self.gate.wait(30)
        with self.lock:
            self.inside -= 1


async def test_no_more_than_max_runspaces_run_at_once_and_all_run(pool: RunspacePool) -> None:
    pool.start()
    gauge = Gauge()
    jobs = [asyncio.create_task(pool.run(gauge.enter)) for _ in range(20)]
    await until(lambda: gauge.inside == 3)
    assert len(pool._threads) == 3
    gauge.gate.set()
    await asyncio.gather(*jobs)
    assert (gauge.most, gauge.inside) == (3, 0)


async def test_blocked_scripts_stall_nobody_on_the_loop(pool: RunspacePool) -> None:
    pool.start()
    gauge = Gauge()
    jobs = [asyncio.create_task(pool.run(gauge.enter)) for _ in range(5)]
    await until(lambda: gauge.inside == 3)
    started = time.monotonic()
    for _ in range(100):
        await asyncio.sleep(0)
    assert time.monotonic() - started < 5
    gauge.gate.set()
    await asyncio.gather(*jobs)


async def test_one_script_after_the_other_needs_one_thread(pool: RunspacePool) -> None:
    pool.start()
    threads = {await pool.run(threading.get_ident) for _ in range(10)}
    assert len(threads) == len(pool._threads) == 1


async def test_min_runspaces_start_at_once() -> None:
    pool = RunspacePool()
    pool.resize(4, 2)
    pool.start()
    assert len(pool._threads) == 2
    pool.close()


def test_the_default_is_two_per_processor() -> None:
    pool = RunspacePool()
    assert (pool._min_runspaces, pool._max_runspaces) == (1, 2 * (os.cpu_count() or 1))


@pytest.mark.parametrize(
    ("maximum", "minimum", "text"),
    [
        (0, None, "max_runspaces must be at least 1, not 0"),
        (-1, None, "max_runspaces must be at least 1, not -1"),
        (2, 3, r"min_runspaces must be between 0 and max_runspaces \(2\), not 3"),
        (None, -1, "min_runspaces must be between 0"),
        ("4", None, "max_runspaces must be an integer, not '4'"),
        (2.5, None, "max_runspaces must be an integer, not 2.5"),
        (4, True, "min_runspaces must be an integer, not True"),
    ],
)
def test_bounds_that_make_no_sense(maximum: int | None, minimum: int | None, text: str) -> None:
    with pytest.raises(ArgumentError, match=text):
        RunspacePool().resize(maximum, minimum)


async def test_results_and_errors_come_back(pool: RunspacePool) -> None:
    pool.start()
    assert await pool.run(lambda: 42) == 42
    error = ValueError("wrong")

    def fail() -> None:
        raise error

    with pytest.raises(ValueError, match="wrong") as caught:
        await pool.run(fail)
    assert caught.value is error
    assert await pool.run(lambda: 43) == 43


@pytest.mark.parametrize(("raised", "arrives"), [(StopIteration(), RuntimeError), (SystemExit(3), SystemExit)])
async def test_odd_errors_come_back_too(
    raised: BaseException, arrives: type[BaseException], pool: RunspacePool
) -> None:
    pool.start()

    def fail() -> None:
        raise raised

    with pytest.raises(arrives):
        await pool.run(fail)
    assert await pool.run(lambda: "works still") == "works still"


async def test_a_script_runs_in_a_copy_of_its_callers_context(pool: RunspacePool) -> None:
    pool.start()

    def script() -> str:
        seen = variable.get()
        variable.set("script")
        return seen

    token = variable.set("caller")
    try:
        assert await pool.run(script) == "caller"
        assert variable.get() == "caller"
    finally:
        variable.reset(token)
    assert await pool.run(variable.get) == "unset"


async def test_a_script_can_wait_and_its_thread_cannot_afterwards(pool: RunspacePool) -> None:
    pool.start()
    assert await pool.run(lambda: wait(asyncio.sleep(0, "slept"))) == "slept"
    assert await pool.run(can_wait) is True
    assert not can_wait()


async def test_a_thread_that_waits_for_the_loop_does_not_count() -> None:
    pool = RunspacePool()
    pool.resize(1)
    pool.start()
    events = [asyncio.Event() for _ in range(5)]
    waiting = [asyncio.create_task(pool.run(partial(wait, event.wait()))) for event in events]
    loop = asyncio.get_running_loop()
    for event in events:  # each is set by a script that could not run if those that wait kept the only place
        await pool.run(partial(loop.call_soon_threadsafe, event.set))
    assert await asyncio.gather(*waiting) == [True] * 5
    await until(lambda: len(pool._threads) == 1)
    gauge = Gauge()
    jobs = [asyncio.create_task(pool.run(gauge.enter)) for _ in range(4)]
    await until(lambda: gauge.inside == 1)
    gauge.gate.set()
    await asyncio.gather(*jobs)
    assert gauge.most == 1
    pool.close()


@pytest.mark.parametrize("most", [1, 3])
async def test_whoever_has_waited_takes_a_place_again_before_it_goes_on(most: int) -> None:
    pool = RunspacePool()
    pool.resize(most)
    pool.start()
    gauge = Gauge()
    answers = [asyncio.Event() for _ in range(20)]

    def script(answer: asyncio.Event) -> None:
        wait(answer.wait())
        gauge.enter()

    jobs = [asyncio.create_task(pool.run(partial(script, answer))) for answer in answers]
    await until(lambda: pool._lent == 20)
    for answer in answers:
        answer.set()
    await until(lambda: gauge.inside == most)
    newcomer = asyncio.create_task(pool.run(lambda: "late"))
    await asyncio.sleep(0.05)
    assert (gauge.inside, newcomer.done()) == (most, False)
    gauge.gate.set()
    await asyncio.gather(*jobs, newcomer)
    assert gauge.most == most
    await until(lambda: len(pool._threads) == most)
    assert (pool._places, pool._lent) == (most, 0)
    pool.close()


async def test_so_many_may_wait_and_no_more(pool: RunspacePool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runspaces, "_MOST_LENT", 5)
    pool.start()
    answer = asyncio.Event()
    jobs = [asyncio.create_task(pool.run(partial(wait, answer.wait()))) for _ in range(20)]
    await until(lambda: pool._lent >= 5 and pool._places == 3)
    assert len(pool._threads) == pool._lent <= 7
    answer.set()
    assert await asyncio.gather(*jobs) == [True] * 20


async def test_who_has_waited_gets_a_place_however_many_wait(
    pool: RunspacePool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As with the lock of one session: each script waits for the one before it."""
    monkeypatch.setattr(runspaces, "_MOST_LENT", 5)
    pool.start()
    turns = [asyncio.Event() for _ in range(20)]
    jobs = [asyncio.create_task(pool.run(partial(wait, turn.wait()))) for turn in turns]
    await until(lambda: pool._lent >= 5 and pool._places == 3)
    for turn, job in zip(turns, jobs, strict=True):
        turn.set()
        async with asyncio.timeout(30):
            assert await job


@pytest.mark.parametrize("ends", ["error", "timeout", "cancelled"])
async def test_a_wait_that_ends_badly_gives_its_place_back(ends: str, pool: RunspacePool) -> None:
    pool.start()
    future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    job = asyncio.create_task(pool.run(partial(wait, future)))
    await until(lambda: pool._lent == 1)
    if ends == "cancelled":
        future.cancel()
    else:
        future.set_exception(ValueError("wrong") if ends == "error" else TimeoutError("late"))
    with pytest.raises((ValueError, TimeoutError, CancelledError)):
        await job
    await until(lambda: pool._places == 3)
    assert pool._lent == 0


async def test_brief_scripts_share_a_thread(pool: RunspacePool) -> None:
    pool.start()
    threads: set[int] = set()
    for _ in range(20):
        threads.update(await asyncio.gather(*(pool.run(threading.get_ident) for _ in range(16))))
    assert len(threads) <= 2  # one, and another if the machine was busy
    assert (pool._places, len(pool._line)) == (3, 0)


async def test_a_slow_one_among_them_holds_up_nobody(pool: RunspacePool) -> None:
    pool.start()
    await asyncio.gather(*(pool.run(threading.get_ident) for _ in range(50)))
    gauge = Gauge()
    slow = [asyncio.create_task(pool.run(gauge.enter)) for _ in range(2)]
    brief = await asyncio.gather(*(pool.run(lambda: "brief") for _ in range(50)))
    assert (brief, [job.done() for job in slow]) == (["brief"] * 50, [False, False])
    gauge.gate.set()
    await asyncio.gather(*slow)


async def test_a_caller_that_gives_up_leaves_the_pool_in_order(pool: RunspacePool) -> None:
    pool.start()
    gauge = Gauge()
    ran: list[str] = []
    jobs = [asyncio.create_task(pool.run(gauge.enter)) for _ in range(3)]
    await until(lambda: gauge.inside == 3)
    waiting = asyncio.create_task(pool.run(lambda: ran.append("waiting")))
    await asyncio.sleep(0)
    for job in (*jobs, waiting):
        job.cancel()
    await asyncio.gather(*jobs, waiting, return_exceptions=True)
    gauge.gate.set()
    assert await pool.run(lambda: "works still") == "works still"
    await until(lambda: pool._places == 3)
    assert ran == []  # nobody was there to hear its answer


async def test_nothing_of_a_script_outlives_it(pool: RunspacePool) -> None:
    pool.start()

    class Thing:
        pass

    async def request() -> weakref.ref[Thing]:
        thing = Thing()
        await pool.run(lambda: thing)
        return weakref.ref(thing)

    reference = await asyncio.create_task(request())
    await until(lambda: reference() is None)


async def test_closing_ends_the_threads_when_their_scripts_have_ended() -> None:
    pool = RunspacePool()
    pool.resize(2)
    pool.start()
    gauge = Gauge()
    jobs = [asyncio.create_task(pool.run(gauge.enter)) for _ in range(2)]
    await until(lambda: gauge.inside == 2)
    threads = list(pool._threads)
    pool.close()
    assert all(thread.is_alive() and thread.daemon for thread in threads)
    gauge.gate.set()
    await asyncio.gather(*jobs)
    await until(lambda: not any(thread.is_alive() for thread in threads))


async def test_a_closed_pool_runs_nothing_and_keeps_nobody_waiting() -> None:
    pool = RunspacePool()
    pool.resize(1)
    pool.start()
    gauge = Gauge()
    running, waiting = [asyncio.create_task(pool.run(gauge.enter)) for _ in range(2)]
    await until(lambda: gauge.inside == 1)
    pool.close()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    with pytest.raises(InvalidOperationError, match="The host has stopped"):
        await pool.run(gauge.enter)
    gauge.gate.set()
    await running


def test_a_script_that_outlives_its_loop_ends_in_silence() -> None:
    gauge = Gauge()
    threads: list[threading.Thread] = []

    async def serve() -> None:
        pool = RunspacePool()
        pool.start()
        job = asyncio.create_task(pool.run(gauge.enter))
        await until(lambda: gauge.inside == 1)
        threads.extend(pool._threads)
        job.cancel()
        pool.close()

    asyncio.run(serve())
    gauge.gate.set()
    threads[0].join(30)
    assert not threads[0].is_alive()
