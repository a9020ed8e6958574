from __future__ import annotations

import zoneinfo
from typing import TYPE_CHECKING, Any, Self

from django.core.exceptions import ValidationError
from django.core.validators import RegexValidator
from django.db import models
from django.db.models.functions import Lower
from django.urls import reverse

from controlplane.core.constraints import TenantForeignKey, json_object
from controlplane.core.fields import EncryptedTextField
from tenants.errors import TenantsError
from tenants.models.fields import SLUG, Status, json_field, status_constraints, validate_slug
from tenants.models.lifecycle import Lifecycle, LifecycleQuerySet

if TYPE_CHECKING:
    from tenants.models.access import UserApp
    from tenants.models.user import User

_DOMAIN = r"^[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)+$"


def validate_time_zone(value: str) -> None:
    try:
        zoneinfo.ZoneInfo(value)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        raise ValidationError(TenantsError.messages["unknown_time_zone"], code="unknown_time_zone") from None


class TenantQuerySet(LifecycleQuerySet):
    def get_by_slug(self, slug: str) -> Tenant:
        """The tenant of that slug, deleted ones too. Raises Tenant.DoesNotExist."""
        found: Tenant = self.get(slug=slug)
        return found

    def get_by_domain(self, domain: str) -> Tenant:
        """The tenant of that domain, in any case. Raises Tenant.DoesNotExist."""
        found: Tenant = self.exclude(domain="").get(domain=domain.lower())
        return found


class Tenant(Lifecycle):
    """One organisation: the border that nothing crosses. Written by operators.

    Its slug is for ever, also after deletion. Suspended or deleted, nothing below it verifies; its rows are not
    touched. Assume no number of apps, users or keys; an app, user or key is found by (tenant, …) only.
    """

    slug = models.CharField(
        max_length=63, unique=True, validators=[validate_slug], db_comment="Name in URLs and commands"
    )
    name = models.CharField(max_length=200, db_comment="Name for people")
    domain = models.CharField(
        max_length=253,
        blank=True,
        default="",
        validators=[RegexValidator(_DOMAIN + r"(?<!\n)", "Write a domain in lower case, as acme.example.")],
        db_comment="E-mail or web domain, lower case; empty: none",
    )
    time_zone = models.CharField(
        max_length=64,
        default="UTC",
        validators=[validate_time_zone],
        help_text="IANA name, as Europe/Berlin. Budgets and days follow it.",
        db_comment="IANA time zone of its days and budgets",
    )
    settings = json_field(help_text="The tenant's own settings: a JSON object.", db_comment="The tenant's own settings")
    metadata = json_field(db_comment="Anything else, for the operator")
    db_dsn = EncryptedTextField(
        "database URL", blank=True, default="", help_text="Of its own database, if it has one. Stored encrypted.",
        db_comment="URL of its own database, encrypted",
    )  # fmt: skip
    db_schema = models.CharField(max_length=63, blank=True, default="", db_comment="Schema in its own database")
    suspended_at = models.DateTimeField(null=True, editable=False, db_comment="Since when it is suspended")
    suspended_reason = models.TextField(default="", editable=False, db_comment="Why it is suspended")

    reference = "slug"
    objects = TenantQuerySet.as_manager()

    class Meta:
        db_table_comment = "An organisation: the border that nothing crosses"
        constraints = [
            *status_constraints("tenant"),
            models.CheckConstraint(
                condition=models.Q(slug__regex=SLUG),
                name="cp_tenants_tenant_slug_is_plain",
                violation_error_code="invalid_slug",
                violation_error_message=TenantsError.messages["invalid_slug"],
            ),
            # one tenant a domain; the many without one share ''
            models.UniqueConstraint(
                fields=["domain"],
                condition=~models.Q(domain=""),
                name="cp_tenants_tenant_domain_once",
                violation_error_message="Another tenant has this domain.",
            ),
            models.CheckConstraint(
                condition=models.Q(domain=Lower("domain")),
                name="cp_tenants_tenant_domain_in_lower_case",
                violation_error_message="Write the domain in lower case.",
            ),
            # a call that begins under an unknown zone could not be booked when it ends
            models.CheckConstraint(
                condition=models.Func("time_zone", function="cp_is_time_zone", output_field=models.BooleanField()),
                name="cp_tenants_tenant_time_zone_is_known",
                violation_error_code="unknown_time_zone",
                violation_error_message=TenantsError.messages["unknown_time_zone"],
            ),
            json_object("settings", "cp_tenants_tenant_settings_is_object"),
            json_object("metadata", "cp_tenants_tenant_metadata_is_object"),
        ]

    def __str__(self) -> str:
        return self.name

    def get_absolute_url(self) -> str:
        return reverse("admin:cp_tenants_tenant_change", args=[self.pk])

    def _extra(self, to: str, reason: str) -> dict[str, Any]:
        suspended = to == Status.SUSPENDED
        return {
            "suspended_at": models.functions.Now() if suspended else None,
            "suspended_reason": reason if suspended else "",
        }


