"""Requests and changes for simulations, short enough for a test to read."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from policies.scope import Scope
from policies.simulation import Change, Request, Sample, simulate

START = datetime(2026, 3, 27, tzinfo=UTC)  # a Friday; Berlin sets its clocks on Sunday
MODELS = ("openai/gpt-4", "openai/gpt-4o", "openai/o1", "anthropic/opus", "anthropic/haiku", "bedrock/opus")
SECOND, HOUR, DAY = timedelta(seconds=1), timedelta(hours=1), timedelta(days=1)


def ask(world, at=START, **fields):
    """A request of the tenant, by default of gpt-4o with nothing used."""
    rows = {name: fields.pop(name, None) for name in ("app", "branch", "user", "key")}
    fields.setdefault("model", "gpt-4o")
    return Request(Scope.of(world.tenant, **rows), at, **fields)


def create(policy_type="model_access", config=None, **fields):
    return Change("create", fields={"policy_type": policy_type, "config": config or {}, **fields})


def run(world, changes, *requests, **options):
    return simulate(world.tenant, changes, Sample.of(requests), **options)


def counts(result):
    return {name: getattr(result, name) for name in ("newly_denied", "newly_allowed", "still_denied", "still_allowed")}


def counted(**some):
    return {"newly_denied": 0, "newly_allowed": 0, "still_denied": 0, "still_allowed": 0} | some
