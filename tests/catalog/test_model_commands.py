from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from io import StringIO

import pytest
from django.core.management import CommandError, call_command
from django.db import IntegrityError

from auditing.models import AuditLog
from catalog.aliases import delete_alias, set_alias
from catalog.errors import AliasError, UnknownAlias
from catalog.models import AIModel, ModelAlias, ModelPrice, Provider
from controlplane.core.ids import now
from tests.factories import AIModelFactory, ModelAliasFactory, ModelPriceFactory, ProviderFactory
from tests.races import together

pytestmark = pytest.mark.django_db

JANUARY = datetime(2026, 1, 1, tzinfo=UTC)


def run(*arguments):
    """(stdout, stderr) of a command, without the last line's end."""
    out, err = StringIO(), StringIO()
    call_command(*arguments, stdout=out, stderr=err)
    return out.getvalue().rstrip("\n"), err.getvalue().rstrip("\n")


def told(*arguments):
    return json.loads(run(*arguments, "--json")[0])


def refused(*arguments):
    """(exit code, sentence) of a command that refuses; it must be one line."""
    with pytest.raises(CommandError) as caught:
        run(*arguments)
    assert "\n" not in str(caught.value)
    return caught.value.returncode, str(caught.value)


@pytest.fixture(autouse=True)
def gpt():
    return AIModelFactory(
        provider=ProviderFactory(slug="openai"), key="gpt-4o", name="gpt-4o", max_input_tokens=128_000
    )


@pytest.fixture
def o3(gpt):
    return AIModelFactory(provider=gpt.provider, key="o3", name="o3")


# --- model_search, model_show


def test_a_search_shows_the_most_alike_with_their_prices_per_million(gpt, o3, acme):
    ModelPriceFactory(model=gpt, rates={"input_cost_per_token": "2.5e-06", "output_cost_per_token": "0.00001"})
    ModelPriceFactory(model=gpt, tenant=acme, rates={"input_cost_per_token": "4.2000000000000006e-08"})
    row = {
        "key": "gpt-4o", "id": "openai/gpt-4o", "mode": "chat", "context": 128000, "input_per_million": "2.5",
        "output_per_million": "10", "status": "active",
    }  # fmt: skip

    assert told("model_search", "gpt", "4") == {"rows": [row], "next": None}
    own = told("model_search", "gpt4o", "--tenant", "acme")["rows"][0]
    assert (own["input_per_million"], own["output_per_million"]) == ("0.042000000000000006", None)
    assert "gpt-4o" in run("model_search", "gpt4o")[0].splitlines()[1]


def test_a_search_without_a_hit_says_so_and_narrows_by_what_is_asked():
    assert run("model_search", "zzzz") == ("", "There is none.")
    assert told("model_search", "gpt-4o", "--provider", "azure")["rows"] == []
    assert told("model_search", "gpt-4o", "--mode", "embedding")["rows"] == []


def test_a_model_is_shown_with_what_is_known_of_it_and_its_price(gpt, acme):
    AIModel.objects.update(supports_vision=True, supports_reasoning=False)
    ModelAliasFactory(alias="fast", model=gpt)
    ModelAliasFactory(alias="mine", model=gpt, tenant=acme)
    price = ModelPriceFactory(
        model=gpt,
        rates={
            "input_cost_per_token": "2e-06",
            "ocr_cost_per_page": "0.01",
            "tiered_pricing": [{"range": ["0", "32000"], "output_cost_per_token": "1e-6"}],
        },
    )

    sheet = told("model_show", "fast")

    assert (sheet["key"], sheet["model_id"], sheet["supports"], sheet["aliases"]) == (
        "gpt-4o", str(gpt.pk), ["vision"], ["fast"],
    )  # fmt: skip
    assert sheet["price"]["id"] == str(price.pk)
    assert sheet["price"]["rates"] == price.rates
    assert sheet["price"]["per_million"] == {
        "input_cost_per_token": "2", "tiered_pricing[0].output_cost_per_token": "1",
    }  # fmt: skip
    assert told("model_show", "mine", "--tenant", "acme")["aliases"] == ["fast", "mine"]
    shown, _ = run("model_show", "openai/gpt-4o")
    assert ["ocr_cost_per_page", "0.01", "0.01", "per", "page"] in [line.split() for line in shown.splitlines()]
    assert ["input_cost_per_token", "2e-06", "2", "per", "1M", "tokens"] in [
        line.split() for line in shown.splitlines()
    ]
    assert "List price from 2026-01-01 00:00Z" in shown


