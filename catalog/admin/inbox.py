"""Models with requests whose cost nobody knows: price them, look at what that comes to, book it."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.db import OperationalError, connections, transaction
from django.db.models import Exists, F, OuterRef, Q, QuerySet, Value
from django.db.models.functions import Concat, Lower
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.http import urlencode

from auditing.context import audit_context
from auditing.directory import directory
from auditing.models import InferenceRequest
from catalog import units
from catalog.forms import ReasonForm
from catalog.models import AIModel, ModelPrice
from catalog.rating import Rerating, Unpriced, rerate_unpriced, unpriced
from controlplane.core import display
from controlplane.core.bigtables import QUERY_CANCELED
from controlplane.core.conf import conf

SHOWN = 100
MOST_REQUESTS = 10_000
"""So many are re-rated while a person waits for the page; for more there is the command."""
PATIENCE = "5s"
COUNTS = ("requests", "without_usage", "tenants", "prompt_tokens", "completion_tokens")


@dataclass(frozen=True, slots=True)
class Row:
    """A line of the inbox. found: the model of the catalog, or None: nobody knows the name; priced: it has a price now."""

    name: str
    provider: str
    found: AIModel | None
    priced: bool
    figures: dict[str, str]
    first: str
    last: str
    requests_url: str
    price_url: str
    rerate_url: str
    add_url: str
    alias_url: str


def page(modeladmin: Any, request: HttpRequest) -> HttpResponse:
    """The models, those with the most requests first."""
    _allow(request)
    rows: list[Row] = []
    try:
        with transaction.atomic(using=conf.DATABASE):
            with connections[conf.DATABASE].cursor() as cursor:
                cursor.execute("SELECT set_config('statement_timeout', %s, true)", [PATIENCE])
            rows = _rows(unpriced(limit=SHOWN))
    except OperationalError as error:
        if getattr(error.__cause__, "sqlstate", "") != QUERY_CANCELED:
            raise
        messages.error(
            request, "This took too long. The command prices_rerate --status unpriced says the same of a month."
        )
    context = {
        **modeladmin.admin_site.each_context(request), "title": "Unpriced requests", "opts": modeladmin.opts, "rows": rows,
        "shown": SHOWN, "may_price": request.user.has_perm("cp_catalog.add_modelprice"),
        "may_add": request.user.has_perm("cp_catalog.add_aimodel"),
        "may_alias": request.user.has_perm("cp_catalog.add_modelalias"),
    }  # fmt: skip
    return TemplateResponse(request, "cp_catalog/unpriced.html", context)


def rerate_page(modeladmin: Any, request: HttpRequest) -> HttpResponse:
    """GET: model, provider, as the requests have them: what re-rating comes to. POST, to the same address: book it."""
    _allow(request)
    if not request.user.has_perm("cp_catalog.add_modelprice"):
        raise PermissionDenied
    model, provider = request.GET.get("model", ""), request.GET.get("provider", "")
    if not model or "\x00" in model + provider:
        return HttpResponseRedirect(reverse("admin:cp_catalog_modelprice_unpriced"))
    waiting = InferenceRequest.objects.unpriced().filter(model=model, provider=provider)
    count = len(waiting.values_list("pk")[: MOST_REQUESTS + 1])
    form = ReasonForm(request.POST if request.method == "POST" else None)
    if form.is_bound and form.is_valid() and count <= MOST_REQUESTS:
        reason = form.cleaned_data["reason"]
        with audit_context(reason=reason):
            done = rerate_unpriced(model, provider, reason=reason, apply=True)
        messages.success(request, f"{model}: {done.adjusted:,} requests were priced, {_dollars(done)} in all.")
        return HttpResponseRedirect(reverse("admin:cp_catalog_modelprice_unpriced"))
    found = rerate_unpriced(model, provider, reason="preview") if count <= MOST_REQUESTS else None
    context = {
        **modeladmin.admin_site.each_context(request), "title": "Price unpriced requests", "opts": modeladmin.opts, "form": form,
        "name": model, "provider": provider, "count": count, "most": f"{MOST_REQUESTS:,}", "result": found,
        "adjusted": f"{found.adjusted:,}" if found else "", "rows": f"{found.rows:,}" if found else "",
        "unknown": f"{found.unknown:,}" if found else "",
        "sums": _sums(found) if found else [], "total": _dollars(found) if found else "",
        "price_url": _price_url(_find({_canonical(model, provider), model}), waiting, model, provider),
        "command": _command(waiting, model, provider) if found is None else "",
    }  # fmt: skip
    return TemplateResponse(request, "cp_catalog/rerate.html", context, status=422 if form.errors else 200)


def _allow(request: HttpRequest) -> None:
    if not request.user.has_perms(("cp_catalog.view_modelprice", "cp_auditing.view_inferencerequest")):
        raise PermissionDenied


def _rows(seen: list[Unpriced]) -> list[Row]:
    names = {name for one in seen for name in (one.model, _canonical(one.model, one.provider))}
    known = _find(names)
    return [_row(one, known) for one in seen]


def _row(one: Unpriced, known: dict[str, Any]) -> Row:
    model = known.get(_canonical(one.model, one.provider).lower()) or known.get(one.model.lower())
    window = f"{_iso(one.first_seen)}..{_iso(one.last_seen + timedelta(seconds=1))}"
    about = {"model": one.model, "window": window, "pricing_status__exact": "unpriced"}
    name = one.model.removeprefix(f"{one.provider}/")
    return Row(
        name=one.model,
        provider="" if one.model.startswith(f"{one.provider}/") else one.provider,
        found=model,
        priced=bool(model and model.priced),
        figures={name: f"{getattr(one, name):,}" for name in COUNTS},
        first=display.day(one.first_seen),
        last=display.day(one.last_seen),
        requests_url=_url("cp_auditing_inferencerequest_changelist", about),
        price_url=_entry_url(model, one.first_seen, one.model, one.provider) if model else "",
        rerate_url=_url("cp_catalog_modelprice_rerate", {"model": one.model, "provider": one.provider}),
        add_url=_url("cp_catalog_aimodel_add", {"provider": one.provider, "name": name}),
        alias_url=_url("cp_catalog_modelalias_add", {"alias": one.model}),
    )


def _canonical(model: str, provider: str) -> str:
    return model if model.startswith(f"{provider}/") or not provider else f"{provider}/{model}"


def _find(names: Collection[str]) -> dict[str, Any]:
    """Models by their keys and canonical ids in lower case, and whether each has a list price now."""
    lowered = {name.lower() for name in names}
    price = ModelPrice.objects.listed().in_force().filter(model=OuterRef("pk")).exclude(rates={})
    rows: QuerySet[Any] = AIModel.objects.alias(
        key_lowered=Lower("key"), canonical_lowered=Lower(Concat("provider__slug", Value("/"), "name"))
    ).filter(Q(key_lowered__in=lowered) | Q(canonical_lowered__in=lowered))
    found: dict[str, Any] = {}
    for model in rows.select_related("provider").annotate(priced=Exists(price)).order_by(F("key").desc()):
        found[model.canonical_id.lower()] = model
        found[model.key.lower()] = model
    return found


def _price_url(known: dict[str, Any], waiting: Any, model: str, provider: str) -> str:
    row = known.get(_canonical(model, provider).lower()) or known.get(model.lower())
    first = waiting.order_by("created_at").values_list("created_at", flat=True).first()
    return _entry_url(row, first, model, provider) if row and first else ""


def _entry_url(model: AIModel, first: datetime, seen: str, provider: str) -> str:
    """The form of a price that begins before the first of the requests, and leads back to them."""
    start = first.astimezone(UTC).replace(second=0, microsecond=0)
    asked = {"model": model.key, "from": f"{start:%Y-%m-%dT%H:%M}", "for_model": seen, "for_provider": provider}
    return _url("cp_catalog_modelprice_add", asked)


def _command(waiting: Any, model: str, provider: str) -> str:
    times = waiting.order_by("created_at").values_list("created_at", flat=True)
    start, end = times.first(), times.last() + timedelta(seconds=1)
    return (
        f"manage.py prices_rerate --from {_iso(start)} --to {_iso(end)} --model {model} --provider {provider} "
        "--status unpriced --reason … --apply"
    )


def _sums(found: Rerating) -> list[tuple[str, str, str]]:
    """(tenant, requests, US dollars) by tenant, the largest first."""
    names = directory().names("tenant", {tenant for tenant, _ in found.sums})
    rows = sorted(found.sums.items(), key=lambda pair: -pair[1].difference)
    return [
        (names.get(tenant, f"…{str(tenant)[-8:]}"), f"{one.rows:,}", units.plain(one.difference))
        for (tenant, _), one in rows
    ]


def _dollars(found: Rerating) -> str:
    return f"{units.plain(found.difference)} USD"


def _url(name: str, query: dict[str, str]) -> str:
    return f"{reverse(f'admin:{name}')}?{urlencode(query)}"


def _iso(at: datetime) -> str:
    return at.astimezone(UTC).replace(microsecond=0, tzinfo=None).isoformat() + "Z"
