from __future__ import annotations

import json
from typing import Any, NoReturn, Self, Unpack
from uuid import UUID

from django.db import models

from auditing.errors import AppendOnly
from auditing.events import COLUMNS, OBJECTS, Told, event, stored
from auditing.models.logs import LogQuerySet, current_xid
from auditing.writer import writer
from controlplane.core.conf import conf
from controlplane.core.statements import fetch, plain


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


_INSERT = (
    f"INSERT INTO cp_auditing_auditlog ({', '.join(COLUMNS)}) VALUES ({', '.join(['%s'] * len(COLUMNS))}) "  # noqa: S608
    "RETURNING id"
)


class AuditLogManager(models.Manager.from_queryset(AuditLogQuerySet)):  # type: ignore[misc]
    def record(self, action: str, **told: Unpack[Told]) -> AuditLog:
        """Write an event that is no row change (`demo.seeded`, `gate.denied`), in the caller's transaction.

        An argument per column: tenant, app, …: rows or ids; no tenant = the platform; cost: US dollars. What is left out is
        taken from the open `audit_context`. Secrets are redacted, text over 4 KiB is cut: content never makes an event fail.
        It is lost if the caller rolls back. Raises ValueError for an id that is none, InvalidRow for a count, a cost or an
        address that is none.
        """
        columns = stored(event(action, **told))
        values = columns | {name: json.dumps(columns[name]) for name in OBJECTS if columns[name]}
        fetch(conf.DATABASE, _INSERT, [plain(value) for value in values.values()])
        row = AuditLog(**columns)
        row._state.adding, row._state.db = False, conf.DATABASE
        return row

    def record_async(self, action: str, **told: Unpack[Told]) -> UUID:
        """Have an event written soon, in no transaction of the caller's: it outlives his rollback. Returns its id in
        microseconds.

        Arguments as of `record`, taken at the call. It survives the end of the process, SIGTERM and an absent database, not a
        kill -9: what may not be lost needs `record_durable`. What the database refuses becomes a DeadLetter. Where the queue is
        full it waits 0.25 s, then writes to the spool. Raises AuditUnavailable when that is full too.
        """
        return writer.put(event(action, **told))

    def record_durable(self, action: str, *, timeout: float = 5.0, **told: Unpack[Told]) -> UUID:
        """Write an event and wait for its commit, in no transaction of the caller's; calls at once share a commit. Its id.

        Arguments as of `record`. timeout: seconds; after them AckTimeout, whose `id` names the row: it is kept and will be
        written, or is. Raises InvalidRow when the database refuses the row, which is a DeadLetter then, and AuditUnavailable.
        """
        return writer.put(event(action, **told), durable=True, timeout=timeout)

    async def arecord_async(self, action: str, **told: Unpack[Told]) -> UUID:
        """`record_async` on an event loop, which it never holds up."""
        return await writer.aput(event(action, **told))

    async def arecord_durable(self, action: str, *, timeout: float = 5.0, **told: Unpack[Told]) -> UUID:
        """`record_durable` on an event loop, which it never holds up."""
        return await writer.aput(event(action, **told), durable=True, timeout=timeout)


class AuditLog(models.Model):
    """One thing done: who, what, to what, from where, with which outcome. Written by row triggers and `record`.

    Never changes, but for what an erasure sets to NULL (`auditing.erasing`), and goes by the month (`auditing.retention`); the
    database refuses every other UPDATE, DELETE and TRUNCATE. Partitioned by month of `id`. It points at nothing:
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
        permissions = [("export_auditlog", "Can export the audit log")]

    def __str__(self) -> str:
        return f"{self.action} {self.resource_type} {self.resource_label}".strip()

    def save(self, **kwargs: Any) -> None:
        if not self._state.adding:
            raise AppendOnly
        super().save(**kwargs)

    def delete(self, *args: object, **kwargs: object) -> NoReturn:
        raise AppendOnly
