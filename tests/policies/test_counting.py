from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from types import SimpleNamespace
from uuid import UUID

import pytest

from policies.allowances import limits_of
from policies.counting import Amounts, counters
from policies.errors import PolicyError
from policies.merging import merge
from tests.policies.rows import ids, row

AT = datetime(2026, 3, 10, 12, 34, 56, tzinfo=UTC)
APP, BRANCH, USER, KEY = ids(11, 12, 13, 14)
CALL = Amounts(input_tokens=900, output_tokens=100, cost=Decimal("0.5"))


def effective(*rows, zone="UTC", **scope):
    """What merging the rows comes to for a request; rows as tests.policies.rows.row makes them."""
    nobody = dict.fromkeys(("app_id", "branch_id", "user_id", "key_id"))
    limits = limits_of(merge(rows))
    return SimpleNamespace(
        scope=SimpleNamespace(tenant_id=UUID(int=1), **{**nobody, **scope}),
        time_zone=zone,
        policies={one.id: SimpleNamespace(row=one) for one in rows},
        limits=lambda model: tuple(limit for limit in limits if limit.meets(model)),
    )


def rate(number=1, layer=1, **entry):
    return row(number, layer, "rate_limit", {"limits": [{"metric": "requests", "window": "1m", "limit": 10, **entry}]})


def budget(number=1, layer=1, **entry):
    return row(number, layer, "budget", {"limits": [{"window": "month", "limit": "10.00", **entry}]})


def one(*rows, model="openai/gpt-4o", amounts=CALL, at=AT, **asked):
    [found] = counters(effective(*rows, **asked), model, amounts, at)
    return found


@pytest.mark.parametrize(
    ("metric", "window", "amount"),
    [
        ("requests", "1s", 1),
        ("input_tokens", "10s", 900),
        ("output_tokens", "1m", 100),
        ("total_tokens", "1h", 1000),
        ("concurrent", "none", 1),
    ],
)
def test_a_rate_limit_counts_its_metric(metric, window, amount):
    found = one(rate(metric=metric, window=window))

    assert (found.kind, found.metric, found.amount, found.hard) == ("rate", metric, amount, 10)


def test_a_budget_counts_us_dollars():
    found = one(budget())

    assert (found.kind, found.metric, found.amount, found.hard) == ("budget", "cost", Decimal("0.5"), Decimal(10))
    assert (found.label, found.ends_at) == ("2026-03-01", datetime(2026, 4, 1, tzinfo=UTC))


def test_the_owner_is_the_scope_of_the_policys_layer():
    found = one(rate(layer=11), app_id=APP, user_id=USER, key_id=KEY)

    assert (found.owner_kind, found.owner) == ("scope:11", (APP, None, USER, None))
    assert found.owner_id == f"app:{APP},user:{USER}"
    assert one(rate()).owner_id == "organization"


def test_the_owner_is_the_requests_own_one_or_one_that_all_without_share():
    assert one(rate(per="user"), app_id=APP, user_id=USER).owner_id == f"user:{USER}"
    assert one(rate(per="user"), app_id=APP).owner_id == "none"


def test_the_key_holds_everything_but_the_limit():
    first, edited = one(budget(models=["gpt-4*", "B/*"])), one(budget(models=["b/*", "GPT-4*"], limit="99"))

    assert first.key == edited.key
    assert first.key.startswith("budget|scope:1|organization|cost|month|1|")
    assert first.key.endswith("|2026-03-01")


def test_another_owner_window_anchor_metric_or_model_list_is_another_counter():
    keys = {
        one(limit, user_id=USER).key
        for limit in (
            budget(), budget(window="week"), budget(anchor=2), budget(per="user"), budget(models=["*"]),
            budget(models=["gpt*"]), rate(), rate(metric="input_tokens"), rate(window="1s"), rate(per="app"),
        )
    }  # fmt: skip

    assert len(keys) == 10


def test_a_changed_zone_does_not_empty_a_month():
    assert one(budget(), zone="UTC").key == one(budget(), zone="Asia/Tokyo").key


def test_entries_of_one_counter_are_its_thresholds():
    found = one(budget(1, limit="80.00", mode="soft"), budget(2, limit="100.00", alert_at=[0.5, 0.9]))

    assert found.hard == 100
    assert {(each.mode, each.limit, each.policy_id.int, each.alert_at) for each in found.thresholds} == {
        ("soft", Decimal(80), 1, ()),
        ("hard", Decimal(100), 2, (Decimal("0.5"), Decimal("0.9"))),
    }
    assert found.shown.mode == "hard"


def test_a_counter_without_a_hard_limit_refuses_nothing():
    found = one(budget(mode="shadow"))

    assert found.hard is None
    assert found.shown.mode == "shadow"


def test_a_limit_with_models_counts_only_calls_that_a_pattern_names():
    limit = rate(models=["openai/gpt-4*", "claude*"])

    assert one(limit, model="openai/gpt-4o").models == ("claude*", "openai/gpt-4*")
    assert one(limit, model="anthropic/claude-opus").amount == 1
    assert counters(effective(limit), "openai/o3", CALL, AT) == ()


def test_counters_come_sorted_by_key():
    found = counters(effective(rate(1), budget(2), rate(3, 3, per="user"), app_id=APP), "openai/o3", CALL, AT)

    assert [each.key for each in found] == sorted(each.key for each in found)
    assert len(found) == 3


def test_what_is_not_known_is_refused_under_a_hard_limit_and_counted_as_nothing_else():
    unpriced = Amounts(input_tokens=900)

    with pytest.raises(PolicyError) as refused:
        one(budget(), amounts=unpriced)

    assert refused.value.code == "amount_unknown"
    assert one(budget(mode="soft"), amounts=unpriced).amount == 0
    assert Amounts(input_tokens=1).total_tokens is None


@pytest.mark.parametrize(
    "given",
    [
        {"cost": Decimal("-1")}, {"cost": Decimal("NaN")}, {"cost": Decimal("sNaN")}, {"cost": Decimal("Infinity")},
        {"cost": 5}, {"cost": 0.1}, {"cost": "1"}, {"cost": Decimal(10**15 + 1)}, {"input_tokens": -1}, {"requests": -1},
        {"requests": 1.5}, {"requests": True}, {"total_tokens": float("nan")}, {"output_tokens": "5"}, {"input_tokens": []},
        {"concurrent": Decimal("sNaN")}, {"concurrent": None, "total_tokens": 2**70},
    ],
)  # fmt: skip
def test_an_amount_is_a_number_of_at_least_0_that_a_counter_holds(given):
    with pytest.raises(PolicyError) as refused:
        Amounts(**given)

    assert refused.value.code == "amount_invalid"
