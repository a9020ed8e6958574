from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Any, ClassVar, Self

from django.contrib.postgres.fields import ArrayField
from django.core.exceptions import ImproperlyConfigured, ValidationError
from django.db import IntegrityError, models, router, transaction
from django.urls import reverse

from controlplane.core.commands import sentence
from controlplane.core.constraints import TenantForeignKey
from controlplane.core.fields import EncryptedTextField, created_at_field, id_field, updated_at_field
from controlplane.core.ids import now
from storage_meta import guard, keys, outbox, signing
from storage_meta.errors import InvalidArgument, TenantRequired
from storage_meta.models.bucket import Bucket
from tenants.models import Tenant

MAX_EVENT_TYPES = 20


class StorageHookQuerySet(models.QuerySet["StorageHook"]):
    def for_tenant(self, tenant: Tenant) -> Self:
        return self.filter(tenant=tenant)

    def enabled(self) -> Self:
        return self.filter(enabled=True)


class StorageHookManager(models.Manager.from_queryset(StorageHookQuerySet)):  # type: ignore[misc]
    def get_queryset(self) -> StorageHookQuerySet:
        """Without the secrets, which only who signs or rotates reads."""
        found: StorageHookQuerySet = super().get_queryset().defer("secrets")
        return found

    def register(
        self,
        *,
        tenant: Tenant,
        name: str,
        url: str,
        event_types: Sequence[str] = ("s3:*",),
        bucket: Bucket | None = None,
        prefix: str = "",
        suffix: str = "",
        resolve: guard.Resolve | None = None,
    ) -> tuple[StorageHook, str]:
        """Make a hook; returns it and its secret (`whsec_…`), which is shown this once.

        event_types: as in outbox.EVENT_TYPES, or their beginnings with a `*`. bucket: None for all. prefix, suffix: of the keys,
        to the letter. resolve: who tells the addresses of the url's host (guard.Resolve). Raises InvalidArgument for what no
        hook can be, an address that is not public included; TenantRequired for anything but a stored tenant.
        """
        if not isinstance(tenant, Tenant) or tenant._state.adding:
            raise TenantRequired(message="A hook is a tenant's. Name a stored one.")
        if isinstance(event_types, str) or not isinstance(event_types, Sequence):
            raise InvalidArgument(message="event_types is no list. Give a list, as ['s3:ObjectCreated:*'].")
        for field, text in (
            ("name", name),
            ("prefix", prefix),
            ("suffix", suffix),
            *(("event_types", e) for e in event_types),
        ):
            keys.check_text(field, text, keys.KEY_BYTES)
        if bucket is not None and not isinstance(bucket, Bucket):
            raise InvalidArgument(message="bucket is no bucket. Give its row, or None for all.")
        secret = signing.new_secret()
        hook = StorageHook(
            tenant=tenant,
            name=name,
            url=url,
            event_types=list(event_types),
            bucket=bucket,
            prefix=prefix,
            suffix=suffix,
            secrets=secret,
        )
        if resolve is not None:
            hook.resolve = resolve
        try:
            hook.full_clean()
            with transaction.atomic(using=router.db_for_write(StorageHook)):
                hook.save(force_insert=True)
        except ValidationError as refused:
            raise InvalidArgument(message=sentence(refused)) from None
        except IntegrityError:  # of two who asked at once
            raise InvalidArgument(message="name: Another hook of this tenant has this name.") from None
        return hook, secret


