"""The acceptance cases of cases.json: stored and asked through the database, each policy row in its own place."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from uuid import UUID

import pytest

from policies.models import Policy
from tests.policies.world import World, make_models

CASES = json.loads((Path(__file__).parent / "cases.json").read_text())


class Asked:
    """One case, stored: the effective policy of its request, and the labels of its policies."""

    def __init__(self, case):
        make_models(*CASES["catalog"], *case.get("catalog_extra", []))
        self.request = case["request"]
        self.at = datetime.fromisoformat(case["at"])
        self.worlds = {}
        world = self.world(self.request["org"])
        branch = world.branch(self.request.get("branch"), self.request.get("app"))
        self.scope = {
            "app": world.app(self.request.get("app")),
            "branch": branch,
            "user": world.user(self.request.get("user")),
        }
        if self.request.get("key"):
            scope = {name: self.request.get(name) for name in ("app", "branch", "user")}
            self.scope = {"key": world.key(self.request["key"], **scope)}
        self.labels = self._store(case["policies"])
        self.tenant = world.tenant
        self.effective = Policy.objects.effective(self.tenant, at=self.at, **self.scope)

    def world(self, org):
        return self.worlds.setdefault(org, World(org.lower()))

    def _store(self, policies):
        """Ids that sort like the labels."""
        labels = {}
        for number, policy in enumerate(sorted(policies, key=lambda policy: policy["id"])):
            world = self.world(policy["org"])
            scope = {name: policy.get(name) for name in ("app", "branch", "user", "key")}
            fields = {name: policy[name] for name in ("config", "priority", "enabled") if name in policy}
            fields |= {name: policy[name] for name in ("overridable", "final", "schedule") if name in policy}
            fields |= {
                name: datetime.fromisoformat(policy[name]) for name in ("valid_from", "valid_until") if name in policy
            }
            row = Policy(id=UUID(int=0x7000 << 64 | 0x8 << 60 | number + 1), tenant=world.tenant, **fields)
            row.policy_type = policy["type"]
            row.app = world.app(scope["app"])
            row.branch = world.branch(scope["branch"], scope["app"])
            row.user = world.user(scope["user"])
            row.key = world.key(scope["key"], scope["app"]) if scope["key"] else None
            row.save()
            labels[row.pk] = policy["id"]
        return labels

    def named(self, ids):
        return [self.labels[policy] for policy in ids]

    def limits(self):
        values = self.effective.values
        return [entry for name in ("rate_limit", "budget") for entry in values.get(name, {}).get("limits", [])]


def as_sets(values):
    """INTERSECT and UNION lists without their inner order; the layers of INTERSECT keep theirs."""
    copied = json.loads(json.dumps(values))
    for access in (copied.get("model_access", {}), copied.get("storage_access", {})):
        for name, found in access.items():
            lists = found if name == "allow" else [found]
            for entries in lists:
                entries.sort(key=json.dumps)
    for name in ("providers", "regions"):
        for entries in copied.get("routing", {}).get(name, []):
            entries.sort()
    return copied


def of_decision(asked, decision, expected):
    found = {name: getattr(decision, name) for name in expected}
    if "by" in found:
        found["by"] = asked.labels.get(found["by"])
    return found


@pytest.mark.django_db
@pytest.mark.parametrize("case", CASES["cases"], ids=lambda case: f"{case['n']}: {case['title']}")
def test_a_case_passes_through_the_database(case):
    asked, expect = Asked(case), dict(case["expect"])
    request = asked.request

    if expected := expect.pop("applicable", None):
        rows = Policy.objects.applicable(asked.tenant, at=asked.at, **asked.scope)
        assert asked.named(row.pk for row in rows) == expected
        assert asked.named(asked.effective.applicable) == expected
    if "effective" in expect:
        assert as_sets(asked.effective.values) == as_sets(expect.pop("effective"))
    for policy_type, field, labels in expect.pop("provenance", []):
        assert asked.named(asked.effective.provenance[policy_type][field]["from"]) == labels
    if "conflicts" in expect:
        assert list(asked.effective.conflicts) == expect.pop("conflicts")
    if "buckets" in expect:
        found = [[entry["bucket"], entry["limit"]] for entry in asked.limits()]
        assert sorted(found, key=str) == sorted(expect.pop("buckets"), key=str)
    if "limits" in expect:
        found = [[entry["bucket"], entry["limit"], entry.get("mode", "hard")] for entry in asked.limits()]
        assert sorted(found, key=str) == sorted(expect.pop("limits"), key=str)
    if expected := expect.pop("model", None):
        assert of_decision(asked, asked.effective.decide_model(request["model"]), expected) == expected
    if expected := expect.pop("storage", None):
        decision = asked.effective.decide_storage(request["uri"], request["mode"])
        assert of_decision(asked, decision, expected) == expected
    if expected := expect.pop("targets", None):
        assert [target.model for target in asked.effective.decide_targets() if target] == expected
    assert expect == {}, "an expectation that nothing compares"
