from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import CommandError
from django.db import transaction

from auditing.context import audit_context, command_actor
from controlplane.core.commands import COULD_NOT_RUN, add_page_arguments, page
from controlplane.core.conf import conf
from storage_meta import commands
from storage_meta.models import StorageHook
from tenants.commands import add_reason, tenant_by_slug

SAID = {
    "enable": "Enabled the hook {}: what waited is sent.",
    "disable": "Disabled the hook {}: what waits is kept.",
    "remove": "Removed the hook {}, with its events and the log of their deliveries.",
}


class Command(commands.Command):
    help = (
        "Makes, lists, enables, disables and removes the hooks of a tenant, and gives one a new secret. A secret is written to "
        "stdout once, when it is made; storage_hooks sends the events."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
        added = actions.add_parser("add", help="make a hook, and show its secret")
        rotated = actions.add_parser("rotate", help="give it a new secret; the one before signs too, until the next")
        enabled = actions.add_parser("enable", help="make and send events again, what waited included")
        disabled = actions.add_parser("disable", help="make no events and send none")
        removed = actions.add_parser("remove", help="remove it, with its events and the log of their deliveries")
        listed = actions.add_parser("list", help="the hooks by name, a page at a time")
        for part in (added, rotated, enabled, disabled, removed):
            part.add_argument("name", metavar="NAME", help="name of the hook, unique in the tenant")
            commands.add_tenant(part)
            commands.add_json(part)
        added.add_argument("url", metavar="URL", help="where events are sent: https, on the public internet")
        added.add_argument(
            "--event", action="append", metavar="TYPE", help="as s3:ObjectCreated:*; may be given again (s3:*)"
        )
        commands.add_bucket(added, required=False, help="of which bucket (all)")
        added.add_argument("--prefix", default="", help="of keys that begin so, to the letter")
        added.add_argument("--suffix", default="", help="of keys that end so, to the letter")
        for part in (rotated, enabled):
            add_reason(part, required=False)
        for part in (disabled, removed):
            add_reason(part)
        removed.add_argument("--dry-run", action="store_true", help="only say what is there")
        commands.add_tenant(listed)
        add_page_arguments(listed, "NAME")

    def handle(self, *args: Any, action: str, reason: str = "", **options: Any) -> None:
        with audit_context(actor=command_actor(self.name), reason=reason):
            if action in ("add", "rotate", "list"):
                getattr(self, action)(**options)
            else:
                self.change(action, reason, **options)

    def add(self, *, tenant: str, name: str, url: str, json: bool, **options: Any) -> None:
        of = tenant_by_slug(tenant)
        bucket = None if options["bucket"] is None else self.files(tenant, options["bucket"]).the_bucket()
        with transaction.atomic(using=conf.DATABASE):
            hook, secret = StorageHook.objects.register(
                tenant=of,
                name=name,
                url=url,
                event_types=options["event"] or ["s3:*"],
                bucket=bucket,
                prefix=options["prefix"],
                suffix=options["suffix"],
            )
            self._show(hook, secret, f"Made the hook {name} of {tenant}.", as_json=json)

    def rotate(self, *, tenant: str, name: str, json: bool, **options: Any) -> None:
        with transaction.atomic(using=conf.DATABASE):
            hook = _locked(tenant, name)
            said = f"The hook {name} of {tenant} has a new secret. The one before signs too, until the next."
            self._show(hook, hook.rotate_secret(), said, as_json=json)

    def change(self, action: str, reason: str, *, tenant: str, name: str, json: bool, **options: Any) -> None:
        """Enable, disable or remove."""
        with transaction.atomic(using=conf.DATABASE):
            hook = _locked(tenant, name)
            row = _row(hook)
            if options.get("dry_run"):
                self.report(row, f"Would remove the hook {name}, which tells {hook.url}.", as_json=json)
                return
            if action == "disable":
                hook.disable(reason)
            elif action == "enable":
                hook.enable()
            else:
                hook.remove()
        self.report(row if action == "remove" else _row(hook), SAID[action].format(name), as_json=json)

    def list(self, *, tenant: str, json: bool, limit: int, after: str | None, **options: Any) -> None:
        rows = StorageHook.objects.for_tenant(tenant_by_slug(tenant, deleted=True)).select_related("bucket")
        found, more = page(rows, "name", after, limit)
        self.write_page([_row(hook) for hook in found], more, as_json=json)

    def _show(self, hook: StorageHook, secret: str, said: str, *, as_json: bool) -> None:
        """Within the transaction: a secret that nobody was told would be one that only a rotation brings back."""
        if not as_json:
            self.say(f"{said} Keep its secret, which is shown this once.")
        self.report(_row(hook) | {"secret": secret}, secret, as_json=as_json)
        self.stdout.flush()


def _locked(tenant: str, name: str) -> StorageHook:
    """A hook by its name, which nobody changes until the transaction ends."""
    rows = StorageHook.objects.for_tenant(tenant_by_slug(tenant)).filter(name=name)
    found: StorageHook | None = rows.select_for_update().first() if "\x00" not in name else None
    if found is None:
        raise CommandError(
            f"The tenant {tenant} has no hook {name!r}. storage_hook list --tenant {tenant} shows them.",
            returncode=COULD_NOT_RUN,
        )
    return found


def _row(hook: StorageHook) -> dict[str, Any]:
    """Without its secrets."""
    return {
        "name": hook.name,
        "url": hook.url,
        "event_types": hook.event_types,
        "bucket": None if hook.bucket is None else hook.bucket.name,
        "prefix": hook.prefix,
        "suffix": hook.suffix,
        "enabled": hook.enabled,
        "disabled_reason": hook.disabled_reason,
        "created_at": hook.created_at,
    }
