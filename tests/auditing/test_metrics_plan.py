"""How the database answers for sums among very many requests: from roll-ups by an index, and no scan of the log."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

import pytest
from django.db import connection

from auditing import rollups
from auditing.models import InferenceRequest
from benchmarks.auditing_shape import make, tenant
from controlplane.core import partitions
from controlplane.core.ids import now
from tests.races import others_have_ended

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.slow]
requests = InferenceRequest.objects
START = datetime(2026, 3, 1, tzinfo=UTC)
END = START + timedelta(days=40)
MONTHS = [f"cp_auditing_inferencerequest_{month}" for month in (202603, 202604)]
LOG = partitions.PartitionedLog("cp_auditing_inferencerequest", ("request_id", "tenant_id"))


@pytest.fixture
def crowded(transactional_db):
    """200,000 requests of 200 tenants over 40 days, all rolled up."""
    partitions.ensure(LOG, now(), months=[START.date(), END.date().replace(day=1)])
    make(200_000, START, END)
    others_have_ended()
    while rollups.run(now()):
        pass
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE cp_auditing_inferencerequest, cp_auditing_usagehour, cp_auditing_usageday")


def plan_of(call):
    """The plans of the statements of a call, as lines."""
    lines = []

    def explain(execute, sql, params, many, context):
        statement = sql if isinstance(sql, str) else sql.as_string()
        if statement.lstrip().startswith("SELECT"):
            with connection.connection.cursor() as cursor:
                cursor.execute("EXPLAIN " + statement, params)
                lines.extend(line for (line,) in cursor.fetchall())
        return execute(sql, params, many, context)

    with connection.execute_wrapper(explain):
        call()
    assert lines
    return lines


def test_no_question_of_a_tenant_scans_the_log(crowded):
    one, begin = tenant(0), START + timedelta(days=3, minutes=7)
    asked = {
        "metrics": lambda: requests.metrics(one, begin, begin + timedelta(days=30)),
        "a day by hour": lambda: requests.totals(one, START, START + timedelta(days=1), by=("hour",)),
        "days": lambda: requests.totals(one, START, START + timedelta(days=30), by=("day", "app")),
        "all by model": lambda: requests.totals(None, START, END, by=("model",)),
    }

    for name, call in asked.items():
        scans = [line for line in plan_of(call) if any(f"Seq Scan on {month}" in line for month in MONTHS)]
        assert scans == [], name


def test_the_planner_knows_that_an_app_a_key_and_a_user_are_of_one_tenant(crowded):
    """Else it takes their rows for so few that it sorts all of them where a page needs the first."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT " + ", ".join(f"cp_bench_id('{kind}', 40, 1)" for kind in ("app", "key", "user")))
        subjects = dict(zip(("app", "api_key", "user"), cursor.fetchone(), strict=True))

    for subject, id in subjects.items():
        rows = requests.for_tenant(tenant(40)).filter(**{f"{subject}_id": id})
        plan = plan_of(lambda rows=rows: list(rows))

        [expected, *_] = re.findall(r"rows=(\d+)", plan[0])
        assert rows.count() / 3 < int(expected) < rows.count() * 3, subject
        assert any(f"{subject}_id_id_idx" in line for line in plan), plan
