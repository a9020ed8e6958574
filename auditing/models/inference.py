from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, NoReturn, Self, cast
from uuid import UUID

from django.db import models, transaction

from auditing import adjusting, ingest, lifecycle
from auditing import metrics as sums
from auditing.errors import AppendOnly
from auditing.models.auditlog import AuditLog
from auditing.models.inflight import InFlightRequest
from auditing.models.logs import LogQuerySet, current_xid, id_of
from auditing.writer import writer
from controlplane.core.conf import conf


class InferenceRequestQuerySet(LogQuerySet["InferenceRequest"]):
    def for_model(self, model: str) -> Self:
        return self.filter(model=model)

    def with_status(self, status: str) -> Self:
        return self.filter(status=status)

    def unpriced(self) -> Self:
        """Requests whose cost nobody knows: stored without one, and not priced since."""
        priced = InferenceRequest.objects.filter(adjusts=models.OuterRef("pk"), reason_code="priced")
        return self.filter(pricing_status="unpriced").exclude(models.Exists(priced))


class InferenceRequestManager(models.Manager.from_queryset(InferenceRequestQuerySet)):  # type: ignore[misc]
    def start(
        self,
        *,
        tenant: object,
        provider: str,
        model: str,
        request_id: str | None = None,
        requested_model: str | None = None,
        app: object = None,
        branch: object = None,
        user: object = None,
        api_key: object = None,
        estimated_cost: Decimal | None = None,
        deadline: timedelta = timedelta(minutes=10),
        stream: bool = False,
        metadata: Mapping[str, Any] | None = None,
        time_zone: str | None = None,
    ) -> UUID:
        """Note a call that begins, in one statement; returns the id that its fact will have.

        request_id: the caller's, unique in the tenant; None makes one. estimated_cost: US dollars. time_zone: the
        tenant's, if the caller knows it, else it is looked up. Raises DuplicateRequest (with id and status) when the
        request id is in flight or finished, InvalidRow for a value that does not fit.
        """
        ids = {"app_id": app, "branch_id": branch, "user_id": user, "api_key_id": api_key}
        call = lifecycle.Start(
            tenant_id=id_of(tenant),
            provider=provider,
            model=model,
            request_id=request_id,
            requested_model=requested_model if requested_model != model else None,
            estimated_cost=estimated_cost,
            deadline=deadline,
            stream=stream,
            metadata=dict(metadata) if metadata else None,
            time_zone=time_zone,
            **{name: None if value is None else id_of(value) for name, value in ids.items()},
        )
        return lifecycle.start(call, using=conf.DATABASE)

    def running(self, id: UUID) -> None:
        """Mark a pending call as sent to its provider. Raises UnknownRequest."""
        lifecycle.running(id, using=conf.DATABASE)

    def complete(
        self,
        id: UUID,
        *,
        usage: object,
        cost: object = None,
        latency_ms: int | None = None,
        ttft_ms: int | None = None,
    ) -> InferenceRequest:
        """Finish a call that succeeded: one row leaves the calls in flight and one fact is written, or neither.

        usage: read by attribute (lifecycle.Reported shows which). cost: an object with `total`, `status`, `price_id`,
        `breakdown`; None = the pricer is asked, and what it does not know is unpriced. A call that was given up for lost
        gets an adjustment. Finishing it again alike returns the same fact; differently raises ConflictingDuplicate; a
        call never started UnknownRequest.
        """
        end = lifecycle.End("completed", usage=usage, cost=cost, latency_ms=latency_ms, ttft_ms=ttft_ms)
        return self.finish(id, end)

    def fail(
        self,
        id: UUID,
        *,
        error: str,
        error_code: str = "provider_error",
        billable: bool = False,
        usage: object = None,
        cost: object = None,
        latency_ms: int | None = None,
    ) -> InferenceRequest:
        """Finish a call that failed. It costs 0, unless `billable` (a billed time-out): then as `complete`."""
        end = lifecycle.End(
            "failed",
            usage=usage,
            cost=cost,
            latency_ms=latency_ms,
            error=error,
            error_code=error_code,
            free=not billable,
        )
        return self.finish(id, end)

    def cancel(
        self, id: UUID, *, usage: object = None, cost: object = None, latency_ms: int | None = None
    ) -> InferenceRequest:
        """Finish a call that its caller broke off; what was used is priced as for `complete`, nothing used costs 0."""
        end = lifecycle.End(
            "cancelled", usage=usage, cost=cost, latency_ms=latency_ms, free=usage is None and cost is None
        )
        return self.finish(id, end)

    def adjust(
        self,
        id: UUID,
        *,
        reason_code: str,
        reason: str,
        cost: Decimal | int = 0,
        prompt_tokens: int | None = None,
        completion_tokens: int | None = None,
        cached_tokens: int | None = None,
        cache_write_tokens: int | None = None,
        reasoning_tokens: int | None = None,
        price_id: UUID | None = None,
        breakdown: Mapping[str, Any] | None = None,
        key: str = "",
        tenant: object = None,
    ) -> InferenceRequest:
        """Correct a finished request by a signed row beside it, which is returned; the request itself never changes.

        reason_code: auditing.adjusting.CODES; `priced` makes an unpriced request a priced one. cost: US dollars to add, tokens
        likewise; None = as it was. The same id, reason_code and key again is the same row: give a key to adjust twice for
        one reason. tenant: whose request it must be. created_at is the request's own, and so are booked_at, time_zone and
        local_date, unless the request is booked in a closed month: then it is booked now. metadata says when it was made.
        Raises UnknownRequest, AdjustmentRefused, ConflictingDuplicate (the same key, other figures), InvalidRow,
        ReasonRequired.
        """
        late = reason_code == "late_completion"
        given = adjusting.Adjustment(
            adjusts=id_of(id), reason_code=reason_code, reason=reason, key=key, price_id=price_id,
            cost=Decimal(cost) if type(cost) is int else cast(Decimal, cost),
            prompt_tokens=prompt_tokens, completion_tokens=completion_tokens, cached_tokens=cached_tokens,
            cache_write_tokens=cache_write_tokens, reasoning_tokens=reasoning_tokens,
            breakdown=dict(breakdown) if breakdown else None,
            status="completed" if late else "", told=str(cost) if late else None,
        )  # fmt: skip
        with transaction.atomic(using=conf.DATABASE):
            written, new = adjusting.adjust(
                given, tenant_id=None if tenant is None else id_of(tenant), using=conf.DATABASE
            )
            row: InferenceRequest = self.get(pk=written)
            if new:
                AuditLog.objects.record(
                    "request.adjusted", tenant=row.tenant_id, app=row.app_id, reason=row.reason,
                    resource=(InferenceRequest._meta.db_table, row.adjusts),
                    resource_label=self.values_list("request_id", flat=True).get(pk=row.adjusts),
                    details={"adjustment": str(row.pk), "reason_code": reason_code, "key": key, "cost": f"{row.cost:f}"},
                )  # fmt: skip
        return row

    def ingest(
        self,
        rows: Iterable[Mapping[str, Any]],
        *,
        source: str = "ingest",
        origin: str = "",
        historical: bool = False,
        batch_size: int = 5000,
        progress: Callable[[int], None] | None = None,
    ) -> ingest.IngestResult:
        """Write finished calls of elsewhere, by COPY: see `auditing.ingest.ingest`. Rows are numbered from 1."""
        return ingest.ingest(
            enumerate(rows, 1),
            source=source,
            origin=origin,
            historical=historical,
            batch_size=batch_size,
            progress=progress,
            using=conf.DATABASE,
        )

    def record_async(self, row: Mapping[str, Any]) -> UUID:
        """Have a finished call written soon: a mapping keyed by column, as a row of `ingest`. Returns the fact's id.

        It is taken as it is at the call, then validated and priced as by `ingest`, in a thread; a row that is refused becomes a
        DeadLetter. The same request again is the same row. Raises InvalidRow when created_at, tenant_id or request_id is
        missing or none, AuditUnavailable as `AuditLog.objects.record_async` does, which says too what survives what.
        """
        return writer.put(row)

    def record_durable(self, row: Mapping[str, Any], *, timeout: float = 5.0) -> UUID:
        """Write a finished call and wait for its commit; calls at once share one. Returns the fact's id.

        Raises InvalidRow when it is refused (it is a DeadLetter then), AckTimeout when that is not known within `timeout`
        seconds, AuditUnavailable.
        """
        return writer.put(row, durable=True, timeout=timeout)

    async def arecord_async(self, row: Mapping[str, Any]) -> UUID:
        """`record_async` on an event loop, which it never holds up."""
        return await writer.aput(row)

    async def arecord_durable(self, row: Mapping[str, Any], *, timeout: float = 5.0) -> UUID:
        """`record_durable` on an event loop, which it never holds up."""
        return await writer.aput(row, durable=True, timeout=timeout)

    def metrics(self, tenant: object, start: datetime, end: datetime) -> sums.Metrics:
        """Totals of a tenant over what is booked in start <= instant < end (aware, else InvalidWindow)."""
        return sums.metrics(id_of(tenant), start, end, using=conf.DATABASE)

    def totals(
        self,
        tenant: object,
        start: datetime,
        end: datetime,
        by: tuple[str, ...] = ("model",),
        zone: str | None = None,
    ) -> list[sums.Total]:
        """The same totals by group: app, branch, user, api_key, provider, model, hour (UTC), day, month.

        tenant None: all tenants. day and month are those of booking in the tenant's zone; with `zone` (IANA name) a day is
        that of the call in this zone, so that days and instants agree. Ordered by requests, most first; in time, by time.
        """
        found = None if tenant is None else id_of(tenant)
        return sums.totals(found, start, end, by, zone=zone, using=conf.DATABASE)

    def totals_together(self, wanted: Sequence[sums.Wanted]) -> list[list[sums.Total]]:
        """`totals` of each that is wanted, in their order: in two statements however many they are, and out of one snapshot, so
        that they agree with each other."""
        ids = (None if one.tenant is None else id_of(one.tenant) for one in wanted)
        found = [replace(one, tenant=id) for one, id in zip(wanted, ids, strict=True)]
        return sums.together(found, using=conf.DATABASE)

    def status(self, tenant: object, request_id: str) -> str | None:
        """Status of a request, in flight or finished; None if there is none."""
        running = InFlightRequest.objects.filter(tenant_id=id_of(tenant), request_id=request_id)
        found = running.values_list("status", flat=True).first()
        if found is None:
            finished = self.for_tenant(tenant).for_request(request_id).filter(adjusts=None)
            found = finished.order_by("-id").values_list("status", flat=True).first()
        return found

    def finish(
        self,
        id: UUID,
        end: lifecycle.End,
        *,
        subject: lifecycle.Subject | None = None,
        beside: lifecycle.Beside | None = None,
    ) -> InferenceRequest:
        """Finish a call however it ended, in one round trip: what `complete`, `fail` and `cancel` do.

        subject: what its price depends on, for who knows it; None = it is looked up before. beside: gives a statement that
        is sent along, and commits or fails with the fact; where the call had ended before, it is sent all the same.
        """
        row = lifecycle.finish(id, end, _COLUMNS, using=conf.DATABASE, subject=subject, beside=beside)
        # Django's connections give jsonb as text, which its own queries read by the field
        values = [
            json.loads(value) if name in _OBJECTS and isinstance(value, str) else value
            for name, value in zip(_COLUMNS, row, strict=True)
        ]
        return InferenceRequest.from_db(conf.DATABASE, _COLUMNS, values)


