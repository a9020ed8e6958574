"""Refresh tokens at once, and in transactions that come to nothing: real threads, real rollbacks."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.db import connections, transaction
from django.http import HttpResponse
from django.test import override_settings
from django.urls import path

from auditing.context import audit_context
from auditing.models import AuditLog
from controlplane.core.ids import now
from tenants.apart import apart
from tenants.errors import InvalidRefreshToken
from tenants.models import RefreshFamily, RefreshToken, User
from tests.factories import TenantFactory, UserFactory
from tests.races import together

pytestmark = pytest.mark.django_db(transaction=True)

LATER = timedelta(seconds=11)


@pytest.fixture
def ada():
    return UserFactory(tenant=TenantFactory(slug="acme"))


@pytest.fixture
def issued(ada):
    return RefreshToken.objects.issue(ada)


def code_of(outcome):
    return outcome.code if isinstance(outcome, InvalidRefreshToken) else outcome


def reused(token):
    with pytest.raises(InvalidRefreshToken) as caught:
        RefreshToken.objects.rotate(token, at=now() + LATER)
    assert caught.value.code == "reused"


def ended(issued):
    return RefreshFamily.objects.get(pk=issued.family.pk).revoked_reason


class Rollback(Exception):
    pass


# --- a copy is found out while the caller's transaction comes to nothing


def test_the_revocation_stays_though_the_caller_rolls_back(issued):
    second = RefreshToken.objects.rotate(issued.token)

    with pytest.raises(Rollback), audit_context(actor="portal"):
        User.objects.filter(pk=issued.family.user_id).update(display_name="lost")
        reused(issued.token)
        raise Rollback

    assert ended(issued) == "reuse"
    assert User.objects.get().display_name == ""
    with pytest.raises(InvalidRefreshToken, match="has ended"):
        RefreshToken.objects.rotate(second.token)
    row = AuditLog.objects.for_object(issued.family).with_action("update").get()
    assert (row.actor_id, row.reason) == ("portal", "a spent refresh token was used again")


def test_the_callers_transaction_goes_on_after_it(issued):
    RefreshToken.objects.rotate(issued.token)

    with transaction.atomic():
        reused(issued.token)
        User.objects.filter(pk=issued.family.user_id).update(display_name="kept")

    assert (ended(issued), User.objects.get().display_name) == ("reuse", "kept")


def refresh(request):
    """As an API does it: the refusal leaves the view as an exception, so the request's transaction is rolled back."""
    User.objects.update(display_name="lost")
    RefreshToken.objects.rotate(request.GET["token"], at=now() + LATER)
    return HttpResponse("not reached")


urlpatterns = [path("refresh/", refresh)]


def test_the_revocation_stays_under_atomic_requests(issued, client, settings, monkeypatch):
    RefreshToken.objects.rotate(issued.token)
    settings.ROOT_URLCONF, settings.MIDDLEWARE = __name__, []
    monkeypatch.setitem(connections.settings["default"], "ATOMIC_REQUESTS", True)
    client.raise_request_exception = False

    answer = client.get("/refresh/", {"token": issued.token})

    assert answer.status_code == 500
    assert (ended(issued), User.objects.get().display_name) == ("reuse", "")


def test_a_family_that_only_the_caller_knows_is_revoked_inside_its_transaction(ada):
    with transaction.atomic():
        issued = RefreshToken.objects.issue(ada)
        RefreshToken.objects.rotate(issued.token)
        reused(issued.token)
        assert ended(issued) == "reuse"

    assert ended(issued) == "reuse"


def test_a_family_that_the_caller_itself_has_locked_is_revoked_inside_its_transaction(issued):
    second = RefreshToken.objects.rotate(issued.token)

    with transaction.atomic():
        RefreshToken.objects.rotate(second.token)
        reused(issued.token)

    assert ended(issued) == "reuse"


def test_the_connection_of_its_own_is_closed(issued):
    RefreshToken.objects.rotate(issued.token)
    used = []

    with transaction.atomic():
        mine = apart(lambda: used.append(connections["default"].connection))

    assert mine is None
    assert used[0].closed
    assert used[0] is not connections["default"].connection


def test_work_apart_is_kept_and_its_error_reaches_the_caller(ada):
    def fail():
        User.objects.update(display_name="undone")
        raise Rollback

    with pytest.raises(Rollback), transaction.atomic():
        apart(lambda: User.objects.update(username="kept"))
        raise Rollback
    with pytest.raises(Rollback), transaction.atomic():
        apart(fail)
    with pytest.raises(Rollback):
        apart(fail)

    ada.refresh_from_db()
    assert (ada.username, ada.display_name) == ("kept", "")


# --- at once


def test_of_twenty_rotations_at_once_one_gets_the_successor(issued):
    outcomes = together(*(lambda: RefreshToken.objects.rotate(issued.token) for _ in range(20)))

    given = [outcome for outcome in outcomes if not isinstance(outcome, Exception)]
    assert len(given) == 1
    assert [code_of(outcome) for outcome in outcomes if outcome not in given] == ["already_rotated"] * 19
    assert RefreshToken.objects.filter(family=issued.family).count() == 2
    assert ended(issued) == ""
    assert RefreshToken.objects.rotate(given[0].token).refresh.generation == 3


def test_of_twenty_copies_at_once_none_gets_anything_and_the_family_ends_once(issued):
    RefreshToken.objects.rotate(issued.token)
    at = now() + LATER

    outcomes = together(*(lambda: RefreshToken.objects.rotate(issued.token, at=at) for _ in range(20)))

    codes = {code_of(outcome) for outcome in outcomes}
    assert "reused" in codes
    assert codes <= {"reused", "revoked"}
    assert AuditLog.objects.for_object(issued.family).with_action("update").count() == 1


@override_settings(CONTROLPLANE={"REFRESH_MAX_FAMILIES": 3})
def test_issues_at_once_stay_within_the_limit(ada):
    outcomes = together(*(lambda: RefreshToken.objects.issue(ada) for _ in range(10)))

    assert [outcome for outcome in outcomes if isinstance(outcome, Exception)] == []
    assert RefreshToken.objects.count_active(ada) == 3


def test_a_deactivation_beside_issues_and_rotations_leaves_nothing_live(ada, issued):
    def issue():
        return RefreshToken.objects.issue(User.objects.get(pk=ada.pk))

    together(
        *(issue for _ in range(5)),
        lambda: RefreshToken.objects.rotate(issued.token),
        lambda: User.objects.get(pk=ada.pk).deactivate("left"),
        *(issue for _ in range(5)),
    )

    User.objects.get(pk=ada.pk).activate("came back")
    assert RefreshToken.objects.count_active(ada) == 0


def test_two_purges_at_once_remove_each_family_once(ada):
    for _ in range(20):
        RefreshToken.objects.issue(ada)
    later = now() + timedelta(days=91)

    removed = together(*(lambda: RefreshToken.objects.purge_expired(at=later) for _ in range(3)))

    assert sum(removed) + RefreshToken.objects.purge_expired(at=later) == 20
    assert (RefreshFamily.objects.count(), RefreshToken.objects.count()) == (0, 0)
