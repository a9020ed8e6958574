"""Versions compared, put back, and asked what they came to at a past epoch."""

from __future__ import annotations

import json
import random
from contextlib import suppress
from datetime import UTC, datetime, timedelta

import pytest
from django.core.exceptions import ValidationError
from hypothesis import given
from hypothesis import strategies as st

from catalog.models import AIModel
from policies.errors import PolicyError
from policies.history import ABSENT, diff, effective_at_epoch
from policies.models import Policy, PolicyVersion
from tenants.models import App
from tenants.scope import tenant_scope
from tests.policies.world import make_models
from tests.races import together


def history(policy_id):
    """(version, operation, epoch) of each version of a policy, oldest first."""
    found = PolicyVersion.objects.filter(policy_id=policy_id).order_by("version")
    return [*found.values_list("version", "op", "epoch")]


@pytest.fixture
def policy(acme):
    return acme.policy(config={"allow": ["gpt-*"]}, name="models")


# ---------------------------------------------------------------- differences


@pytest.mark.parametrize(
    ("old", "new", "changes"),
    [
        ({}, {}, []),
        ({"priority": 1}, {"priority": 2}, [("priority", 1, 2)]),
        ({"enabled": True}, {"enabled": 1}, [("enabled", True, 1)]),
        ({"x": 1}, {"x": 1.0}, []),
        ({"x": [1, [True]]}, {"x": [1, [1]]}, [("x", [1, [True]], [1, [1]])]),
        ({"name": "a"}, {}, [("name", "a", ABSENT)]),
        ({"config": {}}, {"config": {"allow": None}}, [("config.allow", ABSENT, None)]),
        ({"config": {"allow": ["a"]}}, {"config": {"allow": ["b", "a"]}}, [("config.allow", ["a"], ["b", "a"])]),
        (
            {"config": {"limits": [{"limit": "5"}]}},
            {"config": {"limits": [{"limit": "6"}, {"limit": "7"}]}},
            [("config.limits.0.limit", "5", "6"), ("config.limits.1", ABSENT, {"limit": "7"})],
        ),
        ({"config": {"limits": [{"limit": "5"}]}}, {"config": {"limits": []}}, [("config.limits.0", {"limit": "5"}, ABSENT)]),
        ({"config": {"aliases": {"a": "b"}}}, {"config": {"aliases": [1]}}, [("config.aliases", {"a": "b"}, [1])]),
        ({"schedule": None}, {"schedule": {"tz": "UTC"}}, [("schedule", None, {"tz": "UTC"})]),
        ({"version": 1, "updated_at": "x", "id": "y"}, {"version": 2, "updated_at": "z", "id": "q"}, []),
    ],
)  # fmt: skip
def test_a_difference_is_told_by_path(old, new, changes):
    assert [(one.path, one.before, one.after) for one in diff(old, new)] == changes


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.sampled_from(["", "a", "b"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=12,
)


@given(st.dictionaries(st.sampled_from("abc"), JSON), st.dictionaries(st.sampled_from("abc"), JSON))
def test_two_bodies_differ_exactly_if_a_difference_is_told_and_backwards_it_is_the_same(one, other):
    def text(value):
        return json.dumps(value, sort_keys=True)

    forth, back = diff(one, other), diff(other, one)

    assert (forth == []) == (text(one) == text(other))
    assert [(c.path, c.before, c.after) for c in forth] == [(c.path, c.after, c.before) for c in back]
    assert len({c.path for c in forth}) == len(forth)


def test_a_difference_as_a_record_leaves_out_what_is_absent():
    [change] = diff({}, {"config": {"allow": None}})

    assert change.as_record() == {"path": "config", "after": {"allow": None}}


# ---------------------------------------------------------------- an old body put back


def test_restoring_a_version_makes_a_new_one_with_its_body(acme, policy):
    policy.config, policy.priority, policy.app = {"deny": ["o1"]}, 7, acme.app()
    policy.valid_until = datetime(2030, 1, 1, tzinfo=UTC)
    policy.save()

    policy.restore(1, reason="too strict")

    assert (policy.version, policy.config, policy.priority, policy.app_id, policy.valid_until, policy.layer) == (
        3, {"allow": ["gpt-*"]}, 0, None, None, 1,
    )  # fmt: skip
    first, *_, last = PolicyVersion.objects.filter(policy_id=policy.pk).order_by("version")
    assert diff(first.body, last.body) == []
    assert (last.op, last.reason) == ("update", "too strict")


def test_every_field_that_an_author_writes_comes_back(acme, policy):
    fields = {
        "app": acme.app(), "branch": acme.branch(), "user": acme.user(), "key": acme.key(), "priority": -3, "enabled": False,
        "overridable": ["allow"], "valid_from": datetime(2026, 5, 1, 12, 30, 15, 123456, tzinfo=UTC),
        "valid_until": datetime(2027, 5, 1, tzinfo=UTC), "name": "n", "description": "d", "message": "m",
        "schedule": {"tz": "Asia/Kathmandu", "days": ["mon"], "start": "22:00", "end": "06:00"},
    }  # fmt: skip
    written = {name for name, field in Policy._meta._forward_fields_map.items() if not field.generated} - {
        "id", "version", "created_at", "updated_at", "tenant", "tenant_id", "policy_type", "config", "final",
        "app_id", "branch_id", "user_id", "key_id",
    }  # fmt: skip
    assert {*fields} == written
    for name, value in fields.items():
        setattr(policy, name, value)
    policy.save()
    kept = policy.as_record()

    policy.restore(1)
    policy.restore(2)

    assert {**policy.as_record(), "version": 2, "updated_at": kept["updated_at"]} == kept


def test_a_deleted_policy_comes_back_under_its_id(acme, policy):
    id_, made = policy.pk, policy.created_at
    Policy.objects.filter(pk=id_).delete()

    back = Policy.objects.restore(acme.tenant, id_, 2, reason="a slip")

    assert (back.pk, back.version, back.config, back.created_at) == (id_, 3, {"allow": ["gpt-*"]}, made)
    assert [one[:2] for one in history(id_)] == [(1, "create"), (2, "delete"), (3, "create")]
    assert acme.effective().applicable == (id_,)


def test_restoring_what_is_there_already_makes_no_version(policy):
    policy.restore(1)

    assert history(policy.pk) == [(1, "create", 1)]


@pytest.mark.parametrize("version", [0, 2, -1])
def test_a_version_that_is_not_there_cannot_be_restored(policy, version):
    with pytest.raises(PolicyError) as caught:
        policy.restore(version)

    assert (caught.value.code, caught.value.http_status) == ("version_unknown", 404)


def test_a_version_of_another_tenant_cannot_be_restored(acme, globex, policy):
    with pytest.raises(PolicyError, match="no such version"):
        Policy.objects.restore(globex.tenant, policy.pk, 1)


def test_an_old_body_passes_the_checks_of_today(acme):
    make_models("openai/gpt-4o")
    policy = acme.policy("routing", {"targets": ["openai/gpt-4o"]})
    policy.config = {}
    policy.save()
    AIModel.objects.all().delete()

    with pytest.raises(ValidationError, match=r"targets\.0: there is no model"):
        policy.restore(1)
    assert len(history(policy.pk)) == 2


def test_a_scope_that_is_gone_is_told_by_field(acme, globex):
    policy = acme.policy(app=acme.app())
    policy.app = None
    policy.save()
    App._base_manager.filter(pk=acme.app().pk).delete()

    with pytest.raises(ValidationError) as caught:
        policy.restore(1)
    assert {*caught.value.error_dict} == {"app"}


def test_a_restore_can_name_the_version_it_read(policy):
    policy.name = "other"
    policy.save()

    with pytest.raises(ValidationError) as caught:
        policy.restore(1, if_version=1)
    assert caught.value.error_dict["version"][0].code == "stale_version"
    policy.restore(1, if_version=2)
    assert policy.name == "models"


@pytest.mark.django_db(transaction=True)
def test_a_deleted_policy_that_is_restored_by_many_at_once_comes_back_once(acme):
    id_ = acme.policy(name="models").pk
    Policy.objects.filter(pk=id_).delete()

    outcomes = together(*[lambda: Policy.objects.restore(acme.tenant, id_, 1).version] * 4)

    assert outcomes == [3] * 4
    assert [one[:2] for one in history(id_)] == [(1, "create"), (2, "delete"), (3, "create")]


# ---------------------------------------------------------------- a past epoch


def test_the_effective_policy_of_a_past_epoch_is_what_it_was(acme, policy):
    make_models("openai/gpt-4o", "openai/o1")
    policy.config = {"allow": ["o1"]}
    policy.save()
    policy.delete()

    asked = [effective_at_epoch(acme.tenant, epoch).decide_model("o1").reason for epoch in (0, 1, 2, 3, 99)]
    assert asked == ["no_restriction", "model_not_in_allowlist", "allowed", "no_restriction", "no_restriction"]


def test_the_effective_policy_of_a_past_epoch_says_which(acme, policy):
    assert effective_at_epoch(acme.tenant, 1).epoch == 1


def test_a_past_epoch_is_read_with_one_statement(acme, policy, django_assert_num_queries):
    app = acme.app()

    with django_assert_num_queries(1):
        effective_at_epoch(acme.tenant, 1, app=app, at=datetime(2026, 5, 1, tzinfo=UTC))


def test_a_past_epoch_shows_the_tenant_of_the_scope_alone(acme, globex, policy):
    with tenant_scope(globex.tenant):
        with pytest.raises(PolicyError, match="another tenant"):
            effective_at_epoch(acme.tenant, 1)
        assert effective_at_epoch(globex.tenant, 1).applicable == ()


def test_arguments_of_another_tenant_are_refused(acme, globex):
    for name in ("app", "branch", "user", "key"):
        with pytest.raises(PolicyError) as caught:
            effective_at_epoch(acme.tenant, 1, **{name: getattr(globex, name)()})
        assert caught.value.code == "tenant_mismatch"
    with pytest.raises(ValueError, match="no time zone"):
        effective_at_epoch(acme.tenant, 1, at=datetime(2026, 5, 1))  # noqa: DTZ001


CONFIGS = {
    "model_access": [{"allow": ["gpt-*"]}, {"deny": ["o1"]}, {"allow": ["openai/*"], "deny": ["*mini"]}, {"allow": []}],
    "token_caps": [{"max_output_tokens": 100}, {"max_output_tokens": 50, "default_max_output_tokens": 80}],
    "routing": [{"aliases": {"smart": "openai/o1"}}, {"providers": ["anthropic"]}, {"regions": ["eu-west-1"]}],
    "budget": [{"limits": [{"window": "month", "limit": "5"}]}, {"limits": [{"window": "day", "limit": "1", "per": "user"}]}],
    "storage_access": [{"allow": [{"uri": "s3://a/*", "modes": ["read"]}]}, {"deny": [{"uri": "*", "modes": ["write"]}]}],
}  # fmt: skip
SCHEDULES = [None, None, {"tz": "Europe/Berlin", "days": ["mon", "wed", "sat"], "start": "20:00", "end": "06:00"}]


class Chance:
    """Random policies, edits and requests of a tenant; the same ones each time."""

    def __init__(self, world, other, seed=5):
        self.world, self.other, self.chance = world, other, random.Random(seed)  # noqa: S311  no secret
        self.scopes = {
            "app": [world.app("chat"), world.app("mail")],
            "branch": [world.branch("berlin", "chat"), world.branch("rome", "mail")],
            "user": [world.user("ada"), world.user("bob")],
            "key": [world.key("ci", "chat"), world.key("bot", "mail", user="ada")],
        }
        self.start = datetime(2026, 3, 1, tzinfo=UTC)

    def instant(self):
        return self.start + timedelta(minutes=self.chance.randrange(60 * 24 * 40))

    def fields(self):
        type_ = self.chance.choice([*CONFIGS])
        scope = {name: self.chance.choice(rows) for name, rows in self.scopes.items() if self.chance.random() < 0.25}
        until = self.instant() + timedelta(days=20) if self.chance.random() < 0.2 else None
        return {
            "policy_type": type_, "config": self.chance.choice(CONFIGS[type_]), **scope,
            "priority": self.chance.randrange(3), "enabled": self.chance.random() < 0.9,
            "overridable": ["allow"] if type_ == "model_access" and self.chance.random() < 0.3 else [],
            "valid_from": self.instant() if self.chance.random() < 0.2 and not until else None, "valid_until": until,
            "schedule": self.chance.choice(SCHEDULES),
        }  # fmt: skip

    def edit(self):
        """One edit of any kind; those that are refused change nothing."""
        policies = Policy.objects.filter(tenant=self.world.tenant).order_by("id")
        policy = self.chance.choice([*policies, None])
        kind = self.chance.choice(["create", "create", "bulk", "save", "save", "update", "delete", "restore", "others"])
        with suppress(ValidationError):
            if kind == "others":
                self.other.policy(config={"allow": []})
            elif kind == "bulk":
                Policy.objects.bulk_create([Policy(tenant=self.world.tenant, **self.fields()) for _ in range(3)])
            elif kind == "create" or policy is None:
                self.world.policy(**self.fields())
            elif kind == "save":
                for name, value in (
                    self.fields() | {"policy_type": policy.policy_type, "config": policy.config}
                ).items():
                    setattr(policy, name, value)
                policy.config = self.chance.choice(CONFIGS[policy.policy_type])
                policy.save()
            elif kind == "update":
                policies.filter(priority=self.chance.randrange(3)).update(enabled=self.chance.random() < 0.8)
            elif kind == "delete":
                policies.filter(pk=policy.pk).delete()
            else:
                version = self.chance.choice(
                    PolicyVersion.objects.filter(tenant=self.world.tenant).order_by("epoch", "policy_id", "version")
                )
                Policy.objects.restore(self.world.tenant, version.policy_id, version.version)

    def request(self):
        key = self.chance.choice([None, None, *self.scopes["key"]])
        if key is not None:
            return {"key": key}
        return {
            name: self.chance.choice([None, *rows]) for name, rows in self.scopes.items() if name in ("app", "user")
        }

    def question(self):
        model = self.chance.choice(["gpt-4o", "openai/o1", "smart", "claude", "gpt-4o-mini", "nothing"])
        return model, self.chance.choice([None, "eu-west-1"])


def answer(effective, question):
    """All that a request can be told, in words that do not depend on when it is told."""
    decisions = [effective.decide_model(*question), effective.decide_storage("s3://a/b", "read")]
    told = [
        (one.allow, one.reason, one.model, one.by, one.pattern, one.layer, one.policies, one.message)
        for one in decisions
    ]
    return (
        told,
        effective.values,
        effective.provenance,
        effective.fingerprint,
        effective.applicable,
        effective.skipped,
        (effective.expires_at),
    )


def test_a_thousand_logged_decisions_are_made_again_from_the_history(acme, globex):
    make_models("openai/gpt-4o", "openai/o1", "openai/gpt-4o-mini", "anthropic/claude")
    chance, logged = Chance(acme, globex), []
    while len(logged) < 1000:
        chance.edit()
        for _ in range(8):
            asked, at, question = chance.request(), chance.instant(), chance.question()
            effective = Policy.objects.effective(acme.tenant, at=at, **asked)
            logged.append((effective.epoch, at, asked, question, answer(effective, question)))

    replayed = [
        answer(effective_at_epoch(acme.tenant, epoch, at=at, **asked), question)
        for epoch, at, asked, question, _ in logged
    ]

    assert replayed == [now for *_, now in logged]
    reasons = {decision[1] for *_, now in logged for decision in now[0]}
    assert len(reasons) > 5
    assert len({json.dumps(now[1], sort_keys=True) for *_, now in logged}) > 50
