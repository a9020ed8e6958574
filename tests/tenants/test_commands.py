from __future__ import annotations

import json
from datetime import timedelta
from io import StringIO
from uuid import uuid4

import pytest
from django.core.management import CommandError, call_command

from auditing.models import AuditLog
from controlplane.core.ids import now
from tenants.errors import InvalidKey
from tenants.models import APIKey, APIKeySecret, App, Branch, Tenant, User, UserApp

pytestmark = pytest.mark.django_db


def run(*arguments):
    """(stdout, stderr) of a command, without the last line's end."""
    out, err = StringIO(), StringIO()
    call_command(*arguments, stdout=out, stderr=err)
    return out.getvalue().rstrip("\n"), err.getvalue().rstrip("\n")


def refused(*arguments):
    """(exit code, sentence) of a command that refuses; it must be one line."""
    with pytest.raises(CommandError) as caught:
        run(*arguments)
    assert "\n" not in str(caught.value)
    return caught.value.returncode, str(caught.value)


@pytest.fixture
def acme():
    tenant = Tenant.objects.create(slug="acme", name="Acme")
    app = App.objects.create(tenant=tenant, slug="chat", name="Chat")
    Branch.objects.create(tenant=tenant, app=app, code="NORTH", name="North")
    for name, role in (("owner", "owner"), ("developer", "developer")):
        User.objects.create_user(f"{name}@acme.example", tenant=tenant, username=name, role=role)
    return tenant


@pytest.fixture
def globex():
    tenant = Tenant.objects.create(slug="globex", name="Globex")
    app = App.objects.create(tenant=tenant, slug="lab", name="Lab")
    User.objects.create_user("outsider@globex.example", tenant=tenant, username="outsider", role="owner")
    APIKey.objects.issue(tenant=tenant, app=app, name="Theirs")
    return tenant


@pytest.fixture
def issued(acme):
    return APIKey.objects.issue(tenant=acme, app=acme.apps.get(), name="Ours")


CREATE = {
    "tenant": ("tenant_create", "initech", "--name", "Initech"),
    "app": ("app_create", "mail", "--tenant", "acme", "--name", "Mail", "--type", "web"),
    "branch": ("branch_create", "SOUTH", "--tenant", "acme", "--app", "chat", "--name", "South", "--country", "DE"),
    "user": ("user_create", "ada@acme.example", "--tenant", "acme", "--role", "admin", "--username", "ada"),
}


@pytest.mark.parametrize(("kind", "model"), [("tenant", Tenant), ("app", App), ("branch", Branch), ("user", User)])
def test_what_is_made_is_there_and_told_as_json(acme, kind, model):
    out, err = run(*CREATE[kind], "--json")

    assert model.objects.filter(pk=json.loads(out)["id"]).exists()
    assert err == ""


@pytest.mark.parametrize(("kind", "model"), [("tenant", Tenant), ("app", App), ("branch", Branch), ("user", User)])
def test_made_twice_is_refused_and_leaves_the_first(acme, kind, model):
    run(*CREATE[kind])
    before = list(model.objects.values().order_by("pk"))

    code, said = refused(*CREATE[kind])

    assert code == 1
    assert said
    assert list(model.objects.values().order_by("pk")) == before


@pytest.mark.parametrize("kind", CREATE)
def test_the_log_says_which_command_made_it(acme, kind):
    run(*CREATE[kind])

    row = AuditLog.objects.filter(action="create").order_by("-id").first()

    assert (row.actor_type, row.actor_id) == ("command", f"{kind}_create")


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (("tenant_create", "No Slug", "--name", "x"), "slug"),
        (("tenant_create", "a", "--name", "x"), "slug"),
        (("tenant_create", "fine", "--name", ""), "name"),
        (("tenant_create", "fine", "--name", "x", "--time-zone", "Mars/Olympus"), "time_zone"),
        (("tenant_create", "fine", "--name", "x", "--domain", "no domain"), "domain"),
        (("app_create", "ma il", "--tenant", "acme", "--name", "Mail"), "slug"),
        (("app_create", "chat2", "--tenant", "acme", "--name", "CHAT"), "name"),
        (("branch_create", "a/b", "--tenant", "acme", "--app", "chat", "--name", "x"), "code"),
        (("branch_create", "a", "--tenant", "acme", "--app", "chat", "--name", "x", "--country", "de"), "country"),
        (("user_create", "no-mail", "--tenant", "acme"), "email"),
        (("user_create", "a@acme.example", "--tenant", "acme", "--username", "a/b"), "username"),
        (("user_create", "OWNER@acme.example", "--tenant", "acme"), "e-mail"),
    ],
)
def test_garbage_is_refused_by_name_and_nothing_is_written(acme, arguments, word):
    before = AuditLog.objects.count()

    code, said = refused(*arguments)

    assert code == 1
    assert word in said
    assert AuditLog.objects.count() == before


