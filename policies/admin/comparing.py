"""What the policies of a scope come to with a draft in place, beside what they come to now."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.utils.html import format_html
from django.utils.safestring import SafeString

from controlplane.core.conf import conf
from controlplane.core.ids import now
from policies.admin.phrases import layer_words, link
from policies.admin.wording import shown
from policies.effective import EffectivePolicy, StoredPolicy
from policies.forms.words import FIELDS as LABELS
from policies.merging import FIELDS
from policies.models import Policy
from policies.resolution import load
from policies.scope import Scope

MOST_LINES = 12
"""Unchanged lines of one field that are shown; the others are counted."""


@dataclass(frozen=True)
class Line:
    """One value, or one entry of a list. state: kept, added or removed; sources: the policies it comes from."""

    state: str
    value: SafeString | str
    sources: Sequence[SafeString | str]


@dataclass(frozen=True)
class Compared:
    """A field of the effective policy. more: unchanged entries that are not listed."""

    label: str
    name: str
    lines: Sequence[Line]
    more: int

    @property
    def changed(self) -> bool:
        return any(line.state != "kept" for line in self.lines)


@dataclass(frozen=True)
class Preview:
    """of: whom it is about, in words. note: what the picture leaves out. fields: what holds, changed ones first."""

    of: str
    note: str
    fields: Sequence[Compared]
    conflicts: Sequence[str]

    @property
    def changes(self) -> int:
        return sum(field.changed for field in self.fields)


def preview(draft: Policy) -> Preview:
    """For a request of the draft's own scope, as if the draft were in force now; the draft must be valid."""
    scope = Scope.of(draft.tenant, draft.app, draft.branch, draft.user, draft.key)
    live = load(conf.DATABASE, scope, now())
    planned = with_draft(live, draft)
    return Preview(
        of=draft.scope_label(),
        note=_note(draft),
        fields=sorted(_fields(draft, live, planned), key=lambda field: not field.changed),
        conflicts=planned.conflicts,
    )


def with_draft(live: EffectivePolicy, draft: Policy) -> EffectivePolicy:
    """The same question, with the draft in the place of what is stored of it, and without its hours."""
    others = [one for one in live.policies.values() if one.row.id != draft.pk]
    stored = [*others, _as_stored(draft)] if draft.enabled else others
    ordered = tuple(sorted(stored, key=lambda one: one.row.order()))
    return EffectivePolicy.of(live.scope, live.time_zone, live.at, ordered)


def _as_stored(draft: Policy) -> StoredPolicy:
    scope = (draft.app_id, draft.branch_id, draft.user_id, draft.key_id)
    layer = 1 + sum(weight for weight, id in zip((2, 4, 8, 16), scope, strict=True) if id)
    columns = (
        draft.pk, layer, draft.priority, draft.policy_type, json.dumps(draft.config), draft.overridable, draft.final,
        draft.version, None, None, None, draft.name, draft.message,
    )  # fmt: skip
    return StoredPolicy.read(columns)


def _note(draft: Policy) -> str:
    if not draft.enabled:
        return "The policy is switched off, so it says nothing here."
    why = draft.window().why_not(now())
    if why == "expired":
        return "Its time is over: this is what would hold if it were not."
    return "It does not apply at this moment: this is what holds when it does." if why else ""


def _fields(draft: Policy, live: EffectivePolicy, planned: EffectivePolicy) -> Iterator[Compared]:
    """The fields of the draft's type that anybody speaks of; other types stay as they are."""
    kind = draft.policy_type
    named = _Names(draft, {**live.policies, **planned.policies})
    for name in FIELDS[kind]:
        lines = list(_lines(list(_entries(live, kind, name)), list(_entries(planned, kind, name)), named))
        unchanged = [line for line in lines if line.state == "kept"][MOST_LINES:]
        if lines:
            told = [line for line in lines if line not in unchanged]
            yield Compared(LABELS[f"{kind}.{name}"][0], name, told, len(unchanged))


Entry = tuple[str, SafeString | str, Sequence[UUID]]
"""What tells entries apart; what is shown; the policies it comes from."""


def _entries(effective: EffectivePolicy, kind: str, name: str) -> Iterator[Entry]:
    """The lines of one merged value: of lists, maps and limits one each, with sources of their own."""
    merged = effective.merged
    value = merged.values.get(kind, {}).get(name)
    if value is None:
        return
    origin, layers = merged.provenance[kind][name], merged.layers.get((kind, name), ())
    if layers and origin["op"] == "INTERSECT":
        for layer in layers:
            nearness = effective.policies[layer.policies[0]].row.layer
            yield json.dumps([nearness, layer.values()]), shown(layer.values()), layer.policies
    elif layers:
        for layer in layers:
            yield from ((json.dumps(entry), shown([entry]), [policy]) for entry, policy in layer.entries)
    elif isinstance(value, Mapping):
        for key, of in value.items():
            yield key + json.dumps(of, sort_keys=True), f"{key}: {_said(of)}", _sources(origin[key])
    elif isinstance(origin, list):
        for entry, leaf in zip(value, origin, strict=True):
            yield json.dumps(entry, sort_keys=True), shown(entry), _sources(leaf)
    else:
        yield json.dumps(value), shown(value), _sources(origin)


def _sources(origin: Any) -> Sequence[UUID]:
    """Every policy named in a leaf, or in a map of leaves."""
    if isinstance(origin.get("from"), list):
        return [*origin["from"]]
    return list(dict.fromkeys(id for leaf in origin.values() for id in _sources(leaf)))


def _said(of: Any) -> SafeString | str:
    """What a map says of one name: a model, or what a guardrail does."""
    if not isinstance(of, Mapping):
        return shown(of)
    words = [of.get("action") or "no action", f"on {', '.join(of.get('stages', ()))}".replace("_", " ")]
    words += [f"from {of['threshold']}"] if "threshold" in of else []
    words += [json.dumps(of["config"], ensure_ascii=False)] if of.get("config") else []
    return ", ".join(words)


def _lines(old: Sequence[Entry], new: Sequence[Entry], named: _Names) -> Iterator[Line]:
    before, after = {key for key, _, _ in old}, {key for key, _, _ in new}
    for key, value, sources in old:
        if key not in after:
            yield Line("removed", value, named(sources))
    for key, value, sources in new:
        yield Line("kept" if key in before else "added", value, named(sources))


class _Names:
    """Policies by id, as links; the one that is being written by what it is."""

    def __init__(self, draft: Policy, policies: Mapping[UUID, StoredPolicy]) -> None:
        self.draft = draft
        self.names = {str(id): one.name for id, one in policies.items()}
        self.layers = {id: one.row.layer for id, one in policies.items()}

    def __call__(self, ids: Sequence[UUID]) -> list[SafeString | str]:
        return [self._one(id) for id in ids]

    def _one(self, id: UUID) -> SafeString | str:
        if id == self.draft.pk:
            return "this policy"
        return format_html("{} ({})", link(str(id), self.names), layer_words(self.layers[id]))
