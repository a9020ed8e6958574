"""Who asks: the organization, app, branch, user and key of one request."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self
from uuid import UUID

from policies.errors import PolicyError
from tenants.models import APIKey, App, Branch, Tenant, User
from tenants.verification import VerifiedKey


@dataclass(frozen=True, slots=True)
class Scope:
    """Ids of one request. None = the request has none, which meets only policies that ask for none."""

    tenant_id: UUID
    app_id: UUID | None = None
    branch_id: UUID | None = None
    user_id: UUID | None = None
    key_id: UUID | None = None

    @classmethod
    def of(
        cls,
        tenant: Tenant | UUID,
        app: App | None = None,
        branch: Branch | None = None,
        user: User | None = None,
        key: APIKey | VerifiedKey | None = None,
    ) -> Self:
        """The scope of a request; what was left out is filled from the key, then from the branch: it opens nothing.

        Raises PolicyError: tenant_mismatch, an object of another tenant or of none; scope_mismatch, an app, branch or
        user that is not the key's, or a branch that is not the app's. A key without branch or user goes with any.
        """
        tenant_id = tenant if isinstance(tenant, UUID) else tenant.pk
        for given in (app, branch, user, key):
            if given is not None and given.tenant_id != tenant_id:
                raise PolicyError("tenant_mismatch")
        app_id, branch_id, user_id = (None if given is None else given.pk for given in (app, branch, user))
        if key is not None:
            app_id = _agreed(app_id, key.app_id)
            branch_id = _agreed(branch_id, key.branch_id)
            user_id = _agreed(user_id, key.user_id)
        if branch is not None:
            app_id = _agreed(app_id, branch.app_id)
        key_id = key.pk if isinstance(key, APIKey) else None if key is None else key.key_id
        return cls(tenant_id, app_id, branch_id, user_id, key_id)


def _agreed(given: UUID | None, owned: UUID | None) -> UUID | None:
    if given is not None and owned is not None and given != owned:
        raise PolicyError("scope_mismatch")
    return given or owned
