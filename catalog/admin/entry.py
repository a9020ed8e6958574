"""The page on which a price is set: for a model, for everybody or a tenant; what it replaces ends."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from django import forms
from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.http import urlencode

from auditing.context import audit_context
from catalog.errors import CatalogError
from catalog.examples import examples
from catalog.forms import PriceForm
from catalog.models import AIModel, ModelPrice
from controlplane.core.conf import conf
from controlplane.core.ids import now
from controlplane.core.references import ReferenceField
from tenants.models import Tenant


class SubjectForm(forms.Form):
    """Which price is to be set. own: a tenant is needed."""

    model = ReferenceField(AIModel.objects.all())
    tenant = ReferenceField(Tenant.objects.all(), required=False, help_text="Empty: the list price, for everybody.")
    own = forms.BooleanField(required=False, widget=forms.HiddenInput)

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or self.cleaned_data
        if cleaned.get("own") and not cleaned.get("tenant") and "tenant" not in self.errors:
            self.add_error("tenant", "Say which tenant this price is for.")
        return cleaned


def page(modeladmin: Any, request: HttpRequest) -> HttpResponse:
    """GET: model (key, name or id), tenant, own; from, and for_model and for_provider, whose unpriced requests it is for.
    POST, to the same address: the price."""
    if not modeladmin.has_add_permission(request):
        raise PermissionDenied
    asked = {name: request.GET.get(name, "") for name in ("model", "tenant", "own")}
    subject = SubjectForm(asked if asked["model"] else None, initial=asked)
    context = {**modeladmin.admin_site.each_context(request), "title": "New price", "opts": modeladmin.opts}
    if not subject.is_bound or not subject.is_valid():
        if asked["own"] and not asked["tenant"]:
            subject = SubjectForm(initial=asked)
        return TemplateResponse(request, "cp_catalog/price_subject.html", context | {"form": subject})
    return _entry(request, subject.cleaned_data["model"], subject.cleaned_data["tenant"], context)


def _entry(request: HttpRequest, model: AIModel, tenant: Tenant | None, context: dict[str, Any]) -> HttpResponse:
    if request.method == "POST":  # whoever sets a price of this model at the same time waits, and is told
        AIModel.objects.using(conf.DATABASE).select_for_update(no_key=True).get(pk=model.pk)
    instant = now()
    listed = ModelPrice.objects.filter(model=model).at(instant)
    own = _own(model, tenant, instant) if tenant else None
    form = PriceForm(
        request.POST if request.method == "POST" else None,
        model=model,
        base=own or listed,
        against=lambda start: _against(model, tenant, start),
        seen=_state(model, tenant),
        start=request.GET.get("from", "")[:32],
    )
    if request.method == "POST" and form.settled and "_save" in request.POST:
        try:
            price = _save(form, model, tenant)
        except CatalogError as refused:
            form.add_error(None, refused.message)
        else:
            messages.success(
                request,
                f"{model.key}: the price for {tenant or 'everybody'} holds from {price.effective_from:%Y-%m-%d %H:%M} UTC.",
            )
            return HttpResponseRedirect(_onward(request, model))
    replaced = own if tenant else listed
    context |= {
        "form": form, "model": model, "tenant": tenant, "replaced": replaced, "listed": listed if tenant else None,
        "backdated": request.GET.get("for_model", ""), "seen": _state(model, tenant),
        "examples": _examples(form, own or listed, instant),
    }  # fmt: skip
    status = 422 if request.method == "POST" and not (form.is_valid() and "_check" in request.POST) else 200
    return TemplateResponse(request, "cp_catalog/price_form.html", context, status=status)


def _onward(request: HttpRequest, model: AIModel) -> str:
    """To the requests that the price was set for, else to the model."""
    waiting = {"model": request.GET.get("for_model", ""), "provider": request.GET.get("for_provider", "")}
    if waiting["model"]:
        return f"{reverse('admin:cp_catalog_modelprice_rerate')}?{urlencode(waiting)}"
    return reverse("admin:cp_catalog_aimodel_change", args=[model.pk])


def _examples(form: PriceForm, base: ModelPrice | None, instant: datetime) -> list[str]:
    """What calls cost: by what was typed, beside what it replaces; before that, by the price the form starts from."""
    try:
        before = base.compiled if base else None
        if not form.is_bound:
            return list(examples(before, instant)) if before else []
        return list(examples(form.compiled, instant, before)) if form.compiled else []
    except CatalogError:  # a price that cannot be read prices nothing; the form says what is wrong with a new one
        return []


def _save(form: PriceForm, model: AIModel, tenant: Tenant | None) -> ModelPrice:
    given = form.cleaned_data
    terms: dict[str, Any] = dict(form.terms)
    if given["effective_to"]:
        terms["effective_to"] = given["effective_to"]
    with audit_context(reason=given["reason"]), transaction.atomic(using=conf.DATABASE):
        price: ModelPrice = ModelPrice.objects.supersede(
            model,
            form.rates,
            tenant=tenant,
            effective_from=given["effective_from"],
            reason=given["reason"],
            **terms,
        )
    return price


def _against(model: AIModel, tenant: Tenant | None, start: datetime) -> Mapping[str, ModelPrice]:
    """What a new price is compared with: the list price of that time, and the one it replaces."""
    prices = ModelPrice.objects.filter(model=model)
    found = {"the list price": prices.at(start)}
    if tenant is not None:
        found["the price it replaces"] = _own(model, tenant, start)
    return {called: price for called, price in found.items() if price is not None}


def _own(model: AIModel, tenant: Tenant, instant: datetime) -> ModelPrice | None:
    rows = ModelPrice.objects.filter(model=model, tenant=tenant).in_force(instant)
    found: ModelPrice | None = rows.select_related("model__provider").first()
    return found


def _state(model: AIModel, tenant: Tenant | None) -> str:
    """Changes when a price of the model for this owner is set or ended."""
    rows = ModelPrice.objects.filter(model=model, tenant=tenant).order_by("pk").values_list("pk", "effective_to")
    return hashlib.sha256(repr(list(rows)).encode()).hexdigest()[:32]
