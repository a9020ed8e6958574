from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Self

from django.db import IntegrityError, models, transaction

from auditing.context import audit_context
from controlplane.core.conf import conf
from controlplane.core.constraints import TenantForeignKey
from controlplane.core.fields import created_at_field, id_field
from controlplane.core.ids import now
from tenants import tokens
from tenants.errors import KeyOperationError
from tenants.models.tenant import Tenant

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
            version, digest = tokens.digests(tokens.sha256(fresh.token), conf.API_KEY_PEPPERS)[0]
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

    @property
    def prefix(self) -> str:
        """What may be shown of the token: `cpk_live_<kid>`, or the hint of an imported one. Needs `key`."""
        return self.hint or f"cpk_{self.key.environment}_{self.kid}"

    def revoke(self, reason: str, by: str = "") -> None:
        """Refuse this secret for ever; the key's others go on. Again: the first time and reason stay."""
        check_reason(reason)
        with audit_context(reason=reason):
            values = {"revoked_at": now(), "revoked_by": by, "revoke_reason": reason}
            APIKeySecret.objects.filter(pk=self.pk, revoked_at=None).update(**values)
        self.refresh_from_db(fields=["revoked_at", "revoked_by", "revoke_reason"])


def check_reason(reason: str) -> None:
    """Raise KeyOperationError: reason_required, contains_token."""
    if not reason.strip():
        raise KeyOperationError("reason_required")
    if tokens.holds_token(reason):
        raise KeyOperationError("contains_token")
