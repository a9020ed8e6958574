from __future__ import annotations

from contextlib import nullcontext, suppress
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from asgiref.sync import sync_to_async
from django.contrib.auth.hashers import verify_password
from django.contrib.auth.models import AbstractBaseUser, BaseUserManager, Group, Permission, PermissionsMixin
from django.contrib.postgres.search import TrigramSimilarity
from django.core.validators import RegexValidator
from django.db import models
from django.db.models.functions import Lower

from auditing.context import audit_context
from controlplane.core.caches import invalidation
from controlplane.core.constraints import json_object
from controlplane.core.fields import created_at_field, id_field, updated_at_field
from controlplane.core.ids import now
from tenants import passwords
from tenants.errors import PasswordsBusy, TenantsError
from tenants.models.fields import Status, json_field
from tenants.models.tenant import App, Tenant
from tenants.owners import last_owner_kept
from tenants.roles import Role


@dataclass(frozen=True, slots=True)
class DeactivationPreview:
    """What becomes of things when users are deactivated.

    keys: live ones of theirs, refused; families: live sessions, ended; accesses: to apps, resting. seen_keys: live keys of
    no user that they issued. These go on, and they have seen the secrets: rotate them.
    """

    keys: int
    families: int
    accesses: int
    seen_keys: int

    def __str__(self) -> str:
        seen = f"; {self.seen_keys} keys that they issued for apps go on, rotate them" if self.seen_keys else ""
        return f"{self.keys} live keys, {self.families} sessions, {self.accesses} app accesses{seen}"


class UserQuerySet(models.QuerySet["User"]):
    def active(self) -> Self:
        return self.filter(is_active=True)

    def for_tenant(self, tenant: Tenant) -> Self:
        return self.filter(tenant=tenant)

    def operators(self) -> Self:
        return self.filter(tenant=None)

    def with_access_to(self, app: App) -> Self:
        """Users with an access to the app that is not revoked."""
        return self.filter(accesses__app=app, accesses__status=Status.ACTIVE)

    def search(self, text: str, tenant: Tenant | None = None) -> Self:
        """Users whose user name, e-mail or display name begins with or resembles the text, the most alike first."""
        found = self if tenant is None else self.filter(tenant=tenant)
        fields = ("email", "username", "display_name")
        prefix = models.Q(*(models.Q(**{f"{name}__istartswith": text}) for name in fields), _connector="OR")
        alike = models.functions.Greatest(*(TrigramSimilarity(name, text) for name in fields))
        found = found.annotate(likeness=models.functions.Coalesce(alike, 0.0, output_field=models.FloatField()))
        return found.filter(prefix | models.Q(likeness__gt=0.3)).order_by("-likeness", "email")

    def count_by(self, field: str) -> dict[str, int]:
        """Numbers of users by `role`, or by `status` (active, inactive, deleted)."""
        if field == "status":
            status = models.Case(
                models.When(deleted_at__isnull=False, then=models.Value("deleted")),
                models.When(is_active=True, then=models.Value("active")),
                default=models.Value("inactive"),
            )
            return dict(self.order_by().annotate(state=status).values_list("state").annotate(models.Count("pk")))
        if field != "role":
            raise ValueError("count_by takes role or status.")
        return dict(self.order_by().values_list("role").annotate(models.Count("pk")))

    def deactivation_preview(self) -> DeactivationPreview:
        """What would become of things if all of these were deactivated."""
        keys, families, accesses = map(self._pointing_here, ("keys", "families", "accesses"))
        owners = dict(self.order_by().values_list("pk", "tenant_id"))
        theirs = {"tenant__in": {tenant for tenant in owners.values() if tenant}, "user__in": owners}
        issued = keys.filter(user=None, created_by_id__in=owners)
        if None not in owners.values():  # an operator issues keys of any tenant
            issued = issued.filter(tenant__in=theirs["tenant__in"])
        return DeactivationPreview(
            keys=keys.filter(**theirs).live().count(),
            families=families.filter(**theirs).live().count(),
            accesses=accesses.filter(**theirs, status=Status.ACTIVE).count(),
            seen_keys=issued.live().count(),
        )

    def _pointing_here(self, relation: str) -> Any:
        """Manager of a model that refers to users, and so stands in a file that imports this one."""
        model: Any = self.model._meta.get_field(relation).related_model
        return model._default_manager

    def get_by_email(self, email: str, tenant: Tenant | None = None) -> User:
        """The user of that e-mail (in any case) in a tenant; tenant None: an operator. Raises User.DoesNotExist."""
        return self.alias(lowered=Lower("email")).get(lowered=Lower(models.Value(email)), tenant=tenant)

    def get_by_sub(self, sub: str, issuer: str) -> User:
        """The user of that OIDC subject: the exact pair, never guessed from an e-mail. Raises User.DoesNotExist."""
        return self.get(oidc_sub=sub, oidc_issuer=issuer)


