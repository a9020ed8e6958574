"""Whether storage works here: what the database has to have, and each operation once, for a tenant that never was."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from hashlib import sha256
from typing import Any
from uuid import UUID

from django.db import connections, transaction

from auditing.context import Actor, audit_context
from controlplane.core import partitions
from controlplane.core.conf import conf
from controlplane.core.ids import now, uuid7
from storage_meta.handle import Files
from storage_meta.models import Bucket, PendingBlob, StorageAudit, StorageEvent, StorageHook, StorageObject
from storage_meta.stores import ask
from tenants.models import Tenant
from tenants.scope import tenant_scope

BODY = b"storage_verify " * 1000
OPERATIONS = (
    "put_object", "put_object in parts", "put_object with a condition", "bulk_put", "record_version", "head_object",
    "get_object", "get_object of a range", "list_objects_v2", "list_object_versions", "search_objects",
    "search_objects in a scope",
   "search_objects by metadata", "count", "statistics", "copy_object", "put_object_tagging",
    "put_object_legal_hold", "put_object_retention", "delete_object", "restore_object", "restore_object of a version",
    "delete_object of a version", "delete_objects", "log_audit", "get_audit_logs", "cleanup_old_audits", "events",
    "log_hook_execution", "get_hook_statistics", "reconcile",
)  # fmt: skip
EXTENSIONS = ("btree_gin", "pg_trgm")


class Unexpected(Exception):
    """Something came out that is not what it has to be."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What was tried, and how it ended. said: what is wrong; "" if nothing is."""

    name: str
    said: str = ""

    @property
    def passed(self) -> bool:
        return not self.said


def verify(storage: str = "") -> list[Outcome]:
    """Try everything; what fails is told, and the rest goes on. storage: alias in STORAGES, empty: STORAGE_ALIAS.

    All rows are made in one transaction, for a tenant of its own, and taken back with it; blobs that were written are removed
    after that. Deferred constraints are asked before. Nothing of any real tenant is read or changed.
    """
    found: list[Outcome] = []
    tried = Tried(found)
    for name, check in DATABASE.items():
        tried(name, check)
    tenant_id: UUID | None = None
    try:
        with audit_context(actor=Actor("command", "storage_verify"), using=conf.DATABASE):
            tenant = Tenant.objects.create(slug=f"verify-{uuid7().hex[-12:]}", name=f"storage_verify {uuid7().hex}")
            tenant_id = tenant.pk
            trial = Trial(tenant, storage)
            for name, step in trial.steps():
                tried(name, step)
            tried("deferred constraints", _constraints)
            transaction.set_rollback(True, using=conf.DATABASE)
    finally:
        if tenant_id is not None:
            tried("blobs removed", lambda: _cleaned(tenant_id))
    return found


@dataclass(slots=True)
class Tried:
    """Does one thing in a savepoint of its own, and writes down how it ended."""

    outcomes: list[Outcome]

    def __call__(self, name: str, step: Callable[[], object]) -> None:
        try:
            with transaction.atomic(using=conf.DATABASE):
                step()
        except Exception as error:  # whatever it is: that is what is asked
            said = " ".join(str(error).split()) or type(error).__name__
            self.outcomes.append(
                Outcome(name, said if isinstance(error, Unexpected) else f"{type(error).__name__}: {said}")
            )
        else:
            self.outcomes.append(Outcome(name))


def _extensions() -> None:
    wanted = EXTENSIONS if conf.STORAGE_TRIGRAM else EXTENSIONS[:1]
    there = {name for (name,) in _rows("SELECT extname FROM pg_extension")}
    if missing := sorted(set(wanted) - there):
        raise Unexpected(f"The extension {missing[0]} is missing. Let an administrator of the database create it.")


def _locale() -> None:
    [[vector]] = _rows("SELECT to_tsvector('simple', 'ÜBER')::text")
    if vector != "'über':1":
        raise Unexpected(
            f"The database writes ÜBER in small letters as {vector}: words beyond ASCII are not found in another case. "
            "Make it anew with a UTF-8 locale."
        )


