"""Rows that wait in memory: who waits for one shares a commit with others."""

from __future__ import annotations

import threading

import pytest

from auditing.writer import queue
from auditing.writer.queue import Ack, Queue


def put(rows, number):
    for _ in range(number):
        assert rows.put("e", b"x", Ack(), 0)


def taken(rows):
    found = len(rows.take(100, 5, 1.0))
    rows.drop(found, committed=found)
    return found


@pytest.fixture
def rows():
    """Three were waited for when the last ones were taken."""
    found = Queue()
    put(found, 3)
    assert taken(found) == 3
    return found


def test_rows_that_somebody_waits_for_are_taken_as_many_as_last_time(rows, monkeypatch):
    monkeypatch.setattr(queue, "GATHER", 30.0)
    thread = threading.Thread(target=put, args=(rows, 3))
    thread.start()

    assert taken(rows) == 3
    thread.join()


def never(*_, **__):
    raise AssertionError("it waits for others")


def test_where_fewer_come_they_are_taken_without_the_others_and_the_next_time_at_once(rows, monkeypatch):
    put(rows, 1)
    assert taken(rows) == 1

    put(rows, 1)
    monkeypatch.setattr(rows, "_await", never)
    assert taken(rows) == 1


def test_a_queue_that_is_closed_waits_for_nobody(rows, monkeypatch):
    put(rows, 1)
    rows.close()
    monkeypatch.setattr(rows, "_await", never)

    assert taken(rows) == 1
