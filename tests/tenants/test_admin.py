"""Tenants, users, access and keys in the admin: what a person does there, once, twice, wrongly and at once."""

from __future__ import annotations

import json
import re
from datetime import timedelta
from uuid import uuid4

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.sessions.models import Session
from django.test import Client
from django.urls import reverse

from auditing.models import AuditLog
from controlplane.core.ids import now
from tenants.errors import InvalidKey
from tenants.models import APIKey, APIKeySecret, App, Branch, Role, Status, Tenant, User, UserApp
from tests.admin_rows import Page
from tests.factories import (
    APIKeyFactory,
    AppFactory,
    BranchFactory,
    OperatorFactory,
    UserAppFactory,
    UserFactory,
    issue,
)
from tests.races import together

KEYS, ADD_KEY = reverse("admin:cp_tenants_apikey_changelist"), reverse("admin:cp_tenants_apikey_add")
TOKEN = re.compile(r"cpk_(?:live|test)_[0-9A-Za-z]{12}_[0-9A-Za-z]{49}")


def page_of(row, page="change"):
    return reverse(f"admin:cp_tenants_{row._meta.model_name}_{page}", args=[row.pk])


def rotate_page(key):
    return reverse("admin:cp_tenants_apikey_rotate", args=[key.pk])


def list_of(model):
    return reverse(f"admin:cp_tenants_{model._meta.model_name}_changelist")


@pytest.fixture
def operator(client, db):
    client.force_login(OperatorFactory(email="operator@example.org"))
    return client


@pytest.fixture
def clerk(db):
    """Staff who may look, and no more."""
    user = OperatorFactory(email="clerk@example.org", is_superuser=False)
    for name in ("view_apikey", "view_tenant", "view_app", "view_user"):
        user.user_permissions.add(permission(name))
    client = Client()
    client.force_login(user)
    return client


def permission(codename):
    from django.contrib.auth.models import Permission

    return Permission.objects.get(content_type__app_label="cp_tenants", codename=codename)


def errors_of(answer):
    """Sentences of a form's errors, by field."""
    return {name: " ".join(said) for name, said in answer.context["adminform"].form.errors.items()}


def form_of(answer):
    """What a browser would send back of a form that was not touched."""
    return Page(answer).form()


def new_key(client, of, **changes):
    """The form of a new key, filled in."""
    sent = form_of(client.get(ADD_KEY))
    return sent | {"app": f"{of.tenant.slug}/{of.slug}", "name": "billing", "environment": "live"} | changes


# ---------------------------------------------------------------- a new key


def test_a_key_is_made_and_its_token_works(operator, acme_app):
    answer = operator.post(ADD_KEY, new_key(operator, acme_app, scopes="chat,embed"))

    assert answer.status_code == 200
    [token] = set(TOKEN.findall(answer.content.decode()))
    verified = APIKey.objects.verify(token, scope="chat")
    key = APIKey.objects.get()
    assert (verified.key_id, key.name, key.tenant, key.app) == (key.pk, "billing", acme_app.tenant, acme_app)
    assert (key.allowed_models, key.created_by) == (None, "operator@example.org")


def test_the_answer_with_the_token_is_kept_by_nobody(operator, acme_app):
    answer = operator.post(ADD_KEY, new_key(operator, acme_app))

    assert "no-store" in answer["Cache-Control"]
    assert answer["Referrer-Policy"] == "no-referrer"
    assert "Location" not in answer


def everything_kept(client):
    """All that is stored beside the answer: rows of any text, session, messages, cookies."""
    tables = [AuditLog, LogEntry, APIKey, APIKeySecret]
    rows = [repr(list(model.objects.values())) for model in tables]
    sessions = [json.dumps(session.get_decoded()) for session in Session.objects.all()]
    return "\n".join([*rows, *sessions, str(client.cookies)])


