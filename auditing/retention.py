"""Months whose time is over: which may go and which may not (pure), and removing them.

A month goes as a whole: its partition where it is due for all tenants and held for none, else the rows of single tenants. What
goes was sealed and verified before, and leaves a record. Whatever interrupts it, the next run continues.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from uuid import UUID

from django.db import connections

from auditing import retiring, verifying
from auditing.erasing import erase
from auditing.errors import AuditingError, RetentionRefused
from auditing.keeping import DEFAULTS, Terms, hold, release, rule, terms
from auditing.models import DeadLetter
from auditing.models.logs import id_of
from auditing.retiring import Standing
from auditing.rollups import HOURS
from controlplane.core import partitions
from controlplane.core.conf import conf
from controlplane.core.errors import ControlPlaneError
from controlplane.core.ids import NIL

__all__ = ["Step", "apply", "decide", "duty", "erase", "hold", "plan", "release", "rule"]

logger = logging.getLogger(__name__)

LETTERS_KEPT = timedelta(days=90)
"""How long a dead letter is kept after it was dealt with."""

GOES = ("drop", "delete", "finish")
"""Verdicts that remove rows; the others say why they stay."""


@dataclass(frozen=True, slots=True)
class Step:
    """What happens to a month of a log. tenant_id None: to all of it. rows: that go, or stay.

    verdict: drop (its partition), delete (a tenant's rows), finish (what was interrupted); or why it stays: held, unsealed,
    open (a local month in it is not closed), refused. why: for people.
    """

    log: str
    month: date
    tenant_id: UUID | None
    verdict: str
    rows: int
    why: str = ""


def decide(log: str, month: date, standing: Sequence[Standing], given: Terms, present: date) -> list[Step]:
    """The steps of one month; none where nothing of it is due. Pure.

    standing: of each tenant that has rows in it. present: first day of the present month.
    """
    if not standing:  # nobody's rows are treated as the platform's
        free = given.due(log, NIL, month, present) and given.hold(log, NIL) is None
        return [Step(log, month, None, "drop", 0)] if free else []
    steps = [_judged(log, month, one, given) for one in standing if given.due(log, one.tenant_id, month, present)]
    if len(steps) == len(standing) and all(step.verdict == "delete" for step in steps):
        return [Step(log, month, None, "drop", sum(one.rows for one in standing))]
    return steps


def _judged(log: str, month: date, one: Standing, given: Terms) -> Step:
    verdict, why = "delete", ""
    held = given.hold(log, one.tenant_id)
    if held is not None:
        verdict, why = "held", f"hold {held.id}"
    elif one.sealed != one.rows:
        verdict, why = "unsealed", f"{one.sealed} of {one.rows} rows are sealed"
    elif one.open:
        verdict, why = "open", f"not closed: {', '.join(f'{first:%Y-%m}' for first in one.open)}"
    return Step(log, month, one.tenant_id, verdict, one.rows, why)


def plan(now: datetime, *, tenant: object = None, log: str | None = None) -> list[Step]:
    """What a run would do now, and what it would leave, by log and month; tenant, log: of these alone."""
    given, present = terms(), partitions.month_of(now)
    wanted = None if tenant is None else id_of(tenant)
    steps: list[Step] = []
    for name in [log] if log else DEFAULTS:
        for month, state in partitions.states(retiring.partitioned(name)).items():
            if state is partitions.State.RETIRING:
                steps.append(Step(name, month, None, "finish", 0, "its removal was interrupted"))
            elif state is partitions.State.ATTACHED and given.may_be_due(name, month, present):
                standing = retiring.standing(name, month)
                if wanted is not None:
                    mine = [one for one in standing if one.tenant_id == wanted]
                    found = decide(name, month, mine, given, present) if mine else []
                    steps += [replace(step, tenant_id=wanted, verdict=_alone(step.verdict)) for step in found]
                else:
                    steps += decide(name, month, standing, given, present)
    return steps


def _alone(verdict: str) -> str:
    """Of one tenant whose rows are asked for alone: its rows go, never the month."""
    return "delete" if verdict == "drop" else verdict


def apply(
    now: datetime,
    *,
    tenant: object = None,
    log: str | None = None,
    archive: Path | None = None,
    reason: str = "",
    by: object = "retention",
    told: Callable[[str], None] = lambda text: None,
) -> list[Step]:
    """Remove what is due, month by month, and return all steps; one that could not be done is `refused`.

    archive: a folder that the rows are written to first. told: is called after each thing done, with what that is. Of two runs
    at once one is refused (RetentionRefused). Raises AuditUnavailable where the database goes away: run it again.
    """
    if connections[conf.DATABASE].in_atomic_block:
        raise RetentionRefused("in_transaction")
    run = retiring.Run(archive, reason, by, told)
    done: list[Step] = []
    with retiring.alone() as direct:
        for step in plan(now, tenant=tenant, log=log):
            done.append(_done(step, run, direct) if step.verdict in GOES else step)
        if tenant is None and log != "auditlog":
            _remove_hours(now, run, direct)
        if tenant is None and log is None:
            removed = _purge_letters(now)
            if removed:
                told(f"removed {removed} dead letters")
    return done


def _verify(step: Step) -> None:
    """Raises RetentionRefused where what goes is not what was sealed: then it is evidence."""
    start, end = (
        datetime(month.year, month.month, 1, tzinfo=UTC) for month in (step.month, partitions.next_month(step.month))
    )
    report = verifying.verify(tenant=step.tenant_id, log=step.log, start=start, end=end)
    wrong = next((found for found in report.findings if found.month in (None, step.month)), None)
    if wrong is not None:
        raise RetentionRefused(message=f"It is not as it was sealed ({wrong.kind}): {wrong.message} See audit_verify.")


def _done(step: Step, run: retiring.Run, direct: retiring.Direct) -> Step:
    try:
        if step.verdict != "finish":
            _verify(step)
        if step.verdict == "delete":
            [one] = [one for one in retiring.standing(step.log, step.month) if one.tenant_id == step.tenant_id]
            retiring.delete(step.log, step.month, one, run, direct)
        else:
            if step.verdict == "drop":
                retiring.mark(step.log, step.month, retiring.standing(step.log, step.month), run, direct)
            retiring.finish(retiring.partitioned(step.log), step.month, run, direct)
    except (AuditingError, partitions.PartitionBusy) as error:
        if error.http_status == 503 and not isinstance(error, partitions.PartitionBusy):
            raise
        return replace(step, verdict="refused", why=error.message)
    return step


def _remove_hours(now: datetime, run: retiring.Run, direct: retiring.Direct) -> None:
    """Hours of usage go once the requests of their month are gone."""
    given, present = terms(), partitions.month_of(now)
    kept = partitions.states(retiring.partitioned("inferencerequest"))
    for month, state in partitions.states(HOURS).items():
        due = state is partitions.State.ATTACHED and month not in kept and retiring.hours_are_due(month, given, present)
        try:
            if due:
                retiring.mark_hours(month)
            if due or state is partitions.State.RETIRING:
                retiring.finish(HOURS, month, run, direct)
        except partitions.PartitionBusy as error:
            logger.warning("hours of usage stay: %s", error.message)


def _purge_letters(now: datetime) -> int:
    """Remove the dead letters that were dealt with 90 days ago, but for tenants whose requests are held."""
    given, removed = terms(), 0
    over = DeadLetter.objects.filter(resolved_at__lt=now - LETTERS_KEPT)
    for tenant in over.order_by("tenant_id").values_list("tenant_id", flat=True).distinct():
        while given.hold("inferencerequest", tenant) is None:
            ids = list(over.filter(tenant_id=tenant).order_by("pk").values_list("pk", flat=True)[:1000])
            if not ids:
                break
            removed += over.filter(pk__in=ids).delete()[0]
    return removed


def duty(now: datetime) -> None:
    """What is due goes, each night; what should have gone and could not is told in the log."""
    try:
        steps = apply(now)
    except RetentionRefused as error:
        logger.warning("retention did not run: %s", error.message)
        return
    for step in steps:
        if step.verdict == "refused":
            logger.warning("%s of %s stays: %s", step.log, f"{step.month:%Y-%m}", step.why)
    busy = [step for step in steps if step.verdict == "refused"]
    if busy:
        raise ControlPlaneError("retention_refused", f"{len(busy)} months could not be removed: {busy[0].why}")
