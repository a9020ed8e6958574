"""The caches of every process: what they count, how fresh they are, and a button that empties them all."""

from __future__ import annotations

from itertools import groupby
from typing import Any

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse

from controlplane import caches
from controlplane.core.display import NOTHING
from controlplane.core.errors import ControlPlaneError
from controlplane.core.figures import plain

FIGURES = (
    ("Misses", "misses"),
    ("Unknown", "negative_hits"),
    ("Expired", "expired"),
    ("Evicted", "evictions"),
    ("Invalidated", "invalidated"),
    ("Errors", "load_errors"),
)
VIEW, FLUSH = "cp_core.view_process", "cp_core.flush_process"


def show(request: HttpRequest) -> HttpResponse:
    """GET: the counts. POST: empties the caches of every process; cp_reason says why."""
    if not request.user.has_perm(VIEW):
        raise PermissionDenied
    reason, error = request.POST.get("cp_reason", ""), ""
    if request.method == "POST":
        if not request.user.has_perm(FLUSH):
            raise PermissionDenied
        try:
            caches.flush(reason)
        except ControlPlaneError as refused:
            error = refused.message
        else:
            messages.success(request, "Every process empties its caches now.")
            return HttpResponseRedirect(request.path)
    context = {
        **admin.site.each_context(request),
        "title": "Caches",
        "tables": _tables(),
        "heads": [label for label, _ in FIGURES],
        "may_flush": request.user.has_perm(FLUSH),
        "reason": reason,
        "error": error,
    }
    return TemplateResponse(request, "controlplane/caches.html", context, status=422 if error else 200)


def _tables() -> list[dict[str, Any]]:
    """One table per cache, a row per process."""
    found = sorted(caches.counted(), key=lambda each: each.cache)
    return [
        {"title": name, "rows": [_row(each) for each in of_it]}
        for name, of_it in groupby(found, key=lambda each: each.cache)
    ]


def _row(found: caches.Counted) -> dict[str, Any]:
    counts, process = found.counts, found.process
    return {
        "process": process,
        "seen": f"{process.age.total_seconds():.0f} s ago",
        "lease": NOTHING if process.lease_age_ms is None else f"{process.lease_age_ms / 1000:.1f} s",
        "filled": f"{plain(counts['size'])} of {plain(counts['capacity'])}",
        "calls": plain(found.calls),
        "rate": NOTHING if found.hit_rate is None else f"{found.hit_rate:.1f} %",
        "figures": [plain(counts[name]) for _, name in FIGURES],
    }
