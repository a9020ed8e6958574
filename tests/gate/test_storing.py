"""The gate's door to what is stored: a key's tenant, under the policies of the key."""

from __future__ import annotations

import pytest
from django.test import RequestFactory

from controlplane import gate
from policies.models import Policy
from storage_meta.errors import AccessDenied, NoSuchBucket
from storage_meta.models import Bucket, StorageAudit, StorageObject
from tenants.models import APIKey
from tenants.scope import tenant_scope

pytestmark = pytest.mark.django_db

ALLOW = {"allow": [{"uri": "s3://docs/*", "modes": ["read", "list"]}]}


@pytest.fixture
def bucket(acme, settings, tmp_path):
    objects = {**settings.STORAGES["objects"]}
    objects["OPTIONS"] = {**objects.get("OPTIONS", {}), "location": str(tmp_path / "objects")}
    settings.STORAGES = {**settings.STORAGES, "objects": objects}
    return Bucket.objects.create(tenant=acme, name="docs")


@pytest.fixture
def allowed(acme, bucket):
    """Acme's keys may read and list what is in docs."""
    return Policy.objects.create(tenant=acme, name="docs", policy_type="storage_access", config=ALLOW)


def code_of(*arguments, **options):
    with pytest.raises(gate.Denied) as caught:
        gate.files(*arguments, **options)
    return caught.value.code, caught.value.http_status


def test_a_key_does_with_objects_what_its_policies_allow(acme, issued, allowed):
    StorageObject.objects.for_tenant(acme).bucket("docs").put_object("a.txt", b"a")
    files = gate.files(issued.token).bucket("docs")

    with files.get_object("a.txt") as stored:
        read = b"".join(stored)
    with pytest.raises(AccessDenied) as refused:
        files.put_object("b.txt", b"b")

    assert read == b"a"
    assert refused.value.decision.reason == "storage_not_in_allowlist"
    assert [one.object_key for one in files.list_objects_v2().contents] == ["a.txt"]


@pytest.mark.django_db(transaction=True)
def test_the_access_log_names_the_key_its_address_and_why_it_was_refused(acme, issued, bucket):
    request = RequestFactory().get("/", REMOTE_ADDR="203.0.113.9", HTTP_USER_AGENT="portal/1")

    with pytest.raises(AccessDenied):
        gate.files(issued.token, request=request).bucket("docs").put_object("b.txt", b"b")

    row = StorageAudit.objects.for_tenant(acme).get(object_key="b.txt")
    assert (row.actor_type, row.actor_id, row.success) == ("api_key", str(issued.key.pk), False)
    assert (row.error_code, row.source_ip, row.user_agent) == ("access_denied", "203.0.113.9", "portal/1")


def test_without_a_policy_a_key_reaches_nothing(issued, bucket):
    files = gate.files(issued.token).bucket("docs")

    with pytest.raises(AccessDenied) as refused:
        files.list_objects_v2()

    assert refused.value.decision.reason == "storage_default_deny"


def test_a_bucket_of_another_tenant_is_not_there(issued, globex, allowed):
    Bucket.objects.create(tenant=globex, name="secrets")

    with pytest.raises((AccessDenied, NoSuchBucket)):
        gate.files(issued.token).bucket("secrets").list_objects_v2()


def test_a_key_that_opens_nothing_opens_no_storage(issued):
    assert code_of("nonsense") == ("invalid_api_key", 401)
    assert code_of(issued.token, scope="storage") == ("insufficient_scope", 403)
    assert code_of(issued.token, environment="test") == ("wrong_environment", 403)
    assert code_of(issued.token, environment=7) == ("bad_argument", 400)
    APIKey.objects.get(pk=issued.key.pk).revoke("a test")
    assert code_of(issued.token) == ("revoked", 401)


def test_in_the_scope_of_another_tenant_a_key_opens_nothing(issued, globex):
    with tenant_scope(globex):
        with pytest.raises(gate.Denied):
            gate.files(issued.token)
