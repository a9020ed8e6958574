from __future__ import annotations

from threading import Barrier, Event, Lock, Thread

import pytest
from asgiref.sync import async_to_sync
from django.conf import settings
from django.contrib.auth.hashers import MD5PasswordHasher, identify_hasher, make_password
from django.contrib.auth.password_validation import validate_password
from django.core.exceptions import ValidationError
from django.test import override_settings

from controlplane import settings as project
from tenants.errors import PasswordsBusy, TenantsError
from tenants.models import RefreshToken, User
from tests.factories import OperatorFactory, UserFactory

PASSWORD = "correct horse"


class CountingHasher(MD5PasswordHasher):
    algorithm = "counting"
    hashed = 0

    def encode(self, password, salt):
        type(self).hashed += 1
        return super().encode(password, salt)


class MeetingHasher(MD5PasswordHasher):
    """Hashes in pairs: one goes on when another has come."""

    algorithm = "meeting"
    pair, lock, at_work, most = Barrier(2), Lock(), 0, 0

    def encode(self, password, salt):
        cls = type(self)
        with cls.lock:
            cls.at_work += 1
            cls.most = max(cls.most, cls.at_work)
        cls.pair.wait(timeout=30)
        with cls.lock:
            cls.at_work -= 1
        return super().encode(password, salt)


class WaitingHasher(MD5PasswordHasher):
    """Hashes when it is told to."""

    algorithm = "waiting"
    begun, go_on = Event(), Event()

    def encode(self, password, salt):
        type(self).begun.set()
        assert type(self).go_on.wait(timeout=30)
        return super().encode(password, salt)


class FailingHasher(MD5PasswordHasher):
    algorithm = "failing"

    def encode(self, password, salt):
        raise MemoryError


def hashed_by(*hashers):
    return override_settings(PASSWORD_HASHERS=[f"{__name__}.{hasher.__name__}" for hasher in hashers])


# --- how long


@pytest.mark.parametrize("password", ["x" * 1025, "é" * 513, "x" * 5_000_000])
def test_a_password_over_1024_bytes_is_refused_before_it_is_hashed(password):
    with hashed_by(CountingHasher):
        user = User(password=make_password(PASSWORD))
        CountingHasher.hashed = 0

        assert user.check_password(password) is False
        with pytest.raises(TenantsError) as caught:
            user.set_password(password)

    assert caught.value.code == "password_too_long"
    assert CountingHasher.hashed == 0


def test_one_of_1024_bytes_works():
    user = User()
    user.set_password("é" * 512)

    assert user.check_password("é" * 512)
    assert not user.check_password("é" * 511)


def test_half_a_character_is_no_password():
    user = User(password=make_password(PASSWORD))

    assert user.check_password("\ud800") is False
    with pytest.raises(TenantsError) as caught:
        user.set_password("\ud800")
    assert caught.value.code == "password_unreadable"


def test_a_form_says_by_its_field_what_would_be_refused():
    with pytest.raises(ValidationError) as caught:
        validate_password("long enough " * 100)

    assert [error.code for error in caught.value.error_list] == ["password_too_long"]
    assert validate_password("a password long enough") is None


# --- which hasher


@pytest.mark.parametrize("length", [1, 72, 73, 1024])
def test_the_projects_hasher_reads_the_whole_password_in_12_rounds(length):
    with override_settings(PASSWORD_HASHERS=project.PASSWORD_HASHERS):
        user = User()
        user.set_password("x" * length)

        assert user.password.startswith("bcrypt_sha256$$2b$12$")
        assert user.check_password("x" * length)
        assert not user.check_password("x" * length + "y") if length < 1024 else not user.check_password("x" * 1023)


@pytest.mark.django_db
@pytest.mark.parametrize("hasher", ["argon2", "pbkdf2_sha256"])
def test_an_imported_hash_works_and_is_replaced(hasher):
    with override_settings(PASSWORD_HASHERS=project.PASSWORD_HASHERS):
        user = UserFactory()
        user.password = make_password(PASSWORD, hasher=hasher)
        assert not user.check_password("wrong")
        assert identify_hasher(user.password).algorithm == hasher

        assert user.check_password(PASSWORD)

        user.refresh_from_db()
        assert identify_hasher(user.password).algorithm == "bcrypt_sha256"


# --- how many at once


