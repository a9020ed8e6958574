"""A user's page, the sessions' page, and the commands beside them."""

from __future__ import annotations

from datetime import timedelta
from uuid import uuid4

import pytest
from django.urls import reverse

from auditing.models import AuditLog
from controlplane.core.ids import now
from tenants.errors import InvalidRefreshToken
from tenants.models import APIKey, RefreshFamily, RefreshToken, User, UserApp
from tests.admin_rows import Page
from tests.factories import OperatorFactory, RefreshFamilyFactory, RefreshTokenFactory, UserFactory, issue
from tests.tenants.test_admin import act
from tests.tenants.test_commands import refused, run

pytestmark = pytest.mark.django_db

LIST = reverse("admin:cp_tenants_refreshfamily_changelist")


@pytest.fixture
def operator(client):
    client.force_login(OperatorFactory(email="root@example.org"))
    return client


@pytest.fixture
def ada(acme):
    return UserFactory(tenant=acme, email="ada@acme.example", username="ada")


@pytest.fixture
def session(ada):
    return RefreshToken.objects.issue(ada, client="Firefox on Linux")


def page_of(row):
    return reverse(f"admin:cp_tenants_{row._meta.model_name}_change", args=[row.pk])


def live(issued):
    issued.family.refresh_from_db()
    return issued.family.revoked_at is None


# --- the user's page


def test_a_users_page_shows_apps_keys_and_sessions_and_leads_to_them(operator, ada, acme_app, session):
    key = issue(acme_app, user=ada, name="her notebook").key
    access = acme_app.grant(ada)
    issue(acme_app, name="of the app")
    RefreshToken.objects.rotate(session.token)

    answer = operator.get(page_of(ada))

    page = Page(answer)
    text = answer.content.decode()
    assert page.faults == []
    assert {page_of(key), page_of(access), page_of(session.family)} <= set(page.links())
    assert "her notebook" in text
    assert "Firefox on Linux" in text
    assert "of the app" not in text
    assert session.token not in text


def test_a_users_page_shows_the_newest_fifty(operator, ada):
    for n in range(55):
        RefreshFamilyFactory(user=ada, client=f"client-{n:02}")

    text = operator.get(page_of(ada)).content.decode()

    assert "client-54" in text
    assert "client-05" in text
    assert "client-04" not in text


def test_an_operators_page_has_none_of_them(operator):
    root = User.objects.get(email="root@example.org")

    assert "personal API keys" not in operator.get(page_of(root)).content.decode()


def test_the_page_before_a_deactivation_says_what_ends_and_what_was_seen(operator, ada, acme_app, session):
    acme_app.grant(ada)
    issue(acme_app, user=ada)
    issue(acme_app, by_id=ada.pk)

    asked = act(operator, User, "deactivate", [ada])
    done = act(operator, User, "deactivate", [ada], cp_reason="left")

    assert [value for _, value in asked.context["preview"]] == ["1", "1", "1", "1"]
    assert "user_deactivate" in asked.content.decode()
    assert done.status_code == 200
    ada.refresh_from_db()
    assert (ada.is_active, live(session)) == (False, False)


def test_sessions_of_a_user_are_ended_with_a_reason(operator, ada, session):
    other = RefreshToken.objects.issue(UserFactory(tenant=ada.tenant))

    asked = act(operator, User, "end_sessions", [ada])
    act(operator, User, "end_sessions", [ada], cp_reason="laptop stolen")

    assert asked.context["preview"] == [("Sessions that end", "1")]
    assert (live(session), live(other)) == (False, True)
    row = AuditLog.objects.for_object(session.family).with_action("update").get()
    assert (row.reason, row.actor_label) == ("laptop stolen", "root@example.org")
    ada.refresh_from_db()
    assert ada.is_active


def test_the_page_before_an_access_ends_counts_the_keys_that_go_on(operator, ada, acme_app):
    access = acme_app.grant(ada)
    key = issue(acme_app, user=ada).key

    asked = act(operator, UserApp, "revoke_access", [access])
    act(operator, UserApp, "revoke_access", [access], cp_reason="moved")

    assert asked.context["preview"] == [(f"{ada} in {acme_app}: keys that go on", "1")]
    key.refresh_from_db()
    assert key.revoked_at is None


# --- the sessions' page


def test_sessions_are_listed_by_state(operator, ada, acme):
    made = {name: RefreshToken.objects.issue(ada, client=name) for name in ("lives", "left", "copied")}
    RefreshToken.objects.revoke(made["left"].token)
    RefreshToken.objects.rotate(made["copied"].token)
    with pytest.raises(InvalidRefreshToken, match="second time"):
        RefreshToken.objects.rotate(made["copied"].token, at=now() + timedelta(seconds=11))
    expired = RefreshFamilyFactory(user=ada, client="expired")
    RefreshTokenFactory(family=expired, issued_at=now() - timedelta(days=15), expires_at=now() - timedelta(days=1))
    gone = UserFactory(tenant=acme)
    RefreshToken.objects.issue(gone, client="void")
    User.objects.filter(pk=gone.pk).update(is_active=False)

    def shown(state=""):
        return {row.client for row in operator.get(LIST, {"state": state}).context["cl"].result_list}

    assert shown() == {"lives", "left", "copied", "expired", "void"}
    assert (shown("live"), shown("ended"), shown("copied")) == ({"lives"}, {"left", "copied"}, {"copied"})
    text = operator.get(LIST).content.decode()
    assert "somebody has a copy" in text
    assert "the user was deactivated" in text
    assert "expired" in text


