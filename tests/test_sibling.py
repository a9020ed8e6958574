"""Another Django project installs the wheel: with its own users, in the control plane's database or beside it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

SIBLING = Path(__file__).resolve().parent / "sibling"
TABLES = """
from django.db import connections
print(json.dumps(sorted(connections[ALIAS].introspection.table_names())))
"""
SEED = """
from auditing.context import audit_context
from tenants.models import App, Tenant
with audit_context(actor="portal", reason="a test"):
    acme = Tenant.objects.create(slug=SLUG, name="Acme")
    app = App.objects.create(tenant=acme, slug="chat", name="Chat")
"""


class Portal:
    """The sibling project, copied out of the checkout, run with the wheel's environment."""

    def __init__(self, wheel, folder, at, **variables):
        self.wheel, self.folder, self.variables = wheel, folder, {**at, "PORTAL_DB": at["PGDATABASE"], **variables}
        shutil.copytree(SIBLING, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))

    def manage(self, *arguments):
        return self.wheel.run("python", "manage.py", *arguments, cwd=self.folder, **self.variables)

    def shell(self, code, **names):
        """Run code in which json and these names are known; what it prints as JSON."""
        head = "\n".join(["import json", *(f"{name} = {value!r}" for name, value in names.items())])
        done = self.manage("shell", "--no-imports", "-c", f"{head}\n{code}")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def tables(self, alias="default"):
        return self.shell(TABLES, ALIAS=alias)


@pytest.fixture(scope="module")
def portal(wheel, wheel_database, tmp_path_factory):
    """Mode A: one database for both."""
    sibling = Portal(wheel, tmp_path_factory.mktemp("portal"), wheel_database)
    done = sibling.manage("migrate", "--run-syncdb", "-v0")
    assert done.returncode == 0, done.stderr
    return sibling


@pytest.fixture(scope="module")
def remote_portal(wheel, wheel_database, new_database, tmp_path_factory):
    """Mode B: a database of its own, and the control plane's behind an alias."""
    own = new_database("portal")["PGDATABASE"]
    folder = tmp_path_factory.mktemp("remote")
    sibling = Portal(wheel, folder, wheel_database, PORTAL_DB=own, CONTROLPLANE_DB=wheel_database["PGDATABASE"])
    done = sibling.manage("migrate", "--run-syncdb", "-v0")
    assert done.returncode == 0, done.stderr
    return sibling


@pytest.fixture(scope="module")
def reading_portal(wheel, remote_portal, tmp_path_factory):
    """Mode C: as mode B, read only."""
    return Portal(
        wheel,
        tmp_path_factory.mktemp("reading"),
        remote_portal.variables,
        PORTAL_DB=remote_portal.variables["PORTAL_DB"],
        CONTROLPLANE_OPTIONS="-c default_transaction_read_only=on",
    )


# Mode A


def test_a_sibling_has_nothing_to_migrate_of_ours(portal):
    made, left = portal.manage("makemigrations", "--check", "--dry-run"), portal.manage("migrate", "--check")

    assert made.returncode == 0, made.stdout + made.stderr
    assert left.returncode == 0, left.stdout + left.stderr


def test_a_sibling_passes_its_checks_with_its_own_users(portal):
    code = "from django.contrib.auth import get_user_model as g; from tenants.models import User as U"

    done = portal.manage("check")

    assert done.returncode == 0, done.stderr
    assert portal.shell(f"{code}; print(json.dumps([g()._meta.label, U._meta.label]))") == [
        "portal.User",
        "cp_tenants.User",
    ]


def test_a_key_that_a_sibling_issues_is_verified_and_its_call_recorded(portal):
    code = """
from types import SimpleNamespace
from auditing.models import AuditLog, InferenceRequest
from policies.models import Policy
from tenants.models import APIKey
with audit_context(actor="portal", reason="a customer asked"):
    issued = APIKey.objects.issue(tenant=acme, app=app, name="portal", environment="live")
verified = APIKey.objects.verify(issued.token, environment="live")
call = InferenceRequest.objects.start(tenant=acme, app=app, provider="openai", model="gpt-4o", api_key=issued.key)
fact = InferenceRequest.objects.complete(call, usage=SimpleNamespace(prompt_tokens=10, completion_tokens=3))
seen = InferenceRequest.objects.get(pk=fact.pk)
print(json.dumps({
    "tenant": verified.tenant_id == acme.pk,
    "policies": Policy.objects.applicable(acme, app=app).count(),
    "tokens": seen.prompt_tokens + seen.completion_tokens,
    "reasons": sorted(set(AuditLog.objects.for_object(issued.key).values_list("reason", flat=True))),
}))
"""

    assert portal.shell(SEED + code, SLUG="one-call") == {
        "tenant": True,
        "policies": 0,
        "tokens": 13,
        "reasons": ["a customer asked"],
    }