@pytest.mark.parametrize(
    "arguments",
    [
        ("tenant_suspend", "nobody", "--reason", "x"),
        ("tenant_resume", "nobody"),
        ("tenant_delete", "nobody", "--reason", "x"),
        ("tenant_restore", "nobody", "--reason", "x"),
        ("app_create", "mail", "--tenant", "nobody", "--name", "Mail"),
        ("app_list", "--tenant", "nobody"),
        ("branch_create", "N", "--tenant", "acme", "--app", "lab", "--name", "N"),
        ("user_create", "a@acme.example", "--tenant", "nobody"),
        ("user_list", "--tenant", "nobody"),
        ("user_list", "--tenant", "acme", "--app", "lab"),
        ("user_deactivate", "outsider", "--tenant", "acme", "--reason", "x"),
        ("access_grant", "outsider@globex.example", "--tenant", "acme", "--app", "chat"),
        ("access_grant", "developer", "--tenant", "acme", "--app", "lab"),
        ("access_revoke", "outsider", "--tenant", "acme", "--app", "chat"),
        ("keys_issue", "Key", "--tenant", "acme", "--app", "lab"),
        ("keys_issue", "Key", "--tenant", "acme", "--app", "chat", "--user", "outsider"),
        ("keys_issue", "Key", "--tenant", "acme", "--app", "chat", "--branch", "SOUTH"),
        ("keys_list", "--tenant", "acme", "--app", "lab"),
        ("keys_rotate", str(uuid4()), "--tenant", "acme"),
        ("keys_revoke", "cpk_live_000000000000", "--tenant", "acme", "--reason", "x"),
    ],
)
def test_what_is_not_there_or_of_another_tenant_is_not_found(acme, globex, arguments):
    before = AuditLog.objects.count()

    code, said = refused(*arguments)

    assert code == 2
    assert "no " in said
    assert AuditLog.objects.count() == before


def test_the_key_of_another_tenant_is_neither_rotated_nor_revoked(acme, globex):
    theirs = APIKey.objects.get(name="Theirs")
    kid = theirs.secrets.get().prefix

    for name in (str(theirs.pk), kid):
        assert refused("keys_rotate", name, "--tenant", "acme")[0] == 2
        assert refused("keys_revoke", name, "--tenant", "acme", "--reason", "x")[0] == 2

    theirs.refresh_from_db()
    assert (theirs.rotation, theirs.revoked_at) == (0, None)


def test_a_tenant_is_suspended_resumed_deleted_and_restored(acme):
    for command, status in (
        ("tenant_suspend", "suspended"),
        ("tenant_resume", "active"),
        ("tenant_delete", "deleted"),
        ("tenant_restore", "active"),
    ):
        run(command, "acme", "--reason", "a drill")
        acme.refresh_from_db()
        row = AuditLog.objects.for_object(acme).order_by("-id").first()

        assert acme.status == status
        assert (row.actor_id, row.reason) == (command, "a drill")


@pytest.mark.parametrize(
    ("first", "again"),
    [
        ("tenant_suspend", "suspended already"),
        ("tenant_delete", "is deleted"),
        ("tenant_resume", "not suspended"),
        ("tenant_restore", "not deleted"),
    ],
)
def test_a_state_twice_is_refused(acme, first, again):
    if first in ("tenant_suspend", "tenant_delete"):
        run(first, "acme", "--reason", "a drill")

    code, said = refused(first, "acme", "--reason", "a drill")

    assert code == 1
    assert again in said


