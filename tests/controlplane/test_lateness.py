"""How duties stand, and who is told when nobody does them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from django.core.checks import run_checks
from django.urls import reverse

from controlplane.core import duties
from controlplane.core.duties import Duty
from controlplane.core.ids import now
from controlplane.core.models import WorkerDuty
from controlplane.lateness import State, standings, state_of
from controlplane.pages.duties import duration
from tenants.models import User

NOON = datetime(2026, 3, 10, 12, tzinfo=UTC)


def ran(started, finished=None, failures=0):
    ended = None if finished is None else NOON + timedelta(seconds=finished)
    return WorkerDuty(name="count", started_at=NOON + timedelta(seconds=started), finished_at=ended, failures=failures)


@pytest.mark.parametrize(
    ("row", "every_s", "state"),
    [
        (None, 5, State.NEVER),
        (ran(-5, -4), 5, State.ON_TIME),
        (ran(-5), 5, State.RUNNING),
        (ran(-5, -9), 5, State.RUNNING),
        (ran(-5, -4, failures=1), 5, State.FAILING),
        (ran(-59, -59), 5, State.ON_TIME),  # ten periods, but a minute at least
        (ran(-62, -61), 5, State.LATE),
        (ran(-62, -61, failures=3), 5, State.LATE),
        (ran(-62, -70), 5, State.LATE),  # killed, and nobody began anew
        (ran(-36_000, -35_999), 3600, State.ON_TIME),
        (ran(-36_002, -36_001), 3600, State.LATE),
        (ran(-99_999_999, -99_999_998), None, State.ON_TIME),
    ],
)
def test_a_duty_stands_as_its_row_says(row, every_s, state):
    assert state_of(row, every_s, NOON) is state


@pytest.fixture
def one_duty(monkeypatch):
    monkeypatch.setattr(duties, "_duties", {})
    duties.register(Duty("count", 5, lambda now: None))


def findings():
    return [each for each in run_checks(databases=["default"]) if each.id.startswith("cp_controlplane.")]


@pytest.mark.django_db
def test_a_check_tells_of_a_duty_that_is_late(one_duty):
    long_ago = datetime(2026, 1, 2, 3, 4, tzinfo=UTC)
    WorkerDuty.objects.create(name="count", started_at=long_ago, finished_at=long_ago)
    WorkerDuty.objects.create(name="of an older version", started_at=long_ago, finished_at=long_ago)

    [found] = findings()

    assert found.id == "cp_controlplane.W001"
    assert found.msg == "The duty 'count' has not been done since 2026-01-02 03:04Z; it should be every 5 s."


@pytest.mark.django_db
def test_a_check_tells_that_no_worker_has_run(one_duty):
    [found] = findings()
    assert found.id == "cp_controlplane.W002"

    WorkerDuty.objects.create(name="count", started_at=now(), finished_at=now())
    assert findings() == []


@pytest.mark.django_db
def test_what_only_its_row_knows_is_listed_too(one_duty):
    WorkerDuty.objects.create(name="old", started_at=NOON, finished_at=NOON)

    found = standings(NOON)

    assert [(each.name, each.state, each.wrong) for each in found] == [
        ("count", State.NEVER, False), ("old", State.ON_TIME, False),
    ]  # fmt: skip


@pytest.mark.django_db
def test_the_page_shows_what_is_late_and_what_fails(client, one_duty):
    client.force_login(User.objects.create_superuser("operator@example.com"))
    long_ago = now() - timedelta(hours=1)
    WorkerDuty.objects.create(name="count", started_at=long_ago, finished_at=long_ago + timedelta(seconds=2))
    WorkerDuty.objects.create(
        name="other", started_at=now(), finished_at=now(), failures=3, error="ValueError: <b>no</b>"
    )

    page = client.get(reverse("admin:cp_core_workerduty_changelist")).content.decode()

    assert '<span class="cp-pill cp-bad">late</span>' in page
    assert '<span class="cp-pill cp-bad">failing</span>' in page
    assert "ValueError: &lt;b&gt;no&lt;/b&gt;" in page


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 ms"), (0.0213, "21 ms"), (5, "5 s"), (60, "1 min"), (90, "90 s"), (3600, "1 h"), (86_400, "1 d")],
)
def test_a_duration_is_written_as_people_say_it(seconds, text):
    assert duration(seconds) == text
