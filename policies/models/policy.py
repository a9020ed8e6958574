from __future__ import annotations

import json
from collections.abc import Collection, Iterable
from datetime import datetime
from typing import Any, Self
from uuid import UUID

from django.contrib.postgres.fields import ArrayField
from django.core.exceptions import ValidationError
from django.core.serializers.json import DjangoJSONEncoder
from django.db import models, transaction
from django.db.models import F, Q, Value
from django.db.models.base import ModelBase

from auditing.context import audit_context
from controlplane.core.caches import invalidation
from controlplane.core.fields import created_at_field, id_field, updated_at_field
from controlplane.core.ids import NIL, now
from policies import resolution, validation
from policies.columns import ScheduleHolds, key_field, layer_field, policy_constraints
from policies.errors import PolicyError
from policies.history import put_back
from policies.models.history import PolicyVersion
from policies.periods import Schedule, Window, check_instant
from policies.resolution import EffectivePolicy
from policies.scope import Scope
from tenants.models import APIKey, App, Branch, Tenant, User
from tenants.verification import VerifiedKey

SCOPE = ("tenant", "app", "branch", "user", "key")
DERIVED = ("version", "updated_at", "layer", "app_key", "branch_key", "user_key", "key_key")
CHECKED = {*SCOPE, "policy_type", "config", "overridable", "final", "valid_from", "valid_until", "schedule"}
"""Columns whose values must be judged together: `update()` leaves them to `save()`."""


class PolicyQuerySet(models.QuerySet["Policy"]):
    def applicable(
        self,
        tenant: Tenant | UUID,
        app: App | None = None,
        branch: Branch | None = None,
        user: User | None = None,
        key: APIKey | VerifiedKey | None = None,
        at: datetime | None = None,
        types: Iterable[str] | None = None,
    ) -> Self:
        """The policies of one request at one instant, in the total order: the nearest layer, priority, then id.

        A policy applies if each scope column it sets equals the request's: a set column never meets an absent value.
        What is left out is taken from `key`. at: aware, None = now. types: policy types, None = all. Raises
        PolicyError (scope_mismatch, tenant_mismatch) before any statement.
        """
        scope, at = Scope.of(tenant, app, branch, user, key), _instant(at)
        found = self.filter(
            Q(valid_from__isnull=True) | Q(valid_from__lte=at),
            Q(valid_until__isnull=True) | Q(valid_until__gt=at),
            Q(schedule__isnull=True) | Q(ScheduleHolds(F("schedule"), Value(at))),
            tenant_id=scope.tenant_id,
            enabled=True,
            app_key__in=[NIL, scope.app_id or NIL],
            branch_key__in=[NIL, scope.branch_id or NIL],
            user_key__in=[NIL, scope.user_id or NIL],
            key_key__in=[NIL, scope.key_id or NIL],
        )
        if types is not None:
            found = found.filter(policy_type__in=[*types])
        return found.order_by("-layer", "-priority", "id")

    def left_out(self, effective: EffectivePolicy, limit: int = 200) -> list[tuple[UUID, str]]:
        """Policies of the tenant with no part in `effective`, by id, and why: other_scope, disabled or expired."""
        scope = effective.scope
        found = self.filter(tenant_id=scope.tenant_id).exclude(pk__in=effective.policies).order_by("id")[:limit]
        return [(policy.pk, policy.why_left_out(scope)) for policy in found]

    def restore(
        self, tenant: Tenant | UUID, policy_id: UUID, version: int, reason: str = "", if_version: int | None = None
    ) -> Policy:
        """The policy with the body of one of its versions, as a new version; a deleted one comes back under its id.

        The body passes the checks of `save()`: what it names must still be there. The version of a deletion has what was
        deleted. A body that is the present one changes nothing. Raises ValidationError, as save(); PolicyError
        ("version_unknown"). if_version: as for save().
        """
        tenant_id = tenant if isinstance(tenant, UUID) else tenant.pk
        with audit_context(reason=reason):
            versions = PolicyVersion.objects.filter(tenant_id=tenant_id, policy_id=policy_id)
            found = versions.filter(version=version).first()
            if found is None:
                raise PolicyError("version_unknown", http_status=404)
            # One at a time: a row that is not there cannot be locked, and two would both insert it.
            Tenant._base_manager.select_for_update(no_key=True).get(pk=tenant_id)
            stored = self.model._base_manager.select_for_update().filter(pk=policy_id, tenant_id=tenant_id).first()
            policy: Policy = stored or self.model(id=policy_id, tenant_id=tenant_id)
            put_back(policy, found.body)
            policy.clean_fields()  # the scope too: its rows may be gone
            policy.save(if_version=if_version, force_insert=stored is None)
        return policy

    def update(self, **kwargs: Any) -> int:
        """As ever, but for columns that are checked together: those raise ValidationError, code use_save."""
        checked = sorted(name for name in kwargs if name.removesuffix("_id") in CHECKED)
        if checked:
            text = "This is checked together with other fields. Change it with save()."
            raise ValidationError({name: ValidationError(text, code="use_save") for name in checked})
        changed = super().update(**kwargs)
        invalidation.changed("policy", None)
        return changed

    def bulk_create(self, objs: Iterable[Policy], *args: Any, **kwargs: Any) -> list[Policy]:
        """As ever, after the same checks as `save()`; if one fails, nothing is stored."""
        objs = list(objs)
        for policy in objs:
            policy.clean_fields(exclude=SCOPE)
        validation.check(objs)
        made = super().bulk_create(objs, *args, **kwargs)
        for tenant_id in {policy.tenant_id for policy in objs}:
            invalidation.changed("policy", tenant_id)
        return made

    def delete(self) -> tuple[int, dict[str, int]]:
        deleted = super().delete()
        invalidation.changed("policy", None)
        return deleted

    delete.queryset_only = True  # type: ignore[attr-defined]  # as Django's own: no manager deletes everything by a slip


