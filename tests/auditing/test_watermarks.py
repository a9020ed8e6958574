from __future__ import annotations

import psycopg
import pytest
from django.db import connection, transaction

from auditing.watermarks import move, span

pytestmark = pytest.mark.django_db(transaction=True)
NUMBER = "SELECT pg_current_xact_id()::text::bigint"


def read():
    with transaction.atomic(), connection.cursor() as cursor:
        return span(cursor, "job")


@pytest.fixture
def elsewhere(new_database):
    """A connection in autocommit to another database of the same cluster."""
    found = new_database("elsewhere")
    at = {"host": found["PGHOST"], "user": found["PGUSER"], "dbname": found["PGDATABASE"]}
    at |= {"port": found["PGPORT"]} if found["PGPORT"] else {}
    at |= {"password": found["PGPASSWORD"]} if found["PGPASSWORD"] else {}
    with psycopg.connect(**at, autocommit=True) as opened:
        yield opened


def test_a_span_ends_before_the_oldest_transaction_that_is_open_here(other_connection):
    other_connection.execute("BEGIN")
    [number] = other_connection.execute(NUMBER).fetchone()

    held, _ = read(), other_connection.execute("COMMIT")

    assert held.high <= number
    assert read().high > number


def test_a_transaction_of_another_database_holds_nothing_up(elsewhere):
    elsewhere.execute("BEGIN")
    [number] = elsewhere.execute(NUMBER).fetchone()

    read()  # a transaction that is over, of a later number
    found = read()
    elsewhere.execute("ROLLBACK")

    assert found.high > number


def test_what_a_transaction_writes_itself_is_not_within_its_span():
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(NUMBER)
        [number] = cursor.fetchone()

        assert span(cursor, "job").high <= number


def test_a_span_begins_where_the_last_one_ended():
    with transaction.atomic(), connection.cursor() as cursor:
        first = span(cursor, "job")
        move(cursor, "job", first.high)

    assert (first.low, read().low) == (3, first.high)
