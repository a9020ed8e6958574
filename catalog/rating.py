"""What requests cost at the prices of their time: as they are stored, and again, when a price came late or was wrong."""

from __future__ import annotations

import logging
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal, getcontext, setcontext
from functools import partial
from types import SimpleNamespace
from typing import Any
from uuid import UUID

from django.db import connections, models, transaction
from django.db.models.functions import Coalesce

from auditing import adjusting
from auditing.adjusting import Adjustment, Booked, read_reason
from auditing.errors import InvalidRow
from auditing.models import AuditLog, InferenceRequest, InferenceRequestQuerySet
from auditing.pricer import Price, Subject
from auditing.values import MAX_COST, TOKENS, money, round_money
from catalog.errors import CatalogError
from catalog.pricing import Cost, Usage, cost
from catalog.pricing.costs import EXACT
from catalog.records import ModelRecord, PriceSegment
from catalog.resolution import Key, billing, cache, find, look_up
from controlplane.core.caches import MISSING, CacheUnavailable, in_transaction
from controlplane.core.conf import conf
from controlplane.core.statements import fetch
from tenants.models import Tenant

logger = logging.getLogger(__name__)

PAGE = 1000
"""Requests that are booked in one transaction: while one runs, nobody else adjusts requests of their tenants."""


class Pricer:
    """What the catalog says of requests, for auditing: `price_row(row)`, `price_row.many(rows)`.

    row: the columns of InferenceRequest, by attribute. None: nobody knows the model, it has no price at that time, or the
    request says nothing of what it used. The price is that of created_at, the tenant's own before the list price. Calls that
    end are priced by what the caches hold, many at once by one state of the database, each name looked up once.
    """

    def __call__(self, row: Any) -> Cost | None:
        return Prices(_cached).cost(row)

    def many(self, rows: Sequence[Any]) -> list[Cost | None]:
        prices = Prices(_read)
        return [prices.cost(row) for row in rows]

    def ready(self, subjects: Iterable[Subject]) -> Callable[[Sequence[Any]], list[Price | Cost | None]]:
        prices = Prices(_known)
        prices.look_up(subjects)
        return partial(_priced, prices)


price_row = Pricer()


def billed_by(tenant_id: UUID, served: ModelRecord, requested: str, at: datetime) -> PriceSegment | None:
    """The price that a call of `served`, made at `at` (aware) under the name `requested`, will be billed by, as the caches
    have it now: what `price_row` will say of its row."""
    asked = requested if requested != served.canonical_id else None
    row = SimpleNamespace(
        tenant_id=tenant_id, provider=served.provider, model=served.canonical_id, requested_model=asked, created_at=at
    )
    return Prices(_cached).price(row)


def _cached(key: Key) -> ModelRecord | None:
    try:
        return find(key)
    except CacheUnavailable:  # the caller's connection works all the same, or it would not be here
        return _read(key)


def _read(key: Key) -> ModelRecord | None:
    return look_up(key, partial(fetch, conf.DATABASE), hints=False)[0]


def _known(key: Key) -> ModelRecord | None:
    """As the cache has it. What it has not is read, and kept if it is a model: batches come one after the other, and to cache
    that a name is unknown would take the search for what was meant."""
    if in_transaction():
        return _read(key)
    found = cache.cached(key)
    if found is MISSING:
        found = _read(key)
        if found is not None:
            _cached(key)
    return found


_Records = tuple[ModelRecord | None, ModelRecord | None]
"""Of the model that served a call, and of the one that was asked for."""


_Names = tuple[int, str, str, str | None]


def _names(row: Any) -> _Names:
    return row.tenant_id.int, row.provider, row.model, row.requested_model  # a UUID hashes slowly


class _Spans:
    """Which price bills a name's calls, by time: it changes only where one of the prices begins or ends."""

    __slots__ = ("_borders", "_held", "_records")

    def __init__(self, served: ModelRecord | None, asked: ModelRecord | None) -> None:
        records = self._records = (served, asked)
        prices = [price for record in records if record for price in record.prices]
        ends = (price.effective_to for price in prices)
        self._borders = sorted({*(price.effective_from for price in prices), *filter(None, ends)})
        self._held: dict[int, PriceSegment | None] = {0: None}

    def price(self, at: datetime) -> PriceSegment | None:
        span = bisect_right(self._borders, at)
        if span not in self._held:
            found = billing(*self._records, at)
            self._held[span] = found and found[1]
        return self._held[span]


