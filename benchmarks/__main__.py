"""Run the benchmarks, each in a database of its own, which is made for it and dropped after it."""

from __future__ import annotations

import argparse
import os
import sys
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import django

# In this order: what is told together runs together.
GROUPS = {
    "auditing": (
        "ingest",
        "auditing_record",
        "auditing_watch",
        "auditing_seal",
        "auditing_verify",
        "auditing_rollup",
        "auditing_retire",
    ),
    "scale": ("auditing_scale",),
    "storage": ("storage", "storage_audit", "storage_blobs"),
}
BENCHMARKS = (
    "catalog",
    "keys",
    "policies",
    "limits",
    "gate",
    "simulation",
    *(one for group in GROUPS.values() for one in group),
)
PEERS = {
    "catalog": ("litellm",),
    "keys": ("rest_framework_api_key", "knox"),
    "policies": ("casbin", "cedarpy", "vakt", "guardian"),
    "auditing_watch": ("auditlog", "simple_history", "pgtrigger", "pghistory"),
}


def main() -> int:
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument(
        "names",
        nargs="*",
        default=list(BENCHMARKS),
        help=f"of {', '.join(BENCHMARKS)}, or a group: {', '.join(GROUPS)}; default: all",
    )
    parser.add_argument(
        "--prices", type=Path, help="the price file of the catalog; default: the one that LiteLLM ships"
    )
    parser.add_argument(
        "--objects",
        type=int,
        default=2_000_000,
        metavar="N",
        help="objects of the benchmark storage; default: 2,000,000",
    )
    arguments = parser.parse_args()
    names = list(dict.fromkeys(one for name in arguments.names for one in GROUPS.get(name, (name,))))
    unknown = set(names) - set(BENCHMARKS)
    if unknown:
        parser.error(f"no such benchmark: {', '.join(sorted(unknown))}")
    for name in names:
        if absent := [peer for peer in PEERS.get(name, ()) if find_spec(peer) is None]:
            parser.error(
                f"{', '.join(absent)}, peers of {name}, are not in this environment: make bench-{name} has one"
            )
    os.environ.setdefault("CONTROLPLANE_ENV", "development")
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "benchmarks.settings")
    django.setup()
    options = {"catalog": {"prices": arguments.prices}, "storage": {"objects": arguments.objects}}
    results = [_run(name, options.get(name, {})) for name in names]
    return 0 if all(results) else 1


def _run(benchmark: str, options: dict[str, Any]) -> bool:
    from django.db import connection  # noqa: PLC0415 - only once Django is set up

    from auditing.writer import writer  # noqa: PLC0415
    from controlplane.core.caches import invalidation  # noqa: PLC0415

    name = connection.settings_dict["NAME"]
    connection.creation.create_test_db(verbosity=0, autoclobber=True)
    try:
        result: bool = import_module(f"benchmarks.{benchmark}").run(**options)
    finally:
        writer.stop()
        invalidation.stop()
        connection.creation.destroy_test_db(name, verbosity=0)
    return result


if __name__ == "__main__":
    sys.exit(main())
