"""What Prometheus reads at /metrics, and who may."""

from __future__ import annotations

import re
from datetime import timedelta

import pytest
from django.db import connection
from django.test import Client

from auditing.models import InferenceRequest
from controlplane import metrics
from controlplane.core import duties
from controlplane.core.caches import invalidation
from controlplane.core.duties import Duty
from controlplane.core.ids import now
from controlplane.core.models import WorkerDuty
from controlplane.metrics import Family, text
from tests.factories import InFlightRequestFactory
from tests.test_dashboard import use

LINE = re.compile(r'(# (HELP|TYPE) )?controlplane_[a-z_]+(\{([a-z_]+="[^"\n]*",?)+\})? .+')


def read(client=None, **headers):
    """The values by name and labels."""
    answer = (client or Client()).get("/metrics", **headers)
    assert answer.status_code == 200
    assert answer["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    lines = answer.content.decode().splitlines()
    assert [line for line in lines if not LINE.fullmatch(line)] == []
    return {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in lines if not line.startswith("#")}


@pytest.mark.django_db
def test_duties_logs_and_requests_are_told(acme, monkeypatch):
    monkeypatch.setattr(duties, "_duties", {})
    duties.register(Duty("count", 5, lambda now: None))
    hour_ago = now() - timedelta(hours=1)
    WorkerDuty.objects.create(name="count", started_at=hour_ago, finished_at=hour_ago, failures=3, error="x")
    use(acme, now(), cost=None)
    InFlightRequestFactory(tenant_id=acme.pk, deadline=hour_ago)

    found = read()

    assert 3590 < found['controlplane_duty_age_seconds{duty="count"}'] < 3700
    assert found['controlplane_duty_failures{duty="count"}'] == 3
    assert found['controlplane_duty_late{duty="count"}'] == 1
    assert found["controlplane_unpriced_requests"] == InferenceRequest.objects.unpriced().count() == 1
    assert found['controlplane_requests_in_flight{state="open"}'] == 1
    assert found['controlplane_requests_in_flight{state="overdue"}'] == 1
    assert found['controlplane_partitions_ahead{log="cp_auditing_auditlog"}'] >= 1
    assert {name: value for name, value in found.items() if name.startswith("controlplane_database_read")} == {
        f'controlplane_database_read{{part="{part}"}}': 1
        for part in ("duties", "lags", "partitions", "unpriced", "in_flight")
    }


@pytest.mark.django_db
def test_what_this_process_counts_is_told_with_its_pid():
    found = read()

    kinds = {name.partition("{")[0] for name in found if "pid=" in name}
    assert {"controlplane_cache_entries", "controlplane_cache_events_total", "controlplane_writer_queued"} <= kinds
    assert invalidation.stats().keys() <= {name.split('cache="')[1].split('"')[0] for name in found if "cache=" in name}


@pytest.mark.django_db
def test_rows_that_wait_for_a_job_are_a_lag(acme):
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM cp_auditing_ingestwatermark")
        cursor.execute(
            "INSERT INTO cp_auditing_ingestwatermark (name, xid, system_identifier, xid_offset, updated_at) "
            "VALUES ('rollup', 3, 1, 0, clock_timestamp() - interval '1 hour')"
        )
    assert read()['controlplane_log_lag_seconds{job="rollup"}'] == 0

    use(acme, now())
    assert 3590 < read()['controlplane_log_lag_seconds{job="rollup"}'] < 3700


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("token", "headers", "status"),
    [
        ("", {}, 200),
        ("", {"REMOTE_ADDR": "::1"}, 200),
        ("", {"REMOTE_ADDR": "10.0.0.7"}, 404),
        ("", {"REMOTE_ADDR": ""}, 404),
        ("", {"HTTP_X_FORWARDED_FOR": "203.0.113.9"}, 404),  # through a proxy of this machine
        ("", {"REMOTE_ADDR": "10.0.0.7", "HTTP_AUTHORIZATION": "Bearer "}, 404),
        ("s3cret-é", {"REMOTE_ADDR": "10.0.0.7", "HTTP_AUTHORIZATION": "Bearer s3cret-é"}, 200),
        (
            "s3cret",
            {"REMOTE_ADDR": "10.0.0.7", "HTTP_AUTHORIZATION": "Bearer s3cret", "HTTP_X_FORWARDED_FOR": "1.2.3.4"},
            200,
        ),
        ("s3cret", {"REMOTE_ADDR": "10.0.0.7", "HTTP_AUTHORIZATION": "Bearer wrong"}, 404),
        ("s3cret", {"HTTP_AUTHORIZATION": "Bearer wrong"}, 404),
        ("s3cret", {"REMOTE_ADDR": "10.0.0.7"}, 404),
        ("s3cret", {}, 200),
    ],
)
def test_it_answers_this_machine_and_who_has_the_token(settings, token, headers, status):
    settings.METRICS_TOKEN = token

    answer = Client().get("/metrics", **headers)

    assert answer.status_code == status
    if status == 404:
        assert answer.content == b""


@pytest.mark.django_db
def test_it_answers_before_the_check_of_hosts_and_the_redirect(settings):
    settings.SECURE_SSL_REDIRECT = True
    settings.ALLOWED_HOSTS = ["elsewhere"]

    assert read(HTTP_HOST="10.1.2.3:8000")
    assert Client().post("/metrics").status_code == 404
    assert Client().get("/metrics/").status_code != 200


@pytest.mark.django_db(transaction=True)
def test_what_is_late_is_named_and_the_rest_is_there(other_connection, monkeypatch):
    other_connection.execute("BEGIN")
    other_connection.execute("LOCK TABLE cp_core_workerduty IN ACCESS EXCLUSIVE MODE")
    try:
        found = read()
    finally:
        other_connection.execute("ROLLBACK")

    assert found['controlplane_database_read{part="duties"}'] == 0
    assert found['controlplane_database_read{part="in_flight"}'] == 1
    assert found['controlplane_requests_in_flight{state="open"}'] == 0


@pytest.mark.django_db
def test_the_page_takes_few_statements(django_assert_max_num_queries):
    with django_assert_max_num_queries(30):
        read()


def test_labels_are_escaped():
    found = text([Family("x", "A help.", "gauge", [({"a": 'b"\\\nc'}, 1.5), ({}, 2)])])

    assert found == (
        "# HELP controlplane_x A help.\n# TYPE controlplane_x gauge\n"
        'controlplane_x{a="b\\"\\\\\\nc"} 1.5\ncontrolplane_x 2\n'
    )
    assert metrics.LIMIT_MS == 200
