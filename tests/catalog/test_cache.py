from __future__ import annotations

import os
import subprocess
import sys
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

import pytest
from django.db import connection, transaction

from catalog import resolution
from catalog.errors import ModelDisabled, UnknownModel
from catalog.importing import parse, plan
from catalog.models import CAPABILITIES, AIModel, ModelAlias, ModelPrice, Provider
from controlplane.core.caches import MISSING, invalidation
from controlplane.core.ids import now
from tenants.scope import tenant_scope
from tests.catalog.importing.files import chat, dump
from tests.factories import AIModelFactory, ModelAliasFactory, ModelPriceFactory, ProviderFactory

pytestmark = pytest.mark.django_db(transaction=True)

ROOT = Path(__file__).resolve().parents[2]
resolve = AIModel.objects.resolve
cache = AIModel.objects.cache

GPT = (None, "gpt-4o", None, None, None, None)
"""What `resolve("gpt-4o")` asks the cache."""


@pytest.fixture
def gpt():
    return AIModelFactory(provider=ProviderFactory(slug="openai"), key="gpt-4o", name="gpt-4o")


@pytest.fixture
def other(gpt):
    return AIModelFactory(provider=gpt.provider, key="o3", name="o3")


def heard():
    """All that was written so far was heard of, and the lease begins anew."""
    invalidation.poll()


def warm(*args, **asked):
    """What is asked, from now on a hit."""
    heard()
    with suppress(UnknownModel):
        return resolve(*args, **asked)


def execute(statement, *params):
    with connection.cursor() as cursor:
        cursor.execute(statement, params)


# --- hits


@pytest.mark.parametrize("name", ["gpt-4o", "GPT-4O", "openai/gpt-4o", "fast"])
def test_what_is_known_needs_no_query(gpt, name, django_assert_num_queries):
    ModelAliasFactory(alias="fast", model=gpt)
    first = warm(name)

    with django_assert_num_queries(0):
        assert resolve(name) is first


def test_what_is_not_known_needs_no_query_and_still_says_what_is_near(gpt, django_assert_num_queries):
    warm("gpt-4-o")

    with django_assert_num_queries(0), pytest.raises(UnknownModel) as caught:
        resolve("gpt-4-o")

    assert caught.value.nearest == ("gpt-4o",)


def test_a_miss_is_one_query(gpt, django_assert_num_queries):
    ModelPriceFactory(model=gpt)
    heard()

    with django_assert_num_queries(1):
        resolve("gpt-4o")


def test_names_of_one_model_share_its_record(gpt):
    ModelAliasFactory(alias="fast", model=gpt)
    warm("gpt-4o")

    assert resolve("fast") is resolve("gpt-4o") is resolve("gpt-4o", provider="openai")


@pytest.mark.parametrize("part", ["provider", "region", "size", "quality"])
def test_what_is_too_long_beside_a_name_is_not_kept_either(part):
    warm("nobody", **{part: "x" * (resolution.MAX_NAME + 1)})

    assert cache.stats()["negative_size"] == 0


def test_of_a_name_that_is_too_long_nothing_is_worked_out():
    with pytest.raises(UnknownModel) as caught:
        resolve("bedrock/" * 1000)

    assert caught.value.tried == ()
    assert len(caught.value.message) < 400


def test_a_name_that_is_too_long_is_not_kept():
    warm("x" * (resolution.MAX_NAME + 1))

    assert cache.stats()["negative_size"] == 0


def test_each_way_to_ask_is_an_entry_of_its_own(gpt, acme):
    own = AIModelFactory(provider=ProviderFactory(slug="azure"), key="azure/gpt-4o", name="gpt-4o")
    ModelAliasFactory(alias="gpt-4o", model=own, tenant=acme)
    sized = AIModelFactory(provider=gpt.provider, key="1024-x-1024/gpt-4o", name="1024-x-1024/gpt-4o")
    ways = [
        ({}, gpt), ({"tenant": acme}, own), ({"provider": "openai", "tenant": acme}, gpt), ({"provider": "azure"}, own),
        ({"size": "1024x1024"}, sized), ({"size": "1792x1024"}, gpt),
    ]  # fmt: skip
    heard()

    for _ in range(2):
        assert [resolve("gpt-4o", **asked).id for asked, _ in ways] == [model.pk for _, model in ways]


