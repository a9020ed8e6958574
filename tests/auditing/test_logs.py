from __future__ import annotations

from datetime import timedelta
from itertools import pairwise

import pytest
from django.core import signing
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from auditing.errors import InvalidCursor, InvalidWindow
from auditing.models import AuditLog, InferenceRequest
from controlplane.core.ids import now, uuid7
from tests.factories import AuditLogFactory, InferenceRequestFactory

pytestmark = pytest.mark.django_db
BEGIN = now().replace(day=1, hour=0, minute=0, second=0, microsecond=0)


def events(tenant, count, start=BEGIN):
    return [AuditLogFactory(tenant_id=tenant, created_at=start + timedelta(seconds=n)) for n in range(count)]


def walk(query, size):
    """All pages from the first to the last, by `next`."""
    pages, cursor = [], None
    while True:
        page = query.page(cursor, size)
        pages.append(page)
        if page.next is None:
            return pages
        cursor = page.next


@pytest.mark.parametrize("count", [0, 1, 2, 3, 4, 6, 7])
@pytest.mark.parametrize("size", [1, 2, 3, 7, 100])
def test_pages_show_every_row_once_newest_first_and_back_again(count, size):
    tenant = uuid7()
    rows = events(tenant, count)[::-1]
    query = AuditLog.objects.for_tenant(tenant)

    pages = walk(query, size)

    assert [row for page in pages for row in page.rows] == rows
    assert all(len(page.rows) == size for page in pages[:-1])
    assert pages[0].previous is None
    for earlier, later in pairwise(pages):
        back = query.page(later.previous, size)
        assert back.rows == earlier.rows
        assert back.next is not None
    if len(pages) > 1:
        assert query.page(pages[1].previous, size).previous is None


def test_rows_that_arrive_meanwhile_neither_repeat_nor_hide_others():
    tenant = uuid7()
    old = events(tenant, 10)[::-1]
    query = AuditLog.objects.for_tenant(tenant)

    first = query.page(size=4)
    new = events(tenant, 5, BEGIN + timedelta(hours=1))[::-1]
    second = query.page(first.next, 4)
    third = query.page(second.next, 4)
    newer = query.page(second.previous, 4)
    newest = query.page(newer.previous, 4)

    assert [*first.rows, *second.rows, *third.rows] == old
    assert newer.rows == old[:4]
    assert newest.rows == new[1:]
    assert query.page(newest.previous, 4).rows == new[:1]


def test_rows_of_one_millisecond_are_paged_too():
    tenant = uuid7()
    rows = [AuditLogFactory(tenant_id=tenant, created_at=BEGIN) for _ in range(9)]

    pages = walk(AuditLog.objects.for_tenant(tenant), 2)

    assert {row.pk for page in pages for row in page.rows} == {row.pk for row in rows}
    assert sum(len(page.rows) for page in pages) == 9


def test_pages_go_over_the_border_of_months():
    tenant = uuid7()
    later = BEGIN + timedelta(days=40)
    rows = [AuditLogFactory(tenant_id=tenant, created_at=at) for at in (BEGIN, later, later + timedelta(days=31))]

    assert [row for page in walk(AuditLog.objects.for_tenant(tenant), 1) for row in page.rows] == rows[::-1]


@pytest.mark.parametrize(("size", "shown"), [(0, 1), (-5, 1), (1, 1), (5000, 3)])
def test_a_page_has_its_bounds(size, shown):
    tenant = uuid7()
    events(tenant, 3)

    assert len(AuditLog.objects.for_tenant(tenant).page(size=size).rows) == shown


def test_a_page_never_counts(django_assert_num_queries):
    tenant = uuid7()
    events(tenant, 5)

    with django_assert_num_queries(1) as queries:
        AuditLog.objects.for_tenant(tenant).page(size=2)
    assert "COUNT" not in queries.captured_queries[0]["sql"].upper()


