"""The host's verb for cookies."""

from __future__ import annotations

from collections.abc import Sequence

from kestrun_py.conversion.timespan import Duration
from kestrun_py.hosting.base import HostBase
from kestrun_py.http.cookies import (
    CookieBuilder,
    CookieSecurePolicy,
    CookieSecurePolicyText,
    SameSiteMode,
    SameSiteText,
)

__all__ = ["CookieVerbs"]


class CookieVerbs(HostBase):
    """The part of `KestrunHost` that describes cookies."""

    def new_cookie_builder(
        self,
        name: str | None = None,
        *,
        domain: str | None = None,
        path: str | None = None,
        http_only: bool = False,
        is_essential: bool = False,
        max_age: Duration | None = None,
        expiration: Duration | None = None,
        secure_policy: CookieSecurePolicy | CookieSecurePolicyText = CookieSecurePolicy.SAME_AS_REQUEST,
        same_site: SameSiteMode | SameSiteText = SameSiteMode.UNSPECIFIED,
        extensions: Sequence[str] = (),
    ) -> CookieBuilder:
        """Describes a cookie, as Kestrun's ``New-KrCookieBuilder``; see `CookieBuilder` for the attributes."""
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
