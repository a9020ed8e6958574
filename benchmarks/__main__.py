"""Run the benchmarks in a database of their own, which is made for the run and dropped after it."""

from __future__ import annotations

import argparse
import os
import sys
from importlib import import_module

import django

BENCHMARKS = ("ingest",)


def main() -> int:
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("names", nargs="*", default=list(BENCHMARKS), help=f"of {', '.join(BENCHMARKS)}; default: all")
    arguments = parser.parse_args()
    unknown = set(arguments.names) - set(BENCHMARKS)
    if unknown:
        parser.error(f"no such benchmark: {', '.join(sorted(unknown))}")
    os.environ.setdefault("CONTROLPLANE_ENV", "development")
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "controlplane.settings")
    django.setup()
    from django.db import connection  # noqa: PLC0415 - only once Django is set up

    name = connection.settings_dict["NAME"]
    connection.creation.create_test_db(verbosity=0, autoclobber=True)
    try:
        results = [import_module(f"benchmarks.{benchmark}").run() for benchmark in arguments.names]
    finally:
        connection.creation.destroy_test_db(name, verbosity=0)
    return 0 if all(results) else 1


if __name__ == "__main__":
    sys.exit(main())