@pytest.fixture
def cursor():
    tenant = uuid7()
    events(tenant, 3)
    query = AuditLog.objects.for_tenant(tenant)
    return query, query.page(size=1).next


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: text[:-1], lambda text: text + "x", lambda text: text[1:], lambda text: text.replace(":", ""),
        lambda text: "x" + text[1:], lambda text: text.swapcase(), lambda text: "no cursor", lambda text: "日本:語",
        lambda text: "\udcff:x:y",
        lambda text: "\x00", lambda text: ":" * 50, lambda text: signing.dumps(["<", uuid7().hex, "x"]),
        lambda text: signing.dumps(["<", uuid7().hex, "x"], salt="auditing.page"),
    ],
)  # fmt: skip
def test_a_damaged_cursor_is_refused(cursor, damage):
    query, text = cursor

    with pytest.raises(InvalidCursor) as caught:
        query.page(damage(text), 1)

    assert caught.value.code == "invalid_cursor"


def test_a_cursor_of_other_filters_is_refused(cursor):
    query, text = cursor

    for other in (
        AuditLog.objects.all(),
        AuditLog.objects.for_tenant(uuid7()),
        query.with_action("x"),
        AuditLog.objects.none(),
        InferenceRequest.objects.all(),
    ):
        with pytest.raises(InvalidCursor):
            other.page(text, 1)
    assert query.page(text, 2).rows


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text(min_size=1))
def test_no_text_breaks_the_reader_of_cursors(text):
    with pytest.raises(InvalidCursor):
        AuditLog.objects.all().page(text)


def test_a_cursor_bound_to_a_text_holds_while_the_window_moves():
    tenant = uuid7()
    rows = events(tenant, 5)[::-1]

    def last_days(end):
        return AuditLog.objects.for_tenant(tenant).between(BEGIN - timedelta(days=1), end)

    first = last_days(BEGIN + timedelta(days=1)).page(size=2, binding="last days")
    second = last_days(BEGIN + timedelta(days=1, seconds=9)).page(first.next, 2, binding="last days")

    assert second.rows == rows[2:4]
    with pytest.raises(InvalidCursor):
        last_days(BEGIN + timedelta(days=1)).page(first.next, 2, binding="last weeks")


def test_nothing_has_one_empty_page():
    for query in (AuditLog.objects.none(), AuditLog.objects.filter(pk__in=[])):
        page = query.page()
        assert (page.rows, page.next, page.previous) == ([], None, None)


def test_filters_compose():
    tenant, app, user, key = (uuid7() for _ in range(4))
    row = AuditLogFactory(
        tenant_id=tenant, app_id=app, user_id=user, api_key_id=key, request_id="r-1", actor_id="ops", action="auth.denied",
        created_at=BEGIN,
    )  # fmt: skip
    AuditLogFactory(tenant_id=tenant, action="auth.login")
    AuditLogFactory(tenant_id=tenant, action="authx")

    found = (
        AuditLog.objects.for_tenant(tenant).for_app(app).for_user(user).for_api_key(str(key)).for_request("r-1")
        .by_actor("ops").with_action("auth.*").between(BEGIN, BEGIN + timedelta(seconds=1))
    )  # fmt: skip

    assert found.page().rows == [row]
    assert len(AuditLog.objects.for_tenant(tenant).with_action("auth.*").page().rows) == 2
    assert AuditLog.objects.for_tenant(tenant).with_action("auth.login").page().rows != [row]


def test_requests_have_filters_of_their_own():
    tenant = uuid7()
    lost = InferenceRequestFactory(tenant_id=tenant, status="lost", cost=None, pricing_status="unpriced")
    InferenceRequestFactory(tenant_id=tenant, model="openai/other")

    query = InferenceRequest.objects.for_tenant(tenant)
    assert query.with_status("lost").page().rows == query.unpriced().page().rows == [lost]
    assert query.for_model("openai/gpt-4o").page().rows == [lost]


@pytest.mark.parametrize(
    ("start", "end"),
    [(BEGIN, BEGIN), (BEGIN, BEGIN - timedelta(1)), (BEGIN.replace(tzinfo=None), BEGIN + timedelta(1))],
)
def test_a_window_that_is_none_is_refused(start, end):
    with pytest.raises(InvalidWindow):
        AuditLog.objects.between(start, end)
