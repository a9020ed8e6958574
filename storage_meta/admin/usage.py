"""How much a tenant stores, of what, and how much room its quota leaves; with pictures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.db.models import Count, Sum
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import reverse

from controlplane.core import display
from controlplane.core.admin import readable_address
from controlplane.core.charts import Bar, Mark, horizontal_bars, level_bar
from storage_meta.admin.base import (
    OFFERED,
    chosen_tenant,
    handle,
    own_tenant,
    size_cell,
    size_text,
    tenants_with_buckets,
)
from storage_meta.errors import StorageError
from storage_meta.models import Bucket, StorageObject, StorageQuota, StorageUsage
from storage_meta.statistics import Group, Statistics
from tenants.models import Tenant

NAME = "cp_storage_meta_storageusage_overview"
BARS = 8
_OBJECTS = "admin:cp_storage_meta_storageobject_changelist"


@dataclass(frozen=True, slots=True)
class Room:
    """What is used of one bound of a quota. most: None = no bound."""

    label: str
    used: str
    most: str
    bar: str
    words: str


@dataclass(frozen=True, slots=True)
class BucketLine:
    name: str
    url: str
    browse_url: str
    objects: str
    size: str
    share: float


def page(modeladmin: Any, request: HttpRequest) -> HttpResponse:
    """GET: tenant, as id or short name; without one the first that has buckets."""
    if not modeladmin.has_view_permission(request) or request.method not in ("GET", "HEAD"):
        raise PermissionDenied
    moved = readable_address(request)
    if moved is not None:
        return moved
    offered = tenants_with_buckets(request)
    asked = request.GET.get("tenant", "").strip()
    tenant = chosen_tenant(request, offered, asked)
    if asked and tenant is None:
        messages.warning(request, "There is no such tenant. Choose one.")
    context = {
        **modeladmin.admin_site.each_context(request),
        "title": "Storage usage",
        "opts": modeladmin.opts,
        "media": modeladmin.media,
        "tenant": tenant,
        "offered": offered if tenant is None or tenant in offered else [tenant, *offered],
        "one_tenant": own_tenant(request) is not None or len(offered) <= 1,
        "many": len(offered) == OFFERED,
        "add_url": reverse("admin:cp_storage_meta_bucket_add")
        if request.user.has_perm("cp_storage_meta.add_bucket")
        else "",
    }
    if tenant is not None:
        context |= _shown(request, tenant)
    return TemplateResponse(request, "cp_storage_meta/usage.html", context)


def _shown(request: HttpRequest, tenant: Tenant) -> dict[str, Any]:
    try:
        found = handle(request, tenant).statistics()
    except StorageError as refused:
        messages.error(request, refused.message)
        found = Statistics()
    quota = StorageQuota.objects.filter(tenant=tenant).first()
    usage = StorageUsage.objects.filter(tenant=tenant).first()
    of_tenant = urlencode({"tenant": tenant.pk})
    return {
        "found": found,
        "total_size": size_text(found.total_size),
        "version_bytes": size_text(found.version_bytes),
        "old_bytes": size_text(max(found.version_bytes - found.total_size, 0)),
        "objects_url": f"{reverse(_OBJECTS)}?{of_tenant}",
        "deleted_url": f"{reverse(_OBJECTS)}?{of_tenant}&state=deleted",
        "accesses_url": f"{reverse('admin:cp_storage_meta_storageaudit_changelist')}?{of_tenant}",
        "rooms": rooms(found, quota),
        "quota": quota,
        "quota_url": _quota_url(request, quota),
        "counted_at": display.instant(usage.counted_at) if usage else "",
        "buckets": _buckets(tenant),
        "charts": [
            (
                "By content type",
                _bars(tenant, "content type", found.groups, lambda group: group.content_type, "content_type"),
            ),
            ("By storage class", _bars(tenant, "storage class", found.groups, lambda group: group.storage_class)),
            ("By backend", _bars(tenant, "backend", found.groups, lambda group: group.storage_backend)),
        ]
        if found.total_objects
        else [],
    }


def rooms(found: Statistics, quota: StorageQuota | None) -> list[Room]:
    """What is used of the quota; without one nothing."""
    if quota is None:
        return []
    firm = quota.on_excess == StorageQuota.OnExcess.REFUSE
    bounds = [
        ("Bytes of all versions", found.version_bytes, quota.max_bytes, size_text),
        ("Live objects", found.total_objects, quota.max_objects, "{:,}".format),
    ]
    return [_room(label, used, most, text, firm) for label, used, most, text in bounds if most is not None]


def _room(label: str, used: int, most: int, text: Callable[[int], str], firm: bool) -> Room:
    share = used / most if most else 1.0
    left = f"{text(most - used)} left" if used <= most else f"{text(used - most)} above it"
    title = f"{label}: {text(used)} of {text(most)}, {left}"
    tone = "bad" if share >= 1 and firm else "warn" if share >= 0.8 else ""
    words = display.pill(left, tone) if tone else left
    return Room(label, text(used), text(most), level_bar(title, used, marks=[Mark(most, firm)]), words)


def _quota_url(request: HttpRequest, quota: StorageQuota | None) -> str:
    if own_tenant(request) is not None:
        return ""
    if quota is not None and request.user.has_perm("cp_storage_meta.change_storagequota"):
        return reverse("admin:cp_storage_meta_storagequota_change", args=[quota.pk])
    return (
        reverse("admin:cp_storage_meta_storagequota_add")
        if request.user.has_perm("cp_storage_meta.add_storagequota")
        else ""
    )


def _buckets(tenant: Tenant) -> list[BucketLine]:
    """Live objects and bytes by bucket, from the index that statistics read; empty buckets too."""
    live = StorageObject.objects.live().filter(tenant=tenant).values("bucket_id").order_by()
    sums = {each["bucket_id"]: each for each in live.annotate(n=Count("pk"), bytes=Sum("size"))}
    names = Bucket.objects.for_tenant(tenant).order_by("name").values_list("pk", "name")[:200]
    whole = sum(each["bytes"] for each in sums.values()) or 1
    lines = [(sums.get(pk, {"n": 0, "bytes": 0}), name) for pk, name in names]
    browse, objects = reverse("admin:cp_storage_meta_storageobject_browse"), reverse(_OBJECTS)
    return [
        BucketLine(
            name,
            f"{objects}?{urlencode({'tenant': tenant.pk, 'bucket': name})}",
            f"{browse}?{urlencode({'tenant': tenant.pk, 'bucket': name})}",
            display.number(each["n"]),
            size_cell(each["bytes"]),
            each["bytes"] / whole,
        )
        for each, name in sorted(lines, key=lambda line: -line[0]["bytes"])
    ]


def _bars(tenant: Tenant, what: str, groups: Iterable[Group], of: Callable[[Group], str], filter: str = "") -> str:
    """Bytes by a column, the largest first; what is beyond BARS is summed up as the rest."""
    sizes: Counter[str] = Counter()
    for group in groups:
        sizes[of(group)] += group.size
    ranked = sorted(sizes.items(), key=lambda pair: (-pair[1], pair[0]))
    shown, rest = ranked[:BARS], ranked[BARS:]
    url = f"{reverse(_OBJECTS)}?{urlencode({'tenant': tenant.pk})}"
    bars = [
        Bar(name or "(none)", size, size_text(size), f"{url}&{urlencode({filter: name})}" if filter and name else "")
        for name, size in shown
    ]
    if rest:
        bars.append(Bar(f"{len(rest)} more", sum(size for _, size in rest), size_text(sum(size for _, size in rest))))
    return horizontal_bars(f"Bytes of live objects by {what}", bars, unit="Bytes")
