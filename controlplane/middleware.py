from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from typing import Any

from django.core.signals import got_request_exception
from django.db import InterfaceError, OperationalError
from django.http import HttpRequest, HttpResponse
from django.template.loader import get_template

logger = logging.getLogger(__name__)

RETRY_AFTER_S = 2


class DatabaseUnavailableMiddleware:
    """A database that does not answer is 503 with Retry-After, never 500 with a traceback; the request is not repeated.

    Two ways lead here. An exception of a view comes by process_exception. One of another middleware (session, audit)
    has been made a 500 before it could reach us, so Django's signal for it leaves a note on the request, and the answer
    is replaced. Stands outside every middleware that asks the database, inside those that only set headers.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response
        got_request_exception.connect(note_unavailable, dispatch_uid="controlplane.middleware.note_unavailable")

    def __call__(self, request: HttpRequest) -> HttpResponse:
        response = self.get_response(request)
        if response.status_code == 500 and getattr(request, "database_unavailable", False):
            return unavailable()
        return response

    def process_exception(self, request: HttpRequest, exception: Exception) -> HttpResponse | None:
        if not isinstance(exception, OperationalError | InterfaceError):
            return None
        logger.error("database unavailable: %s", exception, extra={"method": request.method, "path": request.path})
        return unavailable()


def note_unavailable(request: HttpRequest | None = None, **kwargs: Any) -> None:
    if request is not None and isinstance(sys.exc_info()[1], OperationalError | InterfaceError):
        request.database_unavailable = True  # type: ignore[attr-defined]


def unavailable() -> HttpResponse:
    """The page, rendered without the request: its context processors would ask the database."""
    html = get_template("503.html").render()
    return HttpResponse(html, status=503, headers={"Retry-After": str(RETRY_AFTER_S), "Cache-Control": "no-store"})