@pytest.mark.parametrize("how", ["create", "rotate"])
def test_the_token_is_in_the_answer_and_nowhere_else(operator, acme_app, caplog, how):
    key = issue(acme_app).key
    if how == "create":
        answer = operator.post(ADD_KEY, new_key(operator, acme_app))
    else:
        answer = operator.post(rotate_page(key), {"grace": "0", "rotation": "0"})
    [token] = set(TOKEN.findall(answer.content.decode()))
    made = APIKey.objects.verify(token).key_id

    later = [operator.get(url, follow=True) for url in (
        KEYS, reverse("admin:cp_tenants_apikey_change", args=[made]), reverse("admin:cp_tenants_apikey_history", args=[made]),
        reverse("admin:cp_auditing_auditlog_changelist"), "/admin/", ADD_KEY,
    )]  # fmt: skip
    seen = "\n".join([everything_kept(operator), caplog.text, *(page.content.decode() for page in later)])
    secret = token.rsplit("_", 1)[1]
    assert secret not in seen
    assert secret not in str(answer.headers)
    assert token[:21] in seen  # the prefix is, so the search is not in vain


def test_showing_a_token_is_recorded_by_its_prefix(operator, acme_app):
    answer = operator.post(ADD_KEY, new_key(operator, acme_app))

    [token] = set(TOKEN.findall(answer.content.decode()))
    event = AuditLog.objects.get(action="apikey.reveal")
    assert event.details == {"prefix": token[:21]}
    assert (event.tenant_id, event.actor_label) == (acme_app.tenant_id, "operator@example.org")


def test_a_form_sent_twice_makes_one_key_and_shows_its_token_once(operator, acme_app):
    sent = new_key(operator, acme_app)
    first = operator.post(ADD_KEY, sent)

    second = operator.post(ADD_KEY, sent)

    assert APIKey.objects.count() == APIKeySecret.objects.count() == 1
    assert TOKEN.search(first.content.decode())
    assert not TOKEN.search(second.content.decode())
    assert "already created" in second.content.decode()
    assert APIKeySecret.objects.get().kid in second.content.decode()


@pytest.mark.django_db(transaction=True)
def test_a_form_sent_twice_at_once_makes_one_key(acme_app):
    user = OperatorFactory()
    clients = [Client(raise_request_exception=False) for _ in range(2)]
    for each in clients:
        each.force_login(user)
    sent = new_key(clients[0], acme_app)

    answers = together(*((lambda each=each: each.post(ADD_KEY, sent)) for each in clients))

    assert [answer.status_code for answer in answers] == [200, 200]
    assert sum(bool(TOKEN.search(answer.content.decode())) for answer in answers) == 1
    assert APIKeySecret.objects.count() == 1


@pytest.mark.parametrize(
    ("changes", "field", "said"),
    [
        ({"app": ""}, "app", "required"),
        ({"app": "nobody"}, "app", "Nothing is called 'nobody'. Write tenant/name, as acme/chat"),
        ({"app": "chat"}, "app", "'chat' means several: acme/chat, globex/chat. Write one of them whole."),
        ({"app": "acme/nobody"}, "app", "Nothing is called"),
        ({"app": str(uuid4())}, "app", "Nothing is called"),
        ({"app": "a" * 5000}, "app", "Nothing is called"),
        ({"user": "globex/eve@globex.example"}, "user", "another tenant"),
        ({"user": "operator@example.org"}, "user", "An operator holds no key"),
        ({"branch": "globex/chat/north"}, "branch", "another"),
        ({"branch": "acme/other/south"}, "branch", "another app"),
        ({"name": ""}, "name", "required"),
        ({"name": "x" * 201}, "name", "200"),
        ({"scopes": "Chat"}, "scopes", "valid"),
        ({"scopes": ",".join(f"s{n}" for n in range(65))}, "__all__", ""),
        ({"expires_at_0": "2020-01-01", "expires_at_1": "00:00"}, "expires_at", "past"),
        ({"expires_at_0": "9999-12-31", "expires_at_1": "23:59"}, "expires_at", "9998"),
        ({"expires_at_0": "tomorrow", "expires_at_1": "x"}, "expires_at", "date"),
        ({"metadata": "{"}, "metadata", "valid JSON"),
        ({"metadata": "[]"}, "metadata", ""),
        ({"metadata": json.dumps({"note": "x" * 9000})}, "metadata", ""),
        ({"metadata": json.dumps({"t": f"cpk_live_{'a' * 12}_{'b' * 49}"})}, "metadata", "holds a token"),
        ({"name": f"cpk_live_{'a' * 12}_{'b' * 49}"}, "name", "holds a token"),
        ({"environment": "prod"}, "environment", "valid choice"),
        ({"new_id": "x"}, "new_id", "UUID"),
        ({"new_id": "00000000-0000-0000-0000-000000000000"}, "new_id", "damaged"),
        ({"metadata": '{"a": NaN}'}, "metadata", "cannot be stored"),
        ({"metadata": '{"a": -1e999}'}, "metadata", "cannot be stored"),
        ({"metadata": '{"a": ' + "9" * 5000 + "}"}, "metadata", "thousands of digits"),
        ({"metadata": '{"a": "\\u0000"}'}, "metadata", "NUL"),
        ({"metadata": '{"a": "\\ud800"}'}, "metadata", "half a character"),
        ({"metadata": '{"a": ' + "[" * 9000 + "]" * 9000 + "}"}, "metadata", "nested too deeply"),
    ],
)
def test_what_is_wrong_is_said_at_its_field_and_the_rest_is_kept(operator, acme_app, globex_app, changes, field, said):
    UserFactory(tenant=globex_app.tenant, email="eve@globex.example")
    BranchFactory(app=globex_app, code="north")
    BranchFactory(app=AppFactory(tenant=acme_app.tenant, slug="other"), code="south")

    answer = operator.post(ADD_KEY, new_key(operator, acme_app, tags="kept", **changes))

    assert answer.status_code == 200
    assert said in errors_of(answer).get(field, errors_of(answer).get("__all__", "nothing"))
    assert answer.context["adminform"].form["tags"].value() == "kept"
    assert not APIKey.objects.exists()
    assert not TOKEN.search(answer.content.decode()) or "cpk_live" in str(changes)


