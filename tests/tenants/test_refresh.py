from __future__ import annotations

from datetime import timedelta

import pytest
from django.db import connection
from django.test import override_settings

from auditing.models import AuditLog
from controlplane.core.ids import now
from tenants import tokens
from tenants.checks import check_versions
from tenants.errors import InvalidRefreshToken, KeyOperationError, TenantsError
from tenants.models import RefreshFamily, RefreshToken, User
from tenants.scope import tenant_scope
from tests.factories import OperatorFactory, RefreshFamilyFactory, RefreshTokenFactory, TenantFactory, UserFactory
from tests.tenants.test_commands import run

pytestmark = pytest.mark.django_db

DAY = timedelta(days=1)
SECOND = timedelta(seconds=1)


@pytest.fixture
def ada(acme):
    return UserFactory(tenant=acme, email="ada@acme.example")


@pytest.fixture
def issued(ada):
    return RefreshToken.objects.issue(ada, client="laptop")


def refused(call, *args, **kwargs):
    """(code, status) of a refusal, whose message holds no token."""
    with pytest.raises(InvalidRefreshToken) as caught:
        call(*args, **kwargs)
    assert "cpr_" not in caught.value.message
    return caught.value.code, caught.value.http_status


def rotate(token, **kwargs):
    return RefreshToken.objects.rotate(token, **kwargs)


def ended(issued):
    """Why a family has been revoked; empty: it was not."""
    return RefreshFamily.objects.get(pk=issued.family.pk).revoked_reason


# --- issuing


def test_a_token_is_shown_once_and_kept_as_a_digest(issued, ada):
    assert tokens.well_formed_refresh(issued.token)
    assert bytes(issued.refresh.digest) == tokens.sha256(issued.token)
    assert (issued.family.user, issued.family.tenant_id, issued.family.client) == (ada, ada.tenant_id, "laptop")
    assert (issued.refresh.generation, issued.refresh.used_at) == (1, None)
    assert issued.token not in repr(issued) + str(vars(issued.refresh)) + str(vars(issued.family))
    row = AuditLog.objects.for_object(issued.family).get()
    assert (row.action, row.tenant_id, row.user_id) == ("create", ada.tenant_id, ada.pk)


def test_its_ends_are_the_settings():
    before = now()
    with override_settings(CONTROLPLANE={"REFRESH_IDLE": 60, "REFRESH_ABSOLUTE": 3600}):
        made = RefreshToken.objects.issue(UserFactory())

    assert before + 60 * SECOND <= made.refresh.expires_at <= now() + 60 * SECOND
    assert before + 3600 * SECOND <= made.family.absolute_expires_at <= now() + 3600 * SECOND


def test_an_operator_holds_none():
    with pytest.raises(TenantsError) as caught:
        RefreshToken.objects.issue(OperatorFactory())

    assert caught.value.code == "operator"


def test_who_is_deactivated_or_suspended_gets_none(ada, acme):
    acme.suspend("unpaid")
    assert refused(RefreshToken.objects.issue, ada) == ("tenant_disabled", 403)
    acme.resume()
    User.objects.filter(pk=ada.pk).update(is_active=False)  # the instance still says active
    assert refused(RefreshToken.objects.issue, ada) == ("user_disabled", 403)
    assert not RefreshFamily.objects.exists()


@pytest.mark.parametrize(
    ("client", "code"),
    [
        (f"curl {tokens.new_refresh()}", "contains_token"),
        (tokens.new_key("live").token, "contains_token"),
        ("x" * 201, "too_large"),
    ],
    ids=["a refresh token in it", "a key", "too long"],
)
def test_a_client_that_may_not_be_written_down_is_refused(ada, client, code):
    with pytest.raises(KeyOperationError) as caught:
        RefreshToken.objects.issue(ada, client=client)

    assert caught.value.code == code
    assert not RefreshFamily.objects.exists()


