from __future__ import annotations

import pytest
from django.db import connection

from controlplane.core import partitions
from controlplane.core.ids import now


@pytest.fixture
def old_months(db):
    """Make months of all logs; in a test that commits they are dropped after it, whatever stands in them."""
    made = []

    def make(*months):
        for log in partitions.registered():
            made.extend((log, month) for month in partitions.ensure(log, now(), months=months))

    yield make
    if not connection.in_atomic_block:
        with connection.cursor() as cursor:
            for log, month in made:
                cursor.execute(f"DROP TABLE IF EXISTS {log.table}_{month:%Y%m}")
