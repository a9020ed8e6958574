"""The audit timeline: who did what, day by day, with what changed and under which seal it stands."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date
from itertools import groupby
from typing import Any
from uuid import UUID

from django.contrib import messages
from django.contrib.admin.options import IncorrectLookupParameters
from django.core.exceptions import PermissionDenied, ValidationError
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import NoReverseMatch, reverse
from django.utils import timezone
from django.utils.http import urlencode

from auditing.admin import sealed, verification
from auditing.admin.differences import Change, changes
from auditing.admin.filters import period
from auditing.models import AuditLog
from auditing.verified import last
from controlplane.core import display
from controlplane.core.admin import readable_address
from controlplane.core.bigtables import CURSOR
from controlplane.core.ids import PLATFORM, now
from controlplane.core.partitions import month_of, next_month

NAME = "cp_auditing_auditlog_timeline"
OPEN = 4
"""A change of so many fields is shown open, a larger one folded."""
OUTCOMES = {"denied": "warn", "failure": "bad"}


@dataclass(slots=True)
class Event:
    """A row of the log as a line of the page. `by`, `about`, `requested`: addresses of this page with that filter."""

    row: AuditLog
    time: str
    url: str
    actor: str
    by: str
    done: str
    kind: str
    object: str
    object_url: str
    about: str
    tenant: str
    changes: list[Change]
    details: list[Change]
    segment: sealed.Segment | None
    explained: str

    @property
    def folded(self) -> bool:
        return len(self.changes) > OPEN or self.row.before is None or self.row.after is None


@dataclass(slots=True)
class Group:
    """Events of one request, or a single one."""

    request_id: str
    requested: str
    events: list[Event] = field(default_factory=list)

    @property
    def first(self) -> Event:
        return self.events[0]

    @property
    def kinds(self) -> str:
        found = dict.fromkeys(f"{event.row.action} {event.kind}".strip() for event in self.events)
        return ", ".join(list(found)[:4]) + (" …" if len(found) > 4 else "")


@dataclass(frozen=True, slots=True)
class Day:
    date: date
    groups: list[Group]


def page(modeladmin: Any, request: HttpRequest) -> HttpResponse:
    """GET: the filters of the audit log's list, and its cursor. POST, to the same address: verify the months it is about."""
    if not modeladmin.has_view_permission(request):
        raise PermissionDenied
    moved = readable_address(request) or period(request)
    if moved is not None:
        return moved
    try:
        found = modeladmin.get_changelist_instance(request)
    except IncorrectLookupParameters:
        messages.warning(request, "A filter of this address is not one of these pages. All filters are off.")
        return HttpResponseRedirect(request.path)
    found.formset = None
    rows: list[AuditLog] = list(found.result_list)
    asked = scope(found)
    if request.method == "POST":
        if not modeladmin.has_verify_permission(request):
            raise PermissionDenied
        verification.verify(request, "auditlog", asked.tenant, *verification.span(asked.start, asked.end, now()))
        return HttpResponseRedirect(request.get_full_path())
    names = _names(rows)
    verified = last({PLATFORM, asked.tenant or PLATFORM, *(row.tenant_id for row in rows)})
    segments, of_row = sealed.of_page(rows, names, verified)
    if asked.tenant or rows:
        segments += sealed.gone(_months(asked, rows), asked.tenant, names)
    link = _Links(modeladmin, request, names)
    context = {
        **modeladmin.admin_site.each_context(request),
        "title": "Audit timeline",
        "opts": modeladmin.opts,
        "cl": found,
        "media": modeladmin.media,
        "is_popup": False,
        "actions_on_top": True,
        "has_add_permission": False,
        "model_admin": modeladmin,
        "days": _days(rows, of_row, link, found),
        "zone": timezone.get_current_timezone_name(),
        "segments": segments,
        "newest": verified[0] if verified else None,
        "filtered": found.get_query_string({}, [CURSOR]),
        "may_verify": modeladmin.has_verify_permission(request),
    }
    return TemplateResponse(request, "cp_auditing/timeline.html", context)


@dataclass(frozen=True, slots=True)
class Scope:
    """What a page is about. start, end: None = all time."""

    tenant: UUID | None
    start: Any
    end: Any


def scope(changelist: Any) -> Scope:
    tenant, bounds = None, None
    for spec in changelist.filter_specs:
        if getattr(spec, "parameter_name", "") == "tenant":
            tenant = spec.chosen()
        elif getattr(spec, "parameter_name", "") == "window":
            bounds = spec.bounds
    return Scope(tenant, *(bounds or (None, None)))