def test_a_client_with_what_the_database_does_not_take_is_kept_without_it(ada):
    assert RefreshToken.objects.issue(ada, client="a\x00b\ud800").family.client == "a�b�"


def test_a_user_of_another_tenant_is_not_found_inside_a_scope(ada, globex):
    with tenant_scope(globex), pytest.raises(TenantsError) as caught:
        RefreshToken.objects.issue(ada)

    assert (caught.value.code, caught.value.http_status) == ("not_found", 404)
    assert not RefreshFamily.objects.exists()


def test_inside_its_own_scope_all_of_it_works(ada, acme):
    with tenant_scope(acme):
        first = RefreshToken.objects.issue(ada)
        second = rotate(first.token)
        RefreshToken.objects.revoke(second.token)

    assert ended(first) == "logout"


@override_settings(CONTROLPLANE={"REFRESH_MAX_FAMILIES": 3})
def test_beyond_the_limit_the_oldest_ends_and_only_live_ones_count(ada, acme):
    made = [RefreshToken.objects.issue(ada) for _ in range(3)]
    RefreshToken.objects.issue(UserFactory(tenant=acme))
    RefreshToken.objects.revoke(made[1].token)

    RefreshToken.objects.issue(ada)
    assert [ended(one) for one in made] == ["", "logout", ""]
    RefreshToken.objects.issue(ada)

    assert [ended(one) for one in made] == ["limit", "logout", ""]
    assert RefreshToken.objects.count_active(ada) == 3


def test_twenty_families_are_the_most_by_default(ada):
    made = [RefreshToken.objects.issue(ada) for _ in range(21)]

    assert RefreshToken.objects.count_active(ada) == 20
    assert [ended(one) for one in made[:2]] == ["limit", ""]


# --- the table of states: what `rotate` answers


def test_what_is_no_token_is_malformed():
    for text in ("", "x", "cpr_", tokens.new_key("live").token, tokens.new_refresh()[:-1] + "!", None, 7, b"cpr_"):
        assert refused(rotate, text) == ("malformed", 401)


def test_no_row_is_unknown():
    assert refused(rotate, tokens.new_refresh()) == ("unknown", 401)


def test_a_revoked_family_is_revoked(issued):
    RefreshToken.objects.revoke(issued.token)

    assert refused(rotate, issued.token) == ("revoked", 401)


def test_a_family_from_before_a_deactivation_is_revoked_whatever_deactivated(issued, ada):
    with connection.cursor() as cursor:
        cursor.execute("UPDATE cp_tenants_user SET is_active = false WHERE id = %s", [ada.pk])
        cursor.execute("UPDATE cp_tenants_user SET is_active = true WHERE id = %s", [ada.pk])

    assert ended(issued) == ""
    assert refused(rotate, issued.token) == ("revoked", 401)
    assert RefreshToken.objects.verify(RefreshToken.objects.issue(ada).token)


def test_the_idle_end_is_the_end_and_not_before(issued):
    end = issued.refresh.expires_at

    assert refused(rotate, issued.token, at=end) == ("expired", 401)
    assert rotate(issued.token, at=end - SECOND)


def test_the_absolute_end_is_moved_by_no_rotation(issued):
    at, made = now(), issued
    while at + 13 * DAY < issued.family.absolute_expires_at:
        at += 13 * DAY
        made = rotate(made.token, at=at)

    assert made.refresh.expires_at == issued.family.absolute_expires_at
    assert made.refresh.generation == 7
    assert refused(rotate, made.token, at=issued.family.absolute_expires_at) == ("expired", 401)


def test_a_spent_token_of_a_family_that_ended_is_expired_not_reused(issued):
    newest = rotate(issued.token)

    assert refused(rotate, issued.token, at=newest.refresh.expires_at) == ("expired", 401)
    assert ended(issued) == ""


