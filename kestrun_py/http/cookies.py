"""Cookies as ASP.NET Core builds (CookieBuilder), writes (Set-Cookie) and reads them."""

from __future__ import annotations

import codecs
import string
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from enum import Enum
from typing import Any, Literal, TypeAlias
from urllib.parse import quote, unquote

from kestrun_py.conversion.enums import to_enum
from kestrun_py.conversion.timespan import Duration, to_seconds
from kestrun_py.errors import ArgumentError

__all__ = [
    "CookieBuilder",
    "CookieSecurePolicy",
    "CookieSecurePolicyText",
    "SameSiteMode",
    "SameSiteText",
    "read_cookie",
    "read_cookies",
]

_TOKEN = string.ascii_letters + string.digits + "!#$%&'*+-.^_`|~"
_OCTETS = "".join(chr(code) for code in range(0x21, 0x7F) if chr(code) not in '",;\\')
_SPACE = " \t"


class SameSiteMode(Enum):
    """When a browser sends the cookie with requests that other sites cause."""

    UNSPECIFIED = -1
    NONE = 0
    LAX = 1
    STRICT = 2


SameSiteText: TypeAlias = Literal["Unspecified", "None", "Lax", "Strict"]


class CookieSecurePolicy(Enum):
    """When the cookie is sent over https only."""

    SAME_AS_REQUEST = 0
    ALWAYS = 1
    NONE = 2


CookieSecurePolicyText: TypeAlias = Literal["SameAsRequest", "Always", "None"]


def _name(value: str | None) -> str | None:
    if value is not None and (not value or value.strip(_TOKEN)):
        raise ArgumentError(
            f"Invalid cookie name: {value!r:.60}. It is made of letters, digits and !#$%&'*+-.^_`|~ signs."
        )
    return value


def _attribute(value: str | None, name: str) -> str | None:
    """An attribute's text goes into the header as it is, so it must not end the attribute or the header."""
    if value is not None and (not (value.isascii() and value.isprintable()) or ";" in value):
        raise ArgumentError(f"{name}: {value!r:.60} may hold neither ';' nor control or non-ASCII characters.")
    return value


def _path(value: str | None) -> str | None:
    if value is not None and not value.startswith("/"):
        raise ArgumentError(f"path: {value!r:.60} must start with '/'.")
    return _attribute(value, "path")


def _extensions(value: Sequence[str] | str | None) -> tuple[str, ...]:
    given = (value,) if isinstance(value, str) else tuple(value or ())
    for extension in given:
        if not extension.strip():
            raise ArgumentError("extensions: an extension is text such as 'Partitioned' or 'Priority=High'.")
        _attribute(extension, "extensions")
    return given


def _span(value: Duration | None, name: str) -> float | None:
    return None if value is None else to_seconds(value, name)


_CONVERTERS: dict[str, Callable[[Any], object]] = {
    "name": _name,
    "domain": lambda value: _attribute(value, "domain"),
    "path": _path,
    "http_only": bool,
    "is_essential": bool,
    "max_age": lambda value: _span(value, "max_age"),
    "expiration": lambda value: _span(value, "expiration"),
    "secure_policy": lambda value: to_enum(CookieSecurePolicy, value, "secure_policy"),
    "same_site": lambda value: to_enum(SameSiteMode, value, "same_site"),
    "extensions": _extensions,
}


