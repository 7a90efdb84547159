"""New-KrCookieBuilder."""

from __future__ import annotations

import inspect
from datetime import timedelta
from typing import Any

import pytest

from cmdlets import new_kr_cookie_builder
from kestrun_py import CookieBuilder, CookieSecurePolicy, SameSiteMode
from kestrun_py.errors import ArgumentError


def test_left_alone_it_is_aspnets_plain_builder() -> None:
    assert new_kr_cookie_builder() == CookieBuilder()


def test_every_attribute() -> None:
    cookie = new_kr_cookie_builder(
        "Kr.Session",
        domain="example.org",
        path="/app",
        http_only=True,
        is_essential=True,
        max_age="00:30:00",
        expiration=timedelta(hours=1),
        secure_policy="Always",
        same_site="Strict",
        extensions=["Partitioned"],
    )
    assert cookie == CookieBuilder(
        name="Kr.Session",
        domain="example.org",
        path="/app",
        http_only=True,
        is_essential=True,
        max_age=1800,
        expiration=3600,
        secure_policy=CookieSecurePolicy.ALWAYS,
        same_site=SameSiteMode.STRICT,
        extensions=["Partitioned"],
    )


def test_it_takes_what_a_cookie_builder_has() -> None:
    parameters = inspect.signature(new_kr_cookie_builder).parameters
    assert list(parameters) == list(inspect.signature(CookieBuilder).parameters)


@pytest.mark.parametrize(
    ("attribute", "text"),
    [
        ({"name": "a b"}, "Invalid cookie name: 'a b'"),
        ({"same_site": "Loose"}, "same_site: 'Loose' is not one of Unspecified, None, Lax, Strict"),
        ({"secure_policy": "Never"}, "secure_policy: 'Never' is not one of SameAsRequest, Always, None"),
        ({"max_age": "soon"}, "max_age: Invalid TimeSpan format: 'soon'"),
        ({"expiration": "1x"}, "expiration: Invalid TimeSpan format: '1x'"),
        ({"path": "app"}, "path: 'app' must start with '/'"),
    ],
)
def test_a_value_that_no_cookie_has(attribute: dict[str, Any], text: str) -> None:
    with pytest.raises(ArgumentError) as caught:
        new_kr_cookie_builder(**attribute)
    assert text in str(caught.value)
