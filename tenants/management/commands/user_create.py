from __future__ import annotations

import sys
from argparse import ArgumentParser
from typing import Any

from django.contrib.auth.password_validation import validate_password
from django.core.management.base import CommandError

from auditing.context import audit_context, command_actor
from controlplane.core.commands import COULD_NOT_RUN
from tenants import commands
from tenants.models import Role, User

ROLES = [role for role in Role.values if role != Role.OPERATOR]


class Command(commands.Command):
    help = (
        "Makes a user of a tenant. Without --password-stdin no password signs in; an operator of the platform is made "
        "by createsuperuser."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("email", help="e-mail, unique in the tenant")
        commands.add_tenant(parser)
        parser.add_argument("--role", choices=ROLES, default=Role.VIEWER.value, help="what it may do (viewer)")
        parser.add_argument("--name", default="", help="name for people")
        parser.add_argument("--username", help="user name, unique in the tenant")
        parser.add_argument(
            "--password-stdin", action="store_true", help="take the password from the first line of stdin"
        )
        commands.add_json(parser)

    def handle(self, *args: Any, email: str, tenant: str, **options: Any) -> None:
        owner = commands.tenant_by_slug(tenant)
        fields = {"display_name": options["name"], "username": options["username"], "role": options["role"]}
        password = self.password(User(email=email, **fields)) if options["password_stdin"] else None
        with audit_context(actor=command_actor(self.name)):
            user = User.objects.create_user(email, password, tenant=owner, **fields)
        self.report(commands.user_row(user), f"Made the user {user.email} of {tenant}.", as_json=options["json"])

    def password(self, user: User) -> str:
        password = sys.stdin.readline().rstrip("\n")
        if not password:
            raise CommandError(
                "There is no password on stdin: pipe one line into the command.", returncode=COULD_NOT_RUN
            )
        validate_password(password, user)
        return password