@pytest.mark.parametrize("command", ["tenant_suspend", "tenant_delete", "tenant_restore"])
def test_a_blank_reason_is_refused(acme, command):
    assert refused(command, "acme", "--reason", " ")[0] == 1


@pytest.mark.parametrize("command", ["tenant_suspend", "tenant_delete"])
def test_a_dry_run_says_in_numbers_what_would_stop(acme, issued, command):
    out, _ = run(command, "acme", "--reason", "x", "--dry-run")

    acme.refresh_from_db()
    assert "1 apps, 2 users, 1 live keys" in out
    assert acme.status == "active"


def test_nothing_new_is_made_in_a_deleted_tenant(acme):
    acme.delete("gone")

    for command in (CREATE["app"], CREATE["branch"], CREATE["user"]):
        code, said = refused(*command)

        assert code == 1
        assert "tenant_restore" in said


def test_deleted_tenants_are_listed_when_asked_for(acme, globex):
    globex.delete("gone")

    assert [row["slug"] for row in json.loads(run("tenant_list", "--json")[0])["rows"]] == ["acme"]
    assert "globex" in run("tenant_list", "--status", "deleted")[0]


LISTS = {
    "tenant_list": (),
    "app_list": ("--tenant", "acme"),
    "user_list": ("--tenant", "acme"),
    "keys_list": ("--tenant", "acme"),
}


@pytest.fixture
def several(acme, globex):
    for number in range(5):
        Tenant.objects.create(slug=f"more-{number}", name="More")
        app = App.objects.create(tenant=acme, slug=f"app-{number}", name=f"App {number}")
        User.objects.create_user(f"user-{number}@acme.example", tenant=acme)
        APIKey.objects.issue(tenant=acme, app=app, name=f"Key {number}")


@pytest.mark.parametrize("command", LISTS)
def test_pages_follow_one_another_without_gap_or_repetition(several, command):
    whole = json.loads(run(command, *LISTS[command], "--json")[0])
    pages, after = [], []
    while after is not None:
        page = json.loads(run(command, *LISTS[command], "--json", "--limit", "2", *after)[0])
        pages += page["rows"]
        after = page["next"] and ["--after", page["next"]]

    assert whole["next"] is None
    assert len(whole["rows"]) >= 5
    assert pages == whole["rows"]


@pytest.mark.parametrize("command", LISTS)
def test_a_list_for_people_puts_the_way_on_to_stderr(several, command):
    out, err = run(command, *LISTS[command], "--limit", "2")

    assert len(out.splitlines()) == 3
    assert "--after" in err


@pytest.mark.parametrize("command", ["app_list", "user_list", "keys_list"])
def test_a_list_shows_rows_of_its_tenant_only(several, command):
    out, _ = run(command, "--tenant", "globex", "--json")

    assert len(json.loads(out)["rows"]) == 1


@pytest.mark.parametrize("limit", ["0", "1001", "-1", "many", "²", "1.5"])
def test_a_page_has_one_to_a_thousand_rows(acme, limit):
    assert "--limit" in refused("tenant_list", "--limit", limit)[1]


def test_an_empty_list_says_so_on_stderr(acme):
    assert run("keys_list", "--tenant", "acme") == ("", "There is none.")


def test_a_cursor_of_keys_is_an_id(acme):
    assert "no id" in refused("keys_list", "--tenant", "acme", "--after", "yesterday")[1]


def test_a_user_with_a_password_from_stdin_can_sign_in(acme, monkeypatch):
    monkeypatch.setattr("sys.stdin", StringIO("a long and quiet evening\n"))

    run(*CREATE["user"], "--password-stdin")

    assert User.objects.get(username="ada").check_password("a long and quiet evening")


@pytest.mark.parametrize("given", ["", "\n", "short\n", "ada@acme.example\n"])
def test_a_weak_or_missing_password_is_refused(acme, monkeypatch, given):
    monkeypatch.setattr("sys.stdin", StringIO(given))

    refused(*CREATE["user"], "--password-stdin")

    assert not User.objects.filter(username="ada").exists()


