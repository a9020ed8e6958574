"""What is told once per window: a soft limit that was passed, and the shares of a limit at which an author wants to know.

A soft limit is passed by what calls hold too, as a hard one is. A share counts what was spent alone, so it is never told
for money that was given back: settle sees it, and the next reserve sees what a settle in a process that died did not tell.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from decimal import Decimal
from functools import partial
from uuid import UUID

from django.db import DatabaseError, transaction

from auditing.models import AuditLog
from catalog.units import plain
from controlplane.core.ids import now, uuid7
from controlplane.core.statements import fetch
from policies.counting import Counter, Threshold
from policies.reserving import Level
from policies.settling import Ended

logger = logging.getLogger(__name__)

_REMEMBERED = 100_000
_told: dict[tuple[UUID, str], None] = {}
"""What this process knows to have been told; the database knows it all."""

# The buckets are locked as all who count on them lock them, and in the same order. Without that, the foreign key would share the
# row with whoever updates it, and of two who then wait for it each can hold what the other one asks for: a deadlock.
_TELL = """
WITH l AS MATERIALIZED (
    SELECT b.id FROM cp_policies_limitbucket b WHERE b.tenant_id = %s AND b.id = ANY (%s::uuid[])
    ORDER BY b.id FOR NO KEY UPDATE OF b
)
INSERT INTO cp_policies_limitalert (id, tenant_id, bucket_id, threshold, level, used, policy_id, policy_version, told_at)
SELECT n.id, %s, n.bucket_id, n.threshold, n.level, n.used, n.policy_id, n.version, %s
FROM unnest(%s::uuid[], %s::uuid[], %s::text[], %s::numeric[], %s::numeric[], %s::uuid[], %s::int[])
    AS n(id, bucket_id, threshold, level, used, policy_id, version) JOIN l ON l.id = n.bucket_id
ORDER BY n.bucket_id, n.threshold
ON CONFLICT (bucket_id, threshold) DO NOTHING RETURNING bucket_id, threshold
"""


@dataclass(frozen=True, slots=True)
class Notice:
    """One threshold that was passed. kind: alert or soft; level: in US dollars or counts; used: what was there then."""

    kind: str
    bucket_id: UUID
    counter: Counter
    policy: Threshold
    level: Decimal
    used: Decimal

    @property
    def threshold(self) -> str:
        """Its name in the window: after an edit another level is another threshold, and told again."""
        return f"{self.kind}:{plain(self.level)}"


def of_reserve(levels: Iterable[Level], granted: bool) -> Iterator[Notice]:
    for level in levels:
        counter = level.counter
        yield from _shares(level.bucket_id, counter, level.spent)
        if granted:
            used = level.spent + level.reserved + counter.amount
            for one in level.passed("soft"):
                yield Notice("soft", level.bucket_id, counter, one, one.limit, used)


def of_settle(levels: Iterable[Level], ended: Ended) -> Iterator[Notice]:
    for level in levels:
        if level.bucket_id in ended.spent:
            yield from _shares(level.bucket_id, level.counter, ended.spent[level.bucket_id])


def _shares(bucket_id: UUID, counter: Counter, spent: Decimal) -> Iterator[Notice]:
    for one in counter.thresholds:
        for share in one.alert_at:
            if spent >= one.limit * share > 0:
                yield Notice("alert", bucket_id, counter, one, one.limit * share, spent)


def tell(using: str, tenant_id: UUID, notices: Iterable[Notice]) -> None:
    """Note each of them and record it as an event, `limit.alert` or `limit.soft`, unless it was told in this window.

    No statement where this process knows that it was. What prevents it is logged: a call that was granted is not lost for
    it, and the next one tries again.
    """
    new = {(one.bucket_id, one.threshold): one for one in notices}
    new = {name: one for name, one in new.items() if name not in _told}
    if not new:
        return
    try:
        with transaction.atomic(using=using):
            for name in _first(using, tenant_id, new):
                _record(tenant_id, new[name])
            transaction.on_commit(partial(_remember, [*new]), using=using)
    except DatabaseError as error:
        logger.warning("%d limits that were passed could not be told: %s", len(new), error)


def _first(using: str, tenant_id: UUID, new: dict[tuple[UUID, str], Notice]) -> list[tuple[UUID, str]]:
    """Those that nobody told before."""
    ones = [*new.values()]
    buckets = [one.bucket_id for one in ones]
    params = (
        tenant_id, buckets, tenant_id, now(), [uuid7() for _ in ones], buckets, [one.threshold for one in ones],
        [one.level for one in ones], [one.used for one in ones], [one.policy.policy_id for one in ones],
        [one.policy.policy_version for one in ones],
    )  # fmt: skip
    return [(bucket, threshold) for bucket, threshold in fetch(using, _TELL, params)]


def _record(tenant_id: UUID, notice: Notice) -> None:
    counter = notice.counter
    AuditLog.objects.record(
        f"limit.{notice.kind}",
        tenant=tenant_id,
        resource=("cp_policies_limitbucket", notice.bucket_id),
        resource_label=f"{counter.metric} per {counter.window} of {counter.owner_id}",
        details={
            "owner": counter.owner_id,
            "metric": counter.metric,
            "window": counter.window,
            "label": counter.label,
            "limit": str(notice.policy.limit),
            "mode": notice.policy.mode,
            "level": plain(notice.level),
            "used": plain(notice.used),
            "policy": str(notice.policy.policy_id),
            "version": notice.policy.policy_version,
        },
    )


def _remember(names: list[tuple[UUID, str]]) -> None:
    if len(_told) >= _REMEMBERED:
        _told.clear()
    _told.update(dict.fromkeys(names))
