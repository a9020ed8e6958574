from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any, Self

from django.core.exceptions import ValidationError
from django.db import IntegrityError, models, transaction

from auditing.context import audit_context
from controlplane.core.caches import invalidation
from controlplane.core.conf import conf
from controlplane.core.constraints import TenantForeignKey
from controlplane.core.fields import created_at_field, id_field, validate_json
from controlplane.core.ids import now
from tenants import tokens
from tenants.errors import KeyOperationError
from tenants.models.tenant import Tenant
from tenants.rehashing import rehash

if TYPE_CHECKING:
    from tenants.models.key import APIKey


class APIKeySecretQuerySet(models.QuerySet["APIKeySecret"]):
    def live(self, at: datetime | None = None) -> Self:
        """Secrets that are neither revoked nor ended at the instant (default: now)."""
        return self.filter(models.Q(expires_at=None) | models.Q(expires_at__gt=at or now()), revoked_at=None)


class APIKeySecretManager(models.Manager.from_queryset(APIKeySecretQuerySet)):  # type: ignore[misc]
    def make(self, key: APIKey) -> tuple[APIKeySecret, str]:
        """A new secret of a key, and its token. A kid that is taken already is drawn anew, three times."""
        for attempt in range(3):
            fresh = tokens.new_key(key.environment)
            version, digest = tokens.digests(
                tokens.sha256(fresh.token), conf.API_KEY_PEPPERS, conf.API_KEY_PEPPER_WRITES
            )[0]
            secret = APIKeySecret(tenant_id=key.tenant_id, key=key, kid=fresh.kid, digest=digest, hash_version=version)
            try:
                with transaction.atomic(using=self.db):
                    secret.save(force_insert=True)
            except IntegrityError as error:
                if attempt == 2 or "kid" not in str(error):
                    raise
                continue
            break
        return secret, fresh.token

    def take(self, key: APIKey, sha256: bytes | str, *, hint: str = "", origin: str = "") -> APIKeySecret:
        """A secret of a key from the SHA-256 of a token that another gateway issued; see APIKey.import_secret."""
        hashed = self.check_new(sha256, hint, origin)
        candidates = tokens.digests(hashed, conf.API_KEY_PEPPERS, conf.API_KEY_PEPPER_WRITES)
        version, digest = candidates[0]
        known = {known for _, known in candidates} | {hashed}
        if self.filter(digest__in=known).exists():
            raise KeyOperationError("duplicate_secret", http_status=409)
        secret: APIKeySecret = self.model(
            tenant_id=key.tenant_id, key=key, kid=tokens.new_kid(), digest=digest, hash_version=version,
            hint=hint, origin=origin or "import",
        )  # fmt: skip
        try:
            with transaction.atomic(using=self.db):
                secret.save(force_insert=True)
        except IntegrityError as error:
            if "cp_tenants_apikeysecret_digest_once" in str(error):
                raise KeyOperationError("duplicate_secret", http_status=409) from error
            raise
        return secret

    def check_new(self, sha256: bytes | str, hint: str = "", origin: str = "") -> bytes:
        """The 32 bytes of a digest that may be imported.

        Raises KeyOperationError: bad_digest, too_large, contains_token, bad_text.
        """
        hashed = _sha256(sha256)
        check_text([hint, origin])
        if len(hint) > 32 or len(origin) > 32:
            raise KeyOperationError("too_large", "hint and origin have at most 32 characters.")
        if tokens.holds_token(hint) or tokens.holds_token(origin):
            raise KeyOperationError("contains_token")
        return hashed

    def versions(self) -> dict[int, int]:
        """Number of secrets that may still open a key, by the version of the pepper of their digest."""
        live = self.filter(revoked_at=None, key__revoked_at=None).values_list("hash_version")
        return dict(live.annotate(n=models.Count("pk")).order_by("hash_version"))

    def rehash(self, actor: object = None) -> int:
        """Give every digest without pepper the newest one; returns how many. See tenants.rehashing. Raises no_pepper."""
        return rehash(self.all(), actor)


