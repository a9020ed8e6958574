"""Who asks: the organization, app, branch, user and key of one request."""

from __future__ import annotations

from typing import NamedTuple, Self
from uuid import UUID

from policies.errors import PolicyError
from tenants.models import APIKey, App, Branch, Tenant, User
from tenants.verification import VerifiedKey


class Scope(NamedTuple):
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
        tenant_id = tenant if isinstance(tenant, UUID) else tenant.id
        for given in (app, branch, user, key):
            if given is not None and (given.tenant_id is None or given.tenant_id.int != tenant_id.int):
                raise PolicyError("tenant_mismatch")
        app_id = None if app is None else app.id
        branch_id = None if branch is None else branch.id
        user_id = None if user is None else user.id
        key_id = None
        if key is not None:
            app_id = _agreed(app_id, key.app_id)
            branch_id = _agreed(branch_id, key.branch_id)
            user_id = _agreed(user_id, key.user_id)
            key_id = key.key_id if isinstance(key, VerifiedKey) else key.id
        if branch is not None:
            app_id = _agreed(app_id, branch.app_id)
        return cls(tenant_id, app_id, branch_id, user_id, key_id)


def _agreed(given: UUID | None, owned: UUID | None) -> UUID | None:
    if given is not None and owned is not None and given != owned:
        raise PolicyError("scope_mismatch")
    return given or owned
