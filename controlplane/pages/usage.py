"""The usage explorer: what was used, by one or two dimensions and over time, beside the span before. Its state is its address."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, StreamingHttpResponse
from django.http.response import HttpResponseBase
from django.template.response import TemplateResponse
from django.utils.http import urlencode

from auditing.cells import line
from auditing.directory import directory
from auditing.metrics import Total, Wanted
from auditing.models import AuditLog, InferenceRequest
from controlplane.core import charts
from controlplane.core.admin import readable_address
from controlplane.core.ids import iso, now
from controlplane.pages.exploring import (
    DIMENSIONS,
    EVERY,
    MEASURES,
    SHOWN,
    WINDOWS,
    Group,
    Question,
    by_key,
    groups,
    in_all,
    in_months,
    over_time,
    read,
)
from controlplane.pages.spans import Span
from controlplane.pages.sums import Sums, change, requests_url, spend
from controlplane.pages.tenancy import some_tenants, tenant_asked
from tenants.models import Tenant

VIEW = "cp_auditing.view_inferencerequest"
EXPORTED = "usage.exported"
RANKED = 12
COLUMNS = ("requests", "failed", "prompt_tokens", "completion_tokens", "cost_usd", "unpriced")


def explore(request: HttpRequest) -> HttpResponseBase:
    """GET: tenant (slug, empty = all), by and then (dimensions), every, measure, window or from and to; format=csv: a file."""
    if not request.user.has_perm(VIEW):
        raise PermissionDenied
    if elsewhere := readable_address(request):
        return elsewhere
    tenants = some_tenants()
    tenant, unknown = tenant_asked(request.GET.get("tenant", ""), tenants)
    zone = ZoneInfo(tenant.time_zone if tenant else "UTC")
    question, misread = read(request.GET.dict(), zone, now())
    if request.GET.get("format") == "csv":
        return _file(request, tenant, question)
    context = {
        **admin.site.each_context(request),
        "title": "Usage explorer",
        "subtitle": f"{question.span.name}{f' by {question.every}' if question.narrow else ''}, {zone.key}",
        "scope": _scope(tenants, tenant, question),
        "notices": [{"tone": "warn", "text": text} for text in (unknown, *misread) if text],
    }
    return TemplateResponse(request, "controlplane/usage.html", context | _answer(tenant, question))


def _answer(tenant: Tenant | None, question: Question) -> dict[str, Any]:
    span, zone = question.span, question.span.zone.key
    found, before = InferenceRequest.objects.totals_together(
        [
            Wanted(tenant, span.start, span.end, question.grouped, zone),
            Wanted(tenant, *span.before(now()), question.by, zone),
        ]
    )
    rows = groups(question, found, before)
    if not rows:
        return {
            "empty": "There is no usage in this span, nor in the one before. Choose a longer window, or another tenant."
        }
    names = _names(tenant, question.by, [row.key for row in rows[:SHOWN]])
    return {
        "cards": _cards(tenant, question, rows),
        "chart": _chart(tenant, question, found, names) if question.narrow else _ranking(tenant, question, rows, names),
        "table": _table(tenant, question, rows, names),
        "csv": f"?{urlencode(_state(tenant, question, format='csv'))}",
    }


def _names(tenant: Tenant | None, by: Sequence[str], keys: Sequence[tuple[Any, ...]]) -> dict[tuple[str, Any], str]:
    """What people call the values of the keys, by dimension and value."""
    found: dict[tuple[str, Any], str] = {}
    for place, dimension in enumerate(by):
        values = {key[place] for key in keys}
        named: dict[Any, str] = {value: value for value in values if isinstance(value, str)}
        ids = {value for value in values if isinstance(value, UUID)}
        if dimension == "tenant" and tenant is not None:
            named = {tenant.pk: tenant.name}
        elif ids:
            named = {**directory().names(dimension, ids)}
        for value in values:
            short = f"…{str(value)[-8:]}" if value else f"no {DIMENSIONS[dimension].lower()}"
            found[dimension, value] = named.get(value) or short
    return found


def _url(tenant: Tenant | None, question: Question, key: Sequence[Any], start: datetime, end: datetime) -> str:
    """The list of the requests of a group; "" where there is none: nobody lists what has no app."""
    match = dict(zip(question.by, key, strict=False))
    if not all(match.values()):
        return ""
    if "tenant" in match:
        tenant = None
    return requests_url(tenant, start, end, **{dimension: str(value) for dimension, value in match.items()})


def _cards(tenant: Tenant | None, question: Question, rows: list[Group]) -> list[dict[str, str]]:
    span, whole, before = question.span, in_all([row.sums for row in rows]), in_all([row.before for row in rows])
    shown = [
        ("Requests", charts.plain(whole.requests), charts.plain(before.requests), (whole.requests, before.requests), {}),
        ("Tokens", charts.plain(whole.tokens), charts.plain(before.tokens), (whole.tokens, before.tokens), {}),
        ("Spend", spend(whole), spend(before), (whole.cost, before.cost), {}),
        (
            "Unpriced", charts.plain(whole.unpriced), charts.plain(before.unpriced), (whole.unpriced, before.unpriced),
            {"pricing_status__exact": "unpriced"},
        ),
    ]  # fmt: skip
    return [
        {
            "label": label, "value": value, "change": change(*pair), "before": was,
            "url": requests_url(tenant, span.start, span.end, **match),
        }
        for label, value, was, pair, match in shown
    ]  # fmt: skip


def _chart(
    tenant: Tenant | None, question: Question, found: list[Total], names: dict[tuple[str, Any], str]
) -> dict[str, Any]:
    """Bars over time, of the largest values of the first dimension."""
    span, measure, first = question.span, MEASURES[question.measure], question.by[0]
    periods = span.periods()
    series = []
    for value, sums in over_time(question, found).items():
        drawn = [max(measure.of(sums[period]), 0) if period in sums else 0 for period in periods]
        series.append(charts.Series("all others" if value is ... else _name(names, first, value), drawn))
    timeline = charts.Timeline(
        title=f"{measure.label} per {question.every}", unit=measure.unit, form=measure.form, series=series,
        periods=[span.label(period) for period in periods], unfinished=span.end > now(),
        urls=[requests_url(tenant, *span.bounds(period)) for period in periods],
    )  # fmt: skip
    return {"title": timeline.title, "figure": charts.stacked_bars(timeline)}


def _ranking(
    tenant: Tenant | None, question: Question, rows: list[Group], names: dict[tuple[str, Any], str]
) -> dict[str, Any]:
    """The largest groups, of dimensions with too many values to be drawn over time."""
    span, measure = question.span, MEASURES[question.measure]
    bars = [
        charts.Bar(
            ", ".join(_name(names, *pair) for pair in zip(question.by, row.key, strict=True)),
            max(measure.of(row.sums), 0),
            _figure(question, row.sums),
            _url(tenant, question, row.key, span.start, span.end),
        )
        for row in rows[:RANKED]
    ]
    title = f"{measure.label} by {' and '.join(DIMENSIONS[name] for name in question.by)}"
    return {"title": title, "figure": charts.horizontal_bars(title, bars, unit=measure.unit)}


def _name(names: dict[tuple[str, Any], str], dimension: str, value: Any) -> str:
    return names.get((dimension, value)) or f"…{str(value)[-8:]}"


def _table(
    tenant: Tenant | None, question: Question, rows: list[Group], names: dict[tuple[str, Any], str]
) -> dict[str, Any]:
    span = question.span
    shown = [
        {
            "names": [_name(names, *pair) for pair in zip(question.by, row.key, strict=True)],
            "url": _url(tenant, question, row.key, span.start, span.end),
            **_texts(question, row.sums, row.before),
        }
        for row in rows[:SHOWN]
    ]
    if rest := rows[SHOWN:]:
        texts = _texts(question, in_all([row.sums for row in rest]), in_all([row.before for row in rest]))
        blank = [""] * (len(question.by) - 1)
        shown.append({"names": [f"{charts.plain(len(rest))} more", *blank], "url": "", **texts})
    total = _texts(question, in_all([row.sums for row in rows]), in_all([row.before for row in rows]))
    return {
        "of": [DIMENSIONS[name] for name in question.by], "rows": shown, "total": total, "groups": charts.plain(len(rows)),
        "measure": MEASURES[question.measure].label, "span": len(question.by),
    }  # fmt: skip


def _texts(question: Question, sums: Sums, before: Sums) -> dict[str, str]:
    of = MEASURES[question.measure].of
    return {
        "requests": charts.plain(sums.requests), "tokens_in": charts.plain(sums.prompt_tokens),
        "tokens_out": charts.plain(sums.completion_tokens), "failed": charts.plain(sums.failed), "cost": spend(sums),
        "unpriced": charts.plain(sums.unpriced), "before": _figure(question, before) if before.requests else "–",
        "change": change(of(sums), of(before)) or "–",
    }  # fmt: skip


def _figure(question: Question, sums: Sums) -> str:
    measure = MEASURES[question.measure]
    return spend(sums) if question.measure == "cost" else measure.form(measure.of(sums))


def _state(tenant: Tenant | None, question: Question, **more: str) -> dict[str, str]:
    """The address of a question."""
    span = question.span
    when = {"window": span.window} if span.window else {"from": _first(span), "to": _last(span)}
    then = {"then": question.by[1]} if len(question.by) > 1 else {}
    return {
        **({"tenant": tenant.slug} if tenant else {}), "by": question.by[0], **then, "every": question.every,
        "measure": question.measure, **when, **more,
    }  # fmt: skip


def _first(span: Span) -> str:
    return span.start.astimezone(span.zone).date().isoformat()


def _last(span: Span) -> str:
    return (span.end - timedelta(microseconds=1)).astimezone(span.zone).date().isoformat()


def _scope(tenants: list[Tenant], tenant: Tenant | None, question: Question) -> dict[str, Any]:
    """What the forms and the pills offer."""
    span = question.span
    here = {key: value for key, value in _state(tenant, question).items() if key not in ("window", "from", "to")}
    then = question.by[1] if len(question.by) > 1 else ""
    return {
        "tenants": _options({"": "All tenants"} | {row.slug: row.name for row in tenants}, tenant.slug if tenant else ""),
        "by": _options(DIMENSIONS, question.by[0]),
        "then": _options({"": "nothing"} | DIMENSIONS, then),
        "every": _options({name: name for name in EVERY}, question.every),
        "measure": _options({name: measure.label for name, measure in MEASURES.items()}, question.measure),
        "windows": [
            {"label": label, "url": f"?{urlencode({**here, 'window': name})}", "selected": name == span.window}
            for name, (label, _) in WINDOWS.items()
        ],
        "here": here, "window": span.window, "custom": not span.window, "from": _first(span), "to": _last(span),
    }  # fmt: skip


def _options(found: dict[str, str], chosen: str) -> list[dict[str, Any]]:
    return [{"value": value, "label": label, "selected": value == chosen} for value, label in found.items()]


def _file(request: HttpRequest, tenant: Tenant | None, question: Question) -> HttpResponseBase:
    """The groups as CSV, by period too where they are few; in the audit log before the first byte."""
    span, by = question.span, question.by
    totals = InferenceRequest.objects.totals(tenant, span.start, span.end, by=question.grouped, zone=span.zone.key)
    found = by_key(in_months(question, totals), len(question.grouped))
    names = _names(tenant, by, list(found))
    AuditLog.objects.record(
        EXPORTED, actor=request.user, tenant=tenant,
        details={"by": by, "every": question.every, "from": iso(span.start), "to": iso(span.end), "rows": len(found)},
    )  # fmt: skip
    response = StreamingHttpResponse(_lines(question, found, names), content_type="text/csv; charset=utf-8")
    name = f"usage-{tenant.slug if tenant else 'all'}-{'-'.join(by)}-{_first(span)}-{_last(span)}.csv"
    response["Content-Disposition"] = f'attachment; filename="{name}"'
    return response


def _lines(question: Question, found: dict[tuple[Any, ...], Sums], names: dict[tuple[str, Any], str]) -> Iterator[str]:
    """A head, then a line per group and period, in their order."""
    by = question.by
    period = [question.every] if question.narrow else []
    yield line([*(part for name in by for part in (f"{name}_id", name)), *period, *COLUMNS])
    for key in sorted(found, key=lambda key: tuple(map(str, key))):
        sums = found[key]
        subjects = [part for name, value in zip(by, key, strict=False) for part in (_id(value), names[name, value])]
        cost = None if sums.unpriced and not sums.cost else sums.cost  # unknown is never zero
        figures = [sums.requests, sums.failed, sums.prompt_tokens, sums.completion_tokens, cost, sums.unpriced]
        yield line([*subjects, *key[len(by) :], *figures])


def _id(value: Any) -> str | None:
    return None if value is None else str(value)