def test_a_model_is_shown_with_the_price_of_an_instant_or_without_one(gpt, acme):
    ModelPriceFactory(model=gpt, effective_from=JANUARY, effective_to=now() - timedelta(days=1))
    own = ModelPriceFactory(model=gpt, tenant=acme)

    assert told("model_show", "gpt-4o", "--at", "2026-02-01T00:00Z")["price"]["rates"]
    assert told("model_show", "gpt-4o")["price"] is None
    assert "unpriced" in run("model_show", "gpt-4o")[1]
    assert told("model_show", "gpt-4o", "--tenant", "acme")["price"]["id"] == str(own.pk)
    assert "Price of acme from" in run("model_show", "gpt-4o", "--tenant", "acme")[0]


def test_a_model_switched_off_is_shown_as_that(gpt):
    Provider.objects.update(enabled=False)

    assert told("model_show", "gpt-4o")["status"] == "disabled"
    assert told("model_search", "gpt-4o")["rows"][0]["status"] == "disabled"


@pytest.mark.parametrize("name", ["gpt-4-o", "", "\ud800", "x" * 1000])
def test_a_model_that_is_not_there_is_not_shown(name):
    code, said = refused("model_show", name)

    assert code == 2
    assert said.startswith("There is no model")


def test_another_tenants_alias_is_not_shown(gpt, acme, globex):
    ModelAliasFactory(alias="theirs", model=gpt, tenant=globex)

    assert refused("model_show", "theirs")[0] == refused("model_show", "theirs", "--tenant", "acme")[0] == 2
    assert refused("model_show", "theirs", "--tenant", "nobody") == (
        2,
        "There is no tenant 'nobody'. tenant_list shows them.",
    )


# --- alias_set, alias_delete


def test_an_alias_is_set_and_taken_back_and_both_are_in_the_log(gpt):
    assert run("alias_set", "Fast", "openai/gpt-4o", "--note", "x", "--reason", "asked") == (
        "Fast means gpt-4o for everybody.",
        "",
    )
    alias = ModelAlias.objects.get()
    assert AIModel.objects.resolve("fast").id == gpt.pk

    assert run("alias_delete", "fast", "--reason", "done") == ("Fast no longer means gpt-4o for everybody.", "")

    assert not ModelAlias.objects.exists()
    log = AuditLog.objects.for_object(alias).order_by("id")
    assert [(row.action, row.actor_id, row.reason) for row in log] == [
        ("create", "alias_set", "asked"), ("delete", "alias_delete", "done"),
    ]  # fmt: skip


def test_an_alias_as_json(gpt, acme):
    made = told("alias_set", "fast", "gpt-4o", "--tenant", "acme", "--note", "x")

    assert made == {
        "id": str(ModelAlias.objects.get().pk),
        "alias": "fast",
        "model": "gpt-4o",
        "tenant": "acme",
        "note": "x",
    }
    assert told("alias_delete", "fast", "--tenant", "acme") == made


def test_the_same_alias_twice_changes_nothing(gpt):
    run("alias_set", "fast", "gpt-4o", "--note", "why")
    before = list(ModelAlias.objects.values())

    run("alias_set", "fast", "gpt-4o")

    assert [{**row, "updated_at": None} for row in ModelAlias.objects.values()] == [
        {**row, "updated_at": None} for row in before
    ]


def test_an_alias_that_is_taken_is_moved_only_if_that_is_said(gpt, o3):
    run("alias_set", "fast", "gpt-4o")

    code, said = refused("alias_set", "FAST", "o3")
    assert (code, ModelAlias.objects.get().model_id) == (1, gpt.pk)
    assert "fast means gpt-4o already" in said

    run("alias_set", "FAST", "o3", "--move")
    assert (ModelAlias.objects.get().alias, ModelAlias.objects.get().model_id) == ("FAST", o3.pk)


def test_an_alias_that_was_switched_off_is_in_use_again(gpt):
    ModelAliasFactory(alias="fast", model=gpt, enabled=False)

    run("alias_set", "fast", "gpt-4o")

    assert AIModel.objects.resolve("fast").id == gpt.pk


def test_no_alias_for_everybody_hides_a_model_and_a_tenants_does_with_a_warning(gpt, o3, acme):
    code, said = refused("alias_set", "GPT-4o", "o3")
    assert (code, ModelAlias.objects.count()) == (1, 0)
    assert "would hide it" in said

    out, err = run("alias_set", "GPT-4o", "o3", "--tenant", "acme")

    assert out == "GPT-4o means o3 for acme."
    assert err == "Warning: gpt-4o is a model's key; acme's calls of it now go to o3."
    assert run("alias_set", "o3", "o3", "--tenant", "acme")[1] == ""