class Prices:
    """The prices of the requests at hand, each name looked up once by `look`. Not kept: it never notices a change."""

    KEPT = 10_000  # names, so that a log full of nonsense fills no memory

    def __init__(self, look: Callable[[Key], ModelRecord | None]) -> None:
        self._look = look
        self._named: dict[_Names, _Spans] = {}

    def cost(self, row: Any) -> Cost | None:
        """What the row costs, not rounded; None, or a total of None: nobody knows."""
        if row.prompt_tokens is None and row.completion_tokens is None and not row.other_units:
            return None
        price = self.price(row)
        if price is None:
            return None
        try:
            return cost(price.compiled, Usage.from_row(row))
        except CatalogError as error:
            logger.warning("a request of %s cannot be priced: %s", row.model, error)
            return None

    def look_up(self, subjects: Iterable[Subject]) -> None:
        """Know what rows of these subjects need: for them nothing is looked up any more."""
        self._named = {_names(subject): _Spans(*self._records(*_names(subject))) for subject in subjects}

    def plain(self, row: Any) -> Price | None:
        """What a row costs that used text tokens alone, as it is stored; None: ask `cost`. For counts that were checked, in
        the context EXACT."""
        prompt, completion = row.prompt_tokens, row.completion_tokens
        if row.other_units or (prompt is None and completion is None):
            return None
        price = self.price(row)
        try:
            if price is None or price.plain is None:
                return None
        except CatalogError:  # a price that cannot be read: `cost` says so
            return None
        found = price.plain.charge(
            prompt or 0, completion or 0, row.cached_tokens or 0, row.cache_write_tokens or 0, row.reasoning_tokens or 0
        )
        if found is None or found[0] >= MAX_COST:
            return None
        total, breakdown = found
        return Price(round_money(total), "priced", price.id, breakdown or None)

    def price(self, row: Any) -> PriceSegment | None:
        """The price that holds for a row: of the model that served it, or of the one that was asked for, if the tenant has a
        price of its own for that, or the former has none."""
        names = _names(row)
        spans = self._named.get(names)
        if spans is None:
            if len(self._named) >= self.KEPT:
                self._named.clear()
            spans = self._named[names] = _Spans(*self._records(*names))
        return spans.price(row.created_at)

    def _records(self, tenant: int, provider: str, model: str, asked: str | None) -> _Records:
        """The model that served, and the one that was asked for: one, if that still means what served, whose canonical id
        may be another model's too. Else it counts as a name of the same provider: an alias may have meant another model
        when the call was made."""
        meant = self._look((tenant, asked, None, None, None, None)) if asked else None
        if meant is not None and meant.canonical_id == model and any(price.rates for price in meant.prices):
            return meant, None
        served = self._look((tenant, model, provider, None, None, None))
        served = served or self._look((tenant, model, None, None, None, None))
        return served, self._look((tenant, asked, provider, None, None, None)) if asked else None


def _priced(prices: Prices, rows: Sequence[Any]) -> list[Price | Cost | None]:
    before = getcontext()
    setcontext(EXACT)
    try:
        return [prices.plain(row) or prices.cost(row) for row in rows]
    finally:
        setcontext(before)


@dataclass(slots=True)
class Sum:
    """What re-rating makes of the requests of one model and tenant. booked, cost: US dollars before and after, of those whose
    cost is known then; unpriced ones were booked at nothing."""

    rows: int = 0
    booked: Decimal = Decimal(0)
    cost: Decimal = Decimal(0)

    def add(self, booked: Decimal, cost: Decimal) -> None:
        self.rows += 1
        self.booked += booked
        self.cost += cost

    @property
    def difference(self) -> Decimal:
        return self.cost - self.booked


