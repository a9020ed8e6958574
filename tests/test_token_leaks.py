"""A token is in the answer that made it. Afterwards it is in nothing that is kept, written, shown or reported."""

from __future__ import annotations

import logging

import pytest
from django.db import connection
from django.test import RequestFactory
from django.views.debug import get_exception_reporter_class

from controlplane import gate
from controlplane.logs import JsonFormatter, TextFormatter
from tenants.errors import InvalidKey
from tenants.models import APIKey, RefreshToken
from tests.factories import OperatorFactory, UserFactory, issue

pytestmark = pytest.mark.django_db


def whole_database():
    """Every row of every table, as text: what a dump would hold."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT quote_ident(tablename) FROM pg_tables WHERE schemaname = 'public'")
        tables = [name for (name,) in cursor.fetchall()]
        rows = []
        for table in tables:
            cursor.execute(f"SELECT t::text FROM {table} t")
            rows += [row for (row,) in cursor.fetchall()]
    return "\n".join(rows)


def reports(error):
    """What is shown and mailed of an exception."""
    reporter = get_exception_reporter_class(None)(RequestFactory().get("/"), type(error), error, error.__traceback__)
    return reporter.get_traceback_html() + reporter.get_traceback_text()


def lines(caplog):
    """What was logged, as it is written."""
    return "\n".join(form.format(record) for record in caplog.records for form in (JsonFormatter(), TextFormatter()))


def test_a_token_that_was_used_refused_and_rotated_is_in_no_row(acme_app):
    issued = issue(acme_app, metadata={"note": "the search is not in vain"})
    renewed = issued.key.rotate()
    user = UserFactory(tenant=acme_app.tenant)
    session = RefreshToken.objects.issue(user, client="portal")
    again = RefreshToken.objects.rotate(session.token)
    tokens = [issued.token, renewed.token, session.token, again.token]
    for token in tokens[:2]:
        APIKey.objects.verify(token)
        with pytest.raises(gate.Denied), gate.call(token, model=token):
            pass
    APIKey.objects.flush_last_used()
    issued.key.revoke("over")

    kept = whole_database()

    assert "the search is not in vain" in kept
    assert issued.token[:21].removeprefix("cpk_live_") in kept
    assert [token for token in tokens if token[-49:-6] in kept] == []


def test_a_token_is_in_no_text_of_an_exception_and_in_no_report_of_one(acme_app, caplog):
    caplog.set_level(logging.DEBUG)
    token = issue(acme_app).token
    wrong = token[:-1] + ("0" if token[-1] != "0" else "1")
    errors = []
    for call in (
        lambda: APIKey.objects.verify(wrong),
        lambda: APIKey.objects.verify(token, scope="absent"),
        lambda: gate.authorize(token, model=token),
        lambda: RefreshToken.objects.rotate(token),
        lambda: {}[token],
    ):
        try:
            call()
        except Exception as error:
            logging.getLogger("sibling").exception("a call failed with %s", token)
            errors.append(error)

    assert len(errors) == 5
    ours = [error for error in errors if not isinstance(error, KeyError)]
    assert not any(token[-49:-6] in f"{error!r} {error} {vars(error)!r}" for error in ours)
    shown = "".join(map(reports, errors))
    assert "test_token_leaks.py" in shown
    assert token[-49:-6] not in shown
    assert token[:21] in shown  # the public part is what people look for
    assert token[-49:-6] not in lines(caplog)


def test_a_token_in_a_search_box_is_cut_to_its_public_part_and_finds_its_key(acme_app, client):
    issued = issue(acme_app, name="Checkout")
    client.force_login(OperatorFactory())

    sent = client.get("/admin/cp_tenants/apikey/", {"q": issued.token})
    answer = client.get(sent["Location"])

    assert sent.status_code == 302
    assert issued.token[-49:-6] not in sent["Location"] + answer.content.decode()
    assert "Checkout" in answer.content.decode()
    assert "Rotate its key" in answer.content.decode()


def test_an_issued_key_does_not_show_its_token_when_it_is_printed(acme_app):
    issued = issue(acme_app)

    assert issued.token not in repr(issued) + str(issued) + repr([issued])
    with pytest.raises(InvalidKey) as refused:
        APIKey.objects.verify(issued.token + "x")
    assert issued.token not in str(refused.value)
