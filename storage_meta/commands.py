"""What the commands about stored objects share: a tenant's handle, a bucket of it, figures for people."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import TYPE_CHECKING

from auditing.context import command_actor
from storage_meta.models import StorageObject
from tenants import commands
from tenants.commands import add_tenant

if TYPE_CHECKING:
    from storage_meta.handle import Files

__all__ = ("Command", "add_bucket", "add_json", "add_tenant", "printable")


class Command(commands.Command):
    """Base of the commands of storage_meta."""

    def files(self, tenant: str, bucket: str | None = None) -> Files:
        """The handle of a tenant by its slug, for one bucket or all; the access log names this command.

        Raises TenantsError (not_found, not_active) at once; whether there is such a bucket is asked by the calls.
        """
        files = StorageObject.objects.for_tenant(commands.tenant_by_slug(tenant), actor=command_actor(self.name))
        return files if bucket is None else files.bucket(bucket)


def add_bucket(parser: ArgumentParser, *, required: bool = True, help: str = "the bucket of the tenant") -> None:
    parser.add_argument("--bucket", required=required, metavar="NAME", help=help)


def add_json(parser: ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="what was done as one JSON object, for scripts")


def printable(text: str) -> str:
    """A key as a line shows it: it may hold what a terminal obeys, or the end of a line."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)
