from __future__ import annotations

import os
import secrets
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from django.conf import settings
from django.contrib.auth import get_user_model
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError
from django.db import connection
from django.db.migrations.executor import MigrationExecutor

from auditing.context import audit_context, command_actor
from auditing.models import AuditLog
from catalog.importing import import_bundled
from controlplane.core import partitions
from controlplane.core.ids import PLATFORM, now
from controlplane.devdb.errors import DevdbError, folder_errors
from controlplane.env import Env, checkout_file, load, local_secret
from controlplane.running import announce, claim, find
from controlplane.serving import (
    ServeExtraMissing,
    ServingError,
    become_gunicorn,
    listen,
    listen_on_first_free,
    require_gunicorn,
    workers,
)

HOST = "127.0.0.1"
PORTS = range(8000, 8010)
GRACEFUL_S = 3  # Ctrl-C ends everything within 5 s
WAIT_S = 600.0  # for another `up` that still sets up
ADMIN = "admin"


class Command(BaseCommand):
    help = (
        "Brings the project up on this machine: starts the embedded PostgreSQL (unless DATABASE_URL is set), migrates, "
        "makes demo data and the user `admin` once, and serves on 127.0.0.1 with the worker beside it until Ctrl-C; the "
        "database stays up. "
        "PORT: the port; unset, the first free one of 8000 to 8009. When it runs already, its address is shown."
    )
    requires_system_checks: list[str] = []

    def handle(self, *args: Any, **options: Any) -> None:
        folder = Path(settings.DEVDB_DIR)
        try:
            require_gunicorn()
            with folder_errors(folder):
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
                first = self.become_first(folder)
            if first:
                self.bring_up(folder, load(checkout_file()))
        except (DevdbError, ServeExtraMissing) as error:
            raise CommandError(str(error), returncode=2) from error
        except ServingError as error:
            raise CommandError(str(error)) from error

    def become_first(self, folder: Path) -> bool:
        """Whether this process is to serve; else the one that does has been shown."""
        deadline = time.monotonic() + WAIT_S
        waiting = False
        while not claim(folder):
            if running := find(folder):
                self.say(f"Already running: {running.url}")
                self.show_sign_in(folder)
                return False
            if time.monotonic() > deadline:
                raise CommandError(f"Another `up` of this checkout has not come up within {WAIT_S:.0f} s: end it.")
            if not waiting:
                self.say("Another `up` of this checkout is starting; waiting for it …")
                waiting = True
            time.sleep(0.1)
        return True

    def bring_up(self, folder: Path, env: Env) -> None:
        listener = listener_for(env)
        self.say("Database: connecting …" if settings.DATABASE_URL else f"Database: PostgreSQL in {folder} …")
        connection.ensure_connection()
        self.migrate()
        for log in partitions.registered():
            partitions.ensure(log, now())
        make_admin(folder)
        if not AuditLog.objects.for_tenant(PLATFORM).with_action("demo.seeded").exists():
            self.say("Demo data: making it …")
            call_command("seed_demo")
        with audit_context(actor=command_actor("up"), reason="first start"):
            import_bundled()
        running = announce(folder, listener.getsockname()[1])
        self.say("")
        self.say(f"Open {running.url}")
        self.show_sign_in(folder)
        self.say("Ctrl-C stops serving; the database stays up (`manage.py devdb stop` stops it).")
        connection.close()
        start_worker()
        become_gunicorn("controlplane.running:application()", listener, workers(env, GRACEFUL_S), env)

    def migrate(self) -> None:
        executor = MigrationExecutor(connection)
        plan = executor.migration_plan(executor.loader.graph.leaf_nodes())
        if not plan:
            self.say("Tables: up to date")
            return
        self.say(f"Tables: applying {len(plan)} migrations …")
        call_command("migrate", interactive=False)

    def show_sign_in(self, folder: Path) -> None:
        password = kept_password(folder)
        if password is None:
            self.say(
                f"Sign in with your own account; `manage.py changepassword {ADMIN}` sets a new password for {ADMIN}."
            )
        else:
            self.say(f"User {ADMIN}, password {password}")

    def say(self, line: str) -> None:
        self.stdout.write(line)
        self.stdout.flush()  # seen at once, in a pipe too


def start_worker() -> None:
    """A process that does the duties for as long as the one that this one turns into serves."""
    command = [sys.executable, "-m", "controlplane", "run_worker", "--beside", str(os.getpid())]
    subprocess.Popen(command, stdin=subprocess.DEVNULL)  # noqa: S603 (our own interpreter and arguments)


def listener_for(env: Env) -> socket.socket:
    """Raises PortTaken, PortUnusable, NoFreePort."""
    return listen(HOST, env.int("PORT")) if "PORT" in env else listen_on_first_free(HOST, PORTS)


def password_file(folder: Path) -> Path:
    return folder / "admin-password"


def make_admin(folder: Path) -> None:
    """Make the operator `admin` where there is no superuser yet, with a password kept in a file that its owner
    reads."""
    users = get_user_model().objects
    if users.filter(is_superuser=True).exists():
        return
    password = local_secret(password_file(folder), lambda: secrets.token_urlsafe(15))
    with audit_context(actor=command_actor("up"), reason="first start"):
        users.create_superuser(f"{ADMIN}@example.com", password, username=ADMIN)


def kept_password(folder: Path) -> str | None:
    """The password of `admin`, while the one in the file is still its own."""
    user = get_user_model().objects.filter(username=ADMIN, is_superuser=True).first()
    path = password_file(folder)
    if user is None or not path.is_file():
        return None
    password = path.read_text()
    return password if user.check_password(password) else None
