"""The dashboard: what was used in a window, by day and by model. Every figure links to the list it sums."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from django.contrib import admin
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.http import urlencode

from auditing.metrics import Total
from auditing.models import InferenceRequest
from controlplane.core import charts
from controlplane.core.ids import now
from tenants.models import Tenant

WINDOWS = {"24h": ("24 hours", 1), "7d": ("7 days", 7), "30d": ("30 days", 30)}
MAX_DAYS = 366
TOP_MODELS = 12
MAX_TENANTS = 200


@dataclass(frozen=True, slots=True)
class Span:
    """start <= t < end, aware; by hours if it is at most two days, else by days of the zone. name: for people."""

    start: datetime
    end: datetime
    zone: ZoneInfo
    name: str
    window: str = ""

    @property
    def hourly(self) -> bool:
        return self.end - self.start <= timedelta(days=2)

    @property
    def before(self) -> tuple[datetime, datetime]:
        """The span of the same length just before."""
        return self.start - (self.end - self.start), self.start

    def periods(self) -> list[datetime | date]:
        """Hours (UTC) or local days of the span, oldest first."""
        if self.hourly:
            first = self.start.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
            hours = int((self.end - first) / timedelta(hours=1) + 0.999999)
            return [first + timedelta(hours=n) for n in range(hours)]
        first_day, last = (
            self.start.astimezone(self.zone).date(),
            (self.end - timedelta(microseconds=1)).astimezone(self.zone),
        )
        return [first_day + timedelta(days=n) for n in range((last.date() - first_day).days + 1)]

    def bounds(self, period: datetime | date) -> tuple[datetime, datetime]:
        """Start and end of one period."""
        if isinstance(period, datetime):
            return period, period + timedelta(hours=1)
        return _midnight(period, self.zone), _midnight(period + timedelta(days=1), self.zone)

    def label(self, period: datetime | date) -> str:
        if isinstance(period, datetime):
            return f"{period.astimezone(self.zone):%H:%M}"
        return f"{period.day} {period:%b}"


@dataclass(frozen=True, slots=True)
class Sums:
    requests: int
    failed: int
    prompt_tokens: int
    completion_tokens: int
    unpriced: int
    cost: Any

    @property
    def tokens(self) -> int:
        return self.prompt_tokens + self.completion_tokens

    @classmethod
    def of(cls, rows: Sequence[Total]) -> Sums:
        names = ("requests", "failed", "prompt_tokens", "completion_tokens", "unpriced", "cost")
        return cls(*(sum(getattr(row, name) for row in rows) for name in names))


def dashboard(request: HttpRequest) -> HttpResponse:
    """GET: tenant (slug, empty = all), window (24h, 7d, 30d) or from and to (dates, both included)."""
    tenants = list(Tenant.objects.present().order_by("name")[:MAX_TENANTS])
    tenant = Tenant.objects.filter(slug=request.GET.get("tenant", "")).first()
    if tenant is not None and tenant not in tenants:
        tenants.append(tenant)
    zone = ZoneInfo(tenant.time_zone if tenant else "UTC")
    span, notice = _span(request, zone, now())
    by_time = InferenceRequest.objects.totals(tenant, span.start, span.end, by=("hour" if span.hourly else "day",))
    context = {
        **admin.site.each_context(request),
        "title": "Dashboard",
        "subtitle": f"{span.name}, {zone.key}",
        "scope": _scope(request, tenants, tenant, span),
        "notices": [{"tone": "warn", "text": notice}] if notice else [],
    }
    if by_time:
        context |= _figures(tenant, span, by_time)
    else:
        context["empty"] = _empty(tenant)
    return TemplateResponse(request, "controlplane/dashboard.html", context)


def _figures(tenant: Tenant | None, span: Span, by_time: list[Total]) -> dict[str, Any]:
    by_model = InferenceRequest.objects.totals(tenant, span.start, span.end, by=("model",))
    previous = Sums.of(InferenceRequest.objects.totals(tenant, *span.before, by=("day",)))
    sums = Sums.of(by_model)
    series = {row.key[0]: row for row in by_time}
    periods = span.periods()
    rows = [series.get(period) for period in periods]
    lines = {
        name: [getattr(row, name) if row else 0 for row in rows]
        for name in ("requests", "failed", "tokens", "prompt_tokens", "completion_tokens", "unpriced")
    }
    return {
        "cards": _cards(tenant, span, sums, previous, lines),
        "charts": _charts(tenant, span, periods, lines, by_model),
        "models": _models(tenant, span, by_model, sums),
        "models_total": {
            "requests": charts.plain(sums.requests), "tokens": charts.plain(sums.tokens), "errors": charts.plain(sums.failed),
        },
    }  # fmt: skip


def _cards(
    tenant: Tenant | None, span: Span, sums: Sums, previous: Sums, lines: dict[str, list[int]]
) -> list[dict[str, Any]]:
    open_end = span.end > now()
    rate, old_rate = _rate(sums), _rate(previous)
    worse = "" if not previous.requests or rate == old_rate else ("worse" if rate > old_rate else "better")
    all_of_them: dict[str, str] = {}
    failed = {"status__exact": "failed"}
    grown = {name: _change(getattr(sums, name), getattr(previous, name)) for name in ("requests", "tokens")}
    share = f"{rate:.2f} %" if sums.requests else ""
    cards: list[tuple[str, str, str, str, dict[str, str], list[int], str]] = [
        ("Requests", charts.plain(sums.requests), grown["requests"], "", all_of_them, lines["requests"], "requests"),
        ("Tokens", charts.plain(sums.tokens), grown["tokens"], "", all_of_them, lines["tokens"], "tokens"),
        ("Failed", charts.plain(sums.failed), share, worse, failed, lines["failed"], "failed requests"),
        ("Spend", _spend(sums), "", "", all_of_them, lines["unpriced"], "unpriced requests"),
    ]
    details = {
        "Requests": "against the span before" if previous.requests else "nothing in the span before",
        "Tokens": f"{charts.short(sums.prompt_tokens)} in, {charts.short(sums.completion_tokens)} out",
        "Failed": f"of all, before {old_rate:.2f} %" if previous.requests else "of all",
        "Spend": f"{charts.plain(sums.unpriced)} requests unpriced, in no sum"
        if sums.unpriced
        else "every request priced",
    }
    return [
        {
            "label": label, "value": value, "change": change, "direction": direction, "delta": details[label],
            "url": requests_url(tenant, span.start, span.end, **match),
            "spark": charts.spark_line(line, title=f"{what} over the span", unfinished=open_end),
        }
        for label, value, change, direction, match, line, what in cards
    ]  # fmt: skip


def _charts(
    tenant: Tenant | None,
    span: Span,
    periods: Sequence[datetime | date],
    lines: dict[str, list[int]],
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


def _models(tenant: Tenant | None, span: Span, by_model: list[Total], sums: Sums) -> list[dict[str, Any]]:
    rows = [
        {
            "name": row.key[0],
            "requests": charts.plain(row.requests),
            "tokens": charts.plain(row.tokens),
            "errors": charts.plain(row.failed),
            "share": row.requests * 100 / sums.requests if sums.requests else 0,
            "url": requests_url(tenant, span.start, span.end, model=row.key[0]),
        }
        for row in by_model[:TOP_MODELS]
    ]
    if rest := by_model[TOP_MODELS:]:
        more = Sums.of(rest)
        rows.append(
            {
                "name": f"{len(rest)} more", "requests": charts.plain(more.requests), "tokens": charts.plain(more.tokens),
                "errors": charts.plain(more.failed), "share": more.requests * 100 / sums.requests,
                "url": requests_url(tenant, span.start, span.end),
            }
        )  # fmt: skip
    return rows


def requests_url(tenant: Tenant | None, start: datetime, end: datetime, **match: str) -> str:
    """The list of the requests of a span: what a figure sums."""
    window = "..".join(at.astimezone(UTC).isoformat().replace("+00:00", "Z") for at in (start, end))
    query = {"window": window, **({"tenant": str(tenant.pk)} if tenant else {}), **match}
    return f"{reverse('admin:cp_auditing_inferencerequest_changelist')}?{urlencode(query)}"


def _scope(request: HttpRequest, tenants: list[Tenant], tenant: Tenant | None, span: Span) -> dict[str, Any]:
    choices = [{"value": "", "label": "All tenants", "selected": tenant is None}]
    choices += [{"value": row.slug, "label": row.name, "selected": row == tenant} for row in tenants]
    windows = [{"value": name, "label": label, "selected": name == span.window} for name, (label, _) in WINDOWS.items()]
    last = (span.end - timedelta(microseconds=1)).astimezone(span.zone).date()
    custom = not span.window
    return {
        "tenants": choices, "windows": windows, "custom": custom,
        "from": span.start.astimezone(span.zone).date().isoformat() if custom else "", "to": last.isoformat() if custom else "",
    }  # fmt: skip


def _span(request: HttpRequest, zone: ZoneInfo, present: datetime) -> tuple[Span, str]:
    """The span asked for, and a sentence if it could not be understood."""
    first, last = request.GET.get("from", ""), request.GET.get("to", "")
    notice = ""
    if first or last:
        try:
            start = date.fromisoformat(first or last)
            end = date.fromisoformat(last or first)
            if start <= end and (end - start).days < MAX_DAYS and date(2020, 1, 1) <= start and end < date(9999, 1, 1):
                name = _day(start) if start == end else f"{_day(start)} to {_day(end)}"
                return Span(_midnight(start, zone), _midnight(end + timedelta(days=1), zone), zone, name), ""
            notice = (
                f"From {first} to {last} is no span of at most {MAX_DAYS} days since 2020. The last 7 days are shown."
            )
        except ValueError:
            notice = "A date is written as 2026-11-21. The last 7 days are shown."
    window = request.GET.get("window", "7d")
    if window not in WINDOWS:
        window = "7d"
    label, days = WINDOWS[window]
    if days == 1:
        end_at = present.replace(minute=0, second=0, microsecond=0) + timedelta(hours=1)
        return Span(end_at - timedelta(hours=24), end_at, zone, f"Last {label}", window), notice
    today = present.astimezone(zone).date()
    begin = _midnight(today - timedelta(days=days - 1), zone)
    return Span(begin, _midnight(today + timedelta(days=1), zone), zone, f"Last {label}", window), notice


def _empty(tenant: Tenant | None) -> dict[str, str]:
    whose = f"{tenant.name} has" if tenant else "There are"
    return {
        "text": f"{whose} no requests in this span.",
        "command": "manage.py usage_import FILE --tenant SLUG --app SLUG --model PROVIDER/NAME",
        "url": "?window=30d" + (f"&tenant={tenant.slug}" if tenant else ""),
        "step": "Widen to 30 days",
    }


def _change(value: int, before: int) -> str:
    return f"{(value - before) * 100 / before:+.1f} %" if before else ""


def _spend(sums: Sums) -> str:
    """Unknown is never zero: with nothing priced yet there is no sum."""
    return "unpriced" if sums.unpriced and not sums.cost else charts.dollars(sums.cost)


def _rate(sums: Sums) -> float:
    return sums.failed * 100 / sums.requests if sums.requests else 0.0


def _midnight(day: date, zone: ZoneInfo) -> datetime:
    return datetime.combine(day, time(), zone).astimezone(UTC)


def _day(day: date) -> str:
    return f"{day.day} {day:%B %Y}"
