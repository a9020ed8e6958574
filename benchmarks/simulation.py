"""20,000 recorded requests asked of policies before and after changes, against asking for each request by itself."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from time import perf_counter
from typing import Any

from django.db import connection, transaction

from auditing import ingest
from auditing.ingest import LOG
from benchmarks.report import Goal, show
from catalog.models import AIModel, Provider
from controlplane.core import partitions
from controlplane.core.ids import now
from policies.lint import lint
from policies.models import Policy
from policies.resolution import load
from policies.simulation import Change, Sample, simulate
from tenants.models import App, Tenant, User

REQUESTS = 20_000
BY_HAND = 500
DAY = datetime(2023, 11, 16, tzinfo=UTC)
NAMES = ("gpt-4", "gpt-4o", "gpt-4o-mini", "o1", "claude-opus", "claude-haiku", "gemini-pro")
WORK_HOURS = {"tz": "Europe/Berlin", "days": ["mon", "tue", "wed", "thu", "fri"], "start": "08:00", "end": "18:00"}


def run() -> bool:
    chance = random.Random(7)  # noqa: S311 - the same requests every time
    tenant = _tenant(chance)
    end = _record(chance, tenant)
    changes = _changes(tenant)

    began = perf_counter()
    sample = Sample.from_requests(tenant, DAY, end)
    read = perf_counter()
    result = simulate(tenant, changes, sample)
    simulated = perf_counter()
    assert result.requests == REQUESTS, result.requests  # noqa: S101 - a benchmark of something else would be a lie
    assert min(result.newly_denied, result.newly_allowed) > 0, dict(result.reasons)  # noqa: S101
    by_hand = _by_hand(tenant, sample)
    linted = perf_counter()
    findings = lint(tenant)
    lint_s = perf_counter() - linted

    total = simulated - began
    seconds = {
        f"reading {REQUESTS:,} recorded requests": read - began,
        "asking them before and after 4 changes": simulated - read,
        "the same, each request by itself (scaled up)": by_hand,
        f"lint of {Policy.objects.filter(tenant=tenant).count():,} policies: {len(findings):,} findings": lint_s,
    }
    goals = [
        Goal(f"simulation of {REQUESTS:,} requests, seconds", total, 5, "{:.2f}", most=True),
        Goal("simulation against asking one by one", by_hand / total, 5, "{:.0f} x"),
    ]
    return show(f"Simulation of {REQUESTS:,} requests", seconds, "s", goals, form="{:,.2f}")


def _tenant(chance: random.Random) -> Tenant:
    """An organization with 50 apps, 500 users, 7 models and 1,000 policies of every kind that decides about calls."""
    tenant = Tenant.objects.create(slug="bench", name="Bench", time_zone="Europe/Berlin")
    apps = App.objects.bulk_create(App(tenant=tenant, slug=f"app-{n}", name=f"App {n}") for n in range(50))
    users = User.objects.bulk_create(User(tenant=tenant, email=f"user{n}@bench.example") for n in range(500))
    provider = Provider.objects.create(slug="azure", name="Azure")
    AIModel.objects.bulk_create(AIModel(provider=provider, name=name, key=f"azure/{name}") for name in NAMES)
    Policy.objects.bulk_create(
        Policy(tenant=tenant, policy_type=policy_type, config=config, **scope)
        for policy_type, config, scope in _policies(chance, apps, users)
    )
    return tenant


def _policies(
    chance: random.Random, apps: list[App], users: list[User]
) -> list[tuple[str, dict[str, Any], dict[str, Any]]]:
    per_user = {"metric": "requests", "window": "1m", "limit": 20, "per": "user"}
    rows: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
        ("model_access", {"deny": ["gpt-4"]}, {"schedule": WORK_HOURS}),
        ("rate_limit", {"limits": [per_user]}, {}),
        ("budget", {"limits": [{"window": "month", "limit": "500"}]}, {}),
        ("token_caps", {"max_input_tokens": 7_500}, {}),
    ]
    for app in apps:
        rows.append(("model_access", {"allow": chance.sample(NAMES, 5)}, {"app": app}))
        rows.append(("budget", {"limits": [{"window": "day", "limit": str(chance.randrange(2, 9))}]}, {"app": app}))
    while len(rows) < 1_000:
        user = chance.choice(users)
        scope = {"user": user, "app": chance.choice(apps)} if chance.random() < 0.3 else {"user": user}
        kind = chance.choice(
            [
                ("model_access", {"deny": [chance.choice(NAMES)]}),
                ("budget", {"limits": [{"window": "week", "limit": str(chance.randrange(1, 5))}]}),
                ("token_caps", {"max_output_tokens": chance.randrange(200, 900)}),
            ]
        )
        rows.append((*kind, scope))
    return rows


def _record(chance: random.Random, tenant: Tenant) -> datetime:
    """Requests in the shape of a real trace: much is asked through few apps, and a user works with three of them. The
    instant after the last.
    """
    apps, users = [*tenant.apps.order_by("slug")], [*tenant.users.order_by("email")]
    own = [[int(len(apps) * chance.random() ** 2) for _ in range(3)] for _ in users]
    at, rows = DAY, []
    for number in range(REQUESTS):
        at += timedelta(microseconds=chance.randrange(1, 13_000_000))
        prompt, completion = chance.randrange(1, 8000), chance.randrange(1, 1000)
        name, person = chance.choice(NAMES), chance.randrange(len(users))
        rows.append(
            {
                "tenant_id": tenant.pk, "app_id": apps[chance.choice(own[person])].pk,
                "user_id": users[person].pk, "provider": "azure", "model": f"azure/{name}",
                "request_id": f"r{number}", "created_at": at, "status": "completed", "prompt_tokens": prompt,
                "completion_tokens": completion, "cost": Decimal(prompt + 3 * completion) / 1_000_000,
                "latency_ms": chance.randrange(200, 9000),
            }
        )  # fmt: skip
    partitions.ensure(LOG, now(), months=[DAY.date().replace(day=1)])
    result = ingest.ingest(enumerate(rows, 1), source="import", historical=True, using="default")
    assert result.inserted == REQUESTS, result  # noqa: S101
    return at + timedelta(seconds=1)


def _changes(tenant: Tenant) -> list[Change]:
    caps = Policy.objects.get(tenant=tenant, app=None, user=None, policy_type="token_caps")
    denied = Policy.objects.get(tenant=tenant, app=None, user=None, policy_type="model_access")
    hourly = {"metric": "total_tokens", "window": "1h", "limit": 20_000, "per": "app"}
    return [
        Change("update", caps.pk, {"config": {"max_input_tokens": 7_000}}),
        Change("delete", denied.pk),
        Change("create", fields={"policy_type": "rate_limit", "config": {"limits": [hourly]}}),
        Change("create", fields={"policy_type": "model_access", "config": {"deny": ["o1"]}, "schedule": WORK_HOURS}),
    ]


def _by_hand(tenant: Tenant, sample: Sample) -> float:
    """Seconds for the whole sample to read, merge and decide each request by itself, twice; limits not even counted."""
    some = sample.requests[:: REQUESTS // BY_HAND]
    began = perf_counter()
    with transaction.atomic():
        for request in some:
            for _ in range(2):
                load(connection.alias, request.scope, request.at).decide_model(request.model)
    return (perf_counter() - began) * REQUESTS / len(some)