def test_a_user_without_a_password_cannot_sign_in_with_one(acme):
    run(*CREATE["user"])

    assert not User.objects.get(username="ada").has_usable_password()


def test_an_operator_is_no_role_of_a_tenant(acme):
    assert "operator" in refused("user_create", "a@acme.example", "--tenant", "acme", "--role", "operator")[1]


def test_a_user_is_deactivated_by_name_or_e_mail_in_any_case(acme):
    out, _ = run("user_deactivate", "Developer@ACME.example", "--tenant", "acme", "--reason", "left")

    assert "developer@acme.example" in out
    assert not User.objects.get(username="developer").is_active


def test_the_last_owner_stays(acme):
    code, said = refused("user_deactivate", "owner", "--tenant", "acme", "--reason", "left")

    assert code == 1
    assert "owner" in said
    assert User.objects.get(username="owner").is_active


def test_access_is_granted_changed_and_revoked(acme):
    access = ("developer", "--tenant", "acme", "--app", "chat")

    run("access_grant", *access)
    run("access_grant", *access, "--role", "admin")
    granted = UserApp.objects.get()
    run("access_revoke", *access, "--reason", "moved on")
    ended = UserApp.objects.get()

    assert (granted.role, granted.status) == ("admin", "active")
    assert granted.granted_by
    assert (ended.status, ended.reason) == ("revoked", "moved on")
    assert refused("access_revoke", *access)[0] == 1


def test_users_with_access_to_an_app_are_listed(acme):
    run("access_grant", "developer", "--tenant", "acme", "--app", "chat")

    out, _ = run("user_list", "--tenant", "acme", "--app", "chat", "--json")

    assert [row["username"] for row in json.loads(out)["rows"]] == ["developer"]


def test_a_token_is_alone_on_stdout_and_verifies(acme):
    out, err = run("keys_issue", "Ours", "--tenant", "acme", "--app", "chat")

    assert APIKey.objects.verify(out).key_id == APIKey.objects.get().pk
    assert out not in err


def test_what_is_said_beside_a_token_can_be_read_by_a_script(acme):
    _, err = run("keys_issue", "Ours", "--tenant", "acme", "--app", "chat", "--json")

    assert json.loads(err)["id"] == str(APIKey.objects.get().pk)


def test_a_token_is_in_no_audit_row(acme):
    token, _ = run("keys_issue", "Ours", "--tenant", "acme", "--app", "chat")

    rows = AuditLog.objects.values_list("before", "after", "details", "reason")

    assert not any(token.rpartition("_")[2] in str(row) for row in rows)


def test_a_key_has_what_was_asked_for(acme):
    run(
        "keys_issue", "Ours", "--tenant", "acme", "--app", "chat", "--user", "developer", "--branch", "NORTH",
        "--environment", "test", "--scope", "chat", "--scope", "batch", "--model", "openai/gpt-5.6", "--tag", "ci",
        "--expires-in", "90d",
    )  # fmt: skip
    key = APIKey.objects.get()

    assert (key.user.username, key.branch.code, key.environment) == ("developer", "NORTH", "test")
    assert (key.scopes, key.allowed_models, key.tags) == (["chat", "batch"], ["openai/gpt-5.6"], ["ci"])
    assert timedelta(days=89) < key.expires_at - now() <= timedelta(days=90)
    assert key.created_by


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (("--expires", "2020-01-01T00:00Z"), "past"),
        (("--expires", "2999-01-01T00:00"), "time zone"),
        (("--expires", "soon"), "no time"),
        (("--expires-in=-1d",), "negative"),
        (("--expires-in", "3"), "no duration"),
        (("--expires-in", "999999999w"), "too"),
        (("--scope", "No Scope"), "scope"),
        (("--model", "gpt-5.6"), "provider/name"),
        (("--environment", "staging"), "staging"),
    ],
)
def test_a_key_with_garbage_is_not_issued(acme, arguments, word):
    said = refused("keys_issue", "Ours", "--tenant", "acme", "--app", "chat", *arguments)[1]

    assert word in said
    assert not APIKey.objects.exists()


