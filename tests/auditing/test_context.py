from __future__ import annotations

from threading import Thread

import pytest
from django.contrib.auth.models import AnonymousUser
from django.db import DatabaseError, connection, transaction

from auditing.context import Actor, actor_of, audit_context, command_actor, current
from auditing.models import AuditLog
from controlplane.core.ids import PLATFORM, uuid7
from tenants import tokens
from tenants.models import APIKey, App, Tenant
from tests.factories import OperatorFactory, TenantFactory, UserFactory, issue

pytestmark = pytest.mark.django_db


def setting():
    with connection.cursor() as cursor:
        cursor.execute("SELECT coalesce(current_setting('cp.audit', true), '')")
        return cursor.fetchone()[0]


def rename(app, name):
    App.objects.filter(pk=app.pk).update(name=name)


def told(app):
    rows = AuditLog.objects.for_object(app).with_action("update").order_by("id")
    return [(row.after["name"], row.actor_id, row.reason) for row in rows]


def test_inner_words_win_and_outer_ones_come_back(acme_app):
    with audit_context(actor="outer", reason="one"):
        rename(acme_app, "a")
        with audit_context(reason="two"):
            rename(acme_app, "b")
            with audit_context(actor="inner"):
                rename(acme_app, "c")
            rename(acme_app, "d")
        rename(acme_app, "e")

    assert told(acme_app) == [
        ("a", "outer", "one"),
        ("b", "outer", "two"),
        ("c", "inner", "two"),
        ("d", "outer", "two"),
        ("e", "outer", "one"),
    ]
    assert current() == {}


def test_an_error_inside_undoes_its_changes_and_its_words(acme_app):
    with audit_context(actor="outer", reason="one"):
        with pytest.raises(RuntimeError), audit_context(actor="inner", reason="two"):
            rename(acme_app, "lost")
            raise RuntimeError
        rename(acme_app, "a")
        with pytest.raises(DatabaseError), audit_context(reason="three"):
            with connection.cursor() as cursor:
                cursor.execute("SELECT 1/0")
        rename(acme_app, "b")

    assert told(acme_app) == [("a", "outer", "one"), ("b", "outer", "one")]
    assert current() == {}


def test_inside_a_transaction_of_somebody_else_the_words_end_with_the_context(acme_app):
    with transaction.atomic():
        with audit_context(actor="inner", reason="why"):
            rename(acme_app, "a")
        rename(acme_app, "b")

    login = AuditLog.objects.filter(actor_type="database").values_list("actor_id", flat=True)[0]
    assert told(acme_app) == [("a", "inner", "why"), ("b", login, "")]


def test_words_that_psql_set_before_come_back(acme_app):
    with connection.cursor() as cursor:
        cursor.execute('SET LOCAL cp.audit = \'{"reason": "by hand"}\'')
    with audit_context(reason="inner"):
        rename(acme_app, "a")
    rename(acme_app, "b")

    assert [reason for _, _, reason in told(acme_app)] == ["inner", "by hand"]


@pytest.mark.django_db(transaction=True)
def test_nothing_outlives_the_transaction(acme_app):
    with audit_context(actor="ops", reason="why"):
        assert "why" in setting()

    assert setting() == ""
    rename(acme_app, "a")
    [(_, actor, reason)] = told(acme_app)
    assert (actor != "ops", reason) == (True, "")


@pytest.mark.django_db(transaction=True)
def test_a_failed_transaction_leaves_nothing_either(acme_app):
    with pytest.raises(RuntimeError), audit_context(actor="ops"):
        rename(acme_app, "lost")
        raise RuntimeError

    assert (setting(), current()) == ("", {})
    assert told(acme_app) == []


@pytest.mark.django_db(transaction=True)
def test_another_thread_is_in_no_context(acme_app):
    seen = []

    def look():
        try:
            seen.append((setting(), current()))
        finally:
            connection.close()

    with audit_context(actor="ops"):
        thread = Thread(target=look)
        thread.start()
        thread.join()

    assert seen == [("", {})]


def test_it_opens_one_transaction_around_all():
    with audit_context(actor="ops"):
        assert connection.in_atomic_block


@pytest.mark.parametrize(
    "text",
    ["a\x00b", "lone \ud800 surrogate", "x" * 100_000, '"}; DROP TABLE', "{{ }}", "日本語 😀", "%s %(x)s", "\\u0000"],
)
def test_no_text_makes_an_event_fail(acme_app, text):
    with audit_context(actor=text, reason=text, request_id=text, user_agent=text):
        rename(acme_app, "a")
        recorded = AuditLog.objects.record("tests.event", resource_label=text, details={text: text}, request_id=text)

    row = AuditLog.objects.for_object(acme_app).with_action("update").get()
    assert row.reason == recorded.reason
    assert "\x00" not in row.reason
    assert len(row.reason) <= 4096
    assert row.actor_id == AuditLog.objects.get(pk=recorded.pk).actor_id


