"""None: the benchmark makes the tables, once those that the peers point at are there."""

from __future__ import annotations
