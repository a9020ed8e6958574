from __future__ import annotations

from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from io import StringIO
from threading import Event, Thread
from uuid import UUID

import pytest
from django.core.management import CommandError, call_command
from django.db import connection, transaction

from auditing.models import AuditLog, DeadLetter, InferenceRequest, InFlightRequest
from catalog.models import AIModel, ModelAlias, PriceImport
from controlplane.core.ids import PLATFORM
from controlplane.demo import seeding, storing, traffic
from policies import limits
from policies.lint import lint
from policies.models import LimitAlert, LimitBucket, Policy, PolicyVersion, Reservation
from storage_meta.models import (
    Bucket,
    HookExecution,
    StorageAudit,
    StorageEvent,
    StorageHook,
    StorageObject,
    StorageUsage,
    StorageVersion,
)
from tenants.models import APIKey, App, Branch, Tenant, User
from tenants.roles import Role

AT = datetime(2026, 11, 21, 12, tzinfo=UTC)
KEY = traffic.Caller(UUID(int=3))


def seed_demo(*arguments):
    out = StringIO()
    call_command("seed_demo", *arguments, stdout=out)
    return out.getvalue().strip()


def made_up(profile, at=AT):
    return list(traffic.calls(profile, "Europe/Oslo", UUID(int=1), UUID(int=2), [KEY], at))


