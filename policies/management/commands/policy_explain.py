from __future__ import annotations

import json
from argparse import ArgumentParser
from collections.abc import Iterator
from datetime import datetime
from typing import Any

from django.core.management.base import CommandError
from django.utils.dateparse import parse_datetime

from controlplane.core.commands import COULD_NOT_RUN, REFUSED
from policies.decisions import Decision
from policies.effective import OF_A_CALL, EffectivePolicy
from policies.errors import PolicyError
from policies.explain import explain
from policies.models import Policy
from tenants import commands


class Command(commands.Command):
    help = (
        "Show which policies apply to a request, in order, what they come to and where each value comes from; with "
        "--model also whether the model may be used, and which policy decides. "
        "Exit code 0: done or allowed; 1: the model is refused; 2: the question could not be asked."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--tenant", required=True, metavar="SLUG", help="the organization that asks")
        parser.add_argument("--app", metavar="SLUG", help="the app that asks")
        parser.add_argument("--branch", metavar="CODE", help="the branch that asks; needs --app")
        parser.add_argument("--user", metavar="EMAIL", help="the user that asks")
        parser.add_argument(
            "--key",
            metavar="ID",
            help="the API key that asks: app, branch and user follow from it",
        )
        parser.add_argument("--model", metavar="NAME", help="may this model be used? a name or an alias")
        parser.add_argument("--region", metavar="REGION", help="where the call would go")
        parser.add_argument("--at", metavar="TIME", help="as 2026-03-10T12:00:00Z; without it: now")
        parser.add_argument("--json", action="store_true", help="the whole explanation as one JSON object")

    def handle(self, *args: Any, **options: Any) -> None:
        effective = self._effective(options)
        asked = options["model"] is not None
        decision = effective.decide_model(options["model"], options["region"]) if asked else None
        if decision is not None and (refusal := effective.unreadable(*OF_A_CALL)):
            decision = Decision.of(effective, refusal, decision.request, decision.record)
        record = explain(effective, decision, Policy.objects.left_out(effective))
        for line in [json.dumps(record, indent=2)] if options["json"] else _lines(record):
            self.stdout.write(line)
        if decision is not None and not decision:
            raise SystemExit(REFUSED)

    def _effective(self, options: dict[str, Any]) -> EffectivePolicy:
        """An argument that is there but empty names nothing, as a variable that a script did not set: it is not left out."""
        tenant = commands.tenant_by_slug(options["tenant"], deleted=True)
        app, branch, user, key = (options[name] for name in ("app", "branch", "user", "key"))
        if branch is not None and app is None:
            raise CommandError("A branch needs its app. Give --app too.", returncode=COULD_NOT_RUN)
        at = _instant(options["at"])
        found_app = None if app is None else commands.app_by_slug(tenant, app)
        found_branch = None if branch is None or found_app is None else commands.branch_by_code(found_app, branch)
        found_user = None if user is None else commands.user_by_name(tenant, user)
        found_key = None if key is None else commands.key_by_name(tenant, key)
        try:
            return Policy.objects.effective(tenant, found_app, found_branch, found_user, found_key, at)
        except PolicyError as error:
            raise CommandError(f"{error.code}: {error.message}", returncode=COULD_NOT_RUN) from error


def _instant(text: str | None) -> datetime | None:
    if text is None:
        return None
    try:
        at = parse_datetime(text)
    except ValueError:
        at = None
    if at is None or at.tzinfo is None:
        raise CommandError(
            f"{text} is no time with a zone. Write it as 2026-03-10T12:00:00Z.", returncode=COULD_NOT_RUN
        )
    return at


def _lines(record: dict[str, Any]) -> Iterator[str]:
    names = {policy["policy"]: policy["name"] or policy["policy"] for policy in record["applicable"]}
    yield f"Policies that apply at {record['at']}, nearest first:"
    for policy in record["applicable"]:
        label = f"{policy['policy']}  {policy['name']}".rstrip()
        yield f"  layer {policy['layer']:>2}  priority {policy['priority']:>3}  {policy['type']:14}  {label}"
    if not record["applicable"]:
        yield "  none"
    for skipped in record["skipped"]:
        yield f"  skipped: {skipped['policy']}, {skipped['why']}"
    yield "What they come to:"
    for path, value in record["effective"].items():
        sources = ", ".join(f"{names[source['policy']]} (layer {source['layer']})" for source in value["from"])
        yield f"  {path} = {json.dumps(value['value'])}  {value['op']} from {sources}"
        for lost in value["shadowed"]:
            yield f"    not {json.dumps(lost['value'])} of {names[lost['policy']]}: {lost['why']}"
    for conflict in record["conflicts"]:
        yield f"  conflict: {conflict}"
    if "decision" in record:
        yield from _verdict(record)


def _verdict(record: dict[str, Any]) -> Iterator[str]:
    model = record["request"].get("model_resolved") or record["request"]["model"]
    yield f"Model {model}: {record['decision']}, {record['reason']}. {record['message']}"
    if record["by"]:
        pattern = f" with {record['pattern']}" if record["pattern"] else ""
        yield f"  decided by {record['by']['name'] or 'a policy'} ({record['by']['policy']}){pattern}"