def test_an_alias_of_one_tenant_is_not_anothers_to_change(gpt, o3, acme, globex):
    run("alias_set", "fast", "gpt-4o", "--tenant", "globex")
    run("alias_set", "fast", "o3", "--tenant", "acme")

    run("alias_delete", "fast", "--tenant", "acme")

    assert ModelAlias.objects.get().tenant == globex
    assert refused("alias_delete", "fast", "--tenant", "acme")[0] == refused("alias_delete", "fast")[0] == 2
    with pytest.raises(UnknownAlias) as caught:
        delete_alias("fast", tenant=acme)
    assert (caught.value.code, caught.value.http_status) == ("unknown_alias", 404)


@pytest.mark.parametrize("garbage", ["", " ", "a\nb", "a\x00b", "\ud800", "x" * 201, "\u202e"])
def test_garbage_is_no_alias(gpt, garbage):
    with pytest.raises(AliasError) as caught:
        set_alias(garbage, gpt)
    with pytest.raises(UnknownAlias):
        delete_alias(garbage)

    assert caught.value.code == "alias_malformed"


def test_an_alias_of_a_model_that_is_not_there_or_switched_off_is_refused(gpt):
    assert refused("alias_set", "fast", "gpt-5")[0] == 2
    AIModel.objects.update(enabled=False)
    assert refused("alias_set", "fast", "gpt-4o")[0] == 1
    assert not ModelAlias.objects.exists()


@pytest.mark.parametrize(
    "arguments",
    [
        ("model_search", "x", "--mode"), ("model_search", "x", "--provider"), ("model_search", "x", "--tenant"),
        ("provider_set", "p", "--name"), ("provider_set", "p", "--notes"), ("alias_set", "fast", "gpt-4o", "--note"),
        ("prices_rerate", "--from", "2026-01-01T00Z", "--to", "2026-02-01T00Z", "--reason", "x", "--provider"),
    ],
    ids=lambda arguments: arguments[0] + arguments[-1],
)  # fmt: skip
def test_bytes_that_are_no_text_are_refused_in_a_sentence(gpt, arguments):
    with pytest.raises(CommandError, match="cannot be kept") as refused:
        call_command(*arguments, "a\udcffb")

    assert refused.value.returncode in (1, 2)
    assert not Provider.objects.filter(slug="p").exists()


@pytest.mark.django_db(transaction=True)
def test_of_two_who_set_an_alias_at_once_one_is_told_that_it_is_taken(gpt, o3):
    outcomes = together(lambda: set_alias("fast", gpt), lambda: set_alias("Fast", o3))

    [error] = [outcome for outcome in outcomes if isinstance(outcome, Exception)]
    assert (type(error), error.code) == (AliasError, "alias_taken")
    assert ModelAlias.objects.count() == 1


@pytest.mark.django_db(transaction=True)
def test_an_alias_that_a_model_takes_at_once_shadows_it(gpt):
    def model():
        return AIModelFactory(provider=gpt.provider, key="new", name="new")

    outcomes = together(lambda: set_alias("New", gpt), model)

    [error] = [outcome for outcome in outcomes if isinstance(outcome, Exception)]
    assert (
        isinstance(error, IntegrityError) or error.code == "alias_shadows_model"
    )  # the model came later, or the alias
    assert ModelAlias.objects.count() + AIModel.objects.filter(key="new").count() == 1


# --- provider_set, provider_delete


def test_a_provider_is_made_changed_and_deleted():
    made = told("provider_set", "house", "--name", "House", "--family", "openai", "--margin-percent", "12.5")
    assert (made["made"], made["name"], made["family"], made["margin_percent"]) == (True, "House", "openai", "12.5000")

    out, _ = run("provider_set", "house", "--disable", "--family", "", "--notes", "gone", "--reason", "why")

    house = Provider.objects.get(slug="house")
    assert out == "Changed the provider house."
    assert (house.enabled, house.name, house.family, house.notes, house.margin_percent) == (
        False, "House", "", "gone", Decimal("12.5"),
    )  # fmt: skip
    assert AuditLog.objects.for_object(house).with_action("update").get().reason == "why"
    assert run("provider_delete", "house") == ("Deleted the provider house.", "")
    assert not Provider.objects.filter(slug="house").exists()


