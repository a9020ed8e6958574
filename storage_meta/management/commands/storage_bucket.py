from __future__ import annotations

from argparse import ArgumentParser, ArgumentTypeError
from typing import Any

from django.core.management.base import CommandError

from auditing.context import audit_context, command_actor
from controlplane.core.commands import REFUSED, add_page_arguments, page
from storage_meta import buckets, commands
from storage_meta.models import Bucket
from tenants.commands import tenant_by_slug

DAYS = {
    "expire_days": "days after which a current version expires",
    "noncurrent_days": "days that a version is kept after a newer one came",
    "keep_versions": "newest noncurrent versions that are kept whatever their age",
    "audit_days": "days that its access log is kept",
    "default_retain_days": "days that a new version is locked",
}
NEVER, MOST_DAYS = "never", 2**31 - 1
RULES = ("versioning", "storage", "audit_reads", *DAYS)


class Command(commands.Command):
    help = (
        "Makes, changes, lists and removes the buckets of a tenant. A bucket that was versioned never is unversioned again; one "
        "with objects is not removed."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
        made = actions.add_parser("make", help="make a bucket")
        changed = actions.add_parser("change", help="change the rules of a bucket")
        listed = actions.add_parser("list", help="the buckets by name, a page at a time")
        removed = actions.add_parser("remove", help="remove an empty bucket")
        for part in (made, changed, removed):
            part.add_argument("name", metavar="NAME", help="name of the bucket, unique in the tenant")
            commands.add_tenant(part)
            commands.add_json(part)
        for part in (made, changed):
            part.add_argument("--versioning", choices=Bucket.Versioning.values, help="what a put and a delete do")
            part.add_argument("--storage", metavar="ALIAS", help="alias in STORAGES for new blobs; '': STORAGE_ALIAS")
            part.add_argument("--audit-reads", choices=Bucket.AuditReads.values, help="which reads are recorded")
            for name, said in DAYS.items():
                part.add_argument(
                    f"--{name.replace('_', '-')}", metavar="N", type=_days, help=f"{said}; never: no limit"
                )
        commands.add_tenant(listed)
        add_page_arguments(listed, "NAME")

    def handle(self, *args: Any, action: str, **options: Any) -> None:
        with audit_context(actor=command_actor(self.name)):
            getattr(self, action)(**options)

    def make(self, *, tenant: str, name: str, json: bool, **options: Any) -> None:
        bucket = Bucket(tenant=tenant_by_slug(tenant), name=name, **_rules(options))
        bucket.full_clean()
        bucket.save(force_insert=True)
        self.report(_row(bucket), f"Made the bucket {name} of {tenant}.", as_json=json)

    def change(self, *, tenant: str, name: str, json: bool, **options: Any) -> None:
        rules = _rules(options)
        if not rules:
            raise CommandError("There is nothing to change. Give a rule, as --versioning enabled.", returncode=REFUSED)
        bucket = self.files(tenant, name).the_bucket()
        for rule, value in rules.items():
            setattr(bucket, rule, value)
        bucket.full_clean()
        bucket.save(update_fields=[*rules])
        self.report(_row(bucket), f"Changed the bucket {name} of {tenant}.", as_json=json)

    def list(self, *, tenant: str, json: bool, limit: int, after: str | None, **options: Any) -> None:
        rows = Bucket.objects.for_tenant(tenant_by_slug(tenant, deleted=True))
        found, more = page(rows, "name", after, limit)
        self.write_page([_row(bucket) for bucket in found], more, as_json=json)

    def remove(self, *, tenant: str, name: str, json: bool, **options: Any) -> None:
        bucket = buckets.remove(self.files(tenant, name))
        self.report(_row(bucket), f"Removed the bucket {name} of {tenant}.", as_json=json)


def _days(text: str) -> int | str:
    """An argument: a whole number from 1, or `never`."""
    if text == NEVER:
        return text
    if not (text.isascii() and text.isdecimal() and 1 <= int(text[:11]) <= MOST_DAYS):
        raise ArgumentTypeError(f"{text!r} is no limit: a whole number from 1 to {MOST_DAYS:,} is needed, or never")
    return int(text)


def _rules(options: dict[str, Any]) -> dict[str, Any]:
    """The rules that were given; those that were not are not in it."""
    given = {name: options[name] for name in RULES if options[name] is not None}
    return {name: None if value == NEVER and name in DAYS else value for name, value in given.items()}


def _row(bucket: Bucket) -> dict[str, Any]:
    return {"name": bucket.name} | {name: getattr(bucket, name) for name in RULES} | {"created_at": bucket.created_at}
