from __future__ import annotations

import json
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import CommandError

from controlplane.core.commands import COULD_NOT_RUN, shown
from policies.commands import policy_id_of
from policies.documents import entry_of
from policies.models import Policy
from tenants import commands


class Command(commands.Command):
    help = (
        "Shows one policy with all its fields, its version and whether it applies now. Exit code 0; 2 if there is none."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("policy", metavar="ID-or-NAME", help="the policy")
        commands.add_tenant(parser)
        parser.add_argument("--json", action="store_true", help="one JSON object, every field, for scripts")

    def handle(self, *args: Any, policy: str, tenant: str, **options: Any) -> None:
        owner = commands.tenant_by_slug(tenant, deleted=True)
        policies = Policy.objects.filter(pk=policy_id_of(owner, policy)).prefetch_related("key__secrets")
        found = policies.select_related("app", "branch", "user", "key").first()
        if found is None:
            text = f"The policy {policy} is deleted. policy_history shows what it was, policy_rollback brings it back."
            raise CommandError(text, returncode=COULD_NOT_RUN)
        if options["json"]:
            self.write_json(found.as_record() | {"state": found.state()})
            return
        told = {"id": found.pk, "version": found.version, "state": found.state(), "layer": found.layer}
        told |= entry_of(found) | {"created_at": found.created_at, "updated_at": found.updated_at}
        for name, value in told.items():
            self.stdout.write(f"{name:<12} {_told(value)}")


def _told(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False) if isinstance(value, dict | list | bool) else shown(value)
