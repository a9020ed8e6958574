"""What the commands about policies share: a policy by its id or name, and differences as lines."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any
from uuid import UUID

from django.core.management.base import CommandError

from controlplane.core.commands import COULD_NOT_RUN
from policies.history import ABSENT, Change
from policies.models import Policy, PolicyVersion
from tenants.models import Tenant


def policy_id_of(tenant: Tenant, text: str) -> UUID:
    """The id of a policy of a tenant, there or deleted, by its id or its name; one that is there goes before.

    Raises CommandError (could not run): there is none, or several have the name.
    """
    versions = PolicyVersion.objects.filter(tenant=tenant)
    try:
        found = [*versions.filter(policy_id=UUID(text)).values_list("policy_id", flat=True)[:1]]
    except ValueError:
        policies = Policy.objects.filter(tenant=tenant)
        gone = versions.filter(op=PolicyVersion.Op.DELETE, body__name=text).exclude(policy_id__in=policies.values("pk"))
        found = [*policies.filter(name=text).values_list("pk", flat=True)[:2]]
        found = found or [*gone.order_by("policy_id").values_list("policy_id", flat=True).distinct()[:2]]
    if len(found) == 1:
        return found[0]
    there = "Several policies have" if found else "There is no policy with"
    raise CommandError(
        f"{there} the name or id {text!r}. policy_list --tenant {tenant.slug} shows their ids, policy_history those of "
        "deleted ones too.",
        returncode=COULD_NOT_RUN,
    )


def lines_of(changes: Iterable[Change]) -> Iterator[str]:
    """`  config.limits.0.limit: "5" → "6"`, a line each."""
    for change in changes:
        if change.before is ABSENT:
            yield f"  + {change.path}: {_json(change.after)}"
        elif change.after is ABSENT:
            yield f"  - {change.path}: {_json(change.before)}"
        else:
            yield f"    {change.path}: {_json(change.before)} → {_json(change.after)}"


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
