from __future__ import annotations

from argparse import ArgumentParser, ArgumentTypeError
from typing import Any

from django.core.management.base import CommandError

from auditing.context import command_actor
from controlplane.core.commands import REFUSED, Progress
from controlplane.core.ids import now
from storage_meta import asking, cleaning, commands, retention

WORDS = {
    "expired": "objects expired",
    "noncurrent": "old versions",
    "markers": "lone markers",
    "executions": "attempts to tell hooks",
    "events": "done events",
    "audits": "rows of the access log",
}


class Command(commands.Command):
    help = (
        "Removes what is stored beyond its time, as the rules of the buckets say; what hooks were told 30 days ago; and old rows "
        "of the access log, by whole months where nothing of them stays. What is held stays. It can be run again at any time."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--tenant", metavar="SLUG", help="of this tenant alone")
        commands.add_bucket(parser, required=False, help="of this bucket of the tenant alone")
        parser.add_argument(
            "--days",
            type=_days,
            default=365,
            help="age of rows of the access log that go (365); audit_days of a bucket wins",
        )
        parser.add_argument(
            "--only", choices=("lifecycle", "log"), help="the rules of the buckets, or the access log, alone"
        )
        parser.add_argument("--dry-run", action="store_true", help="say what would go, and remove nothing")
        commands.add_json(parser)

    def handle(
        self,
        *args: Any,
        tenant: str | None,
        bucket: str | None,
        days: int,
        only: str | None,
        dry_run: bool,
        json: bool,
        **options: Any,
    ) -> None:
        if bucket is not None and tenant is None:
            raise CommandError("Names of buckets are unique in a tenant alone. Say --tenant too.", returncode=REFUSED)
        present, tenant_id = now(), None
        if tenant is not None:
            files = self.files(tenant, bucket)
            tenant_id = files.tenant_id
            if bucket is not None:
                files.the_bucket()
        row: dict[str, Any] = {"dry_run": dry_run, **dict.fromkeys(WORDS, 0), "months": []}
        with asking.answered(), Progress(self.stderr, "retention", 0) as progress:
            if only != "log":
                for what, count, _ in retention.steps(present, tenant_id=tenant_id, bucket=bucket, dry_run=dry_run):
                    row[what] += count
                    progress(sum(row[name] for name in WORDS))
            if only != "lifecycle":
                done = cleaning.clean(
                    present,
                    days=days,
                    tenant_id=tenant_id,
                    bucket=bucket,
                    dry_run=dry_run,
                    by=command_actor(self.name),
                    told=lambda text: progress(sum(row[name] for name in WORDS)),
                )
                row["audits"], row["months"] = done.rows, [f"{month:%Y-%m}" for month in done.months]
        self.report(row, _sentence(row), as_json=json)


def _sentence(row: dict[str, Any]) -> str:
    found = [f"{row[name]:,} {words}" for name, words in WORDS.items() if row[name]]
    months = f" Months of the access log that were dropped: {', '.join(row['months'])}." if row["months"] else ""
    return f"{'Would go' if row['dry_run'] else 'Went'}: {', '.join(found) or 'nothing'}.{months}"


def _days(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and int(text[:9]) <= cleaning.MOST_DAYS):
        raise ArgumentTypeError(
            f"{text!r} is no number of days: a whole number from 0 to {cleaning.MOST_DAYS:,} is needed"
        )
    return int(text)
