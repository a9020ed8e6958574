from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from catalog.errors import ImportRefused
from catalog.importing import parse, plan
from catalog.models import AIModel, ModelPrice
from controlplane.core.ids import now
from tests.catalog.importing.files import big, chat, dump
from tests.factories import AIModelFactory, ModelAliasFactory, ModelPriceFactory, ProviderFactory

pytestmark = pytest.mark.django_db


def diff(entries, **asked):
    return plan(parse(dump(entries), "p.json"), **asked)


def imported(entries, **asked):
    """The diff of what is there and then applied."""
    found = diff(entries, **asked)
    found.apply(reason="test", allow_shrink=True)
    return found


def changes(found):
    return {entry.key: entry.change for entry in found.entries}


def moved(found, key):
    [entry] = [entry for entry in found.entries if entry.key == key]
    return {field.name: (field.old, field.new, field.percent, field.flagged) for field in entry.fields}


def test_a_first_file_adds_all_and_the_same_again_changes_nothing():
    entries = big(60)

    first, again = imported(entries), diff(entries)

    assert (first.counts["added"], first.counts["prices"], first.counts["flagged"]) == (60, 58, 0)
    assert set(changes(again).values()) == {"unchanged"}
    assert (again.counts["prices"], again.counts["ended"], again.rows()) == (0, 0, 0)


def test_numbers_written_otherwise_and_fields_in_another_order_change_nothing():
    imported({"m": chat(input_cost_per_token=2.5e-06)})
    text = """{"m": {"supports_vision": true, "output_cost_per_token": 0.00001, "input_cost_per_token": 0.0000025000,
        "mode": "chat", "max_output_tokens": 16384.0, "max_input_tokens": 128000, "litellm_provider": "openai"}}"""

    assert changes(plan(parse(text.encode(), "p"))) == {"m": "unchanged"}


def test_a_change_of_the_thirtieth_digit_is_a_change():
    text = '{"m": {"litellm_provider": "openai", "output_cost_per_second": %s}}'
    plan(parse((text % "1.00000000000000000000000000001").encode(), "p")).apply()

    found = plan(parse((text % "1.00000000000000000000000000002").encode(), "p"))

    assert changes(found) == {"m": "changed"}


def test_ten_edits_are_reported_as_these_ten():
    before = big(200)
    imported(before)
    after = dict(before)
    after["model-1"] = before["model-1"] | {"input_cost_per_token": 2.4e-09}
    after["model-2"] = before["model-2"] | {"output_cost_per_token": 1.5e-04}
    after["model-3"] = before["model-3"] | {"cache_read_input_token_cost": 0}
    after["model-4"] = {
        name: value for name, value in before["model-4"].items() if name != "cache_read_input_token_cost"
    }
    after["model-6"] = before["model-6"] | {"output_cost_per_reasoning_token": 1e-05}
    after["model-5"] = before["model-5"] | {
        "search_context_cost_per_query": {"search_context_size_low": 0.01, "search_context_size_high": 0.031}
    }
    after["model-7"] = before["model-7"] | {"max_input_tokens": 9}
    after["model-8"] = before["model-8"] | {"supports_tool_choice": False, "supports_none_reasoning_effort": False}
    del after["model-9"]
    after["brand-new"] = chat()

    found = diff(after)
    told = {key: change for key, change in changes(found).items() if change != "unchanged"}

    assert told == {f"model-{n}": "changed" for n in range(1, 9)} | {"model-9": "removed", "brand-new": "added"}
    assert moved(found, "model-1") == {"input_cost_per_token": ("2e-09", "2.4e-09", Decimal("20.00"), False)}
    assert moved(found, "model-2") == {"output_cost_per_token": ("1e-05", "0.00015", Decimal("1400.00"), True)}
    assert moved(found, "model-3") == {"cache_read_input_token_cost": ("4e-10", "0", Decimal("-100.00"), True)}
    assert moved(found, "model-4") == {"cache_read_input_token_cost": ("5e-10", None, None, True)}
    assert moved(found, "model-6") == {"output_cost_per_reasoning_token": (None, "1e-05", None, False)}
    assert moved(found, "model-5") == {
        "search_context_cost_per_query.search_context_size_high": ("0.03", "0.031", Decimal("3.33"), False)
    }
    assert moved(found, "model-7") == {"max_input_tokens": (1007, 9, None, False)}
    assert moved(found, "model-8") == {
        "supports_tool_choice": (True, False, None, False), "supports_none_reasoning_effort": (True, False, None, False),
    }  # fmt: skip
    assert {entry.key for entry in found.entries if entry.flagged} == {"model-2", "model-3", "model-4"}


