from __future__ import annotations

import re

import pytest
from django.contrib import admin
from django.contrib.auth.models import Permission
from django.urls import reverse

from auditing.models import AuditLog
from storage_meta import signing
from storage_meta.models import HookExecution, StorageEvent, StorageHook
from tenants.models import User
from tests.admin_rows import Page
from tests.factories import BucketFactory, HookExecutionFactory, StorageEventFactory, StorageHookFactory

HOOKS = reverse("admin:cp_storage_meta_storagehook_changelist")
ADD = reverse("admin:cp_storage_meta_storagehook_add")
EVENTS = reverse("admin:cp_storage_meta_storageevent_changelist")
LOG = reverse("admin:cp_storage_meta_hookexecution_changelist")
SECRET = re.compile(r"whsec_[A-Za-z0-9+/=]{20,}")


@pytest.fixture
def operator(client, db):
    client.force_login(User.objects.create_superuser("operator@example.com"))
    return client


@pytest.fixture
def hook(acme):
    return StorageHookFactory(tenant=acme, name="indexer", url="https://8.8.8.8/hook", secrets=signing.new_secret())


def page_of(row, name="change"):
    return reverse(f"admin:cp_storage_meta_{row._meta.model_name}_{name}", args=[row.pk])


def filled(**fields):
    return {
        "tenant": "acme",
        "name": "indexer",
        "url": "https://8.8.8.8/hook",
        "bucket": "",
        "event_types": ["s3:ObjectCreated:*"],
        "prefix": "",
        "suffix": "",
        **fields,
    }


def act(client, url, action, *rows, reason="because"):
    posted = {"action": action, "_selected_action": [row.pk for row in rows], "cp_reason": reason, "index": "0"}
    return client.post(f"{url}?window=all" if url != HOOKS else url, posted, follow=True)


def test_the_secret_of_a_new_hook_is_shown_once(operator, acme):
    BucketFactory(tenant=acme, name="docs")

    answer = operator.post(ADD, filled(bucket="acme/docs", prefix="in/", suffix=".pdf"))

    hook = StorageHook.objects.get()
    [shown] = set(SECRET.findall(answer.content.decode()))
    assert answer.status_code == 200
    assert shown == hook.secrets
    assert "no-store" in answer["Cache-Control"]
    assert Page(answer).faults == []
    assert (hook.tenant, hook.bucket.name, hook.event_types) == (acme, "docs", ["s3:ObjectCreated:*"])
    for url in (page_of(hook), HOOKS, page_of(hook, "rotate"), page_of(hook, "history"), ADD):
        text = operator.get(url, follow=True).content.decode()
        assert shown.removeprefix("whsec_") not in text
        assert not SECRET.search(text)


def test_a_form_that_is_sent_twice_makes_one_hook(operator, acme):
    operator.post(ADD, filled())

    answer = operator.post(ADD, filled())

    assert "Another hook of this tenant has this name" in answer.content.decode()
    assert not SECRET.search(answer.content.decode())
    assert StorageHook.objects.count() == 1


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"url": "http://8.8.8.8/"}, "not https"),
        ({"url": "https://127.0.0.1/"}, "not on the public internet"),
        ({"url": "https://169.254.169.254/latest/meta-data"}, "not on the public internet"),
        ({"url": "https://user:word@8.8.8.8/"}, "user or password"),
        ({"url": "nonsense"}, "not https"),
        ({"url": ""}, "required"),
        ({"url": "https://8.8.8.8/\x00"}, "Null characters"),
        ({"event_types": []}, "Name 1 to 20 types"),
        ({"event_types": ["s3:Nothing"]}, "not one of the available choices"),
        ({"name": ""}, "required"),
        ({"name": "x" * 201}, "at most 200 characters"),
        ({"tenant": "nobody"}, "nobody"),
        ({"bucket": "globex/theirs"}, "another tenant"),
        ({"prefix": "x" * 1025}, "at most 1024 characters"),
    ],
)
def test_what_no_hook_can_be_is_said_beside_its_field(operator, acme, globex, fields, why):
    BucketFactory(tenant=globex, name="theirs")

    answer = operator.post(ADD, filled(**fields))

    assert answer.status_code == 200
    assert why in answer.content.decode()
    assert Page(answer).faults == []
    assert not StorageHook.objects.exists()