class InferenceRequest(models.Model):
    """One finished call of a model: who called, what was used, what it cost, how it ended. No prompt, no answer.

    Written when a call ends, or by ingest; never changes: a correction is a further row that `adjusts` it. Tokens: NULL
    = not reported; prompt_tokens includes cached and cache-written ones, completion_tokens reasoning. cost: US dollars,
    NULL exactly when unpriced: unknown is never 0. Plain ids: the subjects may be gone.
    """

    class Status(models.TextChoices):
        COMPLETED = "completed"
        FAILED = "failed"
        CANCELLED = "cancelled"
        LOST = "lost"

    class PricingStatus(models.TextChoices):
        PRICED = "priced"
        UNPRICED = "unpriced"
        ESTIMATED = "estimated"
        ADJUSTMENT = "adjustment"

    class Source(models.TextChoices):
        GATE = "gate"
        INGEST = "ingest"
        IMPORT = "import"
        SWEEP = "sweep"

    id = models.UUIDField(primary_key=True, editable=False)
    created_at = models.DateTimeField(help_text="When the call was accepted.")
    booked_at = models.DateTimeField(null=True, help_text="When it counts, if not when it was accepted.")
    request_id = models.CharField(max_length=200)
    tenant_id = models.UUIDField()
    app_id = models.UUIDField(null=True)
    branch_id = models.UUIDField(null=True)
    user_id = models.UUIDField(null=True)
    api_key_id = models.UUIDField(null=True)
    provider = models.CharField(max_length=64)
    model = models.CharField(max_length=265)
    requested_model = models.CharField(max_length=265, null=True)  # noqa: DJ001 - NULL = the same
    status = models.CharField(max_length=9, choices=Status)
    prompt_tokens = models.IntegerField(null=True)
    completion_tokens = models.IntegerField(null=True)
    cached_tokens = models.IntegerField(null=True)
    cache_write_tokens = models.IntegerField(null=True)
    reasoning_tokens = models.IntegerField(null=True)
    other_units = models.JSONField(null=True)
    cost = models.DecimalField(max_digits=24, decimal_places=12, null=True, help_text="US dollars")
    pricing_status = models.CharField(max_length=10, choices=PricingStatus)
    price_id = models.UUIDField(null=True)
    cost_breakdown = models.JSONField(null=True)
    latency_ms = models.IntegerField(null=True)
    ttft_ms = models.IntegerField(null=True, help_text="Time to the first token, in milliseconds.")
    stream = models.BooleanField(default=False)
    error_code = models.CharField(max_length=64, default="")
    error = models.CharField(max_length=2000, default="")
    adjusts = models.UUIDField(null=True, help_text="The request that this row corrects.")
    reason_code = models.CharField(max_length=16, default="")
    reason = models.TextField(default="")
    time_zone = models.CharField(max_length=64)
    local_date = models.DateField(help_text="Day of the booking in the tenant's time zone of that moment.")
    source = models.CharField(max_length=8, choices=Source)
    metadata = models.JSONField(null=True)
    schema = models.SmallIntegerField(default=1, editable=False)
    xid = models.BigIntegerField(db_default=current_xid, editable=False)

    keyset = ("id",)
    objects = InferenceRequestManager()

    class Meta:
        db_table = "cp_auditing_inferencerequest"
        verbose_name = "request"
        permissions = [("adjust_inferencerequest", "Can adjust finished requests")]

    def __str__(self) -> str:
        return self.request_id

    def save(self, **kwargs: Any) -> None:
        if not self._state.adding:
            raise AppendOnly
        super().save(**kwargs)

    def delete(self, *args: object, **kwargs: object) -> NoReturn:
        raise AppendOnly


_COLUMNS = [field.attname for field in InferenceRequest._meta.concrete_fields]
_OBJECTS = {field.attname for field in InferenceRequest._meta.concrete_fields if isinstance(field, models.JSONField)}
