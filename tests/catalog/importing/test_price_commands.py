from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path

import pytest

from auditing.models import AuditLog
from catalog.models import AIModel
from controlplane.core.ids import now
from tests.catalog.importing.files import big, chat
from tests.factories import AIModelFactory, ModelPriceFactory

pytestmark = pytest.mark.django_db

ROOT = Path(__file__).resolve().parents[3]


# ---------------------------------------------------------------- prices_export


def numbers(text):
    return json.loads(text, parse_float=Decimal)


def test_what_was_imported_comes_back_equal_in_value(write, tmp_path, run):
    entries = big(120) | {
        "sample_spec": {"mode": "one of"},
        "odd": chat(max_tokens="many", notes=[1.50, None], deprecation_date="soon"),
    }
    path = write(entries)
    run("prices_import", path, "--apply")

    out, _ = run("prices_export")
    said, _ = run("prices_export", str(tmp_path / "out.json"))

    assert numbers(out) == numbers(Path(path).read_text())
    assert (tmp_path / "out.json").read_text().strip() == out
    assert said == f"{tmp_path / 'out.json'}: 122 entries."


def test_an_export_imports_as_no_change(write, tmp_path, run):
    run("prices_import", write(big(60)), "--apply")
    run("prices_export", str(tmp_path / "out.json"), "--json")

    assert "0 added, 0 removed, 0 changed, 60 unchanged" in run("prices_import", str(tmp_path / "out.json"))[0]


def test_an_export_is_of_an_instant_and_a_tenant(write, acme, run):
    run("prices_import", write({"m": chat(), "n": chat()}), "--apply")
    before = now()
    run("prices_import", write({"m": chat(input_cost_per_token=1e-06)}), "--apply", "--tenant", "acme")
    run("prices_import", write({"m": chat(input_cost_per_token=7e-06), "n": chat()}), "--apply")

    def rate(*arguments):
        return numbers(run("prices_export", *arguments)[0])["m"]["input_cost_per_token"]

    assert rate() == Decimal("7e-06")
    assert rate("--at", before.isoformat()) == Decimal("2.5e-06")
    assert rate("--tenant", "acme") == Decimal("1e-06")


def test_models_that_are_unlisted_are_exported_when_asked_for(write, run):
    run("prices_import", write({"a": chat(), "b": chat()}), "--apply")
    run("prices_import", write({"a": chat()}), "--apply", "--allow-shrink")

    assert set(numbers(run("prices_export")[0])) == {"a"}
    assert set(numbers(run("prices_export", "--unlisted")[0])) == {"a", "b"}


def test_a_model_of_a_person_is_exported_with_its_provider(run):
    model = AIModelFactory(key="own", provider__slug="ours")
    ModelPriceFactory(model=model, rates={"input_cost_per_token": "0.000003"})

    assert numbers(run("prices_export")[0]) == {
        "own": {"litellm_provider": "ours", "mode": "chat", "input_cost_per_token": Decimal("0.000003")}
    }


def test_a_file_that_cannot_be_written_could_not_run_and_leaves_nothing(tmp_path, failed):
    (tmp_path / "dir").mkdir()

    assert failed("prices_export", str(tmp_path / "none" / "out.json"))[0] == 2
    assert failed("prices_export", str(tmp_path / "dir"))[0] == 2
    assert [path.name for path in tmp_path.iterdir()] == ["dir"]


# ---------------------------------------------------------------- price_set


@pytest.fixture
def model(write, run):
    run("prices_import", write({"gpt-test": chat(cache_read_input_token_cost=1e-06)}), "--apply")
    return AIModel.objects.get(key="gpt-test")


def test_a_price_is_typed_per_million_and_stored_per_token(model, run):
    out, _ = run("price_set", "gpt-test", "--input-per-million", "3", "--reason", "announced")

    price = model.price_at(now())
    assert price.rates == {
        "input_cost_per_token": "0.000003",
        "output_cost_per_token": "1e-05",
        "cache_read_input_token_cost": "1e-06",
    }
    assert (price.source, price.reason) == ("manual", "announced")
    assert (
        out
        == f"gpt-test from {price.effective_from:%Y-%m-%d %H:%M}Z: input_cost_per_token 3 USD per million; 2 other rates stay."
    )
    assert AuditLog.objects.filter(actor_id="price_set", reason="announced").exists()


@pytest.mark.parametrize(
    "arguments",
    [
        ("--rate", "input_cost_per_token=0.123456789012345678901234567891"),
        ("--input-per-million", "123456.789012345678901234567891"),
    ],
)
def test_a_price_is_kept_and_said_to_its_last_digit(model, run, arguments):
    out, _ = run("price_set", "gpt-test", *arguments, "--confirm")

    assert model.price_at(now()).rates["input_cost_per_token"] == "0.123456789012345678901234567891"
    assert "input_cost_per_token 123456.789012345678901234567891 USD per million" in out


