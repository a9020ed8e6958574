"""Usage summed up by hour, day and month: what pages, files and invoices read instead of requests."""

from __future__ import annotations

from typing import Self

from django.contrib.postgres.fields import ArrayField
from django.db import models

from auditing import summaries
from auditing.measures import BUCKETS
from auditing.models.logs import id_of
from controlplane.core.conf import conf
from controlplane.core.ids import NIL


class RollUpQuerySet(models.QuerySet["RollUp"]):
    def for_tenant(self, tenant: object) -> Self:
        return self.filter(tenant_id=id_of(tenant))


class RollUp(models.Model):
    """Sums of requests of one period and one value of each dimension; an absent one is the nil id.

    Written by the roll-up alone (`auditing.rollups`), by adding what is new. `id` is the UUIDv7 of the period's start (of a
    day and a month: midnight UTC of its first date) with a digest of the dimensions, so that a row is found by what it is
    about. requests: without adjustments; the other counts say how they ended, late ends included. cost: US dollars, with
    adjustments; unpriced requests are in no cost. latency_hist: completed requests by latency, bucket n holds those of at
    most 2^n ms, the last one all beyond.
    """

    id = models.UUIDField(primary_key=True, editable=False)
    tenant_id = models.UUIDField()
    requests = models.BigIntegerField()
    completed = models.BigIntegerField()
    failed = models.BigIntegerField()
    cancelled = models.BigIntegerField()
    lost = models.BigIntegerField()
    unpriced = models.BigIntegerField()
    estimated = models.BigIntegerField()
    adjustments = models.BigIntegerField()
    prompt_tokens = models.BigIntegerField()
    completion_tokens = models.BigIntegerField()
    cached_tokens = models.BigIntegerField()
    cache_write_tokens = models.BigIntegerField()
    reasoning_tokens = models.BigIntegerField()
    cost = models.DecimalField(max_digits=38, decimal_places=12, help_text="US dollars")
    estimated_cost = models.DecimalField(max_digits=38, decimal_places=12, help_text="US dollars, within cost")
    latency_n = models.BigIntegerField()
    latency_sum_ms = models.BigIntegerField()
    latency_max_ms = models.IntegerField(null=True)
    latency_hist = ArrayField(models.BigIntegerField(), size=BUCKETS)

    class Meta:
        abstract = True
        default_permissions = ("view",)


class UsageHour(RollUp):
    """One UTC hour of a tenant, provider and model. Partitioned by month of `hour`; kept as long as requests are."""

    hour = models.DateTimeField()
    provider = models.CharField(max_length=64)
    model = models.CharField(max_length=265)

    objects = RollUpQuerySet.as_manager()

    class Meta(RollUp.Meta):
        db_table = "cp_auditing_usagehour"
        verbose_name = "usage of an hour"
        verbose_name_plural = "usage by hour"

    def __str__(self) -> str:
        return f"{self.hour:%Y-%m-%d %H}:00Z {self.model}"


class UsageDay(RollUp):
    """One day in the tenant's time zone, by app, branch, key, provider and model."""

    day = models.DateField()
    app_id = models.UUIDField(default=NIL)
    branch_id = models.UUIDField(default=NIL)
    api_key_id = models.UUIDField(default=NIL)
    provider = models.CharField(max_length=64)
    model = models.CharField(max_length=265)

    objects = RollUpQuerySet.as_manager()

    class Meta(RollUp.Meta):
        db_table_comment = "Usage of a local day"
        verbose_name = "usage of a day"
        verbose_name_plural = "usage by day"
        indexes = [models.Index(fields=["tenant_id", "day"], name="usageday_tenant_idx")]

    def __str__(self) -> str:
        return f"{self.day} {self.model}"


class UsageSummaryManager(models.Manager.from_queryset(RollUpQuerySet)):  # type: ignore[misc]
    def monthly(self, tenant: object, year: int, month: int) -> summaries.MonthlySummary:
        """Usage of a local month, in sum and by app, branch, key, user, provider and model, the dearest first.

        What no roll-up has read yet is added, so that it is the sum of the requests at any instant. A month without any is
        nothing, not missing. Raises InvalidMonth.
        """
        return summaries.monthly(id_of(tenant), summaries.first_of(year, month), using=conf.DATABASE)

    def months(self, tenant: object) -> list[summaries.Month]:
        """The months of a tenant that have any usage or are closed, the newest first."""
        return summaries.months(id_of(tenant), using=conf.DATABASE)

    def refresh(self, tenant: object, year: int, month: int) -> summaries.Counts:
        """Make the summaries of an open month anew from its requests, as far as they are rolled up; returns by how much that
        changed the sums: nothing, unless somebody wrote into them by hand.

        Raises MonthClosed, MonthRetired where requests are gone, InvalidMonth, ClusterChanged.
        """
        return summaries.refresh(id_of(tenant), summaries.first_of(year, month), using=conf.DATABASE)


class UsageSummary(RollUp):
    """One month in the tenant's time zone, by app, branch, key, user, provider and model. A closed month never changes."""

    month = models.DateField(help_text="First day of the month.")
    app_id = models.UUIDField(default=NIL)
    branch_id = models.UUIDField(default=NIL)
    api_key_id = models.UUIDField(default=NIL)
    user_id = models.UUIDField(default=NIL)
    provider = models.CharField(max_length=64)
    model = models.CharField(max_length=265)

    objects = UsageSummaryManager()

    class Meta(RollUp.Meta):
        db_table_comment = "Usage of a local month"
        verbose_name = "summary"
        verbose_name_plural = "summaries"
        permissions = [("close_usagesummary", "Can close and reopen months")]
        indexes = [models.Index(fields=["tenant_id", "month"], name="usagesummary_tenant_idx")]

    def __str__(self) -> str:
        return f"{self.month:%Y-%m} {self.model}"


class UsageZone(models.Model):
    """A time zone that a tenant's usage was booked in, and the first and last local date so booked, as far as it is rolled up.

    Written by the roll-up. By it a reader knows which instants a local day or month of the tenant is: where there are two zones
    at once, no roll-up of days is exact, and the requests themselves are read.
    """

    id = models.UUIDField(primary_key=True, editable=False)
    tenant_id = models.UUIDField()
    time_zone = models.CharField(max_length=64)
    first_on = models.DateField()
    last_on = models.DateField()

    class Meta:
        db_table_comment = "Time zones that usage was booked in"
        default_permissions = ("view",)
        indexes = [models.Index(fields=["tenant_id"], name="usagezone_tenant_idx")]

    def __str__(self) -> str:
        return self.time_zone


class IngestWatermark(models.Model):
    """How far a job has read the logs: all rows of transactions below `xid`. One row per job; its lock is the job's turn.

    system_identifier: the cluster that `xid` is of; after dump and restore it is another one, and the jobs stop until
    `audit_rebase`. xid_offset: what a rebase added to the numbers of new transactions. A missing row is made on demand.
    """

    name = models.CharField(max_length=64, primary_key=True)
    xid = models.BigIntegerField()
    system_identifier = models.BigIntegerField()
    xid_offset = models.BigIntegerField(default=0)
    updated_at = models.DateTimeField()

    class Meta:
        db_table_comment = "How far a job has read the logs"
        default_permissions = ("view",)

    def __str__(self) -> str:
        return self.name
