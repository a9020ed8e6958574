from __future__ import annotations

import datetime

import django.contrib.postgres.fields
import django.contrib.postgres.indexes
import django.contrib.postgres.search
import django.core.validators
import django.db.models.deletion
import django.db.models.functions.datetime
import django.db.models.lookups
from django.db import migrations, models

import controlplane.core.constraints
import controlplane.core.fields
import controlplane.core.ids
from controlplane.core.operations import RunSQLFile


class Migration(migrations.Migration):
    initial = True

    dependencies = [
        ("cp_core", "0005_name_instants"),
        ("cp_auditing", "0012_watch_at_once"),
        ("cp_tenants", "0008_check_scopes"),
    ]

    operations = [
        RunSQLFile("storage_meta", "0001_words"),
        migrations.CreateModel(
            name="Bucket",
            fields=[
                (
                    "id",
                    models.UUIDField(
                        db_comment="UUIDv7",
                        default=controlplane.core.ids.uuid7,
                        editable=False,
                        primary_key=True,
                        serialize=False,
                    ),
                ),
                (
                    "name",
                    models.CharField(
                        db_comment="Name in URIs: s3://<name>/<key>",
                        max_length=63,
                        validators=[
                            django.core.validators.RegexValidator(
                                "^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$(?<!\\n)",
                                "A bucket's name has 3 to 63 of a-z, 0-9, dot and hyphen, and begins and ends with a letter or digit.",
                                code="invalid_name",
                            )
                        ],
                    ),
                ),
                (
                    "versioning",
                    models.CharField(
                        choices=[("unversioned", "Unversioned"), ("enabled", "Enabled"), ("suspended", "Suspended")],
                        db_comment="What a put and a delete do",
                        default="unversioned",
                        max_length=11,
                    ),
                ),
                (
                    "storage",
                    models.CharField(
                        blank=True,
                        db_comment="Alias in STORAGES for new blobs; empty: STORAGE_ALIAS",
                        default="",
                        max_length=64,
                    ),
                ),
                (
                    "audit_reads",
                    models.CharField(
                        choices=[("none", "None"), ("data", "Downloads"), ("all", "Downloads, heads and lists")],
                        db_comment="Which reads leave a row in the access log",
                        default="data",
                        max_length=4,
                    ),
                ),
                (
                    "expire_days",
                    models.PositiveIntegerField(
                        blank=True, db_comment="Days after which a current version expires; NULL: never", null=True
                    ),
                ),
                (
                    "noncurrent_days",
                    models.PositiveIntegerField(
                        blank=True,
                        db_comment="Days that a version is kept after a newer one came; NULL: for ever",
                        null=True,
                    ),
                ),
                (
                    "keep_versions",
                    models.PositiveIntegerField(
                        blank=True,
                        db_comment="Newest noncurrent versions that are kept whatever their age; NULL: none",
                        null=True,
                    ),
                ),
                (
                    "audit_days",
                    models.PositiveIntegerField(
                        blank=True, db_comment="Days that its access log is kept; NULL: as all others", null=True
                    ),
                ),
                (
                    "default_retain_days",
                    models.PositiveIntegerField(
                        blank=True, db_comment="Days that a new version is locked; NULL: not at all", null=True
                    ),
                ),
                (
                    "created_at",
                    models.DateTimeField(
                        db_comment="When the row was made",
                        db_default=django.db.models.functions.datetime.Now(),
                        editable=False,
                    ),
                ),
                (
                    "updated_at",
                    models.DateTimeField(
                        db_comment="When the row was last changed; set by a trigger",
                        db_default=django.db.models.functions.datetime.Now(),
                        editable=False,
                    ),
                ),
                (
                    "tenant",
                    models.ForeignKey(
                        db_comment="Whose it is",
                        db_index=False,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="buckets",
                        to="cp_tenants.tenant",
                    ),
                ),
            ],
            options={
                "db_table_comment": "A named room for objects of a tenant, and the rules they live by",
            },
        ),
        migrations.CreateModel(
            name="PendingBlob",
            fields=[
                (
                    "id",
                    models.UUIDField(
                        db_comment="UUIDv7",
                        default=controlplane.core.ids.uuid7,
                        editable=False,
                        primary_key=True,
                        serialize=False,
                    ),
                ),
                ("tenant_id", models.UUIDField(db_comment="Whose blob it is")),
                ("storage_backend", models.CharField(db_comment="Alias in STORAGES", max_length=64)),
                ("blob_name", models.TextField(db_collation="C", db_comment="Name of the blob there")),
                (
                    "reason",
                    models.CharField(
                        choices=[("upload", "Upload"), ("delete", "Delete")],
                        db_comment="upload or delete",
                        max_length=6,
                    ),
                ),
                ("started_at", models.DateTimeField(db_comment="Since when")),
            ],
            options={
                "db_table_comment": "A blob that is being written, or is to be removed",
                "indexes": [models.Index(fields=["reason", "started_at"], name="pendingblob_due_idx")],
                "constraints": [
                    models.UniqueConstraint(fields=("blob_name",), name="cp_storage_meta_pendingblob_blob_once"),
                    models.CheckConstraint(
                        condition=models.Q(("reason__in", ["upload", "delete"])),
                        name="cp_storage_meta_pendingblob_reason",
                    ),
                ],
            },
        ),
        migrations.CreateModel(
            name="StorageEvent",
            fields=[
                (
                    "id",
                    models.UUIDField(
                        db_comment="UUIDv7",
                        default=controlplane.core.ids.uuid7,
                        editable=False,
                        primary_key=True,
                        serialize=False,
                    ),
                ),
                ("event_type", models.CharField(db_comment="What happened, as s3:ObjectCreated:Put", max_length=64)),
                ("object_key", models.TextField(db_collation="C", db_comment="To which key")),
                (
                    "version_id",
                    models.CharField(blank=True, db_comment="Which version; null, or hex", default="", max_length=64),
                ),
                (
                    "sequencer",
                    models.CharField(
                        blank=True, db_comment="Order among the changes of a key", default="", max_length=16
                    ),
                ),
                ("payload", models.JSONField(blank=True, db_comment="What is sent")),
                (
                    "state",
                    models.CharField(
                        choices=[("pending", "Pending"), ("done", "Done"), ("dead", "Dead")],
                        db_comment="pending, done or dead",
                        default="pending",
                        max_length=7,
                    ),
                ),
                ("attempts", models.IntegerField(db_comment="How often it was tried", default=0)),
                ("next_attempt_at", models.DateTimeField(db_comment="When it is tried next")),
                (
                    "leased_until",
                    models.DateTimeField(blank=True, db_comment="Until when a worker has it; NULL: nobody", null=True),
                ),
                (
                    "created_at",
                    models.DateTimeField(
                        db_comment="When the row was made",
                        db_default=django.db.models.functions.datetime.Now(),
                        editable=False,
                    ),
                ),
                (
                    "tenant",
                    models.ForeignKey(
                        db_comment="Whose it is",
                        db_index=False,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="+",
                        to="cp_tenants.tenant",
                    ),
                ),
            ],
            options={
                "verbose_name": "event",
                "db_table_comment": "A change that a hook is to be told of",
            },
        ),
        migrations.CreateModel(
            name="HookExecution",
            fields=[
                (
                    "id",
                    models.UUIDField(
                        db_comment="UUIDv7",
                        default=controlplane.core.ids.uuid7,
                        editable=False,
                        primary_key=True,
                        serialize=False,
                    ),
                ),
                ("hook_name", models.CharField(db_comment="The hook, by its name then", max_length=200)),
                ("attempt", models.IntegerField(db_comment="Which attempt, from 1", default=1)),
                ("event_type", models.CharField(db_comment="What happened", max_length=64)),
                ("object_key", models.TextField(db_collation="C", db_comment="To which key")),
                ("execution_time", models.DurationField(db_comment="How long it took", default=datetime.timedelta)),
                ("success", models.BooleanField(db_comment="Whether the answer was 2xx")),
                (
                    "status_code",
                    models.IntegerField(blank=True, db_comment="Status of the answer; NULL: there was none", null=True),
                ),
                ("error_message", models.TextField(blank=True, db_comment="What went wrong", default="")),
                ("response", models.TextField(blank=True, db_comment="First 4 KiB of the answer", default="")),
                ("payload", models.JSONField(blank=True, db_comment="What was sent", null=True)),
                (
                    "created_at",
                    models.DateTimeField(
                        db_comment="When the row was made",
                        db_default=django.db.models.functions.datetime.Now(),
                        editable=False,
                    ),
                ),
                (
                    "tenant",
                    models.ForeignKey(
                        db_comment="Whose it is",
                        db_index=False,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="+",
                        to="cp_tenants.tenant",
                    ),
                ),
                (
                    "event",
                    models.ForeignKey(
                        blank=True,
                        db_comment="Of which event; NULL: logged by a caller",
                        db_constraint=False,
                        db_index=False,
                        null=True,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="executions",
                        to="cp_storage_meta.storageevent",
                    ),
                ),
            ],
            options={
                "verbose_name": "hook execution",
                "db_table_comment": "One attempt to tell a hook of an event",
            },
        ),
        migrations.CreateModel(
            name="StorageHook",
            fields=[
                (
                    "id",
                    models.UUIDField(
                        db_comment="UUIDv7",
                        default=controlplane.core.ids.uuid7,
                        editable=False,
                        primary_key=True,
                        serialize=False,
                    ),
                ),
                ("name", models.CharField(db_comment="Name for people and in the log of deliveries", max_length=200)),
                ("url", models.CharField(db_comment="Where events are sent: https, port 443 or 8443", max_length=2000)),
                (
                    "event_types",
                    django.contrib.postgres.fields.ArrayField(
                        base_field=models.CharField(max_length=64),
                        db_comment="Which changes, as s3:ObjectCreated:*",
                        size=None,
                    ),
                ),
                (
                    "prefix",
                    models.CharField(blank=True, db_comment="Of keys that begin so", default="", max_length=1024),
                ),
                ("suffix", models.CharField(blank=True, db_comment="Of keys that end so", default="", max_length=1024)),
                (
                    "secrets",
                    controlplane.core.fields.EncryptedTextField(
                        db_comment="One or two signing secrets, one a line, newest first; encrypted",
                        default="",
                        editable=False,
                    ),
                ),
                (
                    "enabled",
                    models.BooleanField(db_comment="Whether changes make events and events are sent", default=True),
                ),
                (
                    "disabled_reason",
                    models.CharField(blank=True, db_comment="Why it is not enabled", default="", max_length=500),
                ),
                (
                    "created_at",
                    models.DateTimeField(
                        db_comment="When the row was made",
                        db_default=django.db.models.functions.datetime.Now(),
                        editable=False,
                    ),
                ),
                (
                    "updated_at",
                    models.DateTimeField(
                        db_comment="When the row was last changed; set by a trigger",
                        db_default=django.db.models.functions.datetime.Now(),
                        editable=False,
                    ),
                ),
                (
                    "bucket",
                    models.ForeignKey(
                        blank=True,
                        db_comment="Of which bucket; NULL: of all",
                        db_constraint=False,
                        db_index=False,
                        null=True,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="hooks",
                        to="cp_storage_meta.bucket",
                    ),
                ),
                (
                    "tenant",
                    models.ForeignKey(
                        db_comment="Whose it is",
                        db_index=False,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="storage_hooks",
                        to="cp_tenants.tenant",
                    ),
                ),
            ],
            options={
                "verbose_name": "hook",
                "db_table_comment": "An address that is told of changes to a tenant's objects",
            },
        ),
        migrations.AddField(
            model_name="storageevent",
            name="hook",
            field=models.ForeignKey(
                db_comment="Whom to tell",
                db_constraint=False,
                db_index=False,
                on_delete=django.db.models.deletion.CASCADE,
                related_name="events",
                to="cp_storage_meta.storagehook",
            ),
        ),
        migrations.CreateModel(
            name="StorageObject",
            fields=[
                ("size", models.BigIntegerField(db_comment="Bytes; 0 of a delete marker", default=0)),
                (
                    "content_type",
                    models.CharField(
                        blank=True, db_comment="MIME type, as the caller says", default="", max_length=255
                    ),
                ),
                (
                    "etag",
                    models.CharField(
                        blank=True,
                        db_comment="MD5 in hex; with - it is opaque, of parts; no quotes",
                        default="",
                        max_length=255,
                    ),
                ),
                (
                    "checksum_sha256",
                    models.CharField(blank=True, db_comment="SHA-256 in hex; '': unknown", default="", max_length=64),
                ),
                (
                    "storage_backend",
                    models.CharField(
                        blank=True,
                        db_comment="Alias in STORAGES; a free label where there is no blob",
                        default="",
                        max_length=64,
                    ),
                ),
                (
                    "storage_class",
                    models.CharField(db_comment="Class, as the caller says", default="STANDARD", max_length=64),
                ),
                (
                    "metadata",
                    models.JSONField(
                        blank=True, db_comment="Anything about it, at most 64 KiB; searchable", default=dict
                    ),
                ),
                (
                    "tags",
                    models.JSONField(
                        blank=True, db_comment="At most 10 names with values; searchable exactly", default=dict
                    ),
                ),
                (
                    "id",
                    models.UUIDField(
                        db_comment="UUIDv7",
                        default=controlplane.core.ids.uuid7,
                        editable=False,
                        primary_key=True,
                        serialize=False,
                    ),
                ),
                (
                    "object_key",
                    models.TextField(db_collation="C", db_comment="S3's key, byte for byte; 1 to 1,024 bytes of UTF-8"),
                ),
                ("next_seq", models.BigIntegerField(db_comment="The seq that the next version gets", default=1)),
                (
                    "change_seq",
                    models.BigIntegerField(
                        db_comment="Rises with each change, also after the key was gone; 16 hex digits: the sequencer",
                        default=0,
                    ),
                ),
                (
                    "is_delete_marker",
                    models.BooleanField(db_comment="Whether the current version is a delete marker", default=False),
                ),
                ("last_modified", models.DateTimeField(db_comment="When the current version came")),
                (
                    "created_at",
                    models.DateTimeField(
                        db_comment="When the row was made",
                        db_default=django.db.models.functions.datetime.Now(),
                        editable=False,
                    ),
                ),
                (
                    "search_vector",
                    models.GeneratedField(
                        db_comment="Words of key (A), content type (B) and metadata (C)",
                        db_persist=True,
                        expression=models.Func(
                            models.F("object_key"),
                            models.F("content_type"),
                            models.F("metadata"),
                            function="cp_storage_tsv",
                        ),
                        output_field=django.contrib.postgres.search.SearchVectorField(),
                    ),
                ),
                (
                    "bucket",
                    models.ForeignKey(
                        db_comment="Where it lies",
                        db_constraint=False,
                        db_index=False,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="+",
                        to="cp_storage_meta.bucket",
                    ),
                ),
                (
                    "tenant",
                    models.ForeignKey(
                        db_comment="Whose it is",
                        db_index=False,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="+",
                        to="cp_tenants.tenant",
                    ),
                ),
            ],
            options={
                "verbose_name": "object",
                "db_table_comment": "What a key of a bucket holds now",
            },
        ),
        migrations.CreateModel(
            name="StorageQuota",
            fields=[
                (
                    "id",
                    models.UUIDField(
                        db_comment="UUIDv7",
                        default=controlplane.core.ids.uuid7,
                        editable=False,
                        primary_key=True,
                        serialize=False,
                    ),
                ),
                (
                    "max_bytes",
                    models.BigIntegerField(blank=True, db_comment="Bytes of all versions; NULL: no limit", null=True),
                ),
                (
                    "max_objects",
                    models.BigIntegerField(blank=True, db_comment="Live objects; NULL: no limit", null=True),
                ),
                (
                    "on_excess",
                    models.CharField(
                        choices=[("warn", "Warn"), ("refuse", "Refuse")],
                        db_comment="What happens to a put above it",
                        default="refuse",
                        max_length=6,
                    ),
                ),
                (
                    "created_at",
                    models.DateTimeField(
                        db_comment="When the row was made",
                        db_default=django.db.models.functions.datetime.Now(),
                        editable=False,
                    ),
                ),
                (
                    "updated_at",
                    models.DateTimeField(
                        db_comment="When the row was last changed; set by a trigger",
                        db_default=django.db.models.functions.datetime.Now(),
                        editable=False,
                    ),
                ),
                (
                    "tenant",
                    models.OneToOneField(
                        db_comment="Whose it is",
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="storage_quota",
                        to="cp_tenants.tenant",
                    ),
                ),
            ],
            options={
                "verbose_name": "quota",
                "db_table_comment": "How much a tenant may store",
            },
        ),
        migrations.CreateModel(
            name="StorageUsage",
            fields=[
                (
                    "id",
                    models.UUIDField(
                        db_comment="UUIDv7",
                        default=controlplane.core.ids.uuid7,
                        editable=False,
                        primary_key=True,
                        serialize=False,
                    ),
                ),
                ("bytes", models.BigIntegerField(db_comment="Bytes of all its versions", default=0)),
                (
                    "objects_count",
                    models.BigIntegerField(
                        db_column="objects", db_comment="Its live objects", default=0, verbose_name="objects"
                    ),
                ),
                ("versions", models.BigIntegerField(db_comment="All its versions, markers too", default=0)),
                ("counted_at", models.DateTimeField(db_comment="When that was so")),
                (
                    "created_at",
                    models.DateTimeField(
                        db_comment="When the row was made",
                        db_default=django.db.models.functions.datetime.Now(),
                        editable=False,
                    ),
                ),
                (
                    "tenant",
                    models.OneToOneField(
                        db_comment="Whose it is",
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="storage_usage",
                        to="cp_tenants.tenant",
                    ),
                ),
            ],
            options={
                "verbose_name": "usage of a tenant",
                "verbose_name_plural": "usage by tenant",
                "db_table_comment": "What a tenant stored when it was last counted",
            },
        ),
        migrations.CreateModel(
            name="StorageVersion",
            fields=[
                ("size", models.BigIntegerField(db_comment="Bytes; 0 of a delete marker", default=0)),
                (
                    "content_type",
                    models.CharField(
                        blank=True, db_comment="MIME type, as the caller says", default="", max_length=255
                    ),
                ),
                (
                    "etag",
                    models.CharField(
                        blank=True,
                        db_comment="MD5 in hex; with - it is opaque, of parts; no quotes",
                        default="",
                        max_length=255,
                    ),
                ),
                (
                    "checksum_sha256",
                    models.CharField(blank=True, db_comment="SHA-256 in hex; '': unknown", default="", max_length=64),
                ),
                (
                    "storage_backend",
                    models.CharField(
                        blank=True,
                        db_comment="Alias in STORAGES; a free label where there is no blob",
                        default="",
                        max_length=64,
                    ),
                ),
                (
                    "storage_class",
                    models.CharField(db_comment="Class, as the caller says", default="STANDARD", max_length=64),
                ),
                (
                    "metadata",
                    models.JSONField(
                        blank=True, db_comment="Anything about it, at most 64 KiB; searchable", default=dict
                    ),
                ),
                (
                    "tags",
                    models.JSONField(
                        blank=True, db_comment="At most 10 names with values; searchable exactly", default=dict
                    ),
                ),
                (
                    "id",
                    models.UUIDField(
                        db_comment="UUIDv7",
                        default=controlplane.core.ids.uuid7,
                        editable=False,
                        primary_key=True,
                        serialize=False,
                    ),
                ),
                ("seq", models.BigIntegerField(db_comment="1, 2, 3 … of the key: the order of its versions")),
                (
                    "null_version",
                    models.BooleanField(
                        db_comment="Whether its version id is null, as without versioning", default=False
                    ),
                ),
                (
                    "external_id",
                    models.CharField(blank=True, db_comment="Its id elsewhere; '': none", default="", max_length=1024),
                ),
                (
                    "is_delete_marker",
                    models.BooleanField(db_comment="Whether it says that the key is deleted", default=False),
                ),
                (
                    "blob_name",
                    models.TextField(blank=True, db_collation="C", db_comment="Name of its blob; '': none", default=""),
                ),
                ("created_by", models.CharField(blank=True, db_comment="Who put it", default="", max_length=255)),
                ("comment", models.TextField(blank=True, db_comment="What the caller said of it", default="")),
                (
                    "legal_hold",
                    models.BooleanField(db_comment="Whether it is kept until that is taken back", default=False),
                ),
                (
                    "retain_until",
                    models.DateTimeField(blank=True, db_comment="Until when it is kept; NULL: no such time", null=True),
                ),
                (
                    "created_at",
                    models.DateTimeField(
                        db_comment="When the row was made",
                        db_default=django.db.models.functions.datetime.Now(),
                        editable=False,
                    ),
                ),
                (
                    "bucket",
                    models.ForeignKey(
                        db_comment="Where it lies",
                        db_constraint=False,
                        db_index=False,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="+",
                        to="cp_storage_meta.bucket",
                    ),
                ),
                (
                    "object",
                    models.ForeignKey(
                        db_comment="Its head",
                        db_constraint=False,
                        db_index=False,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="versions",
                        to="cp_storage_meta.storageobject",
                    ),
                ),
                (
                    "tenant",
                    models.ForeignKey(
                        db_comment="Whose it is",
                        db_index=False,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="+",
                        to="cp_tenants.tenant",
                    ),
                ),
            ],
            options={
                "verbose_name": "version",
                "db_table_comment": "One version of an object, or a delete marker",
            },
        ),
        migrations.AddField(
            model_name="storageobject",
            name="current_version",
            field=models.ForeignKey(
                db_comment="Its version with the highest seq",
                db_constraint=False,
                db_index=False,
                on_delete=django.db.models.deletion.PROTECT,
                related_name="+",
                to="cp_storage_meta.storageversion",
            ),
        ),
        migrations.AddConstraint(
            model_name="bucket",
            constraint=models.UniqueConstraint(fields=("tenant", "id"), name="cp_storage_meta_bucket_tenant_id"),
        ),
        migrations.AddConstraint(
            model_name="bucket",
            constraint=models.UniqueConstraint(
                fields=("tenant", "name"),
                name="cp_storage_meta_bucket_name_once",
                violation_error_code="name_taken",
                violation_error_message="Another bucket of this tenant has this name.",
            ),
        ),
        migrations.AddConstraint(
            model_name="bucket",
            constraint=models.CheckConstraint(
                condition=models.Q(("name__regex", "^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$")),
                name="cp_storage_meta_bucket_name_is_plain",
                violation_error_message="A bucket's name has 3 to 63 of a-z, 0-9, dot and hyphen.",
            ),
        ),
        migrations.AddConstraint(
            model_name="bucket",
            constraint=models.CheckConstraint(
                condition=models.Q(("versioning__in", ["unversioned", "enabled", "suspended"])),
                name="cp_storage_meta_bucket_versioning",
                violation_error_message="Versioning is unversioned, enabled or suspended.",
            ),
        ),
        migrations.AddConstraint(
            model_name="bucket",
            constraint=models.CheckConstraint(
                condition=models.Q(("audit_reads__in", ["none", "data", "all"])),
                name="cp_storage_meta_bucket_audit_reads",
                violation_error_message="Reads that are recorded: none, data or all.",
            ),
        ),
        migrations.AddConstraint(
            model_name="bucket",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    models.Q(("expire_days__isnull", True), ("expire_days__gte", 1), _connector="OR"),
                    models.Q(("noncurrent_days__isnull", True), ("noncurrent_days__gte", 1), _connector="OR"),
                    models.Q(("keep_versions__isnull", True), ("keep_versions__gte", 1), _connector="OR"),
                    models.Q(("audit_days__isnull", True), ("audit_days__gte", 1), _connector="OR"),
                    models.Q(("default_retain_days__isnull", True), ("default_retain_days__gte", 1), _connector="OR"),
                ),
                name="cp_storage_meta_bucket_a_day_at_least",
                violation_error_message="Days and versions are 1 or more; leave the field empty for never.",
            ),
        ),
        migrations.AddIndex(
            model_name="hookexecution",
            index=models.Index(fields=["tenant", "hook_name", "created_at"], name="hookexecution_hook_idx"),
        ),
        migrations.AddConstraint(
            model_name="hookexecution",
            constraint=models.UniqueConstraint(
                fields=("tenant", "event", "attempt"), name="cp_storage_meta_hookexecution_attempt_once"
            ),
        ),
        migrations.AddConstraint(
            model_name="storagehook",
            constraint=models.UniqueConstraint(fields=("tenant", "id"), name="cp_storage_meta_storagehook_tenant_id"),
        ),
        migrations.AddConstraint(
            model_name="storagehook",
            constraint=models.UniqueConstraint(
                fields=("tenant", "name"),
                name="cp_storage_meta_storagehook_name_once",
                violation_error_code="name_taken",
                violation_error_message="Another hook of this tenant has this name.",
            ),
        ),
        migrations.AddIndex(
            model_name="storageevent",
            index=models.Index(
                condition=models.Q(("state", "pending")),
                fields=["hook", "next_attempt_at"],
                name="storageevent_due_idx",
            ),
        ),
        migrations.AddIndex(
            model_name="storageevent",
            index=models.Index(fields=["tenant", "hook", "id"], name="storageevent_hook_idx"),
        ),
        migrations.AddConstraint(
            model_name="storageevent",
            constraint=models.UniqueConstraint(fields=("tenant", "id"), name="cp_storage_meta_storageevent_tenant_id"),
        ),
        migrations.AddConstraint(
            model_name="storageevent",
            constraint=models.CheckConstraint(
                condition=models.Q(("state__in", ["pending", "done", "dead"])),
                name="cp_storage_meta_storageevent_state",
            ),
        ),
        migrations.AddConstraint(
            model_name="storagequota",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    models.Q(("max_bytes__isnull", True), ("max_bytes__gte", 0), _connector="OR"),
                    models.Q(("max_objects__isnull", True), ("max_objects__gte", 0), _connector="OR"),
                ),
                name="cp_storage_meta_storagequota_not_negative",
                violation_error_message="A quota is 0 or more; leave it empty for no limit.",
            ),
        ),
        migrations.AddConstraint(
            model_name="storagequota",
            constraint=models.CheckConstraint(
                condition=models.Q(("on_excess__in", ["warn", "refuse"])),
                name="cp_storage_meta_storagequota_on_excess",
                violation_error_message="Above the quota a put is marked (warn) or refused (refuse).",
            ),
        ),
        migrations.AddIndex(
            model_name="storageversion",
            index=models.Index(
                condition=models.Q(("blob_name", ""), _negated=True),
                fields=["blob_name"],
                name="storageversion_blob_idx",
            ),
        ),
        migrations.AddConstraint(
            model_name="storageversion",
            constraint=models.UniqueConstraint(
                fields=("tenant", "id"), include=("size",), name="cp_storage_meta_storageversion_tenant_id"
            ),
        ),
        migrations.AddConstraint(
            model_name="storageversion",
            constraint=models.UniqueConstraint(
                fields=("tenant", "object", "seq"), name="cp_storage_meta_storageversion_seq_once"
            ),
        ),
        migrations.AddConstraint(
            model_name="storageversion",
            constraint=models.UniqueConstraint(
                condition=models.Q(("external_id", ""), _negated=True),
                fields=("tenant", "object", "external_id"),
                name="cp_storage_meta_storageversion_external_id_once",
            ),
        ),
        migrations.AddConstraint(
            model_name="storageversion",
            constraint=models.UniqueConstraint(
                condition=models.Q(("null_version", True)),
                fields=("tenant", "object"),
                name="cp_storage_meta_storageversion_null_once",
            ),
        ),
        migrations.AddConstraint(
            model_name="storageversion",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    ("is_delete_marker", False), models.Q(("blob_name", ""), ("size", 0)), _connector="OR"
                ),
                name="cp_storage_meta_storageversion_marker_is_empty",
                violation_error_message="A delete marker has neither size nor blob.",
            ),
        ),
        migrations.AddConstraint(
            model_name="storageversion",
            constraint=models.CheckConstraint(
                condition=models.Q(("size__gte", 0)),
                name="cp_storage_meta_storageversion_size_not_negative",
                violation_error_message="A size is 0 or more bytes.",
            ),
        ),
        migrations.AddConstraint(
            model_name="storageversion",
            constraint=models.CheckConstraint(
                condition=controlplane.core.constraints._IsJSONObject(models.F("metadata"), models.Value(65536)),
                name="cp_storage_meta_storageversion_metadata_is_object",
                violation_error_message="metadata is a JSON object of at most 64 KiB.",
            ),
        ),
        migrations.AddConstraint(
            model_name="storageversion",
            constraint=models.CheckConstraint(
                condition=controlplane.core.constraints._IsJSONObject(models.F("tags"), models.Value(8192)),
                name="cp_storage_meta_storageversion_tags_is_object",
                violation_error_message="tags is a JSON object of at most 8 KiB.",
            ),
        ),
        migrations.AddIndex(
            model_name="storageobject",
            index=models.Index(
                condition=models.Q(("is_delete_marker", False)),
                fields=["tenant", "bucket", "object_key"],
                name="storageobject_listing_idx",
                opclasses=["uuid_ops", "uuid_ops", "text_pattern_ops"],
            ),
        ),
        migrations.AddIndex(
            model_name="storageobject",
            index=django.contrib.postgres.indexes.GinIndex(
                condition=models.Q(("is_delete_marker", False)),
                fields=["tenant", "search_vector"],
                name="storageobject_search_idx",
            ),
        ),
        migrations.AddIndex(
            model_name="storageobject",
            index=django.contrib.postgres.indexes.GinIndex(
                condition=models.Q(("is_delete_marker", False)),
                fields=["tenant", "metadata", "tags"],
                name="storageobject_contains_idx",
                opclasses=["uuid_ops", "jsonb_path_ops", "jsonb_path_ops"],
            ),
        ),
        migrations.AddIndex(
            model_name="storageobject",
            index=models.Index(
                models.F("tenant"),
                models.OrderBy(models.F("last_modified"), descending=True),
                models.OrderBy(models.F("id"), descending=True),
                condition=models.Q(("is_delete_marker", False)),
                name="storageobject_recent_idx",
            ),
        ),
        migrations.AddIndex(
            model_name="storageobject",
            index=models.Index(
                condition=models.Q(("is_delete_marker", False)),
                fields=["tenant", "bucket", "storage_backend", "storage_class", "content_type"],
                include=("size",),
                name="storageobject_statistics_idx",
            ),
        ),
        migrations.AddConstraint(
            model_name="storageobject",
            constraint=models.UniqueConstraint(fields=("tenant", "id"), name="cp_storage_meta_storageobject_tenant_id"),
        ),
        migrations.AddConstraint(
            model_name="storageobject",
            constraint=models.UniqueConstraint(
                fields=("tenant", "bucket", "object_key"), name="cp_storage_meta_storageobject_key_once"
            ),
        ),
        migrations.AddConstraint(
            model_name="storageobject",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    django.db.models.lookups.GreaterThanOrEqual(
                        models.Func(
                            models.F("object_key"), function="octet_length", output_field=models.IntegerField()
                        ),
                        1,
                    ),
                    django.db.models.lookups.LessThanOrEqual(
                        models.Func(
                            models.F("object_key"), function="octet_length", output_field=models.IntegerField()
                        ),
                        1024,
                    ),
                ),
                name="cp_storage_meta_storageobject_key_length",
                violation_error_message="A key has 1 to 1,024 bytes of UTF-8.",
            ),
        ),
        migrations.AddConstraint(
            model_name="storageobject",
            constraint=models.CheckConstraint(
                condition=models.Q(("size__gte", 0)),
                name="cp_storage_meta_storageobject_size_not_negative",
                violation_error_message="A size is 0 or more bytes.",
            ),
        ),
        migrations.AddConstraint(
            model_name="storageobject",
            constraint=models.CheckConstraint(
                condition=controlplane.core.constraints._IsJSONObject(models.F("metadata"), models.Value(65536)),
                name="cp_storage_meta_storageobject_metadata_is_object",
                violation_error_message="metadata is a JSON object of at most 64 KiB.",
            ),
        ),
        migrations.AddConstraint(
            model_name="storageobject",
            constraint=models.CheckConstraint(
                condition=controlplane.core.constraints._IsJSONObject(models.F("tags"), models.Value(8192)),
                name="cp_storage_meta_storageobject_tags_is_object",
                violation_error_message="tags is a JSON object of at most 8 KiB.",
            ),
        ),
    ]
