"""What policies were: differences of two versions, an old body put back, and the effective policy of a past epoch."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from itertools import zip_longest
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

from django.db import connections

from auditing.directory import directory
from controlplane.core.conf import conf
from controlplane.core.ids import NIL, now
from policies.errors import PolicyError
from policies.periods import check_instant
from policies.resolution import EffectivePolicy, StoredPolicy
from policies.scope import Scope
from tenants.models import APIKey, App, Branch, Tenant, User
from tenants.verification import VerifiedKey

if TYPE_CHECKING:
    from policies.models import Policy

COUNTED = frozenset({"id", "tenant_id", "version", "layer", "created_at", "updated_at"})
"""Fields of a body that no author writes: what a policy is, and what follows from the rest."""


class Absent(Enum):
    """Its one member: there is nothing at this path, not even null."""

    ABSENT = "absent"


ABSENT: Final = Absent.ABSENT


@dataclass(frozen=True, slots=True)
class Change:
    """One difference. path: as `priority` or `config.limits.0.limit`; before, after: JSON values, ABSENT = nothing there."""

    path: str
    before: Any
    after: Any

    def as_record(self) -> dict[str, Any]:
        """As JSON: `{"path", "before", "after"}`; what is absent has no entry."""
        sides = {"before": self.before, "after": self.after}
        return {"path": self.path, **{name: value for name, value in sides.items() if value is not ABSENT}}


def diff(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[Change]:
    """What differs between two bodies of versions, by path; `{}` stands for no policy. COUNTED fields are left out.

    Objects are compared by name and lists of objects by place, down to the value that differs; a list of plain values is
    one value. true is not 1, but 1.0 is 1, as in the database. Any mappings of JSON values will do.
    """
    return [change for change in _changes((), old, new) if change.path.partition(".")[0] not in COUNTED]


def _changes(path: tuple[str, ...], old: Any, new: Any) -> Iterator[Change]:
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for name in sorted({*old, *new}):
            yield from _changes((*path, name), old.get(name, ABSENT), new.get(name, ABSENT))
    elif isinstance(old, list) and isinstance(new, list) and any(isinstance(entry, dict) for entry in old + new):
        for number, (before, after) in enumerate(zip_longest(old, new, fillvalue=ABSENT)):
            yield from _changes((*path, str(number)), before, after)
    elif not _equal(old, new):
        yield Change(".".join(path), old, new)


def _equal(one: Any, other: Any) -> bool:
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_equal, one, other))
    return bool(one == other) and isinstance(one, bool) == isinstance(other, bool)


def put_back(policy: Policy, body: Mapping[str, Any]) -> None:
    """Set the fields of a policy to those of the body of a version. Fields that are younger than the body stay."""
    for field in policy._meta.concrete_fields:
        name = field.attname
        if name in body and not field.generated and name not in {"id", "tenant_id", "version", "updated_at"}:
            setattr(policy, name, field.to_python(body[name]))


def actor_names(actors: Iterable[str]) -> dict[str, str]:
    """What to show for the `actor` of versions: the e-mail of a user, the name of a key, else as it is stored.

    Versions keep no names of people, who may ask to be forgotten. Who is gone, or hidden by a tenant scope, stays an id.
    """
    shown = {actor: actor for actor in actors}
    for kind, types in (("user", ("operator", "user")), ("api_key", ("api_key",))):
        ids = {actor: _id(actor) for actor in shown if actor.partition(" ")[0] in types}
        names = directory().names(kind, {id_ for id_ in ids.values() if id_})
        shown |= {actor: f"{actor.partition(' ')[0]} {names[id_]}" for actor, id_ in ids.items() if id_ in names}
    return shown


def _id(actor: str) -> UUID | None:
    try:
        return UUID(actor.partition(" ")[2])
    except ValueError:
        return None


# The columns of the statement in policies.resolution, out of the versions. Those of one tenant are few enough to be read.
_STATEMENT = """
SELECT t.time_zone, p.id, p.layer, p.priority, p.policy_type, p.config::text, p.overridable, p.final, p.version,
       p.valid_from, p.valid_until, p.schedule::text, p.name, p.message
FROM cp_tenants_tenant t
LEFT JOIN (
  (SELECT DISTINCT ON (policy_id) op, body FROM cp_policies_policyversion
   WHERE tenant_id = %(tenant)s AND epoch <= %(epoch)s ORDER BY policy_id, version DESC) v
  CROSS JOIN LATERAL jsonb_populate_record(NULL::cp_policies_policy, v.body) p
) ON v.op <> 'delete' AND p.enabled
  AND coalesce(p.app_id, %(nil)s) = ANY (ARRAY[%(nil)s, %(app)s])
  AND coalesce(p.branch_id, %(nil)s) = ANY (ARRAY[%(nil)s, %(branch)s])
  AND coalesce(p.user_id, %(nil)s) = ANY (ARRAY[%(nil)s, %(user)s])
  AND coalesce(p.key_id, %(nil)s) = ANY (ARRAY[%(nil)s, %(key)s])
  AND (p.valid_until IS NULL OR p.valid_until > %(at)s)
WHERE t.id = %(tenant)s
ORDER BY p.layer DESC, p.priority DESC, p.id
"""


def effective_at_epoch(
    tenant: Tenant | UUID,
    epoch: int,
    app: App | None = None,
    branch: Branch | None = None,
    user: User | None = None,
    key: APIKey | VerifiedKey | None = None,
    at: datetime | None = None,
) -> EffectivePolicy:
    """What the policies of a request came to when the tenant's epoch was `epoch`: one statement over the versions.

    A decision that was logged with its epoch, instant and request is made again, as far as policies decide it: the
    catalog, the key and the tenant's zone are those of today. epoch: 0 = before the first policy; one that is not yet
    reached is the present. at: aware, None = now. Raises PolicyError as `Policy.objects.effective`.
    """
    scope, instant = Scope.of(tenant, app, branch, user, key), now() if at is None else check_instant(at)
    asked = {"app": scope.app_id, "branch": scope.branch_id, "user": scope.user_id, "key": scope.key_id}
    params: dict[str, Any] = {"tenant": scope.tenant_id, "epoch": epoch, "at": instant, "nil": NIL}
    with connections[conf.DATABASE].cursor() as cursor:
        cursor.execute(_STATEMENT, params | {name: value or NIL for name, value in asked.items()})
        rows = cursor.fetchall()
    if not rows:
        raise PolicyError("tenant_mismatch")
    stored = tuple(StoredPolicy.read(row[1:]) for row in rows if row[1] is not None)
    return EffectivePolicy.of(scope, rows[0][0], instant, stored, epoch)
