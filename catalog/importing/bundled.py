"""The catalog that comes with the project: current models of well-known providers, at their public prices."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from catalog.errors import ImportRefused
from catalog.importing.applying import plan
from catalog.importing.parsing import Parsed, read
from catalog.models import ModelPrice, PriceImport
from controlplane.core.conf import conf

SOURCE = "bundled"
BEGINNING = datetime(2020, 1, 1, tzinfo=UTC)
"""The first instant whose calls can be kept."""
FILE = Path(__file__).resolve().parent.parent / "data" / "models.json"


def read_bundled() -> tuple[Parsed, str]:
    """The bundled file, and the day as of which its prices are, as 2026-11-21."""
    parsed = read(FILE)
    return parsed, str(parsed.meta["about"]["as_of"])


def beginning() -> datetime | None:
    """From when the prices of the bundled catalog hold that is imported now: BEGINNING where there is no price at all, for no
    older ones are known, so that calls which are imported from elsewhere are priced too; else None, which is now."""
    return None if ModelPrice.objects.using(conf.DATABASE).exists() else BEGINNING


def why(as_of: str) -> str:
    """The reason of prices that hold from BEGINNING on."""
    return f"Public prices as of {as_of}; no older ones are known"


def import_bundled() -> PriceImport | None:
    """Import the bundled catalog where there is no price at all. None: there are prices, nothing was done.

    Running twice at once is fine.
    """
    start = beginning()
    if start is None:
        return None
    parsed, as_of = read_bundled()
    try:
        return plan(parsed, source=SOURCE, source_version=as_of, effective_from=start).apply(reason=why(as_of))
    except ImportRefused as error:
        if error.code == "import_stale" and beginning() is None:
            return None
        raise