def test_a_name_of_another_hook_is_refused_beside_it_and_a_missing_type_once(operator, hook):
    answer = operator.post(ADD, filled(event_types=[]))

    assert answer.context["adminform"].form.errors == {
        "name": ["Another hook of this tenant has this name."],
        "event_types": ["Name 1 to 20 types, as s3:ObjectCreated:*."],
    }


def test_a_page_of_a_hook_leads_back_to_it(operator, hook):
    trail = operator.get(page_of(hook, "rotate")).content.decode().partition('class="breadcrumbs"')[2]

    assert trail.index(f'href="{HOOKS}"') < trail.index(f'href="{page_of(hook)}"') < trail.index("Rotate the secret")


def test_a_hook_is_changed_without_touching_its_secret(operator, hook):
    before = hook.secrets
    form = Page(operator.get(page_of(hook))).form()

    operator.post(page_of(hook), {**form, "name": "archiver", "event_types": ["s3:ObjectRemoved:*"]})

    changed = StorageHook.objects.get()
    assert (changed.name, changed.event_types, changed.secrets) == ("archiver", ["s3:ObjectRemoved:*"], before)


def test_a_type_that_was_registered_and_is_not_offered_stays_chosen(operator, acme):
    hook = StorageHookFactory(tenant=acme, url="https://8.8.8.8/", event_types=["s3:ObjectRemoved:Del*"])

    assert 'value="s3:ObjectRemoved:Del*"' in operator.get(page_of(hook)).content.decode()


def test_a_rotation_shows_the_new_secret_once_and_keeps_the_old_one(operator, hook):
    before = hook.secrets
    sent = _inputs(operator.get(page_of(hook, "rotate")))

    answer = operator.post(page_of(hook, "rotate"), sent)
    again = operator.post(page_of(hook, "rotate"), sent)

    [shown] = set(SECRET.findall(answer.content.decode()))
    assert StorageHook.objects.get().secrets.split() == [shown, before]
    assert "no-store" in answer["Cache-Control"]
    assert Page(answer).faults == []
    assert again.status_code == 409
    assert not SECRET.search(again.content.decode())


def _inputs(answer):
    tags = [given for tag, given, _ in Page(answer).tags if tag == "input" and given.get("type") == "hidden"]
    return {given["name"]: given.get("value", "") for given in tags}


def test_a_hook_is_disabled_and_enabled_with_a_reason(operator, hook):
    act(operator, HOOKS, "disable", hook, reason="moving house")
    hook.refresh_from_db()
    assert (hook.enabled, hook.disabled_reason) == (False, "moving house")
    assert "moving house" in operator.get(page_of(hook)).content.decode()

    act(operator, HOOKS, "enable", hook, reason="moved")
    hook.refresh_from_db()
    assert (hook.enabled, hook.disabled_reason) == (True, "")
    reasons = AuditLog.objects.filter(resource_id=str(hook.pk)).order_by("id").values_list("reason", flat=True)
    assert list(reasons)[-2:] == ["moving house", "moved"]


def test_without_a_reason_nothing_is_done(operator, hook):
    for action in ("disable", "delete"):
        assert act(operator, HOOKS, action, hook, reason=" ").status_code == 422

    assert StorageHook.objects.get().enabled


def test_a_hook_goes_with_its_events_and_their_log(operator, hook):
    HookExecutionFactory(tenant=hook.tenant, event=StorageEventFactory(hook=hook))

    act(operator, HOOKS, "delete", hook)

    assert not StorageHook.objects.exists()
    assert not StorageEvent.objects.exists()
    assert not HookExecution.objects.exists()


def test_dead_events_are_found_and_sent_again(operator, hook):
    dead = StorageEventFactory(hook=hook, object_key="a.txt", state="dead", attempts=8)
    StorageEventFactory(hook=hook, object_key="b.txt", state="done")

    found = operator.get(EVENTS, {"state": "dead"})
    assert [row.pk for row in found.context["cl"].result_list] == [dead.pk]
    answer = act(operator, EVENTS, "send_again", dead)

    dead.refresh_from_db()
    assert (dead.state, dead.attempts) == ("pending", 8)
    assert "to be sent again" in answer.content.decode()


