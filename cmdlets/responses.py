"""The response cmdlets: Write-KrJsonResponse and its kin. Of several in one request the last one counts."""

from __future__ import annotations

from collections.abc import AsyncIterable, Callable, Iterable, Mapping
from datetime import datetime
from pathlib import Path
from typing import BinaryIO, Literal, TypeAlias, overload

from cmdlets._arguments import MISSING, alias, checked_text
from cmdlets._pipe import Pending
from kestrun_py.conversion.enums import to_enum
from kestrun_py.errors import ArgumentError
from kestrun_py.host_registry import resolve_host
from kestrun_py.http.cache_control import CacheControl
from kestrun_py.http.context import current_context
from kestrun_py.http.response import KestrunResponse
from kestrun_py.roots import resolve_path
from kestrun_py.serialization.csv import QuoteKind, QuoteKindText

__all__ = [
    "add_kr_cache_response",
    "test_kr_cache_revalidation",
    "write_kr_binary_response",
    "write_kr_bson_response",
    "write_kr_cbor_response",
    "write_kr_csv_response",
    "write_kr_error_response",
    "write_kr_file_response",
    "write_kr_form_url_encoded_response",
    "write_kr_html_response",
    "write_kr_json_response",
    "write_kr_redirect_response",
    "write_kr_response",
    "write_kr_status_response",
    "write_kr_stream_response",
    "write_kr_text_response",
    "write_kr_xml_response",
    "write_kr_yaml_response",
]