def _partitions() -> None:
    [log] = [one for one in partitions.registered() if one.table == StorageAudit._meta.db_table]
    if missing := partitions.plan(partitions.states(log), now()):
        raise Unexpected(
            f"The access log has no partition for {missing[0].month:%Y-%m}, or it stands half. Run audit_partitions."
        )


DATABASE: dict[str, Callable[[], None]] = {"extensions": _extensions, "locale": _locale, "partitions": _partitions}


def _constraints() -> None:
    with connections[conf.DATABASE].cursor() as cursor:
        cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")


def _rows(statement: str) -> list[tuple[Any, ...]]:
    with connections[conf.DATABASE].cursor() as cursor:
        cursor.execute(statement)
        found: list[tuple[Any, ...]] = cursor.fetchall()
    return found


def _cleaned(tenant_id: UUID) -> None:
    """Remove what was written. The notes of uploads were committed beside the transaction, and so tell of each blob."""
    for note in PendingBlob.objects.filter(tenant_id=tenant_id):
        name = note.blob_name
        ask(note.storage_backend, lambda storage, name=name: storage.delete(name))  # type: ignore[misc]
        note.delete()


def _want(found: object, wanted: object) -> None:
    if found != wanted:
        raise Unexpected(f"{found!r} came out, {wanted!r} was expected.")


