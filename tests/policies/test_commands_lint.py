from __future__ import annotations

import json
from datetime import timedelta

import pytest

from auditing.ingest import LOG
from controlplane.core import partitions
from controlplane.core.ids import now
from policies.models import Policy
from tests.factories import InferenceRequestFactory
from tests.policies.test_commands import failure, run
from tests.policies.world import make_models

HOUR = timedelta(hours=1)


@pytest.fixture
def some(acme):
    make_models("openai/gpt-4o", "openai/o1")
    acme.policy(config={"allow": ["gpt-4o", "gpt-5"]}, name="models")
    return acme


@pytest.fixture
def recorded(some):
    first = now() - HOUR
    partitions.ensure(LOG, first, months=[first.date().replace(day=1)])
    for number, model in enumerate(["openai/gpt-4o", "openai/gpt-4o", "openai/o1"]):
        InferenceRequestFactory(
            tenant_id=some.tenant.pk, created_at=first + number * timedelta(minutes=1), model=model,
            app_id=some.app().pk, user_id=some.user().pk,
        )  # fmt: skip
    return some


@pytest.fixture
def written(tmp_path):
    def write(value):
        path = tmp_path / "changes.json"
        path.write_text(value if isinstance(value, str) else json.dumps(value))
        return str(path)

    return write


def creating(policy_type, config):
    return [{"op": "create", "fields": {"policy_type": policy_type, "config": config}}]


# ---------------------------------------------------------------- policy_lint


def test_policy_lint_lists_findings_and_passes_without_errors(some, capsys):
    code, out = run(capsys, "policy_lint", "--tenant", "acme")

    assert code == 0
    assert "warning  dead_allow  Policy models: gpt-5 in allow names no model" in out
    assert out.endswith("acme: 0 errors, 1 warning, 0 notes.\n")


def test_policy_lint_fails_for_errors_and_takes_changes(some, capsys, written):
    [policy] = Policy.objects.all()
    changes = written([{"op": "update", "policy_id": str(policy.pk), "fields": {"config": {"allow": ["gpt-5"]}}}])

    code, out = run(capsys, "policy_lint", "--tenant", "acme", changes, "--json")

    assert code == 1
    findings = json.loads(out)
    assert [one["code"] for one in findings] == ["empty_effective_allow", "dead_allow"]
    assert findings[0]["policies"] == [str(policy.pk)]
    assert run(capsys, "policy_lint", "--tenant", "acme")[0] == 0


# ---------------------------------------------------------------- policy_simulate


def test_policy_simulate_shows_whom_a_document_would_refuse(recorded, capsys, written):
    deny = {"name": "no 4o", "policy_type": "model_access", "config": {"deny": ["gpt-4o"]}}
    document = written({"policies": [deny]})

    code, out = run(capsys, "policy_simulate", "--tenant", "acme", document)

    assert code == 1
    assert "newly denied         2  model_denied 2" in out
    assert "still denied         1  model_not_in_allowlist 1" in out
    assert "ada@acme.example" in out
    assert 'model_access.deny: null → ["gpt-4o"] for 3 requests' in out
    assert "0.00 then" in out
    assert Policy.objects.count() == 1


def test_policy_simulate_as_json_is_the_record_and_passes_if_nobody_is_refused(recorded, capsys, written):
    [policy] = Policy.objects.all()
    changes = written([{"op": "delete", "policy_id": str(policy.pk)}])

    code, out = run(capsys, "policy_simulate", "--tenant", "acme", changes, "--json")

    record = json.loads(out)
    assert code == 0
    assert (record["newly_allowed"], record["still_allowed"], record["truncated"]) == (1, 2, False)
    assert record["by"]["model"]["openai/o1"] == {"newly_allowed": 1}


def test_policy_simulate_takes_a_window_and_a_number(recorded, capsys, written):
    changes = written(creating("budget", {"limits": [{"window": "day", "limit": "0"}]}))

    _, out = run(capsys, "policy_simulate", "--tenant", "acme", changes, "--limit", "1")
    assert out.startswith("1 requests from ")
    assert "There were more" in out
    assert "Begins at 0, a counter that was not there: cost, window day, scope:1 (policy " in out
    _, out = run(capsys, "policy_simulate", "--tenant", "acme", changes, "--until", "2026-01-01T00:00Z")
    assert out.startswith("0 requests from ")


@pytest.mark.parametrize("command", ["policy_lint", "policy_simulate"])
@pytest.mark.parametrize(
    ("content", "code", "words"),
    [
        ("[", 2, "no JSON"),
        ([{"op": "create", "field": {}}], 2, "Change 0 is none"),
        ([{"op": "delete", "policy_id": "small"}], 2, "small is no id"),
        ([{"op": "delete", "policy_id": "0197b9b0-0000-7000-8000-000000000000"}], 1, "There is no policy 0197b9b0"),
        (creating("budget", {"limits": [{"window": "year", "limit": "1"}]}), 1, "limits.0.window"),
        ({"format": 2, "policies": []}, 1, "format"),
    ],
)
def test_changes_that_make_no_sense_are_one_sentence(some, written, command, content, code, words):
    got, text = failure(command, "--tenant", "acme", written(content))

    assert got == code
    assert words in text


def test_what_is_not_there_is_exit_2(some, written):
    assert failure("policy_lint", "--tenant", "nobody")[0] == 2
    assert failure("policy_simulate", "--tenant", "nobody", written([]))[0] == 2
    assert failure("policy_simulate", "--tenant", "acme", "/nowhere/at/all")[0] == 2
