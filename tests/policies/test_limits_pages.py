"""Counters and reservations in the admin: who has used what of which limit, who holds what, and how to give it back."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from uuid import uuid4

import pytest
from django.contrib.auth.models import Permission
from django.urls import reverse

from auditing.models import AuditLog
from controlplane.core.ids import now
from policies.admin.phrases import limit_words
from policies.limits import Amounts, reserve, settle
from policies.models import LimitAlert, LimitBucket, Reservation
from tests.admin_rows import Page
from tests.factories import LimitBucketFactory, ReservationFactory

BUCKETS, RESERVATIONS = "admin:cp_policies_limitbucket", "admin:cp_policies_reservation"


@pytest.fixture
def operator(client, django_user_model):
    client.force_login(django_user_model.objects.create_superuser("operator@example.com"))
    return client


@pytest.fixture
def used(acme):
    """A month's budget of each user, at 90 %: $7 spent, $2 held by a call that runs; 3 requests in a minute."""
    budget = {"window": "month", "per": "user"}
    limits = [{**budget, "limit": "10", "alert_at": [0.5]}, {**budget, "limit": "8", "mode": "soft"}]
    acme.policy("budget", {"limits": limits}, name="money")
    acme.policy("rate_limit", {"limits": [{"metric": "requests", "window": "1m", "limit": 1000}]}, name="pace")
    effective = acme.effective(app=acme.app(), user=acme.user())
    settle(hold(effective, 7, "first"), Amounts(cost=Decimal(7)))
    hold(effective, 2, "second")
    return acme


def hold(effective, dollars, request_id):
    held = reserve(effective, "openai/gpt-4o", Amounts(cost=Decimal(dollars)), request_id)
    assert held
    return held


def counter(metric="cost"):
    return LimitBucket.objects.get(tenant__slug="acme", metric=metric)


def rows(answer):
    assert answer.status_code == 200
    return set(answer.context["cl"].result_list)


def text_of(answer):
    assert (answer.status_code, Page(answer).faults) == (200, [])
    return answer.content.decode()


@pytest.mark.parametrize(
    ("limit", "words"),
    [
        ("0.5", "$0.50 a day"),
        ("0.50", "$0.50 a day"),
        ("110", "$110 a day"),
        ("1250.5", "$1,250.50 a day"),
        ("0.005", "$0.005 a day"),
    ],
)
def test_a_limit_in_dollars_has_both_digits_of_its_cents(limit, words):
    assert limit_words({"window": "day", "limit": limit}) == words


def test_the_list_says_whose_limit_it_is_and_how_much_is_left(operator, used):
    used.tenant.time_zone = "Asia/Kolkata"
    used.tenant.save()

    text = text_of(operator.get(reverse(f"{BUCKETS}_changelist")))

    assert "$10 a month" in text
    assert "user ada@acme.example" in text
    for amount in ("$7.00", "$2.00", "$1.00"):
        assert f'<span class="cp-num">{amount}</span>' in text
    assert '<span class="cp-pill cp-warn">90%</span>' in text
    assert "05:30</time>" in text
    assert "00:00:00 UTC" in text


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ({}, {"now", "always", "full"}),
        ({"period": "ended"}, {"ended"}),
        ({"period": "all"}, {"now", "always", "full", "ended"}),
        ({"used": "80"}, {"full"}),
        ({"used": "100"}, {"full"}),
        ({"used": "held"}, {"now"}),
        ({"kind__exact": "rate"}, set()),
    ],
)
def test_the_list_is_of_now_unless_asked_otherwise(operator, acme, query, found):
    day, present = timedelta(days=1), now()
    windows = {"now": (present - day, present + day), "ended": (present - 2 * day, present - day), "full": (None, None)}
    made = {}
    for name in ("now", "ended", "always", "full"):
        start, end = windows.get(name, (None, None))
        amounts = {"spent": 10, "last_limit": 10} if name == "full" else {"reserved": 1 if name == "now" else 0}
        made[LimitBucketFactory(tenant=acme.tenant, starts_at=start, ends_at=end, **amounts)] = name

    answer = operator.get(reverse(f"{BUCKETS}_changelist"), query)

    assert {made[row] for row in rows(answer)} == found


def test_a_counter_is_found_by_its_owner(operator, used, globex):
    other = LimitBucketFactory(tenant=globex.tenant, user_id=globex.user().pk, owner_kind="per:user")

    def found(text):
        return rows(operator.get(reverse(f"{BUCKETS}_changelist"), {"q": text}))

    assert found("ADA@acme.example") == {counter()}
    assert found(str(globex.user().pk)) == {other}
    assert found("nobody@acme.example") == set()


