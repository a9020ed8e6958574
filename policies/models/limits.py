from __future__ import annotations

from datetime import datetime
from typing import Any, Self
from uuid import UUID

from django.contrib.postgres.fields import ArrayField
from django.db import models, router, transaction
from django.db.models import F, Q

from auditing.models import AuditLog
from catalog.units import plain
from controlplane.core.constraints import TenantForeignKey
from controlplane.core.fields import created_at_field, id_field
from controlplane.core.ids import now
from policies import limits
from policies.counting import LEVELS, METRICS, owner_words
from policies.errors import PolicyError
from tenants.models import Tenant

_MOST = 10**18
"""numeric(30, 12) holds less; said as a bound, because NaN is greater than every number."""


def _amount_field(**options: Any) -> models.DecimalField[Any, Any]:
    return models.DecimalField(max_digits=30, decimal_places=12, **options)


def _owner_id_field(name: str) -> models.UUIDField[Any, Any]:
    return models.UUIDField(
        null=True, blank=True, editable=False, db_comment=f"{name} of the owner, NULL: not part of it"
    )


class LimitBucketQuerySet(models.QuerySet["LimitBucket"]):
    def current(self, tenant: Tenant | UUID, at: datetime | None = None) -> Self:
        """Counters of a tenant whose window holds `at` (None = now)."""
        at = at or now()
        return self.filter(
            Q(starts_at__isnull=True) | Q(starts_at__lte=at),
            Q(ends_at__isnull=True) | Q(ends_at__gt=at),
            tenant_id=tenant if isinstance(tenant, UUID) else tenant.pk,
        )

    def for_owner(
        self, app: UUID | None = None, branch: UUID | None = None, user: UUID | None = None, key: UUID | None = None
    ) -> Self:
        """Counters of exactly this owner: None = not part of it; all None = the organization's own."""
        found = self.filter(app_id=app, branch_id=branch, user_id=user, key_id=key)
        return found if any((app, branch, user, key)) else found.filter(owner_kind="scope:1")

    def with_held(self) -> Self:
        """Those that open reservations hold something of."""
        return self.filter(reserved__gt=0)


