"""Every page of every model in the admin, made from the registry: no model and no filter is forgotten."""

from __future__ import annotations

import json
import re
from pathlib import Path
from uuid import uuid4

import pytest
from django.contrib import admin
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Group
from django.contrib.contenttypes.models import ContentType
from django.core.management import get_commands
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import get_resolver, reverse

from auditing.models import (
    AuditLog,
    AuditSeal,
    DeadLetter,
    InferenceRequest,
    InFlightRequest,
    RetentionRecord,
    UsageSummary,
)
from catalog.models import AIModel, ModelAlias, ModelPrice, PriceImport, Provider
from controlplane.core.admin import WritableModelAdmin
from controlplane.core.models import WorkerDuty
from policies.models import LimitBucket, Policy, Reservation
from storage_meta.models import (
    Bucket,
    HookExecution,
    StorageAudit,
    StorageEvent,
    StorageHook,
    StorageObject,
    StorageQuota,
    StorageUsage,
)
from tenants.models import APIKey, App, Branch, RefreshFamily, Tenant, User, UserApp
from tests.admin_rows import LOGS, MAKE, Page, make
from tests.policies.world import World

get_resolver().url_patterns  # noqa: B018 - the pages register the last of the models
MODELS = [pytest.param(model, id=model._meta.label) for model in admin.site._registry]
COUNTS = Path(__file__).parent / "query_counts.json"

GARBAGE = [
    "'\"><script>",
    "%00\x00",
    "'; DROP TABLE x; --",
    "%",
    "_",
    "a" * 5000,
    "日本 😀",
    "1e400",
    "cpk_live_x",
    "  ",
]
"""What people and machines type into a search box."""

ODD = [
    {"p": "999"}, {"p": "-1"}, {"p": "x"}, {"o": "1"}, {"o": "-99"}, {"o": "x.y"}, {"o": "1.-2.3"}, {"all": ""}, {"e": "1"},
    {"after": "damaged"}, {"after": ""}, {"after": "a" * 5000}, {"window": "x"}, {"window": "2026-13-01..2026-12-01"},
    {"window": "2026-12-01..2026-11-01"}, {"window": "0001-01-01..9999-12-31"}, {"window": ".."}, {"unknown": "1"},
    {"unknown__x": "1"}, {"tenant": "x"}, {"tenant": str(uuid4())}, {"tenant": "\x00"}, {"model": "\x00"},
    {"resource": "\x00:\x00"}, {"resource": "x"}, {"status": "\x00"}, {"status__exact": "\x00"}, {"pk": "x"},
    {"id__exact": "x"}, {"tenant__slug__startswith": "a"}, {"_facets": "True"}, {"_popup": "1"}, {"_to_field": "id"},
    {"_to_field": "password"}, {"state": "\x00"}, {"is_active__exact": "x"}, {"password__startswith": "b"},
    {"window": "7d", "window__x": "1"}, {"created_at__gte": "x"}, {"_changelist_filters": "x"}, {"_isnull": "x"},
]  # fmt: skip


NO_IDS = [str(uuid4()), "x", "0", "a_3D_00", "%00", "_00", "-1", "9" * 30, "../../etc"]


def name_of(model, page):
    return f"admin:{model._meta.app_label}_{model._meta.model_name}_{page}"


def url_of(model, page, *args):
    return reverse(name_of(model, page), args=args)


@pytest.fixture
def people(db):
    """Clients by who is signed in: operator, clerk (staff without a permission), owner (of a tenant), anonymous."""
    tenant = World("outside").tenant
    users = {
        "operator": User.objects.create_superuser("operator@example.com"),
        "clerk": User.objects.create_user("clerk@example.com", is_staff=True),
        "owner": User.objects.create_user("owner@outside.example", tenant=tenant, role="owner"),
    }
    clients = {"anonymous": Client(raise_request_exception=False)}
    for name, user in users.items():
        clients[name] = Client(raise_request_exception=False)
        clients[name].force_login(user)
    return clients


def test_every_model_of_the_admin_has_rows_for_its_pages():
    assert set(admin.site._registry) <= set(MAKE)


def pages_of(model, id):
    """Every address of a model's pages, the stock ones and those of its own, for the id of a row."""
    routes = [pattern.pattern._route for pattern in admin.site._registry[model].get_urls()]
    return [url_of(model, "changelist") + re.sub(r"<[^>]+>", str(id), route) for route in routes]


@pytest.mark.parametrize("model", MODELS)
def test_an_operator_opens_every_page(people, model):
    row = make(model, 3)
    writable = isinstance(admin.site._registry[model], WritableModelAdmin)
    expected = {"changelist": 200, "add": 200 if writable else 403, "change": 200, "history": 302, "delete": 403}

    for page, status in expected.items():
        answer = people["operator"].get(url_of(model, page, *([] if page in ("changelist", "add") else [row.pk])))
        assert (page, answer.status_code) == (page, status)
        if status == 200:
            assert (page, Page(answer).faults) == (page, [])
        if page == "history":
            assert people["operator"].get(answer.url).status_code == 200
    for url in pages_of(model, row.pk):
        assert people["operator"].get(url).status_code in (200, 302, 403)