def test_a_backslash_before_u0000_is_no_nul(operator, acme_app):
    operator.post(ADD_KEY, new_key(operator, acme_app, metadata=r'{"path": "C:\\u0000"}'))

    assert APIKey.objects.get().metadata == {"path": r"C:\u0000"}


@pytest.mark.parametrize("written", ["acme/chat", "ACME/CHAT".lower(), " acme/chat ", "id"])
def test_an_app_is_written_by_name_or_id(operator, acme_app, globex_app, written):
    written = str(acme_app.pk) if written == "id" else written

    operator.post(ADD_KEY, new_key(operator, acme_app, app=written))

    assert APIKey.objects.get().app == acme_app


def test_a_branch_is_written_with_its_app_where_two_have_the_same_code(operator, acme_app):
    south = BranchFactory(app=acme_app, code="south")
    BranchFactory(app=AppFactory(tenant=acme_app.tenant, slug="other"), code="south")

    refused = operator.post(ADD_KEY, new_key(operator, acme_app, branch="acme/south"))
    operator.post(ADD_KEY, new_key(operator, acme_app, branch="acme/chat/south"))

    assert "means several: acme/chat/south, acme/other/south" in errors_of(refused)["branch"]
    assert APIKey.objects.get().branch == south


def test_who_may_not_issue_learns_nothing(clerk, operator, acme_app):
    key = issue(acme_app, name="secret plans").key

    for sent in ({}, {"new_id": str(key.pk)}, new_key(operator, acme_app)):
        answer = clerk.post(ADD_KEY, sent)
        assert answer.status_code == 403
        assert "secret plans" not in answer.content.decode()
    assert clerk.get(ADD_KEY).status_code == 403
    assert APIKey.objects.count() == 1


# ---------------------------------------------------------------- a changed key


def test_saving_a_key_as_it_was_changes_nothing(operator, acme_app):
    key = issue(acme_app, scopes=["chat"], metadata={"a": 1}, expires_at=now() + timedelta(days=3)).key
    before = APIKey.objects.filter(pk=key.pk).values().get()

    answer = operator.post(page_of(key), form_of(operator.get(page_of(key))))

    assert answer.status_code == 302, errors_of(answer)
    after = APIKey.objects.filter(pk=key.pk).values().get()
    assert after | {"updated_at": 0, "expires_at": 0} == before | {"updated_at": 0, "expires_at": 0}
    assert abs(after["expires_at"] - before["expires_at"]) < timedelta(seconds=1)


def test_a_changed_key_takes_no_time_that_cannot_be_shown_again(operator, acme_app):
    key = issue(acme_app).key
    far = {"expires_at_0": "9999-12-31", "expires_at_1": "23:59"}

    answer = operator.post(page_of(key), form_of(operator.get(page_of(key))) | far)

    assert "9998" in str(errors_of(answer)["expires_at"])
    assert APIKey.objects.get().expires_at is None


