"""Policies and decisions in words for people, made from the record that programs get: a page says what the JSON says."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from django.urls import reverse
from django.utils.dateparse import parse_datetime
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from controlplane.core import display
from controlplane.core.charts import Mark, level_bar, share
from policies.admin.phrases import Names, layer_words, limit_words, link, measured, owner_words, resets

Record = Mapping[str, Any]

NEAR = 0.8
"""From which part of a limit on people are warned."""
AND = format_html('<i class="cp-quiet"> {} </i>', "and")
OPERATORS = {
    "STRICTEST": "the strictest counts",
    "INTERSECT": "every layer must allow it",
    "UNION": "all together",
    "NEAREST": "the nearest counts",
    "ALL_APPLY": "every limit applies",
}
WHY_NOT = {
    "replaced_by_nearer": "its author lets a nearer policy replace it",
    "looser_than_locked": "a stricter value is locked",
    "looser": "another value is stricter",
    "locked_by_wider": "a wider policy locks its own",
    "farther": "a nearer policy says otherwise",
}
LEFT_OUT = {
    "not_yet_valid": "not valid yet",
    "out_of_schedule": "outside its schedule",
    "expired": "expired",
    "disabled": "switched off",
    "other_scope": "for another scope",
}
CONFLICTS = {
    "retention_floor_exceeds_ceiling": "What must be kept longer (min_days) beats what must be gone sooner (max_days).",
}
BECAUSE = {
    "no_restriction": "no policy restricts it",
    "model_unknown": "the catalog has no model of this name",
    "model_disabled": "it is switched off in the catalog",
    "model_denied": "{} denies it with {}",
    "model_not_in_allowlist": "{} does not list it",
    "provider_not_allowed": "{} allows other providers only",
    "region_not_allowed": "{} allows other regions only",
    "storage_denied": "{} denies it with {}",
    "storage_default_deny": "no policy allows storage here",
    "storage_not_in_allowlist": "{} does not list it",
    "uri_not_canonical": "the address has more than one spelling",
    "policy_invalid": "{} cannot be read, and everything of its type is refused until it is repaired",
}
CHECKS = {
    "model.deny": "Is it denied?",
    "model.allow": "Is it on the allow list?",
    "provider": "Is its provider allowed?",
    "region": "Is the region allowed?",
    "storage.deny": "Is it denied?",
    "storage.allow": "Is it on the allow list?",
    "tokens.max_input_tokens": "Are few enough tokens sent?",
    "tokens.max_output_tokens": "Are few enough tokens asked for?",
    "tokens.max_total_tokens": "Are they few enough together?",
}


def sentence(record: Record, subject: str, names: Names, owners: Mapping[str, str]) -> SafeString:
    """The decision, and who is responsible for it. subject: what was asked for, as in "smart (openai/gpt-4o)".

    owners: names of apps, branches, users and keys by id.
    """
    by, pattern = record["by"], record["pattern"]
    author = format_html("{} ({})", link(by["policy"], names, by["version"]), layer_words(by["layer"])) if by else ""
    if record["reason"] == "allowed":
        why = format_html("{} admits it with {}", author, display.mono(pattern)) if pattern else "nothing denies it"
    elif record["reason"] == "token_cap_exceeded":
        why = format_html("{} caps {} at {}", author, *_cap(record["checks"][-1], record))
    elif record["reason"] in ("budget_exceeded", "rate_limited"):
        why = _used_up(record, author, owners)
    elif record["reason"] in BECAUSE:
        why = format_html(BECAUSE[record["reason"]], author, display.mono(pattern or ""))
    else:
        why = record["message"]
    verdict = "is allowed" if record["decision"] == "allow" else "is refused"
    return format_html("<b>{}</b> {}: {}.", subject, verdict, why)


@dataclass(frozen=True, slots=True)
class CheckRow:
    question: str
    passed: bool
    where: str
    found: SafeString | str
    policies: SafeString


def checks(record: Record, names: Names) -> list[CheckRow]:
    """The questions on the way to the decision, in order. where: of which layer the list is."""
    layers = {one["policy"]: one["layer"] for one in record["applicable"]}
    rows = []
    for check in record.get("checks", ()):
        ids = check["policies"]
        where = layer_words(layers[ids[0]]) if "layer" in check and ids else "all layers"
        found: SafeString | str = display.mono(check["pattern"]) if "pattern" in check else "no entry fits"
        if check["check"].startswith("tokens."):
            where, found = _cap(check, record)
        named = format_html_join(", ", "{}", ((link(id, names),) for id in ids))
        rows.append(
            CheckRow(CHECKS.get(check["check"], check["check"]), check["result"] == "pass", where, found, named)
        )
    return rows


def _used_up(record: Record, author: SafeString | str, owners: Mapping[str, str]) -> SafeString:
    """The first limit of the policy in charge that refuses, and how it stands."""
    bucket = next(
        one
        for one in record["buckets"]
        if one["result"] == "fail" and record["by"]["policy"] in {limit["policy"] for limit in one["limits"]}
    )
    words, left = limit_words(bucket), measured(bucket["metric"], bucket["left"])
    wanted = (
        f", and this call may take {measured(bucket['metric'], bucket['requested'])}" if bucket["requested"] else ""
    )
    whose = owner_words(bucket["owner"], bucket["counts"], owners)
    return format_html("{} limits {} to {}, of which {} is left{}", author, whose, words, left, wanted)


def _cap(check: Record, record: Record) -> tuple[str, str]:
    """The cap on tokens that a check asked for: its field and its value."""
    field = check["check"].removeprefix("tokens.")
    return field, f"{record['effective'][f'token_caps.{field}']['value']:,}"


@dataclass(frozen=True, slots=True)
class ValueRow:
    """field: without its type. rule: how several values become one, "" if there was one only. lost: what came to nothing,
    and why.
    """

    field: str
    rule: str
    value: SafeString | str
    sources: SafeString
    lost: Sequence[SafeString]


def values(record: Record, names: Names) -> dict[str, list[ValueRow]]:
    """What holds, by policy type, in the order in which types are merged."""
    found: dict[str, list[ValueRow]] = {}
    for path, leaf in record["effective"].items():
        kind, _, field = path.partition(".")
        found.setdefault(kind.replace("_", " ").capitalize(), []).append(_value(field, leaf, names))
    return found


def _value(field: str, leaf: Record, names: Names) -> ValueRow:
    sources = format_html_join("", "<li>{}</li>", ((_source(one, names),) for one in leaf["from"]))
    lost = [
        format_html("not {} of {}: {}", shown(one["value"]), link(one["policy"], names), why_not(one["why"]))
        for one in leaf["shadowed"]
    ]
    name = "limit" if leaf["op"] == "ALL_APPLY" else field.removeprefix("guardrails.")
    rule = OPERATORS[leaf["op"]] if len(leaf["from"]) + len(lost) > 1 else ""
    return ValueRow(name, rule, shown(leaf["value"]), sources, lost)


def _source(source: Record, names: Names) -> SafeString:
    words = layer_words(source["layer"])
    if source["priority"]:
        words = f"{words}, priority {source['priority']}"
    return format_html('{} <span class="cp-quiet">{}</span>', link(source["policy"], names, source["version"]), words)


def why_not(code: str) -> str:
    """Why a value of a policy came to nothing."""
    forced = code.removeprefix("forced_by_")
    return f"{forced} demands another value" if forced != code else WHY_NOT.get(code, code)


def shown(value: Any) -> SafeString | str:
    """A value of a config as people read it: numbers grouped, lists of lists as "one of …, and one of …"."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, Mapping):
        return _object(value)
    if isinstance(value, list):
        if value and all(isinstance(entry, list) for entry in value):
            return format_html_join(AND, "{}", ((_entries(one),) for one in value))
        return _entries(value)
    return str(value)


