from __future__ import annotations

import hashlib
from typing import Any
from uuid import UUID

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db import models, transaction
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import path, reverse

from auditing.context import audit_context
from catalog import units
from catalog.admin import cells
from catalog.admin.models import switch_actions
from catalog.forms import ProviderForm, TermsForm
from catalog.models import ModelPrice, Provider
from catalog.models.fields import TERMS
from controlplane.core import display
from controlplane.core.admin import WritableModelAdmin
from controlplane.core.conf import conf
from controlplane.core.ids import now


@admin.register(Provider)
class ProviderAdmin(WritableModelAdmin):
    form = ProviderForm
    list_display = ("name", "slug", "model_count", "terms", "state", "website")
    list_filter = ("enabled",)
    search_fields = ("slug__startswith", "name__icontains")
    search_help_text = "Slug or name"
    ordering = ("name",)
    fieldsets = (
        (None, {"fields": ("name", "slug", "family", "enabled", "terms")}),
        ("About", {"fields": ("website", "doc_url", "notes", "metadata")}),
    )
    actions = switch_actions("models of these providers", "provider_set")
    empty_help = "A provider serves models: add one, then its models."
    change_form_template = "cp_catalog/provider.html"

    def get_queryset(self, request: HttpRequest) -> models.QuerySet[Provider]:
        rows: models.QuerySet[Provider] = super().get_queryset(request).annotate(models_n=models.Count("models"))
        return rows

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> tuple[str, ...]:
        return ("slug", "terms") if obj else ("terms",)  # canonical ids and policies stand on the slug

    def get_urls(self) -> list[Any]:
        terms = self.admin_site.admin_view(self.terms_view)
        return [path("<uuid:id>/terms/", terms, name="cp_catalog_provider_terms"), *super().get_urls()]

    def render_change_form(self, request: HttpRequest, context: Any, *args: Any, **kwargs: Any) -> HttpResponse:
        obj = kwargs.get("obj")
        if obj is not None and _may_set_terms(request):
            context["terms_url"] = reverse("admin:cp_catalog_provider_terms", args=[obj.pk])
        return super().render_change_form(request, context, *args, **kwargs)

    def terms_view(self, request: HttpRequest, id: UUID) -> HttpResponse:
        """Discount and margin: first what would follow, then, for the same numbers, the change."""
        if not _may_set_terms(request):
            raise PermissionDenied
        provider = Provider.objects.filter(pk=id).first()
        if provider is None:
            raise Http404
        initial = {name: units.plain(getattr(provider, name)) for name in TERMS}
        form = TermsForm(request.POST if request.method == "POST" else None, initial=initial)
        following: list[tuple[str, str]] = []
        digest = ""
        if form.is_bound and form.is_valid():
            following, digest = _following(provider, form)
            if "_apply" in request.POST and form.cleaned_data["previewed"] == digest:
                return self._apply(request, provider, form)
        context = {
            **self.admin_site.each_context(request), "title": "Terms", "opts": self.opts, "provider": provider, "form": form,
            "following": following, "digest": digest,
        }  # fmt: skip
        status = 422 if form.is_bound and not form.is_valid() else 200
        return TemplateResponse(request, "cp_catalog/terms.html", context, status=status)

    def _apply(self, request: HttpRequest, provider: Provider, form: TermsForm) -> HttpResponse:
        given = form.cleaned_data
        with audit_context(reason=given["reason"]), transaction.atomic(using=conf.DATABASE):
            count = ModelPrice.objects.apply_terms(
                provider, reason=given["reason"], effective_from=given["effective_from"], **form.terms
            )
        messages.success(
            request, f"{provider.name}: {cells.terms(provider) or 'no terms'}; {count:,} list prices follow."
        )
        return HttpResponseRedirect(reverse("admin:cp_catalog_provider_change", args=[provider.pk]))

    @admin.display(description="Models", ordering="models_n")
    def model_count(self, row: Any) -> str:
        return display.number(row.models_n)

    @admin.display(description="Terms")
    def terms(self, row: Provider) -> str:
        return cells.terms(row) or display.NOTHING

    @admin.display(description="Status", ordering="enabled")
    def state(self, row: Provider) -> str:
        return "active" if row.enabled else display.pill("disabled", "warn")


def _may_set_terms(request: HttpRequest) -> bool:
    wanted = ("cp_catalog.change_provider", "cp_catalog.add_modelprice", "cp_catalog.change_modelprice")
    return bool(request.user.has_perms(wanted))


def _following(provider: Provider, form: TermsForm) -> tuple[list[tuple[str, str]], str]:
    """What these terms change, as (label, value) pairs, and a digest of both: what was shown is what is applied."""
    start = form.cleaned_data["effective_from"] or now()
    listed = ModelPrice.objects.listed().filter(model__provider=provider).exclude(effective_to__lte=start)
    live = listed.exclude(effective_to=models.F("effective_from"))
    in_force = live.filter(effective_from__lte=start).count()
    planned = live.filter(effective_from__gt=start).count()
    own = ModelPrice.objects.filter(model__provider=provider).exclude(tenant=None).in_force(start).count()
    pairs = [
        ("List prices that end and go on with these terms", f"{in_force:,}"),
        ("Planned list prices that are planned anew", f"{planned:,}"),
        ("Tenants' own prices, which stay as they are", f"{own:,}"),
    ]
    said = [
        *(f"{value.normalize()}" for value in form.terms.values()),
        form["effective_from"].value(),
        *map(str, pairs),
    ]
    return pairs, hashlib.sha256(repr(said).encode()).hexdigest()