def test_a_counter_shows_its_policies_alerts_periods_and_what_holds_it(operator, used):
    month = counter()
    LimitBucketFactory(
        tenant=used.tenant, key=month.key.replace(month.label, "2020-01-01"), label="2020-01-01", window="month",
        spent=Decimal(3), starts_at=now() - timedelta(days=900), ends_at=now() - timedelta(days=870), last_limit=5,
    )  # fmt: skip

    page = operator.get(reverse(f"{BUCKETS}_change", args=[month.pk]))

    text = text_of(page)
    assert [words for _, words in page.context["sources"]] == [
        "$10 a month, for each user; alert at 50%", "$8 a month, for each user, soft",
    ]  # fmt: skip
    assert [(row.request_id, amount) for row, amount, _ in page.context["holding"]] == [("second", "$2.00")]
    assert {alert["words"] for alert in page.context["alerts"]} == {
        "an alert was due at $5.00: $7.00 was used", "a soft limit was passed at $8.00: $9.00 was used",
    }  # fmt: skip
    assert LimitAlert.objects.count() == 2
    assert "$3.00 of $5.00" in text
    assert "$7.00 of $10.00" in text


@pytest.mark.parametrize("metric", ["requests", "cost"])
def test_a_counter_without_a_policy_any_more_is_still_shown(operator, used, metric):
    used.tenant.policies.update(enabled=False)

    page = operator.get(reverse(f"{BUCKETS}_change", args=[counter(metric).pk]))

    assert page.context["sources"] == []
    assert "None any more" in text_of(page)


def test_reservations_say_who_holds_what_since_when(operator, used):
    answer = operator.get(reverse(f"{RESERVATIONS}_changelist"), {"state": "open"})

    text = text_of(answer)
    assert rows(answer) == {Reservation.objects.get(request_id="second")}
    assert "ada@acme.example" in text
    assert "$2.00, 1 request" in text


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ({}, {"new", "settled"}),
        ({"window": "all"}, {"new", "settled", "old"}),
        ({"state": "open"}, {"new", "old"}),
        ({"state": "old"}, {"old"}),
        ({"state": "settled"}, {"settled"}),
        ({"state": "old", "window": "24h"}, set()),
    ],
)
def test_old_open_reservations_are_found_whatever_the_window(operator, acme, query, found):
    long_ago, present = now() - timedelta(days=3), now()
    ReservationFactory(tenant=acme.tenant, request_id="new")
    ReservationFactory(tenant=acme.tenant, request_id="settled", state="settled", actuals=[], ended_at=present)
    old = ReservationFactory(tenant=acme.tenant, request_id="old", reserved_at=long_ago)
    Reservation.objects.filter(pk=old.pk).update(id="01800000-0000-7000-8000-000000000000")

    answer = operator.get(reverse(f"{RESERVATIONS}_changelist"), query)

    assert {row.request_id for row in rows(answer)} == found


def test_the_reservations_of_a_counter_are_one_click_away(operator, used):
    ReservationFactory(tenant=used.tenant)
    url = operator.get(reverse(f"{BUCKETS}_change", args=[counter().pk])).context["holding_url"]

    assert {row.request_id for row in rows(operator.get(url))} == {"second"}
    assert rows(operator.get(reverse(f"{RESERVATIONS}_changelist"), {"bucket": str(uuid4())})) == set()
    assert rows(operator.get(reverse(f"{RESERVATIONS}_changelist"), {"bucket": "x"})) == set()


def test_a_reservation_names_its_counters_and_policies(operator, used):
    text = text_of(
        operator.get(reverse(f"{RESERVATIONS}_change", args=[Reservation.objects.get(request_id="first").pk]))
    )

    assert "$7.00 held, $7.00 spent" in text
    assert reverse(f"{BUCKETS}_change", args=[counter().pk]) in text
    assert ">money</a>" in text


def test_a_reservation_is_released_with_a_reason_and_audited(operator, used):
    second = Reservation.objects.get(request_id="second")
    chosen = {"action": "release", "_selected_action": second.pk}
    asked = f"{reverse(f'{RESERVATIONS}_changelist')}?window=all"

    assert "second" in operator.post(asked, chosen).content.decode()
    assert operator.post(asked, chosen | {"cp_reason": " "}).status_code == 422
    assert counter().reserved == 2
    done = operator.post(asked, chosen | {"cp_reason": "its process is gone"}, follow=True)

    assert [str(message) for message in done.context["messages"]] == ["second: released."]
    second.refresh_from_db()
    assert (second.state, counter().reserved, counter("requests").reserved) == ("released", 0, 0)
    event = AuditLog.objects.get(action="reservation.released")
    assert (event.reason, event.resource_id) == ("its process is gone", str(second.pk))
    again = operator.post(asked, chosen | {"cp_reason": "again"})
    assert again.status_code == 422


def test_releasing_needs_its_permission(client, used, django_user_model):
    clerk = django_user_model.objects.create_user("clerk@example.com", is_staff=True)
    clerk.user_permissions.add(Permission.objects.get(codename="view_reservation"))
    client.force_login(clerk)
    url = reverse(f"{RESERVATIONS}_changelist")

    assert "Release</option>" not in text_of(client.get(url))
    second = Reservation.objects.get(request_id="second")
    refused = client.post(url, {"action": "release", "_selected_action": second.pk, "cp_reason": "x"})
    assert refused.status_code == 403
    assert counter().reserved == 2