@dataclass(slots=True)
class Rerating:
    """What re-rating found: rows = adjusted + unchanged + unknown. unknown: without a price at their time, or nothing says what
    they used; they stay as they are. sums: of the adjusted ones, by tenant id and model. applied: whether it is written."""

    applied: bool
    rows: int = 0
    adjusted: int = 0
    unchanged: int = 0
    unknown: int = 0
    sums: dict[tuple[UUID, str], Sum] = field(default_factory=dict)

    @property
    def difference(self) -> Decimal:
        """US dollars that the adjustments add up to."""
        return sum((one.difference for one in self.sums.values()), Decimal(0))


def rerate(
    start: datetime,
    end: datetime,
    *,
    reason: str,
    model: str | None = None,
    provider: str | None = None,
    tenant: Tenant | UUID | None = None,
    status: str | None = None,
    apply: bool = False,
    actor: object = None,
    page: int = PAGE,
    progress: Callable[[int], None] | None = None,
) -> Rerating:
    """What the requests of a window cost at the prices of their time, minus what is booked for them; `apply` books it.

    start <= created_at < end, aware. model: as the requests have it, or any name of it, the tenant's too. provider: slug.
    status: `unpriced` (and not priced since), `priced` or `estimated`, as they were stored. Credits stay on top; other
    adjustments are part of what is booked. What failed for nothing stays free. actor: of the events, None = of the open
    audit_context. progress: called with the requests looked at. With `apply`, each `page` of requests is booked in one
    transaction, with an event per tenant in the audit log: interrupted, run it again, and the same again books nothing.
    Raises ReasonRequired, InvalidWindow.
    """
    why = read_reason(reason)
    result, prices = Rerating(apply), Prices(_read)
    for rows in _pages(_requests(start, end, model, provider, tenant, status), page):
        with transaction.atomic(using=conf.DATABASE), connections[conf.DATABASE].cursor() as cursor:
            if apply:
                adjusting.lock(cursor, {row.tenant_id for row in rows})
            booked = adjusting.booked(cursor, [row.pk for row in rows])
            if status == "unpriced":
                # not by a join: for each page it would read all that was priced before
                rows = [row for row in rows if row.pk not in booked or not booked[row.pk].priced]
            due = list(_due(rows, booked, prices, why, result))
            if apply:
                adjusting.insert(cursor, [adjustment for _, adjustment in due])
                _record(due, why, actor)
        if progress:
            progress(result.rows)
    return result


def _requests(
    start: datetime,
    end: datetime,
    model: str | None,
    provider: str | None,
    tenant: Tenant | UUID | None,
    status: str | None,
) -> InferenceRequestQuerySet:
    rows: InferenceRequestQuerySet = InferenceRequest.objects.between(start, end).filter(adjusts=None)
    if model is not None:
        owner = tenant.pk if isinstance(tenant, Tenant) else tenant
        record = _read((None if owner is None else owner.int, model, None, None, None, None))
        rows = rows.filter(model__in={model, record.canonical_id} if record else {model})
    if provider is not None:
        rows = rows.filter(provider=provider)
    if tenant is not None:
        rows = rows.for_tenant(tenant)
    return rows if status is None else rows.filter(pricing_status=status)


def _pages(rows: InferenceRequestQuerySet, size: int) -> Iterator[list[InferenceRequest]]:
    after = rows.order_by("pk")
    while page := list(after[:size]):
        yield page
        after = rows.filter(pk__gt=page[-1].pk).order_by("pk")


_Due = tuple[InferenceRequest, Adjustment]


def _due(
    rows: Sequence[InferenceRequest], booked: Mapping[UUID, Booked], prices: Prices, reason: str, result: Rerating
) -> Iterator[_Due]:
    """The adjustments that are due for the requests of a page; they are counted in `result`."""
    for row in rows:
        result.rows += 1
        so_far = booked.get(row.pk, Booked())
        found = None if _is_free(row) else prices.cost(_as_known(row, so_far))
        total = None if found is None else _rounded(row, found)
        if found is None or total is None:
            result.unchanged += _is_free(row)
            result.unknown += not _is_free(row)
            continue
        before = (row.cost or Decimal(0)) + so_far.cost
        first = row.pricing_status == "unpriced" and not so_far.priced
        if total == before and not first:
            result.unchanged += 1
            continue
        result.adjusted += 1
        result.sums.setdefault((row.tenant_id, row.model), Sum()).add(before, total)
        guessed = found.status == "estimated" or (row.pricing_status == "estimated" and not so_far.late)
        yield row, Adjustment(
            adjusts=row.pk, reason_code="priced" if first else "repriced", reason=reason, cost=total - before,
            key=f"{found.price_id}:{so_far.count}", price_id=found.price_id, estimate=total - before if guessed else None,
            breakdown=None if so_far.count or not first else dict(found.breakdown),
        )  # fmt: skip


