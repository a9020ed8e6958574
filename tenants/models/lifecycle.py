from __future__ import annotations

from collections.abc import Collection
from typing import Any, Self

from django.db import models

from auditing.context import audit_context
from controlplane.core.caches import invalidation
from controlplane.core.fields import created_at_field, id_field, updated_at_field
from controlplane.core.ids import now
from tenants.errors import TenantsError
from tenants.models.fields import Status


class LifecycleQuerySet(models.QuerySet[Any]):
    def active(self) -> Self:
        return self.filter(status=Status.ACTIVE)

    def deleted(self) -> Self:
        return self.filter(status=Status.DELETED)

    def present(self) -> Self:
        """All but the deleted ones."""
        return self.exclude(status=Status.DELETED)


class Lifecycle(models.Model):
    """A row that is suspended, resumed, deleted softly and restored; each of it with a reason, in the audit log.

    The methods change the stored row first, so of two at once one wins; the instance follows.
    """

    id = id_field()
    status = models.CharField(
        max_length=9,
        choices=Status,
        default=Status.ACTIVE,
        editable=False,
        db_comment="active, suspended, deleted (soft)",
    )
    deleted_at = models.DateTimeField(null=True, editable=False, db_comment="When it was deleted; its names stay taken")
    created_at = created_at_field()
    updated_at = updated_at_field()

    class Meta:
        abstract = True

    @property
    def active(self) -> bool:
        return self.status == Status.ACTIVE

    def suspend(self, reason: str) -> None:
        """Stop everything below without touching it. Raises already_suspended, not_active, reason_required."""
        code = "already_suspended" if self._stored_status() == Status.SUSPENDED else "not_active"
        self._move({Status.ACTIVE}, Status.SUSPENDED, reason, code)

    def resume(self, reason: str = "resumed") -> None:
        """Raises not_suspended."""
        self._move({Status.SUSPENDED}, Status.ACTIVE, reason, "not_suspended")

    def delete(self, reason: str = "") -> None:  # type: ignore[override]
        """Delete softly: hidden and closed, its names stay taken, everything that points to it stays. No row goes."""
        self._move({Status.ACTIVE, Status.SUSPENDED}, Status.DELETED, reason, "not_active", deleted_at=now())

    def restore(self, reason: str) -> None:
        """Raises not_deleted when it is not deleted."""
        self._move({Status.DELETED}, Status.ACTIVE, reason, "not_deleted", deleted_at=None)

    def _stored_status(self) -> str | None:
        return type(self)._base_manager.filter(pk=self.pk).values_list("status", flat=True).first()

    def _extra(self, to: str, reason: str) -> dict[str, Any]:
        """Further columns that a model keeps of a change of its status."""
        return {}

    def _move(self, allowed: Collection[str], to: str, reason: str, code: str, **values: Any) -> None:
        if not reason.strip():
            raise TenantsError("reason_required")
        values |= {"status": to, **self._extra(to, reason)}
        with audit_context(reason=reason):
            if not type(self)._base_manager.filter(pk=self.pk, status__in=allowed).update(**values):
                raise TenantsError(code)
            invalidation.changed(str(self._meta.model_name), self.pk)
        self.refresh_from_db(fields=[*values, "updated_at"])