class LimitBucket(models.Model):
    """One counter: what an owner spent of one metric in one window, and what calls that still run hold of it.

    Written by `policies.limits` alone. spent and reserved are US dollars for cost, else numbers. The limit is not in the
    key: `last_limit` is what the last call was held against, for display. Budgets stay, rate counters go after their end.
    """

    class Kind(models.TextChoices):
        RATE = "rate"
        BUDGET = "budget"

    id = id_field()
    tenant = models.ForeignKey(Tenant, models.PROTECT, db_index=False, related_name="+", db_comment="Whose it is")
    key = models.TextField(editable=False, db_comment="kind|owner|metric|window|anchor|models|label: one counter")
    kind = models.CharField(max_length=6, choices=Kind, db_comment="rate or budget")
    owner_kind = models.CharField(max_length=10, db_comment="scope:<layer> of the policy, or per:<x> of the request")
    app_id = _owner_id_field("App")
    branch_id = _owner_id_field("Branch")
    user_id = _owner_id_field("User")
    key_id = _owner_id_field("API key")
    metric = models.CharField(max_length=13, db_comment="What is counted; cost: US dollars")
    window = models.CharField(max_length=5, db_comment="Kind of window")
    label = models.CharField(max_length=20, blank=True, db_comment="Which window; empty: it has no bounds")
    starts_at = models.DateTimeField(null=True, blank=True, db_comment="First instant; NULL: no bound")
    ends_at = models.DateTimeField(null=True, blank=True, db_comment="First instant after it; NULL: no bound")
    spent = _amount_field(default=0, db_comment="Settled")
    reserved = _amount_field(default=0, db_comment="Held by calls that run")
    last_limit = _amount_field(null=True, blank=True, db_comment="Limit of the last call, for display")
    last_mode = models.CharField(max_length=6, blank=True, default="", db_comment="Its mode: hard, soft or shadow")
    created_at = created_at_field()
    # Declared last: it hides the module below.
    models = ArrayField(
        models.TextField(), null=True, blank=True, db_comment="Patterns of the calls that count; NULL: all calls"
    )

    objects = LimitBucketQuerySet.as_manager()

    class Meta:
        verbose_name = "limit counter"
        db_table_comment = "What an owner spent and holds of one metric in one window"
        constraints = [
            models.UniqueConstraint(fields=["tenant", "id"], name="cp_policies_limitbucket_tenant_id"),
            # The arbiter of opening a window: whoever comes second finds the first one's row.
            models.UniqueConstraint(fields=["tenant", "key"], name="cp_policies_limitbucket_key_once"),
            models.CheckConstraint(
                condition=Q(kind="budget", metric="cost")
                | Q(kind="rate", metric__in=[metric for metric in METRICS if metric != "cost"]),
                name="cp_policies_limitbucket_metric_of_kind",
                violation_error_message="Budgets count cost, rate limits count requests, tokens or calls at a time.",
            ),
            # No counter below zero: what is given back was taken before. NaN, greater than every number, is none.
            models.CheckConstraint(
                condition=Q(spent__gte=0, spent__lt=_MOST),
                name="cp_policies_limitbucket_spent_is_a_number",
                violation_error_message="spent is a number of at least 0.",
            ),
            models.CheckConstraint(
                condition=Q(reserved__gte=0, reserved__lt=_MOST),
                name="cp_policies_limitbucket_reserved_is_a_number",
                violation_error_message="reserved is a number of at least 0.",
            ),
            models.CheckConstraint(
                condition=Q(starts_at__isnull=True, ends_at__isnull=True)
                | Q(starts_at__isnull=False, ends_at__isnull=False, ends_at__gt=F("starts_at")),
                name="cp_policies_limitbucket_ends_after_start",
                violation_error_message="A window ends after it begins, or has no bounds.",
            ),
        ]
        indexes = [
            # What policies.sweeping removes. No index holds a counter, or no update would be a HOT one.
            models.Index(fields=["window", "ends_at"], condition=Q(kind="rate"), name="limitbucket_rate_ends_idx"),
        ]

    def __str__(self) -> str:
        return f"{self.metric} per {self.window} of {self.owner}"

    @property
    def owner(self) -> str:
        """As `user:<id>`; `organization`; `none`, which all requests without one share."""
        return owner_words(self.owner_kind, (getattr(self, f"{level}_id") for level in LEVELS))

    @property
    def left(self) -> Any:
        """What the last limit leaves, never below 0; None without a limit."""
        return None if self.last_limit is None else max(self.last_limit - self.spent - self.reserved, 0 * self.spent)

    @property
    def resets_at(self) -> datetime | None:
        """When another window begins; None: never."""
        return self.ends_at

    def as_record(self) -> dict[str, Any]:
        """As JSON, for scripts; amounts as text."""
        return {
            "id": self.pk,
            "owner": self.owner,
            "kind": self.kind,
            "metric": self.metric,
            "window": self.window,
            "label": self.label,
            "models": self.models,
            "mode": self.last_mode or None,
            "limit": None if self.last_limit is None else plain(self.last_limit),
            "spent": plain(self.spent),
            "reserved": plain(self.reserved),
            "left": None if self.left is None else plain(self.left),
            "resets_at": self.resets_at,
        }


