from __future__ import annotations

from typing import Any

from django.contrib.auth.backends import ModelBackend
from django.db import models
from django.db.models.functions import Lower
from django.http import HttpRequest

from tenants.models import Tenant, User
from tenants.roles import PERMISSIONS

MAX_PASSWORD_BYTES = 1024


class TenantBackend(ModelBackend):
    """Signs in by e-mail, by `tenant/name`, or, for operators, by a bare user name. Permissions come from the role.

    An e-mail of two tenants signs nobody in; one of an operator is the operator's. Exactly one hash is computed on every
    path, so a wrong name takes as long as a wrong password.
    """

    def authenticate(
        self, request: HttpRequest | None, username: str | None = None, password: str | None = None, **kwargs: Any
    ) -> User | None:
        name = username if username is not None else kwargs.get(User.USERNAME_FIELD)
        if not name or password is None or len(password.encode("utf-8", "replace")) > MAX_PASSWORD_BYTES:
            return None
        user = self._find(str(name))
        if user is None:
            User().set_password(password)
            return None
        return user if user.check_password(password) and self.user_can_authenticate(user) else None

    def user_can_authenticate(self, user: Any) -> bool:
        return bool(user.is_active) and (user.tenant is None or user.tenant.active)

    def _get_permissions(self, user_obj: Any, obj: object, from_name: str) -> set[str]:
        if user_obj.tenant_id is not None:
            return set(PERMISSIONS[user_obj.role]) if user_obj.is_active and obj is None else set()
        found: set[str] = super()._get_permissions(user_obj, obj, from_name)  # type: ignore[misc]  # the stubs omit it
        return found

    def _find(self, name: str) -> User | None:
        if "\x00" in name:
            return None
        lowered = Lower(models.Value(name.split("/", 1)[-1]))
        users = User.objects.select_related("tenant").alias(mail=Lower("email"), name=Lower("username"))
        if "/" in name:
            tenant = Tenant.objects.filter(slug=name.split("/", 1)[0]).first()
            found = (
                users.filter(models.Q(mail=lowered) | models.Q(name=lowered), tenant=tenant) if tenant else users.none()
            )
        elif "@" in name:
            found = users.filter(mail=lowered)
        else:
            found = users.filter(name=lowered, tenant=None)
        matches = list(found.order_by(models.F("tenant").asc(nulls_first=True))[:2])
        # An operator stands above the tenants: none of them can lock it out by taking its e-mail.
        alone = len(matches) == 1 or (bool(matches) and matches[0].tenant_id is None)
        return matches[0] if alone else None
