from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from uuid import uuid4

import pytest
from django.core.exceptions import ValidationError

from catalog.models import AIModel, ModelAlias
from policies.errors import PolicyError
from policies.history import effective_at_epoch
from policies.lint import lint
from policies.models import Policy
from policies.periods import FIRST, LAST
from policies.simulation import Sample, simulate
from tests.policies.world import make_models

NOON = datetime(2026, 3, 10, 12, tzinfo=UTC)


def new(world, policy_type="model_access", **fields):
    return Policy(tenant=world.tenant, policy_type=policy_type, **fields)


WAYS = {
    "save": lambda policy: policy.save(),
    "bulk_create": lambda policy: Policy.objects.bulk_create([policy]),
    "full_clean": lambda policy: policy.full_clean(),
}


def faults(policy, way="save"):
    """Codes by field of the ValidationError that writing raises; nothing may be stored by then."""
    with pytest.raises(ValidationError) as caught:
        WAYS[way](policy)
    return {name: [error.code for error in errors] for name, errors in caught.value.error_dict.items()}


@pytest.mark.parametrize("name", ["%d", "%(x)s", "100%"])
def test_a_field_with_a_percent_sign_in_its_name_is_told_as_it_is(acme, name):
    with pytest.raises(ValidationError) as caught:
        new(acme, "token_caps", config={name: 1}).save()

    assert caught.value.message_dict["config"] == [
        f"{name}: There is no such field here. Remove it, or correct its name."
    ]


@pytest.mark.parametrize("way", WAYS)
def test_a_config_error_has_its_field_path_and_code_and_nothing_is_stored(acme, way):
    policy = new(acme, "budget", config={"limits": [{"window": "month", "limit": "1e3"}], "x": 1})

    with pytest.raises(ValidationError) as caught:
        WAYS[way](policy)

    errors = caught.value.error_dict["config"]
    assert {(error.params["path"], error.code) for error in errors} == {
        ("limits.0.limit", "string_pattern_mismatch"),
        ("x", "extra_forbidden"),
    }
    assert all(message.startswith(("limits.0.limit: ", "x: ")) for message in caught.value.message_dict["config"])
    assert not Policy.objects.exists()


def test_create_checks_as_save_does(acme):
    with pytest.raises(ValidationError):
        acme.policy(config={"allow": "*"})


def test_one_bad_policy_of_a_batch_stores_none(acme):
    with pytest.raises(ValidationError):
        Policy.objects.bulk_create([new(acme), new(acme, config={"x": 1}), new(acme)])

    assert not Policy.objects.exists()


def test_a_batch_takes_few_statements(acme, django_assert_max_num_queries):
    policies = [new(acme, app=acme.app(), branch=acme.branch(), user=acme.user(), key=acme.key()) for _ in range(50)]

    with django_assert_max_num_queries(7):
        Policy.objects.bulk_create(policies)


@pytest.mark.parametrize(
    ("policy_type", "flags", "field", "code"),
    [
        ("model_access", {"final": ["allow"]}, "final", "final_needs_nearest"),
        ("guardrail", {"final": ["guardrails"]}, "final", "final_needs_nearest"),
        ("model_access", {"overridable": ["deny"]}, "overridable", "overridable_needs_tight"),
        ("routing", {"overridable": ["strategy"]}, "overridable", "overridable_needs_tight"),
        ("routing", {"overridable": ["aliases"]}, "overridable", "overridable_needs_tight"),
        ("routing", {"overridable": ["allow"]}, "overridable", "unknown_field_in_flags"),
        ("budget", {"final": ["limit"]}, "final", "unknown_field_in_flags"),
    ],
)
def test_a_flag_must_fit_the_operator_of_its_field(acme, policy_type, flags, field, code):
    assert faults(new(acme, policy_type, **flags)) == {field: [code]}


