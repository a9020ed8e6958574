"""One table of configuration, five times: as it is, watched by ours, and by three peers as they ship."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pghistory
from auditlog.registry import auditlog
from django.db import models
from simple_history.models import HistoricalRecords

from controlplane.core.ids import NIL, uuid7


class Configuration(models.Model):
    id: models.Field[UUID, UUID] = models.UUIDField(primary_key=True, default=uuid7)
    tenant_id: models.Field[UUID, UUID] = models.UUIDField(default=NIL)
    slug: models.Field[str, str] = models.CharField(max_length=63)
    name: models.Field[str, str] = models.CharField(max_length=200)
    status: models.Field[str, str] = models.CharField(max_length=16, default="active")
    config: models.Field[Any, Any] = models.JSONField(default=dict)
    metadata: models.Field[Any, Any] = models.JSONField(default=dict)
    created_at: models.Field[Any, Any] = models.DateTimeField(auto_now_add=True)
    updated_at: models.Field[Any, Any] = models.DateTimeField(auto_now=True)

    class Meta:
        abstract = True


class Plain(Configuration):
    """Nothing records its changes."""


class Ours(Configuration):
    """Watched by cp_audit_watch."""


@pghistory.track(pghistory.InsertEvent(), pghistory.UpdateEvent(), pghistory.DeleteEvent())
class ByPghistory(Configuration):
    """A row trigger of django-pghistory, into a table of its own."""


class ByAuditlog(Configuration):
    """Signals of django-auditlog, into one table for all models."""


class BySimpleHistory(Configuration):
    """Signals of django-simple-history, into a table of its own."""

    history = HistoricalRecords()


auditlog.register(ByAuditlog)