def _is_free(row: InferenceRequest) -> bool:
    """Whether it cost nothing by its end, not by a price: it failed, or was broken off before anything was used."""
    used_nothing = row.prompt_tokens is None and row.completion_tokens is None and not row.other_units
    return row.cost == 0 and row.price_id is None and (row.status == "failed" or used_nothing)


def _as_known(row: InferenceRequest, so_far: Booked) -> Any:
    """The request with what its adjustments say of its usage."""
    if not so_far.count:
        return row
    pairs = {name: (getattr(row, name), getattr(so_far, name)) for name in TOKENS}
    tokens = {name: None if pair == (None, None) else sum(part or 0 for part in pair) for name, pair in pairs.items()}
    names = ("tenant_id", "created_at", "provider", "model", "requested_model")
    return SimpleNamespace(
        **{name: getattr(row, name) for name in names}, **tokens, other_units=so_far.other_units or row.other_units
    )


def _rounded(row: InferenceRequest, found: Cost) -> Decimal | None:
    try:
        return money("cost", found.total)
    except InvalidRow as error:
        logger.warning("request %s keeps its cost: %s", row.pk, error)
        return None


def _record(due: Sequence[_Due], reason: str, actor: object) -> None:
    """An event per tenant about the adjustments of a page, in their transaction."""
    for tenant in sorted({row.tenant_id for row, _ in due}):
        costs = [adjustment.cost for row, adjustment in due if row.tenant_id == tenant]
        AuditLog.objects.record(
            "requests.rerated",
            tenant=tenant,
            actor=actor,
            reason=reason,
            details={"adjusted": len(costs), "difference": f"{sum(costs, Decimal(0)):f}"},
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Unpriced:
    """The requests of one model whose cost nobody knows. without_usage: of which nothing says what they used, so that no price
    will help."""

    model: str
    provider: str
    tenants: int
    requests: int
    without_usage: int
    prompt_tokens: int
    completion_tokens: int
    first_seen: datetime
    last_seen: datetime


def unpriced(limit: int = 100, tenant: Tenant | UUID | None = None) -> list[Unpriced]:
    """The models with unpriced requests, those with the most first; at most `limit`."""
    rows = InferenceRequest.objects.unpriced()
    rows = rows if tenant is None else rows.for_tenant(tenant)
    unused = models.Q(prompt_tokens=None, completion_tokens=None, other_units__isnull=True)
    groups = rows.order_by().values("model", "provider").annotate(
        tenants=models.Count("tenant_id", distinct=True),
        requests=models.Count("pk"),
        without_usage=models.Count("pk", filter=unused),
        prompt_tokens=Coalesce(models.Sum("prompt_tokens"), 0),
        completion_tokens=Coalesce(models.Sum("completion_tokens"), 0),
        first_seen=models.Min("created_at"),
        last_seen=models.Max("created_at"),
    )  # fmt: skip
    return [Unpriced(**group) for group in groups.order_by("-requests", "model", "provider")[:limit]]


def rerate_unpriced(model: str, provider: str, *, reason: str, apply: bool = False) -> Rerating:
    """What the unpriced requests of one model cost by now, whenever they were made: the inbox, once a price is set that holds
    from the first of them on. First without `apply`, to look at it. See `rerate`."""
    rows = InferenceRequest.objects.unpriced().filter(model=model, provider=provider)
    seen = rows.aggregate(first=models.Min("created_at"), last=models.Max("created_at"))
    if seen["first"] is None:
        return Rerating(apply)
    end = seen["last"] + timedelta(microseconds=1)
    return rerate(seen["first"], end, reason=reason, model=model, provider=provider, status="unpriced", apply=apply)
