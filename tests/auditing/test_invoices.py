"""What a provider bills beside what the requests cost by our prices."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime
from decimal import Decimal
from io import StringIO

import pytest
from django.core.management import CommandError, call_command

from auditing.errors import InvalidInvoice
from auditing.ingest import LOG
from auditing.invoices import Delta, compare, read_invoice
from auditing.models import InferenceRequest
from controlplane.core import partitions
from controlplane.core.ids import now
from tests.factories import InferenceRequestFactory

pytestmark = pytest.mark.django_db
MARCH, APRIL = date(2026, 3, 1), date(2026, 4, 1)


@pytest.fixture
def invoice(tmp_path):
    """Write an invoice of lines under a head; returns its path."""

    def write(*lines, head="provider,model,month,cost"):
        path = tmp_path / "invoice.csv"
        path.write_bytes("\n".join([head, *lines, ""]).encode())
        return path

    return write


def fact_of(tenant, at=datetime(2026, 3, 10, tzinfo=UTC), **values):
    partitions.ensure(LOG, now(), months=[partitions.month_of(at)])
    return InferenceRequestFactory(**{"tenant_id": tenant.pk, "created_at": at, "cost": Decimal("0.1")} | values)


def compared(path, **asked):
    return compare(read_invoice(path), **asked)


def test_a_line_is_beside_what_the_requests_of_all_tenants_cost(acme, globex, invoice):
    fact_of(acme)
    fact_of(globex, cost=Decimal("0.000000000001"))
    fact_of(acme, cost=None, pricing_status="unpriced")

    [delta] = compared(invoice("openai,openai/gpt-4o,2026-03,0.25"))

    assert delta == Delta("openai", "openai/gpt-4o", MARCH, Decimal("0.25"), Decimal("0.100000000001"), 1)
    assert delta.difference == Decimal("0.149999999999")


def test_one_tenant_alone_can_be_compared(acme, globex, invoice):
    fact_of(acme)
    fact_of(globex, cost=Decimal(5))

    [delta] = compared(invoice("openai,gpt-4o,2026-03,0.1"), tenant_id=acme.pk)

    assert (delta.ours, delta.difference) == (Decimal("0.1"), 0)


def test_what_the_invoice_does_not_name_is_there_for_its_providers_and_months(acme, invoice):
    fact_of(acme, model="openai/o9")
    fact_of(acme, model="anthropic/claude", provider="anthropic")
    fact_of(acme, datetime(2026, 4, 2, tzinfo=UTC))

    deltas = compared(invoice("openai,gpt-4o,2026-03,3"))

    assert [(delta.model, delta.month, delta.invoiced, delta.ours) for delta in deltas] == [
        ("openai/gpt-4o", MARCH, 3, 0), ("openai/o9", MARCH, 0, Decimal("0.1")),
    ]  # fmt: skip


def test_months_are_those_of_utc_by_which_providers_bill(acme, invoice):
    fact_of(acme, datetime(2026, 3, 31, 23, 30, tzinfo=UTC), time_zone="Europe/Berlin", local_date=APRIL)

    [march, april] = compared(invoice("openai,gpt-4o,2026-04,0", "openai,gpt-4o,2026-03,0"))

    assert (march.month, march.ours, april.month, april.ours) == (MARCH, Decimal("0.1"), APRIL, 0)


def test_lines_of_one_model_and_month_add_up_and_a_credit_is_negative(acme, invoice):
    found = read_invoice(
        invoice("openai,gpt-4o,2026-03,3.10", "openai,openai/gpt-4o,2026-03,-1", "openai,o9,2026-03,1e2")
    )

    assert found == {
        ("openai", "openai/gpt-4o", MARCH): Decimal("2.10"), ("openai", "openai/o9", MARCH): Decimal(100),
    }  # fmt: skip


def test_other_columns_a_mark_and_the_order_do_not_matter(invoice):
    path = invoice('"3.5",x,2026-03, gpt-4o ,openai', head="\ufeffcost,note,month,model,provider")

    assert read_invoice(path) == {("openai", "openai/gpt-4o", MARCH): Decimal("3.5")}


@pytest.mark.parametrize(
    ("line", "word"),
    [
        ("openai,gpt-4o,2026-13,1", "line 2: '2026-13' is no month"),
        ("openai,gpt-4o,March,1", "no month"),
        ("openai,gpt-4o,2019-12,1", "no month of the logs"),
        ("openai,gpt-4o,2026-03,", "no amount"),
        ("openai,gpt-4o,2026-03,NaN", "no amount"),
        ("openai,gpt-4o,2026-03,Infinity", "no amount"),
        ("openai,gpt-4o,2026-03,1e12", "no amount"),
        ('openai,gpt-4o,2026-03,"1,5"', "no amount"),
        ("openai,,2026-03,1", "must both be given"),
        (",gpt-4o,2026-03,1", "must both be given"),
        ("openai", "must both be given"),
    ],
)
def test_a_line_that_is_none_is_named(invoice, line, word):
    with pytest.raises(InvalidInvoice, match=word) as caught:
        read_invoice(invoice(line))
    assert caught.value.code == "invalid_invoice"


@pytest.mark.parametrize(
    "content", [b"", b"provider,model,month\n", b"\xff\xfe\x00", b"provider,model,month,cost\n", b"a\x00b\n"]
)
def test_a_file_that_is_no_invoice_is_refused(tmp_path, content):
    path = tmp_path / "invoice.csv"
    path.write_bytes(content)

    with pytest.raises(InvalidInvoice):
        read_invoice(path)


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(InvalidInvoice, match="cannot be read"):
        read_invoice(tmp_path / "nowhere.csv")


def test_nothing_is_written_by_comparing(acme, invoice):
    fact = fact_of(acme)

    compared(invoice("openai,gpt-4o,2026-03,9"))

    assert list(InferenceRequest.objects.values_list("pk", "cost")) == [(fact.pk, Decimal("0.1"))]


# --- the command


def run(*arguments):
    out, err = StringIO(), StringIO()
    call_command("usage_reconcile", *map(str, arguments), stdout=out, stderr=err)
    return out.getvalue().strip()


def failed(*arguments):
    out = StringIO()
    with pytest.raises(CommandError) as caught:
        call_command("usage_reconcile", *map(str, arguments), stdout=out, stderr=StringIO())
    assert "\n" not in str(caught.value)
    return caught.value.returncode, str(caught.value), out.getvalue()


def test_the_command_shows_each_line_beside_ours(acme, invoice):
    fact_of(acme)

    out = run("--invoice", invoice("openai,gpt-4o,2026-03,0.1"))

    assert out.splitlines()[1].split() == [
        "2026-03", "openai", "openai/gpt-4o", "0.1", "0.100000000000", "0.000000000000", "0",
    ]  # fmt: skip


def test_a_difference_is_a_finding(acme, globex, invoice):
    fact_of(acme)
    fact_of(globex, cost=Decimal(2))
    path = invoice("openai,gpt-4o,2026-03,0.3")

    code, said, out = failed("--invoice", path, "--tenant", "acme", "--json")

    assert (code, said) == (1, "1 of 1 lines differ.")
    assert json.loads(out) == [
        {
            "month": "2026-03", "provider": "openai", "model": "openai/gpt-4o", "invoiced": "0.3", "ours": "0.100000000000",
            "difference": "0.200000000000", "unpriced": 0,
        }
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("more", "code", "word"),
    [(["--fix"], 2, "leave out"), (["--from", "2026-03-01"], 2, "leave out"), (["--tenant", "nobody"], 2, "no tenant")],
)
def test_an_invoice_is_compared_as_a_whole(acme, invoice, more, code, word):
    found, said, out = failed("--invoice", invoice("openai,gpt-4o,2026-03,0.3"), *more)

    assert (found, out) == (code, "")
    assert word in said


def test_the_command_names_a_bad_line(acme, invoice, tmp_path):
    code, said, _ = failed("--invoice", invoice("openai,gpt-4o,March,1"))
    assert (code, said.startswith("invoice.csv, line 2: ")) == (2, True)
    code, said, _ = failed("--invoice", tmp_path / "nowhere.csv")
    assert (code, "cannot be read" in said) == (2, True)
