"""The small words of policies: layers, limits, amounts, owners, and links to policies."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString

from controlplane.core import display
from controlplane.core.figures import dollars

Names = Mapping[str, str]
"""Names of policies by id, "" for one without a name."""

LEVELS = ((16, "key"), (8, "user"), (4, "branch"), (2, "app"))
WITHOUT = {"app": "an app", "branch": "a branch", "user": "a user", "key": "a key"}
METRICS = {"concurrent": "calls"}


def layer_words(layer: int) -> str:
    """Whom a layer is about, nearest first: 1 = organization, 11 = user + app. A branch goes without its app."""
    named = [name for bit, name in LEVELS if layer & bit]
    if "branch" in named and "app" in named:
        named.remove("app")
    return " + ".join(named) or "organization"


def link(policy: str, names: Names, version: int | None = None) -> SafeString:
    """A policy by its name, leading to it; its version, where the question was about one."""
    url = reverse("admin:cp_policies_policy_change", args=[policy])
    shown = names.get(policy) or format_html("policy {}", display.short_id(policy))
    named = format_html('<a href="{}" title="{}">{}</a>', url, policy, shown)
    return format_html('{} <span class="cp-quiet">v{}</span>', named, version) if version else named


def limit_words(entry: Mapping[str, Any]) -> str:
    """A limit as in "$50.00 a month, of each user, soft; openai/* only; alert at 80 %"."""
    window, metric = entry["window"], entry.get("metric", "cost")
    amount, money = f"{Decimal(entry['limit']):,f}", metric == "cost"
    amount = f"${_cents(amount)}" if money else f"{amount} {METRICS.get(metric, metric.replace('_', ' '))}"
    span = {"total": " in all", "none": " at once"}.get(window, f" a {window}" if money else f" in {window}")
    whose = f", for each {entry['per']}" if entry.get("per", "scope") != "scope" else ""
    mode = entry.get("mode", "hard")
    parts = [f"{amount}{span}{whose}{'' if mode == 'hard' else f', {mode}'}"]
    if entry.get("models"):
        parts.append(f"{', '.join(entry['models'])} only")
    if entry.get("alert_at"):
        parts.append("alert at " + ", ".join(f"{share:.0%}" for share in entry["alert_at"]))
    return "; ".join(parts)


def _cents(amount: str) -> str:
    """0.50 and not 0.5; whole dollars and what is smaller than a cent stay as they are."""
    return amount + "0" if amount[-2:-1] == "." else amount


def measured(metric: str, amount: str | Decimal) -> str:
    """A number of a metric: US dollars for cost, else a count."""
    value = Decimal(amount)
    return dollars(value) if metric == "cost" else f"{value.normalize():,f}"


def owner_words(owner: str, counts: str, names: Mapping[str, str]) -> str:
    """The owner of a counter, `user:<id>` or `app:<id>,user:<id>`, by names; organization; or what has no owner, together.

    counts: `scope:<layer>` or `per:<x>`.
    """
    if owner == "none":
        return f"requests without {WITHOUT[counts.removeprefix('per:')]}"
    parts = [part.partition(":") for part in owner.split(",")]
    return ", ".join(f"{level} {names.get(id, id[-8:])}" if id else level for level, _, id in parts)


def resets(at: datetime | None, zone: str) -> SafeString | str:
    """When a counter begins anew, in the tenant's zone; UTC on hovering it."""
    if at is None:
        return "never"
    local = at.astimezone(ZoneInfo(zone))
    shown = f"{local:%Y-%m-%d %H:%M:%S}" if local.second else f"{local:%Y-%m-%d %H:%M}"
    title = f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"
    return format_html('<time class="cp-nowrap" datetime="{}" title="{}">{}</time>', at.isoformat(), title, shown)
