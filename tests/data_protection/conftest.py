"""Fixtures of the data protection tests."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from key_ring_support import Clock, Log, Store


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def log() -> Log:
    return Log()


@pytest.fixture
def store() -> Store:
    return Store()


@pytest.fixture(scope="session")
def vectors() -> dict[str, Any]:
    text = Path(__file__).with_name("aspnet_vectors.json").read_text(encoding="utf-8")
    found: dict[str, Any] = json.loads(text)
    return found
