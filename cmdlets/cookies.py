"""The cookie cmdlet: New-KrCookieBuilder."""

from __future__ import annotations

from collections.abc import Sequence

from kestrun_py.conversion.timespan import Duration
from kestrun_py.http.cookies import (
    CookieBuilder,
    CookieSecurePolicy,
    CookieSecurePolicyText,
    SameSiteMode,
    SameSiteText,
)

__all__ = ["new_kr_cookie_builder"]


def new_kr_cookie_builder(
    name: str | None = None,
    *,
    domain: str | None = None,
    path: str | None = None,
    http_only: bool = False,
    is_essential: bool = False,
    max_age: Duration | None = None,
    expiration: Duration | None = None,
    secure_policy: CookieSecurePolicy | CookieSecurePolicyText = "SameAsRequest",
    same_site: SameSiteMode | SameSiteText = "Unspecified",
    extensions: Sequence[str] = (),
) -> CookieBuilder:
    """Describes a cookie (New-KrCookieBuilder); see `CookieBuilder` for the attributes.

    Example:
        cookie = new_kr_cookie_builder(name="Kr.Session", http_only=True, same_site="Lax", secure_policy="Always")
    """
    return CookieBuilder(
        name=name,
        domain=domain,
        path=path,
        http_only=http_only,
        is_essential=is_essential,
        max_age=max_age,
        expiration=expiration,
        secure_policy=secure_policy,
        same_site=same_site,
        extensions=extensions,
    )