def _entries(entries: Sequence[Any]) -> SafeString | str:
    if not entries:
        return "nothing"
    return format_html_join(" ", "{}", ((_entry(entry),) for entry in entries))


def _entry(entry: Any) -> SafeString:
    if isinstance(entry, Mapping):
        return format_html('<span class="cp-entry">{}</span>', _object(entry))
    return format_html('<code class="cp-entry">{}</code>', entry)


def _object(value: Mapping[str, Any]) -> SafeString | str:
    if "limit" in value and "window" in value:
        return limit_words(value)
    if "uri" in value and "modes" in value:
        return format_html("<code>{}</code> {}", value["uri"], ", ".join(value["modes"]))
    return display.mono(json.dumps(value, ensure_ascii=False))


@dataclass(frozen=True, slots=True)
class LimitRow:
    """A counter. whose: its owner in words. part: how much of its limit is used and held; near: 80 % or more of it.

    result: fail, warn or pass.
    """

    words: str
    whose: str
    url: str
    policies: Sequence[SafeString]
    spent: str
    held: str
    left: str
    bar: SafeString
    part: str
    near: bool
    result: str
    resets: SafeString | str


def limits(record: Record, names: Names, owners: Mapping[str, str]) -> list[LimitRow]:
    """The counters a call is counted on, as they stand. owners: names of apps, branches, users and keys by id."""
    return [_limit(one, names, owners) for one in record["buckets"]]


