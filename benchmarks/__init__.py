"""Speed beside its peers and the raw floor, in one run: `make bench`. Figures are kept in docs/benchmarks.md."""

from __future__ import annotations
