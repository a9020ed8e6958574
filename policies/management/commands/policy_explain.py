from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime
from typing import Any
from uuid import UUID

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db.models import Model, QuerySet
from django.utils.dateparse import parse_datetime

from policies.errors import PolicyError
from policies.explain import explain
from policies.models import Policy
from tenants.models import Tenant


class Command(BaseCommand):
    help = (
        "Show which policies apply to a request, in order, what they come to and where each value comes from; with "
        "--model also whether the model may be used, and which policy decides. "
        "Exit code 0: done or allowed; 1: the model is refused; 2: the question could not be asked."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--tenant", required=True, metavar="SLUG", help="the organization that asks")
        parser.add_argument("--app", metavar="SLUG", help="the app that asks")
        parser.add_argument("--branch", metavar="CODE", help="the branch that asks; needs --app")
        parser.add_argument("--user", metavar="EMAIL", help="the user that asks")
        parser.add_argument("--key", metavar="ID", help="the API key that asks: app, branch and user follow from it")
        parser.add_argument("--model", metavar="NAME", help="may this model be used? a name or an alias")
        parser.add_argument("--region", metavar="REGION", help="where the call would go")
        parser.add_argument("--at", metavar="TIME", help="as 2026-03-10T12:00:00Z; without it: now")
        parser.add_argument("--json", action="store_true", help="the whole explanation as one JSON object")

    def handle(self, *args: Any, **options: Any) -> None:
        effective = self._effective(options)
        decision = effective.decide_model(options["model"], options["region"]) if options["model"] else None
        record = explain(effective, decision, Policy.objects.left_out(effective))
        for line in [json.dumps(record, indent=2)] if options["json"] else _lines(record):
            self.stdout.write(line)
        if decision is not None and not decision:
            raise SystemExit(1)

    def _effective(self, options: dict[str, Any]) -> Any:
        tenant = _one(Tenant.objects.all(), "tenant", slug=options["tenant"])
        if options["branch"] and not options["app"]:
            raise CommandError("A branch needs its app. Give --app too.", returncode=2)
        app = _one(tenant.apps.all(), "app", slug=options["app"])
        branch = _one(app.branches.all(), "branch", code=options["branch"]) if app else None
        user = _one(tenant.users.all(), "user", email__iexact=options["user"])
        key = _one(tenant.keys.all(), "key", pk=_uuid(options["key"]))
        try:
            return Policy.objects.effective(tenant, app, branch, user, key, _instant(options["at"]))
        except PolicyError as error:
            raise CommandError(f"{error.code}: {error.message}", returncode=2) from error


def _instant(text: str | None) -> datetime | None:
    if text is None:
        return None
    try:
        at = parse_datetime(text)
    except ValueError:
        at = None
    if at is None or at.tzinfo is None:
        raise CommandError(f"{text} is no time with a zone. Write it as 2026-03-10T12:00:00Z.", returncode=2)
    return at


def _uuid(text: str | None) -> UUID | None:
    try:
        return UUID(text) if text else None
    except ValueError:
        raise CommandError(f"{text} is no id of a key. keys_list shows them.", returncode=2) from None


def _one(rows: QuerySet[Any], what: str, **by: Any) -> Any:
    """The row that was named; None if no name was given."""
    ((_, wanted),) = by.items()
    if wanted is None:
        return None
    found: Model | None = rows.filter(**by).first()
    if found is None:
        raise CommandError(f"There is no {what} {wanted} here. Check the spelling.", returncode=2)
    return found


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
    model = record["model"] or record["request"]["model"]
    yield f"Model {model}: {record['decision']}, {record['reason']}. {record['message']}"
    if record["by"]:
        pattern = f" with {record['pattern']}" if record["pattern"] else ""
        yield f"  decided by {record['by']['name'] or 'a policy'} ({record['by']['policy']}){pattern}"
