"""The months of a tenant: what each comes to, whether it is closed, and closing it or opening it again."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from typing import Any
from uuid import UUID

from django import forms
from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.http import urlencode

from auditing import months
from auditing.directory import directory
from auditing.models import UsageSummary
from controlplane.core import display
from controlplane.core.admin import readable_address
from controlplane.core.errors import ControlPlaneError
from controlplane.core.forms import reason_field
from controlplane.core.partitions import next_month

LIST, CLOSE, REOPEN = (
    "cp_auditing_usagesummary_months",
    "cp_auditing_usagesummary_close",
    "cp_auditing_usagesummary_reopen",
)
CHOICES = 50
_SUMMARIES = "admin:cp_auditing_usagesummary_changelist"
_REQUESTS = "admin:cp_auditing_inferencerequest_changelist"


@dataclass(frozen=True, slots=True)
class Line:
    """A month as a row of the page. url: of the page that closes it, or opens it again."""

    month: date
    requests: str
    tokens: str
    cost: str
    unpriced: int
    closed: str
    reconciled: str
    is_closed: bool
    summaries_url: str
    requests_url: str
    url: str


class ReopenForm(forms.Form):
    reason = reason_field()


class CloseForm(ReopenForm):
    accept_unpriced = forms.BooleanField(
        label="Close it although requests in it have no cost", required=False,
        help_text="Their cost stays unknown in this month, and is booked in the present one once somebody prices them.",
    )  # fmt: skip
    field_order = ("accept_unpriced", "reason")


def page(modeladmin: Any, request: HttpRequest) -> HttpResponse:
    """GET: tenant, as id or short name; without one the first."""
    if not modeladmin.has_view_permission(request):
        raise PermissionDenied
    moved = readable_address(request)
    if moved is not None:
        return moved
    choices = directory().choices("tenant", CHOICES)
    asked = request.GET.get("tenant", "").strip()
    tenant = directory().find("tenant", asked) if asked else next((id for id, _ in choices), None)
    if asked and tenant is None:
        messages.warning(request, "There is no such tenant. Choose one.")
    may_close = modeladmin.has_close_permission(request)
    context = {
        **modeladmin.admin_site.each_context(request), "title": "Months", "opts": modeladmin.opts,
        "choices": choices, "tenant": tenant, "typed": len(choices) == CHOICES,
        "name": _name(tenant, choices), "lines": _lines(tenant) if tenant else [], "may_close": may_close,
    }  # fmt: skip
    return TemplateResponse(request, "cp_auditing/months.html", context)


def close_page(modeladmin: Any, request: HttpRequest) -> HttpResponse:
    """GET: tenant, month as YYYY-MM: what stands in the way. POST, to the same address: close it."""
    return _decide(modeladmin, request, closing=True)


def reopen_page(modeladmin: Any, request: HttpRequest) -> HttpResponse:
    """GET: tenant, month as YYYY-MM. POST, to the same address: open it again."""
    return _decide(modeladmin, request, closing=False)


def _decide(modeladmin: Any, request: HttpRequest, *, closing: bool) -> HttpResponse:
    if not modeladmin.has_close_permission(request):
        raise PermissionDenied
    if request.method == "GET" and not request.GET:  # an address without its question: choose a month first
        return HttpResponseRedirect(reverse(f"admin:{LIST}"))
    tenant, month = _asked(request)
    line = next((each for each in _lines(tenant) if each.month == month), None)
    form = (CloseForm if closing else ReopenForm)(request.POST if request.method == "POST" else None)
    if closing and not (line and line.unpriced):
        del form.fields["accept_unpriced"]
    if form.is_bound and form.is_valid():
        given = {"by": request.user, **form.cleaned_data}
        try:
            (months.close if closing else months.reopen)(tenant, month.year, month.month, **given)
        except ControlPlaneError as refused:
            form.add_error(None, refused.message)
        else:
            done = "closed" if closing else "open again"
            messages.success(request, f"{month:%Y-%m} of {_name(tenant, [])} is {done}.")
            return HttpResponseRedirect(f"{reverse(f'admin:{LIST}')}?{urlencode({'tenant': str(tenant)})}")
    context = {
        **modeladmin.admin_site.each_context(request), "opts": modeladmin.opts, "form": form, "line": line, "closing": closing,
        "title": f"{'Close' if closing else 'Reopen'} {month:%Y-%m}", "tenant": tenant, "name": _name(tenant, []),
        "in_the_way": _in_the_way(tenant, month) if closing else [],
        "command": f"usage_month {'close' if closing else 'reopen'} {tenant} {month:%Y-%m}",
    }  # fmt: skip
    return TemplateResponse(request, "cp_auditing/month.html", context, status=422 if form.errors else 200)


def _asked(request: HttpRequest) -> tuple[UUID, date]:
    """The tenant and month of the address. Raises Http404."""
    tenant = directory().find("tenant", request.GET.get("tenant", "").replace("\x00", "")[:200])
    try:
        month = date.fromisoformat(f"{request.GET.get('month', '')}-01")
    except ValueError:
        raise Http404 from None
    if tenant is None:
        raise Http404
    return tenant, month


def _in_the_way(tenant: UUID, month: date) -> list[str]:
    try:
        return months.hindrances(tenant, month.year, month.month)
    except ControlPlaneError as refused:
        return [refused.message]


def _lines(tenant: UUID) -> list[Line]:
    return [_line(tenant, each) for each in UsageSummary.objects.months(tenant)]


def _line(tenant: UUID, found: Any) -> Line:
    of_it = {"tenant": str(tenant), "month": f"{found.month:%Y-%m}"}
    window = f"{found.month}..{next_month(found.month)}"
    return Line(
        month=found.month,
        requests=f"{found.totals.requests:,}",
        tokens=f"{found.totals.tokens:,}",
        cost=display.cost(found.totals.cost),
        unpriced=found.totals.unpriced,
        closed=display.instant(found.closed_at),
        reconciled=display.instant(found.reconciled_at) if found.reconciled_at else "not yet",
        is_closed=found.closed_at is not None,
        summaries_url=f"{reverse(_SUMMARIES)}?{urlencode(of_it)}",
        requests_url=f"{reverse(_REQUESTS)}?{urlencode({'tenant': str(tenant), 'window': window})}",
        url=f"{reverse(f'admin:{REOPEN if found.closed_at else CLOSE}')}?{urlencode(of_it)}",
    )


def _name(tenant: UUID | None, choices: list[tuple[UUID, str]]) -> str:
    if tenant is None:
        return ""
    return dict(choices).get(tenant) or directory().names("tenant", [tenant]).get(tenant) or str(tenant)
