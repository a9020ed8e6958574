"""Signing in to the admin: what is answered, counted and recorded."""

from __future__ import annotations

from datetime import timedelta
from threading import Thread

import pytest
from asgiref.sync import async_to_sync
from django.contrib.auth import aauthenticate, authenticate
from django.db import connection
from django.test import RequestFactory, override_settings
from django.urls import reverse

from auditing.models import AuditLog
from controlplane.core.ids import PLATFORM
from tenants.backends import MAX_NAME
from tenants.errors import SignInRefused
from tenants.models import SignInCount, User
from tests.factories import OperatorFactory, UserFactory
from tests.tenants.test_users_passwords import CountingHasher, WaitingHasher, hashed_by

PASSWORD = "correct horse"
URL = "/admin/login/"

pytestmark = pytest.mark.django_db


@pytest.fixture
def root(db):
    return OperatorFactory(email="root@example.org", username="root")


@pytest.fixture
def ada(acme):
    return UserFactory(tenant=acme, email="ada@acme.example", username="ada")


def sign_in(client, name="root", password="wrong", **headers):  # noqa: S107 - as one types it
    return client.post(URL, {"username": name, "password": password}, **headers)


def events(action="auth.*"):
    return list(AuditLog.objects.with_action(action).order_by("id"))


def age(seconds):
    """Let every window have begun so much earlier."""
    for row in SignInCount.objects.all():
        SignInCount.objects.filter(pk=row.pk).update(began_at=row.began_at - timedelta(seconds=seconds))


def in_scope_of(row):
    return [event.tenant_id for event in AuditLog.objects.for_tenant(row).with_action("auth.*")]


# --- signing in and out, on record


def test_a_sign_in_is_on_record_with_who_and_from_where(client, root):
    answer = sign_in(client, password=PASSWORD, HTTP_USER_AGENT="Test/1", REMOTE_ADDR="192.0.2.7")

    assert (answer.status_code, answer["Location"]) == (302, reverse("controlplane:dashboard"))
    [event] = events()
    assert (event.action, event.outcome, event.tenant_id, event.user_id) == ("auth.login", "success", PLATFORM, root.pk)
    assert (event.actor_type, event.actor_id, event.actor_label) == ("operator", str(root.pk), "root@example.org")
    assert (event.ip, event.user_agent, event.resource_id) == ("192.0.2.7", "Test/1", str(root.pk))
    assert event.request_id == answer["X-Request-ID"]
    last_login = AuditLog.objects.for_object(root).with_action("update").get()
    assert (last_login.actor_id, list(last_login.after)) == (str(root.pk), ["last_login"])


def test_signing_out_is_on_record_and_only_of_who_was_in(client, root):
    client.post("/admin/logout/")
    assert events() == []
    client.force_login(root)
    assert client.get("/admin/logout/").status_code == 405

    answer = client.post("/admin/logout/")

    assert answer.status_code == 200
    [event] = events()
    assert (event.action, event.actor_id, event.user_id) == ("auth.logout", str(root.pk), root.pk)
    assert client.get("/admin/").status_code == 302


def test_who_is_in_is_led_on_and_a_session_lasts_twelve_hours(client, root):
    sign_in(client, password=PASSWORD)

    assert client.get(URL)["Location"] == reverse("controlplane:dashboard")
    assert client.session.get_expiry_age() == 12 * 3600


def test_the_page_leads_on_to_where_one_wanted_to_go(client, root):
    page = client.get("/admin/cp_tenants/user/", follow=True)
    form = {"username": "root", "password": PASSWORD, "next": "/admin/cp_tenants/user/"}

    assert 'value="/admin/cp_tenants/user/"' in page.content.decode()
    assert client.post(URL, form)["Location"] == "/admin/cp_tenants/user/"


