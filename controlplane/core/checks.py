"""What a project that installs the control plane can get wrong, told by `manage.py check` with the way to mend it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from django.apps import AppConfig, apps
from django.conf import settings
from django.core.checks import CheckMessage, Error, Tags, register
from django.core.checks import Warning as CheckWarning
from django.db import connections

import controlplane
from controlplane.core.caches.connections import LOAD, WAIT
from controlplane.core.conf import conf, known_keys

PACKAGES = ("controlplane", "auditing", "tenants", "catalog", "policies", "storage_meta")
OLDEST_SERVER = 150_000
LONGEST_LEASE = 5
ROLES = ("cp_tenant", "cp_reader")


@register()
def check_installation(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> Iterable[CheckMessage]:
    yield from _shadowed()
    yield from _relabelled()
    if conf.DATABASE not in settings.DATABASES:
        yield Error(
            f"CONTROLPLANE['DATABASE'] is {conf.DATABASE!r}, which DATABASES does not have.",
            hint=f"Choose one of {', '.join(settings.DATABASES)}, or add it.",
            id="cp_core.E003",
        )
    for key in sorted(set(getattr(settings, "CONTROLPLANE", {})) - known_keys()):
        yield Error(
            f"CONTROLPLANE has a key {key!r} that nothing reads.",
            hint=f"Check its spelling. Known: {', '.join(sorted(known_keys()))}.",
            id="cp_core.E006",
        )
    yield from _endless_lease()
    yield from _no_room()


def _shadowed() -> Iterable[CheckMessage]:
    """A project's own package of one of our names hides ours."""
    home = Path(controlplane.__file__).resolve().parent.parent
    for name in PACKAGES:
        spec = find_spec(name)
        origin = Path(spec.origin).resolve() if spec and spec.origin else None
        if origin is not None and not origin.is_relative_to(home):
            yield Error(
                f"The package {name!r} is {origin.parent}, not the control plane's.",
                hint="Rename your own package, or move it below another one: the import names of the control plane stay.",
                id="cp_core.E001",
            )


def _relabelled() -> Iterable[CheckMessage]:
    for config in apps.get_app_configs():
        expected = f"cp_{config.name.rpartition('.')[2]}"
        if config.name.split(".")[0] in PACKAGES and config.label != expected:
            yield Error(
                f"The app {config.name!r} has the label {config.label!r}, not {expected!r}.",
                hint="Install the app under its own AppConfig: tables and migrations carry the label.",
                id="cp_core.E002",
            )


def _endless_lease() -> Iterable[CheckMessage]:
    if not (0 < conf.CACHE_POLL < conf.CACHE_LEASE <= LONGEST_LEASE and LOAD + WAIT < conf.CACHE_LEASE):
        yield Error(
            f"CACHE_POLL is {conf.CACHE_POLL} s and CACHE_LEASE {conf.CACHE_LEASE} s: a stopped key would be refused too late.",
            hint=f"CACHE_LEASE is at most {LONGEST_LEASE} s and more than the {LOAD + WAIT:g} s that a load and those who wait "
            "for it may take; CACHE_POLL is less than it, and more than 0.",
            id="cp_core.E201",
        )


def _no_room() -> Iterable[CheckMessage]:
    for key in sorted(key for key in known_keys() if re.fullmatch(r"CACHE_(.+_(SIZE|TTL)|MAX_LOADS)", key)):
        if getattr(conf, key) < 1:
            yield Error(
                f"{key} is {getattr(conf, key)}: with nothing in it, a cache has no bound or no answer.",
                hint="Use at least 1. A cache cannot be turned off: it forgets what is changed by itself.",
                id="cp_core.E202",
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """What the database says of itself. endless: no statement_timeout; above: past row security; creates: may make roles; enters:
    may become cp_tenant, or is to be made able to by the migration."""

    version: int
    encoding: str
    endless: bool
    above: bool
    creates: bool
    enters: bool
    roles: frozenset[str]


@register(Tags.database)
def check_database(
    app_configs: Sequence[AppConfig] | None, databases: Sequence[str] | None = None, **kwargs: Any
) -> Iterable[CheckMessage]:
    """Runs with `check --database` and before `migrate`."""
    return faults_of(read_server(conf.DATABASE)) if conf.DATABASE in (databases or ()) else []


def read_server(alias: str) -> Server:
    with connections[alias].cursor() as cursor:
        cursor.execute(
            "SELECT current_setting('server_version_num')::int, current_setting('server_encoding'), "
            "current_setting('statement_timeout') = '0', r.rolsuper OR r.rolbypassrls, r.rolcreaterole, "
            "ARRAY(SELECT rolname::text FROM pg_roles WHERE rolname LIKE 'cp\\_%%'), "
            "coalesce((SELECT pg_has_role(current_user, oid, 'MEMBER') FROM pg_roles WHERE rolname = 'cp_tenant'), true) "
            "FROM pg_roles r WHERE r.rolname = current_user"
        )
        version, encoding, endless, above, creates, roles, enters = cursor.fetchone()
    return Server(
        version=version,
        encoding=encoding,
        endless=endless,
        above=above,
        creates=creates,
        enters=enters,
        roles=frozenset(roles),
    )


def faults_of(server: Server) -> Iterable[CheckMessage]:
    """What is wrong with a server; pure."""
    missing = [name for name in ROLES if name not in server.roles]
    if server.version < OLDEST_SERVER or server.encoding != "UTF8":
        yield Error(
            f"The server is PostgreSQL {server.version // 10_000} in {server.encoding}.",
            hint="The control plane needs PostgreSQL 15 or newer, and a database in UTF8.",
            id="cp_core.E005",
        )
    if missing and not server.creates:
        yield Error(
            f"The roles {', '.join(missing)} are missing, and this login may not create them.",
            hint="Let an administrator run: "
            + " ".join(f"CREATE ROLE {name} NOLOGIN;" for name in missing)
            + " GRANT cp_tenant TO <this login>;",
            id="cp_core.E004",
        )
    elif not server.enters and not server.creates:
        yield Error(
            "This login is no member of the role cp_tenant, and may not make itself one.",
            hint="Let an administrator run: GRANT cp_tenant TO <this login>;",
            id="cp_core.E004",
        )
    if server.endless:
        yield CheckWarning(
            "statement_timeout is 0: a statement may run for ever.",
            hint="Set DB_STATEMENT_TIMEOUT, or ALTER ROLE … SET statement_timeout.",
            id="cp_core.W007",
        )
    if server.above:
        yield CheckWarning(
            "The login is a superuser or bypasses row security: a tenant's scope still holds, but nothing else does.",
            hint="Use a login without SUPERUSER and BYPASSRLS that owns the tables.",
            id="cp_core.W008",
        )
