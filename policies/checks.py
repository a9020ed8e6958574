from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from django.apps import AppConfig
from django.core.checks import CheckMessage, Error, Tags, register
from django.core.checks import Warning as CheckWarning
from django.db import connections

from controlplane.core.conf import conf

LONGEST_RESERVATION = 86_400


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


@register(Tags.compatibility)
def check_reservations(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> Iterable[CheckMessage]:
    """Too short, and calls that run lose what they hold; too long, and what a lost process held is missed for days."""
    ttl = conf.RESERVATION_TTL
    if not (isinstance(ttl, int) and 1 <= ttl <= LONGEST_RESERVATION):
        yield Error(
            f"RESERVATION_TTL is {ttl!r}: what a call holds of its limits is given back after so many seconds.",
            hint=f"Use a whole number of seconds from 1 to {LONGEST_RESERVATION}.",
            id="cp_policies.E001",
        )