@dataclass(slots=True)
class Trial:
    """Each operation once, on one key and a few others. ids: versions that steps made, by name."""

    tenant: Tenant
    storage: str
    ids: dict[str, str] = field(default_factory=dict)

    @property
    def files(self) -> Files:
        found: Files = StorageObject.objects.for_tenant(self.tenant)
        return found

    @property
    def docs(self) -> Files:
        return self.files.bucket("verify")

    def steps(self) -> Iterator[tuple[str, Callable[[], object]]]:
        """(name, what to do), in an order in which each finds what it needs."""
        yield "bucket", self.bucket
        yield "hook", self.hook
        for name in OPERATIONS:
            yield name, getattr(self, name.replace(" ", "_"))

    def bucket(self) -> None:
        # reads unrecorded: rows of downloads are committed beside the transaction, and the log lets none go
        bucket = Bucket(
            tenant=self.tenant, name="verify", versioning="enabled", storage=self.storage, audit_reads="none"
        )
        bucket.full_clean()
        bucket.save(force_insert=True)

    def hook(self) -> None:
        StorageHook(
            tenant=self.tenant, name="verify", url="https://verify.invalid/", event_types=["s3:*"], secrets="whsec_eA=="
        ).save(force_insert=True)

    def put_object(self) -> None:
        done = self.docs.put_object(
            "a/über.txt", BODY, content_type="text/plain", metadata={"author": "Kim"}, tags={"state": "draft"}
        )
        _want((done.size, done.checksum_sha256, done.seq), (len(BODY), sha256(BODY).hexdigest(), 1))
        self.ids["first"] = done.version_id

    def put_object_in_parts(self) -> None:
        done = self.docs.put_object("a/parts", iter([BODY, BODY]), part_size=len(BODY))
        _want((done.size, done.etag[-2:]), (2 * len(BODY), "-2"))

    def put_object_with_a_condition(self) -> None:
        etag = self.docs.head_object("a/über.txt").etag
        self.ids["second"] = self.docs.put_object("a/über.txt", b"second", if_match=etag).version_id

    def bulk_put(self) -> None:
        _want(self.docs.bulk_put([{"key": f"many/{number}", "size": number} for number in range(3)]), 3)

    def record_version(self) -> None:
        _want(self.docs.record_version("a/elsewhere", "v-1", size=1, is_latest=True).external_id, "v-1")

    def head_object(self) -> None:
        _want(self.docs.head_object("a/über.txt").size, 6)
        _want(self.docs.head_object("a/über.txt", self.ids["first"]).size, len(BODY))

    def get_object(self) -> None:
        _want(self._read("a/über.txt", self.ids["first"]), BODY)

    def get_object_of_a_range(self) -> None:
        _want(self._read("a/über.txt", range="bytes=1-3"), b"eco")

    def list_objects_v2(self) -> None:
        page = self.docs.list_objects_v2(delimiter="/", max_keys=1)
        _want((page.common_prefixes, page.is_truncated), (["a/"], True))
        page = self.docs.list_objects_v2(delimiter="/", continuation_token=page.next_continuation_token)
        _want((page.common_prefixes, page.is_truncated), (["many/"], False))

    def list_object_versions(self) -> None:
        found = self.docs.list_object_versions(prefix="a/über").versions
        _want([one.version_id for one in found], [self.ids["second"], self.ids["first"]])

    def search_objects(self) -> None:
        _want([one.object_key for one in self.files.search_objects("ÜBER").objects], ["a/über.txt"])

    def search_objects_in_a_scope(self) -> None:
        with tenant_scope(self.tenant):
            self.search_objects()

    def search_objects_by_metadata(self) -> None:
        first = self.files.search_objects(None, tags={"state": "draft"}).objects
        _want([one.object_key for one in first], [])  # of the version before: live objects alone are found
        _want(len(self.files.search_objects(None, prefix="many/", max_size=1).objects), 2)

    def count(self) -> None:
        _want(self.files.count("txt").number, 1)

    def statistics(self) -> None:
        sums = self.docs.statistics()
        _want((sums.total_objects, sums.total_versions), (6, 7))

    def copy_object(self) -> None:
        self.docs.copy_object("a/über.txt", "a/copy", version_id=self.ids["first"])
        _want(self._read("a/copy"), BODY)

    def put_object_tagging(self) -> None:
        self.docs.put_object_tagging("a/copy", {"state": "final"})
        _want([one.object_key for one in self.files.search_objects(None, tags={"state": "final"}).objects], ["a/copy"])

    def put_object_legal_hold(self) -> None:
        _want(self.docs.put_object_legal_hold("a/copy", True, reason="storage_verify").legal_hold, True)
        _want(self.docs.put_object_legal_hold("a/copy", False, reason="storage_verify").legal_hold, False)

    def put_object_retention(self) -> None:
        until = now() + timedelta(days=1)
        _want(self.docs.put_object_retention("a/copy", until).retain_until, until)
        self.docs.put_object_retention("a/copy", None, bypass=True, reason="storage_verify")

    def delete_object(self) -> None:
        done = self.docs.delete_object("a/über.txt")
        _want((done.delete_marker, done.existed), (True, True))

    def restore_object(self) -> None:
        _want(self.docs.restore_object("a/über.txt").version_id, self.ids["second"])

    def restore_object_of_a_version(self) -> None:
        self.docs.restore_object("a/über.txt", self.ids["first"])
        _want(self._read("a/über.txt"), BODY)

    def delete_object_of_a_version(self) -> None:
        _want(self.docs.delete_object("a/über.txt", self.ids["second"]).existed, True)

    def delete_objects(self) -> None:
        _want([one.delete_marker for one in self.docs.delete_objects(["many/0", "many/1"])], [True, True])

    def log_audit(self) -> None:
        self.files.log_audit("verify:Seen", object_key="a/elsewhere")

    def get_audit_logs(self) -> None:
        actions = [row.action for row in self.files.get_audit_logs(object_key="a/elsewhere").rows]
        _want(actions[0], "verify:Seen")

    def cleanup_old_audits(self) -> None:
        _want(self.files.cleanup_old_audits(days=1, dry_run=True), 0)

    def events(self) -> None:
        if not StorageEvent.objects.filter(tenant=self.tenant, event_type="s3:ObjectCreated:Put").exists():
            raise Unexpected("No event was made for a hook. Nobody will be told of changes.")

    def log_hook_execution(self) -> None:
        self.files.log_hook_execution(
            hook_name="verify", event_type="s3:ObjectCreated:Put", object_key="a", execution_time=0.1, success=True
        )

    def get_hook_statistics(self) -> None:
        _want([one.hook_name for one in self.files.get_hook_statistics()], ["verify"])

    def reconcile(self) -> None:
        report = StorageObject.objects.reconcile(tenant=self.tenant, grace=timedelta(0))
        _want((report.missing, report.heads), ([], []))

    def _read(self, key: str, version_id: str | None = None, **options: Any) -> bytes:
        with self.docs.get_object(key, version_id, **options) as stored:
            return b"".join(stored)