_Manager = models.Manager.from_queryset(PolicyQuerySet)


class PolicyManager(_Manager["Policy"]):
    cache = resolution.cache

    def effective(
        self,
        tenant: Tenant | UUID,
        app: App | None = None,
        branch: Branch | None = None,
        user: User | None = None,
        key: APIKey | VerifiedKey | None = None,
        at: datetime | None = None,
    ) -> EffectivePolicy:
        """What the policies of one request come to, and which policy gave each value: cached, else one statement.

        Arguments and errors as for `applicable`. at: None = now, else past the
        cache. What this transaction changed by this class is seen in it. A tenant that does not exist, or cannot be seen in
        the present tenant scope: PolicyError("tenant_mismatch"), no empty set: that would allow. Database away:
        policy_unavailable (503).
        """
        return resolution.effective(self._db, Scope.of(tenant, app, branch, user, key), at and _instant(at))


def _instant(at: datetime | None) -> datetime:
    return now() if at is None else check_instant(at)


class Policy(models.Model):
    """One rule of one type for one scope: who may do what, within which limits, from when to when.

    A scope column that is NULL means any, including none. Written by administrators and commands; each change makes a
    new version. What a request may do follows from all policies that apply to it: never read one alone.
    """

    class Type(models.TextChoices):
        MODEL_ACCESS = "model_access"
        TOKEN_CAPS = "token_caps"  # noqa: S105  a policy type, no secret
        RATE_LIMIT = "rate_limit"
        BUDGET = "budget"
        GUARDRAIL = "guardrail"
        ROUTING = "routing"
        RETENTION = "retention"
        STORAGE_ACCESS = "storage_access"

    id = id_field()
    # No index per foreign key: those of Meta begin with the tenant and serve every question.
    tenant = models.ForeignKey(
        Tenant, models.PROTECT, db_index=False, related_name="policies", db_comment="Whose it is"
    )
    app = models.ForeignKey(
        App, models.PROTECT, null=True, blank=True, db_index=False, db_constraint=False, related_name="policies",
        help_text="Empty: any app, or none.", db_comment="NULL: any app, or none",
    )  # fmt: skip
    branch = models.ForeignKey(
        Branch, models.PROTECT, null=True, blank=True, db_index=False, db_constraint=False, related_name="policies",
        help_text="Empty: any branch, or none.", db_comment="NULL: any branch, or none",
    )  # fmt: skip
    user = models.ForeignKey(
        User, models.PROTECT, null=True, blank=True, db_index=False, db_constraint=False, related_name="policies",
        swappable=False,  # in a project that has its own user model this still points at ours
        help_text="Empty: any user, or none.", db_comment="NULL: any user, or none",
    )  # fmt: skip
    key = models.ForeignKey(
        APIKey, models.PROTECT, null=True, blank=True, db_index=False, db_constraint=False, related_name="policies",
        verbose_name="API key", help_text="Empty: any key, or none.", db_comment="NULL: any key, or none",
    )  # fmt: skip
    policy_type = models.CharField(
        "type", max_length=32, choices=Type, help_text="Fixed once created.", db_comment="Which schema config follows"
    )
    config = models.JSONField(
        default=dict,
        blank=True,
        help_text="What the policy says, as JSON; the fields depend on the type.",
        db_comment="What it says; a field that is absent or null says nothing",
    )
    priority = models.SmallIntegerField(
        default=0,
        help_text="Within one scope the higher number comes first. A nearer scope always comes before.",
        db_comment="Order within a layer, higher first",
    )
    enabled = models.BooleanField(default=True, db_comment="Off: never applies")
    overridable = ArrayField(
        models.TextField(),
        default=list,
        blank=True,
        help_text="Strict fields that a nearer policy may replace, separated by commas.",
        db_comment="Strict fields of config that a nearer layer may replace",
    )
    final = ArrayField(
        models.TextField(),
        default=list,
        blank=True,
        help_text="Preferences that no nearer policy may replace, separated by commas.",
        db_comment="Preferences of config that no nearer layer may replace",
    )
    valid_from = models.DateTimeField(
        null=True, blank=True, help_text="First instant. Empty: no beginning.", db_comment="First instant; NULL: none"
    )
    valid_until = models.DateTimeField(
        null=True,
        blank=True,
        help_text="First instant at which it no longer applies. Empty: no end.",
        db_comment="First instant after the end; NULL: none",
    )
    schedule = models.JSONField(
        null=True,
        blank=True,
        help_text='As {"tz": "UTC", "days": ["mon"], "start": "22:00", "end": "06:00"}. Empty: always.',
        db_comment="Hours of the week {tz, days, start, end}; NULL: always",
    )
    name = models.CharField(max_length=120, blank=True, default="", db_comment="Name for people")
    description = models.TextField(blank=True, default="", db_comment="Why it exists, for people")
    message = models.CharField(
        max_length=500,
        blank=True,
        default="",
        help_text="Shown to a caller whom this policy refuses.",
        db_comment="Words for a refused caller; empty: the usual ones",
    )
    version = models.IntegerField(default=1, editable=False, db_comment="Counts real changes; set by a trigger")
    created_at = created_at_field()
    updated_at = updated_at_field()

    app_key = key_field("app")
    branch_key = key_field("branch")
    user_key = key_field("user")
    key_key = key_field("key")
    layer = layer_field()

    objects = PolicyManager()

    class Meta:
        verbose_name_plural = "policies"
        db_table_comment = "Rules on models, limits, routing, retention and storage, by scope"
        constraints = policy_constraints()
        indexes = [
            # The one index that resolves: applicable() and effective() look up at most two values per column.
            models.Index(
                fields=["tenant", "app_key", "user_key", "branch_key", "key_key"],
                condition=Q(enabled=True),
                name="cp_policy_scope_idx",
            ),
            models.Index(fields=["tenant", "policy_type", "id"], name="cp_policy_tenant_type_idx"),
            models.Index(fields=["tenant", "updated_at"], name="cp_policy_tenant_updated_idx"),
        ]

    def __str__(self) -> str:
        return self.name or f"{self.get_policy_type_display()} {self.pk}"

    def save(
        self,
        *,
        if_version: int | None = None,
        force_insert: bool | tuple[ModelBase, ...] = False,
        force_update: bool = False,
        using: str | None = None,
        update_fields: Iterable[str] | None = None,
    ) -> None:
        """Check and store. Raises ValidationError by field; if_version: also (stale_version) if another is stored."""
        self.clean_fields(exclude=SCOPE)
        validation.check([self])
        with transaction.atomic(using=using):
            if if_version is not None:
                self._refuse_unless(if_version)
            super().save(force_insert=force_insert, force_update=force_update, using=using, update_fields=update_fields)
        invalidation.changed("policy", self.tenant_id)
        self.refresh_from_db(using=using, fields=DERIVED)

    def delete(self, using: str | None = None, keep_parents: bool = False) -> tuple[int, dict[str, int]]:
        deleted = super().delete(using, keep_parents)
        invalidation.changed("policy", self.tenant_id)
        return deleted

    def clean_fields(self, exclude: Collection[str] | None = None) -> None:
        validation.check_shapes(self)
        super().clean_fields(exclude=exclude)

    def clean(self) -> None:
        validation.check([self])

    def restore(self, version: int, reason: str = "", if_version: int | None = None) -> None:
        """Take on the body of an older version, as a new one: `Policy.objects.restore`, which deleted ones need too."""
        type(self).objects.restore(self.tenant_id, self.pk, version, reason, if_version)
        self.refresh_from_db()

    def _refuse_unless(self, version: int) -> None:
        stored = Policy._base_manager.select_for_update().filter(pk=self.pk).values_list("version", flat=True).first()
        if stored != version:
            text = "The policy was changed since it was read. Read it again, then repeat the change."
            raise ValidationError({"version": ValidationError(text, code="stale_version")})

    def why_left_out(self, scope: Scope) -> str:
        """Why a policy that the resolver did not return has no part: it cannot match, is switched off, or has ended."""
        wanted = (self.app_id, self.branch_id, self.user_id, self.key_id)
        asked = (scope.app_id, scope.branch_id, scope.user_id, scope.key_id)
        if any(mine not in (None, theirs) for mine, theirs in zip(wanted, asked, strict=True)):
            return "other_scope"
        return "expired" if self.enabled else "disabled"

    def scope_label(self) -> str:
        """The scope in words, as "app chat, user ada@acme.example"; follows the foreign keys, so select them before."""
        named = {
            "app": self.app and self.app.slug,
            "branch": self.branch and self.branch.code,
            "user": self.user and self.user.email,
            "key": self.key and self.key.name,
        }
        return ", ".join(f"{level} {name}" for level, name in named.items() if name) or "organization"

    def state(self, at: datetime | None = None) -> str:
        """disabled, or what the clock says at `at` (None = now): expired, not_yet_valid, out_of_schedule, active.

        unreadable: its schedule names a time zone that this machine lacks.
        """
        try:
            return (self.window().why_not(_instant(at)) or "active") if self.enabled else "disabled"
        except PolicyError:
            return "unreadable"

    def window(self) -> Window:
        """When the policy applies. Raises PolicyError("unknown_time_zone")."""
        return Window(self.valid_from, self.valid_until, Schedule.parse(self.schedule) if self.schedule else None)

    def as_record(self) -> dict[str, Any]:
        """Every field but the resolver's own, as JSON, for scripts."""
        names = [field.attname for field in self._meta.concrete_fields if not field.attname.endswith("_key")]
        record: dict[str, Any] = json.loads(json.dumps({n: getattr(self, n) for n in names}, cls=DjangoJSONEncoder))
        return record