def test_a_user_who_is_inactive_is_disabled(acme):
    # a family can be younger than its user's deactivation only where it was copied in, or the clock was set
    family = RefreshFamilyFactory(user=UserFactory(tenant=acme, is_active=False))
    token = tokens.new_refresh()
    RefreshTokenFactory(family=family, token=token)

    assert refused(rotate, token) == ("user_disabled", 403)


def test_a_tenant_that_is_suspended_is_disabled_and_back_with_it(issued, acme):
    acme.suspend("unpaid")
    assert refused(rotate, issued.token) == ("tenant_disabled", 403)
    acme.resume()

    assert rotate(issued.token)


def test_an_unused_token_gives_the_next(issued):
    second = rotate(issued.token)
    third = rotate(second.token)

    generations = RefreshToken.objects.filter(family=issued.family).order_by("generation")
    assert [(row.generation, row.used_at is not None) for row in generations] == [(1, True), (2, True), (3, False)]
    assert len({issued.token, second.token, third.token}) == 3
    assert third.family == issued.family
    assert RefreshFamily.objects.get().absolute_expires_at == issued.family.absolute_expires_at


def test_a_parallel_tab_is_told_so_and_the_family_lives(issued):
    second = rotate(issued.token)

    assert refused(rotate, issued.token) == ("already_rotated", 409)
    assert ended(issued) == ""
    assert rotate(second.token)


@pytest.mark.parametrize("later", [10, 11])
def test_ten_seconds_later_it_is_a_copy(issued, later):
    at = now()
    second = rotate(issued.token, at=at)

    code = refused(rotate, issued.token, at=at + timedelta(seconds=later))

    assert code == (("already_rotated", 409) if later == 10 else ("reused", 401))
    assert ended(issued) == ("" if later == 10 else "reuse")
    if later == 11:
        assert refused(rotate, second.token) == ("revoked", 401)


def test_within_the_window_it_is_a_copy_if_the_successor_is_spent(issued):
    second = rotate(issued.token)
    third = rotate(second.token)

    assert refused(rotate, issued.token) == ("reused", 401)
    assert refused(rotate, third.token) == ("revoked", 401)


def test_any_ancestor_is_a_copy_even_one_past_its_own_idle_end(issued):
    at, made = now(), issued
    for _ in range(4):
        at += 10 * DAY
        made = rotate(made.token, at=at)
    assert issued.refresh.expires_at < at

    assert refused(rotate, issued.token, at=at) == ("reused", 401)
    assert refused(rotate, made.token, at=at) == ("revoked", 401)


def test_a_reuse_is_on_record_and_takes_only_its_own_family(issued, ada):
    other = RefreshToken.objects.issue(ada)
    rotate(issued.token)

    refused(rotate, issued.token, at=now() + 11 * SECOND)

    row = AuditLog.objects.for_object(issued.family).with_action("update").get()
    assert (row.after["revoked_reason"], row.reason) == ("reuse", "a spent refresh token was used again")
    assert rotate(other.token)


def test_the_error_names_the_family(issued):
    rotate(issued.token)

    with pytest.raises(InvalidRefreshToken) as caught:
        rotate(issued.token)

    assert caught.value.family_id == issued.family.pk


# --- another tenant's


def test_a_token_of_another_tenant_is_unknown_inside_a_scope(issued, globex):
    with tenant_scope(globex):
        for call in (rotate, RefreshToken.objects.verify, RefreshToken.objects.revoke):
            assert refused(call, issued.token) == ("unknown", 401)

    assert rotate(issued.token)


def test_all_of_a_user_are_none_of_another_tenants(issued, ada, globex):
    with tenant_scope(globex):
        assert RefreshToken.objects.revoke_all(ada) == 0
        assert RefreshToken.objects.count_active(ada) == 0

    assert RefreshToken.objects.count_active(ada) == 1


# --- verify, revoke, count


