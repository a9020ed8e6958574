from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

from django.apps import AppConfig
from django.core.checks import CheckMessage, Error, Tags, register
from django.db import connections

from controlplane.core.conf import conf
from tenants import tokens
from tenants.tokens import NEWEST

LIVE = {
    "secrets": "SELECT s.hash_version, count(*) FROM cp_tenants_apikeysecret s JOIN cp_tenants_apikey k ON k.id = s.key_id "
    "WHERE s.revoked_at IS NULL AND k.revoked_at IS NULL AND s.hash_version <> ALL (%s) GROUP BY 1 ORDER BY 1",
    "refresh tokens": "SELECT t.hash_version, count(*) FROM cp_tenants_refreshtoken t "
    "JOIN cp_tenants_refreshfamily f ON f.id = t.family_id "
    "WHERE t.used_at IS NULL AND t.expires_at > now() AND f.revoked_at IS NULL AND t.hash_version <> ALL (%s) "
    "GROUP BY 1 ORDER BY 1",
}
SAMPLES = (*(tokens.new_key(environment).token for environment in ("live", "test")), tokens.new_refresh())


@register(Tags.security)
def check_peppers(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> Iterable[CheckMessage]:
    """Peppers are hex of at least 32 bytes, and the one that writes is listed. The message never shows one."""
    for version, pepper in conf.API_KEY_PEPPERS.items():
        if version and (re.fullmatch(r"([0-9A-Fa-f]{2}){32,}", pepper) is None):
            yield Error(
                f"The pepper {version} of API_KEY_PEPPERS is not hex of at least 32 bytes.",
                hint="Make one: openssl rand -hex 32",
                id="cp_tenants.E001",
            )
    writes = conf.API_KEY_PEPPER_WRITES
    if writes != NEWEST and writes not in conf.API_KEY_PEPPERS:
        yield Error(
            f"API_KEY_PEPPER_WRITES is {writes}, which API_KEY_PEPPERS does not list: the newest that it lists writes.",
            hint="List that version, or leave the setting out once all processes know the newest.",
            id="cp_tenants.E001",
        )


@register(Tags.database)
def check_versions(
    app_configs: Sequence[AppConfig] | None, databases: Sequence[str] | None = None, **kwargs: Any
) -> Iterable[CheckMessage]:
    """Live secrets whose pepper is not listed open nothing. Silent before the first migration."""
    if conf.DATABASE not in (databases or ()):
        return
    connection = connections[conf.DATABASE]
    if "cp_tenants_refreshtoken" not in connection.introspection.table_names():
        return
    listed = tokens.versions(conf.API_KEY_PEPPERS, conf.API_KEY_PEPPER_WRITES)
    with connection.cursor() as cursor:
        for what, statement in LIVE.items():
            cursor.execute(statement, [listed])
            for version, count in cursor.fetchall():
                yield Error(
                    f"{count} live {what} have digests of version {version}, not listed in API_KEY_PEPPERS: "
                    "they open nothing.",
                    hint=f"List {version}: again (0: stands for none; the three highest count), or run keys_rehash and rotate.",
                    id="cp_tenants.E001",
                )


@register(Tags.security)
def check_foreign_patterns(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> Iterable[CheckMessage]:
    """Patterns of foreign tokens are regular expressions that match none of ours."""
    for pattern in conf.API_KEY_FOREIGN_PATTERNS:
        try:
            (compiled,) = tokens.compiled((pattern,))
        except re.error as error:
            yield Error(
                f"{pattern!r} in API_KEY_FOREIGN_PATTERNS is no regular expression: {error}.",
                hint="Correct it; in the environment backslashes inside JSON are doubled.",
                id="cp_tenants.E002",
            )
            continue
        if any(compiled.fullmatch(sample) for sample in SAMPLES):
            yield Error(
                f"{pattern!r} in API_KEY_FOREIGN_PATTERNS matches the tokens of this control plane.",
                hint="Make it narrower: it is for the tokens of another gateway.",
                id="cp_tenants.E002",
            )
