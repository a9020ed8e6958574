from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from auditing.context import audit_context, command_actor
from catalog.providers import delete_provider
from controlplane.core.commands import Command as BaseCommand


class Command(BaseCommand):
    help = "Deletes a provider that serves no model. One that does stays; provider_set --disable stops its use."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("slug", help="the provider")
        parser.add_argument("--reason", default="", help="why; kept in the audit log")
        parser.add_argument("--json", action="store_true", help="its slug as one JSON object, for scripts")

    def handle(self, *args: Any, slug: str, reason: str, **options: Any) -> None:
        with audit_context(actor=command_actor(self.name), reason=reason):
            delete_provider(slug)
        self.report({"slug": slug, "deleted": True}, f"Deleted the provider {slug}.", as_json=options["json"])