def test_json_says_what_was_set(model, run):
    told = json.loads(run("price_set", "gpt-test", "--rate", "output_cost_per_image=0.04", "--fresh", "--json")[0])

    assert (told["model"], told["tenant"], told["rates"]) == ("gpt-test", None, {"output_cost_per_image": "0.04"})


def test_a_key_is_found_in_any_case_and_an_unknown_one_named_with_the_nearest(model, run, failed):
    run("price_set", "GPT-Test", "--input-per-million", "3")

    code, sentence, _, _ = failed("price_set", "gpt-tset", "--input-per-million", "3")

    assert (code, "gpt-test" in sentence) == (2, True)
    for garbage in ("a\x00b", "a\udcffb", "x" * 9000):
        assert failed("price_set", garbage, "--input-per-million", "3")[0] == 2


def test_a_rate_that_is_ten_times_off_has_to_be_confirmed(model, run, failed):
    code, sentence, _, _ = failed("price_set", "gpt-test", "--rate", "input_cost_per_token=0.003")

    assert code == 1
    assert sentence.startswith("input_cost_per_token would be 3000 USD per million instead of 2.5 USD per million.")
    run("price_set", "gpt-test", "--rate", "input_cost_per_token=0.003", "--confirm")
    assert model.price_at(now()).rates["input_cost_per_token"] == "0.003"


@pytest.mark.parametrize(
    "arguments",
    [
        ["--rate", "input_cost_per_tokens=1"], ["--rate", "input_cost_per_token"], ["--rate", "x_cost=-1"],
        ["--input-per-million", "x"], ["--input-per-million=-1"], ["--input-per-million", "nan"], ["--fresh"],
        ["--input-per-million", "1e-30"], ["--input-per-million", "9e999999"],
        ["--tenant", "nobody"],
        ["--from", "2026-01-01T00:00Z", "--input-per-million", "3"], ["--rate", "output_cost_per_image=1e-40"],
        ["--rate", "output_cost_per_image=1e20"], ["--drop", "input_cost"], ["--discount", "101"],
        ["--from", "0001-01-01T00:00+14:00", "--reason", "x"], ["--from", "9999-12-31T00:00Z"],
        ["--input-per-million", f"2.{'0' * 30}1"], ["--input-per-million", "1e-999999", "--confirm"],
        ["--margin", "99999"], ["--discount", "1e30"], ["--margin", "1.00001"], ["--margin-fixed", "1e-13"],
        ["--margin-fixed", "1e999"], ["--input-per-million", "2", "--reason", "r" * 501],
        ["--input-per-million", "2", "--reason", "\udcff"], ["--tenant", "\udcff"],
    ],
)  # fmt: skip
def test_a_price_that_makes_no_sense_is_refused_and_the_old_one_holds_on(model, arguments, failed):
    before = model.price_at(now())

    assert failed("price_set", "gpt-test", *arguments)[0] in (1, 2)
    assert model.price_at(now()) == before


def test_a_price_of_a_tenant_takes_over_what_is_not_named_from_the_list(model, acme, run):
    run("price_set", "gpt-test", "--tenant", "acme", "--output-per-million", "8", "--discount", "5")
    run("price_set", "gpt-test", "--tenant", "acme", "--drop", "cache_read_input_token_cost")

    own = model.price_at(now(), acme)
    assert own.rates == {"input_cost_per_token": "2.5e-06", "output_cost_per_token": "0.000008"}
    assert own.discount_percent == 5
    assert model.price_at(now()).source == "litellm"


# ---------------------------------------------------------------- prices_check


def test_nothing_odd_is_exit_code_0(model, run):
    assert run("prices_check")[0] == "Nothing is odd."
    assert json.loads(run("prices_check", "--json")[0]) == {"findings": []}


def test_findings_are_exit_code_1(model, run, failed):
    run("price_set", "gpt-test", "--rate", "input_cost_per_token=2.5", "--confirm")

    code, sentence, out, _ = failed("prices_check")
    told = json.loads(failed("prices_check", "--json")[2])

    assert (code, sentence) == (1, "2 findings: 1 ten_times_off, 1 suspicious_unit.")
    assert "gpt-test" in out
    assert [finding["code"] for finding in told["findings"]] == ["ten_times_off", "suspicious_unit"]
    assert run("prices_check", "--only", "gap")[0] == "Nothing is odd."
