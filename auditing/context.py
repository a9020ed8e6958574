"""Who is acting and why: carried to every audit row of a transaction, those of triggers too."""

from __future__ import annotations

import getpass
import json
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.contrib.auth import get_user_model
from django.db import connections, transaction

from auditing.redaction import clean
from controlplane.core.conf import conf


@dataclass(frozen=True, slots=True)
class Actor:
    """type: operator, user, api_key, command, system, database or anonymous. id: stable; label: for people."""

    type: str
    id: str = ""
    label: str = ""
    role: str = ""


_TEXT_LIMIT = 4096
_current: ContextVar[dict[str, Any]] = ContextVar("cp_audit", default={})  # noqa: B039 - never changed in place


def actor_of(value: object) -> Actor:
    """The actor behind a value: an Actor, an object with `audit_actor`, a user, or a plain string ("system")."""
    if isinstance(value, Actor):
        return value
    told = getattr(value, "audit_actor", None)
    if told is not None:
        return Actor(*told)
    if isinstance(value, str):
        return Actor("system", value, value)
    if isinstance(value, get_user_model()):
        return Actor("operator", str(value.pk), str(value.get_username()))
    return Actor("anonymous")


def command_actor(name: str) -> Actor:
    """The actor of a management command: its name, run by the user of the operating system."""
    return Actor("command", name, getpass.getuser())


def current() -> dict[str, Any]:
    """What the open contexts of this thread or task have said, as in the setting `cp.audit`."""
    return dict(_current.get())


@contextmanager
def audit_context(
    actor: object = None,
    reason: str = "",
    request_id: str | None = None,
    tenant: object = None,
    *,
    ip: str | None = None,
    user_agent: str = "",
    using: str | None = None,
) -> Iterator[None]:
    """Open a transaction whose audit rows carry this actor, reason and request.

    actor: see `actor_of`; None keeps the outer one. tenant: row or id, for rows that have no tenant of their own.
    Values of an inner context win, and are undone at its end. Text is redacted. It is one transaction-local setting, so
    rows written by QuerySet.update(), bulk_create and raw SQL carry it too, and nothing outlives the transaction.
    """
    alias = using or conf.DATABASE
    said: dict[str, Any] = {"reason": reason, "request_id": request_id, "ip": ip, "user_agent": user_agent}
    if actor is not None:
        who = actor_of(actor)
        said |= {"actor_type": who.type, "actor_id": who.id, "actor_label": who.label, "actor_role": who.role}
    if tenant is not None:
        said["tenant_id"] = str(tenant if isinstance(tenant, str | UUID) else getattr(tenant, "pk", ""))
    outer = _current.get()
    inner = outer | {key: clean(value)[:_TEXT_LIMIT] for key, value in said.items() if value}
    nested = connections[alias].in_atomic_block
    with transaction.atomic(using=alias):
        before = _set(alias, json.dumps(inner) if inner else "")
        token = _current.set(inner)
        try:
            yield
        finally:
            _current.reset(token)
        if nested and not connections[alias].needs_rollback:
            _set(alias, before)  # a rollback, and the end of the outermost transaction, undo it by themselves


def _set(alias: str, text: str) -> str:
    """Set `cp.audit` for the transaction; returns what was there, which psql or another context may have said."""
    with connections[alias].cursor() as cursor:
        cursor.execute(
            "WITH old AS MATERIALIZED (SELECT coalesce(current_setting('cp.audit', true), '') AS text) "
            "SELECT text, set_config('cp.audit', %s, true) FROM old",
            [text],
        )
        before: str = cursor.fetchone()[0]
    return before