class LimitAlert(models.Model):
    """A threshold that a counter passed in its window, told once. Written by `policies.limits.notices`, never changed.

    threshold: `alert:<level>` of an alert_at, once so much is spent; `soft:<level>` of a soft limit that was passed.
    """

    id = id_field()
    tenant = models.ForeignKey(Tenant, models.PROTECT, db_index=False, related_name="+", db_comment="Whose it is")
    bucket = models.ForeignKey(
        LimitBucket, models.CASCADE, db_index=False, db_constraint=False, related_name="alerts", db_comment="Which one"
    )
    threshold = models.CharField(max_length=60, db_comment="alert:<level> or soft:<level>")
    level = _amount_field(db_comment="US dollars, or a number")
    used = _amount_field(db_comment="What the counter stood at")
    policy_id = models.UUIDField(db_comment="The policy that said so")
    policy_version = models.IntegerField(db_comment="Its version then")
    told_at = models.DateTimeField(db_comment="When it was told")

    class Meta:
        db_table_comment = "A threshold that a counter passed in its window"
        constraints = [
            TenantForeignKey(
                fields=("tenant", "bucket"),
                to="cp_policies.LimitBucket",
                name="cp_policies_limitalert_bucket_of_tenant",
            ),
            # The arbiter of who tells it: of all that pass a threshold at once, one.
            models.UniqueConstraint(fields=["bucket", "threshold"], name="cp_policies_limitalert_once"),
        ]

    def __str__(self) -> str:
        return self.threshold


class ReservationQuerySet(models.QuerySet["Reservation"]):
    def for_tenant(self, tenant: Tenant | UUID) -> Self:
        return self.filter(tenant_id=tenant if isinstance(tenant, UUID) else tenant.pk)

    def open(self) -> Self:
        """Those that hold something."""
        return self.filter(state=Reservation.State.RESERVED)

    def stale(self, at: datetime | None = None) -> Self:
        """Open ones past their end at `at` (None = now), oldest first: whoever made them is gone."""
        return self.open().filter(expires_at__lte=at or now()).order_by("expires_at", "id")

    def of_bucket(self, bucket: LimitBucket) -> Self:
        """Those that hold, or held, something of a counter."""
        return self.filter(tenant_id=bucket.tenant_id, bucket_ids__contains=[bucket.pk])

    def release(self, reason: str) -> int:
        """Give back what these hold, one by one; how many there were. As Reservation.release, but for what has ended."""
        return sum(reservation._release(reason) for reservation in self.open().order_by("id"))