def test_a_call_of_a_sibling_goes_through_the_gate(portal):
    code = """
from auditing.models import InferenceRequest
from catalog.models import AIModel, Provider
from controlplane import gate
from tenants.models import APIKey
provider, _ = Provider.objects.get_or_create(slug="openai", defaults={"name": "OpenAI"})
AIModel.objects.get_or_create(provider=provider, key="gpt-4o", name="gpt-4o")
token = APIKey.objects.issue(tenant=acme, app=app, name="portal", environment="live").token
with gate.call(token, model="gpt-4o", request_id="portal-1") as call:
    call.usage(prompt_tokens=10, completion_tokens=3)
try:
    with gate.call(token + "x", model="gpt-4o") as call:
        refused = None
except gate.Denied as denied:
    refused = [denied.code, denied.http_status]
fact = InferenceRequest.objects.get(tenant_id=acme.pk, request_id="portal-1")
print(json.dumps([fact.status, fact.model, fact.prompt_tokens, fact.cost, fact.pricing_status, refused]))
"""

    called = portal.shell(SEED + code, SLUG="gate")

    assert called == ["completed", "openai/gpt-4o", 10, None, "unpriced", ["invalid_api_key", 401]]


def test_a_foreign_key_of_a_sibling_points_into_our_tables(portal):
    code = """
from django.db.models import ProtectedError
from portal.models import User, Workspace
owner = User.objects.create(login="amy")
Workspace.objects.create(owner=owner, app=app)
try:
    App.objects.filter(pk=app.pk).delete()
    refused = False
except ProtectedError:
    refused = True
print(json.dumps([Workspace.objects.get(owner__login="amy").app.tenant.slug, refused]))
"""

    assert portal.shell(SEED + code, SLUG="foreign-keys") == ["foreign-keys", True]


STORE = """
from storage_meta.errors import NoSuchKey
from storage_meta.models import Bucket, StorageObject
Bucket.objects.create(tenant=acme, name="docs", versioning="enabled")
docs = StorageObject.objects.for_tenant(acme, actor="portal").bucket("docs")
docs.put_object("reports/a.txt", b"one", metadata={"author": "Kim"})
docs.put_object("reports/a.txt", b"two")
first = docs.list_object_versions().versions[-1].version_id
with docs.get_object("reports/a.txt", first) as stored:
    read = b"".join(stored).decode()
docs.delete_object("reports/a.txt")
try:
    docs.head_object("reports/a.txt")
    gone = False
except NoSuchKey as error:
    gone = error.delete_marker
docs.restore_object("reports/a.txt", first)
found = [one.object_key for one in docs.search_objects("kim").objects]
by = {row.actor_id for row in docs.get_audit_logs().rows}
listed = docs.list_objects_v2(delimiter="/").common_prefixes
print(json.dumps([read, gone, found, sorted(by), listed, docs.statistics().total_versions]))
"""
STORED = ["one", True, ["reports/a.txt"], ["portal"], ["reports/"], 4]


def test_a_sibling_stores_finds_and_restores_objects(portal):
    assert portal.shell(SEED + STORE, SLUG="stores") == STORED


# Mode B


def test_beside_us_a_sibling_makes_none_of_our_tables(remote_portal):
    assert "portal_user" in remote_portal.tables()
    assert [name for name in remote_portal.tables() if name.startswith("cp_")] == []


def test_a_siblings_migrate_does_our_database_no_harm(remote_portal):
    before = remote_portal.tables("controlplane")

    remote_portal.manage("migrate", "--database", "controlplane", "--run-syncdb")

    assert remote_portal.tables("controlplane") == before


def test_through_the_alias_a_sibling_reads_and_writes_the_same_rows(remote_portal, portal):
    slugs = "print(json.dumps(Tenant.objects.get(slug=SLUG)._state.db))"

    assert remote_portal.shell(f"{SEED}\n{slugs}", SLUG="by-alias") == "controlplane"
    assert portal.shell(f"from tenants.models import Tenant\n{slugs}", SLUG="by-alias") == "default"


def test_a_scope_of_a_sibling_is_entered_on_our_database(remote_portal):
    code = """
from tenants.scope import tenant_scope
with tenant_scope(acme):
    print(json.dumps([tenant.slug for tenant in Tenant.objects.all()]))
"""

    assert remote_portal.shell(SEED + code, SLUG="in-scope") == ["in-scope"]


def test_through_the_alias_a_sibling_stores_objects_too(remote_portal):
    assert remote_portal.shell(SEED + STORE, SLUG="stores-beside") == STORED


# Mode C


def test_a_read_only_sibling_reads_and_its_write_is_refused(reading_portal, portal):
    code = """
from django.db import InternalError
from tenants.models import Tenant
seen = Tenant.objects.filter(slug=SLUG).exists()
try:
    Tenant.objects.create(slug="written", name="Written")
except InternalError as error:
    print(json.dumps([seen, error.__cause__.sqlstate]))
"""
    portal.shell(SEED + "print(1)", SLUG="to-read")

    assert reading_portal.shell(code, SLUG="to-read") == [True, "25006"]


def test_a_read_only_sibling_looks_objects_up_and_its_put_is_a_storage_error(reading_portal, portal):
    code = """
from storage_meta.errors import StorageError
from storage_meta.models import StorageObject
from tenants.models import Tenant
docs = StorageObject.objects.for_tenant(Tenant.objects.get(slug=SLUG)).bucket("docs")
try:
    docs.put_object("b", b"b")
    refused = None
except StorageError as error:
    refused = error.code
print(json.dumps([docs.head_object("reports/a.txt").size, len(docs.list_objects_v2().contents), refused]))
"""
    portal.shell(SEED + STORE, SLUG="to-look-up")

    assert reading_portal.shell(code, SLUG="to-look-up") == [3, 1, "storage_unavailable"]
