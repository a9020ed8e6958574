from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import MAXYEAR, MINYEAR, datetime, timedelta
from typing import Any, Required, Self, TypedDict, Unpack
from uuid import UUID

from django.contrib.postgres.fields import ArrayField
from django.contrib.postgres.indexes import GinIndex
from django.core.validators import RegexValidator
from django.db import IntegrityError, models
from django.db.models.functions import Cast, Least
from django.db.models.lookups import Regex

from auditing.context import audit_context
from controlplane.core.caches import RecordCache, invalidation
from controlplane.core.conf import conf
from controlplane.core.constraints import TenantForeignKey, json_object
from controlplane.core.fields import created_at_field, id_field, updated_at_field
from controlplane.core.ids import now, uuid7
from tenants import lastuse, tokens, verification
from tenants.errors import KeyOperationError
from tenants.models.fields import json_field
from tenants.models.secret import APIKeySecret, APIKeySecretQuerySet, APIKeySecretUse, check_reason, check_text
from tenants.models.tenant import App, Branch, Tenant
from tenants.models.user import User

SCOPE = re.compile(r"[a-z][a-z0-9_.:-]{0,63}")
# As PostgreSQL writes an array: what holds a comma, a quote or anything else that is no scope stands in quotes, as does "null".
_SCOPES = r'^\{(([a-z][a-z0-9_.:-]{0,63}|"null")(,([a-z][a-z0-9_.:-]{0,63}|"null"))*)?\}$'
MAX_SCOPES, MAX_MODELS, MAX_TAGS, MAX_METADATA = 64, 1000, 32, 8192
MAX_MODEL, MAX_TAG = 265, 64


@dataclass(frozen=True, slots=True)
class Issued:
    """A key that was just issued or rotated. token: in clear, here and never again; the repr hides it."""

    key: APIKey
    secret: APIKeySecret
    token: str

    def __repr__(self) -> str:
        return f"Issued(key={self.key.pk}, kid={self.secret.kid!r})"


class NewKey(TypedDict, total=False):
    """What a new key may be given. allowed_models: canonical ids; None = the key restricts nothing, empty = no model at
    all. expires_at, not_before: aware. id: of the key to be, so that a repeated call makes no second one."""

    tenant: Required[Tenant]
    app: Required[App]
    name: Required[str]
    environment: str
    user: User | None
    branch: Branch | None
    scopes: Iterable[str]
    allowed_models: Iterable[str] | None
    expires_at: datetime | None
    not_before: datetime | None
    metadata: Mapping[str, Any] | None
    tags: Iterable[str]
    id: UUID | None


class APIKeyQuerySet(models.QuerySet["APIKey"]):
    def for_tenant(self, tenant: Tenant) -> Self:
        return self.filter(tenant=tenant)

    def for_app(self, app: App) -> Self:
        return self.filter(tenant_id=app.tenant_id, app=app)

    def live(self, at: datetime | None = None) -> Self:
        """Keys that are neither revoked nor disabled nor expired at the instant (default: now)."""
        ended = models.Q(expires_at__lte=at or now())
        return self.filter(revoked_at=None, enabled=True).exclude(ended)

    def expiring(self, within: timedelta, at: datetime | None = None) -> Self:
        """Live keys that end within this time."""
        begin = at or now()
        return self.live(begin).filter(expires_at__lt=begin + within)

    def unused(self, since: datetime) -> Self:
        """Keys of which no secret was used since then."""
        used = APIKeySecretUse.objects.filter(secret__key=models.OuterRef("pk"), last_used_at__gte=since)
        return self.filter(~models.Exists(used))

    def with_last_use(self) -> Self:
        """Annotated with `used_at`: the newest use of any of its secrets; None: never."""
        uses = APIKeySecretUse.objects.filter(secret__key=models.OuterRef("pk")).order_by("-last_used_at")
        return self.annotate(used_at=models.Subquery(uses.values("last_used_at")[:1]))


