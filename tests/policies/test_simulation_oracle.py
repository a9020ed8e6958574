"""A simulation beside the plainest way to find out: make the changes, ask the database for each request, count."""

from __future__ import annotations

import random
from datetime import timedelta
from decimal import Decimal

import pytest
from django.db import transaction

from catalog.models import AIModel
from policies.models import Policy
from policies.patterns import names_model
from policies.periods import window
from policies.simulation import Change, Sample, simulate
from tests.policies.asked import HOUR, MODELS, START, ask, counted, counts, create
from tests.policies.world import make_models


@pytest.fixture(autouse=True)
def models(db):
    make_models(*MODELS)
    AIModel.objects.filter(name="haiku").update(enabled=False)


def random_policies(chance, world, number):
    """Fields of policies of all kinds that decide about calls, as a change takes them."""
    scopes = [
        {},
        {"app": world.app()},
        {"app": world.app("batch")},
        {"user": world.user()},
        {"user": world.user("bob")},
        {"app": world.app(), "branch": world.branch()},
        {"app": world.app(), "user": world.user()},
        {"key": world.key()},
    ]
    for _ in range(number):
        policy_type, config = random_config(chance)
        scope = {f"{name}_id": row.pk for name, row in chance.choice(scopes).items()}
        fields = {"policy_type": policy_type, "config": config, "priority": chance.randrange(3), **scope}
        if policy_type in ("model_access", "rate_limit", "budget") and chance.random() < 0.3:
            fields["overridable"] = [chance.choice([name for name in config if name != "deny"] or ["allow"])]
            fields["overridable"] = [n for n in fields["overridable"] if n in ("allow", "limits")]
        if policy_type == "model_access":
            fields["overridable"] = [n for n in fields.get("overridable", []) if n == "allow"]
        if chance.random() < 0.3:
            fields["schedule"] = {
                "tz": chance.choice(["Europe/Berlin", "UTC", "Asia/Kolkata"]),
                "days": sorted(chance.sample(["fri", "sat", "sun", "mon"], 2)),
                "start": chance.choice(["00:00", "01:30", "22:00"]),
                "end": chance.choice(["02:30", "09:00", "23:00"]),
            }
        if chance.random() < 0.2:
            fields["valid_from"] = START + chance.randrange(60) * HOUR
        if chance.random() < 0.2:
            fields["valid_until"] = START + chance.randrange(61, 96) * HOUR
        yield fields


def random_config(chance):
    patterns = ["gpt*", "opus", "*", "openai/*", "o1", "bedrock/*", "gpt-4o"]
    limit = {
        "per": chance.choice(["scope", "scope", "user", "app", "key"]),
        "mode": chance.choice(["hard"] * 3 + ["soft"]),
    }
    if chance.random() < 0.3:
        limit["models"] = chance.sample(patterns, 2)
    metric = chance.choice(["requests", "input_tokens", "output_tokens", "total_tokens", "concurrent"])
    windows = ["none"] if metric == "concurrent" else ["1m", "1h", "1d"]
    highest = {"requests": 30, "concurrent": 3}.get(metric, 30_000)
    rate = {**limit, "metric": metric, "window": chance.choice(windows), "limit": chance.randrange(highest)}
    cost = {
        **limit,
        "window": chance.choice(["hour", "day", "week", "month", "total"]),
        "limit": str(chance.randrange(9)),
    }
    return chance.choice(
        [
            ("model_access", {chance.choice(["allow", "deny"]): chance.sample(patterns, chance.randrange(1, 5))}),
            (
                "token_caps",
                {"max_output_tokens": chance.randrange(800), "on_exceed": chance.choice(["clamp", "reject"])},
            ),
            ("token_caps", {"max_input_tokens": chance.randrange(500, 2000)}),
            ("rate_limit", {"limits": [rate]}),
            ("rate_limit", {"limits": [rate]}),
            ("budget", {"limits": [cost]}),
            ("budget", {"limits": [cost]}),
            ("routing", {"aliases": {"smart": chance.choice(MODELS), "gpt-4": "openai/o1"}}),
            ("routing", {"providers": chance.sample(["openai", "anthropic", "bedrock"], 2)}),
        ]
    )


def random_requests(chance, world, number):
    names = [*MODELS, "gpt-4o", "gpt-4", "smart", "opus", "nothing", "GPT-4O", "o1"]
    asked_by = [
        {},
        {"app": world.app()},
        {"app": world.app("batch"), "user": world.user("bob")},
        {"app": world.app(), "user": world.user()},
        {"app": world.app(), "branch": world.branch(), "user": world.user("bob")},
        {"key": world.key(), "user": world.user()},
    ]
    for n in range(number):
        at = START + timedelta(seconds=chance.randrange(4 * 86_400))
        yield ask(
            world,
            at,
            **chance.choice(asked_by),
            model=chance.choice(names),
            input_tokens=chance.choice([None, chance.randrange(2000)]),
            output_tokens=chance.choice([None, chance.randrange(900)]),
            cost=chance.choice([None, Decimal(chance.randrange(1000)) / 1000, Decimal("0.01"), Decimal("0.02")]),
            ended_at=at + timedelta(minutes=chance.randrange(300)) if chance.random() < 0.8 else None,
            request_id=f"r{n:05}",
        )