@pytest.mark.parametrize("percent", ["NaN", "sNaN", "Infinity", "1e999", "-1", "101", "1.00001", "x"])
def test_terms_that_are_none_are_refused_and_the_prices_hold_on(gpt, percent):
    price = ModelPriceFactory(model=gpt)

    assert refused("provider_set", "openai", f"--discount-percent={percent}", "--reason", "contract")[0] == 1
    assert refused("provider_set", "openai", "--discount-percent", "10", "--reason", " ")[0] == 1
    assert ModelPrice.objects.get() == price
    assert Provider.objects.get(slug="openai").discount_percent == 0


@pytest.mark.parametrize(
    "arguments",
    [
        ("model_search", "gpt", "--mode", "\udcff"),
        ("model_search", "gpt", "--provider", "a\x00b"),
        ("alias_set", "fast", "gpt-4o", "--note", "\udcff"),
        ("provider_set", "house", "--name", "\udcff"),
        ("provider_set", "house", "--notes", "a\x00b"),
    ],
)
def test_text_that_cannot_be_kept_or_asked_for_is_refused_in_one_sentence(arguments):
    assert refused(*arguments)[0] == 1


def test_other_terms_end_the_list_prices_and_begin_them_anew(gpt, acme):
    old = ModelPriceFactory(model=gpt)
    own = ModelPriceFactory(model=gpt, tenant=acme)

    code, said = refused("provider_set", "openai", "--discount-percent", "10")
    assert (code, "with a reason" in said, ModelPrice.objects.count()) == (1, True, 2)

    out, _ = run(
        "provider_set", "openai", "--discount-percent", "10", "--reason", "contract", "--from", "2027-01-01T00:00Z"
    )

    start = datetime(2027, 1, 1, tzinfo=UTC)
    new = gpt.price_at(start)
    assert out == "Changed the provider openai. Prices that go on with these terms: 1."
    assert (new.discount_percent, new.reason, new.rates) == (10, "contract", old.rates)
    assert gpt.price_at(start - timedelta(seconds=1)).pk == old.pk
    assert gpt.price_at(start, acme).pk == own.pk
    assert told("provider_set", "openai", "--discount-percent", "10")["prices"] == 0


@pytest.mark.parametrize(
    "arguments",
    [
        ("Open AI",), ("",), ("x" * 65,), ("a\x00",), ("\ud800",), ("new", "--family", "house"), ("new", "--website", "no"),
        ("new", "--discount-percent", "101"), ("new", "--margin-percent", "-1"), ("new", "--margin-fixed", "NaN"),
        ("new", "--margin-fixed", "x"), ("new", "--name", "x" * 201), ("new", "--enable", "--disable"),
    ],
)  # fmt: skip
def test_a_provider_that_cannot_be_is_refused(arguments):
    refused("provider_set", *arguments)

    assert Provider.objects.count() == 1


def test_a_provider_that_is_used_stays(gpt):
    code, said = refused("provider_delete", "openai")

    assert (code, said) == (1, "openai serves models (1), so it stays. To stop its use: provider_set openai --disable.")
    assert Provider.objects.filter(slug="openai").exists()
    assert refused("provider_delete", "nobody") == (2, "There is no provider 'nobody'. Make it with provider_set.")
    assert refused("provider_delete", "\ud800")[0] == 2


# --- prices_eval


@pytest.fixture
def priced(gpt):
    return ModelPriceFactory(model=gpt)


def evaluated(tmp_path, *cases, options=()):
    """The answers to cases, and what was said."""
    source, target = tmp_path / "in", tmp_path / "out"
    source.write_text("\n".join(case if isinstance(case, str) else json.dumps(case) for case in cases))
    out, err = StringIO(), StringIO()
    try:
        call_command("prices_eval", source, target, *options, stdout=out, stderr=err)
    except CommandError as error:
        err.write(str(error))
    return [json.loads(line) for line in target.read_text().splitlines()], err.getvalue()


CALL = {"prompt_tokens": 1_000_000, "completion_tokens": 500_000}


def test_each_case_is_written_with_what_it_costs(tmp_path, priced):
    cases = [
        {"id": "a", "model": "gpt-4o", "usage": CALL, "expect": {"total": "6"}},
        {"ask": {"name": "gpt-4o-2026-01-01", "provider": "openai"}, "usage": CALL},
        {"model": None, "rates": {"flat": {"input": "1e-06", "output": "2e-06"}}, "usage": CALL},
        {"model": "gpt-4o", "usage": {"audio_seconds": "1.5", "estimated": True, **CALL}},
    ]

    answers, said = evaluated(tmp_path, *cases)

    assert answers[0] == cases[0] | {
        "input": "2.000000", "output": "4.000000", "tools": "0", "total": "6.000000", "status": "priced", "unrated": [],
        "price_id": str(priced.pk),
    }  # fmt: skip
    assert [Decimal(answer["total"]) for answer in answers] == [6, 6, 2, 6]
    assert [answer["status"] for answer in answers] == ["priced", "priced", "priced", "estimated"]
    assert said.strip() == "4 cases, 3 priced, 1 estimated, 0 unpriced, 0 errors, 0 bad cases."


