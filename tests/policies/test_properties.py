"""Merging of every type against an oracle that follows the rules word by word, and what must hold whatever is written."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policies.merging import FIELDS, merge
from policies.operators import Row
from policies.schemas import SCHEMAS, problems
from tests.policies.rows import row

LAYERS = [1, 3, 7, 9, 11, 17, 31]
NEW_LAYER = 25
MODELS = ["a/b", "a/c", "b/c"]
STAGES = ["input", "output", "tool_call"]

# What each field is, written down a second time, so that a change of the first is seen.
RULES = {
    "model_access": {"allow": "intersect", "deny": "union"},
    "token_caps": {
        "max_input_tokens": min, "max_output_tokens": min, "max_total_tokens": min,
        "default_max_output_tokens": "nearest", "on_exceed": ["reject", "clamp"],
    },
    "rate_limit": {"limits": "limits"},
    "budget": {"limits": "limits"},
    "guardrail": {"fail_mode": ["closed", "open"], "guardrails": "guardrails"},
    "routing": {
        "strategy": "nearest", "targets": "nearest", "aliases": "keyed", "timeout_ms": min, "max_retries": min,
        "providers": "intersect", "regions": "intersect",
    },
    "retention": {
        "max_days": min, "min_days": max, "log_bodies": [False, True], "redact_pii": [True, False],
        "zero_retention": [True, False],
    },
    "storage_access": {"allow": "intersect", "deny": "union"},
}  # fmt: skip


# Rows at random.

small = st.integers(0, 3)
lists = st.lists(st.sampled_from(["a/*", "b", "*"]), max_size=2, unique=True)
slugs = st.lists(st.sampled_from(["eu", "us"]), max_size=2, unique=True)
objects = st.lists(
    st.fixed_dictionaries({"uri": st.sampled_from(["s3://a/*", "s3://b"]), "modes": st.just(["read"])}),
    max_size=2,
    unique_by=lambda entry: entry["uri"],
)
limit = st.fixed_dictionaries(
    {"limit": small},
    optional={
        "per": st.sampled_from(["scope", "user"]),
        "mode": st.sampled_from(["shadow", "soft", "hard"]),
        "models": st.sampled_from([["*"], ["a/*", "B"], ["b", "A/*"]]),
    },
)
guardrail = st.fixed_dictionaries(
    {
        "stages": st.lists(st.sampled_from(STAGES), min_size=1, unique=True),
        "action": st.none() | st.sampled_from(["off", "log", "mask", "block"]),
        "config": st.none() | st.fixed_dictionaries({"n": small}),
    },
    optional={"threshold": st.sampled_from([0.0, 0.5, 1.0])},
)
CONFIGS = {
    "model_access": {"allow": lists, "deny": lists},
    "token_caps": {
        "max_input_tokens": small, "max_output_tokens": small, "max_total_tokens": small,
        "default_max_output_tokens": small, "on_exceed": st.sampled_from(["clamp", "reject"]),
    },
    "rate_limit": {
        "limits": st.lists(limit.map(lambda one: {"metric": "requests", "window": "1m", **one}), max_size=3)
    },
    "budget": {
        "limits": st.lists(limit.map(lambda one: {"window": "day", **one, "limit": f"{one['limit']}.50"}), max_size=3)
    },
    "guardrail": {
        "fail_mode": st.sampled_from(["open", "closed"]),
        "guardrails": st.dictionaries(st.sampled_from(["pii", "toxic"]), guardrail, max_size=2),
    },
    "routing": {
        "strategy": st.sampled_from(["priority", "fallback"]),
        "targets": st.lists(st.sampled_from(MODELS), max_size=2, unique=True),
        "aliases": st.dictionaries(st.sampled_from(["smart", "op"]), st.sampled_from(MODELS), max_size=2),
        "timeout_ms": st.integers(1, 3), "max_retries": small, "providers": slugs, "regions": slugs,
    },
    "retention": {
        "max_days": small, "min_days": small, "log_bodies": st.booleans(), "redact_pii": st.booleans(),
        "zero_retention": st.booleans(),
    },
    "storage_access": {"allow": objects, "deny": objects},
}  # fmt: skip


def is_preference(rule):
    return rule in ("nearest", "keyed")


@st.composite
def rows_of(draw, policy_type, *, opened=True, most=5):
    """Rows of one type, as their authors may write them: fields absent, null or said, tight ones opened, others locked."""
    fields = CONFIGS[policy_type]
    tight = [name for name, rule in RULES[policy_type].items() if not is_preference(rule) and rule != "union"]
    preferences = [name for name, rule in RULES[policy_type].items() if is_preference(rule)]
    found = []
    for number in range(draw(st.integers(0, most))):
        config = draw(st.fixed_dictionaries({}, optional={name: st.none() | one for name, one in fields.items()}))
        found.append(
            row(
                number + 1,
                draw(st.sampled_from(LAYERS)),
                policy_type,
                config,
                priority=draw(st.integers(-1, 1)),
                overridable=draw(st.sets(st.sampled_from(tight))) if opened and tight else (),
                final=draw(st.sets(st.sampled_from(preferences))) if preferences else (),
            )
        )
    return found


every_type = pytest.mark.parametrize("policy_type", RULES)


# The oracle. A word is (layer, priority, id, value, locked), of those who say something.


def words(rows, name, locks):
    return [
        (r.layer, r.priority, r.id, r.config[name], locks(r)) for r in rows if r.config.get(name) is not None
    ]  # fmt: skip


def counting(said):
    """Locked ones, and those behind which no nearer layer says anything."""
    return [one for one in said if one[4] or not any(other[0] > one[0] for other in said)]


def nearest(said):
    locked = [one for one in said if one[4]]
    if locked:
        return sorted(locked, key=lambda one: (one[0], -one[1], one[2]))[0][3]
    return sorted(said, key=lambda one: (-one[0], -one[1], one[2]))[0][3]


def strictest(rule, said):
    values = [one[3] for one in counting(said)]
    return rule(values) if callable(rule) else next(word for word in rule if word in values)


def key(entry):
    return repr(sorted(entry.items())) if isinstance(entry, dict) else entry


def layers(said):
    left = counting(said)
    return [{key(entry) for one in left if one[0] == n for entry in one[3]} for n in sorted({one[0] for one in left})]


def keyed(said):
    names = {name for one in said for name in one[3]}
    return {name: nearest([(*one[:3], one[3][name], one[4]) for one in said if name in one[3]]) for name in names}


def guardrails(said):
    found = {}
    for name in {name for one in said for name in one[3]}:
        about = [(*one[:3], one[3][name], one[4]) for one in said if name in one[3]]

        def part(field, always=True, about=about):
            return [(*one[:3], one[3][field], always or one[4]) for one in about if one[3].get(field) is not None]

        parts = {"stages": {stage for one in part("stages") for stage in one[3]}}
        if part("action"):
            parts["action"] = strictest(["block", "mask", "log", "off"], part("action"))
        if part("threshold"):
            parts["threshold"] = strictest(min, part("threshold"))
        if part("config"):
            parts["config"] = nearest(part("config", always=False))
        found[name] = parts
    return found


def limits(said):
    """Every entry on its merge key: the lowest that counts; weaker modes above a stronger one on their counter go."""
    strength = ["shadow", "soft", "hard"]
    by_key = {}
    for layer, priority, id, entries, locked in said:
        for entry in entries:
            per, models = entry.get("per", "scope"), entry.get("models")
            owner = f"scope:{layer}" if per == "scope" else f"per:{per}"
            counter = (owner, models and frozenset(name.lower() for name in models))
            word = (layer, priority, id, Decimal(entry["limit"]), locked)
            by_key.setdefault((counter, entry.get("mode", "hard")), []).append(word)
    lowest = {name: min(one[3] for one in counting(about)) for name, about in by_key.items()}
    return {
        (counter, mode): amount
        for (counter, mode), amount in lowest.items()
        if not any(
            other == counter and strength.index(above) > strength.index(mode) and other_amount <= amount
            for (other, above), other_amount in lowest.items()
        )
    }


def oracle(rows, policy_type):
    found = {}
    for name, rule in RULES[policy_type].items():
        locks = (lambda r, n=name: n in r.final) if is_preference(rule) else (lambda r, n=name: n not in r.overridable)
        said = words(rows, name, locks)
        if not said:
            continue
        by_name = {"intersect": layers, "nearest": nearest, "keyed": keyed, "guardrails": guardrails, "limits": limits}
        if rule == "union":
            found[name] = {key(entry) for one in said for entry in one[3]}
        else:
            found[name] = by_name[rule](said) if isinstance(rule, str) else strictest(rule, said)
    if "default_max_output_tokens" in found and "max_output_tokens" in found:
        found["default_max_output_tokens"] = min(found["default_max_output_tokens"], found["max_output_tokens"])
    if found.get("zero_retention"):
        found |= {"max_days": 0, "log_bodies": False}
    if "max_days" in found and "min_days" in found:
        found["max_days"] = max(found["max_days"], found["min_days"])
    return found


def merged(rows, policy_type):
    """What was merged, in the oracle's form."""
    found = dict(merge(rows).values.get(policy_type, {}))
    for name, rule in RULES[policy_type].items():
        if name not in found:
            continue
        if rule == "intersect":
            found[name] = [{key(entry) for entry in one} for one in found[name]]
        elif rule == "union":
            found[name] = {key(entry) for entry in found[name]}
        elif rule == "guardrails":
            found[name] = {n: {**parts, "stages": {*parts["stages"]}} for n, parts in found[name].items()}
        elif rule == "limits":
            listed = [(_counter(entry), Decimal(entry["limit"])) for entry in found[name]]
            assert len(dict(listed)) == len(listed)
            found[name] = dict(listed)
    return found