@pytest.mark.parametrize(("made", "stored"), [(None, None), ([], []), (["openai/gpt-4o"], ["openai/gpt-4o"])])
def test_a_key_keeps_its_models_when_its_name_changes(operator, acme_app, made, stored):
    key = issue(acme_app, allowed_models=made).key

    operator.post(page_of(key), form_of(operator.get(page_of(key))) | {"name": "renamed"})

    key.refresh_from_db()
    assert (key.name, key.allowed_models) == ("renamed", stored)


def test_a_token_cannot_be_hidden_in_a_key_later(operator, acme_app):
    issued = issue(acme_app)

    sent = form_of(operator.get(page_of(issued.key))) | {"metadata": json.dumps({"note": issued.token})}
    answer = operator.post(page_of(issued.key), sent)

    assert "holds a token" in errors_of(answer)["metadata"]


def test_what_a_key_is_cannot_be_changed(operator, acme_app, globex_app):
    key = issue(acme_app).key
    sent = {
        "app": "globex/chat",
        "tenant": "globex",
        "environment": "test",
        "revoked_at_0": "2020-01-01",
        "rotation": "9",
    }

    operator.post(page_of(key), form_of(operator.get(page_of(key))) | sent)

    key.refresh_from_db()
    assert (key.app, key.tenant, key.environment, key.revoked_at, key.rotation) == (
        acme_app,
        acme_app.tenant,
        "live",
        None,
        0,
    )


# ---------------------------------------------------------------- two people at once


def test_of_two_people_who_change_a_row_the_second_is_told_what_the_first_stored(operator, acme):
    first, second = (form_of(operator.get(page_of(acme))) for _ in range(2))
    operator.post(page_of(acme), first | {"name": "Acme One"})

    answer = operator.post(page_of(acme), second | {"name": "Acme Two", "time_zone": "UTC"})

    assert answer.status_code == 200
    said = answer.content.decode()
    assert "Somebody has changed this meanwhile" in said
    assert "Name: Acme One" in said
    acme.refresh_from_db()
    assert (acme.name, acme.time_zone) == ("Acme One", "Europe/Berlin")
    assert answer.context["adminform"].form["name"].value() == "Acme Two"

    again = operator.post(page_of(acme), form_of(answer) | {"name": "Acme Two"})
    assert again.status_code == 302
    acme.refresh_from_db()
    assert acme.name == "Acme Two"


@pytest.mark.django_db(transaction=True)
def test_of_two_people_who_save_at_once_one_is_told(acme):
    user = OperatorFactory()
    clients = [Client(raise_request_exception=False) for _ in range(2)]
    for each in clients:
        each.force_login(user)
    sent = form_of(clients[0].get(page_of(acme)))

    answers = together(*(
        (lambda each=each, n=n: each.post(page_of(acme), sent | {"name": f"Acme {n}"})) for n, each in enumerate(clients)
    ))  # fmt: skip

    assert sorted(answer.status_code for answer in answers) == [200, 302]


# ---------------------------------------------------------------- rotation


def test_a_rotated_key_has_a_new_token_and_the_old_one_for_a_while(operator, acme_app):
    issued = issue(acme_app)
    assert operator.get(rotate_page(issued.key)).status_code == 200

    answer = operator.post(rotate_page(issued.key), {"grace": "3600", "rotation": "0"})

    assert answer.status_code == 200
    assert "Key rotated" in answer.content.decode()
    assert "no-store" in answer["Cache-Control"]
    [token] = set(TOKEN.findall(answer.content.decode()))
    assert APIKey.objects.verify(token).key_id == APIKey.objects.verify(issued.token).key_id
    [end] = APIKeySecret.objects.exclude(expires_at=None).values_list("expires_at", flat=True)
    assert timedelta(minutes=59) < end - now() < timedelta(minutes=61)


def test_without_grace_the_old_token_ends_at_once(operator, acme_app):
    issued = issue(acme_app)

    operator.post(rotate_page(issued.key), {"grace": "0", "rotation": "0"})

    with pytest.raises(InvalidKey):
        APIKey.objects.verify(issued.token)