def test_as_many_are_hashed_at_once_as_the_setting_says_and_no_more():
    MeetingHasher.most = 0
    with hashed_by(MeetingHasher), override_settings(CONTROLPLANE={"PASSWORD_HASHES": 2, "PASSWORD_WAIT": 30}):
        right = []
        users = [User() for _ in range(6)]
        threads = [Thread(target=lambda user=user: right.append(user.set_password(PASSWORD))) for user in users]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    assert (len(right), MeetingHasher.most, MeetingHasher.at_work) == (6, 2, 0)
    assert len({user.password for user in users}) == 6


def test_who_waits_too_long_for_a_turn_is_told_so_and_the_turn_comes_back():
    WaitingHasher.begun.clear()
    WaitingHasher.go_on.clear()
    with hashed_by(WaitingHasher), override_settings(CONTROLPLANE={"PASSWORD_HASHES": 1, "PASSWORD_WAIT": 0}):
        first = User()
        thread = Thread(target=first.set_password, args=[PASSWORD])
        thread.start()
        assert WaitingHasher.begun.wait(timeout=30)

        with pytest.raises(PasswordsBusy) as caught:
            User(password="waiting$salt$x").check_password(PASSWORD)
        WaitingHasher.go_on.set()
        thread.join()

        assert (caught.value.code, caught.value.http_status, caught.value.retry_after) == ("passwords_busy", 503, 5)
        assert first.check_password(PASSWORD)


def test_a_hasher_that_fails_gives_its_turn_back():
    with override_settings(CONTROLPLANE={"PASSWORD_HASHES": 1, "PASSWORD_WAIT": 0}):
        with hashed_by(FailingHasher), pytest.raises(MemoryError):
            User().set_password(PASSWORD)
        User().set_password(PASSWORD)


# --- what a new password ends


@pytest.fixture
def ada(acme):
    return UserFactory(tenant=acme)


@pytest.fixture
def session(ada):
    return RefreshToken.objects.issue(ada)


def ended(issued):
    issued.family.refresh_from_db()
    return issued.family.revoked_reason


def test_a_new_password_ends_every_family(ada, session):
    ada.set_password("another horse")
    assert ended(session) == ""
    ada.save()

    assert ended(session) == "all"
    assert RefreshToken.objects.count_active(ada) == 0
    again = RefreshToken.objects.issue(ada)
    ada.save()
    assert ended(again) == ""


def test_a_new_password_given_by_an_operator_ends_every_family_too(client, ada, session):
    client.force_login(OperatorFactory())
    form = {"usable_password": "true", "password1": "another horse", "password2": "another horse"}

    answer = client.post(f"/admin/cp_tenants/user/{ada.pk}/password/", form)

    assert answer.status_code == 302
    assert ended(session) == "all"


def test_a_password_that_is_taken_away_leaves_a_session_until_it_is_ended(ada, session):
    ada.set_unusable_password()
    ada.save()

    assert ended(session) == ""


def test_the_silent_upgrade_of_a_hash_ends_nothing(ada, session):
    with override_settings(PASSWORD_HASHERS=[f"{__name__}.CountingHasher", *settings.PASSWORD_HASHERS]):
        before, CountingHasher.hashed = ada.password, 0

        assert ada.check_password(PASSWORD)

        stored = User.objects.get(pk=ada.pk)
        assert stored.password != before
        assert stored.password.startswith("counting$")
        assert CountingHasher.hashed == 1
        assert stored.check_password(PASSWORD)
    assert ended(session) == ""


def test_the_silent_upgrade_of_a_hash_does_not_bring_back_a_password_that_was_changed_meanwhile(ada):
    stale = User.objects.get(pk=ada.pk)  # as a sign-in that is hashing
    with override_settings(PASSWORD_HASHERS=[f"{__name__}.CountingHasher", *settings.PASSWORD_HASHERS]):
        ada.set_password("another horse")
        ada.save()

        assert stale.check_password(PASSWORD)

        stored = User.objects.get(pk=ada.pk)
        assert stored.check_password("another horse")
        assert not stored.check_password(PASSWORD)


def test_other_changes_end_nothing(ada, session):
    ada.display_name = "Ada"
    ada.save()
    ada.check_password(PASSWORD)
    ada.check_password("wrong")

    assert ended(session) == ""


@pytest.mark.django_db(transaction=True)
def test_a_password_is_checked_from_a_coroutine_by_the_same_rules():
    user = UserFactory()

    assert async_to_sync(user.acheck_password)(PASSWORD)
    assert not async_to_sync(user.acheck_password)("wrong")
    assert not async_to_sync(user.acheck_password)("x" * 1025)
