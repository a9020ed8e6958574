"""What the demo's calls have used of their limits: counters as they would stand if the gate had let every call through."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

from django.db import connections

from auditing.models import InferenceRequest
from catalog.pricing import worst_case
from controlplane.core.bulk import copy_text
from controlplane.core.conf import conf
from controlplane.core.ids import uuid7, uuid7_at
from policies import limits, notices
from policies.counting import LEVELS, Amounts, Counter, counters
from policies.models import LimitBucket, Policy, Reservation
from policies.resolution import EffectivePolicy
from tenants.models import APIKey, Tenant

HELD_FOR = timedelta(days=1)
"""As long as a reservation may live: else the calls in flight hold nothing by the time that somebody looks."""
_ANY = Amounts(input_tokens=0, output_tokens=0, cost=Decimal(0))
_METRICS = ("requests", "input_tokens", "output_tokens", "total_tokens", "cost")
_COLUMNS = (
    "id", "tenant_id", "request_id", "state", "bucket_ids", "amounts", "actuals", "app_id", "branch_id", "user_id", "key_id",
    "model", "digest", "policy_ids", "policy_versions", "overrun", "estimated", "reserved_at", "expires_at", "ended_at",
)  # fmt: skip
_BLOCK = 1_000


@dataclass(slots=True)
class Sheet:
    """The counters of one organisation while its calls are added up, by their key."""

    tenant: Tenant
    counters: dict[str, Counter] = field(default_factory=dict)
    ids: dict[str, UUID] = field(default_factory=dict)
    spent: defaultdict[UUID, Decimal] = field(default_factory=lambda: defaultdict(Decimal))

    def id_of(self, counter: Counter) -> UUID:
        if counter.key not in self.ids:
            self.ids[counter.key], self.counters[counter.key] = uuid7(), counter
        return self.ids[counter.key]


@dataclass(slots=True)
class _Page:
    """What calls of one key and model count against, from some instant to `until`; None = for good.

    ids: counters, sorted; places: the metric of each, as in _METRICS. buckets, policies: columns as COPY wants them.
    """

    until: datetime | None
    ids: tuple[UUID, ...]
    places: tuple[int, ...]
    buckets: str
    policies: str


def fill(tenant: Tenant, keys: Mapping[UUID, APIKey], running: Iterable[limits.Asked], at: datetime) -> None:
    """Write the counters of a tenant's calls up to `at`, with a settled reservation for each call, and tell what they passed.

    keys: by id, all that have called. running: what calls in flight hold. Budgets are counted over all of the log, rates in
    the windows of `at` alone, as nothing else of them is kept. The policies are those of `at`, as if always there.
    """
    sheet, running = Sheet(tenant), list(running)
    effective = {id: Policy.objects.effective(tenant, key=key, at=at) for id, key in keys.items()}
    blocks = list(_lines(sheet, effective, at))
    for counter in (counter for asked in running for counter in asked.counters):
        sheet.id_of(counter)
    LimitBucket.objects.bulk_create(_bucket(sheet, key) for key in sorted(sheet.ids))
    with connections[conf.DATABASE].cursor() as cursor:
        copy_text(cursor, Reservation._meta.db_table, _COLUMNS, blocks)
    for asked in running:  # not `reserve`: it opens windows on a connection that cannot see this transaction
        limits.reserving(asked).send(conf.DATABASE)
    levels = [
        limits.Level(counter, sheet.ids[key], sheet.spent[sheet.ids[key]], Decimal(0), fits=True)
        for key, counter in sheet.counters.items()
        if counter.window != "none" and (counter.ends_at is None or counter.ends_at > at)
    ]
    notices.tell(conf.DATABASE, tenant.pk, notices.of_reserve(levels, granted=True))


def ask(effective: EffectivePolicy, model: str, request_id: str, tokens: tuple[int, int], at: datetime) -> limits.Asked:
    """What a call in flight may use at most. tokens: of its prompt, and of its answer where no cap says less."""
    decision, (prompt, most) = effective.decide_model(model), tokens
    answer = effective.check_tokens(prompt, None).output_tokens or most
    price = decision.record.price_at(at, effective.tenant_id) if decision.record else None
    cost = worst_case(price.compiled, prompt_tokens=prompt, max_output_tokens=answer, at=at).total if price else None
    amounts = Amounts(input_tokens=prompt, output_tokens=answer, cost=cost)
    return limits.ask(effective, model, amounts, request_id, at=at, ttl=HELD_FOR)


def _lines(sheet: Sheet, effective: Mapping[UUID, EffectivePolicy], at: datetime) -> Iterator[str]:
    """The reservations as lines of COPY, a thousand at a time."""
    pages: dict[tuple[UUID, str], _Page] = {}
    lines = []
    for id, key, model, began, prompt, completion, cost, latency in _calls(sheet.tenant):
        page = pages.get((key, model))
        if page is None or (page.until is not None and page.until <= began):
            page = pages[key, model] = _page(sheet, effective[key], model, began, at)
        if not page.ids:
            continue
        used = (1, prompt or 0, completion or 0, (prompt or 0) + (completion or 0), cost)
        amounts = [used[place] for place in page.places]
        for bucket, amount in zip(page.ids, amounts, strict=True):
            sheet.spent[bucket] += amount
        lines.append(_line(effective[key], id, model, (began, latency or 0), page, amounts))
        if len(lines) == _BLOCK:
            yield "".join(lines)
            lines.clear()
    yield "".join(lines)


def _calls(tenant: Tenant) -> Iterator[Any]:
    fields = (
        "request_id",
        "api_key_id",
        "model",
        "created_at",
        "prompt_tokens",
        "completion_tokens",
        "cost",
        "latency_ms",
    )
    yield from InferenceRequest.objects.for_tenant(tenant).order_by("created_at").values_list(*fields)


def _page(sheet: Sheet, effective: EffectivePolicy, model: str, began: datetime, at: datetime) -> _Page:
    now_open = {one.key: one for one in counters(effective, model, _ANY, at) if one.window != "none"}
    then = [one for one in counters(effective, model, _ANY, began) if one.kind == "budget" or one.key in now_open]
    then = [one for one in then if one.window != "none"]
    edges = [one.ends_at for one in then] + [one.starts_at for one in now_open.values()]
    found = sorted((sheet.id_of(one), _METRICS.index(one.metric)) for one in then)
    policies = {one.policy_id: one.policy_version for counter in then for one in counter.thresholds}
    ids = tuple(id for id, _ in found)
    return _Page(
        min((edge for edge in edges if edge is not None and edge > began), default=None),
        ids,
        tuple(place for _, place in found),
        _array(ids),
        f"{_array(policies)}\t{_array(policies.values())}",
    )


def _line(
    effective: EffectivePolicy, id: str, model: str, when: tuple[datetime, int], page: _Page, amounts: list[Any]
) -> str:
    """when: its beginning, and for how many milliseconds it ran."""
    scope, used, (began, latency) = effective.scope, _array(amounts), when
    who = "\t".join(str(getattr(scope, f"{level}_id") or r"\N") for level in LEVELS)
    stale, ended = began + timedelta(seconds=conf.RESERVATION_TTL), began + timedelta(milliseconds=latency)
    # No digest: how it was asked is not known, so nobody can ask alike.
    return (
        f"{uuid7_at(began)}\t{scope.tenant_id}\t{id}\tsettled\t{page.buckets}\t{used}\t{used}\t{who}\t{model}\t\t"
        f"{page.policies}\tf\tf\t{began.isoformat()}\t{stale.isoformat()}\t{ended.isoformat()}\n"
    )


def _array(values: Iterable[object]) -> str:
    return "{" + ",".join(map(str, values)) + "}"


def _bucket(sheet: Sheet, key: str) -> LimitBucket:
    one, id = sheet.counters[key], sheet.ids[key]
    return LimitBucket(
        id=id, tenant=sheet.tenant, spent=sheet.spent[id], last_limit=one.shown.limit, last_mode=one.shown.mode,
        **{f"{level}_id": value for level, value in zip(LEVELS, one.owner, strict=True)},
        **{
            name: getattr(one, name)
            for name in ("key", "kind", "owner_kind", "metric", "window", "label", "starts_at", "ends_at")
        },
        models=None if one.models is None else list(one.models),
    )  # fmt: skip