class StorageHook(models.Model):
    """An address that is told of changes to a tenant's objects. Written by operators; each matching change makes an event."""

    id = id_field()
    tenant = models.ForeignKey(
        Tenant, models.PROTECT, db_index=False, related_name="storage_hooks", db_comment="Whose it is"
    )
    name = models.CharField(max_length=200, db_comment="Name for people and in the log of deliveries")
    bucket = models.ForeignKey(
        Bucket,
        models.PROTECT,
        null=True,
        blank=True,
        db_index=False,
        db_constraint=False,
        related_name="hooks",
        db_comment="Of which bucket; NULL: of all",
    )
    url = models.CharField(max_length=2000, db_comment="Where events are sent: https, port 443 or 8443")
    event_types = ArrayField(models.CharField(max_length=64), db_comment="Which changes, as s3:ObjectCreated:*")
    prefix = models.CharField(max_length=1024, blank=True, default="", db_comment="Of keys that begin so")
    suffix = models.CharField(max_length=1024, blank=True, default="", db_comment="Of keys that end so")
    secrets = EncryptedTextField(
        editable=False, default="", db_comment="One or two signing secrets, one a line, newest first; encrypted"
    )
    enabled = models.BooleanField(default=True, db_comment="Whether changes make events and events are sent")
    disabled_reason = models.CharField(max_length=500, blank=True, default="", db_comment="Why it is not enabled")
    created_at = created_at_field()
    updated_at = updated_at_field()

    reference = "name"
    resolve: guard.Resolve = staticmethod(guard.by_system)  # who tells the addresses of the url's host when it is saved
    objects = StorageHookManager()

    class Meta:
        verbose_name = "hook"
        db_table_comment = "An address that is told of changes to a tenant's objects"
        constraints = [
            # what composite foreign keys point at
            models.UniqueConstraint(fields=["tenant", "id"], name="cp_storage_meta_storagehook_tenant_id"),
            models.UniqueConstraint(
                fields=["tenant", "name"],
                name="cp_storage_meta_storagehook_name_once",
                violation_error_code="name_taken",
                violation_error_message="Another hook of this tenant has this name.",
            ),
            TenantForeignKey(
                fields=("tenant", "bucket"),
                to="cp_storage_meta.Bucket",
                name="cp_storage_meta_storagehook_bucket_of_tenant",
            ),
        ]

    def __str__(self) -> str:
        return self.name

    def get_absolute_url(self) -> str:
        return reverse("admin:cp_storage_meta_storagehook_change", args=[self.pk])

    def clean(self) -> None:
        """Beside the rules of the columns: an address hooks may have, types that exist, texts that can be stored."""
        refused: dict[str, str] = {}
        for name, check in (
            ("name", lambda: keys.check_text("name", self.name, 200)),
            ("prefix", lambda: keys.check_text("prefix", self.prefix, keys.KEY_BYTES)),
            ("suffix", lambda: keys.check_text("suffix", self.suffix, keys.KEY_BYTES)),
            ("event_types", self._check_event_types),
            ("url", lambda: guard.check(self.url, self.resolve)),
        ):
            try:
                check()
            except InvalidArgument as error:
                refused[name] = error.message
        if refused:
            raise ValidationError({name: ValidationError(message, "invalid") for name, message in refused.items()})

    def rotate_secret(self) -> str:
        """Give it a new secret, which is returned this once; the one before signs too, until the next rotation."""
        secret = signing.new_secret()
        with transaction.atomic(using=router.db_for_write(StorageHook)):
            stored = StorageHook.objects.select_for_update().get(pk=self.pk)
            try:
                before = stored.secrets.split()[:1]
            except ImproperlyConfigured:  # the key that it was written with is gone
                before = []
            self.secrets = "\n".join([secret, *before])
            self.save(update_fields=["secrets"])
        return secret

    def disable(self, reason: str) -> None:
        """Make no events and send none, until it is enabled. What waits is kept."""
        self.enabled, self.disabled_reason = False, reason[:500]
        self.save(update_fields=["enabled", "disabled_reason"])

    def enable(self) -> None:
        """Make events and send them again, what waited included."""
        self.enabled, self.disabled_reason = True, ""
        self.save(update_fields=["enabled", "disabled_reason"])

    def remove(self) -> None:
        """Remove it with its events and the attempts to send them, as three statements however many there are."""
        with transaction.atomic(using=router.db_for_write(StorageHook)):
            # nothing is claimed for it from here on, and what a worker has is written down before or not at all
            StorageHook.objects.select_for_update().filter(pk=self.pk).values_list("pk").first()
            list(
                StorageEvent.objects.select_for_update()
                .filter(hook=self.pk, leased_until__isnull=False)
                .values_list("pk")
            )
            HookExecution.objects.filter(event__hook=self.pk).delete()
            StorageEvent.objects.filter(hook=self.pk)._raw_delete(router.db_for_write(StorageEvent))
            self.delete()

    def _check_event_types(self) -> None:
        if not isinstance(self.event_types, list) or not 1 <= len(self.event_types) <= MAX_EVENT_TYPES:
            raise InvalidArgument(message=f"Name 1 to {MAX_EVENT_TYPES} types, as s3:ObjectCreated:*.")
        known = {pattern for each in outbox.EVENT_TYPES for pattern in outbox.patterns_of(each)}
        if unknown := [each for each in self.event_types if not isinstance(each, str) or each not in known]:
            raise InvalidArgument(
                message=f"{unknown[0]!r:.80} is no type of event. Write one as s3:ObjectCreated:Put, or its beginning and *."
            )


class StorageEventQuerySet(models.QuerySet["StorageEvent"]):
    def for_tenant(self, tenant: Tenant) -> Self:
        return self.filter(tenant=tenant)

    def dead(self) -> Self:
        """Those that are not tried any more."""
        return self.filter(state="dead")

    def resend(self, at: datetime | None = None) -> int:
        """Have them sent now, whatever became of them; returns how many.

        Left out: those of hooks that are disabled, and those that a worker has at this moment. Attempts go on counting: one that
        was dead has this one more, and is dead again if that fails. at: the present, None: the clock's.
        """
        present = at or now()
        free = models.Q(leased_until=None) | models.Q(leased_until__lte=present)
        return self.filter(free, hook__enabled=True).update(
            state=StorageEvent.State.PENDING, next_attempt_at=present, leased_until=None
        )


