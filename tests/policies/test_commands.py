from __future__ import annotations

import json

import pytest
from django.core.management import CommandError, call_command

from policies.models import Policy
from tests.policies.test_database import force
from tests.policies.world import make_models


def run(capsys, *arguments):
    """The exit code of a command, and what it printed."""
    try:
        call_command(*arguments)
        code = 0
    except SystemExit as stop:
        code = stop.code
    return code, capsys.readouterr().out


def failure(*arguments):
    with pytest.raises(CommandError) as caught:
        call_command(*arguments)
    return caught.value.returncode, str(caught.value)


@pytest.fixture
def some(acme, globex):
    make_models("openai/gpt-4o", "openai/o1")
    acme.policy(config={"deny": ["o1"]}, name="no o1")
    acme.policy("budget", {"limits": [{"window": "month", "limit": "5"}]}, name="small", app=acme.app(), enabled=False)
    acme.policy("token_caps", {"max_output_tokens": 5}, user=acme.user())
    globex.policy("budget", name="theirs")
    return acme


def test_policy_list_shows_the_policies_of_one_tenant(some, capsys):
    code, out = run(capsys, "policy_list", "--tenant", "acme")

    assert code == 0
    assert "no o1" in out
    assert "theirs" not in out
    assert "app chat" in out
    assert "user ada@acme.example" in out
    assert "disabled" in out
    assert out.endswith("3 policies of acme.\n")


def test_policy_list_as_json_has_every_field(some, capsys):
    _, out = run(capsys, "policy_list", "--tenant", "acme", "--type", "budget", "--json")

    [record] = json.loads(out)
    assert (record["name"], record["enabled"], record["app_id"]) == ("small", False, str(some.app().pk))
    assert (record["config"], record["layer"]) == ({"limits": [{"window": "month", "limit": "5"}]}, 3)
    assert not any(name.endswith("_key") for name in record)


def test_policy_explain_shows_order_values_and_sources(some, capsys):
    code, out = run(capsys, "policy_explain", "--tenant", "acme", "--app", "chat", "--user", "ADA@acme.example")

    caps = Policy.objects.get(policy_type="token_caps")
    assert code == 0
    assert out.index("token_caps") < out.index("model_access")
    assert f"token_caps.max_output_tokens = 5  STRICTEST from {caps.pk} (layer 9)" in out
    assert "disabled" in out


@pytest.mark.parametrize(("model", "code", "words"), [("gpt-4o", 0, "allow, allowed"), ("o1", 1, "deny, model_denied")])
def test_policy_explain_answers_by_exit_code(some, capsys, model, code, words):
    got, out = run(capsys, "policy_explain", "--tenant", "acme", "--model", model)

    assert got == code
    assert f"Model openai/{model}: {words}" in out
    assert ("decided by no o1" in out) == (code == 1)


def test_policy_explain_refuses_what_the_gate_refuses_because_a_policy_cannot_be_read(some, capsys):
    force(some.policy("guardrail", name="privacy"), config={"x": 1})

    code, out = run(capsys, "policy_explain", "--tenant", "acme", "--model", "gpt-4o")

    assert code == 1
    assert "Model openai/gpt-4o: deny, policy_invalid" in out
    assert "decided by privacy" in out


def test_policy_explain_as_json_is_the_record(some, capsys):
    asked = ["--tenant", "acme", "--key", str(some.key().pk), "--model", "o1", "--at", "2026-03-10T12:00:00Z", "--json"]
    code, out = run(capsys, "policy_explain", *asked)

    record = json.loads(out)
    assert code == 1
    assert (record["reason"], record["at"]) == ("model_denied", "2026-03-10T12:00:00Z")
    assert record["request"]["key"] == str(some.key().pk)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--tenant", "nobody"], "no tenant 'nobody'"),
        (["--tenant", "acme", "--app", "nothing"], "no app 'nothing'"),
        (["--tenant", "acme", "--branch", "berlin"], "needs its app"),
        (["--tenant", "acme", "--app", "chat", "--branch", "mars"], "no branch 'mars'"),
        (["--tenant", "acme", "--user", "ada@globex.example"], "no user 'ada@globex.example'"),
        (["--tenant", "acme", "--key", "ci"], "no key 'ci'"),
        (["--tenant", "acme", "--key", "0197b9b0-0000-7000-8000-000000000000"], "no key '0197b9b0"),
        (["--tenant", "acme", "--at", "yesterday"], "no time with a zone"),
        (["--tenant", "acme", "--at", "2026-03-10T12:00"], "no time with a zone"),
        (["--tenant", "acme", "--at", "2026-13-10T12:00Z"], "no time with a zone"),
    ],
)
def test_a_question_that_cannot_be_asked_is_one_sentence_and_exit_2(some, arguments, words):
    some.app()
    code, text = failure("policy_explain", *arguments)

    assert code == 2
    assert words in text


def test_rows_of_another_tenant_are_not_there(some, globex):
    theirs = globex.key("theirs", app="their-app", user="eve")
    globex.branch("paris", "chat")
    kid = theirs.secrets.get().kid

    for arguments in (
        ["--app", "their-app"], ["--app", "chat", "--branch", "paris"], ["--user", "eve@globex.example"],
        ["--key", str(theirs.pk)], ["--key", f"cpk_live_{kid}"], ["--user", "eve"],
    ):  # fmt: skip
        code, text = failure("policy_explain", "--tenant", "acme", *arguments)
        assert (code, "acme" in text or "chat" in text) == (2, True)


def test_values_that_contradict_each_other_are_exit_2(some):
    key = some.key("bound", user="ada")
    some.user("bob")

    code, text = failure("policy_explain", "--tenant", "acme", "--key", str(key.pk), "--user", "bob@acme.example")

    assert (code, text.partition(":")[0]) == (2, "scope_mismatch")
    assert failure("policy_list", "--tenant", "nobody")[0] == 2