ContentDispositionText: TypeAlias = Literal["NoContentDisposition", "Attachment", "Inline"]


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
    return _write(
        "write_kr_json_response",
        input_object,
        lambda response, value: response.write_json(
            value, status=status_code, depth=depth, compress=compress, content_type=content_type
        ),
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

    return _write(
        "write_kr_text_response",
        alias(input_object, MISSING, "input_object", text=text),
        lambda response, value: response.write_text(value, status=status_code, content_type=content_type),
    )


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
    context = current_context("write_kr_redirect_response")
    context.response.write_redirect(url)
    if message is not None:
        resolve_host().logger.debug("{Path} is redirected: {Message}", context.request.path, message)


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


@overload
def write_kr_xml_response(input_object: object, status_code: int = ..., *, content_type: str | None = ...) -> None: ...
@overload
def write_kr_xml_response(*, status_code: int = ..., content_type: str | None = ...) -> Pending[object, None]: ...
def write_kr_xml_response(
    input_object: object = MISSING, status_code: int = 200, *, content_type: str | None = None
) -> Pending[object, None] | None:
    """Answers with XML (Write-KrXmlResponse). Without `input_object` it takes it from a pipe.

    Args:
        input_object: What to write; not None.
        status_code: The HTTP status.
        content_type: The content type; ``application/xml; charset=utf-8`` if left out.

    Raises:
        ArgumentError: The value contains itself.
    """
    return _write(
        "write_kr_xml_response",
        input_object,
        lambda response, value: response.write_xml(value, status=status_code, content_type=content_type),
    )


@overload
def write_kr_yaml_response(input_object: object, status_code: int = ..., *, content_type: str | None = ...) -> None: ...
@overload
def write_kr_yaml_response(*, status_code: int = ..., content_type: str | None = ...) -> Pending[object, None]: ...
def write_kr_yaml_response(
    input_object: object = MISSING, status_code: int = 200, *, content_type: str | None = None
) -> Pending[object, None] | None:
    """Answers with YAML (Write-KrYamlResponse). Without `input_object` it takes it from a pipe.

    Args:
        input_object: What to write; not None.
        status_code: The HTTP status.
        content_type: The content type; ``application/yaml; charset=utf-8`` if left out.

    Raises:
        ArgumentError: The value contains itself.
    """
    return _write(
        "write_kr_yaml_response",
        input_object,
        lambda response, value: response.write_yaml(value, status=status_code, content_type=content_type),
    )


@overload
def write_kr_bson_response(input_object: object, status_code: int = ..., *, content_type: str | None = ...) -> None: ...
@overload
def write_kr_bson_response(*, status_code: int = ..., content_type: str | None = ...) -> Pending[object, None]: ...
def write_kr_bson_response(
    input_object: object = MISSING, status_code: int = 200, *, content_type: str | None = None
) -> Pending[object, None] | None:
    """Answers with BSON (Write-KrBsonResponse). Without `input_object` it takes it from a pipe.

    Args:
        input_object: What to write; not None.
        status_code: The HTTP status.
        content_type: The content type; ``application/bson`` if left out.

    Raises:
        MissingExtraError: The extra ``bson`` is not installed.
        ArgumentError: BSON cannot express the value.
    """
    return _write(
        "write_kr_bson_response",
        input_object,
        lambda response, value: response.write_bson(value, status=status_code, content_type=content_type),
    )


@overload
def write_kr_cbor_response(input_object: object, status_code: int = ..., *, content_type: str | None = ...) -> None: ...
@overload
def write_kr_cbor_response(*, status_code: int = ..., content_type: str | None = ...) -> Pending[object, None]: ...
def write_kr_cbor_response(
    input_object: object = MISSING, status_code: int = 200, *, content_type: str | None = None
) -> Pending[object, None] | None:
    """Answers with CBOR (Write-KrCborResponse). Without `input_object` it takes it from a pipe.

    Args:
        input_object: What to write; not None.
        status_code: The HTTP status.
        content_type: The content type; ``application/cbor`` if left out.

    Raises:
        MissingExtraError: The extra ``cbor`` is not installed.
        ArgumentError: CBOR cannot express the value.
    """
    return _write(
        "write_kr_cbor_response",
        input_object,
        lambda response, value: response.write_cbor(value, status=status_code, content_type=content_type),
    )


@overload
def write_kr_csv_response(
    input_object: object,
    status_code: int = ...,
    *,
    content_type: str | None = ...,
    delimiter: str = ...,
    include_type_information: bool = ...,
    quote_fields: Iterable[str] = ...,
    use_quotes: QuoteKind | QuoteKindText = ...,
    no_header: bool = ...,
) -> None: ...
@overload
def write_kr_csv_response(
    *,
    status_code: int = ...,
    content_type: str | None = ...,
    delimiter: str = ...,
    include_type_information: bool = ...,
    quote_fields: Iterable[str] = ...,
    use_quotes: QuoteKind | QuoteKindText = ...,
    no_header: bool = ...,
) -> Pending[object, None]: ...
def write_kr_csv_response(
    input_object: object = MISSING,
    status_code: int = 200,
    *,
    content_type: str | None = None,
    delimiter: str = ",",
    include_type_information: bool = False,
    quote_fields: Iterable[str] = (),
    use_quotes: QuoteKind | QuoteKindText = QuoteKind.ALWAYS,
    no_header: bool = False,
) -> Pending[object, None] | None:
    """Answers with CSV (Write-KrCsvResponse). Without `input_object` it takes it from a pipe.

    Args:
        input_object: A row, or a list of rows; the members of the first one are the columns.
        status_code: The HTTP status.
        content_type: The content type; ``text/csv; charset=utf-8`` if left out.
        delimiter: What stands between fields; one character.
        include_type_information: The first line names the type of the first row.
        quote_fields: Only these columns are quoted.
        use_quotes: ``"Always"``, ``"AsNeeded"`` or ``"Never"``; with `quote_fields` it does not count.
        no_header: Leave out the line with the names of the columns.

    Raises:
        ArgumentError: The delimiter is not one character.
    """
    quotes = to_enum(QuoteKind, use_quotes, "use_quotes")

    def write(response: KestrunResponse, value: object) -> None:
        response.write_csv(
            value,
            status=status_code,
            content_type=content_type,
            delimiter=delimiter,
            use_quotes=quotes,
            quote_fields=quote_fields,
            include_type_information=include_type_information,
            no_header=no_header,
        )

    return _write("write_kr_csv_response", input_object, write)


@overload
def write_kr_form_url_encoded_response(input_object: object, status_code: int = ...) -> None: ...
@overload
def write_kr_form_url_encoded_response(*, status_code: int = ...) -> Pending[object, None]: ...
def write_kr_form_url_encoded_response(
    input_object: object = MISSING, status_code: int = 200
) -> Pending[object, None] | None:
    """Answers with a form in URL encoding (Write-KrFormUrlEncodedResponse). Without `input_object` it takes a pipe's.

    Args:
        input_object: A mapping or an object; its members are the fields.
        status_code: The HTTP status.
    """
    return _write(
        "write_kr_form_url_encoded_response",
        input_object,
        lambda response, value: response.write_form(value, status=status_code),
    )


def write_kr_response(input_object: object, status_code: int = 200) -> None:
    """Answers with a value in the form that the Accept header asks for (Write-KrResponse).

    JSON, XML, YAML, CSV, a form, CBOR or BSON; any other wish is answered with text.

    Args:
        input_object: What to write; not None.
        status_code: The HTTP status.
    """
    current_context("write_kr_response").response.write(_not_none(input_object), status=status_code)


def write_kr_binary_response(input_object: bytes, status_code: int = 200, *, content_type: str | None = None) -> None:
    """Answers with bytes (Write-KrBinaryResponse).

    Args:
        input_object: The bytes.
        status_code: The HTTP status.
        content_type: The content type; ``application/octet-stream`` if left out.
    """
    current_context("write_kr_binary_response").response.write_binary(
        input_object, status=status_code, content_type=content_type
    )


def write_kr_stream_response(
    input_object: BinaryIO | Iterable[bytes] | AsyncIterable[bytes],
    status_code: int = 200,
    *,
    content_type: str | None = None,
) -> None:
    """Answers with what a binary file object, or an iterable of bytes, gives while it is sent (Write-KrStreamResponse).

    Args:
        input_object: The stream; a file object is closed at the end.
        status_code: The HTTP status.
        content_type: The content type; ``application/octet-stream`` if left out.
    """
    current_context("write_kr_stream_response").response.write_stream(
        input_object, status=status_code, content_type=content_type
    )


def write_kr_file_response(
    file_path: str | Path,
    content_type: str | None = None,
    status_code: int = 200,
    *,
    file_download_name: str | None = None,
    content_disposition: ContentDispositionText = "NoContentDisposition",
) -> None:
    """Answers with a file (Write-KrFileResponse); ranges and conditions of the request count.

    Args:
        file_path: The file; a relative path is below the folder of `initialize_kr_root`.
        content_type: The content type; guessed from the file's name if left out.
        status_code: The HTTP status.
        file_download_name: The name under which a browser saves the file.
        content_disposition: ``"Attachment"`` to have it saved, ``"Inline"`` to have it shown.
    """
    dispositions: dict[str, str | None] = {"nocontentdisposition": None, "attachment": "attachment", "inline": "inline"}
    disposition = content_disposition.casefold()
    if disposition not in dispositions:
        raise ArgumentError(
            f"content_disposition must be one of Attachment, Inline, NoContentDisposition, not {content_disposition!r}."
        )
    current_context("write_kr_file_response").response.write_file(
        resolve_path(file_path, kestrun_root=True),
        status=status_code,
        content_type=content_type or None,
        download_name=file_download_name or None,
        disposition=dispositions[disposition],
    )


def add_kr_cache_response(
    *,
    no_cache: bool = False,
    no_store: bool = False,
    max_age: int | None = None,
    shared_max_age: int | None = None,
    max_stale: bool = False,
    max_stale_limit: int | None = None,
    min_fresh: int | None = None,
    no_transform: bool = False,
    only_if_cached: bool = False,
    public: bool = False,
    private: bool = False,
    must_revalidate: bool = False,
    proxy_revalidate: bool = False,
) -> None:
    """Sets the Cache-Control header of the answer (Add-KrCacheResponse). Ages are whole seconds from 1.

    Args:
        no_cache: A cache asks the host before it uses the answer.
        no_store: No cache stores the answer.
        max_age: How long the answer is fresh.
        shared_max_age: How long it is fresh in a cache that several users share.
        max_stale: A stale answer may be used.
        max_stale_limit: For how long it may be stale; counts with `max_stale`.
        min_fresh: How long an answer has to stay fresh.
        no_transform: No proxy changes the body.
        only_if_cached: Only an answer that is stored may be used.
        public: Any cache may store it.
        private: Only the user's own cache may store it.
        must_revalidate: A stale answer is never used.
        proxy_revalidate: The same, for caches that several users share.

    Raises:
        ArgumentError: An age that is no whole number of seconds from 1.
    """
    current_context("add_kr_cache_response").response.cache_control = CacheControl(
        no_cache=no_cache,
        no_store=no_store,
        max_age=max_age,
        shared_max_age=shared_max_age,
        max_stale=max_stale,
        max_stale_limit=max_stale_limit,
        min_fresh=min_fresh,
        no_transform=no_transform,
        only_if_cached=only_if_cached,
        public=public,
        private=private,
        must_revalidate=must_revalidate,
        proxy_revalidate=proxy_revalidate,
    )


def test_kr_cache_revalidation(
    payload: object,
    etag: str | None = None,
    *,
    weak: bool = False,
    last_modified: datetime | None = None,
) -> bool:
    """Returns whether the client has the present state already; then 304 is written (Test-KrCacheRevalidation).

    Otherwise the script goes on and writes the answer; it tells the client the validators.

    Args:
        payload: What would be answered; its SHA-256 is the tag if none is given.
        etag: The entity tag, with or without its quotes.
        weak: The tag is a weak one: answers with the same tag may differ in their bytes.
        last_modified: When the state changed; UTC if it has no time zone.

    Raises:
        ArgumentError: The tag holds a blank, a quote or a control character.
    """
    return current_context("test_kr_cache_revalidation").response.revalidate(
        payload, etag=etag, weak=weak, last_modified=last_modified
    )


def _write(
    cmdlet: str, value: object, write: Callable[[KestrunResponse, object], None]
) -> Pending[object, None] | None:
    """Writes a value that is given, or waits for the one from the pipe."""

    def run(given: object) -> None:
        write(current_context(cmdlet).response, _not_none(given))

    if value is MISSING:
        return Pending(cmdlet, object, run)
    run(value)
    return None


def _not_none(value: object) -> object:
    if value is None:
        raise ArgumentError("Cannot bind argument to parameter 'input_object' because it is null.")
    return value
