"""Tests that wait for real time to pass: all of them wait at the same time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import AbstractAsyncContextManager
from typing import TypeAlias

import pytest

from kestrun_py.caching import DistributedCache

Check: TypeAlias = Callable[[DistributedCache], Awaitable[None]]
Opener: TypeAlias = Callable[[], AbstractAsyncContextManager[DistributedCache]]

CHECKS: dict[str, Check] = {}


class Outcomes:
    """What became of the checks, by their names and the kind of cache."""

    def __init__(self, found: dict[tuple[str, str], BaseException | None]) -> None:
        self._found = found

    def show(self, name: str, kind: str) -> None:
        """Raises what the check has raised."""
        error = self._found[name, kind]
        if error is not None:
            raise error


def overlapping(check: Check) -> Callable[[str, Outcomes], None]:
    """Makes a test of a check. The first such test runs all checks that were selected, each on a cache of its own."""
    name: str = check.__name__
    CHECKS[name] = check

    def test(overlapping_kind: str, outcomes: Outcomes) -> None:
        outcomes.show(name, overlapping_kind)

    test.__name__ = name
    return test


async def run_checks(selected: Iterable[tuple[str, str]], openers: Mapping[str, Opener]) -> Outcomes:
    """Runs checks by name and kind of cache, once all their caches are there."""
    wanted = list(selected)
    opened = asyncio.Barrier(len(wanted))

    async def run(name: str, kind: str) -> None:
        opener = openers[kind]()
        try:
            cache = await opener.__aenter__()
            await cache.ping()
        finally:
            await opened.wait()
        try:
            await CHECKS[name](cache)
        finally:
            await opener.__aexit__(None, None, None)

    tasks = [asyncio.ensure_future(_outcome(run(name, kind))) for name, kind in wanted]
    return Outcomes(dict(zip(wanted, await asyncio.gather(*tasks), strict=True)))


async def _outcome(running: Awaitable[None]) -> BaseException | None:
    try:
        await running
    except (Exception, pytest.skip.Exception, pytest.fail.Exception) as error:
        return error
    return None
