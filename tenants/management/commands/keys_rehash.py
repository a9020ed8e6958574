from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from auditing.context import command_actor
from tenants import commands
from tenants.models import APIKeySecret, RefreshToken


class Command(commands.Command):
    help = (
        "Gives every digest of a key or refresh token that has no pepper the newest of API_KEY_PEPPERS; no caller notices. "
        "Between two peppers nothing needs to be run: a secret changes over when it is next used, a refresh "
        "token when it is rotated."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--status", action="store_true", help="only count the live ones per version of the pepper")
        parser.add_argument("--json", action="store_true", help="the counts as one JSON object, for scripts")

    def handle(self, *args: Any, status: bool, **options: Any) -> None:
        report: dict[str, Any] = {"changed": 0}
        for kind, rows in (("secrets", APIKeySecret.objects), ("refresh tokens", RefreshToken.objects)):
            report["changed"] += 0 if status else rows.rehash(actor=command_actor(self.name))
            report[kind] = rows.versions()
        left = "; ".join(f"{kind}: {_counts(report[kind])}" for kind in ("secrets", "refresh tokens"))
        done = "" if status else f"Gave {report['changed']} digests the newest pepper. "
        self.report(
            {"changed": report["changed"], "versions": report["secrets"], "refresh_versions": report["refresh tokens"]},
            f"{done}Live {left}.",
            as_json=options["json"],
        )


def _counts(versions: dict[int, int]) -> str:
    return ", ".join(f"{count} of version {version}" for version, count in versions.items()) or "none"