class AppQuerySet(LifecycleQuerySet):
    def for_tenant(self, tenant: Tenant) -> Self:
        return self.filter(tenant=tenant)

    def of_type(self, app_type: str) -> Self:
        return self.filter(app_type=app_type)


class App(Lifecycle):
    """An application of a tenant: what calls models. Written by operators; keys, branches and policies point at it."""

    class Type(models.TextChoices):
        WEB = "web"
        MOBILE = "mobile"
        SERVICE = "service"
        BATCH = "batch"
        AGENT = "agent"
        OTHER = "other"

    tenant = models.ForeignKey(
        Tenant, models.PROTECT, db_index=False, related_name="apps", db_comment="Whose app it is"
    )
    slug = models.CharField(max_length=63, validators=[validate_slug], db_comment="Name in URLs and commands")
    name = models.CharField(max_length=200, db_comment="Name for people")
    app_type = models.CharField(
        "type", max_length=16, choices=Type, default=Type.OTHER, db_comment="Kind of application"
    )
    config = json_field(
        help_text="Settings of the app, the same in every environment.", db_comment="Environment-independent settings"
    )
    metadata = json_field(db_comment="Anything else, for the operator")

    reference = "slug"
    objects = AppQuerySet.as_manager()

    class Meta:
        db_table_comment = "An application of a tenant: what calls models"
        constraints = [
            *status_constraints("app"),
            # what composite foreign keys point at
            models.UniqueConstraint(fields=["tenant", "id"], name="cp_tenants_app_tenant_id"),
            models.UniqueConstraint(
                fields=["tenant", "slug"],
                name="cp_tenants_app_slug_once",
                violation_error_code="slug_taken",
                violation_error_message=TenantsError.messages["slug_taken"],
            ),
            models.UniqueConstraint(
                "tenant",
                Lower("name"),
                name="cp_tenants_app_name_once",
                violation_error_code="name_taken",
                violation_error_message=TenantsError.messages["name_taken"],
            ),
            models.CheckConstraint(
                condition=models.Q(slug__regex=SLUG),
                name="cp_tenants_app_slug_is_plain",
                violation_error_code="invalid_slug",
                violation_error_message=TenantsError.messages["invalid_slug"],
            ),
            json_object("config", "cp_tenants_app_config_is_object"),
            json_object("metadata", "cp_tenants_app_metadata_is_object"),
        ]

    def __str__(self) -> str:
        return self.name

    def get_absolute_url(self) -> str:
        return reverse("admin:cp_tenants_app_change", args=[self.pk])

    def grant(self, user: User, role: str = "viewer", by: str = "") -> UserApp:
        """Give a user access to this app in a role (admin, developer, viewer), or change the role. See UserApp."""
        granted: UserApp = self.accesses.model.objects.grant(self, user, role, by)
        return granted

    def revoke(self, user: User, reason: str = "", by: str = "", keys: bool = False) -> bool:
        """End a user's access. False: there was none. keys: revoke `user.keys_in(app)` too; else they go on."""
        ended: bool = self.accesses.model.objects.revoke(self, user, reason, by, keys)
        return ended


