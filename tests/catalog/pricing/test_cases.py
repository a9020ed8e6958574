"""The golden cases that price a call; those that look a name up are in tests of names."""

from __future__ import annotations

import json
from dataclasses import fields
from datetime import datetime
from decimal import Decimal
from pathlib import Path

import pytest

from catalog.pricing import Rates, Usage, cost

HERE = Path(__file__).parents[1]
ENTRIES = json.loads((HERE / "pricing_entries.json").read_text())
ALL = json.loads((HERE / "pricing_cases.json").read_text())["cases"]
CASES = [
    case for case in ALL if case["expect"].get("error") != "unknown_model"
]  # nothing is priced where no name is found
DECIMALS = {field.name for field in fields(Usage) if "Decimal" in str(field.type)}


def read_usage(given):
    usage = {name: Decimal(value) if name in DECIMALS else value for name, value in given.items()}
    if "at" in usage:
        usage["at"] = datetime.fromisoformat(usage["at"])
    return Usage(**usage)


def read_rates(case):
    if case["model"] is None:
        return Rates.flat(**case["rates"]["flat"])
    entry = ENTRIES[case["model"]]
    named = {"source_provider": entry["source_provider"], "mode": entry["mode"], "key": case["model"]}
    return Rates.from_entry(entry["rates"], entry["provider"], **named)


@pytest.mark.parametrize("case", CASES, ids=[case["id"] for case in CASES])
def test_a_call_costs_what_the_golden_case_says(case):
    found = cost(read_rates(case), read_usage(case["usage"]))

    expected = dict(case["expect"])
    assert found.status == expected.pop("status", "priced")
    assert (found.total is None) == (found.status == "unpriced")
    for side, amount in expected.items():
        wanted = Decimal(amount)
        tolerance = abs(wanted) * Decimal("1e-12") if wanted else Decimal("1e-18")
        assert abs(getattr(found, side) - wanted) <= tolerance, side
