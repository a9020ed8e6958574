"""The admin's menu: one list, read top to bottom. An entry shows when its URL exists and the person may open it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby

from django.http import HttpRequest
from django.urls import NoReverseMatch, reverse


@dataclass(frozen=True, slots=True)
class Entry:
    """One line. permission: "label.codename", or None for all of the staff; icon: an id in icons.svg."""

    group: str
    label: str
    url_name: str
    permission: str | None
    icon: str


@dataclass(frozen=True, slots=True)
class Link:
    label: str
    url: str
    icon: str
    current: bool


@dataclass(frozen=True, slots=True)
class Group:
    label: str
    links: tuple[Link, ...]


def _list_of(group: str, label: str, app_label: str, model: str, icon: str) -> Entry:
    return Entry(group, label, f"admin:{app_label}_{model}_changelist", f"{app_label}.view_{model}", icon)


MENU: tuple[Entry, ...] = (
    Entry("Overview", "Dashboard", "controlplane:dashboard", None, "home"),
    _list_of("Tenancy", "Tenants", "cp_tenants", "tenant", "building"),
    _list_of("Tenancy", "Apps", "cp_tenants", "app", "grid"),
    _list_of("Tenancy", "Branches", "cp_tenants", "branch", "branch"),
    _list_of("Tenancy", "Users", "cp_tenants", "user", "users"),
    _list_of("Tenancy", "App access", "cp_tenants", "userapp", "access"),
    _list_of("Tenancy", "API keys", "cp_tenants", "apikey", "key"),
    _list_of("Tenancy", "Refresh token families", "cp_tenants", "refreshfamily", "clock"),
    _list_of("Governance", "Policies", "cp_policies", "policy", "shield"),
    Entry("Governance", "Explain", "admin:cp_policies_policy_explain", "cp_policies.view_policy", "question"),
    Entry("Governance", "Simulate", "admin:cp_policies_policy_simulate", "cp_policies.view_policy", "branch"),
    _list_of("Governance", "Limits", "cp_policies", "limitbucket", "coins"),
    _list_of("Governance", "Reservations", "cp_policies", "reservation", "clock"),
    Entry(
        "Governance", "Audit timeline", "admin:cp_auditing_auditlog_timeline", "cp_auditing.view_auditlog", "timeline"
    ),
    _list_of("Governance", "Audit log", "cp_auditing", "auditlog", "log"),
    _list_of("Governance", "Seals", "cp_auditing", "auditseal", "seal"),
    _list_of("Governance", "Retention", "cp_auditing", "retentionrecord", "archive"),
    Entry("Governance", "Partitions", "admin:cp_auditing_auditlog_partitions", "cp_auditing.view_auditlog", "grid"),
    _list_of("Models", "Providers", "cp_catalog", "provider", "cloud"),
    _list_of("Models", "Models", "cp_catalog", "aimodel", "chip"),
    _list_of("Models", "Aliases", "cp_catalog", "modelalias", "tag"),
    _list_of("Models", "Prices", "cp_catalog", "modelprice", "coins"),
    _list_of("Models", "Price imports", "cp_catalog", "priceimport", "download"),
    Entry("Models", "Calculator", "admin:cp_catalog_aimodel_calculator", "cp_catalog.view_modelprice", "calculator"),
    Entry("Usage", "Usage explorer", "controlplane:usage", "cp_auditing.view_inferencerequest", "chart"),
    _list_of("Usage", "Requests", "cp_auditing", "inferencerequest", "list"),
    Entry("Usage", "Unpriced", "admin:cp_catalog_modelprice_unpriced", "cp_catalog.view_modelprice", "question"),
    _list_of("Usage", "In flight", "cp_auditing", "inflightrequest", "clock"),
    _list_of("Usage", "Summaries", "cp_auditing", "usagesummary", "sum"),
    Entry("Usage", "Months", "admin:cp_auditing_usagesummary_months", "cp_auditing.view_usagesummary", "calendar"),
    _list_of("Usage", "Dead letters", "cp_auditing", "deadletter", "inbox"),
    Entry(
        "Storage",
        "Browser",
        "admin:cp_storage_meta_storageobject_browse",
        "cp_storage_meta.view_storageobject",
        "cloud",
    ),
    _list_of("Storage", "Buckets", "cp_storage_meta", "bucket", "archive"),
    _list_of("Storage", "Objects", "cp_storage_meta", "storageobject", "list"),
    Entry(
        "Storage",
        "Storage usage",
        "admin:cp_storage_meta_storageusage_overview",
        "cp_storage_meta.view_storageusage",
        "chart",
    ),
    _list_of("Storage", "Usage by tenant", "cp_storage_meta", "storageusage", "sum"),
    _list_of("Storage", "Quotas", "cp_storage_meta", "storagequota", "coins"),
    _list_of("Storage", "Access log", "cp_storage_meta", "storageaudit", "log"),
    _list_of("Storage", "Hooks", "cp_storage_meta", "storagehook", "branch"),
    _list_of("Storage", "Events", "cp_storage_meta", "storageevent", "inbox"),
    _list_of("Storage", "Hook executions", "cp_storage_meta", "hookexecution", "timeline"),
    _list_of("System", "Worker duties", "cp_core", "workerduty", "clock"),
    Entry("System", "Caches", "controlplane:caches", "cp_core.view_process", "clock"),
    _list_of("System", "Groups", "auth", "group", "users"),
)


def _links(request: HttpRequest) -> Iterator[tuple[str, Link]]:
    user = request.user
    shown: list[tuple[Entry, str]] = []
    for entry in MENU:
        if entry.permission is not None and not user.has_perm(entry.permission):
            continue
        try:
            shown.append((entry, reverse(entry.url_name)))
        except NoReverseMatch:
            continue
    here = _current(request.path, shown)
    for entry, url in shown:
        yield entry.group, Link(entry.label, url, entry.icon, url == here)


def _current(path: str, shown: list[tuple[Entry, str]]) -> str:
    """The address of the entry that a page belongs to: the longest that it begins with.

    The dashboard answers the admin's root, a prefix of every other page: it is current only when met exactly.
    """
    within = [url for entry, url in shown if path == url or (entry.permission is not None and path.startswith(url))]
    return max(within, key=len, default="")


def groups_for(request: HttpRequest) -> list[Group]:
    """The menu as this person sees it; a group without a link is absent."""
    return [
        Group(label, tuple(link for _, link in links))
        for label, links in groupby(_links(request), key=lambda pair: pair[0])
    ]
