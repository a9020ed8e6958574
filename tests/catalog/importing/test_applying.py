from __future__ import annotations

from datetime import timedelta
from decimal import Decimal

import pytest
from django.db import OperationalError, connection, transaction

from auditing.context import audit_context
from auditing.models import AuditLog
from catalog.errors import ImportRefused
from catalog.importing import applying, import_bundled, parse, plan, writing
from catalog.models import AIModel, ModelPrice, PriceImport, Provider
from catalog.providers import set_provider
from controlplane.core.ids import now
from tests.catalog.importing.files import big, chat, dump
from tests.factories import AIModelFactory, ModelAliasFactory, ModelPriceFactory, ProviderFactory, TenantFactory
from tests.races import behind, together

pytestmark = pytest.mark.django_db
committed = pytest.mark.django_db(transaction=True)

DEAR = {"input_cost_per_token": "9e-06"}


def planned(entries, **asked):
    return plan(parse(dump(entries), "p.json"), **asked)


def run(entries, *, only=None, reason="test", allow_shrink=True, **asked):
    return planned(entries, **asked).apply(only, reason=reason, allow_shrink=allow_shrink)


def refused(code):
    return pytest.raises(ImportRefused, check=lambda error: error.code == code)


def price(key, at=None, tenant=None):
    return AIModel.objects.get(key=key).price_at(at or now(), tenant)


def rows():
    """All that an import writes, so that two states can be compared."""
    return [
        sorted(map(str, model.objects.order_by().values_list()))
        for model in (Provider, AIModel, ModelPrice, PriceImport, AuditLog)
    ]


def test_a_plan_writes_nothing():
    before = rows()

    planned(big(20))

    assert rows() == before


def test_a_file_becomes_providers_models_and_prices():
    made = run(
        {
            "gemini/pro": chat(litellm_provider="gemini", source="https://example.org/p"),
            "bare": {"litellm_provider": "xai"},
        }
    )
    model = AIModel.objects.get(key="gemini/pro")
    found = model.price_at(now())

    assert (model.canonical_id, model.origin, model.first_import, model.last_import) == (
        "gemini/pro",
        "import",
        made,
        made,
    )
    assert (model.source_url, model.supports_vision, model.supports_tool_choice) == (
        "https://example.org/p",
        True,
        None,
    )
    assert (found.rates, found.source, found.price_import) == (
        {"input_cost_per_token": "2.5e-06", "output_cost_per_token": "1e-05"}, "litellm", made,
    )  # fmt: skip
    assert (found.version, found.effective_from, found.effective_to) == (made.sha256[:12], made.effective_from, None)
    assert found.input_rate == Decimal("0.0000025")
    assert price("bare") is None
    assert Provider.objects.get(slug="xai").name == "xAI"


def test_the_import_is_recorded_with_what_it_did_and_who_did_it():
    with audit_context(actor="nightly"):
        made = run(
            {"a": chat(), "b": 5, "sample_spec": {"mode": 0.5}},
            source_version="1.2",
            reason="monthly",
            threshold=Decimal(7),
        )

    made.refresh_from_db()
    assert (made.source, made.source_version, made.actor, made.reason) == ("litellm", "1.2", "nightly", "monthly")
    assert (made.threshold, made.meta, made.bytes) == (
        7,
        {"sample_spec": {"mode": 0.5}},
        len(dump({"a": chat(), "b": 5, "sample_spec": {"mode": 0.5}})),
    )
    assert made.started_at <= made.effective_from <= made.applied_at + timedelta(seconds=60)
    assert {name: count for name, count in made.counts.items() if count} == {
        "entries": 2,
        "added": 1,
        "prices": 1,
        "errors": 1,
    }
    assert [(issue["key"], issue["code"], issue["entry"]) for issue in made.report["issues"]] == [
        ("b", "not_an_object", '"b": 5')
    ]
    assert [(entry["key"], entry["change"]) for entry in made.report["entries"]] == [("a", "added")]


def test_every_row_is_audited_with_the_actor_and_a_reason_and_its_rates_can_be_read():
    with audit_context(actor="nightly"):
        run({"a": chat()}, reason="")

    events = {event.resource_type: event for event in AuditLog.objects.filter(actor_id="nightly")}
    assert set(events) == {"cp_catalog_provider", "cp_catalog_aimodel", "cp_catalog_modelprice"}
    assert {event.reason for event in events.values()} == {"Import of p.json"}
    assert events["cp_catalog_modelprice"].after["rates"]["input_cost_per_token"] == "2.5e-06"


