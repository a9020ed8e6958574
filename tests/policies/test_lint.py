from __future__ import annotations

import json
import random
import re
from datetime import UTC, datetime, timedelta
from itertools import product
from pathlib import Path
from uuid import UUID

import pytest
from django.core.exceptions import ValidationError
from django.db import connection
from django.db.models import QuerySet
from django.test.utils import CaptureQueriesContext

from catalog.models import AIModel, ModelAlias
from policies.changes import Change, Shelf, as_stored
from policies.deciding import ModelAsked, judge_model
from policies.errors import PolicyError
from policies.lint import CODES, lint
from policies.lint.ground import Catalogue, together
from policies.lint.merged import Access
from policies.merging import FIELDS, merge
from policies.models import Policy
from policies.patterns import names_model
from tenants.scope import tenant_scope
from tests.policies.rows import row
from tests.policies.world import make_models

NOW = datetime(2026, 3, 10, 12, tzinfo=UTC)  # a Tuesday
MODELS = ("openai/gpt-4", "openai/gpt-4-turbo", "openai/gpt-4o", "anthropic/claude-opus-4", "bedrock/eu/claude-3")
BERLIN_SUNDAYS = {"tz": "Europe/Berlin", "days": ["sun"], "start": "09:00", "end": "17:00"}
MONTHLY = {"window": "month", "limit": "50"}
DAY = timedelta(days=1)


@pytest.fixture(autouse=True)
def models(db):
    make_models(*MODELS)


def found(world, code, **options):
    assert code in CODES
    return [finding for finding in lint(world.tenant, at=NOW, **options) if finding.code == code]


def broken(w):
    policy = w.policy("token_caps", {"max_output_tokens": 5})
    QuerySet(Policy).filter(pk=policy.pk).update(config={"max_output_tokens": "5"})


def gone(w, model):
    w.policy("routing", {"aliases": {"smart": model}})
    AIModel.objects.filter(name=model.partition("/")[2]).delete()


def two_preferences(w, **second):
    w.policy("routing", {"strategy": "weighted"})
    w.policy("routing", {"strategy": second.pop("strategy", "priority")}, **second)


def alias_of_catalog(w):
    ModelAlias.objects.create(alias="fast", model=AIModel.objects.get(name="gpt-4o"), tenant=w.tenant)


FIRES = {
    "stored_invalid": broken,
    "retention_floor_exceeds_ceiling": lambda w: (
        w.policy("retention", {"min_days": 31}),
        w.policy("retention", {"max_days": 30}, app=w.app()),
    ),
    "empty_effective_allow": lambda w: (
        w.policy(config={"allow": ["claude*"]}),
        w.policy(config={"allow": ["gpt-4o"]}, app=w.app()),
    ),
    "alias_target_gone": lambda w: gone(w, "openai/gpt-4o"),
    "schedule_never_active": lambda w: w.policy(
        config={"deny": ["*"]}, schedule=BERLIN_SUNDAYS, valid_from=NOW, valid_until=NOW + 2 * DAY
    ),
    "dead_allow": lambda w: w.policy(config={"allow": ["gpt-4o", "gpt-5*"]}),
    "glob_overreach": lambda w: w.policy(config={"allow": ["gpt-4*"]}),
    "storage_prefix_boundary": lambda w: w.policy(
        "storage_access", {"allow": [{"uri": "s3://files/team*", "modes": ["read"]}]}
    ),
    "shadowed_value": lambda w: (
        w.policy("token_caps", {"max_output_tokens": 100}),
        w.policy("token_caps", {"max_output_tokens": 200}, app=w.app()),
    ),
    "dead_under_final": lambda w: (
        w.policy("routing", {"strategy": "weighted"}, final=["strategy"]),
        w.policy("routing", {"strategy": "priority"}, app=w.app()),
    ),
    "priority_tie": two_preferences,
    "duplicate_limit": lambda w: (w.policy("budget", {"limits": [MONTHLY, {**MONTHLY, "limit": "60"}]}),),
    "counter_shared": lambda w: w.policy("budget", {"limits": [{**MONTHLY, "per": "user"}]}, app=w.app()),
    "allow_names_alias": lambda w: (alias_of_catalog(w), w.policy(config={"allow": ["Fast", "gpt-4o"]})),
    "alias_shadows_model": lambda w: w.policy("routing", {"aliases": {"gpt-4": "openai/gpt-4o"}}),
    "override_without_effect": lambda w: w.policy(config={"deny": ["x"]}, overridable=["allow"]),
    "too_many_applicable": lambda w: Policy.objects.bulk_create(
        Policy(tenant=w.tenant, policy_type="token_caps", config={"max_input_tokens": 9}) for _ in range(201)
    ),
    "child_budget_exceeds_parent": lambda w: (
        w.policy("budget", {"limits": [MONTHLY]}),
        w.policy("budget", {"limits": [{**MONTHLY, "limit": "50.01"}]}, app=w.app()),
    ),
    "validity_gap": lambda w: (
        w.policy("budget", {"limits": [MONTHLY]}, valid_until=NOW + DAY),
        w.policy("budget", {"limits": [MONTHLY]}, valid_from=NOW + 2 * DAY),
    ),
    "validity_overlap": lambda w: (
        w.policy("budget", {"limits": [MONTHLY]}, valid_until=NOW + 2 * DAY),
        w.policy("budget", {"limits": [MONTHLY]}, valid_from=NOW + DAY),
    ),
    "empty_config": lambda w: w.policy("routing", {"strategy": None}),
    "disabled": lambda w: w.policy(config={"deny": ["x"]}, enabled=False),
}