def test_no_word_carries_a_secret(acme_app):
    token = tokens.new_key("live").token
    with audit_context(actor=token, reason=f"leaked {token}", request_id=token, user_agent=f"curl {token}"):
        rename(acme_app, "a")
        AuditLog.objects.record("tests.event", details={"note": token, "password": "hunter2"}, resource=("x", token))

    dump = str(list(AuditLog.objects.values()))
    assert token[22:] not in dump
    assert "hunter2" not in dump


@pytest.mark.parametrize("ip", ["10.0.0.1", "2001:db8::1", "::ffff:10.0.0.1"])
def test_an_address_is_kept(acme_app, ip):
    with audit_context(ip=ip):
        rename(acme_app, "a")

    assert AuditLog.objects.for_object(acme_app).with_action("update").get().ip is not None


# --- who is acting


def test_actors_of_every_kind(acme, acme_app):
    operator, user = (
        OperatorFactory(email="ops@example.org"),
        UserFactory(tenant=acme, email="ada@example.org", role="admin"),
    )
    verified = APIKey.objects.verify(issue(acme_app).token)

    assert actor_of(operator) == Actor("operator", str(operator.pk), "ops@example.org", "operator")
    assert actor_of(user) == Actor("user", str(user.pk), "ada@example.org", "admin")
    assert actor_of(verified) == Actor("api_key", str(verified.key_id), f"cpk_live_{verified.kid}")
    assert actor_of("worker") == Actor("system", "worker", "worker")
    assert actor_of(Actor("anonymous")) == Actor("anonymous")
    assert actor_of(AnonymousUser()) == Actor("anonymous")
    assert command_actor("seed").type == "command"
    assert command_actor("seed").id == "seed"


# --- record


def test_an_event_takes_what_the_context_says(acme):
    with audit_context(actor="ops", reason="because", request_id="r-1", ip="10.0.0.1", user_agent="curl", tenant=acme):
        row = AuditLog.objects.record("export.usage", details={"rows": 5})

    stored = AuditLog.objects.get(pk=row.pk)
    assert (stored.tenant_id, stored.actor_id, stored.reason, stored.request_id) == (acme.pk, "ops", "because", "r-1")
    assert (stored.ip, stored.user_agent, stored.details) == ("10.0.0.1", "curl", {"rows": 5})
    assert (stored.action, stored.outcome) == ("export.usage", "success")


def test_an_event_may_say_it_all_itself(acme, acme_app):
    other = TenantFactory()
    with audit_context(actor="ops", reason="outer", tenant=other):
        row = AuditLog.objects.record(
            "gate.denied", tenant=acme, app=acme_app.pk, actor="gate", resource=acme_app, outcome="denied", reason="limit",
            provider="openai", model="gpt-4o",
        )  # fmt: skip

    stored = AuditLog.objects.get(pk=row.pk)
    assert (stored.tenant_id, stored.app_id, stored.actor_id, stored.reason) == (acme.pk, acme_app.pk, "gate", "limit")
    assert (stored.resource_type, stored.resource_id) == ("cp_tenants_app", str(acme_app.pk))
    assert (stored.outcome, stored.provider, stored.model) == ("denied", "openai", "gpt-4o")


def test_an_event_of_nobody_is_the_systems_on_the_platform():
    row = AuditLog.objects.record("worker.started")

    assert (row.tenant_id, row.actor_type, row.actor_id) == (PLATFORM, "system", "")


def test_an_event_goes_with_its_transaction():
    with pytest.raises(RuntimeError), transaction.atomic():
        AuditLog.objects.record("tests.event")
        raise RuntimeError

    assert not AuditLog.objects.with_action("tests.event").exists()


def test_details_of_any_size_and_kind_are_kept_or_told_by_size_and_hash():
    small = AuditLog.objects.record("tests.small", details={"set": {1}, "at": uuid7(), "deep": [(1, None, 1.5)]})
    big = AuditLog.objects.record("tests.big", details={str(n): "é" * 4000 for n in range(20)})

    small.refresh_from_db()
    assert small.details["set"] == [1]
    assert small.details["deep"] == [[1, None, "1.5"]]
    big.refresh_from_db()
    assert set(big.details) == {"$bytes", "$sha256", "$head"}
    assert big.details["$bytes"] > 64 * 1024
    assert len(big.details["$sha256"]) == 64


def test_what_happened_to_an_object_is_found(acme, acme_app):
    with audit_context(actor="ops"):
        acme_app.suspend("why")
    found = AuditLog.objects.for_tenant(acme).by_actor("ops").with_action("upd*").for_object(acme_app)

    assert found.get().reason == "why"
    assert not AuditLog.objects.by_actor("nobody").exists()
    assert Tenant.objects.filter(pk=acme.pk).exists()
