"""Run the benchmarks in a database of their own, which is made for the run and dropped after it."""

from __future__ import annotations

import argparse
import os
import sys
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import django

BENCHMARKS = ("ingest", "catalog", "keys", "policies", "limits", "gate", "simulation")
PEERS = {
    "catalog": ("litellm",),
    "keys": ("rest_framework_api_key", "knox"),
    "policies": ("casbin", "cedarpy", "vakt", "guardian"),
}


def main() -> int:
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("names", nargs="*", default=list(BENCHMARKS), help=f"of {', '.join(BENCHMARKS)}; default: all")
    parser.add_argument(
        "--prices", type=Path, help="the price file of the catalog; default: the one that LiteLLM ships"
    )
    arguments = parser.parse_args()
    unknown = set(arguments.names) - set(BENCHMARKS)
    if unknown:
        parser.error(f"no such benchmark: {', '.join(sorted(unknown))}")
    for name in arguments.names:
        if absent := [peer for peer in PEERS.get(name, ()) if find_spec(peer) is None]:
            parser.error(
                f"{', '.join(absent)}, peers of {name}, are not in this environment: make bench-{name} has one"
            )
    os.environ.setdefault("CONTROLPLANE_ENV", "development")
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "benchmarks.settings")
    django.setup()
    from django.db import connection  # noqa: PLC0415 - only once Django is set up

    from controlplane.core.caches import invalidation  # noqa: PLC0415

    name = connection.settings_dict["NAME"]
    connection.creation.create_test_db(verbosity=0, autoclobber=True)
    try:
        results = [
            import_module(f"benchmarks.{benchmark}").run(
                **({"prices": arguments.prices} if benchmark == "catalog" else {})
            )
            for benchmark in arguments.names
        ]
    finally:
        invalidation.stop()
        connection.creation.destroy_test_db(name, verbosity=0)
    return 0 if all(results) else 1


if __name__ == "__main__":
    sys.exit(main())
