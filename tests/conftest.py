"""Fixtures of all tests: none leaves a trace in the user's home, or in the next test."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

from kestrun_py import host_registry
from kestrun_py.logging import close_all_loggers

pytest_plugins = ["no_skips", "golden_recordings"]

# The same examples in every run, and no verdict about how fast they are.
settings.register_profile(
    "suite", derandomize=True, database=None, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("suite")

_REDIRECTING = ("PORT", "ASPNETCORE_URLS", "ASPNETCORE_ENVIRONMENT", "DOTNET_ENVIRONMENT", "KESTRUN_WORKER")


@pytest.fixture(scope="session", autouse=True)
def _data_home_of_the_run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Fixtures that serve several tests write their keys here."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_DATA_HOME", str(tmp_path_factory.mktemp("data-home")))
        yield


@pytest.fixture(autouse=True)
def _own_environment(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test has a data directory of its own, and no variable that would move its endpoints."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path_factory.mktemp("data")))
    for name in _REDIRECTING:
        if name in os.environ:
            monkeypatch.delenv(name)


@pytest.fixture(autouse=True)
def _own_hosts_and_loggers(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Each test starts without registered hosts, and leaves no logger behind."""
    monkeypatch.setattr(host_registry, "_hosts", {})
    monkeypatch.setattr(host_registry, "_default", None)
    yield
    close_all_loggers()