class BranchQuerySet(LifecycleQuerySet):
    def for_app(self, app: App) -> Self:
        return self.filter(tenant_id=app.tenant_id, app=app)


_ADDRESS = {"lines", "city", "region", "postal_code", "country"}


def validate_address(value: Any) -> None:
    """An address: lines (list of text), city, region, postal_code, country (ISO 3166-1, two letters), all optional."""
    if not isinstance(value, dict) or not value.keys() <= _ADDRESS:
        raise ValidationError(f"An address has {', '.join(sorted(_ADDRESS))}, and nothing else.", code="bad_address")
    lines, country = value.get("lines", []), value.get("country", "")
    if not isinstance(lines, list) or not all(isinstance(line, str) for line in lines):
        raise ValidationError('lines is a list of text: ["Main Street 1"].', code="bad_address")
    if country and not (isinstance(country, str) and len(country) == 2 and country.isascii() and country.isupper()):
        raise ValidationError('country is two capital letters (ISO 3166-1): "DE".', code="bad_address")


class Branch(Lifecycle):
    """A location or sub-unit of an app: a store, a region, a department. Written by operators."""

    class Type(models.TextChoices):
        HEADQUARTERS = "headquarters"
        REGION = "region"
        SITE = "site"
        STORE = "store"
        DEPARTMENT = "department"
        OTHER = "other"

    tenant = models.ForeignKey(
        Tenant, models.PROTECT, db_index=False, related_name="branches", db_comment="Whose it is"
    )
    app = models.ForeignKey(
        App,
        models.PROTECT,
        db_index=False,
        db_constraint=False,
        related_name="branches",
        db_comment="App it is part of",
    )
    code = models.CharField(
        max_length=63,
        validators=[RegexValidator(r"^[A-Za-z0-9][A-Za-z0-9._-]*(?<!\n)$", "Letters, digits and . _ - only.")],
        db_comment="Short name, unique in the app",
    )
    name = models.CharField(max_length=200, db_comment="Name for people")
    branch_type = models.CharField("type", max_length=16, choices=Type, default=Type.OTHER, db_comment="Kind of branch")
    address = json_field(
        validators=[validate_address], db_comment="lines, city, region, postal_code, country (ISO 3166-1)"
    )
    contact = models.CharField(max_length=200, blank=True, default="", db_comment="Whom to ask")
    metadata = json_field(db_comment="Anything else, for the operator")

    reference = "code"
    objects = BranchQuerySet.as_manager()

    class Meta:
        verbose_name_plural = "branches"
        db_table_comment = "A location or sub-unit of an app"
        constraints = [
            *status_constraints("branch"),
            # what composite foreign keys point at; the second one by policies and keys, which name the app too
            models.UniqueConstraint(fields=["tenant", "id"], name="cp_tenants_branch_tenant_id"),
            models.UniqueConstraint(fields=["tenant", "app", "id"], name="cp_tenants_branch_tenant_app_id"),
            TenantForeignKey(fields=("tenant", "app"), to="cp_tenants.App", name="cp_tenants_branch_app_of_tenant"),
            models.UniqueConstraint(
                fields=["tenant", "app", "code"],
                name="cp_tenants_branch_code_once",
                violation_error_code="name_taken",
                violation_error_message="Another branch of this app has this code, a deleted one perhaps.",
            ),
            json_object("address", "cp_tenants_branch_address_is_object"),
            json_object("metadata", "cp_tenants_branch_metadata_is_object"),
        ]

    def __str__(self) -> str:
        return self.name