def test_what_cannot_be_sent_again_is_refused_in_words(operator, hook):
    dead = StorageEventFactory(hook=hook, state="dead")
    hook.disable("moving")

    answer = act(operator, EVENTS, "send_again", dead)

    assert answer.status_code == 422
    assert "its hook is disabled" in answer.content.decode()
    dead.refresh_from_db()
    assert dead.state == "dead"


@pytest.mark.parametrize(("state", "count"), [("pending", 2), ("retried", 1), ("dead", 1), ("done", 1), ("x", 4)])
def test_events_are_listed_by_state(operator, hook, state, count):
    StorageEventFactory(hook=hook)
    StorageEventFactory(hook=hook, attempts=2)
    StorageEventFactory(hook=hook, state="dead")
    StorageEventFactory(hook=hook, state="done")

    assert len(operator.get(EVENTS, {"state": state}).context["cl"].result_list) == count


def test_an_event_shows_its_attempts_and_what_is_sent(operator, hook):
    event = StorageEventFactory(hook=hook, object_key="<b>.txt", payload={"type": "s3:ObjectCreated:Put"})
    tried = HookExecutionFactory(
        tenant=hook.tenant, event=event, success=False, error_message="It answered 500.", response="<script>"
    )

    page = operator.get(page_of(event))
    text = page.content.decode()
    assert "It answered 500." in text
    assert "&lt;b&gt;.txt" in text
    assert page_of(tried) in text
    answer = operator.get(page_of(tried))
    assert "&lt;script&gt;" in answer.content.decode()
    assert Page(answer).faults == Page(page).faults == []


def test_the_log_is_read_by_hook_and_outcome(operator, acme, globex):
    HookExecutionFactory(tenant=acme, hook_name="indexer")
    HookExecutionFactory(tenant=acme, hook_name="indexer", success=False)
    HookExecutionFactory(tenant=globex, hook_name="archiver")

    def listed(**query):
        return len(operator.get(LOG, query).context["cl"].result_list)

    assert listed() == 3
    assert listed(hook="indexer") == 2
    assert listed(hook="indexer", outcome="failure") == 1
    assert listed(tenant=str(globex.pk)) == 1
    assert f'<td class="field-of">{globex.name}</td>' in operator.get(LOG).content.decode()


class Staff:
    """Staff of one tenant, as a sibling project may have them."""

    def __init__(self, tenant):
        self.tenant_id = tenant.pk
        self.is_superuser = False


@pytest.mark.parametrize("model", [StorageHook, StorageEvent, HookExecution])
def test_a_tenants_staff_would_see_its_own_rows_alone(acme, globex, rf, model):
    for tenant in (acme, globex):
        HookExecutionFactory(tenant=tenant, event=StorageEventFactory(hook=StorageHookFactory(tenant=tenant)))
    request = rf.get("/")
    request.user = Staff(acme)

    rows = admin.site._registry[model].get_queryset(request)

    assert [row.tenant_id for row in rows] == [acme.pk]


def test_an_owner_of_a_tenant_opens_none_of_the_pages(client, acme, hook):
    client.force_login(User.objects.create_user("owner@acme.example", tenant=acme, role="owner"))

    for url in (HOOKS, EVENTS, LOG, ADD, page_of(hook), page_of(hook, "rotate")):
        assert client.get(url).status_code == 302
        assert client.post(url, filled()).status_code == 302
    assert StorageHook.objects.count() == 1


def test_who_may_only_look_is_offered_nothing_that_writes(client, acme, hook):
    event = StorageEventFactory(hook=hook, state="dead")
    reader = User.objects.create_user("reader@example.com", is_staff=True)
    reader.user_permissions.set(
        Permission.objects.filter(content_type__app_label="cp_storage_meta", codename__startswith="view")
    )
    client.force_login(reader)

    assert client.get(page_of(hook)).status_code == 200
    assert client.get(ADD).status_code == 403
    assert client.get(page_of(hook, "rotate")).status_code == 403
    assert act(client, HOOKS, "disable", hook).status_code == 403
    assert act(client, EVENTS, "send_again", event).status_code == 403
    assert Page(client.get(page_of(hook))).writing_inputs() == []