def _limit(bucket: Record, names: Names, owners: Mapping[str, str]) -> LimitRow:
    words, metric = limit_words(bucket), bucket["metric"]
    spent, held, left = (measured(metric, bucket[name]) for name in ("spent", "reserved", "left"))
    marks = [Mark(Decimal(one["limit"]), one["mode"] == "hard") for one in bucket["limits"]]
    used = share(Decimal(bucket["spent"]) + Decimal(bucket["reserved"]), Decimal(bucket["limit"])) or 0.0
    id = bucket["bucket"]
    return LimitRow(
        words=words,
        whose=owner_words(bucket["owner"], bucket["counts"], owners),
        url=reverse("admin:cp_policies_limitbucket_change", args=[id]) if id else "",
        policies=[_threshold(one, metric, names) for one in bucket["limits"]],
        spent=spent,
        held=held,
        left=left,
        bar=level_bar(
            f"{words}: {spent} used, {held} held, {left} left",
            Decimal(bucket["spent"]),
            Decimal(bucket["reserved"]),
            marks,
        ),
        part=f"{used:.0%}",
        near=used >= NEAR,
        result=bucket["result"],
        resets=resets(bucket["resets_at"] and parse_datetime(bucket["resets_at"]), bucket["zone"]),
    )


def _threshold(limit: Record, metric: str, names: Names) -> SafeString:
    policy = link(limit["policy"], names, limit["version"])
    if limit["mode"] == "hard":
        return policy
    return format_html(
        '{} <span class="cp-quiet">{} at {}</span>', policy, limit["mode"], measured(metric, limit["limit"])
    )


@dataclass(frozen=True, slots=True)
class LayerRow:
    """The policies of one layer, in order."""

    words: str
    policies: Sequence[SafeString]


def layers(record: Record, names: Names) -> list[LayerRow]:
    """What applies, nearest layer first."""
    grouped: dict[int, list[SafeString]] = {}
    for one in record["applicable"]:
        kind = one["type"].replace("_", " ") + (f", priority {one['priority']}" if one["priority"] else "")
        row = format_html('{} <span class="cp-quiet">{}</span>', link(one["policy"], names, one["version"]), kind)
        grouped.setdefault(one["layer"], []).append(row)
    return [LayerRow(layer_words(layer), rows) for layer, rows in grouped.items()]


def left_out(record: Record, names: Names) -> list[tuple[str, list[SafeString]]]:
    """What has no part, by the reason."""
    grouped: dict[str, list[SafeString]] = {}
    for one in record["skipped"]:
        grouped.setdefault(one["why"], []).append(link(one["policy"], names))
    return [(LEFT_OUT.get(why, why), links) for why, links in grouped.items()]


def conflicts(codes: Iterable[str]) -> list[str]:
    return [CONFLICTS.get(code, code) for code in codes]
