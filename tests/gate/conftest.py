from __future__ import annotations

import pytest

from controlplane import denials
from controlplane.gate import ending, names, tally
from tests.factories import AIModelFactory, BranchFactory, ModelPriceFactory, ProviderFactory, UserFactory, issue


@pytest.fixture(autouse=True)
def nothing_is_remembered():
    denials._recent._seen.clear()
    names._names.clear()
    ending._kept.clear()
    tally._counts.clear()


@pytest.fixture
def model(db):
    return AIModelFactory(
        provider=ProviderFactory(slug="openai"),
        name="gpt-4o",
        key="gpt-4o",
        max_input_tokens=1000,
        max_output_tokens=500,
    )


@pytest.fixture
def price(model):
    """2 US dollars per million tokens sent, 8 per million tokens of answers."""
    return ModelPriceFactory(model=model)


@pytest.fixture
def issued(acme_app, model):
    """A key of an app, a branch and a user of acme."""
    user = UserFactory(tenant=acme_app.tenant, email="ada@acme.example")
    branch = BranchFactory(app=acme_app)
    return issue(acme_app, user=user, branch=branch, scopes=["chat"])


@pytest.fixture
def token(issued):
    return issued.token
