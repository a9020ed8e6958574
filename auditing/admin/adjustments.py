"""The page on which a finished request is corrected by a signed row beside it."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from typing import Any

from django import forms
from django.contrib import messages
from django.contrib.admin.utils import unquote
from django.core.exceptions import PermissionDenied
from django.db import connections
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import reverse

from auditing.adjusting import CODES, Booked, booked
from auditing.models import InferenceRequest
from auditing.values import TOKENS
from controlplane.core import display
from controlplane.core.conf import conf
from controlplane.core.errors import ControlPlaneError
from controlplane.core.forms import reason_field

NAME = "cp_auditing_inferencerequest_adjust"
_MEANING = {
    "priced": "Priced: the first price of an unpriced request",
    "repriced": "Repriced: it was priced wrongly",
    "late_completion": "Late completion: the end of a lost request",
    "invoice": "Invoice: the provider's bill says otherwise",
    "credit": "Credit: money given back",
    "manual": "Manual: anything else",
}
_LARGEST = 2**31 - 1
_LABELS = {name: name.replace("_", " ").capitalize() for name in TOKENS} | {
    "prompt_tokens": "Tokens in",
    "completion_tokens": "Tokens out",
}


class AdjustForm(forms.Form):
    """Signed amounts: what is added to the request, or with a minus taken off."""

    reason_code = forms.ChoiceField(
        label="Why", choices=[(code, _MEANING.get(code, code)) for code in CODES], initial="manual"
    )
    cost = forms.DecimalField(
        label="Cost", max_digits=24, decimal_places=12, required=False, initial=Decimal(0),
        help_text="US dollars to add; with a minus, to take off.",
    )  # fmt: skip
    key = forms.CharField(
        max_length=200, required=False, help_text="Tells apart two adjustments of this request for the same reason."
    )
    reason = reason_field("with the adjustment")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for name in TOKENS:
            self.fields[name] = forms.IntegerField(
                label=_LABELS[name], required=False, min_value=-_LARGEST, max_value=_LARGEST,
            )  # fmt: skip
        self.order_fields(["reason_code", "cost", *TOKENS, "key", "reason"])

    def clean_cost(self) -> Decimal:
        return self.cleaned_data["cost"] or Decimal(0)

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or self.cleaned_data
        if (
            not self.errors
            and not any(cleaned.get(name) for name in ("cost", *TOKENS))
            and cleaned["reason_code"] != "priced"
        ):
            raise forms.ValidationError("This adjusts nothing. Give a cost or a number of tokens.")
        return cleaned


def page(modeladmin: Any, request: HttpRequest, object_id: str) -> HttpResponse:
    """GET: the form, and what is booked already. POST: adjust."""
    if not modeladmin.has_adjust_permission(request):
        raise PermissionDenied
    row: InferenceRequest | None = modeladmin.get_object(request, unquote(object_id))
    if row is None or row.adjusts is not None:
        raise Http404
    form = AdjustForm(request.POST if request.method == "POST" else None)
    if form.is_bound and form.is_valid():
        try:
            made = InferenceRequest.objects.adjust(row.pk, tenant=row.tenant_id, **form.cleaned_data)
        except ControlPlaneError as refused:
            form.add_error(None, refused.message)
        else:
            messages.success(request, f"{row.request_id}: adjusted by {made.cost:f} USD. {_booked_when(made)}")
            return HttpResponseRedirect(reverse("admin:cp_auditing_inferencerequest_change", args=[row.pk]))
    context = {
        **modeladmin.admin_site.each_context(request), "title": "Adjust request", "opts": modeladmin.opts, "original": row,
        "form": form, "facts": list(_facts(row)),
    }  # fmt: skip
    return TemplateResponse(request, "cp_auditing/adjust.html", context, status=422 if form.errors else 200)


def _booked_when(made: InferenceRequest) -> str:
    return f"It counts on {made.local_date} in {made.time_zone}."


def _facts(row: InferenceRequest) -> Iterator[tuple[str, object]]:
    with connections[conf.DATABASE].cursor() as cursor:
        so_far = booked(cursor, [row.pk]).get(row.pk, Booked())
    yield "Request", row.request_id
    yield "When (UTC)", display.instant(row.created_at)
    yield "Model", row.model
    yield "Status", row.status
    yield "Cost", display.cost(row.cost)
    if so_far.count:
        yield "Adjusted before", f"{so_far.count:,} times, {so_far.cost:f} USD without credits"
    for name in TOKENS:
        value = getattr(row, name)
        if value is not None:
            more = getattr(so_far, name)
            yield _LABELS[name], f"{value:,}" + (f" and {more:+,}" if more else "")