class APIKeySecret(models.Model):
    """What a caller holds, as a digest. Several of one key may be live: that is how a key is rotated without a gap.

    Written by issue and rotate. Only its end and its revocation ever change; ended ones are purged after a while.
    """

    id = id_field()
    tenant = models.ForeignKey(Tenant, models.PROTECT, db_index=False, related_name="+", db_comment="Whose it is")
    key = models.ForeignKey(
        "cp_tenants.APIKey",
        models.PROTECT,
        db_index=False,
        db_constraint=False,
        related_name="secrets",
        db_comment="Key it opens",
    )
    kid = models.CharField(max_length=12, editable=False, db_comment="Public name, part of the token")
    digest = models.BinaryField(max_length=32, db_comment="SHA-256 of the token, or its HMAC with a pepper")
    hash_version = models.SmallIntegerField(
        default=0, editable=False, db_comment="0: no pepper, else the pepper's version"
    )
    hint = models.CharField(max_length=32, default="", editable=False, db_comment="Imported ones: what may be shown")
    origin = models.CharField(
        max_length=32, default="", editable=False, db_comment="Where it came from; empty: issued here"
    )
    expires_at = models.DateTimeField(null=True, editable=False, db_comment="Its own end; NULL: the key's")
    revoked_at = models.DateTimeField(null=True, editable=False, db_comment="Set = revoked, for ever")
    revoked_by = models.CharField(max_length=254, default="", editable=False, db_comment="Label of who revoked it")
    revoke_reason = models.TextField(default="", editable=False, db_comment="Why it was revoked")
    created_at = created_at_field()

    objects = APIKeySecretManager()

    class Meta:
        verbose_name = "secret"
        db_table_comment = "What a caller holds, as a digest"
        indexes = [
            models.Index(fields=["key"], name="apikeysecret_key_idx"),
            models.Index(fields=["expires_at"], condition=models.Q(revoked_at=None), name="apikeysecret_expires_idx"),
        ]
        constraints = [
            # global on purpose: they are asked before a tenant is known
            models.UniqueConstraint(fields=["tenant", "id"], name="cp_tenants_apikeysecret_tenant_id"),
            models.UniqueConstraint(fields=["kid"], name="cp_tenants_apikeysecret_kid_once"),
            models.UniqueConstraint(fields=["digest"], name="cp_tenants_apikeysecret_digest_once"),
            TenantForeignKey(
                fields=("tenant", "key"), to="cp_tenants.APIKey", name="cp_tenants_apikeysecret_key_of_tenant"
            ),
            models.CheckConstraint(
                condition=models.Q(
                    models.lookups.Exact(
                        models.Func("digest", function="octet_length", output_field=models.IntegerField()), 32
                    )
                ),
                name="cp_tenants_apikeysecret_digest_is_32_bytes",
            ),
        ]

    def __str__(self) -> str:
        return self.prefix

    def save(self, **kwargs: Any) -> None:
        super().save(**kwargs)
        invalidation.changed("key", self.key_id)

    @property
    def prefix(self) -> str:
        """What may be shown of the token: `cpk_live_<kid>`, or the hint of an imported one. Needs `key`."""
        return self.hint or f"cpk_{self.key.environment}_{self.kid}"

    @property
    def last_used_at(self) -> datetime | None:
        """When it last opened its key, as last written down (`tenants.lastuse`); None: never."""
        use: APIKeySecretUse | None = getattr(self, "use", None)
        return use.last_used_at if use else None

    def revoke(self, reason: str, by: str = "") -> None:
        """Refuse this secret for ever; the key's others go on. Again: the first time and reason stay."""
        check_reason(reason)
        with audit_context(reason=reason):
            values = {"revoked_at": now(), "revoked_by": by, "revoke_reason": reason}
            APIKeySecret.objects.filter(pk=self.pk, revoked_at=None).update(**values)
            invalidation.changed("key", self.key_id)
        self.refresh_from_db(fields=["revoked_at", "revoked_by", "revoke_reason"])


class APIKeySecretUse(models.Model):
    """When a secret was last used. Written in batches by `tenants.lastuse`; goes with its secret. Never audited."""

    secret = models.OneToOneField(
        APIKeySecret, models.CASCADE, primary_key=True, db_constraint=False, related_name="use", db_comment="Which one"
    )
    tenant = models.ForeignKey(Tenant, models.PROTECT, db_index=False, related_name="+", db_comment="Whose it is")
    last_used_at = models.DateTimeField(db_comment="Newest use that was written down")

    class Meta:
        verbose_name = "last use of a secret"
        verbose_name_plural = "last uses of secrets"
        db_table_comment = "When a secret was last used"
        constraints = [
            TenantForeignKey(
                fields=("tenant", "secret"),
                to="cp_tenants.APIKeySecret",
                name="cp_tenants_apikeysecretuse_secret_of_tenant",
            )
        ]

    def __str__(self) -> str:
        return str(self.secret_id)


def _sha256(given: bytes | str) -> bytes:
    try:
        hashed = bytes.fromhex(given) if isinstance(given, str) else bytes(given)
    except (ValueError, TypeError):
        hashed = b""
    if len(hashed) != 32:
        raise KeyOperationError("bad_digest")
    return hashed


def check_text(value: Any) -> None:
    """Raise KeyOperationError("bad_text") for texts, or JSON, that the database does not take."""
    try:
        validate_json(value)
    except ValidationError as error:
        raise KeyOperationError("bad_text", " ".join(error.messages)) from None


def check_reason(reason: str) -> None:
    """Raise KeyOperationError: reason_required, contains_token, bad_text."""
    if not reason.strip():
        raise KeyOperationError("reason_required")
    check_text(reason)
    if tokens.holds_token(reason):
        raise KeyOperationError("contains_token")