@pytest.mark.parametrize(
    ("name", "password", "why", "known"),
    [
        ("root", "battery staple", "wrong_password", True),
        ("root", "x" * 1025, "password_too_long", False),
        ("nobody", PASSWORD, "unknown_name", False),
        ("nowhere/ada", PASSWORD, "unknown_name", False),
        ("n\x01body", PASSWORD, "unknown_name", False),
        ("n" * (MAX_NAME + 1), PASSWORD, "unknown_name", False),
        ("two@example.org", PASSWORD, "ambiguous_name", False),
        ("gone@example.org", PASSWORD, "user_disabled", True),
        ("acme/ada", PASSWORD, "not_staff", True),
        ("globex/bob", PASSWORD, "tenant_disabled", True),
    ],
)
def test_a_failure_says_one_thing_to_the_person_and_why_to_the_log(
    client, root, ada, acme, globex, name, password, why, known
):
    UserFactory(tenant=globex, username="bob")
    UserFactory(tenant=acme, email="gone@example.org", is_active=False)
    for tenant in (acme, globex):
        UserFactory(tenant=tenant, email="two@example.org")
    globex.suspend("unpaid")

    answer = sign_in(client, name, password)

    assert answer.status_code == 200
    assert "Nobody signs in to this admin with these." in answer.content.decode()
    [event] = events()
    assert (event.action, event.outcome, event.details) == ("auth.failed", "failure", {"why": why})
    assert (event.actor_type, event.user_id is not None) == ("anonymous", known)
    assert event.request_id == answer["X-Request-ID"]
    text = str([getattr(event, field.attname) for field in event._meta.fields])
    assert known or name not in text, "what was typed may be a password"
    assert password not in text


def test_a_failure_under_a_users_name_is_in_the_log_of_its_tenant(client, ada, acme):
    sign_in(client, "acme/ada")

    assert in_scope_of(acme) == [acme.pk]


def test_an_empty_form_is_no_attempt(client, root):
    for name, password in (("", PASSWORD), ("root", ""), ("", "")):
        assert sign_in(client, name, password).status_code == 200

    assert not SignInCount.objects.exists()
    assert events() == []


@pytest.mark.parametrize(
    "name", ["a\x00b", "\ud800", "%", "a/b/c", "//", "@", "' OR 1=1 --", "x" * 100_000, "cpk_live_x"]
)
def test_no_name_breaks_it(root, name):
    assert authenticate(username=name, password=PASSWORD) is None


@pytest.mark.parametrize("password", [None, 7, b"bytes", ["x"], "\ud800", "a\x00b"])
def test_no_password_breaks_it(root, password):
    assert authenticate(username="root", password=password) is None


# --- too many failures


@pytest.mark.parametrize("name", ["root", "nobody", "acme/ada", "acme/nobody", "two@example.org"])
def test_after_five_failures_under_a_name_it_is_429_whether_there_is_one_or_not(client, root, ada, name):
    for n in range(5):
        assert sign_in(client, name, REMOTE_ADDR=f"192.0.2.{n}").status_code == 200

    answer = sign_in(client, name, PASSWORD, REMOTE_ADDR="192.0.2.99")

    assert answer.status_code == 429
    assert 0 < int(answer["Retry-After"]) <= 900
    assert "Try again in 15 minutes." in answer.content.decode()
    assert "_auth_user_id" not in client.session


def test_a_name_is_counted_in_any_case(client, root):
    for n, name in enumerate(("root", "ROOT", "Root", "rOOT", "rooT")):
        sign_in(client, name, REMOTE_ADDR=f"192.0.2.{n}")

    assert sign_in(client, "RooT", PASSWORD, REMOTE_ADDR="192.0.2.99").status_code == 429