def test_a_session_is_ended_from_its_page_once(operator, session):
    answer = operator.get(page_of(session.family))
    assert [name for name, _ in answer.context["object_actions"]] == ["end"]

    act(operator, RefreshFamily, "end", [session.family], cp_reason="asked to")

    assert not live(session)
    assert session.family.revoked_reason == "logout"
    assert operator.get(page_of(session.family)).context["object_actions"] == []


def test_a_session_is_neither_made_nor_changed_by_a_form(operator, session):
    assert operator.get(reverse("admin:cp_tenants_refreshfamily_add")).status_code == 403
    assert operator.post(page_of(session.family), {"client": "x"}).status_code == 403
    assert live(session)


def test_who_may_look_at_sessions_may_not_end_them(client, session):
    from django.contrib.auth.models import Permission

    clerk = OperatorFactory(is_superuser=False)
    clerk.user_permissions.add(Permission.objects.get(codename="view_refreshfamily"))
    client.force_login(clerk)

    assert client.get(page_of(session.family)).context["object_actions"] == []
    assert act(client, RefreshFamily, "end", [session.family], cp_reason="x").status_code == 403
    assert live(session)


# --- commands


def test_all_sessions_or_one_are_ended_by_command(ada, session):
    other = RefreshToken.objects.issue(ada)
    end = ("refresh_revoke", "ADA@acme.example", "--tenant", "acme", "--reason", "stolen")

    assert run(*end, "--family", str(session.family.pk))[0] == f"Ended the session {session.family.pk} of {ada.email}."
    assert "had ended before" in run(*end, "--family", str(session.family.pk))[0]
    assert (live(session), live(other)) == (False, True)
    assert run(*end)[0] == "Ended 1 sessions of ada@acme.example."
    row = AuditLog.objects.for_object(other.family).with_action("update").get()
    assert (row.actor_id, row.reason, row.after["revoked_reason"]) == ("refresh_revoke", "stolen", "all")


def test_a_session_of_somebody_else_is_not_found(ada, session, globex):
    other = RefreshToken.objects.issue(UserFactory(tenant=globex))
    end = ("refresh_revoke", "ada", "--tenant", "acme", "--reason", "x", "--family")

    for id in (other.family.pk, uuid4()):
        code, said = refused(*end, str(id))
        assert (code, "no session" in said) == (2, True)
    assert refused("refresh_revoke", "ada", "--tenant", "globex", "--reason", "x")[0] == 2
    assert (live(session), live(other)) == (True, True)


def test_old_sessions_are_purged_by_command(ada, session):
    RefreshTokenFactory(
        family=RefreshFamilyFactory(
            user=ada, created_at=now() - timedelta(days=91), absolute_expires_at=now() - timedelta(days=1)
        )
    )

    assert run("refresh_purge", "--dry-run")[0] == "1 sessions would be removed."
    assert run("refresh_purge")[0] == "Removed 1 sessions."
    assert run("refresh_purge")[0] == "Removed 0 sessions."
    assert live(session)


def test_the_command_says_what_a_deactivation_stops_before_and_after(ada, acme_app, session):
    acme_app.grant(ada)
    issue(acme_app, user=ada)
    issue(acme_app, by_id=ada.pk)
    leave = ("user_deactivate", "ada", "--tenant", "acme", "--reason", "left")
    what = "1 live keys, 1 sessions, 1 app accesses; 1 keys that they issued for apps go on, rotate them"

    assert run(*leave, "--dry-run")[0] == f"Deactivating ada@acme.example would stop {what}."
    assert live(session)
    assert run(*leave)[0] == f"Deactivated ada@acme.example, and with it {what}."
    assert not live(session)


def test_an_access_ends_by_command_with_the_keys_listed_or_revoked(ada, acme_app, globex_app):
    acme_app.grant(ada)
    key = issue(acme_app, user=ada, name="notebook").key
    issue(acme_app, name="of the app")
    end = ("access_revoke", "ada", "--tenant", "acme", "--app", "chat")

    out, err = run(*end, "--reason", "moved")
    assert (err, "no access" in out) == (f"Goes on: the key notebook ({key.pk})", True)
    assert refused(*end)[0] == 1
    assert refused(*end, "--keys") == (1, "Say why: this is kept in the audit log.")
    out, err = run(*end, "--reason", "moved", "--keys")

    assert err == f"Revoked: the key notebook ({key.pk})"
    assert [one.name for one in APIKey.objects.live()] == ["of the app"]
    key.refresh_from_db()
    assert key.revoke_reason == "moved"
