from __future__ import annotations

import re
import uuid
from collections.abc import Callable
from inspect import iscoroutinefunction
from ipaddress import ip_address, ip_network
from typing import Any

from django.db import transaction
from django.http import HttpRequest, HttpResponse

from auditing.context import Actor, audit_context
from controlplane.core.conf import conf

_SAFE = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")


class AuditContextMiddleware:
    """Runs each view that may write inside `audit_context`: one transaction, with the signed-in user as actor.

    Stands after authentication. The request id is the caller's X-Request-ID if it is plain, else a new one; it is on
    `request.request_id`, on the audit rows and in the answer. Views marked `non_atomic_requests` and coroutines are left
    alone.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        given = request.headers.get("X-Request-ID", "")
        request.request_id = given if _REQUEST_ID.fullmatch(given) else uuid.uuid4().hex  # type: ignore[attr-defined]
        response = self.get_response(request)
        response["X-Request-ID"] = request.request_id  # type: ignore[attr-defined]
        return response

    def process_view(
        self, request: HttpRequest, view: Callable[..., HttpResponse], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> HttpResponse | None:
        if request.method in _SAFE or conf.DATABASE in getattr(view, "_non_atomic_requests", ()):
            return None
        if iscoroutinefunction(view):
            return None  # a transaction belongs to a thread; such a view opens its own context where it writes
        user = getattr(request, "user", None)
        with audit_context(
            actor=user if user is not None and user.is_authenticated else Actor("anonymous"),
            request_id=request.request_id,  # type: ignore[attr-defined]
            ip=client_address(request),
            user_agent=request.headers.get("User-Agent", "")[:512],
        ):
            response = view(request, *args, **kwargs)
            if response.status_code >= 500:
                transaction.set_rollback(True, using=conf.DATABASE)
            return response


def client_address(request: HttpRequest) -> str | None:
    """The caller's address: REMOTE_ADDR, or the last X-Forwarded-For hop outside AUDIT_TRUSTED_PROXIES."""
    trusted = [ip_network(network) for network in conf.AUDIT_TRUSTED_PROXIES]
    hops = [request.META.get("REMOTE_ADDR", "")]
    if trusted:
        hops = [*request.headers.get("X-Forwarded-For", "").split(","), *hops]
    for hop in reversed(hops):
        try:
            found = ip_address(hop.strip())
        except ValueError:
            return None
        address = getattr(found, "ipv4_mapped", None) or found  # as a socket of both kinds names IPv4's callers
        if not any(address in network for network in trusted):
            return str(address).partition("%")[0]  # an interface name (fe80::1%eth0) is this host's word, and no inet
    return None