class Naive:
    """Every request asked of the database as the gate asks, and counted in the plainest way."""

    def __init__(self, world):
        self.world = world
        tenant = world.tenant
        self.rows = {
            row.pk: row for rows in (tenant.apps, tenant.branches, tenant.users, tenant.keys) for row in rows.all()
        }
        self.spent = {}
        self.running = []

    def ask(self, request):
        """(allowed, reason, model, tokens of output)"""
        scope = request.scope
        named = {"app": scope.app_id, "branch": scope.branch_id, "user": scope.user_id, "key": scope.key_id}
        rows = {name: value and self.rows[value] for name, value in named.items()}
        effective = Policy.objects.effective(self.world.tenant, **rows, at=request.at)
        decision = effective.decide_model(request.model, request.region)
        if not decision:
            return False, decision.reason, decision.model, None
        tokens = effective.check_tokens(request.input_tokens or 0, request.output_tokens)
        if not tokens:
            return False, tokens.reason, decision.model, None
        return self.count(request, effective.values, decision, tokens.output_tokens)

    def count(self, request, values, decision, output_tokens):
        self.running = [(end, key) for end, key in self.running if end > request.at]
        used = {"requests": 1, "concurrent": 1, "input_tokens": request.input_tokens or 0}
        used["output_tokens"] = request.output_tokens or 0
        used |= {"total_tokens": used["input_tokens"] + used["output_tokens"], "cost": request.cost}
        wanted = {}
        for kind in ("rate_limit", "budget"):
            for entry in values.get(kind, {}).get("limits", []):
                if any(names_model(p, decision.model) for p in entry.get("models", ["*"])):
                    key = self.key(kind, entry, request)
                    hard = [Decimal(entry["limit"])] if entry.get("mode", "hard") == "hard" else []
                    wanted.setdefault(key, []).extend(hard)
        if any(hard and key[2] == "cost" for key, hard in wanted.items()) and used["cost"] is None:
            return False, "model_unpriced", decision.model, None
        full = [key for key, hard in wanted.items() if hard and self.held(key) + used[key[2]] > min(hard)]
        if full:
            reason = "budget_exceeded" if any(key[0] == "budget" for key in full) else "rate_limited"
            return False, reason, decision.model, output_tokens
        for key in wanted:
            if key[2] == "concurrent":
                self.running.append((request.ended_at or request.at, key))
            else:
                self.spent[key] = self.spent.get(key, 0) + (used[key[2]] or 0)
        return True, decision.reason, decision.model, output_tokens

    def held(self, key):
        return sum(other == key for _, other in self.running) if key[2] == "concurrent" else self.spent.get(key, 0)

    def key(self, kind, entry, request):
        scope = request.scope
        ids = {"app": scope.app_id, "branch": scope.branch_id, "user": scope.user_id, "key": scope.key_id}
        how, _, which = entry["bucket"].partition(":")
        weights = {"app": 2, "branch": 4, "user": 8, "key": 16}
        owner = tuple(ids[n] for n, w in weights.items() if (which == n if how == "per" else (int(which) - 1) & w))
        period = window(entry["window"], self.world.tenant.time_zone, request.at, entry.get("anchor", 1))
        models = frozenset(m.lower() for m in entry["models"]) if "models" in entry else None
        return kind, entry["bucket"], entry.get("metric", "cost"), owner, entry["window"], period.label, models


def really(world, changes):
    """Make the changes."""
    for change in changes:
        if change.op == "delete":
            Policy.objects.get(pk=change.policy_id).delete()
            continue
        policy = Policy(tenant=world.tenant) if change.op == "create" else Policy.objects.get(pk=change.policy_id)
        for name, value in change.fields.items():
            setattr(policy, name, value)
        policy.save()


@pytest.mark.parametrize("seed", range(4))
def test_a_simulation_says_what_asking_each_request_says(acme, seed):
    chance = random.Random(seed)  # noqa: S311  the same policies every time
    acme.tenant.time_zone = "Europe/Berlin"
    acme.tenant.save()
    present = [acme.policy(**fields) for fields in random_policies(chance, acme, 12)]
    changes = [create(**fields) for fields in random_policies(chance, acme, 5)]
    changes += [Change("delete", policy.pk) for policy in present[:2]]
    changes += [Change("update", policy.pk, {"priority": 5, "enabled": False}) for policy in present[2:3]]
    changes += [Change("update", policy.pk, {"config": policy.config, "schedule": None}) for policy in present[3:6]]
    sample = Sample.of(random_requests(chance, acme, 300))

    result = simulate(acme.tenant, changes, sample)

    before = [*map(Naive(acme).ask, sample.requests)]
    with transaction.atomic():
        really(acme, changes)
        after = [*map(Naive(acme).ask, sample.requests)]
        transaction.set_rollback(True)
    expected = counted(changed=0, before=Decimal(0), after=Decimal(0))
    shown = []
    for request, was, becomes in zip(sample.requests, before, after, strict=True):
        kind = {(1, 1): "still_allowed", (1, 0): "newly_denied", (0, 1): "newly_allowed"}.get((was[0], becomes[0]))
        expected[kind or "still_denied"] += 1
        expected["before"] += was[0] * (request.cost or 0)
        expected["after"] += becomes[0] * (request.cost or 0)
        if kind == "still_allowed" and was[2:] != becomes[2:]:
            expected["changed"] += 1
            kind = "changed"
        if kind in ("newly_denied", "newly_allowed", "changed"):
            shown.append((kind, request.request_id, was[:3], becomes[:3]))
    found = counts(result) | {"changed": result.changed, "before": result.cost_before, "after": result.cost_after}
    assert found == expected
    assert 0 < result.newly_denied + result.newly_allowed < len(sample)
    assert {
        (e.kind, e.request.request_id, *((o.allow, o.reason, o.model) for o in (e.before, e.after)))
        for e in result.examples
    } <= set(shown)
    assert len(result.examples) == min(100, len(shown))
