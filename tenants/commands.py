"""What the commands of tenants share: rows by the names that people type, and rows as a list shows them."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any
from uuid import UUID

from django.db.models import Value
from django.db.models.functions import Lower

from auditing.context import command_actor
from auditing.models import InFlightRequest
from controlplane.core import commands
from tenants import tokens
from tenants.errors import KeyOperationError, TenantsError
from tenants.models import APIKey, APIKeySecret, App, Branch, Tenant, User


class Command(commands.Command):
    """Base of the commands of tenants."""

    @property
    def by(self) -> str:
        """Who runs the command, for the columns that name it: the user of the operating system."""
        return command_actor(self.name).label


def add_tenant(parser: ArgumentParser) -> None:
    parser.add_argument("--tenant", required=True, metavar="SLUG", help="the tenant")


def add_app(parser: ArgumentParser, *, required: bool = True, help: str = "the app of the tenant") -> None:
    parser.add_argument("--app", required=required, metavar="SLUG", help=help)


def add_json(parser: ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="what was made as one JSON object, for scripts")


def add_reason(parser: ArgumentParser, *, required: bool = True) -> None:
    parser.add_argument("--reason", required=required, default="", help="why; kept in the audit log")


def tenant_by_slug(slug: str, *, deleted: bool = False) -> Tenant:
    """The tenant of a slug. deleted: a deleted one too. Raises TenantsError: not_found, not_active."""
    tenant: Tenant | None = Tenant.objects.filter(slug=slug).first()
    if tenant is None:
        raise _missing(f"There is no tenant {slug!r}. tenant_list shows them.")
    if tenant.deleted_at and not deleted:
        raise TenantsError("not_active", f"The tenant {slug} is deleted. Restore it first, with tenant_restore.")
    return tenant


def app_by_slug(tenant: Tenant, slug: str) -> App:
    """The app of a tenant. Raises TenantsError("not_found")."""
    app: App | None = App.objects.for_tenant(tenant).filter(slug=slug).first()
    if app is None:
        raise _missing(f"The tenant {tenant.slug} has no app {slug!r}. app_list --tenant {tenant.slug} shows them.")
    return app


def branch_by_code(app: App, code: str) -> Branch:
    """The branch of an app. Raises TenantsError("not_found")."""
    branch: Branch | None = Branch.objects.for_app(app).filter(code=code).first()
    if branch is None:
        known = ", ".join(Branch.objects.for_app(app).order_by("code").values_list("code", flat=True)[:20]) or "none"
        raise _missing(f"The app {app.slug} has no branch {code!r}. It has: {known}.")
    return branch


def user_by_name(tenant: Tenant, text: str) -> User:
    """The user of a tenant by e-mail or user name, in any case. Raises TenantsError("not_found")."""
    name = Lower("email" if "@" in text else "username")  # lower on both sides: iexact is upper() and misses the index
    found = User.objects.for_tenant(tenant).alias(lowered=name).filter(lowered=Lower(Value(text)))
    user: User | None = found.first()
    if user is None:
        raise _missing(f"The tenant {tenant.slug} has no user {text!r}. user_list --tenant {tenant.slug} shows them.")
    return user


def key_by_name(tenant: Tenant, text: str) -> APIKey:
    """The key of a tenant by its id, or by the kid or prefix of one of its secrets; a whole token is refused unread.

    Raises TenantsError("not_found"), KeyOperationError("contains_token").
    """
    if tokens.holds_token(text):
        raise KeyOperationError(
            "contains_token",
            "This is a whole token, and others can see the arguments of a command: revoke it. "
            "Name the key by its id, or by the token's first part (cpk_live_ and 12 characters).",
        )
    keys = APIKey.objects.for_tenant(tenant)
    try:
        keys = keys.filter(pk=UUID(text))
    except ValueError:
        keys = keys.filter(secrets__kid=text.rpartition("_")[2])
    key: APIKey | None = keys.first()
    if key is None:
        raise _missing(f"The tenant {tenant.slug} has no key {text!r}. keys_list --tenant {tenant.slug} shows them.")
    return key


def secret_by_kid(key: APIKey, kid: str) -> APIKeySecret:
    """A secret of a key by its kid or prefix. Raises TenantsError("not_found")."""
    secret = key.secrets.filter(kid=kid.rpartition("_")[2]).first()
    if secret is None:
        raise _missing(f"The key {key.name} has no secret {kid!r}.")
    return secret


def what_stops(tenant: Tenant) -> dict[str, int]:
    """Numbers of what no longer works while the tenant is suspended or deleted."""
    return {
        "apps": App.objects.for_tenant(tenant).active().count(),
        "users": User.objects.for_tenant(tenant).active().count(),
        "live keys": APIKey.objects.for_tenant(tenant).live().count(),
        "calls in flight": InFlightRequest.objects.for_tenant(tenant).count(),
    }


def numbers(counts: dict[str, int]) -> str:
    """`3 apps, 7 users`."""
    return ", ".join(f"{count} {name}" for name, count in counts.items())


def tenant_row(tenant: Tenant) -> dict[str, Any]:
    return {
        "slug": tenant.slug,
        "name": tenant.name,
        "status": tenant.status,
        "time_zone": tenant.time_zone,
        "domain": tenant.domain,
        "created_at": tenant.created_at,
        "id": tenant.pk,
    }


def app_row(app: App) -> dict[str, Any]:
    return {
        "slug": app.slug,
        "name": app.name,
        "type": app.app_type,
        "status": app.status,
        "created_at": app.created_at,
        "id": app.pk,
    }


def user_row(user: User) -> dict[str, Any]:
    status = "deleted" if user.deleted_at else "active" if user.is_active else "inactive"
    return {
        "email": user.email,
        "username": user.username,
        "name": user.display_name,
        "role": user.role,
        "status": status,
        "last_login": user.last_login,
        "id": user.pk,
    }


def key_row(key: APIKey) -> dict[str, Any]:
    """Needs `app`, `user`, `branch` and the secrets prefetched. No digest, no token."""
    secrets = sorted(key.secrets.all(), key=lambda secret: secret.pk)
    return {
        "id": key.pk,
        "name": key.name,
        "app": key.app.slug,
        "environment": key.environment,
        "state": key.state,
        "expires_at": key.expires_at,
        "user": key.user.email if key.user else None,
        "branch": key.branch.code if key.branch else None,
        "scopes": key.scopes,
        "secrets": [
            secret.hint or f"cpk_{key.environment}_{secret.kid}" for secret in secrets if secret.revoked_at is None
        ],
        "last_used_at": getattr(key, "used_at", None),
    }


def _missing(message: str) -> TenantsError:
    return TenantsError("not_found", message, http_status=404)