@dataclass(kw_only=True)
class CookieBuilder:
    """How a cookie is sent; the defaults are ASP.NET Core's plain CookieBuilder's.

    An attribute is checked and converted when it is set, at construction or later; `validate` checks several of
    them together.

    Attributes:
        name: An HTTP token.
        domain: Hosts that get the cookie; None: only the one that set it.
        path: Paths that get the cookie; None: ``/``.
        http_only: Scripts in the browser cannot read it.
        is_essential: A consent policy must not hold it back.
        max_age: Life time, as `Duration` (kept as seconds); None: until the browser closes.
        expiration: Life time, sent as a date.
        secure_policy: Member or text (``"SameAsRequest"``, ``"Always"``, ``"None"``).
        same_site: Member or text (``"Unspecified"``, ``"None"``, ``"Lax"``, ``"Strict"``).
        extensions: Further attributes, sent as they are, such as ``"Partitioned"``.

    Raises:
        ArgumentError: A value that no cookie can have.
    """

    name: str | None = None
    domain: str | None = None
    path: str | None = None
    http_only: bool = False
    is_essential: bool = False
    max_age: Duration | None = None
    expiration: Duration | None = None
    secure_policy: CookieSecurePolicy | CookieSecurePolicyText = CookieSecurePolicy.SAME_AS_REQUEST
    same_site: SameSiteMode | SameSiteText = SameSiteMode.UNSPECIFIED
    extensions: Sequence[str] = ()

    def __setattr__(self, name: str, value: object) -> None:
        if name not in _CONVERTERS:
            known = ", ".join(_CONVERTERS)
            raise ArgumentError(f"A cookie has no attribute {name!r}; it has {known}.")
        super().__setattr__(name, _CONVERTERS[name](value))

    def validate(self, *, serves_http: bool = True, serves_https: bool = True) -> list[str]:
        """Checks what browsers demand of the attributes together.

        Args:
            serves_http: Whether the host has an endpoint without TLS.
            serves_https: Whether the host has an endpoint with TLS.

        Returns:
            Warnings of what works but is unsafe, or fails on some endpoint.

        Raises:
            ArgumentError: No name, or a combination that every browser refuses on every endpoint.
        """
        if self.name is None:
            raise ArgumentError("A cookie needs a name: new_kr_cookie_builder(name='...').")
        warnings = self._check_secure(serves_http, serves_https)
        if not self.http_only:
            warnings.append(f"The cookie '{self.name}' is not http_only: scripts in the page can read it.")
        if serves_https and self.secure_policy is CookieSecurePolicy.NONE:
            warnings.append(
                f"The cookie '{self.name}' is never Secure, though the host serves https: "
                "set secure_policy to 'Always'."
            )
        return warnings

    def _check_secure(self, serves_http: bool, serves_https: bool) -> list[str]:
        warnings = []
        follows_request = self.secure_policy is CookieSecurePolicy.SAME_AS_REQUEST
        for reason in self._reasons_for_secure():
            text = f"The cookie '{self.name}' {reason} and must also be Secure"
            if self.secure_policy is CookieSecurePolicy.NONE:
                raise ArgumentError(f"{text}: set secure_policy to 'Always'.")
            if follows_request and not serves_https:
                raise ArgumentError(
                    f"{text}, which it never is on a host without an https endpoint: add one, or set secure_policy to "
                    "'Always' if a proxy before it speaks https."
                )
            if follows_request and serves_http:
                warnings.append(f"{text}: over plain http browsers will refuse it.")
        if follows_request and serves_http and serves_https and not warnings:
            warnings.append(
                f"The cookie '{self.name}' is not Secure in answers of the http endpoint, so browsers send it over "
                "plain http too: set secure_policy to 'Always', or serve https only."
            )
        return warnings

    def _reasons_for_secure(self) -> list[str]:
        reasons = []
        prefix = (self.name or "").lower()
        if prefix.startswith("__host-"):
            if self.domain is not None or self.path not in (None, "/"):
                raise ArgumentError(
                    f"The cookie '{self.name}' must have path '/' and no domain, because its name begins with __Host-."
                )
            reasons.append("has a name that begins with __Host-")
        if prefix.startswith("__secure-"):
            reasons.append("has a name that begins with __Secure-")
        if self.same_site is SameSiteMode.NONE:
            reasons.append("has set 'SameSite=None'")
        if any(extension.strip().lower() == "partitioned" for extension in self.extensions):
            reasons.append("is Partitioned")
        return reasons

    def set_cookie_header(self, value: str, *, is_https: bool, now: datetime | None = None) -> str:
        """The text of a Set-Cookie header.

        Args:
            value: The value; escaped as ASP.NET does (``Uri.EscapeDataString``).
            is_https: Whether the request came over https.
            now: The time that `expiration` is counted from; left out, the present.
        """
        parts = [f"{self.name}={quote(value, safe='', errors='replace')}"]
        if self.expiration is not None:
            parts.append(f"expires={_expires(now or datetime.now(UTC), to_seconds(self.expiration))}")
        if self.max_age is not None:
            parts.append(f"max-age={int(to_seconds(self.max_age))}")
        return "; ".join(parts + self._attributes(is_https))

    def delete_cookie_header(self, *, is_https: bool) -> str:
        """The text of a Set-Cookie header, same attributes, that makes the browser forget the cookie."""
        gone = [f"{self.name}=", "expires=Thu, 01 Jan 1970 00:00:00 GMT"]
        return "; ".join(gone + self._attributes(is_https))

    def is_secure(self, *, is_https: bool) -> bool:
        """Whether the cookie is sent with Secure in answer to a request."""
        policy = self.secure_policy
        return policy is CookieSecurePolicy.ALWAYS or (policy is CookieSecurePolicy.SAME_AS_REQUEST and is_https)

    def _attributes(self, is_https: bool) -> list[str]:
        attributes = [] if self.domain is None else [f"domain={self.domain}"]
        attributes.append(f"path={self.path or '/'}")
        if self.is_secure(is_https=is_https):
            attributes.append("secure")
        if isinstance(self.same_site, SameSiteMode) and self.same_site is not SameSiteMode.UNSPECIFIED:
            attributes.append(f"samesite={self.same_site.name.lower()}")
        if self.http_only:
            attributes.append("httponly")
        return [*attributes, *self.extensions]


