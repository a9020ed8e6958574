from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from auditing.context import audit_context, command_actor
from policies.commands import lines_of, policy_id_of
from policies.history import diff
from policies.models import Policy, PolicyVersion
from tenants import commands


class Command(commands.Command):
    help = (
        "Makes a policy what it was at one of its versions, as a new version; a deleted one comes back under its id. Exit "
        "code 0; 1: the old version does not fit any more; 2: there is no such policy or version."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("policy", metavar="ID-or-NAME", help="the policy")
        parser.add_argument("version", type=int, metavar="VERSION", help="the version, as policy_history shows it")
        commands.add_tenant(parser)
        commands.add_reason(parser)
        parser.add_argument("--json", action="store_true", help="what was changed as one JSON object, for scripts")

    def handle(self, *args: Any, policy: str, version: int, tenant: str, reason: str, **options: Any) -> None:
        owner = commands.tenant_by_slug(tenant)
        policy_id = policy_id_of(owner, policy)
        versions = PolicyVersion.objects.filter(tenant=owner, policy_id=policy_id).order_by("-version").with_before()
        before = versions[0].version
        with audit_context(actor=command_actor(self.name)):
            restored = Policy.objects.restore(owner, policy_id, version, reason)
        changes = [change for one in versions.filter(version__gt=before) for change in diff(one.before or {}, one.body)]
        told = {"policy_id": policy_id, "version": restored.version, "changes": [one.as_record() for one in changes]}
        if not options["json"]:
            for line in lines_of(changes):
                self.stdout.write(line)
        self.report(
            told, f"{restored} is as in version {version}: now version {restored.version}.", as_json=options["json"]
        )
