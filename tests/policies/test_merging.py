from __future__ import annotations

from decimal import Decimal
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policies.deciding import ModelAsked, judge_model
from policies.merging import joined, merge
from policies.operators import Row
from tests.policies.rows import ids, row

MODELS = ["openai/gpt-4o", "openai/o1", "anthropic/opus", "bedrock/eu/opus"]
LAYERS = [1, 3, 7, 9, 11, 31]


# An independent oracle: the rules of one field, asked about one model, without any merging.


def plainly_named(pattern: str, model: str) -> bool:
    """The handful of patterns below, by cases."""
    name = model.partition("/")[2]
    return {
        "*": True,
        "openai/*": model.startswith("openai/"),
        "opus": name == "opus",
        "*opus": name.endswith("opus"),
        "gpt-4o": name == "gpt-4o",
        "o1": name == "o1",
    }[pattern]


PATTERNS = ["*", "openai/*", "opus", "*opus", "gpt-4o", "o1"]


def plainly_allowed(rows: list[Row], model: str) -> bool:
    """Denied by anyone: no. Else each layer that still counts must have somebody who names the model."""
    if any(plainly_named(p, model) for r in rows for p in r.config.get("deny") or []):
        return False
    speakers = [r for r in rows if r.config.get("allow") is not None]
    for layer in {r.layer for r in speakers}:
        nearer = any(r.layer > layer for r in speakers)
        counting = [r for r in speakers if r.layer == layer and ("allow" not in r.overridable or not nearer)]
        if counting and not any(plainly_named(p, model) for r in counting for p in r.config["allow"]):
            return False
    return True


lists = st.none() | st.lists(st.sampled_from(PATTERNS), max_size=3, unique=True)


@st.composite
def access_rows(draw, minimum: int = 0):
    count = draw(st.integers(minimum, 6))
    return [
        row(
            number + 1,
            draw(st.sampled_from(LAYERS)),
            "model_access",
            {"allow": draw(lists), "deny": draw(lists)},
            overridable=draw(st.sampled_from([(), ("allow",)])),
            priority=draw(st.integers(-1, 1)),
        )
        for number in range(count)
    ]


def allowed(rows: list[Row], model: str) -> bool:
    return judge_model(merge(rows), ModelAsked(model, model, model.partition("/")[0])).allow


@settings(max_examples=400, deadline=None)
@given(access_rows())
def test_model_access_agrees_with_brute_force(rows):
    assert {model: allowed(rows, model) for model in MODELS} == {m: plainly_allowed(rows, m) for m in MODELS}


@given(access_rows(), st.randoms(use_true_random=False))
def test_the_order_of_rows_means_nothing(rows, chance):
    shuffled = chance.sample(rows, len(rows))

    assert merge(shuffled) == merge(rows)


def test_types_can_be_merged_one_by_one():
    rows = [
        row(1, 1, "token_caps", {"max_output_tokens": 5, "default_max_output_tokens": 9}),
        row(2, 3, "retention", {"min_days": 9, "max_days": 5}),
        row(3, 1, "model_access", {"allow": ["*"]}),
        row(4, 3, "model_access", {"allow": ["o1"], "deny": ["opus"]}),
        row(5, 3, "token_caps", {"max_output_tokens": 4}),
    ]
    types = {one.policy_type for one in rows}

    assert joined(merge(one for one in rows if one.policy_type == each) for each in types) == merge(rows)


@given(access_rows(), access_rows(minimum=1))
def test_a_further_deny_never_widens(rows, more):
    denying = [row(100 + n, one.layer, "model_access", {"deny": one.config["deny"]}) for n, one in enumerate(more)]

    assert all(allowed(rows, model) for model in MODELS if allowed(rows + denying, model))


@given(access_rows(), lists, st.sampled_from(["*", "gpt-4o"]))
def test_a_locked_policy_in_a_new_layer_never_widens(rows, allow, pattern):
    locked = [row(r.id.int, r.layer, "model_access", dict(r.config)) for r in rows]
    nearer = [*locked, row(99, 25, "model_access", {"allow": [*(allow or []), pattern]})]

    assert all(allowed(locked, model) for model in MODELS if allowed(nearer, model))


@given(access_rows())
def test_saying_it_twice_changes_nothing(rows):
    again = [Row(UUID(int=r.id.int + 1000), r.layer, r.priority, r.policy_type, r.config, r.overridable) for r in rows]

    assert {m: allowed([*rows, *again], m) for m in MODELS} == {m: allowed(rows, m) for m in MODELS}


@given(access_rows())
def test_every_source_said_something_and_nobody_is_lost(rows):
    merged = merge(rows)

    for name in ("allow", "deny"):
        leaf = merged.provenance.get("model_access", {}).get(name, {"from": [], "shadowed": []})
        spoke = {one.id for one in rows if one.config[name] is not None}
        assert {*leaf["from"]} | {*leaf["shadowed"]} == spoke
        assert not {*leaf["from"]} & {*leaf["shadowed"]}


