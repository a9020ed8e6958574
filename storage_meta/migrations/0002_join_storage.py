from __future__ import annotations

from django.db import migrations

import controlplane.core.constraints
from controlplane.core.operations import RunSQLFile

# table → privileges inside a tenant's scope, columns hidden from cp_reader
ISOLATED: dict[str, tuple[str, str]] = {
    "cp_storage_meta_bucket": ("SELECT, INSERT, UPDATE, DELETE", "{}"),
    "cp_storage_meta_storageobject": ("SELECT, INSERT, UPDATE, DELETE", "{}"),
    "cp_storage_meta_storageversion": ("SELECT, INSERT, UPDATE, DELETE", "{}"),
    "cp_storage_meta_storagehook": ("SELECT, INSERT, UPDATE, DELETE", "{secrets}"),
    "cp_storage_meta_storageevent": ("SELECT, INSERT, UPDATE, DELETE", "{}"),
    "cp_storage_meta_hookexecution": ("SELECT, INSERT, DELETE", "{}"),
    "cp_storage_meta_storagequota": ("SELECT", "{}"),
    "cp_storage_meta_storageusage": ("SELECT", "{}"),
    "cp_storage_meta_pendingblob": ("SELECT, INSERT, DELETE", "{}"),
}
# table → redacted columns
WATCHED = {
    "cp_storage_meta_bucket": "{}",
    "cp_storage_meta_storagehook": "{secrets}",
    "cp_storage_meta_storagequota": "{}",
}


def isolate(table: str, privileges: str, hidden: str) -> list[migrations.RunSQL]:
    return [
        migrations.RunSQL(
            [("SELECT cp_isolate(%s, %s, %s)", [table, "tenant_id", privileges])],
            [("SELECT cp_unisolate(%s)", [table])],
        ),
        migrations.RunSQL([("SELECT cp_readable(%s, %s)", [table, hidden])], [("SELECT cp_unreadable(%s)", [table])]),
    ]


def watch(table: str, redacted: str) -> list[migrations.RunSQL]:
    return [
        migrations.RunSQL(
            [("SELECT cp_audit_watch(%s, %s, '{}')", [table, redacted])],
            [("SELECT cp_audit_unwatch(%s)", [table])],
        ),
        migrations.RunSQL([("SELECT cp_touch(%s)", [table])], [("SELECT cp_untouch(%s)", [table])]),
    ]


class Migration(migrations.Migration):
    dependencies = [("cp_storage_meta", "0001_create_storage")]

    operations = [
        migrations.AddConstraint(
            model_name="hookexecution",
            constraint=controlplane.core.constraints.TenantForeignKey(
                fields=("tenant", "event"),
                name="cp_storage_meta_hookexecution_event_of_tenant",
                to="cp_storage_meta.StorageEvent",
                to_fields=("tenant", "id"),
                violation_error_code="wrong_tenant",
            ),
        ),
        migrations.AddConstraint(
            model_name="storagehook",
            constraint=controlplane.core.constraints.TenantForeignKey(
                fields=("tenant", "bucket"),
                name="cp_storage_meta_storagehook_bucket_of_tenant",
                to="cp_storage_meta.Bucket",
                to_fields=("tenant", "id"),
                violation_error_code="wrong_tenant",
            ),
        ),
        migrations.AddConstraint(
            model_name="storageevent",
            constraint=controlplane.core.constraints.TenantForeignKey(
                fields=("tenant", "hook"),
                name="cp_storage_meta_storageevent_hook_of_tenant",
                to="cp_storage_meta.StorageHook",
                to_fields=("tenant", "id"),
                violation_error_code="wrong_tenant",
            ),
        ),
        migrations.AddConstraint(
            model_name="storageversion",
            constraint=controlplane.core.constraints.TenantForeignKey(
                deferred=True,
                fields=("tenant", "object"),
                name="cp_storage_meta_storageversion_object_of_tenant",
                to="cp_storage_meta.StorageObject",
                to_fields=("tenant", "id"),
                violation_error_code="wrong_tenant",
            ),
        ),
        migrations.AddConstraint(
            model_name="storageversion",
            constraint=controlplane.core.constraints.TenantForeignKey(
                fields=("tenant", "bucket"),
                name="cp_storage_meta_storageversion_bucket_of_tenant",
                to="cp_storage_meta.Bucket",
                to_fields=("tenant", "id"),
                violation_error_code="wrong_tenant",
            ),
        ),
        migrations.AddConstraint(
            model_name="storageobject",
            constraint=controlplane.core.constraints.TenantForeignKey(
                fields=("tenant", "bucket"),
                name="cp_storage_meta_storageobject_bucket_of_tenant",
                to="cp_storage_meta.Bucket",
                to_fields=("tenant", "id"),
                violation_error_code="wrong_tenant",
            ),
        ),
        migrations.AddConstraint(
            model_name="storageobject",
            constraint=controlplane.core.constraints.TenantForeignKey(
                deferred=True,
                fields=("tenant", "current_version"),
                name="cp_storage_meta_storageobject_version_of_tenant",
                to="cp_storage_meta.StorageVersion",
                to_fields=("tenant", "id"),
                violation_error_code="wrong_tenant",
            ),
        ),
        *(operation for table, rules in ISOLATED.items() for operation in isolate(table, *rules)),
        *(operation for table, redacted in WATCHED.items() for operation in watch(table, redacted)),
        RunSQLFile("storage_meta", "0002_versions"),
    ]