class UserManager(BaseUserManager["User"].from_queryset(UserQuerySet)):  # type: ignore[misc]
    def create_user(
        self, email: str, password: str | None = None, *, tenant: Tenant | None = None, **fields: Any
    ) -> User:
        """Make a user of a tenant, or (tenant None) an operator. password None: cannot sign in with one.

        Raises ValidationError by field.
        """
        fields.setdefault("role", Role.VIEWER if tenant else Role.OPERATOR)
        user: User = self.model(email=self.normalize_email(email), tenant=tenant, **fields)
        user.set_password(password)
        user.full_clean()
        user.save()
        return user

    def create_superuser(self, email: str, password: str | None = None, **fields: Any) -> User:
        """Make an operator who may do everything."""
        return self.create_user(email, password, tenant=None, is_staff=True, is_superuser=True, **fields)

    def get_by_natural_key(self, email: str | None) -> User:
        """By e-mail among operators: what `createsuperuser` and `changepassword` ask."""
        found: User = self.get(models.Q(email=email) | models.Q(username=email), tenant=None)
        return found


class User(AbstractBaseUser, PermissionsMixin):
    """A person in one tenant, or an operator in none. The same person in two tenants is two rows.

    Written by operators and tenant admins. `role` is the one truth of what a tenant's user may do (tenants.roles).
    Never deleted: deactivated, or deleted softly. An e-mail is unique in its tenant only, so assume no global look-up.
    """

    id = id_field()
    tenant = models.ForeignKey(
        Tenant, models.PROTECT, null=True, blank=True, db_index=False, related_name="users",
        help_text="Empty: an operator of the platform.", db_comment="NULL: an operator of the platform",
    )  # fmt: skip
    email = models.EmailField(
        "e-mail", max_length=254, validators=[RegexValidator(r"^[^/]*$", "An e-mail address here has no slash.")],
        db_comment="Unique in the tenant, in any case",
    )  # fmt: skip
    username = models.CharField(  # noqa: DJ001 - NULL = none: it is unique where it is given
        "user name", max_length=150, null=True, blank=True, validators=[RegexValidator(r"^[^/@]+$", "No / or @.")],
        db_comment="Unique in the tenant, in any case",
    )  # fmt: skip
    display_name = models.CharField(max_length=200, blank=True, default="", db_comment="Name for people")
    role = models.CharField(max_length=9, choices=Role, default=Role.VIEWER, db_comment="What it may do in its tenant")
    password = models.CharField(max_length=128, editable=False, db_comment="Hash, never the password")
    is_active = models.BooleanField("active", default=True, db_comment="Whether it may sign in and its keys work")
    is_staff = models.BooleanField(
        "staff", default=False, help_text="May open this admin.", db_comment="May open the admin"
    )
    is_superuser = models.BooleanField("superuser", default=False, db_comment="May do everything")
    # declared anew for related_name only: a sibling's own user model has the reverse names already (fields.E304)
    groups = models.ManyToManyField(  # type: ignore[assignment]
        Group, blank=True, related_name="+", db_table="cp_tenants_user_groups"
    )
    user_permissions = models.ManyToManyField(  # type: ignore[assignment]
        Permission, blank=True, related_name="+", db_table="cp_tenants_user_permissions"
    )
    oidc_issuer = models.CharField(
        "OIDC issuer", max_length=255, blank=True, default="", db_comment="Identity provider"
    )
    oidc_sub = models.CharField(
        "OIDC subject", max_length=255, blank=True, default="", db_comment="Subject at the issuer"
    )
    tokens_valid_after = models.DateTimeField(
        null=True, blank=True, editable=False, db_comment="Refresh tokens from before are void; set by a trigger"
    )
    metadata = json_field(db_comment="Anything else")
    last_login = models.DateTimeField(null=True, blank=True, editable=False, db_comment="Last sign-in with a password")
    deleted_at = models.DateTimeField(null=True, editable=False, db_comment="When it was deleted; its names stay taken")
    created_at = created_at_field()
    updated_at = updated_at_field()

    reference = "email"
    objects: ClassVar[UserManager] = UserManager()

    USERNAME_FIELD = "email"
    REQUIRED_FIELDS: ClassVar[list[str]] = []

    class Meta:
        db_table_comment = "A person in one tenant, or an operator in none"
        constraints = [
            models.UniqueConstraint(fields=["tenant", "id"], name="cp_tenants_user_tenant_id"),
            models.UniqueConstraint(
                "tenant",
                Lower("email"),
                nulls_distinct=False,
                name="cp_tenants_user_email_once",
                violation_error_code="name_taken",
                violation_error_message="Another user of this tenant has this e-mail.",
            ),
            models.UniqueConstraint(
                "tenant",
                Lower("username"),
                nulls_distinct=False,
                condition=models.Q(username__isnull=False),
                name="cp_tenants_user_username_once",
                violation_error_code="name_taken",
                violation_error_message="Another user of this tenant has this user name.",
            ),
            # global on purpose: a sign-in knows the pair before it knows the tenant
            models.UniqueConstraint(
                fields=["oidc_issuer", "oidc_sub"],
                condition=~models.Q(oidc_sub=""),
                name="cp_tenants_user_oidc_once",
                violation_error_message="Another user has this identity.",
            ),
            models.CheckConstraint(
                condition=models.Q(oidc_issuer="", oidc_sub="") | (~models.Q(oidc_issuer="") & ~models.Q(oidc_sub="")),
                name="cp_tenants_user_oidc_pair",
                violation_error_message="An issuer needs a subject, and a subject its issuer.",
            ),
            # the sign-in form tells an e-mail, a tenant's user name and an operator's name apart by these characters
            models.CheckConstraint(
                condition=~models.Q(email__contains="/"),
                name="cp_tenants_user_email_without_slash",
                violation_error_message="An e-mail address here has no slash.",
            ),
            models.CheckConstraint(
                condition=~models.Q(username__contains="/") & ~models.Q(username__contains="@"),
                name="cp_tenants_user_username_is_plain",
                violation_error_message="A user name has no / and no @.",
            ),
            models.CheckConstraint(
                condition=models.Q(role__in=Role.values),
                name="cp_tenants_user_role",
                violation_error_code="unknown_role",
                violation_error_message=TenantsError.messages["unknown_role"],
            ),
            models.CheckConstraint(
                condition=models.Q(tenant__isnull=True, role=Role.OPERATOR)
                | (models.Q(tenant__isnull=False) & ~models.Q(role=Role.OPERATOR)),
                name="cp_tenants_user_operator_has_no_tenant",
                violation_error_message="An operator has no tenant, and everybody else has one.",
            ),
            # the admin shows every tenant's rows: its users are the platform's
            models.CheckConstraint(
                condition=models.Q(tenant__isnull=True) | models.Q(is_staff=False, is_superuser=False),
                name="cp_tenants_user_staff_is_operator",
                violation_error_message="Staff and superusers are operators: they have no tenant.",
            ),
            models.CheckConstraint(
                condition=models.Q(deleted_at__isnull=True) | models.Q(is_active=False),
                name="cp_tenants_user_deleted_is_inactive",
                violation_error_message="A deleted user is not active.",
            ),
            json_object("metadata", "cp_tenants_user_metadata_is_object"),
        ]

    def __str__(self) -> str:
        return self.email

    @property
    def audit_actor(self) -> tuple[str, str, str, str]:
        return ("operator" if self.tenant_id is None else "user", str(self.pk), self.email, self.role)

    def clean(self) -> None:
        """No `normalize_username`: names are kept as they were given; an empty one is none."""
        self.username = self.username or None
        self.email = type(self).objects.normalize_email(self.email)

    def save(self, **kwargs: Any) -> None:
        """A new password ends every refresh token family; the same one under a newer hash does not.

        Raises TenantsError("last_owner") for a change that would take the last one.
        """
        ends = self._password is not None and not self._state.adding
        with last_owner_kept(), audit_context() if ends else nullcontext():
            super().save(**kwargs)
            if ends:
                self.families.for_user(self).end("all", "new password")
        invalidation.changed("user", self.pk)

    def set_password(self, raw_password: str | None) -> None:
        """Hash a new password; `save` stores it. Raises TenantsError (password_too_long, password_unreadable), PasswordsBusy."""
        if raw_password is not None and (code := passwords.fault(raw_password)):
            raise TenantsError(code)
        with passwords.hashing():
            super().set_password(raw_password)

    def check_password(self, raw_password: str | None) -> bool:
        """Whether it is the password. One that is right under an old hash is hashed anew. Raises PasswordsBusy."""
        if raw_password is not None and passwords.fault(raw_password):
            return False
        with passwords.hashing():
            right, outdated = verify_password(raw_password, self.password)
        if right and outdated:
            with suppress(PasswordsBusy):  # the next sign-in does it
                old = self.password
                self.set_password(raw_password)
                self._password = None  # the password is the same: nothing ends
                with audit_context():  # a password that was changed meanwhile stays
                    User.objects.filter(pk=self.pk, password=old).update(password=self.password)
        return right

    async def acheck_password(self, raw_password: str | None) -> bool:
        return await sync_to_async(self.check_password)(raw_password)

    def get_full_name(self) -> str:
        return self.display_name or self.email

    def get_short_name(self) -> str:
        return self.display_name or self.username or self.email

    def is_last_owner(self) -> bool:
        """Whether the stored row is the one active owner that its tenant has."""
        if self.tenant_id is None:
            return False
        owners = User.objects.filter(tenant_id=self.tenant_id, role=Role.OWNER, is_active=True)
        return list(owners.values_list("pk", flat=True)[:2]) == [self.pk]

    def apps(self) -> models.QuerySet[App]:
        """The apps this user has access to."""
        return App.objects.filter(accesses__user=self, accesses__status=Status.ACTIVE)

    def keys_in(self, app: App) -> models.QuerySet[Any]:
        """The live keys of this user in an app: the end of the access leaves them as they are."""
        keys: models.QuerySet[Any] = self.keys.live().filter(tenant_id=app.tenant_id, app=app)
        return keys

    def deactivate(self, reason: str) -> None:
        """Close the account: no sign-in, its keys are refused, its sessions end. Raises reason_required, last_owner."""
        self._switch(reason, is_active=False)

    def deactivation_preview(self) -> DeactivationPreview:
        """What `deactivate` would end, and what it would not."""
        preview: DeactivationPreview = User.objects.filter(pk=self.pk).deactivation_preview()
        return preview

    def activate(self, reason: str) -> None:
        """Open it again; its keys work again, its sessions do not. Raises reason_required."""
        self._switch(reason, is_active=True, deleted_at=None)

    def delete(self, reason: str = "") -> None:  # type: ignore[override]
        """Delete softly: deactivated and hidden; e-mail and name stay taken. Raises reason_required, last_owner."""
        self._switch(reason, is_active=False, deleted_at=now())

    def _switch(self, reason: str, **values: Any) -> None:
        if not reason.strip():
            raise TenantsError("reason_required")
        with audit_context(reason=reason), last_owner_kept():
            User.objects.filter(pk=self.pk).update(**values)
            if not values["is_active"]:
                self.families.for_user(self).end("user", reason)
            invalidation.changed("user", self.pk)
        self.refresh_from_db(fields=[*values, "tokens_valid_after", "updated_at"])