@pytest.fixture
def few_calls(monkeypatch):
    """The profiles with a hundredth of their calls: what is not about figures need not wait for them."""
    few = [replace(profile, calls=profile.calls // 100) for profile in traffic.PROFILES]
    monkeypatch.setattr(traffic, "PROFILES", tuple(few))


@pytest.fixture(autouse=True)
def objects_lie_in_a_folder_of_the_test(settings, tmp_path):
    objects = settings.STORAGES["objects"]
    settings.STORAGES = {
        **settings.STORAGES,
        "objects": {**objects, "OPTIONS": {"location": str(tmp_path / "objects")}},
    }


@pytest.fixture
def demo(db, few_calls):
    seed_demo()


def test_the_demo_fills_every_page(demo):
    for rows in (
        Tenant,
        App,
        Branch,
        User,
        APIKey,
        AIModel,
        ModelAlias,
        Policy,
        LimitBucket,
        Reservation,
        InferenceRequest,
        InFlightRequest,
        DeadLetter,
    ):
        assert rows.objects.exists(), rows


def test_three_tenants_have_users_of_every_role(demo):
    for tenant in Tenant.objects.all():
        assert set(User.objects.for_tenant(tenant).values_list("role", flat=True)) == set(Role.values) - {"operator"}
    assert Tenant.objects.count() == 3


def test_nobody_of_the_demo_can_sign_in(demo):
    assert not any(user.has_usable_password() for user in User.objects.all())


def test_keys_are_in_every_state(demo):
    assert {key.state for key in APIKey.objects.all()} >= {"active", "revoked", "disabled"}
    assert APIKey.objects.filter(rotation=1).exists()
    assert APIKey.objects.expiring(timedelta(days=14)).exists()


def test_a_second_run_changes_nothing(demo):
    before = (AuditLog.objects.count(), InferenceRequest.objects.count(), DeadLetter.objects.count())

    said = seed_demo()

    assert said == "The demo data is there already."
    assert (AuditLog.objects.count(), InferenceRequest.objects.count(), DeadLetter.objects.count()) == before


def test_every_row_of_the_demo_says_who_made_it_and_why(demo):
    rows = AuditLog.objects.filter(action="create")

    assert rows.count() > 100
    prices = PriceImport.objects.get().reason
    assert set(rows.values_list("actor_type", "actor_id", "reason")) <= {
        ("command", "seed_demo", "demo data"),
        ("command", "seed_demo", prices),
    } | {("command", "seed_demo", "rotated with 24 h grace")}


def test_policies_stand_at_every_level(demo):
    scopes = {
        frozenset(level for level in ("app", "branch", "user", "key") if getattr(policy, level))
        for policy in Policy.objects.select_related("app", "branch", "user", "key")
    }

    assert scopes >= {
        frozenset(),
        frozenset({"app"}),
        frozenset({"app", "branch"}),
        frozenset({"app", "user"}),
        frozenset({"app", "key"}),
    }


def test_each_app_may_call_the_models_that_it_has_called(demo):
    for profile in traffic.PROFILES:
        app = App.objects.get(tenant__slug=profile.tenant, slug=profile.app)
        effective = Policy.objects.effective(tenant=app.tenant, app=app)

        assert [mix.model for mix in profile.mixes if not effective.decide_model(mix.model, "eu-north-1")] == []


def test_policies_are_of_every_type(demo):
    assert set(Policy.objects.values_list("policy_type", flat=True)) == set(Policy.Type.values)


def test_policies_have_oddities_to_find_and_no_errors(demo):
    found = {one.severity for tenant in Tenant.objects.all() for one in lint(tenant)}

    assert found == {"warning", "note"}


def test_some_policies_were_edited_by_people_with_reasons(demo):
    edited = PolicyVersion.objects.filter(version__gt=1)

    assert edited.filter(version=3).exists()
    assert all(version.actor.startswith("user ") for version in edited)
    assert "demo data" not in edited.values_list("reason", flat=True)


def test_counters_are_what_the_calls_used_and_hold(demo):
    assert limits.verify() == []
    months = LimitBucket.objects.filter(owner_kind="scope:1", window="month")
    assert {month.tenant for month in months.select_related("tenant")} == set(Tenant.objects.all())
    for month in months:
        calls = InferenceRequest.objects.for_tenant(month.tenant_id)
        calls = calls.filter(created_at__gte=month.starts_at, created_at__lt=month.ends_at)
        assert month.spent == sum(calls.values_list("cost", flat=True))


def test_the_calls_in_flight_hold_what_they_may_use(demo):
    assert set(Reservation.objects.open().values_list("request_id", flat=True)) == set(
        InFlightRequest.objects.values_list("request_id", flat=True)
    )
    assert LimitBucket.objects.with_held().filter(metric="concurrent").count() == 2


def test_of_the_whole_demo_one_budget_is_nearly_spent_and_one_is(db):
    seed_demo()

    shares = {}
    for bucket in LimitBucket.objects.filter(window="total"):
        shares[App.objects.get(pk=bucket.app_id).slug] = bucket.spent / bucket.last_limit
    assert 0.8 <= shares["manuscripts"] < 1 <= shares["fare-watch"]
    assert LimitAlert.objects.count() == AuditLog.objects.filter(action__startswith="limit.").count() >= 3
    assert limits.verify() == []


def test_the_marker_is_an_event_of_the_platform(demo):
    marker = AuditLog.objects.for_tenant(PLATFORM).get(action="demo.seeded")

    assert marker.details["requests"] == InferenceRequest.objects.count()


def test_the_demo_stores_objects_in_every_state(demo):
    heads = StorageObject.objects.all()

    assert heads.live().count() > 350
    assert heads.filter(is_delete_marker=True).count() == 2
    assert heads.order_by("-next_seq").first().versions.count() >= 3
    assert StorageVersion.objects.filter(legal_hold=True).exists()
    assert StorageVersion.objects.filter(retain_until__gt=AT).exists()
    assert {bucket.versioning for bucket in Bucket.objects.all()} == set(Bucket.Versioning.values)


def test_some_of_what_is_stored_is_read_and_some_refused(demo):
    slugs = Tenant.objects.filter(slug__in=seeding.TENANTS)
    rows = StorageAudit.objects.filter(tenant_id__in=slugs.values("pk"))

    assert rows.filter(action="s3:GetObject", success=True, bytes_sent__gt=0).exists()
    assert set(rows.filter(success=False).values_list("error_code", flat=True)) == {"access_denied", "no_such_key"}
    assert {usage.tenant.slug for usage in StorageUsage.objects.filter(bytes__gt=0)} == set(seeding.TENANTS)


def test_nobody_outside_is_told_of_the_demo(demo):
    hook = StorageHook.objects.get()

    assert (hook.enabled, bool(hook.disabled_reason)) == (False, True)
    assert not StorageEvent.objects.filter(state="pending").exists()
    assert {execution.success for execution in HookExecution.objects.all()} == {True, False}


def test_what_is_stored_already_is_not_stored_again(demo):
    before = StorageVersion.objects.count()

    assert storing.fill(AT) == 0
    assert StorageVersion.objects.count() == before


def test_what_is_stored_stays_while_its_tenants_are_removed(demo):
    before = StorageVersion.objects.count()

    seed_demo("--remove")
    assert StorageVersion.objects.count() == before
    seed_demo()
    assert StorageVersion.objects.count() == before


def test_removing_deletes_its_tenants_softly_and_keeps_the_facts(demo):
    requests = InferenceRequest.objects.count()
    acme = Tenant.objects.create(slug="acme", name="Acme")

    seed_demo("--remove")

    assert list(Tenant.objects.present()) == [acme]
    assert Tenant.objects.deleted().count() == 3
    assert InferenceRequest.objects.count() == requests
    assert AuditLog.objects.filter(action="update", resource_type="cp_tenants_tenant", reason="demo data").count() == 3


def test_removing_gives_back_what_calls_hold_and_keeps_what_was_spent(demo):
    spent = set(LimitBucket.objects.values_list("key", "spent"))

    seed_demo("--remove")

    assert not Reservation.objects.open().exists()
    assert not LimitBucket.objects.with_held().exists()
    assert set(LimitBucket.objects.values_list("key", "spent")) == spent
    assert limits.verify() == []


def test_removing_twice_says_that_there_is_none(demo):
    seed_demo("--remove")

    assert seed_demo("--remove") == "There is no demo data."


def test_what_was_removed_comes_back(demo):
    seed_demo("--remove")

    assert seed_demo() == "Restored the demo data."
    assert Tenant.objects.active().count() == 3
    assert seed_demo() == "The demo data is there already."


def test_a_slug_of_somebody_else_stops_it_and_leaves_nothing(db, few_calls):
    Tenant.objects.create(slug="tamarind-travel", name="Another Tamarind")

    with pytest.raises(CommandError, match=r"slug"):
        seed_demo()

    assert list(Tenant.objects.values_list("name", flat=True)) == ["Another Tamarind"]
    assert not AIModel.objects.exists()


def test_a_model_that_is_there_stays_as_it_is(db, few_calls):
    seeding._make_catalog()
    AIModel.objects.filter(key="gpt-5.6").update(display_name="Ours")

    seed_demo()

    assert AIModel.objects.get(key="gpt-5.6").display_name == "Ours"


@pytest.mark.parametrize("text", ["2026-11-21T12:00", "yesterday", ""])
def test_an_instant_needs_a_time_zone(db, text):
    with pytest.raises(CommandError, match=r"--at"):
        seed_demo("--at", text)


def test_the_same_instant_gives_the_same_calls():
    for profile in traffic.PROFILES:
        assert made_up(profile) == made_up(profile)


def test_there_are_about_thirty_thousand_calls():
    assert 29_000 <= sum(len(made_up(profile)) for profile in traffic.PROFILES) <= 31_000


@pytest.mark.parametrize("at", [AT, datetime(2026, 3, 30, 0, 30, tzinfo=UTC), datetime(2027, 1, 1, tzinfo=UTC)])
def test_the_calls_lie_in_the_two_weeks_before(at):
    for profile in traffic.PROFILES:
        times = [call["created_at"] for call in made_up(profile, at)]

        assert times == sorted(times)
        assert at - timedelta(days=14) <= times[0] < times[-1] < at


def test_about_two_of_a_hundred_calls_fail():
    status = Counter(call["status"] for profile in traffic.PROFILES for call in made_up(profile))

    assert 0.012 <= status["failed"] / status.total() <= 0.028
    assert 0.002 <= status["cancelled"] / status.total() <= 0.01


def test_an_office_is_quiet_at_the_weekend():
    [office] = [profile for profile in traffic.PROFILES if profile.app == "discharge-letters"]
    days = Counter(call["created_at"].weekday() for call in made_up(office))

    assert days[6] < days[2] / 4


def test_every_bad_row_is_refused_for_a_reason_of_its_own(demo):
    codes = list(DeadLetter.objects.values_list("code", flat=True))

    assert len(codes) == len(set(codes)) == len(traffic.BAD_ROWS)


@pytest.mark.django_db(transaction=True)
def test_a_second_run_waits_for_the_first_longer_than_a_request_may(few_calls):
    locked, done = Event(), []

    def first():
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_xact_lock(hashtext('cp_demo'))")
            locked.set()
            cursor.execute("SELECT pg_sleep(0.3)")
        connection.close()

    thread = Thread(target=first)
    thread.start()
    locked.wait()
    with connection.cursor() as cursor:
        cursor.execute("SET lock_timeout = '50ms'")
        done.append(seed_demo())
        cursor.execute("SHOW lock_timeout")
        assert cursor.fetchone()[0] == "50ms"
        cursor.execute("RESET lock_timeout")
    thread.join()

    assert done[0].startswith("Made 3 organisations")
