"""What the audit log says of signing in: auth.login, auth.logout, auth.failed, auth.throttled.

A failure and a refusal are kept whatever becomes of the caller's transaction. The name is kept where it is a user's, as
that user; what was typed otherwise is not, as people type passwords into the wrong field.
"""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest

from auditing.context import Actor, audit_context
from auditing.middleware import client_address
from auditing.models import AuditLog
from tenants.apart import apart
from tenants.models import User

_ANONYMOUS = Actor("anonymous")


def about(request: HttpRequest | None) -> dict[str, Any]:
    """What a request tells of its sender, as arguments of `audit_context`."""
    if request is None:
        return {}
    return {
        "request_id": getattr(request, "request_id", None),
        "ip": client_address(request),
        "user_agent": request.headers.get("User-Agent", "")[:512],
    }


def record_login(user: User) -> None:
    """In the caller's transaction and context, whose actor is the user."""
    AuditLog.objects.record("auth.login", tenant=user.tenant_id, user=user, resource=user)


def record_logout(user: User) -> None:
    AuditLog.objects.record("auth.logout", tenant=user.tenant_id, user=user, resource=user)


def record_failure(request: HttpRequest | None, why: str, user: User | None) -> None:
    """why: unknown_name, ambiguous_name, wrong_password, password_too_long, password_unreadable, user_disabled,
    tenant_disabled or not_staff. user: whose name it was, where it was one's."""
    tenant = user.tenant_id if user else None
    apart(lambda: _record(request, "auth.failed", "failure", {"why": why}, tenant=tenant, user=user, resource=user))


def record_throttled(request: HttpRequest | None, retry_after: int) -> None:
    """The first refusal of a window; those after it leave no row, or whoever floods the form would flood the log."""
    apart(lambda: _record(request, "auth.throttled", "denied", {"retry_after": retry_after}))


def _record(request: HttpRequest | None, action: str, outcome: str, details: dict[str, Any], **subject: Any) -> None:
    with audit_context(actor=_ANONYMOUS, **about(request)):
        AuditLog.objects.record(action, outcome=outcome, details=details, **subject)
