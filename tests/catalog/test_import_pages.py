"""A price file in the browser: upload, look at its diff, apply it or some of it; and what is kept of an import."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest
from django.contrib.auth.models import Permission
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import IntegrityError, connection, transaction
from django.test import Client
from django.urls import reverse
from django.utils.html import escape

from auditing.models import AuditLog
from catalog.models import AIModel, ModelPrice, PriceImport, PriceImportDraft
from controlplane.core.ids import now
from tests.admin_rows import Page
from tests.catalog.importing.files import big, chat, dump
from tests.factories import AIModelFactory, ModelPriceFactory, OperatorFactory, PriceImportDraftFactory
from tests.races import together

pytestmark = pytest.mark.django_db

UPLOAD = reverse("admin:cp_catalog_priceimport_upload")
DRAFT = reverse("admin:cp_catalog_priceimport_draft")
LIST = reverse("admin:cp_catalog_priceimport_changelist")
HOW = {"source": "litellm", "source_version": "", "tenant": "", "effective_from": "", "threshold": "20"}
DEARER = chat(input_cost_per_token=5e-06)


@pytest.fixture
def operator(client):
    client.force_login(OperatorFactory())
    return client


def upload(client, entries, **asked):
    data = entries if isinstance(entries, bytes) else dump(entries)
    file = SimpleUploadedFile("prices.json", data, "application/json")
    return client.post(UPLOAD, HOW | asked | {"file": file})


def look(client, **query):
    answer = client.get(DRAFT, query)
    assert answer.status_code == 200
    assert Page(answer).faults == []
    return answer


def apply(client, digest=None, *, ticked=None, **typed):
    digest = PriceImportDraft.objects.get().digest if digest is None else digest
    button = {"_all": "x"} if ticked is None else {"_ticked": "x", "key": ticked}
    return client.post(DRAFT, {"digest": digest, "reason": "monthly file"} | button | typed)


def imported(client, entries, **asked):
    """Upload and apply a file whole."""
    assert upload(client, entries, **asked).status_code == 302
    answer = apply(client, allow_shrink="on")
    assert answer.status_code == 302
    return answer


def keys(answer):
    return [entry.key for entry in answer.context["view"].entries]


def tabs(answer):
    return {tab["label"]: tab["count"] for tab in answer.context["view"].tabs}


# ---------------------------------------------------------------- from the file to its diff


def test_an_upload_shows_what_would_change_and_writes_nothing_of_it(operator):
    assert upload(operator, {"gpt": chat()}).url == DRAFT

    page = look(operator)

    assert tabs(page) == {"All": "1", "Added": "1"}
    assert "2.50" in page.content.decode()
    assert "per 1M tokens" in page.content.decode()
    assert not AIModel.objects.exists()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"{", "import_unreadable"),
        (b"\xff\xfe", "import_unreadable"),
        (b"[1]", "import_unreadable"),
        (b"", "empty"),
        (b"{}", "import_invalid"),
    ],
)
def test_what_is_no_price_file_is_refused_beside_the_field(operator, content, said):
    answer = upload(operator, content)

    assert answer.status_code == 422
    assert said in str(answer.context["form"].errors["file"])
    assert answer.context["form"]["threshold"].value() == "20"
    assert not PriceImportDraft.objects.exists()


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("source", ""), ("source", "x" * 101), ("threshold", "x"), ("threshold", "-1"), ("threshold", "NaN"),
        ("tenant", "nobody"), ("effective_from", "soon"), ("source_version", "x" * 201),
    ],
)  # fmt: skip
def test_a_comparison_that_cannot_be_made_is_refused_where_it_was_typed(operator, field, value):
    answer = upload(operator, {"gpt": chat()}, **{field: value})

    assert answer.status_code == 422
    assert list(answer.context["form"].errors) == [field]


def test_the_source_of_what_people_enter_is_no_source_of_a_file(operator):
    assert "import_invalid" in str(upload(operator, {"gpt": chat()}, source="manual").context["form"].errors)


def test_a_file_that_is_too_large_is_not_read(operator, monkeypatch):
    monkeypatch.setattr("catalog.admin.importforms.MAX_BYTES", 10)

    answer = upload(operator, {"gpt": chat()})

    assert "larger than" in str(answer.context["form"].errors["file"])


def test_a_second_file_takes_the_place_of_the_first(operator):
    upload(operator, {"one": chat()})
    upload(operator, {"two": chat()})

    assert keys(look(operator)) == ["two"]
    assert PriceImportDraft.objects.count() == 1


def test_each_person_sees_the_own_file_alone(operator):
    upload(operator, {"mine": chat()})
    other = Client()
    other.force_login(OperatorFactory())

    assert other.get(DRAFT).url == UPLOAD
    upload(other, {"theirs": chat()})

    assert (keys(look(operator)), keys(look(other))) == (["mine"], ["theirs"])


def test_a_file_waits_for_a_day_and_no_longer(operator):
    upload(operator, {"gpt": chat()})
    PriceImportDraft.objects.update(created_at=now() - timedelta(days=1))

    answer = operator.get(DRAFT, follow=True)
    assert answer.redirect_chain[-1][0] == UPLOAD
    assert "No file waits for you" in answer.content.decode()

    other = Client()
    other.force_login(OperatorFactory())
    upload(other, {"other": chat()})
    assert PriceImportDraft.objects.count() == 1


def test_the_upload_page_leads_back_to_a_file_that_waits(operator):
    upload(operator, {"gpt": chat()})

    assert DRAFT in Page(operator.get(UPLOAD)).links()


def test_who_may_not_import_sees_no_way_there(client):
    user = OperatorFactory(is_superuser=False)
    user.user_permissions.add(*permission("view_priceimport"))
    client.force_login(user)

    assert UPLOAD not in Page(client.get(LIST)).links()
    for url in (UPLOAD, DRAFT):
        assert client.get(url).status_code == client.post(url, HOW).status_code == 403


# ---------------------------------------------------------------- reading a diff


@pytest.fixture
def changed(operator):
    """A diff with something of each kind."""
    imported(operator, {"up": chat(), "down": chat(), "gone": chat(), "same": chat(), "wide": chat(), "hand": chat()})
    hand = AIModel.objects.get(key="hand")
    close = {"input_cost_per_token": "2.4e-06", "output_cost_per_token": "1e-05"}
    ModelPrice.objects.supersede(hand, close, reason="by hand")
    file = {
        "up": chat(input_cost_per_token=1e-04), "down": chat(output_cost_per_token=9e-06), "same": chat(), "hand": chat(),
        "wide": chat(max_input_tokens=256000), "new": chat(input_cost_per_token=0.5), "bad": chat(input_cost_per_token="x"),
    }  # fmt: skip
    assert upload(operator, file).status_code == 302
    return operator


def test_what_is_flagged_stands_first_and_everything_is_counted(changed):
    page = look(changed)

    assert tabs(page) == {
        "All": "6", "Flagged": "1", "Changed": "3", "Added": "1", "Removed": "1", "Kept": "1", "Errors": "1", "Warnings": "1",
    }  # fmt: skip
    assert keys(page)[:2] == ["up", "down"]
    assert page.context["view"].entries[0].percent == "+3,900.0 %"


@pytest.mark.parametrize(
    ("show", "found"),
    [
        ("flagged", ["up"]), ("changed", ["up", "down", "wide"]), ("added", ["new"]), ("removed", ["gone"]), ("kept", ["hand"]),
        ("nonsense", ["up", "down", "hand", "gone", "new", "wide"]),
    ],
)  # fmt: skip
def test_a_diff_is_filtered_by_what_becomes_of_an_entry(changed, show, found):
    assert keys(look(changed, show=show)) == found


@pytest.mark.parametrize(
    ("sort", "first"), [("rise", "up"), ("fall", "down"), ("key", "down"), ("", "up"), ("nonsense", "up")]
)
def test_a_diff_is_sorted_by_how_far_prices_moved(changed, sort, first):
    assert keys(look(changed, sort=sort))[0] == first


def test_a_diff_is_searched_by_key(changed):
    assert keys(look(changed, q="OW")) == ["down"]
    assert "No entry has this in its key" in look(changed, q="\x00<b>").content.decode()


def test_a_field_is_shown_as_people_count_it(changed):
    up = look(changed).context["view"].entries[0]
    wide = look(changed, q="wide").context["view"].entries[0]

    assert [(f.label, f.old, f.new, f.per, f.percent) for f in up.first] == [
        ("Input", "2.50", "100.00", "per 1M tokens", "+3,900.0 %")
    ]
    assert [(f.label, f.old, f.new, f.per) for f in wide.first] == [("max input tokens", "128000", "256000", "")]


def test_an_error_is_shown_with_key_field_value_code_and_the_entry_as_it_is(changed):
    page = look(changed, show="errors")

    (issue,) = page.context["view"].issues
    assert (issue["key"], issue["field"], issue["code"], issue["value"]) == (
        "bad",
        "input_cost_per_token",
        "bad_rate",
        '"x"',
    )
    assert escape('"litellm_provider": "openai"') in page.content.decode()


def test_a_doubt_about_a_price_stands_beside_it(changed):
    assert look(changed, q="new").context["view"].entries[0].doubts == ["suspicious unit"]


def test_a_kept_price_cannot_be_chosen(changed):
    assert [entry.can_apply for entry in look(changed, show="kept").context["view"].entries] == [False]


def test_a_large_diff_comes_in_pages(operator):
    upload(operator, big(120))

    first, last = look(operator), look(operator, page="3")

    assert len(keys(first)) == 50
    assert len(keys(last)) == 20
    assert first.context["view"].next == "?page=2"
    assert last.context["view"].previous == "?page=2"
    assert keys(look(operator, page="999")) == keys(last)
    assert keys(look(operator, page="x")) == keys(look(operator, page="-1")) == keys(first)


def test_hostile_text_in_a_file_stays_text(operator):
    upload(operator, {"<script>alert(1)</script>": chat(mode="<b>", source="javascript:alert(1)")})

    assert "<script>alert" not in look(operator).content.decode()


def test_a_diff_is_compared_again_otherwise(changed):
    answer = changed.post(DRAFT, HOW | {"threshold": "5", "_compare": "x"})

    assert answer.status_code == 302
    assert tabs(look(changed))["Flagged"] == "2"
    refused = changed.post(DRAFT, HOW | {"threshold": "x", "_compare": "x"})
    assert refused.status_code == 422
    assert tabs(look(changed))["Flagged"] == "2"


def test_a_tenants_own_file_changes_no_model(operator, acme):
    imported(operator, {"gpt": chat()})

    upload(operator, {"gpt": DEARER}, tenant="acme")
    apply(operator)

    assert ModelPrice.objects.in_force().get(tenant=acme).rates["input_cost_per_token"] == "5e-06"
    assert ModelPrice.objects.listed().in_force().get().rates["input_cost_per_token"] == "2.5e-06"


# ---------------------------------------------------------------- applying


def test_all_is_applied_with_a_reason_and_the_file_is_gone(operator):
    upload(operator, {"gpt": chat(), "mini": chat()})

    answer = apply(operator)

    made = PriceImport.objects.get()
    assert answer.url == reverse("admin:cp_catalog_priceimport_change", args=[made.pk])
    assert made.actor.endswith("@example.org")
    assert made.reason == "monthly file"
    assert ModelPrice.objects.count() == 2
    assert not PriceImportDraft.objects.exists()
    price = ModelPrice.objects.first()
    assert AuditLog.objects.filter(resource_id=str(price.pk), reason="monthly file").exists()


def test_what_is_ticked_is_applied_and_the_rest_stays_to_look_at(operator):
    upload(operator, {"gpt": chat(), "mini": chat()})

    answer = apply(operator, ticked=["gpt"])

    assert answer.url == DRAFT
    assert [model.key for model in AIModel.objects.all()] == ["gpt"]
    assert keys(look(operator)) == ["mini"]
    assert apply(operator, ticked=["mini"]).url != DRAFT
    assert not PriceImportDraft.objects.exists()


@pytest.mark.parametrize(
    ("typed", "said"),
    [({"reason": " "}, "Say why"), ({"reason": "x" * 501}, "at most 500"), ({"digest": ""}, "required")],
)
def test_an_application_that_lacks_something_writes_nothing_and_keeps_the_ticks(operator, typed, said):
    upload(operator, {"gpt": chat()})

    answer = apply(operator, **{"ticked": ["gpt"], **typed})

    assert answer.status_code == 422
    assert said in str(answer.context["apply"].errors)
    assert 'value="gpt" aria-label="gpt" checked' in answer.content.decode()
    assert not AIModel.objects.exists()


def test_nothing_ticked_is_no_application(operator):
    upload(operator, {"gpt": chat()})

    answer = apply(operator, ticked=[])

    assert "Tick at least one entry" in answer.content.decode()
    assert not AIModel.objects.exists()


def test_a_key_that_is_not_in_the_file_is_refused(operator):
    upload(operator, {"gpt": chat()})

    answer = apply(operator, ticked=["somebody's"])

    assert "import_invalid" in answer.content.decode()
    assert not AIModel.objects.exists()


def test_a_diff_that_is_no_longer_true_is_shown_anew_and_not_applied(operator):
    imported(operator, {"gpt": chat()})
    upload(operator, {"gpt": DEARER})
    digest = PriceImportDraft.objects.get().digest
    ModelPrice.objects.supersede(
        AIModel.objects.get(), {"input_cost_per_token": "4e-06"}, reason="meanwhile", source="litellm"
    )

    answer = apply(operator, digest)

    assert "(import_stale)" in answer.content.decode()
    assert ModelPrice.objects.in_force().get().reason == "meanwhile"
    assert look(operator).context["view"].entries[0].first[0].old == "4.00"
    assert apply(operator).status_code == 302


def test_the_form_of_another_file_applies_nothing(operator):
    upload(operator, {"gpt": chat()})
    digest = PriceImportDraft.objects.get().digest
    upload(operator, {"gpt": DEARER})

    assert "(import_stale)" in apply(operator, digest).content.decode()
    assert not AIModel.objects.exists()


def test_a_file_in_which_many_models_are_missing_needs_a_tick(operator):
    imported(operator, big(40))
    upload(operator, big(20))

    assert "import_shrink" in apply(operator).content.decode()
    assert not AIModel.objects.exclude(unlisted_at=None).exists()
    assert apply(operator, allow_shrink="on").status_code == 302
    assert AIModel.objects.exclude(unlisted_at=None).count() == 20


def test_prices_that_begin_later_are_planned(operator):
    upload(operator, {"gpt": chat()}, effective_from="2099-01-01T00:00")

    apply(operator)

    assert ModelPrice.objects.get().effective_from == datetime(2099, 1, 1, tzinfo=UTC)


def test_a_file_is_thrown_away(operator):
    upload(operator, {"gpt": chat()})

    assert operator.post(DRAFT, {"_discard": "x"}).url == LIST
    assert not PriceImportDraft.objects.exists()
    assert not AIModel.objects.exists()


def test_a_tenant_that_is_gone_is_said(operator, acme):
    imported(operator, {"gpt": chat()})
    upload(operator, {"gpt": DEARER}, tenant="acme")
    PriceImportDraft.objects.update(owner="nobody")

    assert "There is no tenant" in apply(operator).content.decode()


@pytest.mark.django_db(transaction=True)
def test_of_two_who_apply_at_once_one_looks_again():
    clients = [Client(), Client()]
    for client in clients:
        client.force_login(OperatorFactory())
        upload(client, {"gpt": chat()})
    digest = set(PriceImportDraft.objects.values_list("digest", flat=True)).pop()

    answers = together(*(lambda client=client: apply(client, digest) for client in clients))

    assert sorted(answer.status_code for answer in answers) == [302, 422]
    assert (PriceImport.objects.count(), ModelPrice.objects.count(), PriceImportDraft.objects.count()) == (1, 1, 1)
    assert PriceImportDraft.objects.get().diff["entries"] == []


# ---------------------------------------------------------------- what is kept


def test_an_import_says_what_it_changed_and_which_prices_it_made(changed):
    apply(changed, allow_shrink="on")
    made = PriceImport.objects.latest("applied_at")

    page = changed.get(reverse("admin:cp_catalog_priceimport_change", args=[made.pk]))

    assert Page(page).faults == []
    assert page.context["made"] == "3"
    assert "prices.json" in page.content.decode()
    assert tabs(page)["Errors"] == "1"
    prices = changed.get(page.context["list_url"])
    assert {str(row.model) for row in prices.context["cl"].result_list} == {"up", "down", "new"}
    assert Page(page).writing_inputs() == []


def test_the_list_of_imports_counts_and_loads_no_report(changed):
    apply(changed, allow_shrink="on")

    page = changed.get(LIST)
    rows = page.context["cl"].result_list

    assert [(row.counts["changed"], row.counts["errors"]) for row in rows] == [(3, 1), (0, 0)]
    assert all("report" in row.get_deferred_fields() for row in rows)


def test_a_report_of_another_shape_is_still_a_page(operator):
    made = PriceImport.objects.create(
        source="elsewhere", sha256="a" * 64, bytes=1, started_at=now(), effective_from=now(), threshold=20
    )

    assert operator.get(reverse("admin:cp_catalog_priceimport_change", args=[made.pk])).status_code == 200


# ---------------------------------------------------------------- what the database refuses


def refused(name):
    return pytest.raises(IntegrityError, match=rf"{name}\b")


def test_a_person_has_one_file_that_waits():
    draft = PriceImportDraftFactory()

    with refused("cp_catalog_priceimportdraft_one_each"), transaction.atomic():
        PriceImportDraftFactory(uploaded_by=draft.uploaded_by)


def test_a_file_that_waits_is_bounded():
    draft = PriceImportDraftFactory()

    with refused("cp_catalog_priceimportdraft_content_fits"), transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(
            "UPDATE cp_catalog_priceimportdraft SET content = convert_to(repeat('a', 67108865), 'UTF8') WHERE id = %s",
            [draft.pk],
        )


def test_the_diff_of_a_file_that_waits_is_an_object():
    draft = PriceImportDraftFactory()

    with refused("cp_catalog_priceimportdraft_diff_is_object"), transaction.atomic():
        PriceImportDraft.objects.filter(pk=draft.pk).update(diff=json.loads("[]"))


def test_a_price_of_an_import_leads_to_it(operator):
    imported(operator, {"gpt": chat()})
    made = PriceImport.objects.get()

    page = operator.get(reverse("admin:cp_catalog_modelprice_change", args=[ModelPrice.objects.get().pk]))

    assert reverse("admin:cp_catalog_priceimport_change", args=[made.pk]) in Page(page).links()
    assert operator.get(f"{reverse('admin:cp_catalog_modelprice_changelist')}?import=x").status_code == 200


def permission(codename):
    return Permission.objects.filter(codename=codename)


def test_a_price_by_hand_is_kept_by_the_next_file(operator):
    imported(operator, {"gpt": chat()})
    ModelPriceFactory(model=AIModelFactory(key="own"))
    model = AIModel.objects.get(key="gpt")
    ModelPrice.objects.supersede(model, {"input_cost_per_token": "1e-06"}, reason="contract")

    imported(operator, {"gpt": DEARER})

    assert ModelPrice.objects.in_force().get(model=model).reason == "contract"
