"""From exceptions to answers: the one place that decides what a client is told of an error."""

from __future__ import annotations

from typing import Final

from aiohttp import hdrs, web

from kestrun_py.errors import CacheUnavailableError, KestrunError, SessionUnavailableError
from kestrun_py.http.context import RequestContext
from kestrun_py.http.error_form import accepts_page, error_fields
from kestrun_py.http.error_page import developer_sections, render_page
from kestrun_py.http.response import KestrunResponse
from kestrun_py.logging import Logger

__all__ = ["answer_to", "status_of"]

_INTERNAL_ERROR: Final = "An internal server error occurred."
_UNAVAILABLE: Final = "The service is unavailable at the moment. Try again later."


def answer_to(
    error: BaseException, context: RequestContext, logger: Logger, *, development: bool = False
) -> web.StreamResponse:
    """Logs an error that no middleware has caught, and returns the answer to its request.

    A `KestrunError` says by its `status` what it is for the client. Only a fault of the client is described to the
    client; any other error is described in the log alone, and in Development to a browser.
    """
    raw = context.request.raw
    status = status_of(error)
    path = raw.rel_url.raw_path if context.endpoint is None else context.endpoint.pattern
    if status < 500:
        logger.debug("{Method} {Path} was refused with {Status}: {Error}", raw.method, path, status, error)
        return _written(raw, str(error), status)
    if isinstance(error, SessionUnavailableError):
        # A cache that has logged its outage once makes no line for each request.
        reported = isinstance(error.__cause__, CacheUnavailableError) and error.__cause__.reported
        write = logger.debug if reported else logger.error
        write("{Method} {Path}: {Error}", raw.method, path, error)
        response = _written(raw, _UNAVAILABLE, status)
        response.headers[hdrs.RETRY_AFTER] = str(error.retry_after)
        return response
    logger.error("{Method} {Path} failed.", raw.method, path, exception=_without_own_frames(error))
    if development and accepts_page(raw):
        return _developer_page(raw, error)
    return _written(raw, _INTERNAL_ERROR, 500)


def status_of(error: BaseException) -> int:
    """The HTTP status of a request that ends with an exception."""
    if isinstance(error, web.HTTPException):
        return error.status
    return error.status if isinstance(error, KestrunError) else 500


def _written(request: web.Request, message: str, status: int) -> web.StreamResponse:
    response = KestrunResponse(request)
    response.write_error(message, status=status)
    return response.to_aiohttp()


def _developer_page(request: web.Request, error: BaseException) -> web.StreamResponse:
    """A page with the exception, the script's own lines and the request."""
    page = render_page(error_fields(request, _INTERNAL_ERROR, 500), developer_sections(request, error))
    return web.Response(status=500, body=page, content_type="text/html", charset="utf-8")


def _without_own_frames(error: BaseException) -> BaseException:
    """The error, its traceback without the frames of the package that called the script or the middleware."""
    trace = error.__traceback__
    while trace is not None and f"{trace.tb_frame.f_globals.get('__package__')}.".startswith("kestrun_py."):
        trace = trace.tb_next
    return error if trace is None else error.with_traceback(trace)