def test_a_rotated_key_has_two_secrets_that_work_and_one_after_the_grace(acme, issued):
    token, err = run("keys_rotate", str(issued.key.pk), "--tenant", "acme", "--grace", "1h")

    assert APIKey.objects.verify(token).key_id == APIKey.objects.verify(issued.token).key_id
    assert APIKeySecret.objects.filter(expires_at__gt=now()).count() == 1
    assert token not in err


def test_no_grace_ends_the_old_secret_at_once(acme, issued):
    run("keys_rotate", issued.secret.prefix, "--tenant", "acme", "--grace", "0s")

    with pytest.raises(InvalidKey, match="expired"):
        APIKey.objects.verify(issued.token)


def test_a_grace_beyond_the_longest_is_refused(acme, issued):
    code, said = refused("keys_rotate", str(issued.key.pk), "--tenant", "acme", "--grace", "8d")

    assert code == 1
    assert "grace" in said
    assert APIKeySecret.objects.count() == 1


def test_a_revoked_key_is_refused_and_twice_keeps_the_first_reason(acme, issued):
    run("keys_revoke", str(issued.key.pk), "--tenant", "acme", "--reason", "leaked")
    out, _ = run("keys_revoke", str(issued.key.pk), "--tenant", "acme", "--reason", "again")

    assert out.endswith("leaked")
    with pytest.raises(InvalidKey, match="revoked"):
        APIKey.objects.verify(issued.token)


def test_one_secret_is_revoked_and_the_other_works_on(acme, issued):
    token, _ = run("keys_rotate", str(issued.key.pk), "--tenant", "acme")

    run("keys_revoke", str(issued.key.pk), "--tenant", "acme", "--reason", "x", "--secret", issued.secret.prefix)

    assert APIKey.objects.verify(token)
    with pytest.raises(InvalidKey, match="revoked"):
        APIKey.objects.verify(issued.token)


def test_a_revoked_key_is_not_rotated(acme, issued):
    issued.key.revoke("leaked")

    assert refused("keys_rotate", str(issued.key.pk), "--tenant", "acme")[0] == 1


@pytest.mark.parametrize("command", [("keys_rotate",), ("keys_revoke", "--reason", "leaked")])
def test_a_whole_token_as_an_argument_is_refused_and_not_repeated(acme, issued, command):
    code, said = refused(command[0], issued.token, "--tenant", "acme", *command[1:])

    assert code == 1
    assert issued.token[-49:] not in said


def test_a_reason_that_holds_a_token_is_refused(acme, issued):
    said = refused("keys_revoke", str(issued.key.pk), "--tenant", "acme", "--reason", f"leaked {issued.token}")[1]

    assert issued.token not in said
    assert APIKey.objects.get().revoked_at is None


def test_keys_that_end_soon_are_listed(acme, issued):
    APIKey.objects.issue(tenant=acme, app=acme.apps.get(), name="Soon", expires_at=now() + timedelta(days=2))

    out, _ = run("keys_list", "--tenant", "acme", "--expiring", "7d", "--json")

    assert [row["name"] for row in json.loads(out)["rows"]] == ["Soon"]


def test_live_keys_are_listed_and_no_digest_with_them(acme, issued):
    APIKey.objects.issue(tenant=acme, app=acme.apps.get(), name="Gone").key.revoke("x")

    out, _ = run("keys_list", "--tenant", "acme", "--live", "--json")

    assert [row["name"] for row in json.loads(out)["rows"]] == ["Ours"]
    assert bytes(issued.secret.digest).hex() not in out


def test_old_secrets_are_purged_and_the_key_stays(acme, issued):
    issued.key.revoke("old")

    assert run("keys_purge", "--dry-run")[0] == "0 secrets would be removed."
    assert run("keys_purge", "--older-than", "0s", "--dry-run")[0] == "1 secrets would be removed."
    assert run("keys_purge", "--older-than", "0s")[0] == "Removed 1 secrets."
    assert run("keys_purge", "--older-than", "0s")[0] == "Removed 0 secrets."
    assert APIKey.objects.get().name == "Ours"
    assert AuditLog.objects.filter(action="delete", actor_id="keys_purge").count() == 1