def test_a_changed_price_ends_and_a_new_one_follows_without_a_gap():
    first = run({"m": chat(), "n": chat()})
    second = run({"m": chat(input_cost_per_token=3e-06), "n": chat()})

    old, new = ModelPrice.objects.filter(model__key="m").order_by("effective_from")
    assert (old.effective_to, new.effective_from) == (second.effective_from, second.effective_from)
    assert (old.price_import, new.price_import) == (first, second)
    assert ModelPrice.objects.filter(model__key="n").count() == 1


def test_the_same_file_again_writes_the_record_of_the_import_alone():
    entries = big(120)
    run(entries)
    before = rows()

    again = run(entries)
    after = rows()

    assert (again.counts["unchanged"], again.counts["prices"]) == (120, 0)
    assert after[:3] == before[:3]
    assert after[4] == before[4]


def test_more_entries_than_a_batch_are_told_as_they_are_written(monkeypatch):
    monkeypatch.setattr(writing, "BATCH", 10)
    told = []

    found = planned(big(25))
    found.apply(progress=told.append)

    assert told == [10, 20, 25, 35, 45, 49]
    assert found.rows() == 49
    assert (AIModel.objects.count(), ModelPrice.objects.count()) == (25, 24)


def test_the_providers_terms_are_those_of_its_new_prices():
    ProviderFactory(slug="openai", discount_percent=10, margin_percent=5, margin_fixed=Decimal("0.01"))

    run({"m": chat()})

    found = price("m")
    assert (found.discount_percent, found.margin_percent, found.margin_fixed) == (10, 5, Decimal("0.01"))


def test_only_the_ticked_entries_are_written():
    run({"a": chat(), "b": chat(), "c": chat()})

    made = run({"a": chat(mode="responses"), "b": chat(input_cost_per_token=1), "d": chat()}, only=["b"])

    assert price("b").rates["input_cost_per_token"] == "1"
    assert AIModel.objects.get(key="a").mode == "chat"
    assert AIModel.objects.get(key="c").unlisted_at is None
    assert not AIModel.objects.filter(key="d").exists()
    assert price("b").price_import == made


def test_a_ticked_key_that_is_in_no_entry_is_refused():
    with refused("import_invalid"):
        run({"a": chat()}, only=["b"])


def test_prices_may_begin_later():
    later = now() + timedelta(days=3)
    run({"m": chat()})

    run({"m": chat(input_cost_per_token=3e-06)}, effective_from=later)

    assert price("m").rates["input_cost_per_token"] == "2.5e-06"
    assert price("m").effective_to == later
    assert price("m", later).rates["input_cost_per_token"] == "3e-06"


def test_prices_that_begin_in_the_past_need_a_reason():
    earlier = now() - timedelta(days=3)

    with refused("import_invalid"):
        run({"m": chat()}, effective_from=earlier, reason=" ")
    run({"m": chat()}, effective_from=earlier, reason="found late")

    assert price("m", earlier).reason == "found late"


def test_a_price_ends_where_one_that_is_planned_begins():
    soon, later = now() + timedelta(days=1), now() + timedelta(days=9)
    run({"m": chat()}, effective_from=later)

    run({"m": chat(input_cost_per_token=3e-06)}, effective_from=soon)

    assert (price("m", soon).effective_to, price("m", later).effective_from) == (later, later)


def test_an_import_from_the_same_instant_voids_what_the_other_one_set():
    at = now() + timedelta(days=1)
    run({"m": chat()}, effective_from=at)

    run({"m": chat(input_cost_per_token=3e-06)}, effective_from=at)

    assert [found.void for found in ModelPrice.objects.order_by("id")] == [True, False]
    assert price("m", at).rates["input_cost_per_token"] == "3e-06"


def test_a_model_that_loses_its_rates_loses_its_price():
    run({"m": chat(), "n": chat()})

    made = run({"m": {"litellm_provider": "openai", "mode": "chat"}, "n": chat()})

    assert made.counts["ended"] == 1
    assert price("m") is None


def test_a_tenants_file_writes_its_prices_alone(acme):
    run({"m": chat(), "n": chat()})
    before = rows()

    made = run({"m": chat(max_input_tokens=1, input_cost_per_token=1e-06, litellm_provider="azure")}, tenant=acme)

    assert price("m", tenant=acme).rates["input_cost_per_token"] == "1e-06"
    assert price("m").rates["input_cost_per_token"] == "2.5e-06"
    assert made.counts["removed"] == 0
    assert rows()[:2] == before[:2]
    assert AuditLog.objects.filter(tenant_id=acme.pk, resource_type="cp_catalog_modelprice").count() == 1


