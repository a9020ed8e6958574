"""Policies on the terminal: shown, exported, applied, their history, put back, their schemas."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys

import pytest
from django.core.management import CommandError, call_command
from django.db import connection

from auditing.context import Actor, audit_context
from policies.models import Policy, PolicyVersion
from policies.schemas import SCHEMAS
from tests.conftest import ROOT

ACME = ["--tenant", "acme"]


def run(*arguments):
    """(exit code, stdout, stderr) of a command."""
    out, err = io.StringIO(), io.StringIO()
    try:
        call_command(*arguments, stdout=out, stderr=err)
    except CommandError as error:
        return error.returncode, out.getvalue(), err.getvalue() + str(error)
    return 0, out.getvalue(), err.getvalue()


def as_json(*arguments):
    code, out, _ = run(*arguments, "--json")
    return code, json.loads(out)


@pytest.fixture
def caps(acme):
    return acme.policy("token_caps", {"max_output_tokens": 5}, name="caps", app=acme.app())


@pytest.fixture
def file(tmp_path):
    """Writes a document and returns its path."""

    def write(*entries):
        path = tmp_path / "policies.json"
        path.write_text(json.dumps({"policies": [*entries]}))
        return str(path)

    return write


CAPS = {"name": "caps", "policy_type": "token_caps", "scope": {"app": "chat"}, "config": {"max_output_tokens": 6}}


# ---------------------------------------------------------------- show


@pytest.mark.parametrize("by", ["name", "pk"])
def test_policy_show_shows_one_policy_by_name_or_id(caps, by):
    code, out, _ = run("policy_show", str(getattr(caps, by)), *ACME)

    assert code == 0
    assert '{"max_output_tokens": 5}' in out
    assert '{"app": "chat"}' in out
    assert "version      1" in out
    assert as_json("policy_show", "caps", *ACME) == (0, caps.as_record() | {"state": "active"})


@pytest.mark.parametrize("named", ["nothing", "0197b9b0-0000-7000-8000-000000000000", ""])
@pytest.mark.parametrize("command", [("policy_show",), ("policy_history",), ("policy_rollback", "1", "--reason", "x")])
def test_a_policy_that_is_not_there_is_one_sentence_and_exit_2(caps, named, command):
    name, *rest = command
    code, _, err = run(name, named, *rest, *ACME)

    assert code == 2
    assert "There is no policy" in err


def test_a_policy_of_another_tenant_is_not_there(caps, globex):
    theirs = globex.policy(name="theirs")

    for named in ("theirs", str(theirs.pk)):
        assert run("policy_show", named, *ACME)[0] == 2
        assert run("policy_history", named, *ACME)[0] == 2
        assert run("policy_rollback", named, "1", "--reason", "x", *ACME)[0] == 2


def test_a_name_of_two_policies_asks_for_the_id(acme, caps):
    acme.policy(name="caps")

    code, _, err = run("policy_show", "caps", *ACME)

    assert code == 2
    assert "Several policies" in err
    assert run("policy_show", str(caps.pk), *ACME)[0] == 0


def test_a_deleted_policy_is_shown_by_its_history_alone(caps):
    Policy.objects.all().delete()

    assert "is deleted" in run("policy_show", "caps", *ACME)[2]
    assert run("policy_history", "caps", *ACME)[0] == 0


# ---------------------------------------------------------------- export and apply


def test_what_is_exported_can_be_applied(caps, monkeypatch):
    code, out, err = run("policy_export", *ACME)
    assert (code, err) == (0, "")
    Policy.objects.update(priority=9)

    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(out.encode())))
    assert run("policy_apply", "-", *ACME, "--apply")[0] == 0

    assert run("policy_export", *ACME)[1] == out


def test_an_export_tells_what_is_left_out_and_exits_1(acme, caps):
    unnamed = acme.policy()

    code, out, err = run("policy_export", *ACME, "--json")

    assert code == 1
    assert str(unnamed.pk) in err
    assert [one["name"] for one in json.loads(out)["policies"]] == ["caps"]


def test_policy_apply_shows_and_writes_nothing_by_default(acme, caps, file):
    acme.policy(name="old")
    path = file(CAPS, {"name": "new", "policy_type": "budget"})

    code, out, _ = run("policy_apply", path, *ACME, "--prune")

    assert code == 0
    assert out.splitlines() == [
        "update   caps",
        "    config.max_output_tokens: 5 → 6",
        "create   new",
        '  + config: {}',
        '  + name: "new"',
        '  + policy_type: "budget"',
        "disable  old",
        "    enabled: true → false",
        "1 to create, 1 to update, 1 to disable, 0 as they are. "
        "Nothing was written: --apply --epoch 2 writes it, if nothing changes till then.",
    ]  # fmt: skip
    assert PolicyVersion.objects.count() == 2


def test_policy_apply_writes_with_actor_and_reason(caps, file):
    code, told = as_json("policy_apply", file(CAPS), *ACME, "--apply", "--reason", "ticket 5", "--epoch", "1")

    assert (code, told["applied"], told["refused"]) == (0, True, [])
    assert told["changes"][0]["changes"] == [{"path": "config.max_output_tokens", "before": 5, "after": 6}]
    version = PolicyVersion.objects.get(version=2)
    assert (version.actor, version.reason) == ("command policy_apply", "ticket 5")


def test_a_plan_of_another_epoch_is_refused(caps, file):
    path = file(CAPS)
    Policy.objects.update(priority=2)

    code, told = as_json("policy_apply", path, *ACME, "--apply", "--epoch", "1")

    assert (code, told["applied"], told["refused_as"], told["epoch"]) == (1, False, "plan_stale", 2)
    assert Policy.objects.get().config == {"max_output_tokens": 5}


@pytest.mark.parametrize("flags", [[], ["--apply"]])
def test_what_does_not_fit_is_listed_and_exits_1(caps, file, flags):
    path = file(
        CAPS, {"name": "bad", "policy_type": "budget", "config": {"limits": [{"window": "year", "limit": "1"}]}}
    )

    code, out, err = run("policy_apply", path, *ACME, *flags)
    assert code == 1
    assert "policies.1.config.limits.0.window (bad): " in err
    assert "[literal_error]" in err
    assert "Nothing was written." in out
    code, told = as_json("policy_apply", path, *ACME, *flags)
    assert (code, told["applied"]) == (1, False)
    assert [(one["path"], one["name"], one["code"]) for one in told["refused"]] == [
        ("policies.1.config.limits.0.window", "bad", "literal_error")
    ]
    assert PolicyVersion.objects.count() == 1


@pytest.mark.parametrize("content", [None, b"", b"{", b"\xff", b"[" * 50_000, b'{"policies": [Infinity]}'])
def test_a_file_that_cannot_be_read_exits_2(acme, tmp_path, content):
    assert acme.tenant
    path = tmp_path / "garbage"
    if content is not None:
        path.write_bytes(content)

    code, out, err = run("policy_apply", str(path), *ACME, "--apply")

    assert (code, out) == (2, "")
    assert err.count("\n") == 0


def test_a_folder_and_a_name_with_nul_cannot_be_read(acme, tmp_path):
    assert acme.tenant
    assert run("policy_apply", str(tmp_path), *ACME)[0] == 2
    assert run("policy_apply", "a\0b", *ACME)[0] == 2


@pytest.mark.parametrize("command", ["policy_export", "policy_history"])
def test_without_the_tenant_nothing_can_run(db, command):
    assert run(command, "--tenant", "nobody")[0] == 2


@pytest.mark.django_db(transaction=True)
def test_two_processes_that_apply_one_document_at_once_apply_it_once(acme, file, other_connection):
    acme.app()
    at = {"port": "", "password": "", **connection.get_connection_params()}
    names = {"PGDATABASE": "dbname", "PGHOST": "host", "PGPORT": "port", "PGUSER": "user", "PGPASSWORD": "password"}
    variables = {**os.environ, **{name: str(at[key]) for name, key in names.items()}}
    variables |= {"DATABASE_URL": f"postgresql:///{at['dbname']}", "DJANGO_SETTINGS_MODULE": "tests.settings"}
    command = [sys.executable, "-m", "django", "policy_apply", file(CAPS), *ACME, "--apply"]

    with other_connection.transaction():  # until both have made their plan
        other_connection.execute("SELECT FROM cp_tenants_tenant FOR NO KEY UPDATE")
        both = [
            subprocess.Popen(command, cwd=ROOT, env=variables, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE)
            for _ in range(2)
        ]
        while waiting() < 2 and all(process.poll() is None for process in both):
            pass

    told = [process.communicate()[1].decode() for process in both]
    assert sorted(process.returncode for process in both) == [0, 1], told
    assert any("Plan again" in text for text in told)
    assert Policy.objects.count() == 1


def waiting():
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
        )
        return cursor.fetchone()[0]


# ---------------------------------------------------------------- history and rollback


def test_policy_history_lists_who_changed_what_and_why(caps, file):
    run("policy_apply", file(CAPS), *ACME, "--apply", "--reason", "ticket 5")

    code, told = as_json("policy_history", "caps", *ACME)

    assert (code, told["next"]) == (0, None)
    second, first = told["rows"]
    assert (second["version"], second["op"], second["reason"], second["epoch"]) == (2, "update", "ticket 5", 2)
    assert second["changes"] == [{"path": "config.max_output_tokens", "before": 5, "after": 6}]
    assert (first["op"], {"path": "name", "after": "caps"} in first["changes"]) == ("create", True)
    _, out, _ = run("policy_history", "caps", *ACME)
    assert "config.max_output_tokens" in out
    assert "ticket 5" in out


def test_policy_history_names_people_and_keys_as_long_as_they_are_there(acme):
    for actor in (acme.user(), Actor("api_key", str(acme.key().pk)), Actor("user", "7")):
        with audit_context(actor=actor):
            acme.policy()

    _, told = as_json("policy_history", *ACME)

    assert [row["actor"] for row in told["rows"]] == ["user 7", "api_key ci", "user ada@acme.example"]


def test_policy_history_of_a_tenant_is_paged_and_of_that_tenant_alone(acme, globex):
    for number in range(5):
        acme.policy(name=f"p{number}")
    globex.policy(name="theirs")

    _, first = as_json("policy_history", *ACME, "--limit", "3")
    _, rest = as_json("policy_history", *ACME, "--limit", "3", "--after", first["next"])

    assert [row["name"] for row in first["rows"] + rest["rows"]] == ["p4", "p3", "p2", "p1", "p0"]
    assert rest["next"] is None


def test_a_version_after_a_deletion_is_compared_with_nothing(acme, caps):
    Policy.objects.all().delete()
    run("policy_rollback", "caps", "1", "--reason", "a slip", *ACME)

    _, told = as_json("policy_history", "caps", *ACME)

    assert [(row["version"], row["op"], len(row["changes"]) > 5) for row in told["rows"]] == [
        (3, "create", True), (2, "delete", False), (1, "create", True),
    ]  # fmt: skip


def test_policy_rollback_makes_a_new_version(caps):
    caps.config, caps.priority = {"max_output_tokens": 7}, 3
    caps.save()

    code, out, _ = run("policy_rollback", "caps", "1", "--reason", "too loose", *ACME)

    assert code == 0
    assert out.splitlines() == [
        "    config.max_output_tokens: 7 → 5", "    priority: 3 → 0", "caps is as in version 1: now version 3.",
    ]  # fmt: skip
    version = PolicyVersion.objects.get(version=3)
    assert (version.actor, version.reason) == ("command policy_rollback", "too loose")


def test_policy_rollback_as_json_and_a_second_time_changes_nothing(caps):
    Policy.objects.update(priority=4)

    once = as_json("policy_rollback", "caps", "1", "--reason", "x", *ACME)
    again = as_json("policy_rollback", "caps", "1", "--reason", "x", *ACME)

    assert once == (
        0, {"policy_id": str(caps.pk), "version": 3, "changes": [{"path": "priority", "before": 4, "after": 0}]}
    )  # fmt: skip
    assert again == (0, {"policy_id": str(caps.pk), "version": 3, "changes": []})


def test_policy_rollback_brings_back_a_deleted_policy_by_name(caps):
    id_ = caps.pk
    caps.delete()

    code, told = as_json("policy_rollback", "caps", "2", "--reason", "a slip", *ACME)

    assert (code, told["policy_id"], told["version"]) == (0, str(id_), 3)
    assert Policy.objects.get().pk == id_


@pytest.mark.parametrize(("version", "code"), [("9", 2), ("0", 2), ("-1", 2)])
def test_a_version_that_is_not_there_exits_2(caps, version, code):
    got, _, err = run("policy_rollback", "caps", "--reason", "x", *ACME, "--", version)

    assert (got, "no such version" in err) == (code, True)


def test_a_body_that_does_not_fit_any_more_exits_1(acme):
    policy = acme.policy("token_caps", {"max_output_tokens": 5}, name="caps")
    with connection.cursor() as cursor:
        cursor.execute("UPDATE cp_policies_policy SET config = '{\"gone\": 1}'")
    policy.refresh_from_db()
    policy.config = {}
    policy.save()

    code, _, err = run("policy_rollback", "caps", "2", "--reason", "x", *ACME)

    assert code == 1
    assert "gone: There is no such field here" in err


# ---------------------------------------------------------------- schemas


def test_policy_schema_writes_the_schema_of_a_type_or_of_all():
    code, out, _ = run("policy_schema", "budget")
    assert code == 0
    assert json.loads(out)["properties"]["limits"]["anyOf"][0]["maxItems"] == 16
    assert json.loads(out)["additionalProperties"] is False

    assert {*json.loads(run("policy_schema")[1])} == {*SCHEMAS}
