from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from controlplane.core.commands import add_page_arguments, page, uuid
from policies.commands import policy_id_of
from policies.history import actor_names, diff
from policies.models import PolicyVersion
from tenants import commands


class Command(commands.Command):
    help = (
        "Lists the changes of one policy, deleted ones too, or of all policies of a tenant, the newest first: version, who, "
        "why and what. Exit code 0; 2 if there is no such policy."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("policy", nargs="?", metavar="ID-or-NAME", help="the policy; without it all of the tenant")
        commands.add_tenant(parser)
        add_page_arguments(parser, "ID", uuid)

    def handle(self, *args: Any, policy: str | None, tenant: str, **options: Any) -> None:
        owner = commands.tenant_by_slug(tenant, deleted=True)
        versions = PolicyVersion.objects.filter(tenant=owner).with_before()
        if policy is not None:
            versions = versions.filter(policy_id=policy_id_of(owner, policy))
        found, after = page(versions, "-id", options["after"], options["limit"])
        names = actor_names(one.actor for one in found)
        self.write_page([row(one, names[one.actor], options["json"]) for one in found], after, as_json=options["json"])


def row(version: PolicyVersion, actor: str, as_json: bool) -> dict[str, Any]:
    """As JSON with every difference, as a table with the paths that an update changed."""
    changes = diff(version.before or {}, version.body)
    paths = [change.path for change in changes] if version.op == PolicyVersion.Op.UPDATE else []
    return {
        "version": version.version,
        "op": version.op,
        "at": version.recorded_at,
        "epoch": version.epoch,
        "name": version.body.get("name", ""),
        "actor": actor,
        "reason": version.reason,
        "changes": [change.as_record() for change in changes] if as_json else paths,
        "policy_id": version.policy_id,
        "id": version.pk,
    }