def _counter(entry):
    models = entry.get("models")
    return (entry["bucket"], models and frozenset(name.lower() for name in models)), entry.get("mode", "hard")


def test_the_rules_are_of_every_field_there_is():
    assert {name: {*fields} for name, fields in RULES.items()} == {name: {*fields} for name, fields in FIELDS.items()}


@every_type
@settings(max_examples=100)
@given(data=st.data())
def test_every_type_agrees_with_the_oracle(policy_type, data):
    rows = data.draw(rows_of(policy_type))
    assert not [fault for one in rows for fault in problems(SCHEMAS[policy_type], dict(one.config))]

    assert merged(rows, policy_type) == oracle(rows, policy_type)


@every_type
@given(data=st.data(), chance=st.randoms(use_true_random=False))
def test_the_order_of_rows_means_nothing(policy_type, data, chance):
    rows = data.draw(rows_of(policy_type))

    assert merge(chance.sample(rows, len(rows))) == merge(rows)


@every_type
@given(data=st.data())
def test_other_types_mean_nothing(policy_type, data):
    rows = data.draw(rows_of(policy_type))
    other = data.draw(st.sampled_from([name for name in RULES if name != policy_type]).flatmap(rows_of))
    others = [Row(one.id, one.layer, one.priority, one.policy_type, one.config) for one in other]

    assert merge([*rows, *others]).values.get(policy_type) == merge(rows).values.get(policy_type)


