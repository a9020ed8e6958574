"""Events go on, 1,000 a second, while the database is away for minutes: what that takes of memory, and whether all arrive.

python -m benchmarks.auditing_away 10
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from time import monotonic, sleep

import django
from django.conf import settings

RATE, MOST_MIB = 1_000, 96


@dataclass(frozen=True, slots=True)
class Away:
    """rows: recorded; stored: of them, once the database was back. grown_mib: resident memory, at most, since before."""

    rows: int
    stored: int
    doubled: int
    grown_mib: float
    spooled_mib: float
    back_s: float


def away(seconds: float, folder: Path, rate: int = RATE) -> Away:
    """Cut the writer of this process off from the database for so long. folder: a short path, for a socket and the spool."""
    from auditing import events  # noqa: PLC0415 - only once Django is set up
    from auditing.models import AuditLog  # noqa: PLC0415
    from auditing.writer import Writer  # noqa: PLC0415
    from tests.relay import Relay  # noqa: PLC0415

    relay = Relay(folder)
    before = settings.CONTROLPLANE
    settings.CONTROLPLANE = {**before, "DATABASE_DIRECT_URL": relay.url}
    one = Writer(lambda: folder / "spool")
    try:
        for _ in range(3 * rate):  # what a process takes that works
            one.put(events.event("away.before", actor="bench", details={"code": "model_not_allowed", "times": 3}))
        one.drain()
        relay.cut()
        began, rows, resident, most = monotonic(), 0, _resident_mib(), 0.0
        while (passed := monotonic() - began) < seconds:
            while rows < passed * rate:
                one.put(
                    events.event("away.during", actor="bench", details={"code": "model_not_allowed", "times": rows})
                )
                rows += 1
            most = max(most, _resident_mib() - resident)
            sleep(0.01)
        spooled = one.stats().spool_bytes / 2**20
        relay.mend()
        back = monotonic()
        while not one.drain(1):
            most = max(most, _resident_mib() - resident)
        back = monotonic() - back
        ids = AuditLog.objects.filter(action="away.during").values_list("pk")
        stored, distinct = ids.count(), ids.distinct().count()
        return Away(rows, stored, stored - distinct, most, spooled, back)
    finally:
        one.stop()
        relay.cut()
        settings.CONTROLPLANE = before


def _resident_mib() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def run(minutes: float = 10.0) -> bool:
    from benchmarks.report import Goal, show  # noqa: PLC0415

    with tempfile.TemporaryDirectory(prefix="cp-") as folder:
        found = away(minutes * 60, Path(folder))
    goals = [
        Goal("resident memory grew, MiB", found.grown_mib, MOST_MIB, "{:.1f}", most=True),
        Goal("rows stored of those recorded", found.stored / found.rows, 1.0, "{:.6f}"),
        Goal("rows doubled", found.doubled, 0, "{:.0f}", most=True),
    ]
    told = {"recorded": found.rows, "stored": found.stored, "delivered again, per second": found.rows / found.back_s}
    told["spool, MiB"] = found.spooled_mib
    return show(f"The database was away for {minutes:g} minutes", told, "rows", goals)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("minutes", type=float, nargs="?", default=10.0)
    arguments = parser.parse_args()
    os.environ.setdefault("CONTROLPLANE_ENV", "development")
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "benchmarks.settings")
    django.setup()
    from django.db import connection  # noqa: PLC0415

    name = connection.settings_dict["NAME"]
    connection.creation.create_test_db(verbosity=0, autoclobber=True)
    try:
        return 0 if run(arguments.minutes) else 1
    finally:
        connection.creation.destroy_test_db(name, verbosity=0)


if __name__ == "__main__":
    sys.exit(main())