def _months(asked: Scope, rows: list[AuditLog]) -> list[date]:
    """The months of the window, at most 60; of all time those between the rows and their neighbours."""
    times = [row.created_at for row in rows]
    start = asked.start or (min(times) if times else None)
    end = asked.end or (max(times) if times else None)
    if start is None or end is None:
        return []
    found, month = [month_of(start)], month_of(end)
    while found[-1] < month and len(found) < 60:
        found.append(next_month(found[-1]))
    return found


def _names(rows: Iterable[AuditLog]) -> dict[UUID, str]:
    """Names of the tenants of a page, which its list has looked up."""
    found = {row.tenant_id: row.__dict__.get("names", {}).get("tenant") for row in rows}
    return {id: name for id, name in found.items() if name}


class _Links:
    """Addresses of the pages that a row leads to, where this person may open them."""

    def __init__(self, modeladmin: Any, request: HttpRequest, names: Mapping[UUID, str]) -> None:
        self._site, self._request, self.names = modeladmin.admin_site, request, names
        self._models = {model._meta.db_table: each for model, each in self._site._registry.items()}
        self._known: dict[str, bool] = {}

    def to(self, row: AuditLog) -> str:
        """The page of the object of a row; "" where there is none."""
        table = row.resource_type
        if table not in self._known:
            owner = self._models.get(table)
            self._known[table] = owner is not None and owner.has_view_permission(self._request)
        if row.action == "delete" or not row.resource_id or not self._known[table]:
            return ""
        opts = self._models[table].opts
        try:
            opts.pk.to_python(row.resource_id)  # of an event it may be another text than an id
            return reverse(f"admin:{opts.app_label}_{opts.model_name}_change", args=[row.resource_id])
        except (NoReverseMatch, ValidationError):
            return ""


def _days(rows: list[AuditLog], of_row: Mapping[UUID, sealed.Segment], link: _Links, changelist: Any) -> list[Day]:
    return [
        Day(day, _groups(list(found), of_row, link, changelist))
        for day, found in groupby(rows, key=lambda row: timezone.localtime(row.created_at).date())
    ]


def _groups(rows: list[AuditLog], of_row: Mapping[UUID, sealed.Segment], link: _Links, changelist: Any) -> list[Group]:
    """Events of a day, those of one request together where its newest stands."""
    found: dict[object, Group] = {}
    for row in rows:
        key = row.request_id or row.pk
        if key not in found:
            requested = changelist.get_query_string({"request": row.request_id}, [CURSOR]) if row.request_id else ""
            found[key] = Group(row.request_id or "", requested)
        found[key].events.append(_event(row, of_row.get(row.pk), link, changelist))
    return list(found.values())


def _event(row: AuditLog, segment: sealed.Segment | None, link: _Links, changelist: Any) -> Event:
    shown = changes(row.before, row.after)
    resource = f"{row.resource_type}:{row.resource_id}"
    return Event(
        row=row,
        time=f"{timezone.localtime(row.created_at):%H:%M:%S}",
        url=reverse("admin:cp_auditing_auditlog_change", args=[row.pk]),
        actor=actor(row),
        by=changelist.get_query_string({"actor": row.actor_id}, [CURSOR]) if row.actor_id else "",
        done=display.pill(row.action, OUTCOMES[row.outcome]) if row.outcome in OUTCOMES else row.action,
        kind=row.resource_type.removeprefix("cp_").split("_", 1)[-1].replace("_", " "),
        object=row.resource_label or (f"…{row.resource_id[-8:]}" if row.resource_id else ""),
        object_url=link.to(row),
        about=f"?{urlencode({'resource': resource, 'window': 'all'})}" if row.resource_id else "",
        tenant="" if row.tenant_id == PLATFORM else sealed.name_of(row.tenant_id, link.names),
        changes=shown,
        details=[] if shown else changes(None, row.details if isinstance(row.details, dict) else None),
        segment=segment,
        explained=explained(row),
    )


def actor(row: AuditLog) -> str:
    """Who did it, as people call it."""
    if row.actor_type == AuditLog.ActorType.COMMAND:
        return f"{row.actor_id} ({row.actor_label})" if row.actor_label else row.actor_id
    return row.actor_label or row.actor_id or row.actor_type


def explained(row: AuditLog) -> str:
    """The page that says why a call was denied, asked about this one; "" where no app above has such a page."""
    if row.action != "gate.denied" or row.tenant_id == PLATFORM:
        return ""
    try:
        found = reverse("admin:cp_policies_policy_explain")
    except NoReverseMatch:
        return ""
    ids = {
        "tenant": row.tenant_id,
        "app": row.app_id,
        "branch": row.branch_id,
        "user": row.user_id,
        "key": row.api_key_id,
    }
    asked = ids | {"model": row.model, "at": row.created_at.isoformat()}
    return f"{found}?{urlencode({name: str(value) for name, value in asked.items() if value})}"
