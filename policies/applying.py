"""A document of policies against those that are stored: a plan that people can read, then all of it or nothing."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any, Literal

from django.core.exceptions import ValidationError
from django.db.models import Model, QuerySet, prefetch_related_objects

from auditing.context import audit_context
from controlplane.core.errors import ControlPlaneError
from policies import validation
from policies.documents import MAX_ENTRY_BYTES, Document, Entry, Export, entry_of, export, read, sparse, stored
from policies.errors import PolicyError
from policies.history import Change, diff
from policies.models import Policy, PolicyEpoch
from policies.models.policy import SCOPE
from policies.schemas import problems
from tenants.commands import app_by_slug, branch_by_code, key_by_name, user_by_name
from tenants.models import APIKey, Tenant

__all__ = ("Export", "Plan", "Planned", "Refused", "export", "plan", "read")


@dataclass(frozen=True, slots=True)
class Refused:
    """A fault of the document. path: as `policies.3.config.limits.0.limit`; name: of the policy, if it has one."""

    path: str
    name: str
    code: str
    text: str


@dataclass(frozen=True, slots=True)
class Planned:
    """One change of a plan. policy: as it will be stored; version: what is stored now, 0 for create; changes: by path."""

    op: Literal["create", "update", "disable"]
    policy: Policy = field(repr=False)
    version: int
    changes: tuple[Change, ...]

    def as_record(self) -> dict[str, Any]:
        policy_id = None if self.op == "create" else str(self.policy.pk)
        told = {"op": self.op, "name": self.policy.name, "policy_id": policy_id, "version": self.version}
        return told | {"changes": [change.as_record() for change in self.changes]}


@dataclass(frozen=True, slots=True)
class Plan:
    """What a document would change, against the tenant's `epoch`. unchanged: how many entries are stored as they are.

    A plan with anything refused is never applied, not even in part.
    """

    tenant: Tenant
    epoch: int
    changes: tuple[Planned, ...]
    refused: tuple[Refused, ...]
    unchanged: int

    def apply(self, reason: str = "") -> None:
        """Write all changes in one transaction, or nothing. reason: kept in the versions and the audit log.

        Raises PolicyError: plan_refused; plan_stale, any policy of the tenant was changed since. ValidationError: what
        the policies stand on, as a model of the catalog, was changed.
        """
        if self.refused:
            raise PolicyError("plan_refused", http_status=400)
        with audit_context(reason=reason):
            self._lock()
            Policy.objects.bulk_create([planned.policy for planned in self.changes if planned.op == "create"])
            for planned in self.changes:
                if planned.op == "update":
                    planned.policy.save(if_version=planned.version)
            if off := [planned.policy.pk for planned in self.changes if planned.op == "disable"]:
                # not by save(): what is only switched off need not fit today's schema
                Policy.objects.filter(pk__in=off).update(enabled=False)

    def as_record(self) -> dict[str, Any]:
        """The plan as JSON; the same document and epoch always give the same one."""
        return {
            "tenant": self.tenant.slug,
            "epoch": self.epoch,
            "changes": [planned.as_record() for planned in self.changes],
            "unchanged": self.unchanged,
            "refused": [asdict(fault) for fault in self.refused],
        }

    def _lock(self) -> None:
        """One plan at a time; then rows before the epoch, as every writer, so that nobody waits in a ring."""
        Tenant._base_manager.select_for_update(no_key=True).get(pk=self.tenant.pk)
        touched = [planned.policy.pk for planned in self.changes if planned.op != "create"]
        list(Policy.objects.select_for_update().filter(pk__in=touched).order_by("pk").values_list("pk"))
        if _epoch(PolicyEpoch.objects.select_for_update().filter(tenant=self.tenant)) != self.epoch:
            raise PolicyError("plan_stale", http_status=409)


def plan(tenant: Tenant, document: Any, *, prune: bool = False) -> Plan:
    """What `document` (as `read` returns it, or any JSON) would change of the policies of a tenant, by name.

    prune: enabled policies that it does not name, those without a name too, are to be disabled; none is ever deleted.
    Nothing is written. All that does not fit is in `refused`; this raises nothing.
    """
    epoch = _epoch(PolicyEpoch.objects.filter(tenant=tenant))  # read first: what comes later makes the plan stale
    there = stored(tenant)
    entries, refused = _entries(document)
    drafts = _Drafts(tenant, there)
    made = [drafts.of(number, entry) for number, entry in entries]
    refused += [*drafts.refused, *_unfit(made)]
    changes = [draft.planned() for draft in made if draft.placed]
    named = {entry.name for _, entry in entries}
    pruned = [policy for policy in there if prune and policy.enabled and policy.name not in named]
    return Plan(
        tenant,
        epoch,
        (
            *(planned for planned in changes if planned.changes),
            *(Planned("disable", policy, policy.version, (Change("enabled", True, False),)) for policy in pruned),
        ),
        tuple(sorted(refused, key=lambda fault: [part.zfill(6) for part in fault.path.split(".")[:2]])),
        sum(not planned.changes for planned in changes),
    )


def _epoch(epochs: QuerySet[PolicyEpoch]) -> int:
    return epochs.values_list("epoch", flat=True).first() or 0


def _entries(document: Any) -> tuple[list[tuple[int, Entry]], list[Refused]]:
    """The entries that have the shape of one, with their places, and what is wrong with the others."""
    if faults := [Refused(path, "", code, f"{text}.") for path, code, text in _problems(Document, document)]:
        return [], faults
    entries, refused = [], []
    for number, value in enumerate(document["policies"]):
        name = value.get("name") if isinstance(value, Mapping) else None
        faults = [
            Refused(_path(number, path), name if isinstance(name, str) else "", code, f"{text}.")
            for path, code, text in problems(Entry, value, MAX_ENTRY_BYTES)
        ]
        refused += faults
        if not faults:
            entries.append((number, Entry.model_validate(value)))
    twice = {name for name, count in Counter(entry.name for _, entry in entries).items() if count > 1}
    text = "Another entry has this name. Give each policy a name of its own."
    refused += [
        Refused(_path(number, "name"), entry.name, "duplicate_name", text)
        for number, entry in entries
        if entry.name in twice
    ]
    return [(number, entry) for number, entry in entries if entry.name not in twice], refused


def _problems(schema: type[Document], document: Any) -> Iterator[tuple[str, str, str]]:
    """Of the outermost shape alone: how large the whole is does not matter."""
    shape = document
    if isinstance(document, Mapping) and isinstance(document.get("policies"), list):
        shape = {**document, "policies": []}
    yield from problems(schema, shape, MAX_ENTRY_BYTES)


def _path(number: int, path: str) -> str:
    return f"policies.{number}.{path}" if path else f"policies.{number}"


@dataclass(frozen=True, slots=True)
class _Draft:
    """A policy as an entry wants it. before: as it is stored; None = it is not. placed: what it names was found."""

    number: int
    policy: Policy
    before: Policy | None
    placed: bool

    def planned(self) -> Planned:
        after = entry_of(self.policy)
        if self.before is None:
            return Planned("create", self.policy, 0, tuple(diff({}, sparse(after))))
        return Planned("update", self.policy, self.before.version, tuple(diff(entry_of(self.before), after)))


class _Drafts:
    """Makes drafts; what stands in the way of one is in `refused`."""

    def __init__(self, tenant: Tenant, there: Sequence[Policy]) -> None:
        self.refused: list[Refused] = []
        self._tenant = tenant
        self._known: dict[tuple[object, ...], Model | ControlPlaneError] = {}
        self._there: dict[str, list[Policy]] = {}
        for policy in there:
            self._there.setdefault(policy.name, []).append(policy)

    def of(self, number: int, entry: Entry) -> _Draft:
        """A draft, without a scope if that cannot be found: what else is wrong with it is told at once."""
        faults, same = len(self.refused), self._there.get(entry.name, [])
        if len(same) > 1:
            text = f"{len(same)} stored policies have this name. Rename all but one."
            self.refused.append(Refused(_path(number, "name"), entry.name, "ambiguous_name", text))
        before = same[0] if len(same) == 1 else None
        policy = self._like(before) if before else Policy(tenant=self._tenant)
        said = entry.model_dump(exclude={"scope", "valid_from", "valid_until"})
        said |= {"valid_from": _instant(entry.valid_from), "valid_until": _instant(entry.valid_until)}
        for name, value in (said | self._scope(number, entry)).items():
            setattr(policy, name, value)
        return _Draft(number, policy, before, placed=len(self.refused) == faults)

    def _like(self, before: Policy) -> Policy:
        policy = copy.copy(before)
        policy._state = copy.copy(before._state)
        policy._state.fields_cache = {"tenant": self._tenant}
        return policy

    def _scope(self, number: int, entry: Entry) -> dict[str, Any]:
        """The rows that the scope names; None for any, and for one that is not there, or is another tenant's."""
        names, tenant = entry.scope, self._tenant
        found: dict[str, Any] = {"branch": None}
        found["app"] = self._row(number, entry, "app", names.app, lambda text: app_by_slug(tenant, text))
        found["user"] = self._row(number, entry, "user", names.user, lambda text: user_by_name(tenant, text))
        found["key"] = self._row(number, entry, "key", names.key, lambda text: _key(tenant, text))
        if names.branch and not names.app:
            text = "A branch needs its app. Name the app too."
            self.refused.append(Refused(_path(number, "scope.branch"), entry.name, "branch_needs_app", text))
        elif names.branch and found["app"]:
            app = found["app"]
            found["branch"] = self._row(
                number, entry, "branch", names.branch, lambda text: branch_by_code(app, text), app.pk
            )
        return found

    def _row(self, number: int, entry: Entry, level: str, text: str | None, find: Any, within: object = None) -> Any:
        """The row of a name, looked up once."""
        if text is None:
            return None
        asked = (level, within, text)
        if asked not in self._known:
            try:
                self._known[asked] = find(text)
            except ControlPlaneError as error:
                self._known[asked] = error
        row = self._known[asked]
        if isinstance(row, ControlPlaneError):
            self.refused.append(Refused(_path(number, f"scope.{level}"), entry.name, row.code, row.message))
            return None
        return row


def _key(tenant: Tenant, text: str) -> APIKey:
    key = key_by_name(tenant, text)
    prefetch_related_objects([key], "secrets")
    return key


def _instant(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)


def _unfit(drafts: Sequence[_Draft]) -> Iterator[Refused]:
    """What `save()` would refuse. All at once first: one by one asks the database for each."""
    try:
        for draft in drafts:
            draft.policy.clean_fields(exclude=SCOPE)
        validation.check([draft.policy for draft in drafts])
    except ValidationError:
        for draft in drafts:
            yield from _faults(draft)


def _faults(draft: _Draft) -> Iterator[Refused]:
    try:
        draft.policy.clean_fields(exclude=SCOPE)
        validation.check([draft.policy])
    except ValidationError as error:
        for name, faults in error.error_dict.items():
            place = f"scope.{name}" if name in SCOPE else name
            for fault in faults:
                inside = (fault.params or {}).get("path", "")
                text = fault.messages[0].removeprefix(f"{inside}: ") if inside else fault.messages[0]
                path = _path(draft.number, f"{place}.{inside}" if inside else place)
                yield Refused(path, draft.policy.name, fault.code or "invalid", text)