@every_type
@given(data=st.data())
def test_merging_what_was_merged_again_changes_nothing(policy_type, data):
    """As if every policy had been written twice: the second time under a later id."""
    rows = data.draw(rows_of(policy_type))
    again = [
        row(
            r.id.int + 100,
            r.layer,
            policy_type,
            r.config,
            priority=r.priority,
            overridable=r.overridable,
            final=r.final,
        )
        for r in rows
    ]

    assert merged([*rows, *again], policy_type) == merged(rows, policy_type)


# A further policy never widens, where nobody opened anything.


def no_wider(policy_type, before, after):
    """Whether everything that `after` lets pass, `before` let pass too; preferences let nothing pass."""
    return all(
        _no_wider(RULES[policy_type][name], was, after[name])
        for name, was in before.items()
        if not is_preference(RULES[policy_type][name])
    )


def _no_wider(rule, was, now):
    if rule == "union":
        return was <= now
    if rule == "intersect":
        return all(any(one <= other for one in now) for other in was)
    if rule == "limits":
        hard = {counter: amount for (counter, mode), amount in was.items() if mode == "hard"}
        return all(now[counter, "hard"] <= amount for counter, amount in hard.items())
    if rule == "guardrails":
        return all(
            parts["stages"] <= now[name]["stages"]
            and _no_wider(["block", "mask", "log", "off"], parts.get("action", "off"), now[name].get("action", "off"))
            and now[name].get("threshold", 1) <= parts.get("threshold", 1)
            for name, parts in was.items()
        )
    if callable(rule):
        return rule(was, now) == now
    return rule.index(now) <= rule.index(was)


@every_type
@settings(max_examples=60)
@given(data=st.data())
def test_a_policy_of_a_new_layer_never_widens(policy_type, data):
    rows = data.draw(rows_of(policy_type, opened=False))
    new = data.draw(rows_of(policy_type, opened=False, most=1))
    nearer = [row(500, NEW_LAYER, policy_type, one.config) for one in new]
    before, after = merged(rows, policy_type), merged([*rows, *nearer], policy_type)

    if policy_type == "retention":  # a legal hold beats deletion: what has to be kept is no permission
        before.pop("max_days", None)
    assert no_wider(policy_type, before, after)


@pytest.mark.parametrize("policy_type", ["model_access", "storage_access"])
@given(data=st.data())
def test_a_further_deny_never_widens(policy_type, data):
    rows = data.draw(rows_of(policy_type))
    layer, deny = data.draw(st.sampled_from(LAYERS)), data.draw(CONFIGS[policy_type]["deny"])
    denying = row(500, layer, policy_type, {"deny": deny}, overridable=["deny"])

    before, after = merged(rows, policy_type), merged([*rows, denying], policy_type)

    assert after.get("allow") == before.get("allow")
    assert before.get("deny", set()) | {key(entry) for entry in deny} == after["deny"]