@pytest.mark.parametrize(
    ("old", "new", "threshold", "flagged"),
    [
        (1e-06, 1.2e-06, 20, False),
        (1e-06, 1.21e-06, 20, True),
        (1e-06, 0.8e-06, 20, False),
        (1e-06, 0.79e-06, 20, True),
        (1e-06, 1.0000001e-06, 0, True),
        (1e-06, 9.9e-06, 5000, False),
        (1e-06, 1e-05, 5000, True),
        (1e-06, 1e-07, 5000, True),
        (0, 1e-06, 5000, True),
        (1e-06, 0, 5000, True),
        (1e-30, 9e9, 20, True),
    ],
)
def test_a_rate_is_flagged_when_it_moves_by_more_than_the_threshold_or_tenfold_or_from_or_to_0(
    old, new, threshold, flagged
):
    imported({"m": chat(output_cost_per_image=old)})

    found = diff({"m": chat(output_cost_per_image=new)}, threshold=Decimal(threshold))

    assert found.counts["flagged"] == int(flagged)
    assert found.counts["changed"] == 1


def test_the_range_of_a_tier_is_no_rate():
    tiers = [{"range": [0, 1000], "input_cost_per_token": 1e-06, "output_cost_per_token": 1e-06}]
    imported({"m": chat(tiered_pricing=tiers)})

    found = diff({"m": chat(tiered_pricing=[tiers[0] | {"range": [0, 90000]}])})

    assert moved(found, "m") == {"tiered_pricing[0].range[1]": ("1000", "90000", None, False)}


def test_a_model_without_any_rate_has_no_price_and_gains_one():
    imported({"m": {"litellm_provider": "openai", "mode": "chat"}})

    found = imported({"m": chat(max_input_tokens=None, max_output_tokens=None, supports_vision=None)})

    assert not found.counts["flagged"]
    assert (found.counts["changed"], found.counts["prices"], found.counts["ended"]) == (1, 1, 0)


def test_a_price_that_a_person_entered_is_kept_and_the_difference_told():
    imported({"m": chat(), "n": chat()})
    ModelPrice.objects.supersede(AIModel.objects.get(key="m"), {"input_cost_per_token": "9e-06"}, reason="contract")

    found = imported({"m": chat(max_input_tokens=5), "n": chat()})

    assert changes(found) == {"m": "kept", "n": "unchanged"}
    assert moved(found, "m")["input_cost_per_token"][:2] == ("9e-06", "2.5e-06")
    assert AIModel.objects.get(key="m").max_input_tokens == 5
    assert AIModel.objects.get(key="m").price_at(now()).rates == {"input_cost_per_token": "9e-06"}


def test_a_person_who_entered_what_the_file_says_is_in_nobodys_way():
    imported({"m": chat()})
    model = AIModel.objects.get(key="m")
    ModelPrice.objects.supersede(model, model.price_at(now()).rates, reason="same")

    assert changes(diff({"m": chat()})) == {"m": "unchanged"}