class APIKeyManager(models.Manager.from_queryset(APIKeyQuerySet)):  # type: ignore[misc]
    def issue(self, *, by: str = "", by_id: UUID | None = None, **asked: Unpack[NewKey]) -> Issued:
        """Make a key with its first secret, in one transaction. The token is in the result, and nowhere else.

        asked: the fields of NewKey. by, by_id: who issues it, for people. Raises KeyOperationError: wrong_tenant,
        operator, naive_datetime, bad_expiry, bad_environment, bad_scope, too_large, bad_text, contains_token.
        """
        key = self.draft(by=by, by_id=by_id, **asked)
        with audit_context():
            key.save(force_insert=True)
            secret, token = APIKeySecret.objects.make(key)
        return Issued(key, secret, token)

    def draft(self, *, by: str = "", by_id: UUID | None = None, **asked: Unpack[NewKey]) -> APIKey:
        """The key as `issue` would make it, checked and not saved: without a secret it opens to nobody."""
        models_ = asked.get("allowed_models")
        key: APIKey = self.model(
            id=asked.get("id") or uuid7(),
            tenant=asked["tenant"],
            app=asked["app"],
            user=asked.get("user"),
            branch=asked.get("branch"),
            name=asked["name"].strip(),
            environment=asked.get("environment", "live"),
            scopes=list(dict.fromkeys(asked.get("scopes", ()))),
            allowed_models=None if models_ is None else list(dict.fromkeys(models_)),
            not_before=asked.get("not_before"),
            expires_at=asked.get("expires_at"),
            metadata=dict(asked.get("metadata") or {}),
            tags=list(dict.fromkeys(asked.get("tags", ()))),
            created_by=by,
            created_by_id=by_id,
        )
        key.check_new(now())
        return key

    def verify(
        self, token: str, environment: str | None = None, scope: str | None = None, model: str | None = None
    ) -> verification.VerifiedKey:
        """The key that a token opens now: from the cache, or in one statement.

        A key that was stopped is refused by every process within CACHE_LEASE (5 s), usually within milliseconds.
        environment, scope, model (canonical id): what the key must be good for; None is not asked. Raises InvalidKey,
        whose code is the first of malformed, unknown, revoked, disabled, not_yet_valid, expired (401), tenant_disabled,
        app_disabled, branch_disabled, user_disabled, wrong_environment, insufficient_scope, model_not_allowed (403), or
        its subclass AuthUnavailable (503). No message carries the token.
        """
        return verification.verify(token, environment, scope, model)

    async def averify(
        self, token: str, environment: str | None = None, scope: str | None = None, model: str | None = None
    ) -> verification.VerifiedKey:
        """As `verify`, for asynchronous callers: a statement runs in a thread."""
        return await verification.averify(token, environment, scope, model)

    @property
    def cache(self) -> RecordCache[bytes, verification.Found]:
        """What `verify` remembers: `.stats()`, `.clear()`."""
        return verification.cache

    def get_by_hash(self, sha256: bytes) -> APIKey:
        """The key one of whose secrets' tokens has this SHA-256, past the cache. Raises APIKey.DoesNotExist."""
        values = [digest for _, digest in tokens.digests(sha256, conf.API_KEY_PEPPERS, conf.API_KEY_PEPPER_WRITES)]
        found: APIKey = self.get(secrets__digest__in=values)
        return found

    def flush_last_used(self) -> int:
        """Write down at once which secrets were used since the last time, in this process; returns how many."""
        return lastuse.flush()

    def purgeable(self, older_than: timedelta | None = None) -> APIKeySecretQuerySet:
        """Secrets that ended, or whose key ended, longer ago than this (default: API_KEY_PURGE_AFTER)."""
        before = now() - (older_than if older_than is not None else timedelta(seconds=conf.API_KEY_PURGE_AFTER))
        own = models.Q(expires_at__lt=before) | models.Q(revoked_at__lt=before)
        keys = models.Q(key__expires_at__lt=before) | models.Q(key__revoked_at__lt=before)
        found: APIKeySecretQuerySet = APIKeySecret.objects.filter(own | keys)
        return found

    def purge_expired(self, older_than: timedelta | None = None, actor: object = None) -> int:
        """Remove the purgeable secrets, a thousand in a transaction; the keys stay. Returns their number.

        actor: who does it, for the audit log, as in `audit_context`.
        """
        ended = self.purgeable(older_than)
        removed: int = 0
        while True:
            with audit_context(actor=actor, reason="ended long ago"):
                batch = ended.select_for_update(skip_locked=True, of=("self",))
                ids = list(batch.values_list("pk", flat=True)[:1000])
                removed += APIKeySecret.objects.filter(pk__in=ids).delete()[1].get(APIKeySecret._meta.label, 0)
            if len(ids) < 1000:
                return removed