def test_verify_says_whose_it_is_and_changes_nothing(issued, ada):
    found = RefreshToken.objects.verify(issued.token)

    assert (found.user_id, found.tenant_id, found.family_id) == (ada.pk, ada.tenant_id, issued.family.pk)
    assert found.expires_at == issued.refresh.expires_at
    rotate(issued.token)
    assert refused(RefreshToken.objects.verify, issued.token) == ("used", 401)
    assert refused(RefreshToken.objects.verify, issued.token, at=now() + DAY) == ("used", 401)
    assert ended(issued) == ""


def test_verify_refuses_what_rotate_refuses(issued, acme):
    assert refused(RefreshToken.objects.verify, "x") == ("malformed", 401)
    assert refused(RefreshToken.objects.verify, tokens.new_refresh()) == ("unknown", 401)
    assert refused(RefreshToken.objects.verify, issued.token, at=issued.refresh.expires_at) == ("expired", 401)
    acme.suspend("unpaid")
    assert refused(RefreshToken.objects.verify, issued.token) == ("tenant_disabled", 403)
    RefreshToken.objects.revoke(issued.token)
    assert refused(RefreshToken.objects.verify, issued.token) == ("revoked", 401)


def test_signing_out_ends_one_family_by_any_of_its_tokens_and_once(issued, ada):
    other = RefreshToken.objects.issue(ada)
    rotate(issued.token)

    RefreshToken.objects.revoke(issued.token, "left the office")
    first = RefreshFamily.objects.get(pk=issued.family.pk)
    RefreshToken.objects.revoke(issued.token)

    again = RefreshFamily.objects.get(pk=issued.family.pk)
    assert (again.revoked_at, again.revoked_reason) == (first.revoked_at, "logout")
    assert AuditLog.objects.for_object(again).with_action("update").get().reason == "left the office"
    assert rotate(other.token)


def test_all_families_of_a_user_end_at_once(issued, ada, acme):
    RefreshToken.objects.issue(ada)
    other = RefreshToken.objects.issue(UserFactory(tenant=acme))

    assert RefreshToken.objects.revoke_all(ada, "laptop stolen") == 2
    assert RefreshToken.objects.revoke_all(ada) == 0

    assert ended(issued) == "all"
    assert rotate(other.token)


def test_what_has_ended_in_any_way_is_not_active(ada):
    made = [RefreshToken.objects.issue(ada) for _ in range(3)]
    RefreshToken.objects.revoke(made[0].token)
    rotate(made[1].token)

    assert RefreshToken.objects.count_active(ada) == 2
    assert RefreshToken.objects.count_active(ada, at=now() + 15 * DAY) == 0
    User.objects.filter(pk=ada.pk).update(is_active=False)
    assert RefreshToken.objects.count_active(ada) == 0
    User.objects.filter(pk=ada.pk).update(is_active=True)
    assert RefreshToken.objects.count_active(ada) == 0


# --- purging


def test_only_what_is_past_its_absolute_end_goes_with_all_its_tokens(issued, ada):
    rotate(issued.token)
    young = RefreshToken.objects.issue(ada)
    RefreshToken.objects.revoke(young.token)
    old = RefreshFamilyFactory(user=ada, created_at=now() - 91 * DAY, absolute_expires_at=now() - DAY)
    for generation in (1, 2, 3):
        RefreshTokenFactory(family=old, generation=generation, used_at=now() if generation < 3 else None)

    assert RefreshToken.objects.purge_expired() == 1
    assert RefreshToken.objects.purge_expired() == 0

    assert set(RefreshFamily.objects.values_list("pk", flat=True)) == {issued.family.pk, young.family.pk}
    assert RefreshToken.objects.count() == 3
    assert AuditLog.objects.for_object(old).with_action("delete").get().reason == "ended long ago"
    assert RefreshToken.objects.purge_expired(at=now() + 91 * DAY) == 2
    assert refused(rotate, issued.token) == ("unknown", 401)


# --- peppers


