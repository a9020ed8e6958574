"""The dashboard: what was used in a window, by day and by model. Every figure links to the list it sums."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from django.contrib import admin
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.utils.http import urlencode

from auditing.directory import directory
from auditing.metrics import Total, Wanted
from auditing.models import InferenceRequest
from controlplane.core import charts
from controlplane.core.ids import now
from controlplane.pages.spans import WINDOWS, Span, read_span
from controlplane.pages.sums import Sums, change, largest_first, merged, rate, requests_url, spend
from controlplane.pages.tenancy import some_tenants, tenant_asked
from controlplane.pages.watching import watched
from tenants.models import Tenant

TOP_ROWS = 12


def dashboard(request: HttpRequest) -> HttpResponse:
    """GET: tenant (slug, empty = all), window (24h, 7d, 30d) or from and to (dates, both included)."""
    context = {**admin.site.each_context(request), "title": "Dashboard", "watched": []}
    if request.user.has_perm("cp_auditing.view_inferencerequest"):
        context |= _usage(request)
    else:
        context["empty"] = {"text": "Your account may not see requests. An operator can give it a group that may."}
    return TemplateResponse(request, "controlplane/dashboard.html", context)


def _usage(request: HttpRequest) -> dict[str, Any]:
    tenants = some_tenants()
    tenant, unknown = tenant_asked(request.GET.get("tenant", ""), tenants)
    zone = ZoneInfo(tenant.time_zone if tenant else "UTC")
    asked = request.GET
    span, misread = read_span(asked.get("from", ""), asked.get("to", ""), asked.get("window", "7d"), zone, now())
    wanted = [
        Wanted(tenant, span.start, span.end, ("model", "hour" if span.hourly else "day"), zone.key),
        Wanted(tenant, *span.before(now()), ("provider",)),
        Wanted(tenant, span.start, span.end, (_subject(tenant),)),
    ]
    found, before, by_subject = InferenceRequest.objects.totals_together(wanted)
    context: dict[str, Any] = {
        "subtitle": f"{span.name}, {zone.key}",
        "scope": _scope(request, tenants, tenant, span),
    }
    context |= _figures(tenant, span, found, before, by_subject) if found else {"empty": _empty(tenant, span)}
    misunderstood = [{"tone": "warn", "text": text} for text in (unknown, misread) if text]
    return context | {
        "notices": misunderstood + context.get("notices", []),
        "watched": watched(request, tenant),
    }


def _subject(tenant: Tenant | None) -> str:
    """What is told apart beside models: the apps of one tenant, or tenants."""
    return "app" if tenant else "tenant"


def _figures(
    tenant: Tenant | None, span: Span, found: list[Total], before: list[Total], by_subject: list[Total]
) -> dict[str, Any]:
    """found: by model and period. before: of the span before."""
    by_model = largest_first(merged(found, 0))
    sums, previous = Sums.of(by_model), Sums.of(before)
    series = {row.key[0]: row for row in merged(found, 1)}
    periods = span.periods()
    rows = [series.get(period) for period in periods]
    lines = {
        name: [getattr(row, name) if row else 0 for row in rows]
        for name in ("requests", "failed", "tokens", "prompt_tokens", "completion_tokens", "unpriced", "cost")
    }
    unpriced = requests_url(tenant, span.start, span.end, pricing_status__exact="unpriced")
    partly = {
        "tone": "info", "url": unpriced, "step": "Show them",
        "text": f"{charts.plain(sums.unpriced)} requests are unpriced: their cost is unknown, and in no sum.",
    }  # fmt: skip
    return {
        "notices": [partly] if sums.unpriced and sums.cost else [],
        "cards": _cards(tenant, span, sums, previous, lines),
        "charts": _charts(tenant, span, periods, lines, by_model),
        "tables": _tables(tenant, span, by_subject, by_model),
    }


def _cards(
    tenant: Tenant | None, span: Span, sums: Sums, previous: Sums, lines: dict[str, list[Any]]
) -> list[dict[str, Any]]:
    open_end = span.end > now()
    rated, old_rate = rate(sums), rate(previous)
    worse = "" if not previous.requests or rated == old_rate else ("worse" if rated > old_rate else "better")
    all_of_them: dict[str, str] = {}
    failed = {"status__exact": "failed"}
    grown = {name: change(getattr(sums, name), getattr(previous, name)) for name in ("requests", "tokens", "cost")}
    priced = {"pricing_status__exact": "unpriced"} if sums.unpriced and not sums.cost else all_of_them
    spent, what = (lines["cost"], "spend") if sums.cost else (lines["unpriced"], "unpriced requests")
    share = f"{rated:.2f} %" if sums.requests else ""
    cards: list[tuple[str, str, str, str, dict[str, str], list[Any], str]] = [
        ("Requests", charts.plain(sums.requests), grown["requests"], "", all_of_them, lines["requests"], "requests"),
        ("Tokens", charts.plain(sums.tokens), grown["tokens"], "", all_of_them, lines["tokens"], "tokens"),
        ("Failed", charts.plain(sums.failed), share, worse, failed, lines["failed"], "failed requests"),
        ("Spend", spend(sums), grown["cost"], "", priced, spent, what),
    ]
    details = {
        "Requests": f"against {'as much' if open_end else 'the span'} before"
        if previous.requests
        else "nothing in the span before",
        "Tokens": f"{charts.short(sums.prompt_tokens)} in, {charts.short(sums.completion_tokens)} out",
        "Failed": f"of all, before {old_rate:.2f} %" if previous.requests else "of all",
        "Spend": f"{charts.plain(sums.unpriced)} requests unpriced, in no sum"
        if sums.unpriced
        else "every request priced",
    }
    return [
        {
            "label": label, "value": value, "change": grew, "direction": direction, "delta": details[label],
            "url": requests_url(tenant, span.start, span.end, **match),
            "spark": charts.spark_line(line, title=f"{what} over the span", unfinished=open_end),
        }
        for label, value, grew, direction, match, line, what in cards
    ]  # fmt: skip


def _charts(
    tenant: Tenant | None,
    span: Span,
    periods: Sequence[datetime | date],
    lines: dict[str, list[Any]],
    by_model: list[Total],
) -> list[dict[str, Any]]:
    every = "hour" if span.hourly else "day"
    urls = [requests_url(tenant, *span.bounds(period)) for period in periods]
    labels = [span.label(period) for period in periods]
    done = [total - failed for total, failed in zip(lines["requests"], lines["failed"], strict=True)]
    shared: dict[str, Any] = {"periods": labels, "urls": urls, "unfinished": span.end > now()}
    requests = charts.Timeline(
        title=f"Requests per {every}", unit="requests",
        series=[charts.Series("not failed", done), charts.Series("failed", lines["failed"])], **shared,
    )  # fmt: skip
    tokens = charts.Timeline(
        title=f"Tokens per {every}", unit="tokens",
        series=[charts.Series("in", lines["prompt_tokens"]), charts.Series("out", lines["completion_tokens"])], **shared,
    )  # fmt: skip
    bars = [
        charts.Bar(
            row.key[0],
            row.tokens,
            charts.plain(row.tokens),
            requests_url(tenant, span.start, span.end, model=row.key[0]),
        )
        for row in sorted(by_model, key=lambda row: row.tokens, reverse=True)[:8]
    ]
    whole = requests_url(tenant, span.start, span.end)
    return [
        {"title": requests.title, "figure": charts.stacked_bars(requests), "url": whole, "wide": True},
        {"title": tokens.title, "figure": charts.stacked_bars(tokens), "url": whole, "wide": False},
        {
            "title": "Tokens by model",
            "figure": charts.horizontal_bars("Tokens by model", bars, unit="tokens"),
            "wide": False,
        },
    ]


def _tables(tenant: Tenant | None, span: Span, by_subject: list[Total], by_model: list[Total]) -> list[dict[str, Any]]:
    subject = _subject(tenant)
    ids = [row.key[0] for row in by_subject if row.key[0]]
    named = directory().names(subject, ids)
    names = {None: "none", **{id: named.get(id, f"…{str(id)[-8:]}") for id in ids}}
    return [
        _table(f"{subject.capitalize()}s", subject, by_subject, names, tenant, span),
        _table("Models", "model", by_model, {row.key[0]: row.key[0] for row in by_model}, tenant, span),
    ]


def _table(
    title: str, of: str, totals: list[Total], names: dict[Any, str], tenant: Tenant | None, span: Span
) -> dict[str, Any]:
    whole = Sums.of(totals)
    rows = [
        {
            "name": names[row.key[0]],
            "share": row.requests * 100 / whole.requests if whole.requests else 0,
            "url": requests_url(tenant, span.start, span.end, **{of: str(row.key[0])}) if row.key[0] else "",
            **_texts(Sums.of([row])),
        }
        for row in totals[:TOP_ROWS]
    ]
    if rest := totals[TOP_ROWS:]:
        more = Sums.of(rest)
        share = more.requests * 100 / whole.requests if whole.requests else 0
        rows.append(
            {"name": f"{len(rest)} more", "share": share, "url": "", **_texts(more)}
        )  # no list holds just these
    return {"title": title, "of": of.capitalize(), "rows": rows, "total": _texts(whole)}


def _texts(sums: Sums) -> dict[str, str]:
    figures = {
        "requests": sums.requests,
        "tokens_in": sums.prompt_tokens,
        "tokens_out": sums.completion_tokens,
        "failed": sums.failed,
    }
    return {name: charts.plain(value) for name, value in figures.items()}


def _scope(request: HttpRequest, tenants: list[Tenant], tenant: Tenant | None, span: Span) -> dict[str, Any]:
    choices = [{"value": "", "label": "All tenants", "selected": tenant is None}]
    choices += [{"value": row.slug, "label": row.name, "selected": row == tenant} for row in tenants]
    windows = [{"value": name, "label": label, "selected": name == span.window} for name, (label, _) in WINDOWS.items()]
    last = (span.end - timedelta(microseconds=1)).astimezone(span.zone).date()
    custom = not span.window
    return {
        "tenants": choices, "tenant": tenant.slug if tenant else "", "windows": windows, "custom": custom,
        "from": span.start.astimezone(span.zone).date().isoformat() if custom else "", "to": last.isoformat() if custom else "",
    }  # fmt: skip


def _empty(tenant: Tenant | None, span: Span) -> dict[str, str]:
    """Why there is no figure, and the next step: the span that holds the newest request, or how to get one."""
    whose = f"{tenant.name} has" if tenant else "There are"
    rows = InferenceRequest.objects.for_tenant(tenant) if tenant else InferenceRequest.objects.all()
    newest: datetime | None = rows.order_by("-id").values_list("created_at", flat=True).first()
    if newest is None:
        command = "manage.py usage_import FILE --tenant SLUG --app SLUG --model PROVIDER/NAME"
        return {"text": f"{whose} no requests yet.", "command": command}
    day = newest.astimezone(span.zone).date()
    query = {"from": day.isoformat(), "to": day.isoformat(), **({"tenant": tenant.slug} if tenant else {})}
    return {
        "text": f"{whose} no requests in this span.",
        "url": f"?{urlencode(query)}",
        "step": f"Show the newest day, {day}",
    }