@pytest.mark.parametrize("model", MODELS)
def test_a_list_answers_whatever_is_asked(people, model):
    make(model, 2)
    queries = [{"q": text} for text in GARBAGE] + ODD

    for query in queries:
        answer = people["operator"].get(url_of(model, "changelist"), query, follow=True)
        assert (query, answer.status_code) in ((query, 200), (query, 400))
        if answer.status_code == 200:
            assert (query, Page(answer).faults) == (query, [])


@pytest.mark.parametrize("model", MODELS)
def test_every_filter_and_order_of_a_list_works(people, model):
    make(model, 2)
    changelist = people["operator"].get(url_of(model, "changelist")).context["cl"]
    choices = [choice["query_string"] for spec in changelist.filter_specs for choice in spec.choices(changelist)]
    orders = [f"?o={sign}{n}" for n in range(1, len(changelist.list_display) + 1) for sign in ("", "-")]

    for query in choices + orders:
        answer = people["operator"].get(url_of(model, "changelist") + query)
        assert (query, answer.status_code, Page(answer).faults) == (query, 200, [])


@pytest.mark.parametrize("model", MODELS)
def test_a_search_finds_the_row_it_is_about(people, model):
    modeladmin = admin.site._registry[model]
    row = make(model, 2)
    text = str(row.pk) if model in (AuditLog, InferenceRequest) else SOUGHT[model](row)

    answer = people["operator"].get(url_of(model, "changelist"), {"q": text})

    assert modeladmin.search_fields
    assert row in answer.context["cl"].result_list


SOUGHT = {
    Tenant: lambda row: row.slug,
    App: lambda row: row.slug,
    Branch: lambda row: row.code,
    User: lambda row: row.email,
    UserApp: lambda row: row.user.email,
    APIKey: lambda row: row.secrets.get().kid,
    RefreshFamily: lambda row: row.user.email,
    Policy: lambda row: row.name,
    LimitBucket: lambda row: str(row.user_id),
    Reservation: lambda row: row.request_id,
    Provider: lambda row: row.slug,
    AIModel: lambda row: row.key,
    ModelAlias: lambda row: row.alias,
    ModelPrice: lambda row: row.model.key,
    PriceImport: lambda row: row.sha256[:12],
    InFlightRequest: lambda row: row.request_id,
    DeadLetter: lambda row: row.request_id,
    AuditSeal: lambda row: str(row.pk),
    RetentionRecord: lambda row: row.reason,
    UsageSummary: lambda row: str(row.pk),
    Bucket: lambda row: row.name,
    StorageObject: lambda row: f"s3://{row.bucket.name}/{row.object_key}",
    StorageAudit: lambda row: row.object_key,
    StorageUsage: lambda row: row.tenant.slug,
    StorageQuota: lambda row: row.tenant.slug,
    StorageHook: lambda row: row.name,
    StorageEvent: lambda row: row.object_key,
    HookExecution: lambda row: row.object_key,
    WorkerDuty: lambda row: row.name,
    Group: lambda row: row.name,
}


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("who", ["clerk", "owner", "anonymous"])
def test_who_may_not_sees_nothing_and_changes_nothing(people, model, who):
    row = make(model, 1)
    before = list(model.objects.order_by("pk").values())
    posted = {"post": "yes", "action": "revoke", "cp_reason": "x", "_selected_action": row.pk}

    for url in pages_of(model, row.pk):
        for answer in (people[who].get(url, follow=True), people[who].post(url, posted, follow=True)):
            at_login = answer.request["PATH_INFO"] == reverse("admin:login")
            assert answer.status_code == 403 if who == "clerk" else at_login, (url, answer.status_code)
            assert str(row) not in answer.content.decode()
    assert list(model.objects.order_by("pk").values()) == before


@pytest.mark.parametrize("model", MODELS)
def test_actions_survive_what_nobody_would_send(people, model):
    make(model, 1)
    actions = list(admin.site._registry[model].get_actions(people["operator"].get("/admin/").wsgi_request))
    before = list(model.objects.order_by("pk").values())

    for action in [*actions, "delete_selected", "x", "\x00", ""]:
        for selected in (["x"], ["\x00"], [str(uuid4())], [], [str(uuid4()), "y"], ["9" * 40]):
            posted = {"action": action, "_selected_action": selected, "cp_reason": "because", "index": "0"}
            answer = people["operator"].post(url_of(model, "changelist"), posted, follow=True)
            expected = {403} if action == "delete_selected" else {200, 403, 404, 422}
            assert answer.status_code in expected, (action, selected, answer.status_code)
    assert list(model.objects.order_by("pk").values()) == before


