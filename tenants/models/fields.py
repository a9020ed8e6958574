"""Shapes of fields that several models of tenants share."""

from __future__ import annotations

from functools import partial

from django.core.exceptions import ValidationError
from django.core.validators import RegexValidator
from django.db import models

from controlplane.core.fields import validate_json

SLUG = r"^[a-z0-9](-?[a-z0-9])+$"
validate_slug = RegexValidator(
    SLUG + r"(?<!\n)",
    "A slug has 2 to 63 lower-case letters, digits and single hyphens inside, as acme or acme-eu.",
    code="invalid_slug",
)


def validate_object(value: object) -> None:
    if not isinstance(value, dict):
        raise ValidationError('This is no JSON object. Write {"name": "value"}.', code="not_an_object")
    validate_json(value)


json_field = partial(models.JSONField, default=dict, blank=True, validators=[validate_object])


class Status(models.TextChoices):
    """State of a tenant, app or branch. Only what is active passes verification; deleted can be restored."""

    ACTIVE = "active"
    SUSPENDED = "suspended"
    DELETED = "deleted"


def status_constraints(label: str) -> list[models.BaseConstraint]:
    """What the database demands of `status` and `deleted_at`; label: the model's, in lower case."""
    return [
        models.CheckConstraint(
            condition=models.Q(status__in=Status.values),
            name=f"cp_tenants_{label}_status",
            violation_error_message="The status is active, suspended or deleted.",
        ),
        # deleted_at tells when, status tells that: neither without the other
        models.CheckConstraint(
            condition=models.Q(status=Status.DELETED, deleted_at__isnull=False)
            | (~models.Q(status=Status.DELETED) & models.Q(deleted_at__isnull=True)),
            name=f"cp_tenants_{label}_deleted_has_a_time",
            violation_error_message="What is deleted has deleted_at, and nothing else has.",
        ),
    ]