def test_a_model_of_a_person_is_adopted_and_that_is_told():
    provider = ProviderFactory(slug="openai")
    AIModelFactory(provider=provider, key="m", name="m", mode="chat")

    found = imported({"m": chat()})
    model = AIModel.objects.get(key="m")

    assert moved(found, "m")["source"] == ("manual", "litellm", None, False)
    assert (model.origin, model.last_import.source, model.first_import) == ("import", "litellm", None)


def test_a_model_that_moves_to_another_provider_is_flagged_as_its_canonical_id_changes():
    imported({"m": chat()})

    found = imported({"m": chat(litellm_provider="azure")})

    assert moved(found, "m")["provider"] == ("openai", "azure", None, True)
    assert AIModel.objects.get(key="m").canonical_id == "azure/m"


def test_what_is_missing_is_removed_from_its_own_source_alone():
    imported({"a": chat(), "b": chat()}, source="ours")
    imported({"c": chat()}, source="theirs")
    AIModelFactory(key="by-hand")

    found = diff({"a": chat()}, source="ours")

    assert changes(found) == {"a": "unchanged", "b": "removed"}


def test_a_removed_model_is_unlisted_with_its_price_and_comes_back():
    imported({"a": chat(), "b": chat()})

    gone = imported({"a": chat()})
    unlisted = AIModel.objects.get(key="b")
    again, back = diff({"a": chat()}), imported({"a": chat(), "b": chat()})

    assert changes(gone) == {"a": "unchanged", "b": "removed"}
    assert unlisted.status == "unlisted"
    assert unlisted.price_at(now()) is not None
    assert changes(again) == {"a": "unchanged"}
    assert changes(back) == {"a": "unchanged", "b": "changed"}
    assert moved(back, "b") == {"unlisted_at": ("unlisted", None, None, False)}
    assert AIModel.objects.get(key="b").unlisted_at is None


def test_an_entry_with_an_error_is_not_missing():
    imported({"a": chat(), "b": chat()})

    found = diff({"a": chat(), "b": chat(input_cost_per_token="x")})

    assert changes(found) == {"a": "unchanged"}
    assert found.counts["errors"] == 1


def test_an_alias_for_everybody_of_that_name_is_an_error_of_the_entry():
    ModelAliasFactory(alias="Quick", model=AIModelFactory(key="other"))

    found = imported({"a": chat(), "quick": chat()})

    assert [(issue.key, issue.code, issue.severity, issue.line) for issue in found.issues] == [
        ("quick", "alias_taken", "error", 11)
    ]
    assert changes(found) == {"a": "added"}
    assert AIModel.objects.filter(key="a").exists()


def test_a_tenants_alias_of_that_name_is_none(acme):
    ModelAliasFactory(alias="quick", tenant=acme, model=AIModelFactory(key="other"))

    assert changes(imported({"quick": chat()})) == {"quick": "added"}


def test_a_model_that_is_there_in_other_case_is_an_error():
    imported({"GPT-x": chat()})

    found = diff({"gpt-x": chat()})

    assert [issue.code for issue in found.issues] == ["key_collision"]
    assert changes(found) == {}


def test_a_file_that_loses_more_than_a_tenth_of_the_models_is_refused():
    entries = {f"m{n}": chat() for n in range(20)}
    imported(entries)

    def without(count):
        return diff(dict(list(entries.items())[count:]))

    assert without(2).refusal() is None
    refusal = without(3).refusal()
    assert refusal.code == "import_shrink"
    assert "3 of the 20 models" in refusal.message
    assert without(3).refusal(allow_shrink=True) is None
    assert without(3).refusal(only=["m0", "m1"]) is None


def test_a_file_in_which_more_than_a_twentieth_lose_every_price_is_refused():
    entries = {f"m{n}": chat() for n in range(20)}
    imported(entries)
    free = {name: value for name, value in chat().items() if "cost" not in name}

    def bare(count):
        return diff(entries | {f"m{n}": free for n in range(count)})

    assert bare(1).refusal() is None
    assert bare(2).refusal().code == "import_shrink"
    assert bare(2).counts["flagged"] == 2


