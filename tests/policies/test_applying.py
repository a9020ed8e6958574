"""Policies as a document: written, read, compared, and applied as a whole or not at all."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest
from django.core.exceptions import ValidationError
from django.db.models import QuerySet
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from catalog.models import AIModel
from policies.applying import export, plan, read
from policies.errors import PolicyError
from policies.models import Policy, PolicyEpoch, PolicyVersion
from tests.policies.world import World, make_models
from tests.races import behind, together


def document(*entries):
    return {"policies": list(entries)}


def entry(name="caps", policy_type="token_caps", config=None, **fields):
    return {"name": name, "policy_type": policy_type, "config": config or {}, **fields}


def faults(made):
    return [(fault.path, fault.code) for fault in made.refused]


def ops(made):
    return [(planned.op, planned.policy.name) for planned in made.changes]


def state(world):
    """What is stored of a tenant, to tell whether anything was written."""
    return [policy.as_record() for policy in Policy.objects.filter(tenant=world.tenant).order_by("id")]


@pytest.fixture
def full(acme):
    """A tenant with a policy in every field, and a plain one."""
    acme.policy(
        "rate_limit", {"limits": [{"metric": "requests", "limit": 5, "window": "1m"}]},
        app=acme.app(), branch=acme.branch(), user=acme.user(), key=acme.key(), name="everything", priority=-3, enabled=False,
        overridable=["limits"], valid_from=datetime(2026, 5, 1, 12, 30, 15, 123456, tzinfo=UTC),
        valid_until=datetime(2027, 5, 1, tzinfo=UTC), description="long", message="short",
        schedule={"tz": "Asia/Kathmandu", "days": ["mon"], "start": "22:00", "end": "06:00"},
    )  # fmt: skip
    acme.policy(config={"allow": ["gpt-*"]}, name="plain")
    return acme


# ---------------------------------------------------------------- the document


def test_a_document_names_scopes_as_people_do_and_has_no_ids(full):
    found = export(full.tenant)

    everything, plain = found.document["policies"]
    secret = full.key().secrets.get()
    assert everything["scope"] == {
        "app": "chat", "branch": "berlin", "user": "ada@acme.example", "key": f"cpk_live_{secret.kid}",
    }  # fmt: skip
    assert everything["valid_from"] == "2026-05-01T12:30:15.123456Z"
    assert plain == {"name": "plain", "policy_type": "model_access", "config": {"allow": ["gpt-*"]}}
    ids = [str(row.pk) for row in (full.tenant, full.app(), full.branch(), full.user(), full.key())]
    assert not any(id_ in json.dumps(found.document) for id_ in ids)


def test_a_document_read_back_changes_nothing(full):
    found = read(json.dumps(export(full.tenant).document).encode())

    made = plan(full.tenant, found, prune=True)

    assert (made.changes, made.refused, made.unchanged) == ((), (), 2)


def test_a_document_makes_the_same_policies_elsewhere(full, globex):
    globex.app(), globex.branch(), globex.user()
    found = export(full.tenant).document
    found["policies"][0]["scope"] = {"app": "chat", "branch": "berlin", "user": "ADA@globex.example"}

    plan(globex.tenant, found).apply()

    there = export(globex.tenant).document
    assert there["policies"][0]["scope"].pop("user") == "ada@globex.example"
    found["policies"][0]["scope"].pop("user")
    assert there == found


def test_policies_without_a_name_of_their_own_are_left_out_and_told(acme):
    unnamed, named = acme.policy(), acme.policy(name="one")
    twins = [acme.policy(name="two"), acme.policy(name="two")]

    found = export(acme.tenant)

    assert [one["name"] for one in found.document["policies"]] == [named.name]
    assert {*found.left_out} == {unnamed, *twins}


def test_a_key_without_a_secret_is_named_by_its_id(acme):
    key = acme.key()
    acme.policy(name="one", key=key)
    key.secrets.all().delete()

    found = export(acme.tenant).document

    assert found["policies"][0]["scope"] == {"key": str(key.pk)}
    assert plan(acme.tenant, found).unchanged == 1


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "no JSON"),
        (b"{", "no JSON"),
        (b"\xff\xfe", "no JSON"),
        (b'{"policies": [NaN]}', "NaN is no number"),
        (b'{"policies": [], "policies": []}', "says 'policies' twice"),
        (b"[" * 100_000, "nested too deeply"),
        (b"1" * 10_000, "no JSON"),
    ],
)
def test_what_is_no_json_is_one_sentence(data, words):
    with pytest.raises(PolicyError, match=words) as caught:
        read(data)

    assert caught.value.code == "document_unreadable"


def test_a_byte_order_mark_does_no_harm():
    assert read(b'\xef\xbb\xbf{"policies": []}') == {"policies": []}


# ---------------------------------------------------------------- the plan


def test_a_plan_says_what_it_would_create_change_and_leave(full):
    found = export(full.tenant).document
    found["policies"][0] |= {"priority": 4, "config": {"limits": [{"metric": "requests", "limit": 6, "window": "1m"}]}}
    found["policies"][0]["scope"].pop("key")
    found["policies"].append(entry("new", config={"max_output_tokens": 9}))
    before = state(full)

    made = plan(full.tenant, found)

    assert ops(made) == [("update", "everything"), ("create", "new")]
    assert [one.path for one in made.changes[0].changes] == ["config.limits.0.limit", "priority", "scope.key"]
    assert [(one.path, one.after) for one in made.changes[1].changes] == [
        ("config", {"max_output_tokens": 9}), ("name", "new"), ("policy_type", "token_caps"),
    ]  # fmt: skip
    assert (made.unchanged, state(full)) == (1, before)
    json.dumps(made.as_record())


def test_what_an_entry_leaves_out_goes_back_to_its_default(acme):
    acme.policy("token_caps", {"max_output_tokens": 5}, name="caps", priority=3, app=acme.app(), message="no")

    plan(acme.tenant, document(entry("caps"))).apply()

    caps = Policy.objects.get()
    assert (caps.priority, caps.app, caps.message, caps.config, caps.version) == (0, None, "", {}, 2)


def test_policies_that_are_not_named_stay_unless_they_are_pruned(acme):
    acme.policy(name="caps", policy_type="token_caps"), acme.policy(name="other"), acme.policy()
    acme.policy(name="off", enabled=False)

    assert plan(acme.tenant, document(entry())).changes == ()
    made = plan(acme.tenant, document(entry()), prune=True)

    assert ops(made) == [("disable", "other"), ("disable", "")]
    made.apply(reason="one file")
    assert Policy.objects.filter(enabled=True).get().name == "caps"
    assert Policy.objects.count() == 4
    assert PolicyVersion.objects.filter(op="update", reason="one file").count() == 2


def test_a_stored_policy_that_does_not_fit_can_still_be_pruned(acme):
    broken = acme.policy(name="broken")
    QuerySet(Policy).filter(pk=broken.pk).update(config={"nonsense": 1})

    plan(acme.tenant, document(), prune=True).apply()

    assert not Policy.objects.get().enabled


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (None, [("", "model_type")]),
        ([], [("", "model_type")]),
        ({}, [("policies", "missing")]),
        ({"policies": {}}, [("policies", "list_type")]),
        ({"policies": [], "format": 2}, [("format", "literal_error")]),
        ({"policies": [], "tenant": "acme"}, [("tenant", "extra_forbidden")]),
        (document(None), [("policies.0", "model_type")]),
        (document({}), [("policies.0.name", "missing"), ("policies.0.policy_type", "missing")]),
        (document(entry(name="")), [("policies.0.name", "string_too_short")]),
        (document(entry(name=7)), [("policies.0.name", "string_type")]),
        (document(entry(name="\0")), [("policies.0", "null_character")]),
        (document(entry(name="\ud800")), [("policies.0", "not_json")]),
        (document(entry(config=[1])), [("policies.0.config", "dict_type")]),
        (document(entry(policy_type="wishes")), [("policies.0.policy_type", "literal_error")]),
        (document(entry(id="x")), [("policies.0.id", "extra_forbidden")]),
        (document(entry(priority=True)), [("policies.0.priority", "int_type")]),
        (document(entry(priority=32768)), [("policies.0.priority", "less_than_equal")]),
        (document(entry(enabled="yes")), [("policies.0.enabled", "bool_type")]),
        (document(entry(valid_from="yesterday")), [("policies.0.valid_from", "no_instant")]),
        (document(entry(valid_from="0001-01-01T00:00+14:00")), [("policies.0.valid_from", "no_instant")]),
        (document(entry(valid_from="2026-05-01")), [("policies.0.valid_from", "no_instant")]),
        (document(entry(scope={"team": "x"})), [("policies.0.scope.team", "extra_forbidden")]),
        (document(entry(), entry("b", id=1)), [("policies.1.id", "extra_forbidden")]),
        (document(entry(), entry()), [("policies.0.name", "duplicate_name"), ("policies.1.name", "duplicate_name")]),
        (document(entry(config={"max_output_tokens": "5"})), [("policies.0.config.max_output_tokens", "int_type")]),
        (
            document(entry("b", "budget", {"limits": [{"window": "month", "limit": 5}, {"window": "month", "limit": "-1"}]})),
            [
                ("policies.0.config.limits.0.limit", "string_type"),
                ("policies.0.config.limits.1.limit", "string_pattern_mismatch"),
            ],
        ),
        (
            document(entry(config={"x": "x" * 65_536})),
            [("policies.0.config.x", "extra_forbidden"), ("policies.0.config", "config_too_large")],
        ),
        (
            document(entry("g", "guardrail", {"guardrails": {"a": {"stages": ["input"], "config": {"x": float("inf")}}}})),
            [("policies.0", "not_json")],
        ),
        (document(entry(final=["max_output_tokens"])), [("policies.0.final", "final_needs_nearest")]),
        (document(entry(overridable=["nothing"])), [("policies.0.overridable", "unknown_field_in_flags")]),
        (document(entry(schedule={"tz": "Mars"})), [
            ("policies.0.schedule.tz", "unknown_time_zone"), ("policies.0.schedule.days", "missing"),
            ("policies.0.schedule.start", "missing"), ("policies.0.schedule.end", "missing"),
        ]),
        (
            document(entry(valid_from="2026-05-01T00:00Z", valid_until="2026-05-01T02:00+02:00")),
            [("policies.0.valid_until", "validity_empty")],
        ),
        (document(entry(message="x" * 501)), [("policies.0.message", "string_too_long")]),
        (document(entry(scope={"branch": "berlin"})), [("policies.0.scope.branch", "branch_needs_app")]),
        (document(entry(scope={"app": "nothing"})), [("policies.0.scope.app", "not_found")]),
        (document(entry(scope={"app": "nothing", "branch": "b", "user": "nobody", "key": "cpk_live_x"})), [
            ("policies.0.scope.app", "not_found"), ("policies.0.scope.user", "not_found"), ("policies.0.scope.key", "not_found"),
        ]),
        (document(entry("r", "routing", {"targets": ["openai/none"]})), [("policies.0.config.targets.0", "unknown_model")]),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_told_by_path_and_changes_nothing(acme, found, expected):
    acme.policy(name="there")

    made = plan(acme.tenant, found, prune=True)

    assert faults(made) == expected
    with pytest.raises(PolicyError) as caught:
        made.apply()
    assert caught.value.code == "plan_refused"
    assert [policy.enabled for policy in Policy.objects.all()] == [True]


def test_all_that_is_wrong_with_an_entry_is_told_at_once(acme):
    acme.policy("token_caps", name="caps"), acme.policy("token_caps", name="caps")

    made = plan(acme.tenant, document(entry(config={"max": 1}, scope={"app": "x", "user": "y"}, final=["z"])))

    assert {path.removeprefix("policies.0.") for path, _ in faults(made)} == {
        "name", "scope.app", "scope.user", "config.max", "final",
    }  # fmt: skip
    assert made.changes == ()


def test_one_entry_that_does_not_fit_holds_back_all(acme):
    made = plan(
        acme.tenant, document(entry("good"), entry("bad", config={"max": 1}), entry("worse", scope={"app": "x"}))
    )

    assert [(fault.name, fault.path) for fault in made.refused] == [
        ("bad", "policies.1.config.max"), ("worse", "policies.2.scope.app"),
    ]  # fmt: skip
    with pytest.raises(PolicyError):
        made.apply()
    assert not Policy.objects.exists()


@pytest.mark.parametrize(
    "scope",
    [
        lambda world: {"app": "secret"},
        lambda world: {"app": "secret", "branch": "rome"},
        lambda world: {"user": "bob@globex.example"},
        lambda world: {"key": str(world.key("ci", "secret").pk)},
        lambda world: {"key": f"cpk_live_{world.key('ci', 'secret').secrets.get().kid}"},
    ],
)
def test_a_scope_of_another_tenant_is_not_found(acme, globex, scope):
    globex.app("secret"), globex.branch("rome", "secret"), globex.user("bob")

    made = plan(acme.tenant, document(entry(scope=scope(globex))))

    assert {code for _, code in faults(made)} == {"not_found"}


def test_a_whole_token_is_refused_and_not_told(acme):
    token = f"cpk_live_{'0' * 12}_{'1' * 49}"

    made = plan(acme.tenant, document(entry(scope={"key": token})))

    assert token not in json.dumps(made.as_record())
    assert made.refused[0].path == "policies.0.scope.key"


def test_a_key_of_another_app_is_told_by_its_place(acme):
    acme.app("mail")

    made = plan(acme.tenant, document(entry(scope={"app": "mail", "key": str(acme.key().pk)})))

    assert faults(made) == [("policies.0.scope.key", "key_not_of_app")]


def test_a_name_that_two_stored_policies_have_is_refused(acme):
    acme.policy("token_caps", name="caps"), acme.policy("token_caps", name="caps")

    assert faults(plan(acme.tenant, document(entry()))) == [("policies.0.name", "ambiguous_name")]


def test_the_type_of_a_stored_policy_is_fixed(acme):
    acme.policy("budget", name="caps")

    assert faults(plan(acme.tenant, document(entry()))) == [("policies.0.policy_type", "policy_type_frozen")]


def test_another_tenants_policy_of_the_same_name_is_left_alone(acme, globex):
    theirs = globex.policy("token_caps", {"max_output_tokens": 1}, name="caps")

    plan(acme.tenant, document(entry()), prune=True).apply()

    assert Policy.objects.get(pk=theirs.pk).version == 1
    assert Policy.objects.filter(tenant=acme.tenant).count() == 1


# ---------------------------------------------------------------- stale, and at once


@pytest.mark.parametrize(
    "meanwhile",
    [
        lambda acme: Policy.objects.filter(name="caps").update(priority=9),
        lambda acme: Policy.objects.filter(name="other").update(priority=9),
        lambda acme: Policy.objects.filter(name="caps").delete(),
        lambda acme: acme.policy("token_caps", name="new"),
    ],
)
def test_a_plan_is_stale_once_any_policy_of_the_tenant_was_changed(acme, meanwhile):
    acme.policy("token_caps", name="caps"), acme.policy(name="other")
    made = plan(acme.tenant, document(entry(priority=1), entry("new")))
    meanwhile(acme)
    before = state(acme)

    with pytest.raises(PolicyError) as caught:
        made.apply()

    assert (caught.value.code, caught.value.http_status) == ("plan_stale", 409)
    assert state(acme) == before


def test_a_plan_is_not_stale_for_a_change_of_another_tenant(acme, globex):
    made = plan(acme.tenant, document(entry()))
    globex.policy()

    made.apply()

    assert Policy.objects.filter(tenant=acme.tenant).exists()


def test_a_plan_is_applied_once(acme):
    made = plan(acme.tenant, document(entry()))
    made.apply()

    with pytest.raises(PolicyError, match="Plan again"):
        made.apply()
    assert Policy.objects.count() == 1


def test_what_the_catalog_lost_meanwhile_holds_back_all(acme):
    make_models("openai/gpt-4o")
    made = plan(acme.tenant, document(entry(), entry("r", "routing", {"targets": ["openai/gpt-4o"]})))
    AIModel.objects.all().delete()

    with pytest.raises(ValidationError, match="no model openai/gpt-4o"):
        made.apply()
    assert not Policy.objects.exists()


def test_many_policies_are_made_by_one_statement_and_one_epoch(acme):
    plan(acme.tenant, document(*(entry(f"caps {number}") for number in range(200)))).apply()

    assert Policy.objects.count() == 200
    assert PolicyEpoch.objects.get().epoch == 1


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("there", [False, True])
def test_a_document_applied_twice_at_once_is_applied_once(acme, there):
    if there:
        acme.policy("token_caps", name="caps", priority=9), acme.policy(name="old")
    plans = [plan(acme.tenant, document(entry(), entry("new")), prune=True) for _ in range(4)]

    outcomes = together(*(made.apply for made in plans))

    assert sorted(getattr(outcome, "code", "") for outcome in outcomes) == ["", *["plan_stale"] * 3]
    assert sorted(Policy.objects.filter(enabled=True).values_list("name", flat=True)) == ["caps", "new"]


@pytest.mark.django_db(transaction=True)
def test_a_change_under_way_makes_a_plan_stale_and_never_waits_in_a_ring(acme, other_connection):
    first, second = acme.policy("token_caps", name="caps"), acme.policy("token_caps", name="other")
    made = plan(acme.tenant, document(entry(priority=1), entry("other", priority=1)))

    def edit():
        Policy.objects.filter(pk=second.pk).update(priority=5)

    def more():
        Policy.objects.filter(pk=second.pk).update(priority=6)

    outcome = behind(edit, made.apply, other_connection, last=more)

    assert outcome.code == "plan_stale"
    assert [*Policy.objects.order_by("id").values_list("priority", flat=True)] == [0, 6]
    assert first.pk < second.pk


# ---------------------------------------------------------------- garbage


GARBAGE = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
    | st.sampled_from(["caps", "chat", "token_caps", "budget", "ada@acme.example", "2026-05-01T00:00Z"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
        st.sampled_from(["name", "policy_type", "config", "scope", "app", "limits", "policies", "%d", "x\0"]), inner, max_size=4
    ),
    max_leaves=10,
)  # fmt: skip
ENTRIES = st.fixed_dictionaries(
    {"name": st.sampled_from(["caps", "a", "b"]) | GARBAGE, "policy_type": st.sampled_from(["token_caps", "budget"]) | GARBAGE},
    optional={
        "config": st.sampled_from([{}, {"max_output_tokens": 5}, {"limits": []}]) | GARBAGE,
        "scope": st.sampled_from([{}, {"app": "chat"}, {"user": "ada@acme.example"}, {"app": "chat", "branch": "berlin"}])
        | GARBAGE,
        "priority": st.integers() | GARBAGE, "enabled": st.booleans(), "valid_from": st.datetimes().map(str) | GARBAGE,
        "overridable": st.lists(st.text(max_size=5), max_size=2), "message": st.text(max_size=5), "schedule": GARBAGE,
    },
)  # fmt: skip


SOUND = st.fixed_dictionaries(
    {"name": st.sampled_from(["caps", "a", "b", "ü 7"]), "policy_type": st.just("token_caps")},
    optional={
        "config": st.fixed_dictionaries({}, optional={"max_output_tokens": st.none() | st.integers(0, 2_000_000_000)}),
        "scope": st.sampled_from([{}, {"app": "chat"}, {"user": "ADA@acme.example"}, {"app": "chat", "branch": "berlin"}]),
        "priority": st.integers(-32768, 32767), "enabled": st.booleans(),
        "valid_from": st.datetimes(timezones=st.timezones()).map(lambda at: at.isoformat()),
        "overridable": st.just(["max_output_tokens"]), "message": st.text(st.characters(exclude_characters="\0", codec="utf-8")),
    },
)  # fmt: skip


@pytest.mark.django_db
@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    found=st.lists(ENTRIES | SOUND, max_size=3).map(lambda entries: {"policies": entries}) | GARBAGE
    | st.lists(SOUND, max_size=4, unique_by=lambda one: one["name"]).map(lambda entries: {"policies": entries}),
    prune=st.booleans(),
)  # fmt: skip
def test_any_document_is_applied_as_a_whole_or_refused_by_path(furnished, found, prune):
    acme = furnished
    before = state(acme)

    made = plan(acme.tenant, found, prune=prune)

    json.dumps(made.as_record())
    if made.refused:
        with pytest.raises(PolicyError):
            made.apply()
        assert state(acme) == before
    else:
        made.apply()
        again = plan(acme.tenant, found, prune=prune)
        assert (again.changes, again.refused) == ((), ())


@pytest.fixture
def furnished(db):
    world = World("acme")
    world.app(), world.branch(), world.user()
    world.policy("token_caps", name="caps")
    return world
