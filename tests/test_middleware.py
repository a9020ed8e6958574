from __future__ import annotations

import pytest
from django.db import InterfaceError, OperationalError
from django.http import HttpResponse
from django.test import RequestFactory
from django.urls import path, reverse

from controlplane.middleware import DatabaseUnavailableMiddleware
from tenants.models import User
from tenants.passwords import hashing

MIDDLEWARE = ["controlplane.middleware.DatabaseUnavailableMiddleware", f"{__name__}.AsksTheDatabase"]


def fails(request):
    raise OperationalError("connection refused")


def is_wrong(request):
    raise ValueError("a bug")


urlpatterns = [path("fails/", fails), path("is-wrong/", is_wrong), path("works/", lambda request: HttpResponse("ok"))]


class AsksTheDatabase:
    """A middleware whose own work fails, as saving a session does."""

    def __init__(self, get_response):
        self.get_response = get_response

    def __call__(self, request):
        response = self.get_response(request)
        if "session" in request.GET:
            raise InterfaceError("the connection is closed")
        return response


@pytest.fixture
def visitor(client, settings):
    settings.ROOT_URLCONF = __name__
    settings.MIDDLEWARE = MIDDLEWARE
    client.raise_request_exception = False
    return client


@pytest.mark.parametrize("debug", [False, True])
@pytest.mark.parametrize("url", ["/fails/", "/works/?session"])
def test_a_database_that_is_down_is_503_without_traceback(visitor, settings, url, debug):
    settings.DEBUG = debug

    answer = visitor.get(url)

    assert (answer.status_code, answer["Retry-After"]) == (503, "2")
    assert "The database does not answer" in answer.content.decode()
    assert "Traceback" not in answer.content.decode()


def test_another_error_stays_an_error(visitor):
    assert visitor.get("/is-wrong/").status_code == 500
    assert visitor.get("/works/").status_code == 200


def test_an_answer_of_500_that_is_not_the_databases_stays(settings):
    middleware = DatabaseUnavailableMiddleware(lambda request: HttpResponse(status=500))

    assert middleware(RequestFactory().get("/")).status_code == 500


def test_every_answer_carries_the_headers(client):
    answer = client.get("/admin/no-such-page/")

    policy = answer["Content-Security-Policy"]
    assert {part.strip() for part in policy.split(";")} == {
        "default-src 'self'",
        "object-src 'none'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
        "form-action 'self'",
    }
    assert answer["X-Content-Type-Options"] == "nosniff"
    assert answer["Referrer-Policy"] == "same-origin"
    assert answer["Cross-Origin-Opener-Policy"] == "same-origin"
    assert answer["X-Frame-Options"] == "DENY"


@pytest.mark.django_db
def test_who_signs_in_at_a_foreign_address_lands_on_the_dashboard(client):
    User.objects.create_superuser("kim@example.org", "a long enough password")
    form = {"username": "kim@example.org", "password": "a long enough password", "next": "//evil.example/"}

    answer = client.post(reverse("admin:login"), form)

    assert answer.headers["Location"] == reverse("controlplane:dashboard")


@pytest.mark.django_db
def test_a_machine_that_is_busy_with_passwords_is_503_wherever_one_is_asked_for(client, settings):
    settings.CONTROLPLANE = {**settings.CONTROLPLANE, "PASSWORD_HASHES": 1, "PASSWORD_WAIT": 0}
    user = User.objects.create_superuser("kim@example.org", "a long enough password")
    client.force_login(user)
    client.raise_request_exception = False
    form = {"old_password": "a long enough password", "new_password1": "n" * 20, "new_password2": "n" * 20}

    with hashing():
        answer = client.post("/admin/password_change/", form)

    assert (answer.status_code, answer["Retry-After"]) == (503, "5")
    assert "This machine is busy" in answer.content.decode()
    user.refresh_from_db()
    assert user.check_password("a long enough password")