# --- changes


def save(row, **values):
    for name, value in values.items():
        setattr(row, name, value)
    row.save()


def test_a_change_by_anybody_is_obeyed_once_it_is_heard_of(gpt):
    for write in (
        lambda enabled: save(AIModel.objects.get(), enabled=enabled),
        lambda enabled: AIModel.objects.update(enabled=enabled),
        lambda enabled: execute("UPDATE cp_catalog_aimodel SET enabled = %s", enabled),
        lambda enabled: Provider.objects.update(enabled=enabled),
    ):
        assert warm("gpt-4o").enabled

        write(False)
        heard()
        with pytest.raises(ModelDisabled):
            resolve("gpt-4o")

        write(True)


def test_what_this_process_saves_it_forgets_at_once_and_at_the_commit(gpt, other, acme):
    ModelAliasFactory(alias="old", model=gpt)
    ModelPriceFactory(model=gpt)
    for change in (
        lambda: save(gpt, max_input_tokens=1),
        lambda: save(gpt.provider, family="azure"),
        lambda: ModelAliasFactory(alias="fast", model=other),
        lambda: ModelAlias.objects.get(alias="old").delete(),
        lambda: ModelPriceFactory(model=gpt, tenant=acme, effective_from=now() + timedelta(days=30)),
        lambda: ModelPrice.objects.get(tenant=acme).delete(),
        lambda: ModelPrice.objects.get(tenant=None).end(reason="x"),
    ):
        warm("gpt-4o")
        assert cache.cached(GPT) is not MISSING

        with transaction.atomic():
            change()
            assert cache.cached(GPT) is MISSING
            assert resolve("gpt-4o")

        assert cache.cached(GPT) is MISSING


def test_what_this_process_imports_it_forgets_at_the_commit(gpt, monkeypatch):
    invalidation.stop()
    monkeypatch.setattr(invalidation, "start", lambda: None)  # nobody listens: who writes has to know by himself
    warm("gpt-4o")
    assert cache.cached(GPT) is not MISSING

    plan(parse(dump({"gpt-4o": chat()}), "p.json")).apply()

    assert cache.cached(GPT) is MISSING


@pytest.mark.django_db(transaction=False)
@pytest.mark.parametrize(
    ("table", "column", "value"),
    [
        ("provider", "slug", "'other'"), ("provider", "family", "'other'"), ("provider", "enabled", "false"),
        ("aimodel", "key", "'other'"), ("aimodel", "name", "'other'"), ("aimodel", "source_provider", "'other'"),
        ("aimodel", "mode", "'other'"), ("aimodel", "max_input_tokens", "7"), ("aimodel", "max_output_tokens", "7"),
        ("aimodel", "max_tokens", "7"), ("aimodel", "flags", """'{"supports_x": true}'"""), ("aimodel", "enabled", "false"),
        *(("aimodel", f"supports_{name}", "true") for name in CAPABILITIES), ("modelalias", "alias", "'other'"),
        ("modelalias", "enabled", "false"), ("modelalias", "tenant_id", "(SELECT id FROM cp_tenants_tenant)"),
        ("modelprice", "effective_to", "now()"),
    ],
)  # fmt: skip
def test_each_column_that_a_record_is_made_of_is_watched(gpt, acme, table, column, value):
    ModelPriceFactory(model=ModelAliasFactory(alias="fast", model=gpt).model)
    execute("DELETE FROM cp_core_invalidation")

    execute(f"UPDATE cp_catalog_{table} SET {column} = {value}")

    with connection.cursor() as cursor:
        cursor.execute("SELECT DISTINCT kind FROM cp_core_invalidation")
        assert cursor.fetchall() == [("catalog",)]