OLD, NEW = "11" * 32, "22" * 32


def test_a_token_is_peppered_and_the_next_one_by_the_newest_pepper(ada):
    with override_settings(CONTROLPLANE={"API_KEY_PEPPERS": {1: OLD}}):
        first = RefreshToken.objects.issue(ada)
        assert bytes(first.refresh.digest) != tokens.sha256(first.token)
    with override_settings(CONTROLPLANE={"API_KEY_PEPPERS": {2: NEW, 1: OLD}}):
        second = rotate(first.token)
    with override_settings(CONTROLPLANE={"API_KEY_PEPPERS": {2: NEW}}):
        assert refused(rotate, first.token) == ("unknown", 401)
        assert rotate(second.token)

    assert (first.refresh.hash_version, second.refresh.hash_version) == (1, 2)


def test_a_planted_plain_digest_opens_nothing_where_there_is_a_pepper(ada):
    token = tokens.new_refresh()
    RefreshTokenFactory(family=RefreshFamilyFactory(user=ada), digest=tokens.sha256(token))

    with override_settings(CONTROLPLANE={"API_KEY_PEPPERS": {1: OLD}}):
        assert refused(rotate, token) == ("unknown", 401)


def test_a_digest_of_another_version_is_not_taken_for_it(ada):
    token = tokens.new_refresh()
    RefreshTokenFactory(family=RefreshFamilyFactory(user=ada), digest=tokens.sha256(token), hash_version=1)

    assert refused(rotate, token) == ("unknown", 401)


def test_digests_get_a_pepper_without_their_callers_and_a_copy_is_still_noticed(issued, ada):
    spent, newest = issued, rotate(issued.token)
    lone = RefreshToken.objects.issue(ada)
    with override_settings(CONTROLPLANE={"API_KEY_PEPPERS": {1: OLD, 0: ""}}):
        assert RefreshToken.objects.versions() == {0: 2}
        out, _ = run("keys_rehash")
        assert out == "Gave 3 digests the newest pepper. Live secrets: none; refresh tokens: 2 of version 1."
        assert run("keys_rehash", "--status")[0] == "Live secrets: none; refresh tokens: 2 of version 1."
        assert RefreshToken.objects.rehash() == 0

    with override_settings(CONTROLPLANE={"API_KEY_PEPPERS": {1: OLD}}):
        assert rotate(lone.token)
        assert refused(rotate, spent.token, at=now() + 11 * SECOND) == ("reused", 401)
        assert refused(rotate, newest.token) == ("revoked", 401)


def test_without_a_pepper_no_digest_changes(issued):
    with pytest.raises(KeyOperationError) as caught:
        RefreshToken.objects.rehash()

    assert caught.value.code == "no_pepper"


def test_live_tokens_of_a_pepper_that_is_not_listed_are_told(issued):
    with override_settings(CONTROLPLANE={"API_KEY_PEPPERS": {1: OLD}}):
        [error] = check_versions(None, ["default"])
        assert (error.id, "1 live refresh tokens" in error.msg) == ("cp_tenants.E001", True)
        RefreshFamily.objects.filter(pk=issued.family.pk).end("logout")
        assert list(check_versions(None, ["default"])) == []


# --- leaving


def test_a_deactivation_ends_all_and_a_return_brings_none_back(issued, ada):
    ada.deactivate("left")

    assert ended(issued) == "user"
    assert refused(rotate, issued.token) == ("revoked", 401)
    ada.activate("came back")
    assert refused(rotate, issued.token) == ("revoked", 401)
    assert rotate(RefreshToken.objects.issue(ada).token)


def test_a_deleted_user_has_no_families_left(issued, ada):
    ada.delete("left for good")

    assert ended(issued) == "user"


def test_a_session_of_another_tenant_stays(issued):
    UserFactory(tenant=TenantFactory(), email="ada@acme.example").deactivate("left")

    assert rotate(issued.token)
