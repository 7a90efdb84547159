"""The options of sessions: defaults, ranges, and cookies that browsers would refuse."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from recording_log import Log

from kestrun_py import KestrunHost
from kestrun_py.errors import ArgumentError, InvalidOperationError
from kestrun_py.http.cookies import CookieBuilder, CookieSecurePolicy, SameSiteMode
from kestrun_py.sessions import CacheFailurePolicy, SessionLock, SessionOptions


def test_defaults() -> None:
    options = SessionOptions.of()
    assert options.idle_timeout == 20 * 60
    assert options.io_timeout == 10
    assert options.absolute_timeout is None
    assert options.lock is SessionLock.EXCLUSIVE
    assert options.on_cache_failure is CacheFailurePolicy.FAIL
    assert options.max_size == 1024 * 1024
    assert options.cookie == CookieBuilder(
        name=".AspNetCore.Session",
        path="/",
        http_only=True,
        same_site=SameSiteMode.LAX,
        secure_policy=CookieSecurePolicy.SAME_AS_REQUEST,
    )


@pytest.mark.parametrize("name", ["idle_timeout", "io_timeout", "absolute_timeout"])
@pytest.mark.parametrize(
    ("value", "seconds"),
    [(20, 20), (0.25, 0.25), (timedelta(minutes=2), 120), ("00:20:00", 1200), ("1h30m", 5400), ("250ms", 0.25)],
)
def test_durations(name: str, value: Any, seconds: float) -> None:
    assert getattr(SessionOptions.of(**{name: value}), name) == seconds


@pytest.mark.parametrize("name", ["idle_timeout", "io_timeout", "absolute_timeout"])
@pytest.mark.parametrize("value", [0, -1, "00:00:00", timedelta(seconds=-5), "soon", float("nan")])
def test_a_duration_is_positive(name: str, value: Any) -> None:
    with pytest.raises(ArgumentError, match=name):
        SessionOptions.of(**{name: value})


@pytest.mark.parametrize("value", [63, 0, -1])
def test_a_size_limit_has_room_for_something(value: int) -> None:
    with pytest.raises(ArgumentError, match=f"max_size must be at least 64 bytes, not {value}"):
        SessionOptions.of(max_size=value)


@pytest.mark.parametrize("value", ["1MB", 1e6, True])
def test_a_size_limit_is_a_number(value: Any) -> None:
    with pytest.raises(ArgumentError, match=f"max_size must be a number of bytes, not {value!r}"):
        SessionOptions.of(max_size=value)


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"cookie": CookieBuilder()}, "needs a name"),
        ({"cookie": CookieBuilder(name="a", expiration=3)}, "Expiration cannot be set"),
        ({"cookie": CookieBuilder(name="a", same_site="None", secure_policy="None")}, "SameSite=None"),
        ({"cookie": "Kr.Session"}, "'Kr.Session' is not what new_cookie_builder"),
        ({"idle_timeout": -1}, "idle_timeout must be positive"),
        ({"io_timeout": 0}, "io_timeout must be positive"),
        ({"absolute_timeout": 0}, "absolute_timeout must be positive"),
        ({"lock": "shared"}, "lock: 'shared'"),
        ({"on_cache_failure": None}, "on_cache_failure: None"),
        ({"max_size": 1}, "at least 64 bytes"),
    ],
)
def test_options_made_without_of_are_checked_as_well(change: dict[str, Any], error: str) -> None:
    with pytest.raises(ArgumentError, match=error):
        replace(SessionOptions.of(), **change)


def test_a_cookie_that_is_changed_later_is_not_the_sessions() -> None:
    cookie = CookieBuilder(name="a")
    options = SessionOptions.of(cookie=cookie)
    cookie.name, cookie.expiration = None, 60
    assert options.cookie == CookieBuilder(name="a")


def test_choices_by_name() -> None:
    options = SessionOptions.of(lock="None", on_cache_failure="CONTINUE")  # type: ignore[arg-type]
    assert options.lock is SessionLock.NONE
    assert options.on_cache_failure is CacheFailurePolicy.CONTINUE
    for name in ("lock", "on_cache_failure"):
        with pytest.raises(ArgumentError, match=name):
            SessionOptions.of(**{name: "sometimes"})  # type: ignore[arg-type]


@pytest.mark.parametrize(("io_timeout", "lease"), [(0.1, 5), (10, 5), (30, 15), (60, 30), (600, 30)])
def test_lease_time(io_timeout: float, lease: float) -> None:
    assert SessionOptions.of(io_timeout=io_timeout).lease_time == lease


@pytest.mark.parametrize(
    ("attributes", "error"),
    [
        ({}, "needs a name"),
        ({"name": "a", "expiration": 60}, "Expiration cannot be set for the cookie defined by SessionOptions"),
        ({"name": "a", "same_site": "None", "secure_policy": "None"}, "SameSite=None"),
        ({"name": "__Host-a", "secure_policy": "None"}, "__Host-"),
        ({"name": "__Host-a", "secure_policy": "Always", "domain": "example.com"}, "__Host-"),
        ({"name": "__Host-a", "secure_policy": "Always", "path": "/app"}, "__Host-"),
        ({"name": "__Secure-a", "secure_policy": "None"}, "__Secure-"),
        ({"name": "a", "secure_policy": "None", "extensions": ["Partitioned"]}, "Partitioned"),
    ],
)
def test_cookies_that_browsers_refuse(attributes: dict[str, Any], error: str) -> None:
    host = KestrunHost("test")
    with pytest.raises(ArgumentError, match=error):
        host.add_session(cookie=CookieBuilder(**attributes))


@pytest.mark.parametrize("name", ["", "a b", "a;b", "ü", "a\r\nb", "a=b"])
def test_names_that_no_cookie_has(name: str) -> None:
    with pytest.raises(ArgumentError, match="Invalid cookie name"):
        KestrunHost("test").new_cookie_builder(name=name)


@pytest.mark.parametrize(
    ("attributes", "https", "warning"),
    [
        ({"http_only": False}, False, "not http_only"),
        ({"secure_policy": "None"}, True, "never Secure"),
        ({"same_site": "None"}, True, None),
        ({"secure_policy": "None"}, False, None),
        ({}, True, None),
        ({"secure_policy": "Always"}, True, None),
    ],
)
def test_unsafe_cookies_are_warned_of(attributes: dict[str, Any], https: bool, warning: str | None) -> None:
    log = Log()
    host = KestrunHost("test", logger=log.logger)
    host.add_endpoint(port=0, self_signed_cert=https)
    host.add_session(cookie=CookieBuilder(**{"name": "a", "http_only": True, "same_site": "Lax", **attributes}))
    host.enable_configuration()
    assert len(log.alarms) == (warning is not None)
    assert warning is None or warning in log.alarms[0]


@pytest.mark.parametrize(("policy", "warns"), [("SameAsRequest", True), ("None", True), ("Always", False)])
def test_a_cookie_that_is_not_always_secure_on_a_host_with_http_and_https(policy: Any, warns: bool) -> None:
    log = Log()
    host = KestrunHost("test", logger=log.logger)
    host.add_endpoint(port=0).add_endpoint(port=0, self_signed_cert=True)
    host.add_session(cookie=CookieBuilder(name="a", http_only=True, same_site="Lax", secure_policy=policy))
    host.enable_configuration()
    assert len(log.alarms) == warns
    assert not warns or "Secure" in log.alarms[0]


@pytest.mark.parametrize("attributes", [{"name": "a", "same_site": "None"}, {"name": "__Host-a"}])
def test_a_cookie_that_must_be_secure_needs_an_https_endpoint(attributes: dict[str, Any]) -> None:
    def host(*https: bool) -> tuple[KestrunHost, Log]:
        log = Log()
        made = KestrunHost("test", logger=log.logger).add_session(cookie=CookieBuilder(http_only=True, **attributes))
        for one in https:
            made.add_endpoint(port=0, self_signed_cert=one)
        return made, log

    for places in ((), (False,), (False, False)):
        with pytest.raises(ArgumentError, match=r"must also be Secure, which it never is.*https endpoint"):
            host(*places)[0].enable_configuration()
    mixed, log = host(True, False)
    mixed.enable_configuration()
    (alarm,) = log.alarms
    assert "over plain http browsers will refuse it" in alarm


def test_a_second_session_configuration() -> None:
    host = KestrunHost("test").add_session()
    with pytest.raises(InvalidOperationError, match=r"already registered.*Only one session configuration"):
        host.add_session(idle_timeout=5)


def test_too_late() -> None:
    host = KestrunHost("test").enable_configuration()
    with pytest.raises(InvalidOperationError, match="add_session comes too late"):
        host.add_session()


def test_options_or_settings() -> None:
    with pytest.raises(ArgumentError, match="takes options or idle_timeout, not both"):
        KestrunHost("test").add_session(SessionOptions.of(), idle_timeout=3)


def test_a_host_that_may_not_use_memory() -> None:
    host = KestrunHost("test").add_session(no_distributed_memory_cache=True)
    with pytest.raises(InvalidOperationError, match="Sessions need a distributed cache"):
        host.enable_configuration()
