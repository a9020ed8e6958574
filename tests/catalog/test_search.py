from __future__ import annotations

import pytest
from django.db import connection

from catalog.models import AIModel
from tenants.scope import tenant_scope
from tests.factories import AIModelFactory, ModelAliasFactory, ProviderFactory

pytestmark = pytest.mark.django_db

search = AIModel.objects.search


@pytest.fixture(autouse=True)
def models():
    openai, anthropic = ProviderFactory(slug="openai"), ProviderFactory(slug="anthropic")
    for key in ("gpt-4o", "gpt-4o-mini", "whisper-1"):
        AIModelFactory(provider=openai, key=key, name=key, mode="audio_transcription" if "whisper" in key else "chat")
    for key in ("claude-sonnet-4-5", "claude-sonnet-4-5-20250929", "claude-opus-4"):
        AIModelFactory(provider=anthropic, key=key, name=key)


def keys(*args, **kwargs):
    return [model.key for model in search(*args, **kwargs)]


def test_what_is_written_wrong_is_found_the_most_alike_first_and_the_shorter_of_equals():
    assert keys("claude sonet")[:2] == ["claude-sonnet-4-5", "claude-sonnet-4-5-20250929"]
    assert keys("gpt4o")[0] == "gpt-4o"
    assert keys("WHISPER") == ["whisper-1"]


def test_search_narrows_by_mode_provider_and_number():
    assert keys("gpt-4o", limit=1) == ["gpt-4o"]
    assert keys("gpt-4o", provider="anthropic") == []
    assert keys("whisper", mode="chat") == []
    assert [model.key for model in AIModel.objects.for_provider("openai").enabled().search("gpt-4o")] == [
        "gpt-4o",
        "gpt-4o-mini",
    ]


def test_the_name_for_people_counts_and_the_best_of_all_names_ranks():
    AIModel.objects.filter(key="claude-opus-4").update(display_name="The Deep Thinker")

    assert keys("deep thinker") == ["claude-opus-4"]


def test_aliases_count_but_for_those_of_other_tenants_and_those_switched_off(acme, globex):
    model = AIModel.objects.get(key="claude-opus-4")
    ModelAliasFactory(alias="brainiac", model=model)
    ModelAliasFactory(alias="cheapest", model=model, tenant=acme)
    ModelAliasFactory(alias="switched", model=model, enabled=False)

    assert keys("brainiac") == keys("brainiac", tenant=globex) == ["claude-opus-4"]
    assert keys("cheapest", tenant=acme) == keys("cheapest", tenant=acme.pk) == ["claude-opus-4"]
    assert keys("cheapest") == keys("cheapest", tenant=globex) == []
    assert keys("switched") == []


def test_in_a_tenants_scope_no_others_alias_is_found_whoever_is_named(acme, globex):
    ModelAliasFactory(alias="brainiac", model=AIModel.objects.get(key="claude-opus-4"), tenant=globex)

    with tenant_scope(acme):
        assert keys("brainiac", tenant=globex) == []
        assert keys("gpt-4o") == ["gpt-4o", "gpt-4o-mini"]


@pytest.mark.parametrize("garbage", ["", " ", "zzzz", "\x00", "\ud800", "%", "x" * 10_000, "'"])
def test_garbage_finds_nothing(garbage):
    assert keys(garbage) == []


def test_search_is_one_statement_and_goes_on_as_a_queryset(django_assert_num_queries):
    with django_assert_num_queries(1):
        assert list(search("gpt-4o", limit=2).values_list("key", flat=True)) == ["gpt-4o", "gpt-4o-mini"]


def test_the_thresholds_are_not_those_of_the_session():
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL pg_trgm.similarity_threshold = 1; SET LOCAL pg_trgm.word_similarity_threshold = 1")

    assert keys("claude sonet")


def test_search_reads_indexes_not_the_table():
    with connection.cursor() as cursor:
        cursor.execute("SELECT prosrc, proconfig FROM pg_proc WHERE proname = 'cp_catalog_alike'")
        body, settings = cursor.fetchone()
        cursor.execute("SET LOCAL enable_seqscan = off")
        cursor.execute(f"EXPLAIN {body}".replace("asked", "'sonet'").replace("= tenant", "= NULL"))
        plan = "\n".join(line for (line,) in cursor.fetchall())

    assert "enable_seqscan=off" in settings
    assert "aimodel_key_trgm_idx" in plan
    assert "aimodel_display_trgm_idx" in plan
