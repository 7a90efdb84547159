"""The response cmdlets: Write-KrJsonResponse and its kin. Of several in one request the last one counts."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import overload

from cmdlets._arguments import MISSING, alias, checked_text
from cmdlets._pipe import Pending
from kestrun_py.errors import ArgumentError
from kestrun_py.http.context import current_context

__all__ = [
    "write_kr_error_response",
    "write_kr_html_response",
    "write_kr_json_response",
    "write_kr_redirect_response",
    "write_kr_status_response",
    "write_kr_text_response",
]


@overload
def write_kr_json_response(
    input_object: object,
    status_code: int = ...,
    *,
    depth: int = ...,
    compress: bool = ...,
    content_type: str | None = ...,
) -> None: ...
@overload
def write_kr_json_response(
    *, status_code: int = ..., depth: int = ..., compress: bool = ..., content_type: str | None = ...
) -> Pending[object, None]: ...
def write_kr_json_response(
    input_object: object = MISSING,
    status_code: int = 200,
    *,
    depth: int = 10,
    compress: bool = False,
    content_type: str | None = None,
) -> Pending[object, None] | None:
    """Answers with JSON (Write-KrJsonResponse). Without `input_object` it takes it from a pipe.

    Args:
        input_object: What to write; not None.
        status_code: The HTTP status.
        depth: How many levels of containers to write, 0 to 100; deeper ones are written as text.
        compress: Leave out the indentation of two spaces.
        content_type: The content type; ``application/json; charset=utf-8`` if left out.
    """
    if input_object is MISSING:
        return Pending(
            "write_kr_json_response",
            object,
            lambda value: _write_json(value, status_code, depth, compress, content_type),
        )
    _write_json(input_object, status_code, depth, compress, content_type)
    return None


def _write_json(value: object, status_code: int, depth: int, compress: bool, content_type: str | None) -> None:
    current_context("write_kr_json_response").response.write_json(
        _not_none(value), status=status_code, depth=depth, compress=compress, content_type=content_type
    )


@overload
def write_kr_text_response(input_object: object, status_code: int = ..., *, content_type: str | None = ...) -> None: ...
@overload
def write_kr_text_response(*, text: object, status_code: int = ..., content_type: str | None = ...) -> None: ...
@overload
def write_kr_text_response(*, status_code: int = ..., content_type: str | None = ...) -> Pending[object, None]: ...
def write_kr_text_response(
    input_object: object = MISSING,
    status_code: int = 200,
    *,
    content_type: str | None = None,
    text: object = MISSING,
) -> Pending[object, None] | None:
    """Answers with the text of a value (Write-KrTextResponse). Without `input_object` it takes it from a pipe.

    Args:
        input_object: What to write (also `text`); not None.
        status_code: The HTTP status.
        content_type: The content type; ``text/plain; charset=utf-8`` if left out.
    """

    def write(value: object) -> None:
        current_context("write_kr_text_response").response.write_text(
            _not_none(value), status=status_code, content_type=content_type
        )

    value = alias(input_object, MISSING, "input_object", text=text)
    if value is MISSING:
        return Pending("write_kr_text_response", object, write)
    write(value)
    return None


def _not_none(value: object) -> object:
    if value is None:
        raise ArgumentError("Cannot bind argument to parameter 'input_object' because it is null.")
    return value


def write_kr_html_response(
    template: str | None = None,
    status_code: int = 200,
    *,
    file_path: str | None = None,
    variables: Mapping[str, object] | None = None,
) -> None:
    """Answers with HTML (Write-KrHtmlResponse): a template, or a file with one.

    ``{{name}}`` and ``{{name.part}}`` are replaced by `variables`; values go in as they are, so escape what users
    typed.

    Args:
        template: The template's text.
        status_code: The HTTP status.
        file_path: Instead, the template's file.
        variables: Values by name.
    """
    if (template is None) == (file_path is None):
        raise ArgumentError("write_kr_html_response takes either template or file_path.")
    response = current_context("write_kr_html_response").response
    text = Path(file_path).read_text(encoding="utf-8") if file_path is not None else template
    response.write_html(text or "", variables=variables, status=status_code)


def write_kr_status_response(status_code: int) -> None:
    """Answers with a status alone (Write-KrStatusResponse)."""
    current_context("write_kr_status_response").response.write_status(status_code)


def write_kr_redirect_response(url: str, message: str | None = None) -> None:
    """Answers 302 with a Location (Write-KrRedirectResponse)."""
    current_context("write_kr_redirect_response").response.write_redirect(url, message=message)


def write_kr_error_response(
    message: str | None = None,
    status_code: int = 500,
    *,
    exception: BaseException | None = None,
    content_type: str | None = None,
    details: str | None = None,
    include_stack: bool = False,
) -> None:
    """Answers with an error, in the form that `content_type` or the Accept header asks for (Write-KrErrorResponse).

    Args:
        message: What went wrong.
        status_code: The HTTP status.
        exception: Instead of a message, an exception.
        content_type: JSON, YAML or XML; the Accept header decides if it is left out, and text is the fallback.
        details: More about it; with `message` only.
        include_stack: Tell the client the exception's traceback.
    """
    if (message is None) == (exception is None):
        raise ArgumentError("write_kr_error_response takes either message or exception.")
    if exception is not None and details is not None:
        raise ArgumentError("details go with message, not with exception.")
    error = checked_text(message, "message") if message is not None else exception
    assert error is not None
    current_context("write_kr_error_response").response.write_error(
        error, status=status_code, content_type=content_type, details=details, include_stack=include_stack
    )