class APIKey(models.Model):
    """The identity of a caller: what policies, budgets, usage and audit refer to. Its secrets come and go.

    Written by issue, rotate and revoke. tenant, app, user, branch, environment and a set revoked_at never change: the
    database refuses it. Never deleted. `revoked_at` is set = revoked, whatever any clock says.
    """

    class Environment(models.TextChoices):
        LIVE = "live"
        TEST = "test"

    id = id_field()
    tenant = models.ForeignKey(Tenant, models.PROTECT, db_index=False, related_name="keys", db_comment="Whose it is")
    app = models.ForeignKey(
        App,
        models.PROTECT,
        db_index=False,
        db_constraint=False,
        related_name="keys",
        db_comment="App that calls with it",
    )
    user = models.ForeignKey(
        User, models.PROTECT, null=True, blank=True, swappable=False, db_index=False, db_constraint=False, related_name="keys",
        help_text="Empty: the app's own key.", db_comment="Whose personal key it is; NULL: the app's",
    )  # fmt: skip
    branch = models.ForeignKey(
        Branch, models.PROTECT, null=True, blank=True, db_index=False, db_constraint=False, related_name="keys",
        help_text="Empty: of every branch.", db_comment="Branch it is bound to; NULL: none",
    )  # fmt: skip
    name = models.CharField(max_length=200, db_comment="Name for people")
    environment = models.CharField(max_length=4, choices=Environment, default=Environment.LIVE, db_comment="live, test")
    scopes = ArrayField(
        models.CharField(max_length=64, validators=[RegexValidator(rf"^{SCOPE.pattern}$(?<!\n)")]),
        default=list, blank=True, help_text="Separated by commas. Callers ask for a scope by its whole name.",
        db_comment="What it may be used for",
    )  # fmt: skip
    allowed_models = ArrayField(
        models.CharField(max_length=MAX_MODEL), null=True, blank=True,
        help_text="Canonical ids (provider/name), separated by commas. Empty: the key restricts nothing.",
        db_comment="Canonical ids; NULL: no restriction, {}: no model at all",
    )  # fmt: skip
    enabled = models.BooleanField(
        default=True, help_text="Off: a pause; the key can be enabled again.", db_comment="A pause"
    )
    not_before = models.DateTimeField(null=True, blank=True, db_comment="Valid from; NULL: at once")
    expires_at = models.DateTimeField(null=True, blank=True, db_comment="Planned end; NULL: none")
    revoked_at = models.DateTimeField(null=True, editable=False, db_comment="Set = revoked, for ever")
    revoked_by = models.CharField(max_length=254, default="", editable=False, db_comment="Label of who revoked it")
    revoke_reason = models.TextField(default="", editable=False, db_comment="Why it was revoked")
    metadata = json_field(db_comment="Anything else, 8 KiB")
    tags = ArrayField(
        models.CharField(max_length=MAX_TAG),
        default=list,
        blank=True,
        help_text="Separated by commas.",
        db_comment="To find it by",
    )
    rotation = models.IntegerField(default=0, editable=False, db_comment="How often it was rotated")
    created_by = models.CharField(max_length=254, default="", editable=False, db_comment="Label of who issued it")
    created_by_id = models.UUIDField(null=True, editable=False, db_comment="User who issued it")
    created_at = created_at_field()
    updated_at = updated_at_field()

    objects = APIKeyManager()

    class Meta:
        verbose_name = "API key"
        db_table_comment = "The identity of a caller; its secrets come and go"
        permissions = [
            ("issue_apikey", "Can issue API keys"),
            ("rotate_apikey", "Can rotate API keys"),
            ("revoke_apikey", "Can revoke API keys"),
        ]
        indexes = [
            models.Index(fields=["tenant", "-created_at"], name="apikey_tenant_idx"),
            models.Index(fields=["tenant", "app"], name="apikey_app_idx"),
            models.Index(fields=["tenant", "user"], name="apikey_user_idx"),
            # what ends soon, of all tenants: one who is revoked ends no more
            models.Index(fields=["expires_at"], condition=models.Q(revoked_at=None), name="apikey_expires_idx"),
            GinIndex(fields=["tags"], name="apikey_tags_idx"),
        ]
        constraints = [
            models.UniqueConstraint(fields=["tenant", "id"], name="cp_tenants_apikey_tenant_id"),
            models.UniqueConstraint(fields=["tenant", "app", "id"], name="cp_tenants_apikey_tenant_app_id"),
            TenantForeignKey(fields=("tenant", "app"), to="cp_tenants.App", name="cp_tenants_apikey_app_of_tenant"),
            TenantForeignKey(fields=("tenant", "user"), to="cp_tenants.User", name="cp_tenants_apikey_user_of_tenant"),
            TenantForeignKey(
                fields=("tenant", "app", "branch"),
                to="cp_tenants.Branch",
                to_fields=("tenant", "app", "id"),
                name="cp_tenants_apikey_branch_of_app",
                violation_error_message="This branch belongs to another app or tenant. Choose one of this app.",
            ),
            models.CheckConstraint(
                condition=models.Q(environment__in=("live", "test")), name="cp_tenants_apikey_environment"
            ),
            models.CheckConstraint(condition=~models.Q(name=""), name="cp_tenants_apikey_has_a_name"),
            models.CheckConstraint(
                condition=models.Q(not_before__isnull=True)
                | models.Q(expires_at__isnull=True)
                | models.Q(not_before__lt=models.F("expires_at")),
                name="cp_tenants_apikey_begins_before_it_ends",
                violation_error_code="bad_expiry",
                violation_error_message="The key ends before it begins.",
            ),
            models.CheckConstraint(
                condition=models.Q(scopes__len__lte=MAX_SCOPES), name="cp_tenants_apikey_few_scopes"
            ),
            models.CheckConstraint(
                condition=Regex(Cast("scopes", models.TextField()), _SCOPES),
                name="cp_tenants_apikey_scopes_have_their_shape",
                violation_error_code="bad_scope",
                violation_error_message=KeyOperationError.messages["bad_scope"],
            ),
            models.CheckConstraint(
                condition=models.Q(allowed_models__isnull=True) | models.Q(allowed_models__len__lte=MAX_MODELS),
                name="cp_tenants_apikey_few_models",
            ),
            models.CheckConstraint(condition=models.Q(tags__len__lte=MAX_TAGS), name="cp_tenants_apikey_few_tags"),
            json_object("metadata", "cp_tenants_apikey_metadata_is_object", MAX_METADATA),
        ]

    def __str__(self) -> str:
        return self.name

    def save(self, **kwargs: Any) -> None:
        super().save(**kwargs)
        invalidation.changed("key", self.pk)

    @property
    def state(self) -> str:
        """For people: revoked, disabled, expired, not yet valid or active."""
        if self.revoked_at:
            return "revoked"
        if not self.enabled:
            return "disabled"
        if self.is_expired():
            return "expired"
        return "not yet valid" if self.not_before and self.not_before > now() else "active"

    @property
    def last_used_at(self) -> datetime | None:
        """When it was last used, by the newest of its secrets' uses; None: never. `with_last_use` asks for many at once."""
        newest: datetime | None = APIKeySecretUse.objects.filter(secret__key=self).aggregate(
            at=models.Max("last_used_at")
        )["at"]
        return newest

    def is_expired(self, at: datetime | None = None) -> bool:
        return self.expires_at is not None and (at or now()) >= self.expires_at

    def is_valid(self, at: datetime | None = None) -> bool:
        """Whether the key's own columns allow its use; the states of tenant, app, branch, user are another matter."""
        instant = at or now()
        begun = self.not_before is None or self.not_before <= instant
        return self.revoked_at is None and self.enabled and begun and not self.is_expired(instant)

    def allows_model(self, name: str) -> bool:
        return self.allowed_models is None or name in self.allowed_models

    def rotate(self, grace: timedelta = timedelta(hours=24)) -> Issued:
        """Add a new secret; every other live one ends after `grace` (0 to API_KEY_MAX_GRACE), or earlier if it did.

        Raises KeyOperationError: bad_grace, revoked, expired, already_rotated (this instance is older than the last
        rotation: of two rotations at once one wins), too_many_live_secrets.
        """
        if not timedelta(0) <= grace <= timedelta(seconds=conf.API_KEY_MAX_GRACE):
            raise KeyOperationError("bad_grace")
        with audit_context(reason=f"rotated with {grace / timedelta(hours=1):g} h grace"):
            stored = APIKey.objects.select_for_update().get(pk=self.pk)
            instant = now()
            if stored.revoked_at:
                raise KeyOperationError("revoked", http_status=409)
            if stored.is_expired(instant):
                raise KeyOperationError("expired", http_status=409)
            if stored.rotation != self.rotation:
                raise KeyOperationError("already_rotated", http_status=409)
            live = APIKeySecret.objects.filter(key=stored).live(instant)
            live.update(expires_at=Least("expires_at", models.Value(instant + grace, models.DateTimeField())))
            if (
                live.filter(models.Q(expires_at=None) | models.Q(expires_at__gt=instant)).count()
                >= conf.API_KEY_MAX_SECRETS
            ):
                raise KeyOperationError("too_many_live_secrets", http_status=409)
            APIKey.objects.filter(pk=self.pk).update(rotation=models.F("rotation") + 1)
            secret, token = APIKeySecret.objects.make(stored)
        self.refresh_from_db(fields=["rotation", "updated_at"])
        return Issued(self, secret, token)

    def import_secret(self, *, sha256: bytes | str, hint: str = "", origin: str = "") -> APIKeySecret:
        """Let a token of another gateway open this key; its callers go on with what they hold.

        sha256: of the token, 32 bytes or hexadecimal. hint: what may be shown of it, origin: where it comes from, each at
        most 32 characters. API_KEY_FOREIGN_PATTERNS must match the token, or it is never looked up. Raises
        KeyOperationError: bad_digest, too_large, contains_token, duplicate_secret, revoked, too_many_live_secrets.
        """
        with audit_context(reason=f"imported from {origin or 'elsewhere'}"):
            stored = APIKey.objects.select_for_update().get(pk=self.pk)
            if stored.revoked_at:
                raise KeyOperationError("revoked", http_status=409)
            if APIKeySecret.objects.filter(key=stored).live().count() >= conf.API_KEY_MAX_SECRETS:
                raise KeyOperationError("too_many_live_secrets", http_status=409)
            return APIKeySecret.objects.take(stored, sha256, hint=hint, origin=origin)

    def revoke(self, reason: str, by: str = "") -> None:
        """Refuse this key for ever. Again: the first time and reason stay. Raises reason_required, contains_token."""
        check_reason(reason)
        with audit_context(reason=reason):
            values = {"revoked_at": now(), "revoked_by": by, "revoke_reason": reason}
            APIKey.objects.filter(pk=self.pk, revoked_at=None).update(**values)
            invalidation.changed("key", self.pk)
        self.refresh_from_db(fields=["revoked_at", "revoked_by", "revoke_reason", "updated_at"])

    def set_metadata(self, name: str, value: Any) -> None:
        """Set one name in metadata, in the database: nothing that others write at once is lost.

        Raises KeyOperationError: bad_text, contains_token, too_large.
        """
        check_text({name: value})
        text = json.dumps(value)
        if tokens.holds_token(text) or tokens.holds_token(name):
            raise KeyOperationError("contains_token")
        added = models.Func(models.Value(name), models.Value(value, models.JSONField()), function="jsonb_build_object")
        self._merge(models.Func(models.F("metadata"), added, template="(%(expressions)s)", arg_joiner=" || "))

    def delete_metadata(self, name: str) -> None:
        """Remove one name from metadata, in the database."""
        self._merge(
            models.Func(models.F("metadata"), models.Value(name), template="(%(expressions)s::text)", arg_joiner=" - ")
        )

    def check_new(self, at: datetime) -> None:
        """Raise KeyOperationError if this unsaved key may not be issued at the instant."""
        for row in (self.app, self.branch, self.user):
            if row is not None and row.tenant_id != self.tenant_id:
                raise KeyOperationError("operator" if row.tenant_id is None else "wrong_tenant")
        if self.branch is not None and self.branch.app_id != self.app_id:
            raise KeyOperationError("wrong_tenant", "This branch belongs to another app. Choose one of this app.")
        self.check_ends()
        begins = max(filter(None, (self.not_before, at)))
        if self.expires_at is not None and self.expires_at <= begins:
            raise KeyOperationError("bad_expiry")
        if len(self.scopes) > MAX_SCOPES or not all(SCOPE.fullmatch(scope) for scope in self.scopes):
            raise KeyOperationError("bad_scope")
        if self.environment not in APIKey.Environment.values:
            raise KeyOperationError("bad_environment", "An environment is live or test.")
        self._check_size()

    def check_ends(self) -> None:
        """Raise KeyOperationError for a time that is naive, or that cannot be read again in every time zone."""
        for instant in (self.expires_at, self.not_before):
            if instant is not None and instant.tzinfo is None:
                raise KeyOperationError("naive_datetime")
            if instant is not None and not MINYEAR < instant.year < MAXYEAR:
                raise KeyOperationError(
                    "bad_expiry", "A time of a key lies in the years 2 to 9998. Leave it empty for none."
                )

    def _check_size(self) -> None:
        check_text([self.name, self.tags, self.allowed_models, self.metadata])
        limits = (
            ("name", len(self.name), 1, 200),
            ("allowed_models", len(self.allowed_models or ()), 0, MAX_MODELS),
            ("tags", len(self.tags), 0, MAX_TAGS),
            # an array's elements that are too long would be cut without a word
            *(("a model", len(name), 1, MAX_MODEL) for name in self.allowed_models or ()),
            *(("a tag", len(tag), 1, MAX_TAG) for tag in self.tags),
            ("metadata", len(json.dumps(self.metadata, ensure_ascii=False).encode()), 0, MAX_METADATA),
        )
        for what, size, least, most in limits:
            if not least <= size <= most:
                raise KeyOperationError("too_large", f"{what} has {size}, but needs {least} to {most}.")
        if tokens.holds_token(json.dumps([self.name, self.metadata, self.tags, self.allowed_models])):
            raise KeyOperationError("contains_token")

    def _merge(self, value: models.Func) -> None:
        try:
            with audit_context():
                APIKey.objects.filter(pk=self.pk).update(metadata=value)
        except IntegrityError as error:
            if "cp_tenants_apikey_metadata_is_object" not in str(error):
                raise
            raise KeyOperationError("too_large", f"metadata would have more than {MAX_METADATA} bytes.") from error
        self.refresh_from_db(fields=["metadata", "updated_at"])