caps = st.sampled_from([None, 0, 1, 2, 3])


@settings(max_examples=300)
@given(st.lists(st.tuples(st.sampled_from(LAYERS), caps, st.booleans()), max_size=6))
def test_the_strictest_cap_is_the_lowest_that_still_counts(said):
    rows = [
        row(n, layer, "token_caps", {"max_output_tokens": cap}, overridable=("max_output_tokens",) if opened else ())
        for n, (layer, cap, opened) in enumerate(said)
    ]
    spoke = [(layer, cap, opened) for layer, cap, opened in said if cap is not None]
    counting = [cap for layer, cap, opened in spoke if not opened or not any(other > layer for other, _, _ in spoke)]

    assert merge(rows).values.get("token_caps", {}).get("max_output_tokens") == min(counting, default=None)


limits = st.lists(
    st.tuples(st.sampled_from(["scope", "user"]), st.sampled_from(["shadow", "soft", "hard"]), st.integers(0, 4)),
    max_size=3,
)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(LAYERS), limits, st.booleans()), max_size=4))
def test_what_hard_limits_enforce_agrees_with_brute_force(said):
    rows = [
        row(
            n,
            layer,
            "budget",
            {
                "limits": [
                    {"window": "day", "per": per, "mode": mode, "limit": str(limit)} for per, mode, limit in entries
                ]
            },
            overridable=("limits",) if opened else (),
        )
        for n, (layer, entries, opened) in enumerate(said)
    ]
    hard = [
        (f"scope:{layer}" if per == "scope" else "per:user", layer, limit, opened)
        for layer, entries, opened in said
        for per, mode, limit in entries
        if mode == "hard"
    ]
    counting = [
        (owner, limit)
        for owner, layer, limit, opened in hard
        if not opened or not any(o == owner and other > layer for o, other, _, _ in hard)
    ]

    got = merge(rows).values.get("budget", {}).get("limits", [])

    enforced = {entry["bucket"]: int(entry["limit"]) for entry in got if entry["mode"] == "hard"}
    assert enforced == {owner: min(limit for o, limit in counting if o == owner) for owner, _ in counting}


# One rule each.


def test_a_policy_without_a_word_leaves_no_trace():
    merged = merge([row(1, 1, "model_access", {"allow": None}), row(2, 1, "budget", {})])

    assert merged.values == merged.provenance == {}


def test_an_empty_list_admits_nothing_unless_its_layer_has_another():
    nothing = row(1, 1, "model_access", {"allow": []})
    something = row(2, 1, "model_access", {"allow": ["gpt-4o"]})

    assert merge([nothing]).values == {"model_access": {"allow": [[]]}}
    assert merge([nothing, something]).values == {"model_access": {"allow": [["gpt-4o"]]}}


def test_overridable_means_nothing_for_a_deny():
    merged = merge(
        [row(1, 1, "model_access", {"deny": ["o1"]}, overridable=["deny"]), row(2, 3, "model_access", {"deny": []})]
    )

    assert merged.values["model_access"]["deny"] == ["o1"]


def test_a_final_preference_of_the_widest_layer_wins_by_priority_then_id():
    said = [
        (1, 1, 0, ["strategy"]),
        (2, 1, 5, ["strategy"]),
        (3, 1, 5, ["strategy"]),
        (4, 3, 9, ["strategy"]),
        (5, 1, 9, []),
    ]
    strategies = ["priority", "fallback", "weighted", "least_cost", "least_latency"]
    rows = [
        row(n, layer, "routing", {"strategy": strategies[n - 1]}, priority=priority, final=final)
        for n, layer, priority, final in said
    ]

    leaf = merge(rows).provenance["routing"]["strategy"]

    assert leaf == {"op": "NEAREST", "from": ids(2), "shadowed": ids(4, 5, 3, 1), "why": "final"}


def test_a_list_of_targets_is_one_value():
    rows = [row(1, 1, "routing", {"targets": ["a/b", "a/c"]}), row(2, 3, "routing", {"targets": ["a/d"]})]

    assert merge(rows).values["routing"]["targets"] == ["a/d"]


def test_a_final_alias_is_locked_key_by_key():
    rows = [
        row(1, 1, "routing", {"aliases": {"smart": "a/b"}}, final=["aliases"]),
        row(2, 3, "routing", {"aliases": {"smart": "a/c", "fast": "a/d"}}),
    ]

    merged = merge(rows)

    assert merged.values["routing"]["aliases"] == {"smart": "a/b", "fast": "a/d"}
    assert merged.provenance["routing"]["aliases"]["smart"]["from"] == ids(1)


