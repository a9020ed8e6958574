from __future__ import annotations

import pytest
from django.contrib.auth.models import AnonymousUser
from django.db import connection, transaction
from django.http import HttpResponse
from django.test import RequestFactory, override_settings
from django.utils.functional import SimpleLazyObject

from auditing.middleware import AuditContextMiddleware, client_address
from auditing.models import AuditLog
from tenants.models import App
from tests.factories import OperatorFactory, UserFactory

pytestmark = pytest.mark.django_db
PROXIES = ["10.0.0.0/8", "2001:db8::/32"]


def serve(request, view, user=None):
    """The answer of a view behind the middleware, as Django's handler would ask it."""
    request.user = SimpleLazyObject(lambda: user or AnonymousUser())

    def handler(asked):
        return middleware.process_view(asked, view, (), {}) or view(asked)

    middleware = AuditContextMiddleware(handler)
    return middleware(request)


def rename(app):
    def view(request):
        App.objects.filter(pk=app.pk).update(name="New")
        return HttpResponse(str(connection.in_atomic_block))

    return view


def change_of(app):
    return AuditLog.objects.for_object(app).with_action("update").get()


def test_a_change_carries_who_asked_from_where(acme_app):
    operator = OperatorFactory(email="ops@example.org")
    request = RequestFactory().post(
        "/", headers={"User-Agent": "browser", "X-Request-ID": "abc-1"}, REMOTE_ADDR="192.0.2.7"
    )

    response = serve(request, rename(acme_app), operator)

    row = change_of(acme_app)
    assert (row.actor_type, row.actor_label, row.ip, row.user_agent) == (
        "operator",
        "ops@example.org",
        "192.0.2.7",
        "browser",
    )
    assert row.request_id == response["X-Request-ID"] == request.request_id == "abc-1"


def test_a_user_of_a_tenant_and_nobody_are_told_apart(acme_app):
    serve(RequestFactory().post("/"), rename(acme_app), UserFactory(tenant=acme_app.tenant, role="admin"))
    App.objects.filter(pk=acme_app.pk).update(name="Old")
    serve(RequestFactory().delete("/"), rename(acme_app))

    changes = AuditLog.objects.for_object(acme_app).with_action("update").order_by("id")
    assert [row.actor_type for row in changes] == ["user", "database", "anonymous"]


@pytest.mark.parametrize("given", ["", "a b", "x" * 65, "a\nb", "é", "<script>"])
def test_a_request_id_that_is_not_plain_is_replaced(given):
    request = RequestFactory().get("/", HTTP_X_REQUEST_ID=given)

    response = serve(request, lambda request: HttpResponse())

    assert response["X-Request-ID"] != given
    assert len(response["X-Request-ID"]) == 32


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("method", ["get", "head", "options", "trace"])
def test_what_only_reads_opens_no_transaction(method):
    seen = []

    serve(
        getattr(RequestFactory(), method)("/"),
        lambda request: seen.append(connection.in_atomic_block) or HttpResponse(),
    )

    assert seen == [False]


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("method", ["post", "put", "patch", "delete"])
def test_what_may_write_runs_in_one_transaction(acme_app, method):
    response = serve(getattr(RequestFactory(), method)("/"), rename(acme_app))

    assert response.content == b"True"
    assert App.objects.get().name == "New"


@pytest.mark.django_db(transaction=True)
def test_a_view_that_fails_leaves_nothing(acme_app):
    def fail(request):
        rename(acme_app)(request)
        raise RuntimeError

    with pytest.raises(RuntimeError):
        serve(RequestFactory().post("/"), fail)

    assert App.objects.get().name == "Chat"


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(("status", "name"), [(500, "Chat"), (503, "Chat"), (400, "New"), (302, "New")])
def test_an_answer_of_500_leaves_nothing_and_one_of_400_what_it_wrote(acme_app, status, name):
    def view(request):
        rename(acme_app)(request)
        return HttpResponse(status=status)

    serve(RequestFactory().post("/"), view)

    assert App.objects.get().name == name


@pytest.mark.django_db(transaction=True)
def test_a_view_that_wants_no_transaction_gets_none(acme_app):
    response = serve(RequestFactory().post("/"), transaction.non_atomic_requests(rename(acme_app)))

    assert response.content == b"False"


def test_a_coroutine_is_left_alone():
    async def view(request):
        return HttpResponse()

    request = RequestFactory().post("/")
    request.user = AnonymousUser()
    request.request_id = "x"

    assert AuditContextMiddleware(lambda request: HttpResponse()).process_view(request, view, (), {}) is None


@pytest.mark.parametrize(
    ("remote", "forwarded", "found"),
    [
        ("192.0.2.7", "", "192.0.2.7"),
        ("192.0.2.7", "203.0.113.9", "192.0.2.7"),  # a stranger says nothing about others
        ("10.0.0.1", "203.0.113.9", "203.0.113.9"),
        ("10.0.0.1", "203.0.113.9, 10.0.0.2", "203.0.113.9"),
        ("10.0.0.1", "1.1.1.1, 203.0.113.9", "203.0.113.9"),  # the caller may have written the first
        ("10.0.0.1", "2001:db8:1::5, 2400:cb00::1", "2400:cb00::1"),
        ("10.0.0.1", "10.0.0.3", None),
        ("10.0.0.1", "unknown", None),
        ("10.0.0.1", "203.0.113.9:4711", None),
        ("10.0.0.1", "", None),
        ("", "", None),
        ("fe80::1%eth0", "", "fe80::1"),
        ("unix:", "203.0.113.9", None),
        ("::ffff:10.0.0.1", "203.0.113.9", "203.0.113.9"),  # an IPv4 proxy at a socket of both kinds
        ("::ffff:192.0.2.7", "203.0.113.9", "192.0.2.7"),
    ],
)
def test_the_address_is_the_last_that_we_can_trust(acme_app, remote, forwarded, found):
    request = RequestFactory().post("/", REMOTE_ADDR=remote, HTTP_X_FORWARDED_FOR=forwarded)

    with override_settings(CONTROLPLANE={"AUDIT_TRUSTED_PROXIES": PROXIES}):
        assert client_address(request) == found
        serve(request, rename(acme_app))

    assert change_of(acme_app).ip == found


def test_without_trusted_proxies_the_header_is_not_read():
    request = RequestFactory().post("/", REMOTE_ADDR="10.0.0.1", HTTP_X_FORWARDED_FOR="203.0.113.9")

    assert client_address(request) == "10.0.0.1"


@pytest.mark.parametrize("agent", ["x" * 5000, "caf\xe9", "a\x00b"])
def test_no_header_makes_a_change_fail(acme_app, agent):
    serve(RequestFactory().post("/", HTTP_USER_AGENT=agent), rename(acme_app))

    assert len(change_of(acme_app).user_agent) <= 512
