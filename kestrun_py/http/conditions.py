"""Conditional requests (RFC 9110, section 13): validators, and what a request's conditions say of them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import format_datetime, parsedate_to_datetime
from typing import Final

from aiohttp import hdrs

from kestrun_py.errors import ArgumentError

__all__ = ["Validators", "evaluate", "http_date", "if_range_matches", "parse_http_date"]

_TAG: Final = re.compile(r'\s*((?:W/)?"[\x21\x23-\x7e\x80-\xff]*")\s*(?:,|$)')
_OPAQUE: Final = re.compile(r'(?:W/)?"[\x21\x23-\x7e\x80-\xff]*"')
_SAFE: Final = frozenset({"GET", "HEAD"})


@dataclass(frozen=True, slots=True)
class Validators:
    """What tells one state of a resource from another.

    Attributes:
        etag: The entity tag with its quotes, ``"v1"`` or ``W/"v1"``; None for none.
        last_modified: When it changed, to the second; None if that is not known.
    """

    etag: str | None = None
    last_modified: datetime | None = None

    def __post_init__(self) -> None:
        if self.etag is not None and not _OPAQUE.fullmatch(self.etag):
            raise ArgumentError('An ETag is text in double quotes without blanks and quotes, such as "v1" or W/"v1".')

    @property
    def headers(self) -> dict[str, str]:
        """The headers that tell a client."""
        told: dict[str, str] = {} if self.etag is None else {hdrs.ETAG: self.etag}
        if self.last_modified is not None:
            told[hdrs.LAST_MODIFIED] = http_date(self.last_modified)
        return told


def http_date(moment: datetime) -> str:
    """Returns a moment as HTTP writes it; one without a time zone is UTC."""
    aware = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    return format_datetime(aware.replace(microsecond=0), usegmt=True)


def parse_http_date(text: str) -> datetime | None:
    """Reads a date of HTTP; None if it is none."""
    try:
        moment = parsedate_to_datetime(text)
    except (ValueError, IndexError, OverflowError):
        return None
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment


def evaluate(method: str, headers: Mapping[str, str], validators: Validators) -> int | None:
    """Returns the status with which the conditions of a request end it, 304 or 412; None if it goes on.

    The order is RFC 9110's (13.2.2): If-Match before If-Unmodified-Since, If-None-Match before If-Modified-Since.
    """
    if (wanted := headers.get(hdrs.IF_MATCH)) is not None:
        if not _matches(wanted, validators.etag, weak=False):
            return 412
    elif (since := _date(headers, hdrs.IF_UNMODIFIED_SINCE)) is not None and _is_newer(validators, since):
        return 412
    if (known := headers.get(hdrs.IF_NONE_MATCH)) is not None:
        if _matches(known, validators.etag, weak=True):
            return 304 if method in _SAFE else 412
    elif method in _SAFE and validators.last_modified is not None:
        since = _date(headers, hdrs.IF_MODIFIED_SINCE)
        if since is not None and not _is_newer(validators, since):
            return 304
    return None


def if_range_matches(headers: Mapping[str, str], validators: Validators) -> bool:
    """Whether a Range header counts: there is no If-Range, or it names the present state by a strong validator."""
    condition = headers.get(hdrs.IF_RANGE)
    if condition is None:
        return True
    if '"' in condition:
        return condition.strip() == validators.etag and not condition.startswith("W/")
    moment = parse_http_date(condition)
    return moment is not None and validators.last_modified is not None and _second(validators.last_modified) == moment


def _matches(header: str, etag: str | None, *, weak: bool) -> bool:
    if header.strip() == "*":
        return True
    if etag is None or (not weak and etag.startswith("W/")):
        return False
    position, tags = 0, []
    while position < len(header):
        found = _TAG.match(header, position)
        if found is None:
            return False
        tags.append(found[1])
        position = found.end()
    return etag.removeprefix("W/") in {tag.removeprefix("W/") for tag in tags} if weak else etag in tags


def _date(headers: Mapping[str, str], name: str) -> datetime | None:
    text = headers.get(name)
    return None if text is None else parse_http_date(text)


def _is_newer(validators: Validators, moment: datetime) -> bool:
    return validators.last_modified is None or _second(validators.last_modified) > moment


def _second(moment: datetime) -> datetime:
    aware = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment
    return aware.replace(microsecond=0)
