"""Policies as they would be: changes that nobody has made, checked as if somebody saved them. Nothing is stored."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal
from uuid import UUID

from django.core.exceptions import ValidationError

from policies import validation
from policies.models import Policy
from policies.models.policy import SCOPE
from policies.operators import Row
from policies.resolution import StoredPolicy
from tenants.models import Tenant

SCOPE_IDS = ("app_id", "branch_id", "user_id", "key_id")
FIELDS = frozenset(
    {
        "policy_type", "config", "priority", "enabled", "overridable", "final", "valid_from", "valid_until", "schedule",
        "name", "description", "message", *SCOPE_IDS,
    }
)  # fmt: skip
"""What a change may set: the columns that an author writes."""


@dataclass(frozen=True, slots=True)
class Change:
    """A change that has not been made. policy_id: of which policy; None only for create, which then makes an id.

    fields: by name, one of FIELDS, with values as `save()` takes them; app, branch, user and key by id, as `app_id`. An
    update keeps what it does not name; a delete names none.
    """

    op: Literal["create", "update", "delete"]
    policy_id: UUID | None = None
    fields: Mapping[str, Any] = field(default_factory=dict)


def changed(tenant: Tenant, policies: Iterable[Policy], changes: Iterable[Change]) -> list[Policy]:
    """The policies of `tenant` after the changes, made in order; `policies` (all of them) stay as they are.

    Raises ValidationError by field, as `save()` would, and for what only a change can get wrong: unknown_op,
    unknown_policy (also a policy of another tenant), unknown_field, tenant_mismatch (a scope id that is not the tenant's).
    """
    found = {policy.pk: policy for policy in policies}
    written: dict[UUID, Policy] = {}
    for change in changes:
        policy = _applied(tenant, found, change)
        if change.op == "delete":
            del found[policy.pk]
            written.pop(policy.pk, None)
        else:
            found[policy.pk] = written[policy.pk] = policy
    for policy in written.values():
        policy.clean_fields(exclude=SCOPE)
    _refuse_strangers(tenant, [*written.values()])
    validation.check([*written.values()])
    return [*found.values()]


def _applied(tenant: Tenant, found: Mapping[UUID, Policy], change: Change) -> Policy:
    if change.op not in ("create", "update", "delete"):
        raise _fault("op", "unknown_op", f"{change.op} is no change. Use create, update or delete.")
    if unknown := sorted(set(change.fields) - FIELDS):
        text = f"{', '.join(unknown)}: a change cannot set this. Use one of: {', '.join(sorted(FIELDS))}."
        raise _fault("fields", "unknown_field", text)
    if change.op == "create":
        policy = Policy(tenant=tenant, version=1)
        policy.pk = change.policy_id or policy.pk
        if policy.pk in found:
            raise _fault("policy_id", "unknown_policy", f"Policy {policy.pk} is there already. Update it.")
    else:
        if change.policy_id is None or change.policy_id not in found:
            text = f"There is no policy {change.policy_id} here. policy_list shows them."
            raise _fault("policy_id", "unknown_policy", text)
        policy = copy.copy(found[change.policy_id])
        policy._state = copy.copy(policy._state)
        policy._state.fields_cache = {"tenant": tenant}
        policy.version += 1
    for name, value in change.fields.items():
        setattr(policy, name, _id(name, value) if name in SCOPE_IDS else copy.deepcopy(value))
    return policy


def _id(name: str, value: Any) -> UUID | None:
    try:
        return value if value is None or isinstance(value, UUID) else UUID(value)
    except (ValueError, TypeError, AttributeError):
        raise _fault(name, "invalid", f"{value} is no id. Give the id of a row.") from None


def _refuse_strangers(tenant: Tenant, policies: Sequence[Policy]) -> None:
    """The database refuses a scope id that is nobody's, or hidden by row security; a change never gets that far."""
    for name in SCOPE_IDS:
        wanted = {getattr(policy, name) for policy in policies} - {None}
        model: Any = Policy._meta.get_field(name.removesuffix("_id")).related_model
        known = set(model._base_manager.filter(tenant=tenant, pk__in=wanted).values_list("pk", flat=True))
        if wanted - known:
            what = name.removesuffix("_id")
            raise _fault(what, "tenant_mismatch", f"There is no such {what} here. Choose one of the same tenant.")


def _fault(name: str, code: str, text: str) -> ValidationError:
    return ValidationError({name: ValidationError(text, code=code)})


def scope_of(policy: Policy) -> tuple[UUID | None, ...]:
    """(app, branch, user, key) of a policy, None = any."""
    return policy.app_id, policy.branch_id, policy.user_id, policy.key_id


def layer_of(scope: Sequence[UUID | None]) -> int:
    """As the column `layer`, which the database makes: 1 + 2 app + 4 branch + 8 user + 16 key."""
    return 1 + sum(weight for weight, value in zip((2, 4, 8, 16), scope, strict=True) if value is not None)


def as_stored(policy: Policy) -> StoredPolicy:
    """A policy, saved or virtual, as the resolver reads it."""
    schedule = None if policy.schedule is None else json.dumps(policy.schedule)
    columns = (
        policy.pk, layer_of(scope_of(policy)), policy.priority, policy.policy_type, json.dumps(policy.config),
        policy.overridable, policy.final, policy.version, policy.valid_from, policy.valid_until, schedule,
        policy.name, policy.message,
    )  # fmt: skip
    return StoredPolicy.read(columns)


def in_order(policies: Iterable[StoredPolicy]) -> tuple[StoredPolicy, ...]:
    """The one total order: layer DESC, priority DESC, id ASC."""
    return tuple(sorted(policies, key=lambda one: Row.order(one.row)))


class Shelf:
    """Enabled policies of one tenant by scope, to find those of a request without asking the database.

    The conditions are those of the resolving statement: each scope column is any, or the request's.
    """

    def __init__(self, policies: Iterable[Policy], read: Callable[[Policy], StoredPolicy] = as_stored) -> None:
        self._by_scope: dict[tuple[UUID | None, ...], list[StoredPolicy]] = {}
        for policy in policies:
            if policy.enabled:
                self._by_scope.setdefault(scope_of(policy), []).append(read(policy))

    def scopes(self) -> list[tuple[UUID | None, ...]]:
        """Every scope that some policy has."""
        return [*self._by_scope]

    def exactly(self, scope: tuple[UUID | None, ...]) -> list[StoredPolicy]:
        """Policies of this very scope, of one layer."""
        return self._by_scope.get(scope, [])

    def matching(self, scope: Sequence[UUID | None]) -> tuple[StoredPolicy, ...]:
        """All policies whose scope a request of this scope meets, in the total order."""
        tuples: list[tuple[UUID | None, ...]] = [()]
        for value in scope:
            tuples = [(*before, part) for before in tuples for part in ({None, value} if value else (None,))]
        return in_order(one for each in tuples for one in self._by_scope.get(each, ()))