def test_a_name_is_counted_as_the_database_reads_it(client, root):
    """To PostgreSQL the Turkish İ is an i, and Σ is σ at the end of a word too; to Python neither is."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT lower('İΑΣ')")
        if cursor.fetchone() != ("iασ",):
            pytest.skip("this database has a locale that leaves these letters as they are")
    User.objects.filter(pk=root.pk).update(username="iiασ")
    for n, name in enumerate(("iiασ", "İiασ", "iİασ", "İİασ", "iiΑΣ")):
        assert sign_in(client, name, REMOTE_ADDR=f"192.0.2.{n}").status_code == 200

    assert sign_in(client, "İiΑΣ", PASSWORD, REMOTE_ADDR="192.0.2.99").status_code == 429


@pytest.mark.parametrize(
    ("addresses", "status"),
    [
        (["192.0.2.7"] * 6, 429),
        ([f"192.0.2.{n}" for n in range(6)], 200),
        (["2001:db8:1:2::1", "2001:db8:1:2::2", "2001:db8:1:2:3::", "2001:db8:1:2:4::", "2001:db8:1:2:5::5"] * 2, 429),
        ([f"2001:db8:1:{n}::1" for n in range(6)], 200),
        ([f"::ffff:192.0.2.{n}" for n in range(6)], 200),
        (["::ffff:192.0.2.7", "192.0.2.7"] * 3, 429),
        ([""] * 6, 200),
        (["unix:"] * 6, 200),
    ],
)
def test_an_address_is_counted_whatever_names_it_tries(client, root, addresses, status):
    answers = [sign_in(client, f"name-{n}", REMOTE_ADDR=address) for n, address in enumerate(addresses)]

    assert {answer.status_code for answer in answers[:5]} == {200}
    assert answers[-1].status_code == status


def test_behind_a_proxy_the_caller_is_counted_not_the_proxy(client, root):
    with override_settings(CONTROLPLANE={"AUDIT_TRUSTED_PROXIES": ("10.0.0.0/8",)}):
        for n in range(6):
            answer = sign_in(client, f"a-{n}", REMOTE_ADDR="10.0.0.1", HTTP_X_FORWARDED_FOR=f"192.0.2.{n}")
        assert answer.status_code == 200
        for n in range(6):  # what the caller wrote there itself is not believed
            answer = sign_in(
                client, f"b-{n}", REMOTE_ADDR="10.0.0.1", HTTP_X_FORWARDED_FOR=f"203.0.113.{n}, 192.0.2.77"
            )
        assert answer.status_code == 429


def test_the_right_password_is_no_failure_and_does_not_wipe_out_others(client, root, ada):
    for _ in range(4):
        sign_in(client)
    for _ in range(10):
        assert sign_in(client, password=PASSWORD).status_code == 302
        client.logout()

    assert sign_in(client).status_code == 200
    assert sign_in(client, password=PASSWORD).status_code == 429


def test_the_right_password_of_who_is_no_operator_counts_as_a_wrong_one(client, ada):
    for _ in range(5):
        assert sign_in(client, "acme/ada", PASSWORD).status_code == 200

    assert sign_in(client, "acme/ada", PASSWORD).status_code == 429


def test_after_the_window_it_begins_anew(client, root):
    for _ in range(6):
        sign_in(client)
    age(899)
    assert sign_in(client, password=PASSWORD).status_code == 429
    age(2)

    assert sign_in(client, password=PASSWORD).status_code == 302


def test_a_refusal_does_not_make_the_wait_longer(client, root):
    for _ in range(6):
        sign_in(client)
    age(600)

    answers = [sign_in(client) for _ in range(20)]

    assert {answer.status_code for answer in answers} == {429}
    assert int(answers[-1]["Retry-After"]) <= 300
    assert "Try again in 5 minutes." in answers[-1].content.decode()


def test_only_the_first_refusal_of_a_window_is_on_record(client, root):
    for _ in range(30):
        sign_in(client)

    assert len(events("auth.failed")) == 5
    [event] = events("auth.throttled")
    assert (event.outcome, event.actor_type, event.user_id) == ("denied", "anonymous", None)


def test_a_refusal_computes_no_hash(client, root):
    for _ in range(5):
        sign_in(client)
    with hashed_by(CountingHasher):
        CountingHasher.hashed = 0

        assert sign_in(client).status_code == 429

    assert CountingHasher.hashed == 0


def test_windows_that_are_over_are_removed(client, root):
    for n in range(3):
        sign_in(client, f"name-{n}", REMOTE_ADDR=f"192.0.2.{n}")
    age(901)

    sign_in(client, REMOTE_ADDR="192.0.2.77")

    assert SignInCount.objects.count() == 2


def test_no_name_and_no_address_is_kept_where_it_is_counted(client, root):
    sign_in(client, "my secret password", REMOTE_ADDR="192.0.2.7")

    kept = str(list(SignInCount.objects.values()))
    assert "secret" not in kept
    assert "192.0.2" not in kept


def test_the_limits_are_settings(client, root):
    with override_settings(CONTROLPLANE={"SIGN_IN_FAILURES": 1, "SIGN_IN_WINDOW": 30}):
        assert sign_in(client).status_code == 200
        answer = sign_in(client)

    assert (answer.status_code, int(answer["Retry-After"]) <= 30) == (429, True)
    assert "Try again in 1 minute." in answer.content.decode()


# --- outside the admin


def test_authenticate_refuses_by_an_error_and_needs_no_request(ada):
    for _ in range(5):
        assert authenticate(username="acme/ada", password="wrong") is None
    with pytest.raises(SignInRefused) as caught:
        authenticate(username="acme/ada", password=PASSWORD)

    assert (caught.value.code, caught.value.http_status) == ("too_many_failures", 429)
    assert [event.ip for event in events("auth.failed")] == [None] * 5


def test_a_tenants_user_signs_in_elsewhere(ada):
    request = RequestFactory().post("/", REMOTE_ADDR="192.0.2.7")

    assert authenticate(request, username="acme/ada", password=PASSWORD) == ada
    assert events() == []


@pytest.mark.django_db(transaction=True)
def test_a_coroutine_meets_the_same_rules():
    root = OperatorFactory(email="root@example.org", username="root")

    assert async_to_sync(aauthenticate)(username="root", password=PASSWORD) == root
    for _ in range(5):
        assert async_to_sync(aauthenticate)(username="root", password="wrong") is None
    with pytest.raises(SignInRefused):
        async_to_sync(aauthenticate)(username="root", password=PASSWORD)
    assert async_to_sync(root.aget_all_permissions)() == root.get_all_permissions()


@pytest.mark.parametrize(
    ("name", "password", "hashes"),
    [
        ("root", PASSWORD, 1),
        ("root@example.org", "wrong", 1),
        ("nobody", PASSWORD, 1),
        ("acme/nobody", PASSWORD, 1),
        ("two@example.org", PASSWORD, 1),
        ("gone@example.org", PASSWORD, 1),
        ("acme/ada", PASSWORD, 1),
        ("unusable@example.org", PASSWORD, 1),
        ("imported@example.org", PASSWORD, 1),
        ("garbage@example.org", PASSWORD, 1),
        ("\x00", PASSWORD, 1),
        ("root", "x" * 1025, 0),
    ],
)
def test_exactly_one_hash_is_computed_on_every_path(client, acme, globex, name, password, hashes):
    with hashed_by(CountingHasher):
        OperatorFactory(email="root@example.org", username="root")
        UserFactory(tenant=acme, username="ada")
        UserFactory(tenant=acme, email="gone@example.org", is_active=False)
        for tenant in (acme, globex):
            UserFactory(tenant=tenant, email="two@example.org")
        for email, kept in (("unusable", "!"), ("imported", "other$1$x"), ("garbage", "")):
            made = OperatorFactory(email=f"{email}@example.org")
            User.objects.filter(pk=made.pk).update(password=kept)
        CountingHasher.hashed = 0

        authenticate(username=name, password=password, staff=True)

        assert CountingHasher.hashed == hashes


# --- too many at once


def test_a_machine_that_hashes_all_it_can_answers_503_and_counts_nothing(client, root):
    WaitingHasher.begun.clear()
    WaitingHasher.go_on.clear()
    with hashed_by(WaitingHasher), override_settings(CONTROLPLANE={"PASSWORD_HASHES": 1, "PASSWORD_WAIT": 0}):
        thread = Thread(target=User().set_password, args=[PASSWORD])
        thread.start()
        assert WaitingHasher.begun.wait(timeout=30)
        answer = sign_in(client)
        WaitingHasher.go_on.set()
        thread.join()

    assert (answer.status_code, answer["Retry-After"]) == (503, "5")
    assert "Try again in a few seconds." in answer.content.decode()
    assert 'value="root"' in answer.content.decode()
    assert events() == []
    assert {row.failures for row in SignInCount.objects.all()} == {0}
