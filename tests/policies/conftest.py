from __future__ import annotations

import pytest

from tests.policies.world import World


@pytest.fixture
def acme(db):
    return World("acme")


@pytest.fixture
def globex(db):
    return World("globex")
