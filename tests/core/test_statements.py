"""The hot path's statements: several in one round trip, all or nothing."""

from __future__ import annotations

from decimal import Decimal

import pytest
from django.db import DataError, OperationalError, ProgrammingError, connection, transaction

from controlplane.core.ids import now, uuid7
from controlplane.core.statements import Statement, fetch, plain, send_together
from tenants.models import Tenant
from tests.factories import TenantFactory
from tests.wire import wire

RENAME = "UPDATE cp_tenants_tenant SET name = %s WHERE slug = %s"


def together(*statements):
    return send_together("default", [Statement(*each, list) for each in statements])


def name():
    return Tenant.objects.values_list("name", flat=True).get()


def test_the_rows_of_each_statement_come_back(db):
    TenantFactory(slug="acme")

    rows = together(
        ("SELECT %s::int, 'a'", [1]), (RENAME, ["Acme", "acme"]), ("SELECT name FROM cp_tenants_tenant", [])
    )

    assert rows == [[(1, "a")], [], [("Acme",)]]


def test_a_statement_says_what_its_rows_mean(db):
    none, some = Statement("SELECT 1 WHERE false", [], bool), Statement("SELECT 7", [], len)

    assert send_together("default", [none, some]) == [False, 1]
    assert none.send("default") is False


def test_who_watches_the_statements_of_a_connection_sees_them(db):
    seen = []

    def watch(execute, query, params, many, context):
        seen.append((query, params, many, context["connection"].alias))
        return execute(query, params, many, context)

    with connection.execute_wrapper(watch), connection.execute_wrapper(watch):
        assert fetch("default", "SELECT %s::int", [7]) == [(7,)]

    assert seen == [("SELECT %s::int", [7], False, "default")] * 2


@pytest.mark.django_db(transaction=True)
def test_an_error_in_one_undoes_all_and_the_connection_goes_on():
    TenantFactory(slug="acme", name="Acme")

    for broken in (
        [(RENAME, ["Lost", "acme"]), ("SELECT %s::int", ["x"])],
        [("SELECT %s::int", ["x"]), (RENAME, ["L", "acme"])],
    ):
        with pytest.raises(DataError):
            together(*broken)

    assert name() == "Acme"
    assert fetch("default", "SELECT 1", []) == [(1,)]


@pytest.mark.django_db(transaction=True)
def test_within_a_transaction_it_is_the_transactions():
    TenantFactory(slug="acme", name="Acme")

    with transaction.atomic():
        assert together((RENAME, ["Lost", "acme"]), ("SELECT name FROM cp_tenants_tenant", [])) == [[], [("Lost",)]]
        transaction.set_rollback(True)

    assert name() == "Acme"


@pytest.mark.django_db(transaction=True)
def test_it_is_one_round_trip():
    connection.ensure_connection()
    for _ in range(2):  # the first time they are prepared, in the same trip
        with wire(connection) as traced:
            together(("SELECT 1", []), ("SELECT 2", []), ("SELECT 3", []))

        assert traced.trips == 1

    for query in ("SELECT 1", "SELECT 2"):
        fetch("default", query, [])
    with wire(connection) as traced:
        fetch("default", "SELECT 1", [])
        fetch("default", "SELECT 2", [])

    assert traced.trips == 2


def test_a_value_has_one_type_whatever_it_is():
    assert [plain(value) for value in (None, True, 7, 70_000, "x")] == [None, True, "7", "70000", "x"]


@pytest.mark.django_db(transaction=True)
def test_the_first_statement_of_a_transaction_is_within_it():
    TenantFactory(slug="acme", name="Acme")
    fetch("default", RENAME, ["Acme", "acme"])  # prepared before

    with transaction.atomic():
        assert fetch("default", RENAME, ["Lost", "acme"]) == []
        transaction.set_rollback(True)

    assert name() == "Acme"


@pytest.mark.django_db(transaction=True)
def test_what_the_server_has_forgotten_is_prepared_again():
    fetch("default", "SELECT 4 %% 3, %s::int", [5])
    with connection.cursor() as cursor:
        cursor.execute("DEALLOCATE ALL")

    assert fetch("default", "SELECT 4 %% 3, %s::int", [5]) == [(1, 5)]


@pytest.mark.django_db(transaction=True)
def test_values_of_any_kind_come_back_as_they_went():
    sent = [None, True, 7, 70_000, 7_000_000_000, "ü%s$1", b"\x00\xff", uuid7(), now(), Decimal("0.10"), [1, None]]

    for value in sent:
        assert fetch("default", "SELECT %s", [value]) == [(value,)]


@pytest.mark.django_db(transaction=True)
def test_a_statement_that_is_wrong_says_so_each_time_and_harms_no_other():
    for _ in range(2):
        with pytest.raises(ProgrammingError, match="nowhere"):
            fetch("default", "SELECT 1 FROM nowhere WHERE %s::int = 1", [1])
        with pytest.raises(DataError, match="division by zero"):
            fetch("default", "SELECT 1 / %s::int", [0])

        assert fetch("default", "SELECT 1 / %s::int", [1]) == [(1,)]


@pytest.mark.django_db(transaction=True)
def test_a_connection_that_is_cut_is_an_operational_error(other_connection):
    fetch("default", "SELECT 1", [])
    other_connection.execute("SELECT pg_terminate_backend(%s, 5000)", [connection.connection.info.backend_pid])

    for _ in range(2):  # the server's last word, and then silence
        with pytest.raises(OperationalError):
            fetch("default", "SELECT 1", [])
    connection.close()

    assert fetch("default", "SELECT 1", []) == [(1,)]