SILENT = {
    "stored_invalid": lambda w: w.policy("token_caps", {"max_output_tokens": 5}),
    "retention_floor_exceeds_ceiling": lambda w: (
        w.policy("retention", {"min_days": 30}),
        w.policy("retention", {"max_days": 30}, app=w.app()),
    ),
    "empty_effective_allow": lambda w: (
        w.policy(config={"allow": []}, overridable=["allow"]),
        w.policy(config={"allow": ["gpt-4o"]}, app=w.app()),
        w.policy(config={"allow": []}, user=w.user()),
    ),
    "alias_target_gone": lambda w: w.policy("routing", {"aliases": {"smart": "openai/gpt-4o"}}),
    "schedule_never_active": lambda w: w.policy(
        config={"deny": ["*"]}, schedule=BERLIN_SUNDAYS, valid_from=NOW, valid_until=NOW + 5 * DAY
    ),
    "dead_allow": lambda w: w.policy(config={"allow": ["gpt-4o", "gpt-?"], "deny": ["gpt-5"]}),
    "glob_overreach": lambda w: w.policy(config={"allow": ["gpt-4o*", "gpt-4-*", "claude*", "*"]}),
    "storage_prefix_boundary": lambda w: w.policy(
        "storage_access", {"allow": [{"uri": "s3://files/team/*", "modes": ["read"]}]}
    ),
    "shadowed_value": lambda w: (
        w.policy("token_caps", {"max_output_tokens": 100}, overridable=["max_output_tokens"]),
        w.policy("token_caps", {"max_output_tokens": 200}, app=w.app()),
        w.policy("token_caps", {"max_output_tokens": 50}, user=w.user()),
    ),
    "dead_under_final": lambda w: (
        w.policy("routing", {"strategy": "weighted"}),
        w.policy("routing", {"strategy": "priority"}, app=w.app()),
    ),
    "priority_tie": lambda w: (two_preferences(w, priority=1), two_preferences(w, app=w.app())),
    "duplicate_limit": lambda w: w.policy("budget", {"limits": [MONTHLY, {**MONTHLY, "mode": "soft", "limit": "40"}]}),
    "counter_shared": lambda w: (
        w.policy("budget", {"limits": [{**MONTHLY, "per": "user"}]}),
        w.policy("budget", {"limits": [MONTHLY]}, app=w.app(), user=w.user()),
        w.policy("budget", {"limits": [{**MONTHLY, "per": "key"}]}, app=w.app()),
    ),
    "allow_names_alias": lambda w: (alias_of_catalog(w), w.policy(config={"allow": ["gpt-4o"], "deny": ["fast"]})),
    "alias_shadows_model": lambda w: w.policy("routing", {"aliases": {"gpt-4": "openai/gpt-4", "gpt": "openai/gpt-4"}}),
    "override_without_effect": lambda w: (
        w.policy(config={"allow": []}, overridable=["allow"]),
        w.policy("budget", {"limits": [{**MONTHLY, "per": "user"}]}, overridable=["limits"]),
    ),
    "too_many_applicable": lambda w: Policy.objects.bulk_create(
        Policy(tenant=w.tenant, policy_type="token_caps", config={"max_input_tokens": 9}) for _ in range(200)
    ),
    "child_budget_exceeds_parent": lambda w: (
        w.policy("budget", {"limits": [MONTHLY]}),
        w.policy("budget", {"limits": [MONTHLY, {**MONTHLY, "window": "day", "limit": "60"}]}, app=w.app()),
    ),
    "validity_gap": lambda w: (
        w.policy("budget", {"limits": [MONTHLY]}, valid_until=NOW + DAY),
        w.policy("budget", {"limits": [MONTHLY]}, valid_from=NOW + DAY),
    ),
    "validity_overlap": lambda w: (
        w.policy("budget", {"limits": [MONTHLY]}, valid_until=NOW + DAY),
        w.policy("budget", {"limits": [MONTHLY]}, valid_from=NOW + DAY),
    ),
    "empty_config": lambda w: w.policy("routing", {"targets": []}),
    "disabled": lambda w: w.policy(config={"deny": ["x"]}, valid_until=NOW),
}


