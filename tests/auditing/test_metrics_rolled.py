"""Metrics and totals out of roll-ups are what a plain count of the requests says, to the microsecond."""

from __future__ import annotations

from collections import defaultdict
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import pairwise
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest
from django.db import connection
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from auditing import rollups
from auditing.answers import Ask
from auditing.covering import cover, merged
from auditing.metrics import Wanted
from auditing.models import InferenceRequest, IngestWatermark
from controlplane.core import partitions
from controlplane.core.ids import now, uuid7
from tests.auditing.counting import booked, counted
from tests.factories import InferenceRequestFactory, InFlightRequestFactory
from tests.races import others_have_ended, together

requests = InferenceRequest.objects
BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
HOUR, DAY, US = timedelta(hours=1), timedelta(days=1), timedelta(microseconds=1)
ZONES = ["UTC", "Europe/Berlin", "Asia/Kolkata", "America/New_York", "Australia/Lord_Howe"]
APPS = [None, UUID(int=7), UUID(int=8)]
BYS = [
    ("model",), ("provider",), ("tenant",), ("hour",), ("hour", "model"), ("day",), ("day", "model"), ("day", "tenant"),
    ("month",), ("month", "tenant"), ("app",), ("api_key", "app"), ("user",), ("user", "month"), ("day", "app"),
    ("day", "user"), ("hour", "app"), ("month", "day"), ("month", "user", "app", "model"),
]  # fmt: skip

# Instants on both sides of what roll-ups are cut by, in several zones
edges = st.builds(
    lambda days, hours, minutes, us: BEGIN + DAY * days + HOUR * hours + timedelta(minutes=minutes) + US * us,
    st.one_of(st.integers(0, 92), st.sampled_from([0, 30, 31, 58, 59, 89, 90])),
    st.sampled_from([0, 0, 1, 5, 12, 18, 22, 23]),
    st.sampled_from([0, 0, 30, 59]),
    st.sampled_from([0, 0, 1, 999_999]),
)
windows = st.tuples(edges, edges).filter(lambda pair: pair[0] != pair[1]).map(sorted)
rows = st.lists(
    st.fixed_dictionaries(
        {
            "owner": st.integers(0, 2),
            "at": edges,
            "booked": st.none() | edges,
            "zone": st.sampled_from(ZONES),
            "moved": st.integers(0, 9).map(lambda n: n == 0),
            "app": st.sampled_from(APPS),
            "user": st.sampled_from(APPS),
            "model": st.sampled_from(["a/1", "a/2", "b/1"]),
            "status": st.sampled_from(["completed", "completed", "failed", "cancelled", "lost"]),
            "tokens": st.none() | st.integers(0, 2**31 - 1),
            "cost": st.none() | st.decimals(0, 10, places=12),
            "latency": st.none() | st.integers(0, 2**31 - 1) | st.sampled_from([0, 1, 2, 3, 800, 2**23, 2**23 + 1]),
        }
    ),
    max_size=14,
)


@pytest.fixture
def months(transactional_db):
    for log in (rollups.HOURS, partitions.PartitionedLog("cp_auditing_inferencerequest", ("request_id", "tenant_id"))):
        partitions.ensure(log, now(), months=[BEGIN.date().replace(month=month) for month in (1, 2, 3, 4)])


def write(tenants, homes, given):
    """One transaction per row. A tenant has a zone, which one row in ten was not booked in."""
    for row in given:
        zone = row["zone"] if row["moved"] else homes[row["owner"]]
        at = row["at"]
        counts = max(at, row["booked"]) if row["booked"] else None
        InferenceRequestFactory(
            tenant_id=tenants[row["owner"]], created_at=at, booked_at=counts, time_zone=zone, app_id=row["app"],
            local_date=(counts or at).astimezone(ZoneInfo(zone)).date(), user_id=row["user"], api_key_id=row["user"],
            provider=row["model"][0], model=row["model"], status=row["status"], prompt_tokens=row["tokens"],
            cost=row["cost"], pricing_status="unpriced" if row["cost"] is None else "priced", latency_ms=row["latency"],
        )  # fmt: skip


def roll_up():
    others_have_ended()
    while rollups.run(now()):
        pass


@settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(
    st.tuples(*[st.sampled_from(ZONES)] * 3), rows, rows, st.lists(windows, min_size=1, max_size=4),
    st.sampled_from([None, *ZONES]),
)  # fmt: skip
def test_every_window_is_exact(months, homes, before, after, asked, zone):
    tenants = [uuid7() for _ in range(3)]
    write(tenants, homes, before)
    roll_up()
    write(tenants, homes, after)
    everything = list(requests.filter(tenant_id__in=tenants))

    for start, end in asked:
        mine = [row for row in everything if row.tenant_id == tenants[0] and start <= booked(row) < end]
        check_metrics(requests.metrics(tenants[0], start, end), mine)
        for by in BYS:
            check_totals(requests.totals(tenants[0], start, end, by=by, zone=zone), mine, by, zone)
        among = [row for row in everything if start <= booked(row) < end]
        for by in (("tenant", "model"), ("tenant", "app"), ("tenant", "month"), ("day", "tenant"), ("tenant", "user")):
            found = [
                total for total in requests.totals(None, start, end, by=by) if total.key[by.index("tenant")] in tenants
            ]
            check_totals(found, among, by, None)


def check_metrics(m, rows):
    plain = counted(rows)
    latencies = sorted(row.latency_ms for row in rows if row.status == "completed" and row.latency_ms is not None)

    assert m.total_requests == plain["requests"]
    for name in ("failed", "cancelled", "lost", "unpriced"):
        assert getattr(m, "failed_requests" if name == "failed" else name) == plain[name]
    assert m.completed_requests == plain["completed"]
    assert m.total_tokens == plain["prompt_tokens"] + plain["completion_tokens"]
    assert m.total_cost == plain["cost"]
    assert m.average_latency_ms == (pytest.approx(sum(latencies) / len(latencies)) if latencies else None)
    for percent, found in ((50, m.p50), (95, m.p95), (99, m.p99)):
        rank = -(-len(latencies) * percent // 100)
        assert found == (1 << max(latencies[rank - 1] - 1, 0).bit_length() if latencies else None)


def key(row, by, zone):
    local = booked(row).astimezone(ZoneInfo(zone)).date() if zone else row.local_date
    values = {
        "tenant": row.tenant_id, "app": row.app_id, "user": row.user_id, "api_key": row.api_key_id, "provider": row.provider,
        "model": row.model, "hour": booked(row).replace(minute=0, second=0, microsecond=0), "day": local,
        "month": row.local_date.replace(day=1),
    }  # fmt: skip
    return tuple(values[name] for name in by)


def check_totals(found, rows, by, zone):
    groups = defaultdict(list)
    for row in rows:
        groups[key(row, by, zone)].append(row)

    assert {total.key for total in found} == set(groups)
    assert len(found) == len(groups)
    for total in found:
        plain = counted(groups[total.key])
        for name in ("requests", "completed", "failed", "prompt_tokens", "completion_tokens", "cost", "unpriced"):
            assert getattr(total, name) == plain[name], (by, name)


def statements(call):
    found = []

    def note(execute, sql, params, many, context):
        found.append(sql if isinstance(sql, str) else sql.as_string())
        return execute(sql, params, many, context)

    with connection.execute_wrapper(note):
        call()
    return found


def test_a_roll_up_in_the_middle_of_a_question_doubles_nothing(months):
    """Between the look at the watermark and the statement everything is rolled up; each time anew, then the requests answer."""
    tenant = uuid7()

    def meanwhile(execute, sql, params, many, context):
        result = execute(sql, params, many, context)
        if "AS booked" in str(sql):
            with_connection_of_its_own(lambda: (write([tenant], ["UTC"], [ROW]), roll_up()))
        return result

    write([tenant], ["UTC"], [ROW, ROW])
    roll_up()
    with connection.execute_wrapper(meanwhile):
        found = requests.metrics(tenant, BEGIN, BEGIN + DAY)

    assert found.total_requests in range(3, 7)
    assert found.total_cost == found.total_requests * ROW["cost"]


ROW = {
    "owner": 0, "at": BEGIN + HOUR * 5, "booked": None, "zone": "UTC", "moved": False, "app": None, "user": None, "model": "a/1",
    "status": "completed", "tokens": 1, "cost": Decimal("0.1"), "latency": 3,
}  # fmt: skip


def with_connection_of_its_own(work):
    [outcome] = together(work)
    assert not isinstance(outcome, Exception), outcome


def test_totals_that_are_wanted_together_are_those_of_each_alone(months):
    one, other = uuid7(), uuid7()
    write([one, other], ["UTC", "Europe/Berlin"], [ROW, ROW | {"owner": 1, "at": BEGIN + DAY * 3, "app": APPS[1]}])
    roll_up()
    write([one, other], ["UTC", "Europe/Berlin"], [ROW | {"at": BEGIN + DAY, "model": "b/1", "user": APPS[2]}])
    wanted = [
        Wanted(one, BEGIN, BEGIN + DAY * 2, ("model", "day"), "Asia/Kolkata"),
        Wanted(None, BEGIN, BEGIN + DAY * 90, ("tenant", "month")),
        Wanted(one, BEGIN - DAY, BEGIN, ("provider",)),
        Wanted(other, BEGIN + HOUR, BEGIN + DAY * 4, ("app", "api_key", "branch")),
        Wanted(one, BEGIN, BEGIN + DAY * 2, ("hour", "user")),
    ]
    alone = [requests.totals(each.tenant, each.start, each.end, by=each.by, zone=each.zone) for each in wanted]

    asked = statements(lambda: requests.totals_together(wanted))

    assert requests.totals_together(wanted) == alone
    assert [len(found) > 0 for found in alone] == [True, True, False, True, True]
    assert len(asked) == 2


def test_totals_together_agree_though_requests_are_written_and_rolled_up_in_between(months):
    tenant = uuid7()

    def meanwhile(execute, sql, params, many, context):
        result = execute(sql, params, many, context)
        with_connection_of_its_own(lambda: (write([tenant], ["UTC"], [ROW]), roll_up()))
        return result

    write([tenant], ["UTC"], [ROW, ROW])
    roll_up()
    wanted = [Wanted(tenant, BEGIN, BEGIN + DAY, by) for by in (("model",), ("app",), ("user",), ("day",))]
    with connection.execute_wrapper(meanwhile):
        found = requests.totals_together(wanted)

    [counts] = {tuple(total.requests for total in each) for each in found}
    assert counts > (2,)


def test_what_runs_in_flight_is_there_beside_the_roll_ups(months):
    tenant = uuid7()
    write([tenant], ["UTC"], [ROW])
    InFlightRequestFactory(tenant_id=tenant, created_at=BEGIN)
    roll_up()

    found = requests.metrics(tenant, BEGIN, BEGIN + DAY)

    assert (found.total_requests, found.in_flight) == (2, 1)


def test_without_a_roll_up_the_requests_answer(months):
    tenant = uuid7()
    write([tenant], ["UTC"], [ROW])
    IngestWatermark.objects.all().delete()

    asked = statements(lambda: requests.totals(tenant, BEGIN, BEGIN + DAY))

    assert "cp_auditing_usagehour" not in asked[-1]
    assert requests.metrics(tenant, BEGIN, BEGIN + DAY).total_requests == 1


@pytest.mark.parametrize(
    ("by", "read"),
    [
        (("model",), "usagehour"), (("hour", "model"), "usagehour"), (("tenant",), "usagehour"), (("app",), "usagesummary"),
        (("day", "api_key"), "usageday"), (("user",), "usagesummary"), (("month", "branch"), "usagesummary"),
    ],
)  # fmt: skip
def test_whole_periods_are_read_from_the_roll_up_that_tells_them_apart(months, by, read):
    tenant = uuid7()
    write([tenant], ["Europe/Berlin"], [ROW])
    roll_up()
    berlin = ZoneInfo("Europe/Berlin")

    start, end = datetime(2026, 1, 1, tzinfo=berlin), datetime(2026, 2, 1, tzinfo=berlin)
    asked = statements(lambda: requests.totals(tenant, start, end, by=by))

    assert f"cp_auditing_{read}" in asked[-1]
    assert asked[-1].count('FROM "cp_auditing_inferencerequest"') == 1  # what is not rolled up yet


def test_another_bound_than_the_roll_ups_know_is_read_from_the_requests(months):
    tenant = uuid7()
    write([tenant], ["UTC"], [ROW, ROW | {"latency": 2**30}])
    roll_up()

    found = requests.metrics(tenant, BEGIN, BEGIN + DAY)

    assert (found.p50, found.p99) == (4, 2**30)


# --- how a window is cut


@settings(max_examples=300)
@given(
    windows,
    st.sampled_from(ZONES),
    st.sampled_from([(), ("hour",), ("month", "hour"), ("month", "day"), ("day", "hour")]),
)
def test_each_instant_of_a_window_is_in_one_piece(window, zone, sources):
    start, end = window
    pieces = cover(start, end, sources, ZoneInfo(zone))

    assert pieces[0].start == start
    assert pieces[-1].end == end
    for before, after in pairwise(pieces):
        assert before.end == after.start
    for piece in pieces:
        assert piece.start < piece.end
        local = [piece.start.astimezone(ZoneInfo(zone)), piece.end.astimezone(ZoneInfo(zone))]
        if piece.source in ("day", "month"):
            assert [at.date() for at in local] == [piece.first, piece.last]
            assert {(at.hour, at.minute, at.microsecond) for at in local} == {(0, 0, 0)}
        if piece.source == "month":
            assert {at.day for at in local} == {1}
        if piece.source == "hour":
            assert piece.start.minute == piece.start.second == piece.end.minute == piece.end.microsecond == 0


@settings(max_examples=300)
@given(
    windows,
    st.sets(st.sampled_from(ZONES), min_size=1),
    st.sampled_from([("hour",), ("month", "hour"), ("month", "day")]),
)
def test_read_together_each_zone_reads_its_own_pieces(window, zones, sources):
    tenants = {zone: UUID(int=n) for n, zone in enumerate(sorted(zones))}
    pieces = [(piece, (id,)) for zone, id in tenants.items() for piece in cover(*window, sources, ZoneInfo(zone))]

    reads = merged(pieces)

    for id in tenants.values():
        own = [(p.source, p.first or p.start, p.last or p.end) for p, (owner,) in pieces if owner == id]
        together = [(read.source, read.low, read.high) for read in reads if id in read.tenants]
        assert without_seams(together) == without_seams(own)


def without_seams(spans):
    """The spans of each source, those that follow each other as one; none overlaps another."""
    found = []
    for source, low, high in sorted(spans, key=lambda span: (span[0], span[1])):
        assert not found or found[-1][0] != source or found[-1][2] <= low
        if found and found[-1][0] == source and found[-1][2] == low:
            found[-1] = (source, found[-1][1], high)
        else:
            found.append((source, low, high))
    return found


def test_months_that_several_zones_have_whole_are_read_once():
    window = (BEGIN, BEGIN + DAY * 90)
    pieces = [(piece, (zone,)) for zone in ZONES[:2] for piece in cover(*window, ("month", "hour"), ZoneInfo(zone))]

    [both] = [read for read in merged(pieces) if read.source == "month" and len(read.tenants) == 2]

    assert (both.low, both.high) == (BEGIN.date().replace(month=2), BEGIN.date().replace(month=4))


def test_a_midnight_that_is_skipped_or_comes_twice_still_begins_one_day():
    cairo, havana = ZoneInfo("Africa/Cairo"), ZoneInfo("America/Havana")

    for zone, day in ((cairo, datetime(2026, 4, 24)), (havana, datetime(2026, 3, 8)), (havana, datetime(2026, 11, 1))):  # noqa: DTZ001
        start = day.replace(tzinfo=zone).astimezone(UTC)
        [piece] = cover(start, start + 3 * DAY, ("day",), zone)[:1]
        assert (piece.source, piece.first) == ("day", day.date())
        assert (start - US).astimezone(zone).date() < piece.first <= start.astimezone(zone).date()


def test_the_sources_are_none_for_what_no_roll_up_tells_apart():
    ask = Ask(None, BEGIN, BEGIN + DAY, ("user", "day"), ("cost",), None)

    assert ask.sources == ()