@pytest.mark.parametrize(
    ("policy_type", "flags"),
    [
        ("model_access", {"overridable": ["allow"]}),
        ("routing", {"final": ["strategy", "targets", "aliases"], "overridable": ["providers", "timeout_ms"]}),
        ("guardrail", {"overridable": ["guardrails", "fail_mode"]}),
        ("budget", {"overridable": ["limits"]}),
    ],
)
def test_a_fitting_flag_is_taken(acme, policy_type, flags):
    assert acme.policy(policy_type, **flags).version == 1


def test_a_validity_that_is_empty_is_refused(acme):
    assert faults(new(acme, valid_from=NOON, valid_until=NOON)) == {"valid_until": ["validity_empty"]}


@pytest.mark.parametrize(
    ("at", "code"),
    [
        (datetime(2026, 3, 10, 12), "no_instant"),  # noqa: DTZ001  which is the point
        (datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=14))), "time_out_of_range"),
        (datetime(9999, 12, 31, 23, tzinfo=timezone(timedelta(hours=-12))), "time_out_of_range"),
        (datetime(1, 12, 31, tzinfo=UTC), "time_out_of_range"),
        (datetime.max.replace(tzinfo=UTC), "time_out_of_range"),
    ],
)
@pytest.mark.parametrize("name", ["valid_from", "valid_until"])
def test_a_time_that_not_every_zone_can_tell_is_refused(acme, name, at, code):
    assert faults(new(acme, **{name: at})) == {name: [code]}


def test_the_first_and_the_last_time_are_taken_and_asked_about(acme):
    policy = acme.policy(valid_from=FIRST, valid_until=LAST - timedelta(microseconds=1))

    for at in (FIRST, NOON, LAST - timedelta(microseconds=2)):
        assert acme.effective(at=at).applicable == (policy.pk,)


@pytest.mark.parametrize("way", ["save", "bulk_create"])
@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"name": "a\x00b"}, "null_character"), ({"message": "\ud800"}, "null_character"), ({"description": None}, "invalid"),
        ({"final": None}, "invalid"), ({"final": "max"}, "invalid"), ({"overridable": [["x"]]}, "invalid"),
        ({"overridable": {}}, "invalid"), ({"app_id": "x"}, "invalid"), ({"user_id": []}, "invalid"),
        ({"key_id": b"x"}, "invalid"),
    ],
)  # fmt: skip
def test_what_no_column_takes_is_refused_in_words(acme, fields, code, way):
    [name] = fields

    assert faults(new(acme, **fields), way) == {name.removesuffix("_id"): [code]}


@pytest.mark.parametrize("at", [FIRST - timedelta(microseconds=1), LAST, datetime.min.replace(tzinfo=UTC)])
@pytest.mark.parametrize(
    "ask",
    [
        lambda tenant, at: Policy.objects.effective(tenant, at=at),
        lambda tenant, at: Policy.objects.applicable(tenant, at=at),
        lambda tenant, at: effective_at_epoch(tenant, 0, at=at),
        lambda tenant, at: simulate(tenant, [], Sample.of([]), at=at),
        lambda tenant, at: lint(tenant, at=at),
    ],
)
def test_a_time_that_not_every_zone_can_tell_is_not_asked_about(acme, ask, at):
    with pytest.raises(PolicyError) as caught:
        ask(acme.tenant, at)

    assert caught.value.code == "time_out_of_range"


def test_a_schedule_is_checked(acme):
    schedule = {"tz": "Europe/Atlantis", "days": [], "start": "25:00", "end": "06:00"}

    assert faults(new(acme, schedule=schedule)) == {
        "schedule": ["unknown_time_zone", "too_short", "string_pattern_mismatch"]
    }
    assert faults(new(acme, schedule={})) == {"schedule": ["missing"] * 4}


def test_an_unknown_type_is_refused(acme):
    assert faults(new(acme, "models")) == {"policy_type": ["invalid_choice"]}


def test_a_name_that_is_too_long_is_refused(acme):
    assert faults(new(acme, name="x" * 121)) == {"name": ["max_length"]}
    assert faults(new(acme, message="x" * 501), "bulk_create") == {"message": ["max_length"]}