def test_a_rotation_sent_twice_makes_one_secret(operator, acme_app):
    key = issue(acme_app).key
    operator.post(rotate_page(key), {"grace": "0", "rotation": "0"})

    again = operator.post(rotate_page(key), {"grace": "0", "rotation": "0"})

    assert again.status_code == 409
    assert "has been rotated meanwhile" in again.content.decode()
    assert not TOKEN.search(again.content.decode())
    assert APIKeySecret.objects.count() == 2


@pytest.mark.django_db(transaction=True)
def test_a_rotation_sent_twice_at_once_makes_one_secret(acme_app):
    key, user = issue(acme_app).key, OperatorFactory()
    clients = [Client(raise_request_exception=False) for _ in range(2)]
    for each in clients:
        each.force_login(user)

    answers = together(
        *((lambda each=each: each.post(rotate_page(key), {"grace": "0", "rotation": "0"})) for each in clients)
    )

    assert sorted(answer.status_code for answer in answers) == [200, 409]
    assert APIKeySecret.objects.count() == 2


@pytest.mark.parametrize(
    "sent",
    [
        {}, {"grace": "0"}, {"grace": "0", "rotation": ""}, {"grace": "0", "rotation": "x"}, {"grace": "5", "rotation": "0"},
        {"grace": "0", "rotation": "9" * 5000}, {"grace": "0", "rotation": "-1"}, {"grace": "-1", "rotation": "0"},
        {"grace": "\x00", "rotation": "\x00"}, {"grace": "0", "rotation": "٠"},
    ],
)  # fmt: skip
def test_a_rotation_that_is_not_understood_makes_nothing(operator, acme_app, sent):
    key = issue(acme_app).key

    answer = operator.post(rotate_page(key), sent)

    assert answer.status_code in (409, 422)
    assert APIKeySecret.objects.count() == 1


def test_a_revoked_key_is_not_rotated(operator, acme_app):
    key = issue(acme_app).key
    key.revoke("leaked")

    assert "Rotate" not in operator.get(page_of(key)).content.decode()
    answer = operator.post(rotate_page(key), {"grace": "0", "rotation": "0"})
    assert (answer.status_code, "that is final" in answer.content.decode()) == (409, True)


def test_rotation_needs_its_permission_and_a_key_that_is(clerk, operator, acme_app):
    key = issue(acme_app).key

    assert [clerk.get(rotate_page(key)).status_code, clerk.post(rotate_page(key)).status_code] == [403, 403]
    assert "Rotate" not in clerk.get(page_of(key)).content.decode()
    assert operator.get(reverse("admin:cp_tenants_apikey_rotate", args=[uuid4()])).status_code == 404


# ---------------------------------------------------------------- confirmed actions


def act(client, model, action, rows, query="", **more):
    sent = {"action": action, "_selected_action": [str(getattr(row, "pk", row)) for row in rows], **more}
    return client.post(list_of(model) + query, sent, follow=True)


def test_a_key_is_revoked_with_a_reason(operator, acme_app):
    issued = issue(acme_app)

    asked = act(operator, APIKey, "revoke", [issued.key])
    assert "Every secret of these keys is refused" in asked.content.decode()
    assert APIKey.objects.verify(issued.token)
    done = act(operator, APIKey, "revoke", [issued.key], cp_reason="seen in a notebook")

    assert "revoked" in done.content.decode()
    with pytest.raises(InvalidKey) as refused:
        APIKey.objects.verify(issued.token)
    assert refused.value.code == "revoked"
    issued.key.refresh_from_db()
    assert (issued.key.revoke_reason, issued.key.revoked_by) == ("seen in a notebook", "operator@example.org")
    row = AuditLog.objects.filter(resource_type="cp_tenants_apikey").order_by("-id").first()
    assert (row.reason, row.actor_label) == ("seen in a notebook", "operator@example.org")


@pytest.mark.parametrize("reason", ["", "   ", "\n\t"])
def test_an_action_wants_a_reason(operator, acme, reason):
    answer = act(operator, Tenant, "suspend", [acme], cp_reason=reason)

    assert answer.status_code == 422
    assert "Say why" in answer.content.decode()
    acme.refresh_from_db()
    assert acme.status == Status.ACTIVE


def test_a_reason_that_was_refused_is_kept_in_its_field(operator, acme_app):
    issued = issue(acme_app)

    answer = act(operator, APIKey, "revoke", [issued.key], cp_reason=f"found <{issued.token}>")

    assert answer.status_code == 422
    assert "holds a token" in answer.content.decode()
    assert f"found &lt;{issued.token}&gt;</textarea>" in answer.content.decode()
    assert APIKey.objects.verify(issued.token)