def test_every_code_has_a_case_on_each_side():
    assert list(FIRES) == list(SILENT) == list(CODES)


def test_every_code_is_documented():
    page = (Path(__file__).resolve().parents[2] / "docs" / "policies.md").read_text()

    assert [code for code in CODES if f"`{code}`" not in page] == []


@pytest.mark.parametrize("code", FIRES)
def test_a_finding_is_made(acme, code):
    FIRES[code](acme)

    findings = found(acme, code)

    assert findings
    for finding in findings:
        assert finding.severity == CODES[code]
        assert finding.policies
        assert finding.text.endswith(".")


@pytest.mark.parametrize("code", SILENT)
def test_a_finding_is_just_not_made(acme, code):
    SILENT[code](acme)

    assert found(acme, code) == []


def test_the_gravest_come_first_and_equal_policies_get_equal_findings(acme):
    for code, make in FIRES.items():
        if code != "alias_target_gone":  # it takes a model from under the others
            make(acme)

    findings = lint(acme.tenant, at=NOW)

    assert [finding.code for finding in findings] == sorted((f.code for f in findings), key=[*CODES].index)
    assert findings == lint(acme.tenant, at=NOW)


def test_a_dead_entry_is_one_that_others_refuse_wherever_it_applies(acme):
    acme.policy(config={"deny": ["gpt-4o"]})
    one = acme.policy(config={"allow": ["gpt-4o", "gpt-4"]}, app=acme.app())

    [finding] = found(acme, "dead_allow")

    assert finding.policies == (one.pk,)
    assert "gpt-4o in allow has no effect" in finding.text


def test_a_value_that_counts_at_some_hours_is_not_shadowed(acme):
    acme.policy("token_caps", {"max_output_tokens": 100}, schedule=BERLIN_SUNDAYS)
    acme.policy("token_caps", {"max_output_tokens": 200}, app=acme.app())

    assert found(acme, "shadowed_value") == []


def test_what_is_true_on_sundays_only_is_found_on_a_tuesday(acme):
    acme.policy("retention", {"min_days": 31}, schedule=BERLIN_SUNDAYS)
    acme.policy("retention", {"max_days": 30})

    assert len(found(acme, "retention_floor_exceeds_ceiling")) == 1


def test_what_begins_later_is_looked_at_and_what_has_ended_is_not(acme):
    acme.policy("retention", {"max_days": 30})
    acme.policy("retention", {"min_days": 31}, valid_until=NOW)

    assert found(acme, "retention_floor_exceeds_ceiling") == []
    acme.policy("retention", {"min_days": 31}, valid_from=NOW + 100 * DAY)
    assert len(found(acme, "retention_floor_exceeds_ceiling")) == 1


def test_a_value_that_takes_an_opened_one_away_is_of_use(acme):
    acme.policy("token_caps", {"max_output_tokens": 100})
    acme.policy("token_caps", {"max_output_tokens": 50}, overridable=["max_output_tokens"])
    acme.policy("token_caps", {"max_output_tokens": 200}, app=acme.app())

    assert found(acme, "shadowed_value") == []


def test_a_looser_limit_on_the_same_counter_is_shadowed_and_one_on_its_own_is_not(acme):
    hourly = {"metric": "requests", "window": "1h", "limit": 10, "per": "user"}
    acme.policy("rate_limit", {"limits": [hourly]})
    own = acme.policy("rate_limit", {"limits": [{**hourly, "limit": 20}, {**hourly, "window": "1d"}]}, app=acme.app())

    [finding] = found(acme, "shadowed_value")

    assert finding.policies[0] == own.pk
    assert "requests 1h per:user" in finding.text


def test_an_empty_catalogue_makes_no_entry_dead(acme):
    acme.policy(config={"allow": ["gpt-5"]})
    AIModel.objects.all().delete()

    assert found(acme, "dead_allow") == found(acme, "empty_effective_allow") == []