class Reservation(models.Model):
    """What one call holds of its counters, and in the end spent. One row per request id of a tenant, for good.

    Written by `policies.limits` alone. bucket_ids, amounts and actuals go together, in the order of the ids. An end is
    final, but for an expired one, which may still be settled: what was used is charged, however late.
    """

    class State(models.TextChoices):
        RESERVED = "reserved"
        SETTLED = "settled"
        RELEASED = "released"
        EXPIRED = "expired"

    id = id_field()
    # No foreign key of the database: it would lock the tenant's row at every call.
    tenant = models.ForeignKey(
        Tenant, models.PROTECT, db_index=False, db_constraint=False, related_name="+", db_comment="Whose it is"
    )
    request_id = models.CharField(max_length=200, db_comment="The caller's name for the request")
    state = models.CharField(max_length=8, choices=State, default=State.RESERVED, db_comment="How it stands")
    bucket_ids = ArrayField(models.UUIDField(), blank=True, db_comment="Counters, by id")
    amounts = ArrayField(_amount_field(), blank=True, db_comment="What is held of each")
    actuals = ArrayField(_amount_field(), null=True, blank=True, db_comment="What was spent of each; NULL: not settled")
    app_id = models.UUIDField(null=True, blank=True, db_comment="App that asked")
    branch_id = models.UUIDField(null=True, blank=True, db_comment="Branch that asked")
    user_id = models.UUIDField(null=True, blank=True, db_comment="User that asked")
    key_id = models.UUIDField(null=True, blank=True, db_comment="API key that asked")
    model = models.CharField(max_length=265, blank=True, db_comment="Canonical id")
    digest = models.CharField(max_length=64, db_comment="SHA-256 of what was asked: the same id asks the same")
    policy_ids = ArrayField(models.UUIDField(), blank=True, db_comment="Policies whose limits were asked")
    policy_versions = ArrayField(models.IntegerField(), blank=True, db_comment="Their versions")
    overrun = models.BooleanField(default=False, db_comment="Spent more than was held")
    estimated = models.BooleanField(default=False, db_comment="Something is spent as held: what was used is not known")
    reserved_at = models.DateTimeField(db_comment="When it began")
    expires_at = models.DateTimeField(db_comment="From then on its maker is taken for gone")
    ended_at = models.DateTimeField(null=True, blank=True, db_comment="When it ended; NULL: open")

    objects = ReservationQuerySet.as_manager()

    class Meta:
        db_table_comment = "What one call holds of its counters, and in the end spent"
        constraints = [
            # A repeated request is charged once.
            models.UniqueConstraint(fields=["tenant", "request_id"], name="cp_policies_reservation_request_once"),
            models.CheckConstraint(
                condition=Q(state__in=["reserved", "settled", "released", "expired"]),
                name="cp_policies_reservation_state_known",
                violation_error_message="There is no such state.",
            ),
            models.CheckConstraint(
                condition=Q(state="reserved", ended_at__isnull=True)
                | (~Q(state="reserved") & Q(ended_at__isnull=False)),
                name="cp_policies_reservation_ended_with_state",
                violation_error_message="An open reservation has no end, any other has one.",
            ),
            models.CheckConstraint(
                condition=Q(state="settled", actuals__isnull=False) | (~Q(state="settled") & Q(actuals__isnull=True)),
                name="cp_policies_reservation_actuals_with_state",
                violation_error_message="A settled reservation says what was spent, and no other.",
            ),
            models.CheckConstraint(
                condition=Q(amounts__len=F("bucket_ids__len"))
                & (Q(actuals__isnull=True) | Q(actuals__len=F("bucket_ids__len"))),
                name="cp_policies_reservation_amount_of_each",
                violation_error_message="There is one amount for each counter.",
            ),
        ]

    def __str__(self) -> str:
        return self.request_id

    def release(self, reason: str) -> None:
        """Give back what this holds; recorded as an event, `reservation.released`, with the reason.

        The call itself is not stopped: if it ends after all, it is charged nothing. Raises PolicyError: reason_required,
        reservation_ended.
        """
        if not self._release(reason):
            raise PolicyError("reservation_ended", http_status=409)
        self.refresh_from_db()

    def _release(self, reason: str) -> bool:
        if not reason.strip():
            raise PolicyError("reason_required", http_status=400)
        using = self._state.db or router.db_for_write(Reservation)
        with transaction.atomic(using=using):
            ended = limits.release(self.tenant_id, self.request_id, using=using)
            if ended is None or not ended.changed:
                return False
            held = dict(zip(map(str, ended.buckets), map(plain, ended.amounts), strict=True))
            AuditLog.objects.record(
                "reservation.released",
                tenant=self.tenant_id, app=self.app_id, branch=self.branch_id, user=self.user_id, api_key=self.key_id,
                resource=self, details={"held": held}, reason=reason, request_id=self.request_id, model=self.model,
            )  # fmt: skip
        return True

    def as_record(self) -> dict[str, Any]:
        """As JSON, for scripts; amounts as text, in the order of the counters."""
        named = (
            "request_id",
            "state",
            "model",
            "app_id",
            "branch_id",
            "user_id",
            "key_id",
            "reserved_at",
            "expires_at",
        )
        return {
            "id": self.pk,
            **{name: getattr(self, name) for name in named},
            "ended_at": self.ended_at,
            "counters": self.bucket_ids,
            "amounts": [plain(amount) for amount in self.amounts],
            "actuals": None if self.actuals is None else [plain(amount) for amount in self.actuals],
            "overrun": self.overrun,
            "estimated": self.estimated,
        }