def test_an_action_on_several_rows_is_all_or_nothing(operator, acme, globex):
    globex.suspend("late")

    answer = act(operator, Tenant, "suspend", [acme, globex], cp_reason="both")

    assert answer.status_code == 422
    assert "suspended already" in answer.content.decode()
    acme.refresh_from_db()
    assert acme.status == Status.ACTIVE


@pytest.mark.parametrize("others", [[], [uuid4()], ["x"]])
def test_rows_that_are_not_there_are_not_acted_on(operator, acme, others):
    rows = [*others, *([acme] if others else [uuid4()])]

    answer = act(operator, Tenant, "suspend", rows, cp_reason="because")

    assert "Nothing was changed" in answer.content.decode()
    acme.refresh_from_db()
    assert acme.status == Status.ACTIVE


def test_more_than_a_hundred_rows_are_sent_to_the_command(operator, acme_app):
    keys = APIKeyFactory.create_batch(101, app=acme_app)

    answer = act(operator, APIKey, "revoke", keys, cp_reason="all")

    assert "At most 100 rows at a time. For more there is the command keys_revoke." in answer.content.decode()
    assert not APIKey.objects.exclude(revoked_at=None).exists()


def test_a_tenant_lives_through_its_states(operator, acme):
    steps = (
        ("suspend", Status.SUSPENDED),
        ("resume", Status.ACTIVE),
        ("delete", Status.DELETED),
        ("restore", Status.ACTIVE),
    )
    for action, status in steps:
        offered = [name for name, _ in operator.get(page_of(acme)).context["object_actions"]]
        assert action in offered
        answer = act(operator, Tenant, action, [acme], "?status=any", cp_reason="test")
        assert answer.status_code == 200
        acme.refresh_from_db()
        assert acme.status == status
    assert AuditLog.objects.for_object(acme).filter(reason="test").count() == 4


def test_what_stops_is_said_in_numbers(operator, acme_app):
    issue(acme_app)
    UserFactory(tenant=acme_app.tenant)

    answer = act(operator, Tenant, "suspend", [acme_app.tenant])

    assert answer.context["preview"] == [
        ("API keys that will be refused", "1"), ("Requests in the last 24 hours", "0"),
        ("Users who cannot sign in", "1"), ("Apps that stop", "1"),
    ]  # fmt: skip


def test_an_action_without_its_permission_is_refused(clerk, acme_app):
    key = issue(acme_app).key

    assert act(clerk, APIKey, "revoke", [key], cp_reason="x").status_code == 403
    assert act(clerk, Tenant, "suspend", [acme_app.tenant], cp_reason="x").status_code == 403
    assert clerk.get(page_of(key)).context["object_actions"] == []
    key.refresh_from_db()
    assert key.revoked_at is None


@pytest.mark.parametrize("model", [Tenant, App, Branch, User, UserApp, APIKey])
def test_every_action_names_a_command_that_there_is(operator, model):
    from django.contrib import admin
    from django.core.management import get_commands

    for function, _, _ in admin.site._registry[model].get_actions(operator.get("/admin/").wsgi_request).values():
        assert not function.command or function.command in get_commands()


# ---------------------------------------------------------------- tenants


def new_tenant(client, **changes):
    return form_of(client.get(reverse("admin:cp_tenants_tenant_add"))) | {"name": "New", "slug": "new-one"} | changes


def test_a_tenant_is_added(operator):
    answer = operator.post(reverse("admin:cp_tenants_tenant_add"), new_tenant(operator, time_zone="Asia/Tokyo"))

    assert answer.status_code == 302, errors_of(answer)
    assert Tenant.objects.get_by_slug("new-one").time_zone == "Asia/Tokyo"


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"slug": "Acme"}, "slug"), ({"slug": "acme"}, "slug"), ({"slug": "a"}, "slug"),
        ({"time_zone": "Mars/Base"}, "time_zone"),
        ({"time_zone": "../etc"}, "time_zone"), ({"domain": "ACME.example"}, "domain"), ({"settings": "[]"}, "__all__"),
        ({"metadata": "{"}, "metadata"), ({"name": "\x00"}, "name"),
    ],
)  # fmt: skip
def test_a_tenant_with_a_fault_is_not_added(operator, acme, changes, field):
    answer = operator.post(reverse("admin:cp_tenants_tenant_add"), new_tenant(operator, **changes))

    assert answer.status_code == 200
    assert field in errors_of(answer) or "settings" in errors_of(answer)
    assert Tenant.objects.count() == 1


