from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from django.apps import AppConfig
from django.core.checks import CheckMessage, Tags, register
from django.core.checks import Warning as CheckWarning
from django.db import connections

from controlplane.core.conf import conf


@register(Tags.compatibility)
def check_atomic_requests(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> Iterable[CheckMessage]:
    """A reservation made in a transaction keeps its counters locked until that ends: a view's, until the answer is out."""
    if connections.settings.get(conf.DATABASE, {}).get("ATOMIC_REQUESTS"):
        yield CheckWarning(
            f"ATOMIC_REQUESTS is on for {conf.DATABASE!r}: a view that calls the gate locks the counters of its limits until it "
            "has answered, and calls that share one wait for each other.",
            hint="Turn it off, or decorate such views with transaction.non_atomic_requests.",
            id="cp_policies.W001",
        )
