from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from auditing.context import command_actor
from controlplane import caches
from controlplane.core import commands
from controlplane.core.models import Process

COLUMNS = ("hits", "misses", "negative_hits", "evictions", "invalidated", "load_errors", "size", "capacity")


class Command(commands.Command):
    help = (
        "Shows what the caches of every process count, as each wrote it down within the last 15 s; or empties them all."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--json", action="store_true", help='one JSON object, {"processes": […]}, for scripts')
        parser.add_argument("--flush", action="store_true", help="have every process empty its caches instead")
        parser.add_argument("--reason", default="", help="why they are emptied; kept in the audit log")

    def handle(self, *args: Any, json: bool, flush: bool, reason: str, **options: Any) -> None:
        if flush:
            caches.flush(reason, actor=command_actor(self.name))
            self.report({"flushed": True}, "Every process empties its caches now.", as_json=json)
        elif json:
            self.write_json({"processes": [_row(process) for process in Process.objects.seen()]})
        elif found := caches.counted():
            self.stdout.write(
                commands.table(["process", "seen", "lease", "cache", "rate", *COLUMNS], map(_cells, found))
            )
        else:
            self.say("No process has used a cache within the last ten minutes.")


def _row(process: Process) -> dict[str, Any]:
    return {
        "process": process.process, "host": process.host, "pid": process.pid, "started_at": process.started_at,
        "age_s": round(process.age.total_seconds(), 1), "silent": process.silent,
        "lease_age_ms": process.lease_age_ms, "caches": process.caches,
    }  # fmt: skip


def _cells(found: caches.Counted) -> list[str]:
    process, rate = found.process, found.hit_rate
    lease = "-" if process.lease_age_ms is None else f"{process.lease_age_ms / 1000:.1f} s"
    seen = f"{process.age.total_seconds():.0f} s ago" + (" (silent)" if process.silent else "")
    figures = [str(found.counts[name]) for name in COLUMNS]
    return [str(process), seen, lease, found.cache, "-" if rate is None else f"{rate:.1f} %", *figures]
