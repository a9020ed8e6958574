"""Shapes of the policy table's columns and constraints, and the database functions it stands on."""

from __future__ import annotations

from typing import Any

from django.db import models
from django.db.models import Case, F, Func, Q, Value, When
from django.db.models.functions import Cast, Coalesce
from django.db.models.lookups import Exact, LessThanOrEqual

from controlplane.core.constraints import TenantForeignKey
from controlplane.core.ids import NIL
from policies.periods import FIRST, LAST
from policies.schemas import MAX_CONFIG_BYTES, SCHEMAS


class ScheduleHolds(Func):
    """Whether a schedule holds at an instant; the same rule as policies.periods.Schedule."""

    function = "cp_policies_schedule_holds"
    output_field = models.BooleanField()


class ScheduleValid(Func):
    function = "cp_policies_schedule_valid"
    output_field = models.BooleanField()


def key_field(name: str) -> models.GeneratedField:
    """A scope id with nil for NULL, so that "any" is an ordinary value of the resolving index."""
    return models.GeneratedField(
        expression=Coalesce(F(name), Value(NIL, models.UUIDField())),
        output_field=models.UUIDField(),
        db_persist=True,
        db_comment=f"{name}_id, or nil for any",
    )


def _bit(name: str, weight: int) -> Case:
    return Case(When(**{f"{name}__isnull": False}, then=Value(weight)), default=Value(0))


def layer_field() -> models.GeneratedField:
    """Nearness of the scope, 1 (organization) to 31: the number that the total order begins with."""
    return models.GeneratedField(
        expression=Value(1) + _bit("app", 2) + _bit("branch", 4) + _bit("user", 8) + _bit("key", 16),
        output_field=models.SmallIntegerField(),
        db_persist=True,
        db_comment="1 + 2 app + 4 branch + 8 user + 16 key",
    )


class DatabaseCheck(models.CheckConstraint):
    """A check for those who write past Python; policies.validation says the same in words, and better.

    Django would ask the database about a schedule of None as JSON null, which is no schedule.
    """

    def validate(self, *args: Any, **kwargs: Any) -> None:
        """Nothing: `Policy.clean` has judged it."""


def policy_constraints() -> list[models.BaseConstraint]:
    """What the database refuses, whoever writes."""
    return [
        TenantForeignKey(fields=("tenant", "app"), to="cp_tenants.App", name="cp_policies_policy_app_fk"),
        TenantForeignKey(fields=("tenant", "branch"), to="cp_tenants.Branch", name="cp_policies_policy_branch_fk"),
        TenantForeignKey(fields=("tenant", "user"), to="cp_tenants.User", name="cp_policies_policy_user_fk"),
        TenantForeignKey(fields=("tenant", "key"), to="cp_tenants.APIKey", name="cp_policies_policy_key_fk"),
        # Where the app is set, a branch or key of another app would make a policy that never applies.
        TenantForeignKey(
            fields=("tenant", "app", "branch"),
            to="cp_tenants.Branch",
            to_fields=("tenant", "app", "id"),
            name="cp_policies_policy_branch_of_app_fk",
        ),
        TenantForeignKey(
            fields=("tenant", "app", "key"),
            to="cp_tenants.APIKey",
            to_fields=("tenant", "app", "id"),
            name="cp_policies_policy_key_of_app_fk",
        ),
        models.CheckConstraint(
            condition=Q(policy_type__in=[*SCHEMAS]),
            name="cp_policies_policy_type_known",
            violation_error_message="There is no such policy type.",
        ),
        DatabaseCheck(
            condition=Exact(
                Func(F("config"), function="jsonb_typeof", output_field=models.TextField()), Value("object")
            ),
            name="cp_policies_policy_config_object",
            violation_error_message="The config is a JSON object.",
        ),
        DatabaseCheck(
            condition=LessThanOrEqual(
                Func(Cast("config", models.TextField()), function="octet_length", output_field=models.IntegerField()),
                Value(MAX_CONFIG_BYTES),
            ),
            name="cp_policies_policy_config_size",
            violation_error_message="The config has at most 64 KiB.",
        ),
        DatabaseCheck(
            condition=Q(valid_from__isnull=True) | Q(valid_until__isnull=True) | Q(valid_until__gt=F("valid_from")),
            name="cp_policies_policy_ends_after_start",
            violation_error_message="This ends before it begins.",
        ),
        # Python cannot read a time beyond the years 1 to 9999, nor infinity: one such row would close the gate of its tenant.
        DatabaseCheck(
            condition=(Q(valid_from__isnull=True) | Q(valid_from__gte=FIRST, valid_from__lt=LAST))
            & (Q(valid_until__isnull=True) | Q(valid_until__gte=FIRST, valid_until__lt=LAST)),
            name="cp_policies_policy_within_calendar",
            violation_error_message="A time lies in the years 2 to 9998.",
        ),
        DatabaseCheck(
            condition=Q(branch__isnull=True) | Q(app__isnull=False),
            name="cp_policies_policy_branch_needs_app",
            violation_error_message="A branch needs its app.",
        ),
        # The resolver reads nil as "any": a row with that id would be met by every request.
        models.CheckConstraint(
            condition=~Q(app=NIL) & ~Q(branch=NIL) & ~Q(user=NIL) & ~Q(key=NIL),
            name="cp_policies_policy_scope_not_nil",
            violation_error_message="A scope id cannot be all zeros.",
        ),
        # Both resolvers read schedules without asking whether they are sound.
        DatabaseCheck(
            condition=ScheduleValid(F("schedule")),
            name="cp_policies_policy_schedule_valid",
            violation_error_message="The schedule is {tz, days, start, end} with an IANA zone.",
        ),
    ]
