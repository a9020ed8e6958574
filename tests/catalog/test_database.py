from __future__ import annotations

import pytest
from django.db import IntegrityError, connection, transaction
from django.db.models import ProtectedError

from auditing.models import AuditLog
from catalog.models import AIModel, ModelAlias, Provider
from controlplane.core.bulk import copy_rows
from controlplane.core.ids import uuid7
from tests.factories import AIModelFactory, ModelAliasFactory, ProviderFactory
from tests.races import together

pytestmark = pytest.mark.django_db


def refused(name):
    return pytest.raises(IntegrityError, match=rf"{name}\b")


def change(row, **values):
    with transaction.atomic():
        type(row)._base_manager.filter(pk=row.pk).update(**values)


BROKEN = [
    (ProviderFactory, {"slug": "Open AI"}, "cp_catalog_provider_slug_is_plain"),
    (ProviderFactory, {"slug": ""}, "cp_catalog_provider_slug_is_plain"),
    (ProviderFactory, {"slug": "openai\n"}, "cp_catalog_provider_slug_is_plain"),
    (ProviderFactory, {"slug": ".openai"}, "cp_catalog_provider_slug_is_plain"),
    (ProviderFactory, {"metadata": []}, "cp_catalog_provider_metadata_is_object"),
    (AIModelFactory, {"key": ""}, "cp_catalog_aimodel_has_a_key"),
    (AIModelFactory, {"name": ""}, "cp_catalog_aimodel_has_a_name"),
    (AIModelFactory, {"flags": "x"}, "cp_catalog_aimodel_flags_is_object"),
    (AIModelFactory, {"extra": [1]}, "cp_catalog_aimodel_extra_is_object"),
    (ModelAliasFactory, {"alias": ""}, "cp_catalog_modelalias_has_a_name"),
]


@pytest.mark.parametrize(
    ("factory", "values", "name"), BROKEN, ids=[f"{name}-{n}" for n, (_, _, name) in enumerate(BROKEN)]
)
def test_a_row_that_breaks_a_rule_is_refused_by_name(factory, values, name):
    row = factory()

    with refused(name):
        change(row, **values)


def test_a_provider_is_once():
    ProviderFactory(slug="openai")

    with refused("cp_catalog_provider_slug_key"):
        ProviderFactory(slug="openai")


def test_a_key_is_once_in_any_case():
    model = AIModelFactory(key="GPT-4o")

    with refused("cp_catalog_aimodel_key_once"):
        AIModelFactory(key="gpt-4O", provider=model.provider)


def test_an_alias_is_once_for_everybody_and_once_in_each_tenant_in_any_case(acme, globex):
    shared = ModelAliasFactory(alias="fast")
    ModelAliasFactory(alias="fast", tenant=acme)
    ModelAliasFactory(alias="fast", tenant=globex)

    with refused("cp_catalog_modelalias_once"), transaction.atomic():
        ModelAliasFactory(alias="FAST", model=shared.model)
    with refused("cp_catalog_modelalias_once"):
        ModelAliasFactory(alias="Fast", tenant=acme)


SHADOWS = {
    "bulk_create": lambda model: ModelAlias.objects.bulk_create([ModelAlias(alias="gpt-4O", model=model)]),
    "update of the name": lambda model: change(ModelAliasFactory(model=model), alias="GPT-4o"),
    "update of the tenant": lambda model: ModelAlias.objects.update(tenant=None),
    "a new model": lambda model: AIModelFactory(key="taken"),
    "a new key": lambda model: change(model, key="TAKEN"),
    "copied models": lambda model: copy_rows(
        AIModel,
        [
            "id", "provider_id", "key", "name", "display_name", "description", "source_provider", "mode", "flags",
            "supported_endpoints", "input_modalities", "output_modalities", "regions", "source_url", "extra", "enabled", "origin",
        ],
        [(uuid7(), model.provider_id, "taken", "taken", "", "", "", "", {}, [], [], [], [], "", {}, True, "import")],
    ),
}  # fmt: skip


@pytest.mark.parametrize("shadow", SHADOWS.values(), ids=SHADOWS.keys())
def test_no_alias_for_everybody_hides_a_model_whoever_writes_and_whichever_was_first(acme, shadow):
    model = AIModelFactory(key="gpt-4o")
    ModelAliasFactory(alias="gpt-4o", tenant=acme)  # its own calls a tenant may redirect
    ModelAliasFactory(alias="Taken", model=model)

    with refused("cp_catalog_modelalias_shadows_no_model"), transaction.atomic():
        shadow(model)


def test_what_does_not_concern_names_is_not_checked_for_them():
    model = AIModelFactory(key="gpt-4o")
    alias = ModelAliasFactory(alias="fast", model=model)

    change(model, key="GPT-4o")
    change(model, enabled=False)
    change(alias, note="x")


@pytest.mark.django_db(transaction=True)
def test_an_alias_and_a_model_of_one_name_at_once_are_one_of_them():
    model = AIModelFactory()

    outcomes = together(
        lambda: AIModelFactory(key="same", provider=model.provider),
        lambda: ModelAlias.objects.bulk_create([ModelAlias(alias="SAME", model=model)]),
    )

    assert sum(isinstance(outcome, IntegrityError) for outcome in outcomes) == 1
    assert AIModel.objects.filter(key="same").count() + ModelAlias.objects.count() == 1


def test_what_is_used_is_not_deleted():
    alias = ModelAliasFactory()

    with pytest.raises(ProtectedError):
        alias.model.delete()
    with pytest.raises(ProtectedError):
        alias.model.provider.delete()
    with pytest.raises(IntegrityError), transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("DELETE FROM cp_catalog_provider")
        cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")


@pytest.mark.parametrize("factory", [ProviderFactory, AIModelFactory])
def test_a_change_of_the_catalog_is_in_the_log(factory):
    row = factory()

    change(row, enabled=False)

    log = AuditLog.objects.for_object(row).with_action("update").get()
    assert (log.before, log.after) == ({"enabled": True}, {"enabled": False})


def test_an_alias_of_a_tenant_is_in_its_log(acme):
    alias = ModelAliasFactory(tenant=acme)

    assert AuditLog.objects.for_object(alias).get().tenant_id == acme.pk


@pytest.mark.parametrize("model", [Provider, AIModel, ModelAlias])
def test_the_time_of_change_is_set_by_the_database(model):
    row = {Provider: ProviderFactory, AIModel: AIModelFactory, ModelAlias: ModelAliasFactory}[model]()
    before = model.objects.get(pk=row.pk).updated_at

    change(row, enabled=False, updated_at="2001-01-01T00:00Z")

    assert model.objects.get(pk=row.pk).updated_at > before


def test_a_part_of_a_key_is_found_by_an_index():
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL enable_seqscan = off")
        cursor.execute("EXPLAIN SELECT key FROM cp_catalog_aimodel WHERE lower(key) % 'sonet'")
        plan = "\n".join(line for (line,) in cursor.fetchall())

    assert "aimodel_key_trgm_idx" in plan