@pytest.mark.parametrize(("opened", "config"), [((), {"v": 1}), (("guardrails",), {"v": 2})])
def test_opening_guardrails_opens_their_config_alone(opened, config):
    def pii(**fields):
        return {"guardrails": {"pii": {"stages": ["input"], **fields}}}

    rows = [
        row(1, 1, "guardrail", pii(action="block", threshold=0.2, config={"v": 1}), overridable=opened),
        row(2, 3, "guardrail", pii(action="log", threshold=0.9, config={"v": 2})),
    ]

    # The nearer config is locked too, so it stands once the wider one was opened.
    assert merge(rows).values["guardrail"]["guardrails"]["pii"] == {
        "action": "block",
        "threshold": 0.2,
        "stages": ["input"],
        "config": config,
    }


@pytest.mark.parametrize(
    ("field", "strict", "loose"),
    [("log_bodies", False, True), ("redact_pii", True, False), ("zero_retention", True, False)],
)
def test_the_strict_word_of_a_switch_wins(field, strict, loose):
    rows = [row(1, 1, "retention", {field: strict}), row(2, 9, "retention", {field: loose}, priority=9)]

    assert merge(rows).values["retention"][field] is strict


def test_closed_and_reject_are_the_strict_words():
    rows = [
        row(1, 1, "guardrail", {"fail_mode": "closed"}),
        row(2, 9, "guardrail", {"fail_mode": "open"}),
        row(3, 1, "token_caps", {"on_exceed": "reject"}),
        row(4, 9, "token_caps", {"on_exceed": "clamp"}),
    ]

    assert merge(rows).values == {"guardrail": {"fail_mode": "closed"}, "token_caps": {"on_exceed": "reject"}}


def test_a_default_above_the_cap_is_lowered_to_it_and_owed_to_it():
    rows = [
        row(1, 1, "token_caps", {"max_output_tokens": 100}),
        row(2, 9, "token_caps", {"default_max_output_tokens": 200}),
    ]

    merged = merge(rows)

    assert merged.values["token_caps"]["default_max_output_tokens"] == 100
    assert merged.provenance["token_caps"]["default_max_output_tokens"] == {
        "op": "NEAREST",
        "from": ids(1),
        "shadowed": ids(2),
        "why": "max_output_tokens",
    }


def test_zero_retention_keeps_nothing_and_logs_nothing():
    merged = merge(
        [row(1, 1, "retention", {"max_days": 90, "log_bodies": True}), row(2, 3, "retention", {"zero_retention": True})]
    )

    assert merged.values["retention"] == {"max_days": 0, "log_bodies": False, "zero_retention": True}
    assert merged.provenance["retention"]["max_days"]["from"] == ids(2)


def test_a_legal_hold_beats_deletion_and_is_reported():
    merged = merge([row(1, 1, "retention", {"zero_retention": True}), row(2, 3, "retention", {"min_days": 30})])

    assert merged.values["retention"]["max_days"] == 30
    assert merged.conflicts == ("retention_floor_exceeds_ceiling",)


def test_a_weaker_mode_goes_when_a_stronger_one_is_no_higher():
    def limits(*pairs):
        return {"limits": [{"window": "month", "limit": limit, "mode": mode} for mode, limit in pairs]}

    merged = merge([row(1, 1, "budget", limits(("soft", "100"), ("hard", "80.00"), ("shadow", "79")))])

    kept = [(entry["mode"], Decimal(entry["limit"])) for entry in merged.values["budget"]["limits"]]
    assert kept == [("hard", 80), ("shadow", 79)]


def test_limits_on_other_models_are_other_counters_and_case_is_none():
    def limits(limit, **fields):
        return {"limits": [{"metric": "requests", "window": "1m", "per": "app", "limit": limit, **fields}]}

    rows = [
        row(1, 1, "rate_limit", limits(1)),
        row(2, 1, "rate_limit", limits(2, models=["*"])),
        row(3, 1, "rate_limit", limits(3, models=["GPT-4o", "o1"])),
        row(4, 1, "rate_limit", limits(4, models=["o1", "gpt-4o"])),
    ]

    merged = merge(rows)

    assert [entry["limit"] for entry in merged.values["rate_limit"]["limits"]] == [1, 2, 3]
    assert merged.provenance["rate_limit"]["limits"][2] == {"op": "ALL_APPLY", "from": ids(3), "shadowed": ids(4)}


def test_an_opened_limit_is_replaced_by_its_own_kind_alone():
    def limits(*modes):
        return {"limits": [{"window": "day", "per": "user", "limit": "5", "mode": mode} for mode in modes]}

    opened = row(1, 1, "budget", limits("hard"), overridable=["limits"])

    assert len(merge([opened, row(2, 9, "budget", limits("shadow"))]).values["budget"]["limits"]) == 1
    assert merge([opened, row(2, 9, "budget", {"limits": []})]).values["budget"]["limits"][0]["limit"] == "5"