def test_a_refused_file_writes_nothing():
    run({f"m{n}": chat() for n in range(20)})
    before = rows()

    with refused("import_shrink"):
        run({"m0": chat()}, allow_shrink=False)
    with refused("import_invalid"):
        planned({"m0": chat(), "x": 5}).apply(strict=True)
    with refused("import_invalid"):
        run({"m0": chat()}, reason="r" * 501)

    assert rows() == before


def test_a_diff_that_is_another_one_by_now_is_refused():
    run({"m": chat(), "n": chat()})
    looked_at = planned({"m": chat(input_cost_per_token=3e-06), "n": chat()})
    ModelPrice.objects.supersede(AIModel.objects.get(key="m"), DEAR, reason="meanwhile")
    before = rows()

    with refused("import_stale"):
        looked_at.apply()

    assert rows() == before
    assert looked_at.again().counts["kept"] == 1


def test_a_diff_is_still_good_when_something_else_changed():
    run({"m": chat(), "n": chat()})
    looked_at = planned({"m": chat(input_cost_per_token=3e-06), "n": chat()})
    ModelPriceFactory(model=AIModelFactory(key="other"))

    looked_at.apply()

    assert price("m").rates["input_cost_per_token"] == "3e-06"


def test_an_interruption_leaves_nothing(monkeypatch):
    monkeypatch.setattr(writing, "BATCH", 10)
    before = rows()

    def interrupt(done):
        if done > 30:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), transaction.atomic():
        planned(big(25)).apply(progress=interrupt)

    assert rows() == before


@committed
def test_a_lost_connection_leaves_nothing(monkeypatch, other_connection):
    monkeypatch.setattr(writing, "BATCH", 10)
    before = rows()
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        [backend] = cursor.fetchone()

    def pull_the_plug(done):
        if done > 30:
            other_connection.execute("SELECT pg_terminate_backend(%s, 5000)", [backend])

    with pytest.raises(OperationalError):
        planned(big(25)).apply(progress=pull_the_plug)
    connection.close()

    assert rows() == before


@committed
def test_of_two_imports_at_once_the_second_waits_and_is_told_that_its_diff_is_another_one_by_now():
    first, second = planned(big(40)), planned(big(40))

    outcomes = together(first.apply, second.apply)

    assert sorted(type(outcome).__name__ for outcome in outcomes) == ["ImportRefused", "PriceImport"]
    assert [outcome.code for outcome in outcomes if isinstance(outcome, ImportRefused)] == ["import_stale"]
    assert (AIModel.objects.count(), ModelPrice.objects.count(), PriceImport.objects.count()) == (40, 39, 1)


@committed
def test_an_import_that_waits_too_long_for_another_one_is_refused(monkeypatch, other_connection):
    monkeypatch.setattr(applying, "WAIT", "10ms")
    with other_connection.transaction():
        other_connection.execute("SELECT pg_advisory_xact_lock(hashtext('cp_catalog_import'))")

        with refused("import_running"):
            run({"m": chat()})

    assert not PriceImport.objects.exists()
    run({"m": chat()})
    with connection.cursor() as cursor:
        cursor.execute("SHOW lock_timeout")
        assert cursor.fetchone() != ("10ms",)


def set_by_hand(at=None):
    """Somebody who does not wait for imports; as progress of one, while its prices are not yet written."""

    def progress(done):
        if done == 1:
            model = AIModel.objects.get(key="m")
            together(lambda: ModelPrice.objects.supersede(model, DEAR, effective_from=at, reason="contract"))

    return progress


@committed
def test_a_price_that_a_person_sets_while_an_import_writes_follows_the_imported_one():
    run({"m": chat()})

    planned({"m": chat(input_cost_per_token=3e-06), "new": chat()}).apply(progress=set_by_hand())

    assert price("m").rates == DEAR
    before = ModelPrice.objects.get(model__key="m", effective_to=price("m").effective_from)
    assert before.rates["input_cost_per_token"] == "3e-06"


@committed
def test_a_price_that_a_person_sets_from_before_while_an_import_writes_is_not_overwritten():
    run({"m": chat()}, effective_from=now() - timedelta(days=2))
    looked_at = planned({"m": chat(input_cost_per_token=3e-06), "new": chat()})

    with refused("import_stale"):
        looked_at.apply(progress=set_by_hand(now() - timedelta(days=1)))

    assert price("m").rates == DEAR
    assert not AIModel.objects.filter(key="new").exists()


