"""The catalog that comes with the project: current models of well-known providers, at their public prices."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

from catalog.errors import ImportRefused
from catalog.importing.applying import plan
from catalog.importing.parsing import Parsed, read
from catalog.models import ModelPrice, PriceImport
from controlplane.core.conf import conf

SOURCE = "bundled"
FILE = Path(__file__).resolve().parent.parent / "data" / "models.json"


def read_bundled() -> tuple[Parsed, str]:
    """The bundled file, and the day as of which its prices are, as 2026-11-21."""
    parsed = read(FILE)
    return parsed, str(parsed.meta["about"]["as_of"])


def import_bundled(effective_from: datetime | None = None, reason: str = "") -> PriceImport | None:
    """Import the bundled catalog where there is no price at all. None: there are prices, nothing was done.

    effective_from (aware): from when they hold, None = now; one in the past needs a reason. Running twice at once is fine.
    """
    prices = ModelPrice.objects.using(conf.DATABASE)
    if prices.exists():
        return None
    parsed, as_of = read_bundled()
    try:
        return plan(parsed, source=SOURCE, source_version=as_of, effective_from=effective_from).apply(reason=reason)
    except ImportRefused as error:
        if error.code == "import_stale" and prices.exists():
            return None
        raise