def test_changes_are_linted_as_if_they_were_made(acme):
    policy = acme.policy(config={"allow": ["gpt-4o"]})
    changes = [
        Change("update", policy.pk, {"config": {"allow": ["gpt-5"]}}),
        Change("create", fields={"policy_type": "routing", "config": {}, "app_id": str(acme.app().pk)}),
    ]

    assert len(found(acme, "dead_allow", changes=changes)) == 1
    assert len(found(acme, "empty_config", changes=changes)) == 1
    assert found(acme, "dead_allow", changes=[Change("delete", policy.pk)]) == []
    assert list(Policy.objects.values_list("config", flat=True)) == [{"allow": ["gpt-4o"]}]


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (Change("create", fields={"policy_type": "budget", "config": {"limits": [{"window": "month"}]}}), "missing"),
        (Change("create", fields={"policy_type": "nothing"}), "invalid_choice"),
        (Change("create", fields={"policy_type": "routing", "layer": 3}), "unknown_field"),
        (Change("create", fields={"policy_type": "routing", "app_id": "chat"}), "invalid"),
        (Change("update", None, {"priority": 1}), "unknown_policy"),
        (Change("raise"), "unknown_op"),
    ],
)
def test_a_change_that_could_not_be_saved_is_refused(acme, change, code):
    with pytest.raises(ValidationError) as caught:
        lint(acme.tenant, [change])

    assert [error.code for errors in caught.value.error_dict.values() for error in errors] == [code]


def test_another_tenants_ids_are_refused(acme, globex):
    theirs = globex.policy(config={"deny": ["gpt-4"]})
    foreign = {"policy_type": "routing", "app_id": globex.app().pk}
    for change in (Change("update", theirs.pk, {"priority": 1}), Change("create", fields=foreign)):
        with pytest.raises(ValidationError):
            lint(acme.tenant, [change])
        with tenant_scope(acme.tenant), pytest.raises(ValidationError):
            lint(acme.tenant, [change])

    with tenant_scope(acme.tenant), pytest.raises(PolicyError) as caught:
        lint(globex.tenant)
    assert caught.value.code == "tenant_mismatch"


def test_the_policies_of_others_are_not_looked_at(acme, globex):
    FIRES["disabled"](globex)

    with tenant_scope(acme.tenant):
        assert lint(acme.tenant) == []


def test_the_number_of_statements_does_not_grow_with_the_policies(acme):
    def statements():
        with CaptureQueriesContext(
            connection,
        ) as queries:
            lint(acme.tenant, at=NOW)
        return len(queries)

    acme.policy(config={"allow": ["gpt-4*"]}, app=acme.app("app-a"))
    before = statements()
    for label in "bcdef":
        acme.policy(config={"allow": ["gpt-4*"]}, app=acme.app(f"app-{label}"), user=acme.user(label))

    assert statements() == before == 4


def random_value(chance):
    number = chance.randrange(3)
    return chance.choice(
        [
            ("token_caps", {"max_output_tokens": number, "default_max_output_tokens": chance.randrange(3)}),
            ("token_caps", {"on_exceed": chance.choice(["clamp", "reject"])}),
            ("routing", {"strategy": chance.choice(["priority", "weighted"]), "timeout_ms": number + 1}),
            ("routing", {"aliases": {"smart": chance.choice(MODELS[:3])}}),
            ("retention", {"max_days": number, "min_days": chance.randrange(2), "zero_retention": number == 2}),
            ("guardrail", {"guardrails": {"pii": {"stages": ["input"], "action": chance.choice(["log", "block"])}}}),
        ]
    )


def without(config, path):
    """The config, less what stands at a path."""
    copied = json.loads(json.dumps(config))
    inside = copied
    for name in path[:-1]:
        inside = inside[name]
    del inside[path[-1]]
    return copied


