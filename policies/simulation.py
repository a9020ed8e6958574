"""What would have become of requests, had the policies been others: the same requests asked twice, before and after.

`simulate` stores nothing, takes no locks and reads policies once. docs/policies.md says how to read the result.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from itertools import chain
from typing import Any
from uuid import UUID

from django.db import connections, transaction

from catalog.errors import ModelDisabled, UnknownModel
from catalog.models import ModelRecord
from catalog.resolution import resolve
from controlplane.core.conf import conf
from policies.changes import Change, Shelf, as_stored, changed
from policies.errors import PolicyError
from policies.models import Policy
from policies.periods import check_instant
from policies.replaying import Merges, Outcome, Replay, Rulebook
from policies.resolution import StoredPolicy
from policies.samples import MOST_REQUESTS, Request, Sample
from policies.tallying import ChangedValue, CounterSeen, Example, Simulation, Tallies
from tenants.models import Tenant

__all__ = [
    "MOST_REQUESTS", "Change", "ChangedValue", "CounterSeen", "Example", "Outcome", "Request", "Sample", "Simulation",
    "simulate",
]  # fmt: skip

_Both = tuple[list[Policy], list[Policy]]
"""Policies before and after the changes."""


def simulate(
    tenant: Tenant | UUID, changes: Iterable[Change], sample: Sample, at: datetime | None = None
) -> Simulation:
    """Ask the requests of a sample of a tenant's policies as they are, and as they were after the changes.

    changes: as for `policies.lint.lint`. Each request is asked as of its own time, or as of `at` (aware): schedules and
    validity hold as of then. A request that passes spends what it used, in the order of time, on counters that begin
    at 0 with the sample; one that is refused spends nothing. The names of models mean what the catalog says now.

    All is read in one transaction, read only. Raises PolicyError("tenant_mismatch"): a sample of another tenant, or one
    that cannot be seen; ValidationError for a change that could not be saved.
    """
    tenant_id = tenant if isinstance(tenant, UUID) else tenant.pk
    if at is not None:
        check_instant(at)
    if any(request.scope.tenant_id != tenant_id for request in sample.requests):
        raise PolicyError("tenant_mismatch")
    with _read_only():
        owner = Tenant.objects.filter(pk=tenant_id).first()
        if owner is None:
            raise PolicyError("tenant_mismatch")
        present = [*Policy.objects.filter(tenant=owner)]
        both = (present, changed(owner, present, changes))
        names = _Names.read(owner.pk, sample, both)
    tallies = Tallies(sample)
    if sample.requests:
        _replay(owner, both, sample, at, names, tallies)
    return tallies.result()


def _replay(owner: Tenant, both: _Both, sample: Sample, at: datetime | None, names: _Names, tallies: Tallies) -> None:
    """All that follows from what was read: no statement, so that no transaction is open while it takes its time."""
    first, last = sample.requests[0].at, sample.requests[-1].at
    merges = Merges(owner.time_zone, names)
    read = _Once()
    before, after = (
        Replay(Rulebook(Shelf(policies, read), merges, at or first, at or last), sample.start or first)
        for policies in both
    )
    for request in sample.requests:
        was, becomes = before.ask(request, at or request.at), after.ask(request, at or request.at)
        tallies.add(request, was, becomes, before.asked, after.asked)
    tallies.end(before, after)


class _Once:
    """Reads each policy once, so that both sides have the same object for what is the same."""

    def __init__(self) -> None:
        self._read: dict[int, tuple[Policy, StoredPolicy]] = {}

    def __call__(self, policy: Policy) -> StoredPolicy:
        if id(policy) not in self._read:
            self._read[id(policy)] = policy, as_stored(policy)
        return self._read[id(policy)][1]


class _Names:
    """What names mean to a tenant, each looked up once: those that were asked for, and those that aliases stand for."""

    def __init__(self, found: Mapping[str, ModelRecord | UnknownModel | ModelDisabled]) -> None:
        self._found = found

    @classmethod
    def read(cls, tenant_id: UUID, sample: Sample, both: _Both) -> _Names:
        names = {request.model for request in sample.requests if not request.uri}
        for policy in chain(*both):
            aliases = policy.config.get("aliases") if policy.policy_type == "routing" else None
            if isinstance(aliases, dict):
                names.update(name for name in aliases.values() if isinstance(name, str))
        return cls({name: _meaning(name, tenant_id) for name in names})

    def __call__(self, name: str, tenant_id: UUID) -> ModelRecord:
        found = self._found[name]
        if isinstance(found, Exception):
            raise found.with_traceback(None)  # which would grow with each raise
        return found


def _meaning(name: str, tenant_id: UUID) -> ModelRecord | UnknownModel | ModelDisabled:
    try:
        return resolve(name, tenant_id)
    except (UnknownModel, ModelDisabled) as error:
        return error


@contextmanager
def _read_only() -> Iterator[None]:
    """A transaction that cannot write, of one state of the database; inside another, a part of it that cannot write."""
    alias: Any = conf.DATABASE
    within = connections[alias].in_atomic_block
    with transaction.atomic(using=alias), connections[alias].cursor() as cursor:
        cursor.execute(
            "SET TRANSACTION READ ONLY" if within else "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY"
        )
        yield
