from __future__ import annotations

import pytest
from django.db import connections

from policies.checks import check_atomic_requests, check_reservations


@pytest.mark.parametrize(("atomic", "found"), [(True, ["cp_policies.W001"]), (False, [])])
def test_a_view_that_is_one_transaction_is_warned_of(monkeypatch, atomic, found):
    monkeypatch.setitem(connections.settings["default"], "ATOMIC_REQUESTS", atomic)

    assert [each.id for each in check_atomic_requests(None)] == found


def test_an_alias_that_is_not_there_is_another_checks_matter(settings):
    settings.CONTROLPLANE = {**settings.CONTROLPLANE, "DATABASE": "elsewhere"}

    assert list(check_atomic_requests(None)) == []


@pytest.mark.parametrize(
    ("ttl", "found"),
    [(0, ["cp_policies.E001"]), (1, []), (86_400, []), (86_401, ["cp_policies.E001"]), ("900", ["cp_policies.E001"])],
)
def test_a_reservation_lasts_a_second_to_a_day(settings, ttl, found):
    settings.CONTROLPLANE = {**settings.CONTROLPLANE, "RESERVATION_TTL": ttl}

    assert [each.id for each in check_reservations(None)] == found