def test_strict_refuses_the_file_for_one_error():
    found = diff({"a": chat(), "b": chat(input_cost_per_token="x")})

    assert found.refusal() is None
    assert found.refusal(strict=True).code == "import_invalid"


@pytest.mark.parametrize(
    "asked",
    [
        {"source": "manual"},
        {"source": ""},
        {"source": "s" * 101},
        {"source_version": "v" * 201},
        {"effective_from": datetime(2026, 1, 1)},  # noqa: DTZ001 - naive on purpose
        {"effective_from": datetime(1, 1, 1, tzinfo=UTC)},
        {"effective_from": datetime.max.replace(tzinfo=UTC)},
        {"threshold": Decimal(-1)},
        {"threshold": Decimal("NaN")},
        {"threshold": Decimal(10**6)},
    ],
)
def test_what_cannot_be_asked_for_is_refused(asked):
    with pytest.raises(ImportRefused) as caught:
        diff({"a": chat()}, **asked)

    assert caught.value.code == "import_invalid"


def test_a_diff_has_another_digest_once_it_changes_something_else():
    imported({"a": chat(), "b": chat()})
    entries = {"a": chat(input_cost_per_token=1), "b": chat()}
    found = diff(entries)

    assert diff(entries).digest == found.digest
    ModelPriceFactory(model=AIModelFactory())
    assert diff(entries).digest == found.digest
    assert diff({"a": chat(input_cost_per_token=2), "b": chat()}).digest != found.digest
    ModelPrice.objects.supersede(AIModel.objects.get(key="a"), {"input_cost_per_token": "1"}, reason="x")
    assert diff(entries).digest != found.digest


def test_a_diff_compares_with_the_price_in_force_when_it_will_hold():
    imported({"m": chat()})
    later = now() + timedelta(days=30)
    imported({"m": chat(input_cost_per_token=3e-06)}, effective_from=later)

    assert changes(diff({"m": chat()})) == {"m": "unchanged"}
    assert changes(diff({"m": chat()}, effective_from=later + timedelta(days=1))) == {"m": "changed"}


def test_a_tenants_file_is_compared_with_its_own_prices_and_shown_beside_the_list(acme):
    imported({"m": chat(), "n": chat()})

    first = imported({"m": chat(input_cost_per_token=1e-06)}, tenant=acme)
    again = diff({"m": chat(input_cost_per_token=1e-06), "unknown": chat()}, tenant=acme)

    assert changes(first) == {"m": "added"}
    assert moved(first, "m")["input_cost_per_token"] == ("2.5e-06", "1e-06", Decimal("-60.00"), True)
    assert changes(again) == {"m": "unchanged"}
    assert [(issue.key, issue.code) for issue in again.issues] == [("unknown", "unknown_model")]


def test_a_diff_as_json_says_all_that_is_not_unchanged():
    imported({"m": chat(rare=0.5), "n": chat()})

    told = diff(
        {"m": chat(rare=0.75, deprecation_date="2027-01-01", input_cost_per_token=3e-06), "n": chat(), "o": 5}
    ).as_json()

    assert told["counts"]["changed"] == 1
    assert [entry["key"] for entry in told["entries"]] == ["m"]
    assert {
        field["name"]: (field["old"], field["new"], field["percent"]) for field in told["entries"][0]["fields"]
    } == {
        "input_cost_per_token": ("2.5e-06", "3e-06", "20.00"),
        "deprecation_date": (None, "2027-01-01", None),
        "rare": ("0.5", "0.75", None),
    }
    assert told["issues"][0]["entry"] == '"o": 5'
    assert told["effective_from"] is None


def test_the_time_zone_of_an_instant_does_not_matter():
    at = datetime(2027, 1, 1, tzinfo=UTC)

    assert diff({"m": chat()}, effective_from=at).conditions.effective_from == at