def _expires(now: datetime, seconds: float) -> str:
    try:
        moment = now + timedelta(seconds=seconds)
    except OverflowError:
        moment = datetime.max.replace(tzinfo=UTC) if seconds > 0 else datetime.min.replace(tzinfo=UTC)
    return format_datetime(moment.astimezone(UTC), usegmt=True)


def read_cookie(header: str, name: str) -> str | None:
    """Reads a cookie from a Cookie header as ASP.NET Core does, in time linear in the header's length.

    The header is split at ``;`` and ``,``. Pieces that are not cookies are skipped. Names compare in any case, the last
    of several cookies counts, an empty value counts as none, ``%XX`` is unescaped and quotes are kept.

    Args:
        header: The header's text; several headers are joined with ``; ``.
        name: The cookie's name.

    Returns:
        The value, or None.
    """
    wanted = name.lower()
    if wanted not in header.lower():
        return None
    for segment in reversed(header.replace(",", ";").split(";")):
        if wanted in segment.lower():
            found, value = _parse_segment(segment.strip(_SPACE))
            if value and found.lower() == wanted:
                return unquote(value, errors=_KEEP) if "%" in value else value
    return None


def read_cookies(header: str, name: str, *, limit: int) -> tuple[str, ...]:
    """Reads the cookies of exactly one name from a Cookie header, in time linear in the header's length.

    Unlike `read_cookie`, it accepts only well-formed pairs (RFC 6265, ``name=value`` between semicolons, name in the
    same case), so that no other cookie's value can pass for a cookie of this name. ``%XX`` is unescaped.

    Args:
        header: The header's text; several headers are joined with ``; ``.
        name: The cookies' name.
        limit: The most values that are returned.

    Returns:
        The different values in the order of the header; browsers put the cookie with the longest path first.
    """
    values: dict[str, None] = {}
    for pair in header.split(";"):
        found, _, value = pair.strip(_SPACE).partition("=")
        if found == name and value and _is_well_formed(value):
            values[unquote(value, errors=_KEEP) if "%" in value else value] = None
            if len(values) == limit:
                break
    return tuple(values)


def _is_well_formed(value: str) -> bool:
    quoted = len(value) > 1 and value[0] == value[-1] == '"'
    return not (value[1:-1] if quoted else value).strip(_OCTETS)


def _parse_segment(text: str) -> tuple[str, str]:
    """The cookie of a segment between separators, or two empty texts.

    Of all its ends that read ``token=value`` the longest one is the cookie: ASP.NET tries again one character
    further on until the rest fits.
    """
    if text.endswith('"'):
        return _parse_quoted(text)
    start = len(text.rstrip(_OCTETS))
    if text[:start].endswith('="') and text[start - 3 : start - 2] in _TOKEN_SET:
        return "", ""  # an opening quote that is never closed takes the rest with it
    equals = text.find("=", start)
    while equals >= 0:
        if equals > start and text[equals - 1] in _TOKEN_SET:
            return _last_token(text[start:equals]), text[equals + 1 :]
        equals = text.find("=", equals + 1)
    return "", ""


def _parse_quoted(text: str) -> tuple[str, str]:
    opening = text.rfind('"', 0, -1)
    value = text[opening:]
    if opening < 1 or text[opening - 1] != "=" or value[1:-1].strip(_OCTETS):
        return "", ""
    return _last_token(text[: opening - 1]), value


def _last_token(text: str) -> str:
    return text[len(text.rstrip(_TOKEN)) :]


def _keep_escaped(error: UnicodeError) -> tuple[str, int]:
    """Bytes that are no UTF-8 stay escaped, as in ``Uri.UnescapeDataString``."""
    if not isinstance(error, UnicodeDecodeError):
        raise error
    return "".join(f"%{byte:02X}" for byte in error.object[error.start : error.end]), error.end


_TOKEN_SET = frozenset(_TOKEN)
_KEEP = "kestrun_py.keep_escaped"
codecs.register_error(_KEEP, _keep_escaped)
