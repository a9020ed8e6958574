from __future__ import annotations

import hashlib
import json
from typing import Any, NoReturn, Self
from uuid import UUID

from django.db import models

from auditing.context import actor_of, current
from auditing.errors import AppendOnly
from auditing.models.logs import LogQuerySet, current_xid, id_of
from auditing.redaction import clean, redact
from controlplane.core.ids import PLATFORM, now, uuid7_at

_TEXT_LIMIT = 4096
_DETAILS_LIMIT = 64 * 1024


class AuditLogQuerySet(LogQuerySet["AuditLog"]):
    def by_actor(self, actor: object) -> Self:
        """Rows whose actor has this id (text), or is this user or key."""
        return self.filter(actor_id=actor if isinstance(actor, str) else str(getattr(actor, "pk", actor)))

    def with_action(self, action: str) -> Self:
        """Rows of one action, or of all that begin alike: "auth.denied", "auth.*"."""
        if action.endswith("*"):
            return self.filter(action__startswith=action[:-1])
        return self.filter(action=action)

    def for_resource(self, type: str, id: object) -> Self:
        """Rows about one row: its table name and primary key."""
        return self.filter(resource_type=type, resource_id=str(id))

    def for_object(self, instance: models.Model) -> Self:
        return self.for_resource(instance._meta.db_table, instance.pk)


class AuditLogManager(models.Manager.from_queryset(AuditLogQuerySet)):  # type: ignore[misc]
    def record(
        self,
        action: str,
        *,
        tenant: object = None,
        app: object = None,
        branch: object = None,
        user: object = None,
        api_key: object = None,
        actor: object = None,
        resource: models.Model | tuple[str, object] | None = None,
        resource_label: str = "",
        outcome: str = "success",
        details: dict[str, Any] | None = None,
        reason: str = "",
        request_id: str | None = None,
        provider: str = "",
        model: str = "",
    ) -> AuditLog:
        """Write an event that is no row change (`demo.seeded`, `gate.denied`), in the caller's transaction.

        tenant, app, …: rows or ids; no tenant = the platform. What is left out is taken from the open `audit_context`.
        Secrets are redacted, text over 4 KiB is cut: content never makes an event fail. It is lost if the caller rolls
        back.
        """
        said = current()
        who = actor_of(actor) if actor is not None else None
        at = now()
        kind, key = (
            (resource._meta.db_table, resource.pk) if isinstance(resource, models.Model) else resource or ("", "")
        )
        row = AuditLog(
            id=uuid7_at(at),
            created_at=at,
            tenant_id=_id(tenant) or _id(said.get("tenant_id")) or PLATFORM,
            app_id=_id(app),
            branch_id=_id(branch),
            user_id=_id(user),
            api_key_id=_id(api_key),
            actor_type=who.type if who else said.get("actor_type", "system"),
            actor_id=_text(who.id if who else said.get("actor_id", "")),
            actor_label=_text(who.label if who else said.get("actor_label", "")),
            actor_role=who.role if who else said.get("actor_role", ""),
            action=action,
            resource_type=kind,
            resource_id=_text(str(key)),
            resource_label=_text(resource_label or (str(resource) if isinstance(resource, models.Model) else "")),
            outcome=outcome,
            details=_details(details) if details else None,
            reason=_text(reason or said.get("reason", "")),
            request_id=_text(request_id) if request_id else said.get("request_id"),
            ip=said.get("ip"),
            user_agent=said.get("user_agent"),
            provider=provider,
            model=model,
        )
        row.save(force_insert=True)
        return row


class AuditLog(models.Model):
    """One thing done: who, what, to what, from where, with which outcome. Written by row triggers and `record`.

    Never changes; the database refuses UPDATE, DELETE and TRUNCATE. Partitioned by month of `id`. It points at nothing:
    ids and names stay readable when their rows are gone. A missing row proves nothing about an unwatched table.
    """

    class ActorType(models.TextChoices):
        OPERATOR = "operator"
        USER = "user"
        API_KEY = "api_key", "API key"
        COMMAND = "command"
        SYSTEM = "system"
        DATABASE = "database"
        ANONYMOUS = "anonymous"

    class Outcome(models.TextChoices):
        SUCCESS = "success"
        DENIED = "denied"
        FAILURE = "failure"

    id = models.UUIDField(primary_key=True, editable=False)
    created_at = models.DateTimeField()
    tenant_id = models.UUIDField(help_text="Nil: the platform itself.")
    app_id = models.UUIDField(null=True)
    branch_id = models.UUIDField(null=True)
    user_id = models.UUIDField(null=True)
    api_key_id = models.UUIDField(null=True)
    actor_type = models.CharField(max_length=16, choices=ActorType)
    actor_id = models.TextField()
    actor_label = models.TextField(null=True)  # noqa: DJ001 - NULL once erased
    actor_role = models.TextField(default="")
    action = models.CharField(max_length=100)
    resource_type = models.CharField(max_length=100, default="")
    resource_id = models.TextField(default="")
    resource_label = models.TextField(default="")
    outcome = models.CharField(max_length=8, choices=Outcome)
    before = models.JSONField(null=True)
    after = models.JSONField(null=True)
    details = models.JSONField(null=True)
    reason = models.TextField(default="")
    request_id = models.TextField(null=True)  # noqa: DJ001 - the partial index wants NULL for "none"
    ip = models.GenericIPAddressField(null=True)
    user_agent = models.TextField(null=True)  # noqa: DJ001 - NULL once erased
    pii_salt = models.BinaryField(null=True, editable=False)
    pii_commit = models.BinaryField(null=True, editable=False)
    provider = models.CharField(max_length=64, default="")
    model = models.CharField(max_length=265, default="")
    prompt_tokens = models.IntegerField(null=True)
    completion_tokens = models.IntegerField(null=True)
    cost = models.DecimalField(max_digits=24, decimal_places=12, null=True)
    latency_ms = models.IntegerField(null=True)
    schema = models.SmallIntegerField(default=1, editable=False)
    xid = models.BigIntegerField(db_default=current_xid, editable=False)

    keyset = ("id",)
    objects = AuditLogManager()

    class Meta:
        db_table = "cp_auditing_auditlog"
        verbose_name = "audit event"
        verbose_name_plural = "audit log"

    def __str__(self) -> str:
        return f"{self.action} {self.resource_type} {self.resource_label}".strip()

    def save(self, **kwargs: Any) -> None:
        if not self._state.adding:
            raise AppendOnly
        super().save(**kwargs)

    def delete(self, *args: object, **kwargs: object) -> NoReturn:
        raise AppendOnly


def _id(value: object) -> UUID | None:
    return None if value in (None, "") else id_of(value)


def _text(value: str) -> str:
    return clean(value)[:_TEXT_LIMIT]


def _details(details: dict[str, Any]) -> dict[str, Any]:
    """The details without secrets; over 64 KiB, their size, SHA-256 and beginning."""
    kept: dict[str, Any] = redact(_plain(details))
    text = json.dumps(kept, ensure_ascii=False)
    whole = text.encode()
    if len(whole) <= _DETAILS_LIMIT:
        return kept
    return {"$bytes": len(whole), "$sha256": hashlib.sha256(whole).hexdigest(), "$head": text[:_TEXT_LIMIT]}


def _plain(value: Any) -> Any:
    """JSON without what jsonb refuses: NUL and lone surrogates become U+FFFD; unknown types their text."""
    if isinstance(value, dict):
        return {_text(str(key)): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(item) for item in value]
    if value is None or isinstance(value, bool | int):
        return value
    return _text(str(value))
