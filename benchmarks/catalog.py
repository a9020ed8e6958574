"""The catalog beside its peers: prices equal to LiteLLM's and faster, the import, look-ups and search."""

from __future__ import annotations

from pathlib import Path

from benchmarks import catalog_comparison, catalog_imports, catalog_lookups, catalog_oracle, catalog_speed


def run(prices: Path | None = None) -> bool:
    """prices: a price file; None: the one that LiteLLM ships."""
    file = prices.read_bytes() if prices else catalog_oracle.bundled()
    results = [
        catalog_comparison.show(catalog_comparison.compare(file)),
        catalog_speed.run(file),
        catalog_imports.run(file),
        catalog_lookups.run(),
    ]
    return all(results)
