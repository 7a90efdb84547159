"""The request cmdlets: Get-KrRequestQuery, -Header, -Cookie, -RouteParam and -Body."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, overload

from cmdlets._arguments import mandatory_text
from kestrun_py.errors import ArgumentError
from kestrun_py.http.context import current_context

__all__ = [
    "get_kr_request_body",
    "get_kr_request_cookie",
    "get_kr_request_header",
    "get_kr_request_query",
    "get_kr_request_route_param",
]

Value = str | int | float | bool | None


@overload
def get_kr_request_query(name: str, *, throw_if_missing: Literal[True]) -> str: ...
@overload
def get_kr_request_query(name: str, *, as_string: Literal[True], throw_if_missing: bool = ...) -> str: ...
@overload
def get_kr_request_query(name: str, *, as_int: Literal[True], throw_if_missing: bool = ...) -> int: ...
@overload
def get_kr_request_query(name: str, *, as_bool: Literal[True], throw_if_missing: bool = ...) -> bool: ...
@overload
def get_kr_request_query(name: str, *, as_boolean: Literal[True], throw_if_missing: bool = ...) -> bool: ...
@overload
def get_kr_request_query(name: str, *, as_double: Literal[True], throw_if_missing: bool = ...) -> float: ...
@overload
def get_kr_request_query(name: str, *, throw_if_missing: bool = ...) -> str | None: ...
def get_kr_request_query(
    name: str,
    *,
    as_int: bool = False,
    as_bool: bool = False,
    as_boolean: bool = False,
    as_double: bool = False,
    as_string: bool = False,
    throw_if_missing: bool = False,
) -> Value:
    """Returns a query parameter, or None; repeated values are joined with a comma (Get-KrRequestQuery).

    Args:
        name: The parameter's name, in its exact case.
        as_int: Convert it to an integer; 0 if it is missing.
        as_bool: Whether it is there and not empty (also `as_boolean`).
        as_double: Convert it to a float; 0.0 if it is missing.
        as_string: It must be there.
        throw_if_missing: It must be there.

    Raises:
        ArgumentError: It is missing and must not be, or cannot be converted.
    """
    value = current_context("get_kr_request_query").request.query.get(mandatory_text(name, "name"))
    return _converted(
        value, f"query parameter: {name}", as_int, as_bool or as_boolean, as_double, as_string, throw_if_missing
    )


@overload
def get_kr_request_header(name: str, *, throw_if_missing: Literal[True]) -> str: ...
@overload
def get_kr_request_header(name: str, *, as_string: Literal[True], throw_if_missing: bool = ...) -> str: ...
@overload
def get_kr_request_header(name: str, *, as_int: Literal[True], throw_if_missing: bool = ...) -> int: ...
@overload
def get_kr_request_header(name: str, *, as_bool: Literal[True], throw_if_missing: bool = ...) -> bool: ...
@overload
def get_kr_request_header(name: str, *, as_boolean: Literal[True], throw_if_missing: bool = ...) -> bool: ...
@overload
def get_kr_request_header(name: str, *, as_double: Literal[True], throw_if_missing: bool = ...) -> float: ...
@overload
def get_kr_request_header(name: str, *, throw_if_missing: bool = ...) -> str | None: ...
def get_kr_request_header(
    name: str,
    *,
    as_int: bool = False,
    as_bool: bool = False,
    as_boolean: bool = False,
    as_double: bool = False,
    as_string: bool = False,
    throw_if_missing: bool = False,
) -> Value:
    """Returns a header, in any case of its name, or None (Get-KrRequestHeader). See `get_kr_request_query`."""
    headers = current_context("get_kr_request_header").request.headers.getall(mandatory_text(name, "name"), None)
    value = None if headers is None else ",".join(headers)
    return _converted(value, f"header: {name}", as_int, as_bool or as_boolean, as_double, as_string, throw_if_missing)


@overload
def get_kr_request_cookie(name: str, *, throw_if_missing: Literal[True]) -> str: ...
@overload
def get_kr_request_cookie(name: str, *, as_string: Literal[True], throw_if_missing: bool = ...) -> str: ...
@overload
def get_kr_request_cookie(name: str, *, as_int: Literal[True], throw_if_missing: bool = ...) -> int: ...
@overload
def get_kr_request_cookie(name: str, *, as_bool: Literal[True], throw_if_missing: bool = ...) -> bool: ...
@overload
def get_kr_request_cookie(name: str, *, as_boolean: Literal[True], throw_if_missing: bool = ...) -> bool: ...
@overload
def get_kr_request_cookie(name: str, *, as_double: Literal[True], throw_if_missing: bool = ...) -> float: ...
@overload
def get_kr_request_cookie(name: str, *, throw_if_missing: bool = ...) -> str | None: ...
def get_kr_request_cookie(
    name: str,
    *,
    as_int: bool = False,
    as_bool: bool = False,
    as_boolean: bool = False,
    as_double: bool = False,
    as_string: bool = False,
    throw_if_missing: bool = False,
) -> Value:
    """Returns a cookie's value, unescaped, or None (Get-KrRequestCookie). See `get_kr_request_query`."""
    value = current_context("get_kr_request_cookie").request.cookie(mandatory_text(name, "name"))
    return _converted(value, f"cookie: {name}", as_int, as_bool or as_boolean, as_double, as_string, throw_if_missing)