def test_the_password_of_a_tenants_database_is_never_shown(operator, acme):
    url = "postgresql://tenant:hunter2secret@db.acme.example/acme"
    sent = form_of(operator.get(page_of(acme))) | {"db_dsn": url}
    assert operator.post(page_of(acme), sent).status_code == 302

    page = operator.get(page_of(acme))

    assert "hunter2secret" not in page.content.decode()
    assert "db.acme.example/acme" in page.content.decode()
    assert "hunter2secret" not in repr(list(AuditLog.objects.values()))
    operator.post(page_of(acme), form_of(page) | {"name": "Renamed"})
    acme.refresh_from_db()
    assert (acme.name, acme.db_dsn) == ("Renamed", url)
    operator.post(page_of(acme), form_of(operator.get(page_of(acme))) | {"db_dsn": "-"})
    acme.refresh_from_db()
    assert acme.db_dsn == ""


@pytest.mark.parametrize("make", [
    lambda acme: acme, lambda acme: AppFactory(tenant=acme), lambda acme: BranchFactory(tenant=acme, app__tenant=acme),
    lambda acme: UserFactory(tenant=acme, role="viewer"), lambda acme: UserAppFactory(app__tenant=acme),
])  # fmt: skip
def test_saving_a_form_as_it_was_changes_nothing(operator, acme, make):
    row = make(acme)
    model = type(row)
    before = model.objects.filter(pk=row.pk).values().get()

    answer = operator.post(page_of(row), form_of(operator.get(page_of(row))))

    assert answer.status_code == 302, errors_of(answer)
    after = model.objects.filter(pk=row.pk).values().get()
    assert after | {"updated_at": 0} == before | {"updated_at": 0}


# ---------------------------------------------------------------- users and access


def test_the_last_owner_cannot_be_demoted(operator, acme):
    owner = UserFactory(tenant=acme, role=Role.OWNER)

    answer = operator.post(page_of(owner), form_of(operator.get(page_of(owner))) | {"role": "viewer"})

    assert "A tenant keeps one active owner" in errors_of(answer)["role"]
    owner.refresh_from_db()
    assert owner.role == Role.OWNER


def test_one_of_two_owners_can_be_demoted(operator, acme):
    owner, _ = UserFactory.create_batch(2, tenant=acme, role=Role.OWNER)

    answer = operator.post(page_of(owner), form_of(operator.get(page_of(owner))) | {"role": "viewer"})

    assert answer.status_code == 302, errors_of(answer)


def test_the_last_owner_cannot_be_deactivated(operator, acme):
    owner = UserFactory(tenant=acme, role=Role.OWNER)

    answer = act(operator, User, "deactivate", [owner], cp_reason="left")

    assert answer.status_code == 422
    assert "A tenant keeps one active owner" in answer.content.decode()
    owner.refresh_from_db()
    assert owner.is_active


@pytest.mark.parametrize("changes", [{"is_staff": "on"}, {"is_superuser": "on"}, {"role": "operator"}])
def test_a_tenants_user_does_not_become_staff(operator, acme, changes):
    user = UserFactory(tenant=acme)

    operator.post(page_of(user), form_of(operator.get(page_of(user))) | changes)

    user.refresh_from_db()
    assert (user.is_staff, user.is_superuser, user.role) == (False, False, "viewer")


def test_a_user_is_added_to_a_tenant_and_its_password_is_nowhere(operator, acme):
    add = reverse("admin:cp_tenants_user_add")
    sent = {
        "tenant": "acme", "email": "new@acme.example", "username": "new", "display_name": "New", "role": "developer",
        "usable_password": "true", "password1": "correct-horse-battery", "password2": "correct-horse-battery",
    }  # fmt: skip

    answer = operator.post(add, sent)

    assert answer.status_code == 302, errors_of(answer)
    user = User.objects.get_by_email("new@acme.example", acme)
    assert user.check_password("correct-horse-battery")
    assert "correct-horse" not in everything_kept(operator)
    assert user.password not in operator.get(page_of(user)).content.decode()
    assert user.password not in repr(list(AuditLog.objects.values()))


