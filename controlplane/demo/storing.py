"""Puts what the demo's organisations store, reads some of it, and is refused some; through the same door as callers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any

from auditing.context import audit_context, command_actor
from controlplane.core.ids import uuid7_at
from controlplane.demo.stored import FARES, STORES, Bucket, Key, Store
from policies.models import Policy
from storage_meta.errors import StorageError
from storage_meta.handle import Files
from storage_meta.models import Bucket as StoredBucket
from storage_meta.models import HookExecution, StorageEvent, StorageHook, StorageObject, StorageQuota, StorageUsage
from tenants.models import Tenant, User

NOBODY = "The demo tells nobody: there is no such address."


def fill(at: datetime) -> int:
    """Store the demo's objects, each in a transaction of its own, as of now. Returns how many keys; 0 where buckets are already.

    What was read in the two weeks before `at` (aware) is written down with its time. Runs after the tenants are committed: a
    refusal is recorded on a connection of its own, which has to see them.
    """
    houses = {
        tenant.slug: tenant for tenant in Tenant.objects.present().filter(slug__in=[store.tenant for store in STORES])
    }
    if len(houses) < len(STORES) or StoredBucket.objects.filter(tenant__in=houses.values()).exists():
        return 0
    with audit_context(actor=command_actor("seed_demo"), reason="demo data"):
        for store in STORES:
            _make_rooms(houses[store.tenant], store)
    made = sum(_store(houses[store.tenant], store, at) for store in STORES)
    StorageUsage.objects.refresh()
    return made


def _make_rooms(tenant: Tenant, store: Store) -> None:
    for bucket in store.buckets:
        StoredBucket.objects.create(tenant=tenant, name=bucket.name, **bucket.rules)
    if store.quota:
        most, objects, above = store.quota
        StorageQuota.objects.create(tenant=tenant, max_bytes=most, max_objects=objects, on_excess=above)
    if store.hook:
        name, bucket_name = store.hook
        hook, _ = StorageHook.objects.register(
            tenant=tenant, name=name, url="https://typesetter.example/storage", event_types=("s3:ObjectCreated:*",),
            bucket=StoredBucket.objects.get(tenant=tenant, name=bucket_name),
        )  # fmt: skip
        StorageHook.objects.filter(pk=hook.pk).update(enabled=False, disabled_reason=NOBODY)


def _store(tenant: Tenant, store: Store, at: datetime) -> int:
    people = {user.username: user for user in User.objects.filter(tenant=tenant)}
    made = 0
    for bucket in store.buckets:
        for key in bucket.keys:
            _put(tenant, bucket, key, people)
        made += len(bucket.keys)
    if store.tenant == "tamarind-travel":
        made += _handle(tenant, people["kabir"], "tamarind-fares").bulk_put(_fares(at))
    _read(tenant, store, people, at)
    if store.hook:
        _tell(StorageHook.objects.get(tenant=tenant, name=store.hook[0]), at)
    return made


def _handle(tenant: Tenant, user: User, bucket: str, **options: Any) -> Files:
    found: Files = StorageObject.objects.for_tenant(tenant, actor=user, **options).bucket(bucket)
    return found


def _put(tenant: Tenant, bucket: Bucket, key: Key, people: dict[str, User]) -> None:
    docs = _handle(tenant, people[key.versions[0][0]], bucket.name)
    for who, text, comment in key.versions:
        docs = _handle(tenant, people[who], bucket.name)
        docs.put_object(
            key.key, text.encode(), content_type=key.type, metadata=key.metadata, tags=key.tags, comment=comment
        )
    if key.end == "deleted":
        docs.delete_object(key.key)
    elif key.end == "held":
        docs.put_object_legal_hold(key.key, True, reason="two authors dispute who wrote it")


def _fares(at: datetime) -> Iterator[dict[str, Any]]:
    for n in range(FARES):
        hour = at - timedelta(hours=n)
        yield {
            "key": f"{hour:%Y/%m/%d/%H}.csv.gz",
            "size": 20_000 + n * 137 % 90_000,
            "content_type": "application/gzip",
            "storage_class": "STANDARD" if n < 72 else "ARCHIVE",
            "metadata": {"routes": 40 + n % 17, "currency": "INR"},
        }


def _read(tenant: Tenant, store: Store, people: dict[str, User], at: datetime) -> None:
    """Some of what was put is read, before `at` by the log's words, now by the handle; a caller is refused by a policy."""
    readers = list(people.values())[:3]
    some = [(bucket, key) for bucket in store.buckets for key in bucket.keys[:6]]
    for n, (bucket, key) in enumerate(some):
        reader = readers[n % len(readers)]
        docs = _handle(tenant, reader, bucket.name)
        for day in range(1 + n % 3):
            docs.log_audit(
                "s3:GetObject", created_at=at - timedelta(days=day, hours=n), object_key=key.key, record_type="READ"
            )
        # what was deleted meanwhile is not found: that is a row of the log, too
        with suppress(StorageError), docs.get_object(key.key) as stored:
            for _ in stored:
                pass
    reader = readers[-1]
    denied = _handle(tenant, reader, store.buckets[0].name, effective=Policy.objects.effective(tenant, user=reader))
    with suppress(StorageError):
        denied.delete_object(store.buckets[0].keys[0].key)


def _tell(hook: StorageHook, at: datetime) -> None:
    """What its hook was told while it was enabled: one delivery that came through, one that never did."""
    keys = StorageObject.objects.live().filter(bucket=hook.bucket_id).order_by("object_key")[:4]
    for n, row in enumerate(keys):
        came, state = at - timedelta(hours=n + 1), StorageEvent.State.DEAD if n == 3 else StorageEvent.State.DONE
        about = {"event_type": "s3:ObjectCreated:Put", "object_key": row.object_key}
        payload = {"type": about["event_type"], "data": {"key": row.object_key, "size": row.size}}
        event = StorageEvent.objects.create(
            id=uuid7_at(came), tenant_id=hook.tenant_id, hook=hook, version_id=row.current_version_id.hex, payload=payload,
            sequencer=row.sequencer, state=state, attempts=8 if n == 3 else 1, next_attempt_at=came, **about,
        )  # fmt: skip
        failed = n == 3
        HookExecution.objects.create(
            tenant_id=hook.tenant_id, hook_name=hook.name, event=event, success=not failed, payload=payload,
            status_code=503 if failed else 204, execution_time=timedelta(milliseconds=180 + 40 * n),
            error_message="The endpoint answered 503." if failed else "", response="Try later." if failed else "", **about,
        )  # fmt: skip