@overload
def get_kr_request_route_param(name: str, *, throw_if_missing: Literal[True]) -> str: ...
@overload
def get_kr_request_route_param(name: str, *, as_string: Literal[True], throw_if_missing: bool = ...) -> str: ...
@overload
def get_kr_request_route_param(name: str, *, as_int: Literal[True], throw_if_missing: bool = ...) -> int: ...
@overload
def get_kr_request_route_param(name: str, *, as_bool: Literal[True], throw_if_missing: bool = ...) -> bool: ...
@overload
def get_kr_request_route_param(name: str, *, as_boolean: Literal[True], throw_if_missing: bool = ...) -> bool: ...
@overload
def get_kr_request_route_param(name: str, *, as_double: Literal[True], throw_if_missing: bool = ...) -> float: ...
@overload
def get_kr_request_route_param(name: str, *, throw_if_missing: bool = ...) -> str | None: ...
def get_kr_request_route_param(
    name: str,
    *,
    as_int: bool = False,
    as_bool: bool = False,
    as_boolean: bool = False,
    as_double: bool = False,
    as_string: bool = False,
    throw_if_missing: bool = False,
) -> Value:
    """Returns a parameter of the route's pattern, or None (Get-KrRequestRouteParam). See `get_kr_request_query`."""
    value = current_context("get_kr_request_route_param").request.route_params.get(mandatory_text(name, "name"))
    return _converted(
        value, f"route parameter: {name}", as_int, as_bool or as_boolean, as_double, as_string, throw_if_missing
    )


def get_kr_request_body(*, raw: bool = False, type: Callable[..., Any] | None = None) -> Any:
    """Returns the request's body (Get-KrRequestBody): by its media type JSON, a form or XML, otherwise text.

    Args:
        raw: Return the text, whatever the media type.
        type: Take the body for a JSON object, whatever the media type, and return an instance of this class (a
            dataclass, for instance), made with the object's values as keyword arguments.

    Raises:
        ArgumentError: The body is not what its media type says, or does not fit `type`.
    """
    request = current_context("get_kr_request_body").request
    if raw:
        return request.read_text()
    if type is None:
        return request.read_body()
    value = request.read_json()
    try:
        return type(**value)
    except TypeError as error:
        raise ArgumentError(f"The request body does not fit {type.__name__}: {error}.") from None


def _converted(
    value: str | None,
    what: str,
    as_int: bool,
    as_bool: bool,
    as_double: bool,
    as_string: bool,
    throw_if_missing: bool,
) -> Value:
    if as_int + as_bool + as_double + as_string > 1:
        raise ArgumentError("as_int, as_bool, as_double and as_string exclude each other.")
    if value is None and (throw_if_missing or as_string):
        raise ArgumentError(f"Missing required {what}")
    if as_bool:
        return bool(value)
    if not as_int and not as_double:
        return value
    kind = int if as_int else float
    try:
        if value and "_" in value:  # Python's 1_000 is nobody else's
            raise ValueError
        return kind(value or 0)
    except ValueError:
        # without the value: it may be a secret, and this goes to the log
        raise ArgumentError(f"The {what} is no {'integer' if as_int else 'number'}.") from None
