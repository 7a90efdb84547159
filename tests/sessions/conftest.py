"""Fixtures of the session tests."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from recording_log import Log
from session_support import Clock, Script, Sites, as_async_def, as_def


@pytest_asyncio.fixture
async def sites() -> AsyncIterator[Sites]:
    """Serves hosts; what it serves ends with the test."""
    async with AsyncExitStack() as stack:
        yield Sites(stack)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def log() -> Log:
    return Log()


@pytest.fixture(params=[as_def, as_async_def], ids=["def", "async def"])
def script(request: pytest.FixtureRequest) -> Script:
    """Makes a script of either kind from what works with a session."""
    make: Script = request.param
    return make


@pytest.fixture(scope="session")
def vectors() -> dict[str, Any]:
    path = Path(__file__).parents[1] / "data_protection" / "aspnet_vectors.json"
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found