@pytest.mark.parametrize("seed", range(12))
def test_a_value_that_is_said_to_never_count_can_be_taken_away_everywhere(acme, seed):
    chance = random.Random(seed)  # noqa: S311  the same policies every time
    scopes = [{}, {"app": acme.app()}, {"user": acme.user()}, {"app": acme.app(), "user": acme.user()}]
    for _ in range(12):
        policy_type, config = random_value(chance)
        tight = [name for name in config if FIELDS[policy_type][name].kind == "tight"]
        loose = [name for name in config if FIELDS[policy_type][name].kind == "preference"]
        opened, locked = (names if chance.random() < 0.3 else [] for names in (tight, loose))
        fields = {"overridable": opened, "final": locked, "priority": chance.randrange(2)}
        acme.policy(policy_type, config, **fields, **chance.choice(scopes))
    policies = {policy.pk: policy for policy in Policy.objects.all()}
    asked = [
        [row and row.pk for row in each] for each in product([None, acme.app()], [None], [None, acme.user()], [None])
    ]

    def values():
        shelf = Shelf(policies.values())
        return [merge(one.row for one in shelf.matching(scope)).values for scope in asked]

    before = values()
    for finding in [f for f in lint(acme.tenant) if f.code in ("shadowed_value", "dead_under_final")]:
        path = re.search(r" sets ([a-z_.]+), ", finding.text)[1].split(".")
        policy = policies[finding.policies[0]]
        stated = policy.config
        policy.config = without(stated, path[1:])
        assert values() == before, finding.text
        policy.config = stated


def stored_at_times(chance, number, zones):
    clock = ["00:00", "01:45", "09:00", "12:30", "22:15"]
    bounds = [NOW + hours * timedelta(hours=1) for hours in (-50, 7, 30, 100)]
    window = {"valid_from": chance.choice([None, *bounds[:2]]), "valid_until": chance.choice([None, *bounds[2:]])}
    schedule = {
        "tz": chance.choice(zones),
        "days": chance.sample(["mon", "tue", "wed", "sat", "sun"], 2),
        "start": chance.choice(clock),
        "end": chance.choice(clock),
    }
    fields = window | {"schedule": schedule if chance.random() < 0.7 else None}
    policy = Policy(pk=UUID(int=number + 1), policy_type="model_access", config={}, version=1, **fields)
    return as_stored(policy)


@pytest.mark.parametrize("seed", range(15))
def test_every_set_that_applies_at_some_quarter_of_an_hour_is_looked_at(seed):
    chance = random.Random(seed)  # noqa: S311  the same policies every time
    zones = ["Asia/Kolkata"] if seed % 2 else ["Europe/Berlin", "UTC", "Asia/Kathmandu"]
    policies = [stored_at_times(chance, number, zones) for number in range(4)]

    looked_at = {tuple(one.row.id for one in each) for each in together(policies, NOW)}

    quarters = (NOW + n * timedelta(minutes=15) for n in range(4 * 24 * 28))
    seen = {tuple(one.row.id for one in policies if not one.window.why_not(at)) for at in quarters}
    assert seen <= looked_at
    if len(zones) == 1:  # else others come with the clocks of another season
        assert seen == looked_at


PATTERNS = (
    "*",
    "gpt-4*",
    "GPT-4o",
    "openai/*",
    "*/claude*",
    "claude-?",
    "*o*",
    "bedrock/eu/*",
    "eu/*",
    "g?t-4*",
    "x*",
    "",
)


def test_the_catalogue_names_exactly_what_patterns_name():
    ids = [*MODELS, "openai/GPT-4O-mini", "x/Kelvin-\u212a", "x/k", "a/b/c"]
    catalogue = Catalogue((*one.split("/", 1), one) for one in ids)

    for pattern in [*PATTERNS, "k", "x/k*", "*k"]:
        named = [*catalogue.list(catalogue.named(pattern))]
        assert sorted(named) == sorted(one for one in ids if names_model(pattern, one)), pattern


@pytest.mark.parametrize("seed", range(40))
def test_sets_of_models_are_what_each_model_by_itself_is_decided_to_be(seed):
    chance = random.Random(seed)  # noqa: S311  the same policies every time
    rows = []
    for number in range(1, chance.randrange(2, 7)):
        some = {name: chance.sample(PATTERNS[:-1], chance.randrange(3)) for name in chance.sample(["allow", "deny"], 1)}
        kind, config = ("model_access", some) if chance.random() < 0.7 else ("routing", {"providers": ["openai"]})
        opened = ["allow"] if "allow" in some and kind == "model_access" and chance.random() < 0.3 else []
        rows.append(row(number, chance.choice([1, 3, 9]), kind, config, overridable=opened))
    merged, catalogue = merge(rows), Catalogue((*one.split("/", 1), one) for one in MODELS)

    access = Access.of(_Ground(catalogue), merged)

    allowed = [m for m in MODELS if judge_model(merged, ModelAsked(m, m, m.partition("/")[0])).allow]
    assert sorted(catalogue.list(access.admitted)) == sorted(allowed)


class _Ground:
    """As much of a Ground as models need."""

    def __init__(self, catalogue):
        self.catalogue = catalogue

    def mask(self, layer):
        found = 0
        for pattern in layer.values():
            found |= self.catalogue.named(pattern)
        return found