def test_what_cannot_be_priced_says_why_and_the_rest_is_priced(tmp_path, priced, o3):
    answers, said = evaluated(
        tmp_path,
        {"model": "gpt-5", "usage": CALL},
        {"model": "o3", "usage": CALL},
        {"model": "gpt-4o", "usage": {"prompt_tokens": -1}},
        {"model": "gpt-4o", "usage": {"no_such_unit": 1}},
        {"model": "gpt-4o", "usage": {"at": "2026-01-01"}},
        {"rates": {"flat": {"input": "-1", "output": "0"}}},
        {"model": "gpt-4o"},
    )

    assert [answer.get("error") for answer in answers] == [
        "unknown_model", None, "negative_count", "unknown_field", "wrong_type", "bad_rate", None,
    ]  # fmt: skip
    assert (answers[1]["status"], answers[1]["total"]) == ("unpriced", None)
    assert (answers[6]["status"], Decimal(answers[6]["total"])) == ("priced", 0)
    assert said.strip() == "7 cases, 1 priced, 0 estimated, 1 unpriced, 5 errors, 0 bad cases."


@pytest.mark.parametrize(
    "line",
    [
        "not json", "[]", "1", '"x"', "{}", '{"usage": 1}', '{"model": 5}', '{"model": "gpt-4o", "usage": []}',
        '{"rates": {"flat": {"input": "1"}}}', '{"rates": {"flat": {"x": "1"}}}', '{"rates": 1}', '{"rates": {}}',
        '{"ask": {"provider": "openai"}}', '{"ask": {"name": "gpt-4o", "provider": 1}}', '{"ask": "gpt-4o"}',
        '{"model": "gpt-4o", "usage": {"prompt_tokens": NaN}}', "[" * 100_000,
    ],
)  # fmt: skip
def test_a_line_that_is_no_case_is_told_and_the_others_are_priced(tmp_path, priced, line):
    answers, said = evaluated(tmp_path, line, "", {"model": "gpt-4o", "usage": CALL})

    assert [answer.get("error") for answer in answers] == ["bad_case", None]
    assert "Lines that are no cases: 1;" in said


def test_prices_are_those_of_the_instant_and_tenant_that_are_asked_for(tmp_path, gpt, acme):
    ModelPriceFactory(model=gpt, effective_to=JANUARY + timedelta(days=31))
    ModelPriceFactory(model=gpt, tenant=acme, rates={"input_cost_per_token": "1", "output_cost_per_token": "1"})
    case = {"model": "gpt-4o", "usage": {"prompt_tokens": 1}}

    def total(*options):
        [answer], _ = evaluated(tmp_path, case, options=options)
        return answer["total"]

    assert total() is None
    assert Decimal(total("--at", "2026-01-15T00:00Z")) == Decimal("2e-06")
    assert Decimal(total("--tenant", "acme")) == 1


def test_a_file_that_is_there_stays_until_the_new_one_is_whole(tmp_path, priced):
    source, target = tmp_path / "in", tmp_path / "out"
    source.write_bytes(b'{"model": "gpt-4o"}\n\xff\xfe\n')
    target.write_text("precious")

    assert refused("prices_eval", source, target)[0] == 2
    assert refused("prices_eval", tmp_path / "none", target)[0] == 2
    assert refused("prices_eval", source, tmp_path / "none" / "out")[0] == 2

    assert target.read_text() == "precious"
    assert {path.name for path in tmp_path.iterdir()} == {"in", "out"}


def test_cases_come_from_stdin_and_go_to_stdout(priced, monkeypatch):
    monkeypatch.setattr("sys.stdin", StringIO('{"model": "gpt-4o", "usage": {"prompt_tokens": 1}}\n'))

    out, err = run("prices_eval", "-", "-")

    assert Decimal(json.loads(out)["total"]) == Decimal("2e-06")
    assert err.startswith("1 cases, 1 priced")


def test_how_many_there_were_as_json(tmp_path, priced):
    (tmp_path / "in").write_text('{"model": "gpt-4o"}')

    assert told("prices_eval", tmp_path / "in", tmp_path / "out") == {
        "cases": 1, "priced": 1, "estimated": 0, "unpriced": 0, "errors": 0, "bad_cases": 0,
    }  # fmt: skip
