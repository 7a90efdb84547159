"""The texts that type checkers accept for an enum are its members, each once."""

from __future__ import annotations

from enum import Enum
from typing import Any, get_args

import pytest

from kestrun_py import KestrunHost
from kestrun_py.conversion.enums import to_enum
from kestrun_py.hosting.base import EnvironmentText
from kestrun_py.http import cookies
from kestrun_py.logging import files, levels
from kestrun_py.routing import options as routes
from kestrun_py.routing import table
from kestrun_py.server import endpoints
from kestrun_py.sessions import options


@pytest.mark.parametrize(
    ("kind", "texts"),
    [
        (cookies.CookieSecurePolicy, cookies.CookieSecurePolicyText),
        (cookies.SameSiteMode, cookies.SameSiteText),
        (endpoints.HttpProtocols, endpoints.HttpProtocolsText),
        (files.RollingInterval, files.RollingIntervalText),
        (levels.LogLevel, levels.LogLevelText),
        (options.CacheFailurePolicy, options.CacheFailurePolicyText),
        (options.SessionLock, options.SessionLockText),
        (routes.SessionAccess, routes.SessionAccessText),
        (table.DuplicateAction, table.DuplicateActionText),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_texts_are_members(kind: type[Enum], texts: Any) -> None:
    assert {to_enum(kind, text, "text") for text in get_args(texts)} == {*kind}
    assert len(get_args(texts)) == len(kind)
    assert {to_enum(kind, text.upper(), "text") for text in get_args(texts)} == {*kind}


@pytest.mark.parametrize("environment", get_args(EnvironmentText))
def test_environments(environment: EnvironmentText) -> None:
    assert KestrunHost("a", environment=environment).environment == environment.replace("Auto", "Production")