def test_what_no_record_is_made_of_lets_it_be(gpt):
    record = warm("gpt-4o")

    AIModel.objects.update(description="new", updated_at=now())
    heard()

    assert cache.cached(GPT) is record


def test_an_alias_that_comes_is_meant_from_then_on_and_a_key_again_once_it_goes(gpt, other, acme):
    assert warm("gpt-4o", tenant=acme).id == gpt.pk

    alias = ModelAliasFactory(alias="gpt-4o", model=other, tenant=acme)
    assert warm("gpt-4o", tenant=acme).id == other.pk
    alias.delete()
    assert warm("gpt-4o", tenant=acme).id == gpt.pk


def test_a_name_that_was_unknown_is_known_once_it_is_there(gpt):
    assert warm("new") is None

    AIModelFactory(provider=gpt.provider, key="new", name="new")

    assert warm("new").key == "new"


def test_a_price_that_begins_later_holds_then_without_anything_being_forgotten(gpt, django_assert_num_queries):
    midnight = now() + timedelta(hours=1)
    today = ModelPriceFactory(model=gpt, effective_to=midnight)
    tomorrow = ModelPriceFactory(model=gpt, effective_from=midnight)
    record = warm("gpt-4o")

    with django_assert_num_queries(0):
        assert record.price_at(now()).id == today.pk
        assert record.price_at(midnight).id == tomorrow.pk


# --- tenants


def test_another_tenants_alias_is_never_served(gpt, other, acme, globex):
    ModelAliasFactory(alias="mine", model=gpt, tenant=acme)
    ModelAliasFactory(alias="gpt-4o", model=other, tenant=acme)
    ModelPriceFactory(model=gpt, tenant=acme)
    assert warm("mine", tenant=acme).id == gpt.pk
    assert warm("gpt-4o", tenant=acme).id == other.pk

    for stranger in (None, globex, globex.pk):
        assert warm("gpt-4o", tenant=stranger).id == gpt.pk
        assert resolve("gpt-4o", tenant=stranger).prices == ()
        with pytest.raises(UnknownModel):
            resolve("mine", tenant=stranger)


def test_in_a_tenants_scope_what_another_has_is_not_served_from_the_cache_either(gpt, acme, globex):
    ModelAliasFactory(alias="theirs", model=gpt, tenant=globex)
    warm("theirs", tenant=globex)

    with tenant_scope(acme), pytest.raises(UnknownModel):
        resolve("theirs", tenant=globex)
    with tenant_scope(globex):
        assert resolve("theirs", tenant=globex).id == gpt.pk


def test_what_a_transaction_has_not_committed_is_seen_in_it_and_by_nobody_after_it(gpt):
    heard()

    with pytest.raises(RuntimeError), transaction.atomic():
        ModelAliasFactory(alias="soon", model=gpt)
        assert resolve("soon").id == gpt.pk
        raise RuntimeError

    with pytest.raises(UnknownModel):
        resolve("soon")


# --- another process

READER = """
import sys, django
from django.conf import settings
settings.DATABASES["default"]["NAME"] = sys.argv[1]
django.setup()
from catalog.models import AIModel
models = AIModel.objects
while not models.cache.stats()["hits"]:
    first = models.resolve("gpt-4o").max_input_tokens
print(first, flush=True)
while (found := models.resolve("gpt-4o").max_input_tokens) == first:
    pass
print(found)
"""


def test_another_process_hears_of_a_change(gpt):
    AIModel.objects.update(max_input_tokens=1)
    command = [sys.executable, "-c", READER, connection.settings_dict["NAME"]]
    env = {**os.environ, "DJANGO_SETTINGS_MODULE": "tests.settings"}
    with subprocess.Popen(command, cwd=ROOT, env=env, text=True, stdout=subprocess.PIPE) as reader:
        try:
            assert reader.stdout.readline() == "1\n"
            AIModel.objects.update(max_input_tokens=2)
            said, _ = reader.communicate(timeout=30)
        finally:
            reader.kill()

    assert said == "2\n"