@committed
def test_other_terms_that_are_set_while_an_import_writes_hold_for_what_it_wrote(other_connection):
    run({"m": chat(), "n": chat()})
    diff = planned({"m": chat(input_cost_per_token=3e-06), "n": chat(input_cost_per_token=3e-06)})

    _, _, followed = behind(
        diff.apply, lambda: set_provider("openai", discount_percent=Decimal(10), reason="Volume"), other_connection
    )

    assert followed == 2
    assert {price.discount_percent for price in ModelPrice.objects.in_force()} == {10}


@committed
def test_a_new_price_has_the_terms_that_were_set_while_its_import_began(other_connection):
    run({"m": chat()})
    diff = planned({"m": chat(), "n": chat()})

    behind(
        lambda: set_provider("openai", margin_percent=Decimal(10), reason="Volume"),
        lambda: diff.apply(["n"]),
        other_connection,
    )

    assert price("n").margin_percent == 10


@pytest.mark.parametrize(("one", "other"), [("ΑΣ", "ας"), ("ΑΣ", "ασ"), ("İ", "i"), ("ẞ", "ß"), ("K", "k")])
def test_keys_that_are_one_for_the_database_are_taken_from_neither_and_block_no_others(one, other):
    with connection.cursor() as cursor:
        cursor.execute("SELECT lower(%s) = lower(%s)", [f"m-{one}", f"m-{other}"])
        [same] = cursor.fetchone()

    made = run({f"m-{one}": chat(), f"m-{other}": chat(), "good": chat()})

    assert AIModel.objects.count() == made.counts["added"] == (1 if same else 3)


def test_an_alias_made_meanwhile_makes_the_diff_another_one():
    looked_at = planned({"quick": chat(), "other": chat()})
    ModelAliasFactory(alias="quick", model=AIModelFactory())

    with refused("import_stale"):
        looked_at.apply()

    assert not AIModel.objects.filter(key__in=["quick", "other"]).exists()


def test_a_file_of_thousands_of_models_is_imported_and_then_unchanged():
    entries = big(4_500)

    first, again = run(entries), planned(entries)

    assert (first.counts["added"], first.counts["prices"]) == (4_500, 4_410)
    assert (AIModel.objects.count(), ModelPrice.objects.count()) == (4_500, 4_410)
    assert (again.counts["unchanged"], again.rows()) == (4_500, 0)


def test_the_bundled_catalog_is_imported_once_where_there_is_no_price():
    made = import_bundled()

    assert (made.source, made.counts["errors"], made.counts["warnings"]) == ("bundled", 0, 0)
    assert 40 <= made.counts["added"] <= 60
    assert made.counts["prices"] == made.counts["added"]
    assert made.source_version == made.meta["about"]["as_of"]
    assert import_bundled() is None
    assert PriceImport.objects.count() == 1


def test_every_bundled_model_names_the_page_of_its_price():
    import_bundled()

    assert not AIModel.objects.exclude(source_url__startswith="https://").exists()
    assert not AIModel.objects.filter(mode="").exists()
    assert {"openai", "anthropic", "gemini", "mistral", "deepseek", "xai", "cohere"} <= set(
        Provider.objects.values_list("slug", flat=True)
    )


def test_the_bundled_catalog_gives_way_to_a_price_file():
    import_bundled()
    keys = list(AIModel.objects.values_list("key", flat=True))

    found = planned({key: chat() for key in keys[:5]})
    found.apply(allow_shrink=True)

    assert found.counts["removed"] == 0
    assert {AIModel.objects.get(key=key).last_import.source for key in keys[:5]} == {"litellm"}
    assert AIModel.objects.get(key=keys[9]).last_import.source == "bundled"


@committed
def test_the_bundled_catalog_asked_for_twice_at_once_is_imported_once():
    outcomes = together(import_bundled, import_bundled)

    assert sorted(outcome is None for outcome in outcomes) == [False, True], outcomes
    assert PriceImport.objects.count() == 1


def test_another_tenants_prices_are_none_of_an_imports_business(acme):
    run({"m": chat()})
    run({"m": chat(input_cost_per_token=1e-06)}, tenant=acme)
    globex = TenantFactory(slug="globex")

    run({"m": chat(input_cost_per_token=5e-06)})

    assert price("m", tenant=acme).rates["input_cost_per_token"] == "1e-06"
    assert price("m", tenant=globex).rates["input_cost_per_token"] == "5e-06"
