"""What an operator looks after, beside the usage: budgets that run out, seals, and the duties of the worker."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import Any

from django.db.models import F, Q
from django.http import HttpRequest
from django.urls import NoReverseMatch, reverse
from django.utils.http import urlencode

from auditing import verified
from auditing.models import AuditSeal
from controlplane.core import charts, display
from controlplane.core.ids import PLATFORM, now
from controlplane.lateness import State, standings
from policies.models import LimitBucket
from tenants.models import Tenant

NEAR = Decimal("0.8")
SHOWN = 6
SEAL_LATE = timedelta(seconds=600)
"""Sealing runs every 300 s at least, with nothing to seal too."""


def watched(request: HttpRequest, tenant: Tenant | None) -> list[dict[str, Any]]:
    """Sections that this person may see: title, url (its list), rows (name, text, url, pill, bar), more, empty (without rows)."""
    may = request.user.has_perm
    found = []
    if may("cp_policies.view_limitbucket"):
        found.append(_budgets(tenant))
    if may("cp_auditing.view_auditseal") and tenant is None:
        found.append(_seals())
    if may("cp_core.view_workerduty") and tenant is None:
        found.append(_duties())
    return found


def _budgets(tenant: Tenant | None) -> dict[str, Any]:
    """Budgets of now of which 80 % and more is spent or held, the fullest first."""
    at = now()
    rows = LimitBucket.objects.filter(
        Q(starts_at=None) | Q(starts_at__lte=at), Q(ends_at=None) | Q(ends_at__gt=at), kind="budget", last_limit__gt=0,
        spent__gte=F("last_limit") * NEAR - F("reserved"), **({"tenant": tenant} if tenant else {}),
    )  # fmt: skip
    rows = rows.select_related("tenant").order_by(-(F("spent") + F("reserved")) / F("last_limit"), "id")
    near = list(rows[: SHOWN + 1])
    query = {"used": "80", "kind__exact": "budget", **({"tenant": str(tenant.pk)} if tenant else {})}
    return {
        "title": "Budgets past 80 %",
        "url": f"{reverse('admin:cp_policies_limitbucket_changelist')}?{urlencode(query)}",
        "rows": [_budget(row) for row in near[:SHOWN]],
        "more": "There are more: open the list." if len(near) > SHOWN else "",
        "empty": "No budget has 80 % of its limit spent or held.",
    }


def _budget(row: LimitBucket) -> dict[str, Any]:
    whole, limit = row.spent + row.reserved, row.last_limit or Decimal(0)
    share = charts.share(whole, limit) or 0.0
    per = "in all" if row.window == "total" else f"per {row.window}"
    words = f"{charts.dollars(whole)} of {charts.dollars(limit)} {per}"
    whose = row.owner.partition(":")[0]
    return {
        "name": row.tenant.name if whose == "organization" else f"{row.tenant.name}, one {whose.replace('_', ' ')}",
        "text": words, "pill": display.pill(f"{share:.0%}", "bad" if share >= 1 else "warn"),
        "bar": charts.level_bar(words, row.spent, row.reserved, [charts.Mark(limit, row.last_mode == "hard")]),
        "url": reverse("admin:cp_policies_limitbucket_change", args=[row.pk]),
    }  # fmt: skip


def _seals() -> dict[str, Any]:
    """When was sealed last, and what the last verification of all tenants found."""
    at = now()
    sealed = AuditSeal.objects.filter(tenant_id=PLATFORM, log="checkpoint").order_by("-seq").first()
    checked = next((each for each in verified.last([PLATFORM]) if each.tenant_id is None), None)
    rows = []
    if sealed is not None:
        late = at - sealed.sealed_at > SEAL_LATE
        rows.append(
            {
                "name": "Last sealed", "text": ago(at - sealed.sealed_at),
                "pill": display.pill("late", "bad") if late else "",
            }
        )  # fmt: skip
    if checked is not None:
        found = f"{charts.plain(checked.found)} findings" if checked.found != 1 else "1 finding"
        rows.append(
            {
                "name": "Last verified", "text": f"{ago(at - checked.at)}, {checked.rows_shown} rows",
                "pill": display.pill(found, "bad") if checked.found else "",
            }
        )  # fmt: skip
    empty = "Nothing is sealed yet. The worker seals every 5 minutes: run manage.py run_worker."
    return {"title": "Seals", "url": _address("admin:cp_auditing_auditseal_changelist"), "rows": rows, "empty": empty}


def _duties() -> dict[str, Any]:
    """Duties that are late or fail; all else in one line."""
    at = now()
    found = standings(at)
    rows = [
        {
            "name": each.name, "text": each.row.error or f"last run {ago(at - each.row.started_at)}",
            "pill": display.pill(each.state.value, "bad"),
            "url": reverse("admin:cp_core_workerduty_changelist") + f"?{urlencode({'q': each.name})}",
        }
        for each in found
        if each.wrong and each.row is not None
    ]  # fmt: skip
    fine = sum(each.state in (State.ON_TIME, State.RUNNING) for each in found)
    empty = f"On time: {fine}." if fine else "No duty has been done yet: run manage.py run_worker."
    return {
        "title": "Worker duties", "url": reverse("admin:cp_core_workerduty_changelist"), "rows": rows[:SHOWN], "empty": empty,
        "more": f"{len(rows) - SHOWN} more: open the list." if len(rows) > SHOWN else "",
    }  # fmt: skip


def _address(name: str) -> str:
    try:
        return reverse(name)
    except NoReverseMatch:
        return ""


def ago(age: timedelta) -> str:
    """How long ago, in one unit: 12 s ago, 3 min ago, 2 h ago, 5 d ago."""
    seconds = max(age.total_seconds(), 0)
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit} ago"
    return f"{seconds:.0f} s ago"