@pytest.mark.parametrize("level", ["app", "branch", "user", "key"])
def test_a_row_of_another_tenant_is_refused(acme, globex, level):
    scope = {level: getattr(globex, level)()}
    if level == "branch":
        scope["app"] = globex.app()

    found = faults(new(acme, **scope))

    assert found[level] == ["tenant_mismatch"]


def test_the_parts_of_a_scope_must_fit(acme):
    other = acme.app("other")

    assert faults(new(acme, branch=acme.branch())) == {"branch": ["branch_needs_app"]}
    assert faults(new(acme, app=other, branch=acme.branch())) == {"branch": ["branch_not_of_app"]}
    assert faults(new(acme, app=other, key=acme.key())) == {"key": ["key_not_of_app"]}
    assert faults(new(acme, key=acme.key("own", user="ada"), user=acme.user("bob"))) == {"user": ["user_not_of_key"]}


def test_a_key_without_a_user_goes_with_any(acme):
    assert acme.policy(key=acme.key(), user=acme.user("bob")).layer == 25


def test_targets_and_aliases_are_models_of_the_catalog_by_canonical_id(acme):
    make_models("openai/gpt-4o")
    ModelAlias.objects.create(alias="openai/smart", model=AIModel.objects.get())
    config = {"targets": ["openai/gpt-4o", "openai/gpt-5"], "aliases": {"a": "openai/smart", "b": "openai/gpt-4o"}}
    policy = new(acme, "routing", config=config)

    assert faults(policy) == {"config": ["unknown_model", "unknown_model"]}
    AIModel.objects.update(enabled=False)
    assert acme.policy("routing", {"targets": ["openai/gpt-4o"]}).pk


def test_the_type_is_fixed_once_created(acme):
    policy = acme.policy()
    policy.policy_type = "budget"

    assert faults(policy) == {"policy_type": ["policy_type_frozen"]}


def test_a_change_must_come_from_the_stored_version_if_it_says_so(acme):
    policy = acme.policy(name="first")
    stale = Policy.objects.get(pk=policy.pk)
    policy.name = "second"
    policy.save(if_version=1)
    stale.name = "third"

    with pytest.raises(ValidationError) as caught:
        stale.save(if_version=1)

    assert [error.code for error in caught.value.error_dict["version"]] == ["stale_version"]
    assert (Policy.objects.get().name, policy.version) == ("second", 2)


@pytest.mark.parametrize("column", ["config", "app", "user_id", "schedule", "policy_type", "tenant", "final"])
def test_update_leaves_what_is_checked_together_to_save(acme, column):
    policy = acme.policy()

    with pytest.raises(ValidationError) as caught:
        Policy.objects.filter(pk=policy.pk).update(**{column: None})

    assert [error.code for error in caught.value.error_dict[column]] == ["use_save"]


def test_update_takes_the_rest(acme):
    policy = acme.policy()

    Policy.objects.filter(pk=policy.pk).update(enabled=False, priority=4, message="No.")

    assert Policy.objects.get().version == 2


def test_update_or_create_and_get_or_create_check_too(acme):
    with pytest.raises(ValidationError):
        Policy.objects.get_or_create(tenant=acme.tenant, name="x", policy_type="budget", config={"limit": 1})
    policy, made = Policy.objects.update_or_create(
        tenant=acme.tenant, name="x", defaults={"policy_type": "budget", "config": {"limits": []}}
    )
    assert made
    assert policy.config == {"limits": []}


@pytest.mark.parametrize("level", ["app", "user", "key"])
def test_an_id_of_nobody_is_refused_as_one_of_another_tenant(acme, globex, level):
    told = []
    for id in (uuid4(), getattr(globex, level)().pk):
        with pytest.raises(ValidationError) as caught:
            new(acme, **{f"{level}_id": id}).save()
        told.append([(error.code, error.messages) for error in caught.value.error_dict[level]])

    assert told[0] == told[1]
    assert told[0][0][0] == "tenant_mismatch"