@pytest.mark.parametrize("model", MODELS)
def test_an_action_declares_a_permission_and_a_command_that_exist(people, model):
    modeladmin = admin.site._registry[model]
    for name, (function, _, _) in modeladmin.get_actions(people["operator"].get("/admin/").wsgi_request).items():
        for permission in getattr(function, "allowed_permissions", ()):
            assert callable(getattr(modeladmin, f"has_{permission}_permission")), (name, permission)
        command = getattr(function, "command", "").partition(" ")[0]
        assert not command or command in get_commands(), (name, command)


@pytest.mark.parametrize("model", MODELS)
def test_an_id_that_is_none_is_not_found(people, model):
    for id in NO_IDS:
        for url in set(pages_of(model, id)) - set(pages_of(model, "")):
            for answer in (people["operator"].get(url, follow=True), people["operator"].post(url, {}, follow=True)):
                assert answer.status_code in (403, 404), (url, answer.status_code, answer.redirect_chain)


@pytest.mark.parametrize("model", [pytest.param(model, id=model._meta.label) for model in LOGS])
def test_a_log_offers_no_input_that_writes(people, model):
    row = make(model, 2)

    for url in (url_of(model, "changelist"), url_of(model, "change", row.pk)):
        assert Page(people["operator"].get(url)).writing_inputs() == []
    for url in (url_of(model, "add"), url_of(model, "change", row.pk), url_of(model, "delete", row.pk)):
        assert people["operator"].post(url, {"request_id": "changed", "post": "yes"}).status_code == 403


def test_the_admin_keeps_no_log_of_its_own(people):
    make(Tenant, 1)

    people["operator"].post(url_of(Provider, "add"), {"name": "New", "slug": "new", "metadata": "{}", "enabled": "on"})

    assert Provider.objects.filter(slug="new").exists()
    assert not LogEntry.objects.exists()


def test_the_shortcut_to_a_row_by_its_type_is_closed(people):
    tenant = make(Tenant, 1)

    for url in (
        f"/admin/r/{ContentType.objects.get_for_model(tenant).pk}/{tenant.pk}/",
        "/admin/r/1/x/",
        "/admin/r/999999/1/",
        "/admin/r/x/y/",
    ):
        assert people["operator"].get(url).status_code == 404


# ---------------------------------------------------------------- statements


MOST = {"list": 6, "form": 12, "add": 12}
MORE = {AuditSeal: {"list": 7}, StorageObject: {"list": 8}}
"""The list of seals says how sealing stands, too; that of objects offers the tenants that have buckets."""


def statements(client, url):
    """How many statements a page takes, with session and user; without the brackets around a transaction."""
    client.get(url)  # a first request fills what processes keep: templates, content types
    with CaptureQueriesContext(connection) as counted:
        assert client.get(url).status_code == 200
    return sum(not each["sql"].startswith(("SAVEPOINT", "RELEASE", "BEGIN", "COMMIT")) for each in counted)


def check_counts(config, seen):
    """Compare with tests/query_counts.json, or write it (--update-query-counts): more statements show in a diff."""
    kept = json.loads(COUNTS.read_text()) if COUNTS.exists() else {}
    if config.getoption("--update-query-counts"):
        kept |= seen
        COUNTS.write_text(json.dumps(kept, indent=2, sort_keys=True) + "\n")
    assert {page: kept.get(page) for page in seen} == seen


@pytest.mark.parametrize("model", MODELS)
def test_a_page_takes_as_many_statements_for_many_rows_as_for_few(people, model, request):
    row = make(model, 25)
    pages = {"list": url_of(model, "changelist"), "form": url_of(model, "change", row.pk)}
    if isinstance(admin.site._registry[model], WritableModelAdmin):
        pages["add"] = url_of(model, "add")

    few = {page: statements(people["operator"], url) for page, url in pages.items()}
    make(model, 75, "globex")
    many = {page: statements(people["operator"], url) for page, url in pages.items()}

    assert many == few
    most = MOST | MORE.get(model, {})
    assert {page: n for page, n in few.items() if n > most[page]} == {}
    check_counts(request.config, {f"{model._meta.label}:{page}": n for page, n in few.items()})


def test_the_dashboard_takes_few_statements(people, request):
    make(InferenceRequest, 25)

    few = statements(people["operator"], reverse("controlplane:dashboard"))
    make(InferenceRequest, 75, "globex")

    assert statements(people["operator"], reverse("controlplane:dashboard")) == few <= 10
    check_counts(request.config, {"dashboard": few})


def test_every_model_of_the_admin_is_in_the_menu(people):
    page = Page(people["operator"].get(reverse("controlplane:dashboard")))

    assert {url_of(model, "changelist") for model in admin.site._registry} <= set(page.links())
