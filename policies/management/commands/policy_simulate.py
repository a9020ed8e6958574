from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from auditing.directory import directory
from controlplane.core.commands import REFUSED, instant, shown, table
from controlplane.core.ids import now
from policies.commands import changes_in
from policies.simulation import MOST_REQUESTS, CounterSeen, Sample, Simulation, simulate
from tenants import commands

WEEK = timedelta(days=7)
SHOWN = 10
KINDS = ("newly_denied", "newly_allowed", "still_denied", "still_allowed")


class Command(commands.Command):
    help = (
        "Asks the recorded requests of a tenant again, of its policies as they are and as they were after the changes of a "
        "file, and shows whom they would refuse or let pass; nothing is written. Exit code 0: nobody is newly refused; 1: "
        "somebody is, or the changes do not fit; 2: the file cannot be read."
    )

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument(
            "file", metavar="PATH", help="a document as for policy_apply, or a list of changes; - for stdin"
        )
        commands.add_tenant(parser)
        parser.add_argument(
            "--from", type=instant, dest="start", metavar="TIME", help="from when on; a week before the end"
        )
        parser.add_argument("--until", type=instant, metavar="TIME", help="the first instant after them; now")
        parser.add_argument(
            "--limit", type=_limit, default=MOST_REQUESTS, metavar="NUMBER", help=f"at most so many ({MOST_REQUESTS})"
        )
        parser.add_argument("--json", action="store_true", help="the whole result as one JSON object, for scripts")

    def handle(self, *args: Any, file: str, tenant: str, **options: Any) -> None:
        owner = commands.tenant_by_slug(tenant)
        changes = changes_in(owner, file)
        end: datetime = options["until"] or now()
        result = simulate(
            owner, changes, Sample.from_requests(owner, options["start"] or end - WEEK, end, options["limit"])
        )
        if options["json"]:
            self.write_json(result.as_record())
        else:
            for line in _lines(result):
                self.stdout.write(line)
        if result.newly_denied:
            raise SystemExit(REFUSED)


def _limit(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and 1 <= int(text[:9]) <= MOST_REQUESTS):
        raise argparse.ArgumentTypeError(f"{text!r} is no number of requests: 1 to {MOST_REQUESTS} can be asked")
    return int(text)


def _lines(result: Simulation) -> Iterator[str]:
    more = " There were more: set --limit or a later --from." if result.truncated else ""
    yield f"{result.requests:,} requests from {shown(result.start)} until {shown(result.end)}.{more}"
    for kind in KINDS:
        reasons = ", ".join(f"{reason} {count:,}" for reason, count in sorted(result.reasons.get(kind, {}).items()))
        yield f"  {kind.replace('_', ' '):<13}  {getattr(result, kind):>7,}  {reasons}".rstrip()
    if result.changed:
        yield f"  {result.changed:,} are still allowed, but as another model or with another number of tokens."
    yield (
        f"What is allowed costs {result.cost_before:.2f} US dollars now, {result.cost_after:.2f} then: "
        f"{result.cost_difference:+.2f}; {result.unpriced:,} are of unknown cost."
    )
    for group in ("app", "user", "model"):
        yield from _group(result, group)
    yield from _values(result)
    yield from _counters("Begins at 0, a counter that was not there", result.started)
    yield from _counters("Spent before the first request and not known, so fewer are refused", result.partial)


def _group(result: Simulation, group: str) -> Iterator[str]:
    """Those whom most of it meets."""
    found = {who: [kinds.get(kind, 0) for kind in KINDS] for who, kinds in result.by[group].items()}
    moved = sorted((who for who in found if any(found[who][:2])), key=lambda who: (-sum(found[who][:2]), str(who)))
    ids = {who for who in moved[:SHOWN] if isinstance(who, UUID)}
    names = directory().names(group, ids) if ids else {}
    rows = [
        [names.get(who, str(who)) if isinstance(who, UUID) else who or "none", *(f"{count:,}" for count in found[who])]
        for who in moved[:SHOWN]
    ]
    if rows:
        yield table([group, *(kind.replace("_", " ") for kind in KINDS)], rows)
    if len(moved) > SHOWN:
        yield f"and {len(moved) - SHOWN:,} more"


def _values(result: Simulation) -> Iterator[str]:
    for one in result.values[:SHOWN]:
        before, after = (json.dumps(value, ensure_ascii=False) for value in (one.before, one.after))
        yield f"{one.path}: {before} → {after} for {one.requests:,} requests"
    if len(result.values) > SHOWN:
        yield f"and {len(result.values) - SHOWN:,} values more"


def _counters(what: str, counters: Sequence[CounterSeen]) -> Iterator[str]:
    for one in counters[:SHOWN]:
        models = f" of {', '.join(one.models)}" if one.models else ""
        owners = f", {one.owners:,} owners" if one.owners > 1 else ""
        yield f"{what}: {one.metric}, window {one.window}, {one.owner}{models} (policy {one.policy}{owners})."
    if len(counters) > SHOWN:
        yield f"{what}: {len(counters) - SHOWN:,} more."