def test_access_is_granted_revoked_and_granted_again(operator, acme_app):
    user = UserFactory(tenant=acme_app.tenant, email="ada@acme.example")
    add, sent = (
        reverse("admin:cp_tenants_userapp_add"),
        {"user": "ada@acme.example", "app": "acme/chat", "role": "developer"},
    )

    assert operator.post(add, sent).status_code == 302
    access = UserApp.objects.get()
    assert (access.user, access.role, access.granted_by) == (user, "developer", "operator@example.org")
    act(operator, UserApp, "revoke_access", [access], cp_reason="moved on")
    access.refresh_from_db()
    assert (access.status, access.reason, access.revoked_by) == ("revoked", "moved on", "operator@example.org")
    assert operator.post(page_of(access), {"role": "admin"}).status_code == 403
    assert operator.post(add, sent | {"role": "viewer"}).status_code == 302

    access.refresh_from_db()
    assert (access.status, access.role, UserApp.objects.count()) == ("active", "viewer", 1)


@pytest.mark.parametrize(
    ("user", "said"), [("eve@globex.example", "another tenant"), ("operator@example.org", "no tenant")]
)
def test_access_does_not_cross_tenants(operator, acme_app, globex, user, said):
    UserFactory(tenant=globex, email="eve@globex.example")

    sent = {"user": user, "app": "acme/chat", "role": "viewer"}
    answer = operator.post(reverse("admin:cp_tenants_userapp_add"), sent)

    assert said in errors_of(answer)["user"]
    assert not UserApp.objects.exists()


def test_an_app_and_a_branch_are_added_to_their_tenant(operator, acme, globex_app):
    app_form = form_of(operator.get(reverse("admin:cp_tenants_app_add")))
    operator.post(reverse("admin:cp_tenants_app_add"), app_form | {"tenant": "acme", "name": "Chat", "slug": "chat"})
    app = App.objects.get(tenant=acme)
    add = reverse("admin:cp_tenants_branch_add")
    branch = form_of(operator.get(add)) | {"tenant": "acme", "name": "Berlin", "code": "BER"}

    foreign = operator.post(add, branch | {"app": "globex/chat"})
    assert "another tenant" in errors_of(foreign)["app"]
    assert operator.post(add, branch | {"app": "acme/chat"}).status_code == 302
    assert Branch.objects.get().app == app


# ---------------------------------------------------------------- keys of one app


def filters(page):
    return [spec.title for spec in page.context["cl"].filter_specs]


@pytest.mark.parametrize("subject", ["tenant", "app", "branch", "user"])
def test_the_list_of_keys_shows_those_of_one_tenant_app_branch_or_user(operator, acme_app, globex, subject):
    mine = issue(
        acme_app, name="mine", user=UserFactory(tenant=acme_app.tenant), branch=BranchFactory(app=acme_app)
    ).key
    issue(AppFactory(tenant=globex), name="theirs")

    page = operator.get(KEYS, {subject: getattr(mine, f"{subject}_id")})

    assert [key.name for key in page.context["cl"].result_list] == ["mine"]
    assert subject in filters(page)
    for nobody in (uuid4(), "x", "' OR 1=1"):
        assert list(operator.get(KEYS, {subject: nobody}).context["cl"].result_list) == []


def test_the_list_of_keys_offers_no_names_of_apps(operator, acme_app):
    issue(acme_app)

    assert filters(operator.get(KEYS)) == ["state", "environment"]


def test_an_app_leads_to_its_live_keys_and_counts_what_is_listed_there(operator, acme_app):
    live, ended = issue(acme_app, name="live").key, issue(acme_app, name="ended").key
    APIKey.objects.filter(pk=ended.pk).update(expires_at=now() - timedelta(hours=1))
    BranchFactory(app=acme_app)

    for model in (Tenant, App):
        page = operator.get(list_of(model)).content.decode()
        [(address, shown)] = re.findall(rf'<a href="({re.escape(KEYS)}\?[^"]*)"><span class="cp-num">([0-9,]+)<', page)
        listed = operator.get(address.replace("&amp;", "&")).context["cl"].result_list
        assert (shown, list(listed)) == ("1", [live])