class StorageEventManager(models.Manager.from_queryset(StorageEventQuerySet)):  # type: ignore[misc]
    delivery: ClassVar[Callable[..., int]]
    """Stands above the models, so the app hands it in when it is ready."""

    def deliver_due(self, limit: int = 100, now: datetime | None = None, **options: Any) -> int:
        """Send what is due, at most `limit` events, and wait for the answers; returns how many were tried.

        Not to be called in a transaction. See storage_meta.delivering.
        """
        return type(self).delivery(limit=limit, now=now, **options)


class StorageEvent(models.Model):
    """A change that a hook is to be told of (the outbox). Written in the transaction of the change; its state by the worker."""

    class State(models.TextChoices):
        PENDING = "pending"
        DONE = "done"
        DEAD = "dead"

    id = id_field()
    tenant = models.ForeignKey(Tenant, models.PROTECT, db_index=False, related_name="+", db_comment="Whose it is")
    hook = models.ForeignKey(
        StorageHook,
        models.CASCADE,
        db_index=False,
        db_constraint=False,
        related_name="events",
        db_comment="Whom to tell",
    )
    event_type = models.CharField(max_length=64, db_comment="What happened, as s3:ObjectCreated:Put")
    object_key = models.TextField(db_collation="C", db_comment="To which key")
    version_id = models.CharField(max_length=64, blank=True, default="", db_comment="Which version; null, or hex")
    sequencer = models.CharField(max_length=16, blank=True, default="", db_comment="Order among the changes of a key")
    payload = models.JSONField(blank=True, db_comment="What is sent")
    state = models.CharField(max_length=7, choices=State, default=State.PENDING, db_comment="pending, done or dead")
    attempts = models.IntegerField(default=0, db_comment="How often it was tried")
    next_attempt_at = models.DateTimeField(db_comment="When it is tried next")
    leased_until = models.DateTimeField(null=True, blank=True, db_comment="Until when a worker has it; NULL: nobody")
    created_at = created_at_field()

    objects = StorageEventManager()

    class Meta:
        verbose_name = "event"
        db_table_comment = "A change that a hook is to be told of"
        constraints = [
            # what composite foreign keys point at
            models.UniqueConstraint(fields=["tenant", "id"], name="cp_storage_meta_storageevent_tenant_id"),
            TenantForeignKey(
                fields=("tenant", "hook"),
                to="cp_storage_meta.StorageHook",
                name="cp_storage_meta_storageevent_hook_of_tenant",
            ),
            models.CheckConstraint(
                condition=models.Q(state__in=["pending", "done", "dead"]), name="cp_storage_meta_storageevent_state"
            ),
        ]
        indexes = [
            # what the worker claims, hook by hook, so that what waits for one is not in the way of the others
            models.Index(
                fields=["hook", "next_attempt_at"], condition=models.Q(state="pending"), name="storageevent_due_idx"
            ),
            # events of a hook: for its page, and for deleting it
            models.Index(fields=["tenant", "hook", "id"], name="storageevent_hook_idx"),
        ]

    def __str__(self) -> str:
        return f"{self.event_type} {self.object_key}"


class HookExecution(models.Model):
    """One attempt to tell a hook of an event, or what `log_hook_execution` was told. Never changes; kept 30 days."""

    id = id_field()
    tenant = models.ForeignKey(Tenant, models.PROTECT, db_index=False, related_name="+", db_comment="Whose it is")
    hook_name = models.CharField(max_length=200, db_comment="The hook, by its name then")
    event = models.ForeignKey(
        StorageEvent,
        models.CASCADE,
        null=True,
        blank=True,
        db_index=False,
        db_constraint=False,
        related_name="executions",
        db_comment="Of which event; NULL: logged by a caller",
    )
    attempt = models.IntegerField(default=1, db_comment="Which attempt, from 1")
    event_type = models.CharField(max_length=64, db_comment="What happened")
    object_key = models.TextField(db_collation="C", db_comment="To which key")
    execution_time = models.DurationField(default=timedelta, db_comment="How long it took")
    success = models.BooleanField(db_comment="Whether the answer was 2xx")
    status_code = models.IntegerField(null=True, blank=True, db_comment="Status of the answer; NULL: there was none")
    error_message = models.TextField(blank=True, default="", db_comment="What went wrong")
    response = models.TextField(blank=True, default="", db_comment="First 4 KiB of the answer")
    payload = models.JSONField(null=True, blank=True, db_comment="What was sent")
    created_at = created_at_field()

    class Meta:
        verbose_name = "hook execution"
        db_table_comment = "One attempt to tell a hook of an event"
        constraints = [
            # two workers that both think they have an event write one attempt
            models.UniqueConstraint(
                fields=["tenant", "event", "attempt"], name="cp_storage_meta_hookexecution_attempt_once"
            ),
            TenantForeignKey(
                fields=("tenant", "event"),
                to="cp_storage_meta.StorageEvent",
                name="cp_storage_meta_hookexecution_event_of_tenant",
            ),
        ]
        indexes = [
            models.Index(fields=["tenant", "hook_name", "created_at"], name="hookexecution_hook_idx"),
        ]

    def __str__(self) -> str:
        return f"{self.hook_name} {self.event_type}"
