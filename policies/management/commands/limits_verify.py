from __future__ import annotations

from argparse import ArgumentParser
from dataclasses import asdict
from typing import Any

from catalog.units import plain
from controlplane.core.commands import REFUSED
from policies import limits
from policies.models import LimitBucket
from policies.sweeping import Difference
from tenants import commands


class Command(commands.Command):
    help = (
        "Compares every counter with its reservations: reserved with what open ones hold, spent with what settled ones "
        "spent. It may run beside traffic. Exit code 0: all are right; 1: one is not, and is named; 2: could not run."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--tenant", metavar="SLUG", help="counters of this tenant only")
        parser.add_argument("--json", action="store_true", help="one JSON object, for scripts")

    def handle(self, *args: Any, tenant: str | None, **options: Any) -> None:
        owner = commands.tenant_by_slug(tenant, deleted=True).pk if tenant is not None else None
        wrong = limits.verify(owner)
        counters = LimitBucket.objects.filter(tenant_id=owner) if owner else LimitBucket.objects.all()
        count = counters.count()
        if options["json"]:
            self.write_json({"counters": count, "differences": [asdict(one) for one in wrong]})
        else:
            for one in wrong:
                self.stdout.write(_line(one))
            self.stdout.write(f"{count} counters, {len(wrong)} of them not what their reservations say.")
        if wrong:
            raise SystemExit(REFUSED)


def _line(one: Difference) -> str:
    parts = {"spent": (one.spent, one.told_spent), "reserved": (one.reserved, one.told_reserved)}
    said = "; ".join(
        f"{name} {plain(is_)}, reservations say {plain(told)} (difference {plain(is_ - told)})"
        for name, (is_, told) in parts.items()
        if is_ != told
    )
    return f"{one.bucket_id}  {one.key}: {said}"
