from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from typing import Any

from django.core.signals import got_request_exception
from django.db import InterfaceError, OperationalError
from django.http import HttpRequest, HttpResponse
from django.template.loader import get_template

from tenants.errors import PasswordsBusy

logger = logging.getLogger(__name__)

RETRY_AFTER_S = 2


class DatabaseUnavailableMiddleware:
    """A database that does not answer is 503 with Retry-After, never 500 with a traceback; the request is not repeated.
    So is a machine that is busy with passwords.

    Two ways lead here. An exception of a view comes by process_exception. One of another middleware (session, audit)
    has been made a 500 before it could reach us, so Django's signal for it leaves a note on the request, and the answer
    is replaced. Stands outside every middleware that asks the database, inside those that only set headers.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response
        got_request_exception.connect(note_unavailable, dispatch_uid="controlplane.middleware.note_unavailable")

    def __call__(self, request: HttpRequest) -> HttpResponse:
        response = self.get_response(request)
        noted = getattr(request, "unavailable", None)
        return noted if response.status_code == 500 and noted is not None else response

    def process_exception(self, request: HttpRequest, exception: Exception) -> HttpResponse | None:
        page = page_of(exception)
        if page is not None:
            logger.error("unavailable: %s", exception, extra={"method": request.method, "path": request.path})
        return page


def note_unavailable(request: HttpRequest | None = None, **kwargs: Any) -> None:
    if request is not None:
        request.unavailable = page_of(sys.exc_info()[1])  # type: ignore[attr-defined]


def page_of(exception: BaseException | None) -> HttpResponse | None:
    """The answer to an exception after which the same request may work in a moment; None for any other."""
    if isinstance(exception, OperationalError | InterfaceError):
        return _page("The database does not answer", RETRY_AFTER_S)
    if isinstance(exception, PasswordsBusy):  # a form that sets a password, or asks for one
        return _page("This machine is busy", exception.retry_after)
    return None


def _page(heading: str, retry_after_s: int) -> HttpResponse:
    """Rendered without the request: its context processors would ask the database."""
    html = get_template("503.html").render({"heading": heading})
    return HttpResponse(html, status=503, headers={"Retry-After": str(retry_after_s), "Cache-Control": "no-store"})
