from __future__ import annotations

import pytest
from django.db import ProgrammingError, connection, transaction
from psycopg.types.json import Jsonb

from policies.models import Policy
from storage_meta.errors import AccessDenied, InvalidArgument
from storage_meta.models import Bucket, StorageAudit, StorageObject
from storage_meta.statistics import Count
from tenants.scope import tenant_scope
from tests.factories import BucketFactory, StorageObjectFactory

SEARCH = """SELECT id FROM cp_storage_search(%s::uuid, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL,
                                             NULL, false, NULL, NULL, NULL, NULL, 50)"""
COUNT = "SELECT cp_storage_hits(%s::uuid, NULL, NULL, 50)"


@pytest.fixture
def both(acme, globex):
    """One object of acme and two of globex, all called secret."""
    ours, theirs = (BucketFactory(tenant=tenant, name="docs") for tenant in (acme, globex))
    StorageObjectFactory(bucket=ours, object_key="secret/1", metadata={"a": 1})
    StorageObjectFactory(bucket=theirs, object_key="secret/1", metadata={"a": 1})
    StorageObjectFactory(bucket=theirs, object_key="secret/2", metadata={"a": 1})
    return ours, theirs


def execute(statement, *params):
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(statement, params)
        return cursor.fetchall()


def keys(tenant, **asked):
    return [head.object_key for head in StorageObject.objects.for_tenant(tenant).search_objects(**asked).objects]


ASKED = (
    {"query": "secret"},
    {"query": None},
    {"query": None, "metadata": {"a": 1}},
    {"query": "secret", "order": "last_modified"},
)


@pytest.mark.parametrize("asked", ASKED)
def test_each_tenant_finds_its_own(both, acme, globex, asked):
    assert keys(acme, **asked) == ["secret/1"]
    assert sorted(keys(globex, **asked)) == ["secret/1", "secret/2"]


@pytest.mark.parametrize("asked", ASKED)
def test_a_tenant_finds_the_same_inside_its_scope(both, acme, asked):
    with tenant_scope(acme):
        assert keys(acme, **asked) == ["secret/1"]
        assert StorageObject.objects.for_tenant(acme).count("secret") == Count(1, capped=False)


@pytest.mark.parametrize("statement", [SEARCH, COUNT])
def test_the_functions_refuse_any_other_tenant_inside_a_scope(both, acme, globex, statement):
    with tenant_scope(acme):
        assert execute(statement, acme.pk)
        for other in (globex.pk, None):
            with pytest.raises(ProgrammingError, match="of the scope alone"):
                execute(statement, other)


@pytest.mark.parametrize("statement", [SEARCH, COUNT])
def test_the_functions_refuse_any_tenant_to_the_role_without_one(both, acme, statement):
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SET LOCAL ROLE cp_tenant")
        with pytest.raises(ProgrammingError, match="of the scope alone"):
            execute(statement, acme.pk)
        cursor.execute("RESET ROLE")


@pytest.mark.parametrize("statement", [SEARCH, COUNT])
def test_the_functions_refuse_another_tenant_once_one_is_set_without_the_role(both, acme, globex, statement):
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SELECT set_config('cp.tenant_id', %s, true)", [str(acme.pk)])
        assert execute(statement, acme.pk)
        with pytest.raises(ProgrammingError, match="of the scope alone"):
            execute(statement, globex.pk)
        cursor.execute("SELECT set_config('cp.tenant_id', '', true)")


def test_only_the_owner_and_tenants_may_call_the_functions(db):
    rows = execute(
        "SELECT proname, prosecdef, proconfig, has_function_privilege('cp_tenant', oid, 'EXECUTE'), "
        "has_function_privilege('cp_reader', oid, 'EXECUTE') FROM pg_proc "
        "WHERE proname IN ('cp_storage_search', 'cp_storage_hits') ORDER BY proname"
    )

    assert [row[0] for row in rows] == ["cp_storage_hits", "cp_storage_search"]
    for _, definer, settings, tenant, reader in rows:
        assert (definer, tenant, reader) == (True, True, False)
        assert settings == ["search_path=pg_catalog, public, pg_temp", "plan_cache_mode=force_custom_plan"]


def test_a_function_of_the_same_name_in_another_schema_is_not_taken(both, acme):
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("CREATE FUNCTION pg_temp.cp_scope() RETURNS uuid LANGUAGE sql AS 'SELECT NULL::uuid'")
        cursor.execute("CREATE TEMP TABLE cp_storage_meta_storageobject (id uuid) ON COMMIT DROP")
        assert len(execute(SEARCH, acme.pk)) == 1
        cursor.execute("DROP TABLE pg_temp.cp_storage_meta_storageobject; DROP FUNCTION pg_temp.cp_scope()")


def test_a_scope_does_not_find_through_a_bucket_or_a_token_of_another_tenant(both, acme, globex):
    Bucket.objects.create(tenant=globex, name="theirs")
    token = StorageObject.objects.for_tenant(globex).search_objects("secret", limit=1).next_continuation_token

    with pytest.raises(InvalidArgument, match="continuation token"):
        keys(acme, query="secret", limit=1, continuation_token=token)
    assert execute(SEARCH.replace("%s::uuid, NULL", "%s::uuid, %s::uuid", 1), acme.pk, both[1].pk) == []


def test_a_query_of_json_that_is_none_of_ours_harms_nothing(db):
    assert execute("SELECT cp_storage_query(%s), cp_storage_query(NULL)", Jsonb([])) == [("", "")]


# --- policies


@pytest.fixture
def allowed(acme):
    """Acme's handle under a policy that allows and denies lists of these addresses."""

    def handle(allow, *deny):
        config = {"allow": [{"uri": uri, "modes": ["list"]} for uri in allow]}
        if deny:
            config["deny"] = [{"uri": uri, "modes": ["list"]} for uri in deny]
        Policy.objects.create(tenant=acme, policy_type="storage_access", config=config)
        return StorageObject.objects.for_tenant(acme, effective=Policy.objects.effective(acme))

    return handle


def test_a_search_where_no_list_is_allowed_is_refused_and_recorded(both, acme, allowed):
    files = allowed(["s3://docs/secret/*"])

    for call in (
        lambda: files.search_objects("secret"),
        lambda: files.count("secret"),
        files.bucket("docs").statistics,
    ):
        with pytest.raises(AccessDenied):
            call()
    assert [head.object_key for head in files.search_objects("secret", prefix="secret/").objects] == ["secret/1"]
    assert sorted(StorageAudit.objects.for_tenant(acme).values_list("action", "bucket", "success", "error_code")) == [
        ("s3:ListBucket", "docs", False, "access_denied"),
        ("s3:Search", "", False, "access_denied"),
        ("s3:Search", "", False, "access_denied"),
    ]


def test_hits_that_may_not_be_listed_are_left_out_and_the_pages_go_on(acme, allowed):
    room = BucketFactory(tenant=acme, name="docs")
    for n in range(6):
        StorageObjectFactory(bucket=room, object_key=f"a/{n}/{'open' if n % 3 == 0 else 'shut'}")
    files = allowed(["s3://docs/*"], *(f"s3://docs/a/{n}/*" for n in (1, 2, 4, 5)))

    found, sizes, token = [], [], None
    while not sizes or token:
        page = files.search_objects("a", prefix="a/", limit=2, continuation_token=token)
        found += [head.object_key for head in page.objects]
        sizes.append(len(page.objects))
        token = page.next_continuation_token

    assert found == ["a/0/open", "a/3/open"]
    assert sizes == [1, 1, 0]
