from __future__ import annotations

from typing import Any

from asgiref.sync import sync_to_async
from django.contrib.auth.backends import ModelBackend
from django.db import models
from django.db.models.functions import Lower
from django.http import HttpRequest

from auditing.middleware import client_address
from auditing.redaction import clean
from tenants import passwords, sign_in, throttling
from tenants.errors import PasswordsBusy, SignInRefused
from tenants.models import Tenant, User
from tenants.roles import PERMISSIONS

MAX_NAME = 63 + 1 + 254
"""Characters of `tenant/e-mail` at their longest."""


class TenantBackend(ModelBackend):
    """Signs in by e-mail, by `tenant/name`, or, for operators, by a bare user name. Permissions come from the role.

    An e-mail of two tenants signs nobody in; one of an operator is the operator's. Exactly one hash is computed on every
    path, so a wrong name takes as long as a wrong password; what is no password (over 1,024 bytes) is refused before. Too
    many failures are refused before too (tenants.throttling), and each failure is on record (tenants.sign_in).
    """

    def authenticate(
        self,
        request: HttpRequest | None,
        username: str | None = None,
        password: str | None = None,
        staff: bool = False,
        **kwargs: Any,
    ) -> User | None:
        """staff: only who may open the admin; others fail as with a wrong password. Raises SignInRefused, PasswordsBusy."""
        name = username if username is not None else kwargs.get(User.USERNAME_FIELD)
        if not name or not isinstance(password, str):
            return None
        attempt = throttling.begin(str(name), client_address(request) if request is not None else None)
        if isinstance(attempt, throttling.Refused):
            if attempt.first:
                sign_in.record_throttled(request, attempt.retry_after)
            raise SignInRefused(attempt.retry_after)
        try:
            user, why = self._check(str(name), password, staff)
        except PasswordsBusy:
            attempt.forgive()
            raise
        if why:
            sign_in.record_failure(request, why, user)
            return None
        attempt.forgive()
        return user

    async def aauthenticate(self, request: HttpRequest | None, **credentials: Any) -> User | None:  # type: ignore[override]
        """The same rules: Django's own would ask for operators' e-mails alone, and count nothing."""
        return await sync_to_async(self.authenticate)(request, **credentials)

    def _check(self, name: str, password: str, staff: bool) -> tuple[User | None, str]:
        """Whose name it is, and why it does not sign in; empty: it does."""
        if fault := passwords.fault(password):
            return None, fault
        users = self._find(name)
        if len(users) != 1:
            User().set_password(password)
            return None, "ambiguous_name" if users else "unknown_name"
        [user] = users
        if not user.check_password(password):
            return user, "wrong_password"
        if not user.is_active:
            return user, "user_disabled"
        if not self.user_can_authenticate(user):
            return user, "tenant_disabled"
        return user, "not_staff" if staff and not user.is_staff else ""

    def user_can_authenticate(self, user: Any) -> bool:
        return bool(user.is_active) and (user.tenant is None or user.tenant.active)

    def _get_permissions(self, user_obj: Any, obj: object, from_name: str) -> set[str]:
        if user_obj.tenant_id is not None:
            return set(PERMISSIONS[user_obj.role]) if user_obj.is_active and obj is None else set()
        found: set[str] = super()._get_permissions(user_obj, obj, from_name)  # type: ignore[misc]  # the stubs omit it
        return found

    async def _aget_permissions(self, user_obj: Any, obj: object, from_name: str) -> set[str]:
        return await sync_to_async(self._get_permissions)(user_obj, obj, from_name)

    def _find(self, name: str) -> list[User]:
        """The user of a name; two if it is not clear whose it is."""
        if len(name) > MAX_NAME or clean(name) != name:  # what the database does not take, or a token
            return []
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
        return matches[:1] if matches and matches[0].tenant_id is None else matches
