from __future__ import annotations

from django.db import migrations

# table → kind in the log of changes, column that names what changed, columns that a verification reads, events. A new
# tenant, app, branch, user or key opens nothing by itself, so only a new secret is noted.
WATCHED: dict[str, tuple[str, str, str, str]] = {
    "cp_tenants_tenant": ("tenant", "id", "{status}", "{update,delete}"),
    "cp_tenants_app": ("app", "id", "{status}", "{update,delete}"),
    "cp_tenants_branch": ("branch", "id", "{status}", "{update,delete}"),
    "cp_tenants_user": ("user", "id", "{is_active}", "{update,delete}"),
    "cp_tenants_apikey": (
        "key", "id", "{enabled,revoked_at,not_before,expires_at,scopes,allowed_models,environment}", "{update,delete}",
    ),
    "cp_tenants_apikeysecret": (
        "key", "key_id", "{key_id,kid,digest,hash_version,expires_at,revoked_at}", "{insert,update,delete}",
    ),
}  # fmt: skip


class Migration(migrations.Migration):
    dependencies = [("cp_tenants", "0005_guard_refresh"), ("cp_core", "0002_create_invalidation")]

    operations = [
        migrations.RunSQL(
            [("SELECT cp_cache_watch(%s, %s, %s, %s, %s)", [table, *rules])],
            [("SELECT cp_cache_unwatch(%s)", [table])],
        )
        for table, rules in WATCHED.items()
    ]
