"""Whatever is typed: a sentence and exit code 1 or 2, nothing written, and no command ends in a traceback."""

from __future__ import annotations

import pytest
from django.core.management import CommandError, call_command

from policies.models import Policy, PolicyVersion, Reservation

GARBAGE = ["", " ", "\x00", "a\x00b", "\udcff", "日本", "x" * 10_000, "'; --", "%s", "-1", "../..", "*", "acme\n"]

TENANT = ["--tenant", "acme"]
COMMANDS = [
    ["policy_list", "--tenant", ...],
    ["policy_list", *TENANT, "--type", ...],
    ["policy_show", ..., *TENANT],
    ["policy_show", "rule", "--tenant", ...],
    ["policy_export", "--tenant", ...],
    ["policy_apply", ..., *TENANT],
    ["policy_apply", "/dev/null", "--tenant", ...],
    ["policy_apply", "/dev/null", *TENANT, "--epoch", ...],
    ["policy_explain", "--tenant", ...],
    ["policy_explain", *TENANT, "--app", ...],
    ["policy_explain", *TENANT, "--app", "chat", "--branch", ...],
    ["policy_explain", *TENANT, "--user", ...],
    ["policy_explain", *TENANT, "--key", ...],
    ["policy_explain", *TENANT, "--model", ...],
    ["policy_explain", *TENANT, "--model", "gpt-4o", "--region", ...],
    ["policy_explain", *TENANT, "--at", ...],
    ["policy_history", ..., *TENANT],
    ["policy_history", "--tenant", ...],
    ["policy_history", *TENANT, "--after", ...],
    ["policy_history", *TENANT, "--limit", ...],
    ["policy_rollback", ..., "1", *TENANT, "--reason", "x"],
    ["policy_rollback", "rule", ..., *TENANT, "--reason", "x"],
    ["policy_rollback", "rule", "1", "--tenant", ..., "--reason", "x"],
    ["policy_schema", ...],
    ["limit_list", "--tenant", ...],
    ["limit_list", *TENANT, "--kind", ...],
    ["limit_list", *TENANT, "--at", ...],
    ["limit_list", *TENANT, "--after", ...],
    ["limit_list", *TENANT, "--limit", ...],
    ["reservation_list", "--tenant", ...],
    ["reservation_list", *TENANT, "--state", ...],
    ["reservation_list", *TENANT, "--after", ...],
    ["reservation_release", ..., *TENANT, "--reason", "x"],
    ["reservation_release", "r-1", "--tenant", ..., "--reason", "x"],
    ["reservation_release", "r-1", *TENANT, "--reason", ...],
    ["limits_verify", "--tenant", ...],
    ["limits_rebook", "--tenant", ...],
    ["policy_lint", "--tenant", ...],
    ["policy_lint", ..., *TENANT],
    ["policy_simulate", ..., *TENANT],
    ["policy_simulate", "/dev/null", "--tenant", ...],
]


@pytest.fixture
def some(acme):
    acme.branch()
    acme.policy("routing", {"regions": ["eu"]}, name="rule")
    return acme


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: " ".join(map(str, command)).replace("Ellipsis", "…"))
def test_garbage_is_a_sentence_and_an_exit_code(some, command):
    before = list(PolicyVersion.objects.values_list("pk", "version"))
    for garbage in GARBAGE:
        words = [garbage if word is ... else word for word in command]

        assert _run(words) in (1, 2), f"{garbage!r} is taken"

    assert list(PolicyVersion.objects.values_list("pk", "version")) == before
    assert Policy.objects.count() == 1
    assert not Reservation.objects.exists()


def _run(words):
    try:
        call_command(*words)
    except CommandError as error:
        return error.returncode if str(error).strip() else 0
    except SystemExit as stop:
        return stop.code
    return 0
