from __future__ import annotations

from argparse import ArgumentParser
from datetime import datetime
from typing import Any

from controlplane.core.commands import instant
from storage_meta import commands
from storage_meta.models import StorageVersion

NEVER = "never"


class Command(commands.Command):
    help = (
        "Holds a version of an object, so that nothing removes it, or takes that back; with --until it is kept to a time. The "
        "access log of its key stays as long."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("key", metavar="KEY", help="key of the object")
        commands.add_tenant(parser)
        commands.add_bucket(parser)
        parser.add_argument("--version-id", metavar="ID", help="null, or 32 hex digits; without it the newest version")
        what = parser.add_mutually_exclusive_group()
        what.add_argument("--release", action="store_true", help="take a hold back")
        what.add_argument(
            "--until",
            type=_until,
            metavar="TIME",
            help="keep it to this time, as 2030-01-31T00:00Z, instead of a hold; never: take such a time back",
        )
        parser.add_argument("--bypass", action="store_true", help="with --until: an earlier time than before, or never")
        parser.add_argument("--reason", default="", help="why, for the access log; --bypass needs one")
        commands.add_json(parser)

    def handle(
        self,
        *args: Any,
        key: str,
        tenant: str,
        bucket: str,
        version_id: str | None,
        release: bool,
        until: datetime | str | None,
        bypass: bool,
        reason: str,
        json: bool,
        **options: Any,
    ) -> None:
        files = self.files(tenant, bucket)
        if until is None:
            version = files.put_object_legal_hold(key, not release, version_id, reason)
        else:
            kept = until if isinstance(until, datetime) else None
            version = files.put_object_retention(key, kept, version_id, bypass, reason)
        self.report(_row(key, version), _sentence(key, version), as_json=json)


def _until(text: str) -> datetime | str:
    return NEVER if text == NEVER else instant(text)


def _row(key: str, version: StorageVersion) -> dict[str, Any]:
    return {
        "key": key,
        "version_id": version.version_id,
        "legal_hold": version.legal_hold,
        "retain_until": version.retain_until,
    }


def _sentence(key: str, version: StorageVersion) -> str:
    kept = [
        *(["held"] if version.legal_hold else []),
        *([f"kept until {version.retain_until:%Y-%m-%d %H:%M}Z"] if version.retain_until else []),
    ]
    return f"Version {version.version_id} of {key} is {' and '.join(kept) or 'free to go'}."
