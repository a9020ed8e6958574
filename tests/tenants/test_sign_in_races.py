"""Sign-ins at once, and in requests that come to nothing."""

from __future__ import annotations

import pytest
from django.contrib.auth import authenticate
from django.db import transaction
from django.test import Client

from auditing.models import AuditLog
from tenants.errors import SignInRefused
from tenants.models import SignInCount
from tests.factories import OperatorFactory
from tests.races import together

pytestmark = pytest.mark.django_db(transaction=True)

URL = "/admin/login/"


@pytest.fixture
def root():
    return OperatorFactory(email="root@example.org", username="root")


class Rollback(Exception):
    pass


def test_a_failure_and_its_count_stay_though_the_callers_transaction_comes_to_nothing(root):
    for _ in range(6):
        with pytest.raises((Rollback, SignInRefused)), transaction.atomic():
            OperatorFactory()
            assert authenticate(username="root", password="wrong") is None
            raise Rollback

    with pytest.raises(SignInRefused):
        authenticate(username="root", password="correct horse")
    assert AuditLog.objects.with_action("auth.failed").count() == 5
    assert AuditLog.objects.with_action("auth.throttled").count() == 1
    assert type(root).objects.count() == 1


def test_of_thirty_guesses_at_once_five_are_looked_at(root):
    def guess():
        return Client().post(URL, {"username": "root", "password": "wrong"}).status_code

    outcomes = together(*([guess] * 30))

    assert sorted(outcomes) == [200] * 5 + [429] * 25
    assert AuditLog.objects.with_action("auth.failed").count() == 5
    assert AuditLog.objects.with_action("auth.throttled").count() == 1


def test_right_passwords_one_after_the_other_beside_guesses_from_elsewhere_all_open(root):
    def right():
        return [
            Client()
            .post(URL, {"username": "root@example.org", "password": "correct horse"}, REMOTE_ADDR="192.0.2.1")
            .status_code
            for _ in range(10)
        ]

    def guess(n):
        return Client().post(URL, {"username": f"name-{n}", "password": "wrong"}, REMOTE_ADDR="192.0.2.9").status_code

    outcomes = together(right, *(lambda n=n: guess(n) for n in range(10)))

    assert outcomes[0] == [302] * 10
    assert sorted(outcomes[1:]) == [200] * 5 + [429] * 5
    assert sorted(SignInCount.objects.values_list("failures", flat=True))[:2] == [0, 0]


def test_the_sign_in_page_holds_no_transaction_open_while_a_password_is_hashed(root, client):
    seen = []

    class Watcher:
        def __call__(self, execute, sql, params, many, context):
            seen.append((sql.split()[0], transaction.get_connection().in_atomic_block))
            return execute(sql, params, many, context)

    with transaction.get_connection().execute_wrapper(Watcher()):
        client.post(URL, {"username": "root", "password": "wrong"})

    assert ("INSERT", True) in seen, "the count, in a transaction of its own"
    assert [sql for sql, inside in seen if not inside and sql == "SELECT"] != [], "the user, in none"
