from __future__ import annotations

import hmac
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Self
from uuid import UUID

from django.db import OperationalError, models

from auditing.context import audit_context
from auditing.redaction import clean
from controlplane.core.conf import conf
from controlplane.core.constraints import TenantForeignKey
from controlplane.core.fields import created_at_field, id_field
from controlplane.core.ids import now
from tenants import tokens
from tenants.apart import apart
from tenants.errors import InvalidRefreshToken, KeyOperationError, TenantsError
from tenants.models.fields import Status
from tenants.models.tenant import Tenant
from tenants.models.user import User
from tenants.rehashing import rehash


@dataclass(frozen=True, slots=True)
class IssuedRefresh:
    """A refresh token that was just issued or rotated. token: in clear, here and never again; the repr hides it."""

    token: str
    refresh: RefreshToken
    family: RefreshFamily

    def __repr__(self) -> str:
        return f"IssuedRefresh(family={self.family.pk}, generation={self.refresh.generation})"


@dataclass(frozen=True, slots=True)
class VerifiedRefresh:
    """A refresh token that could be rotated now. expires_at: its end, unless it is rotated before."""

    user_id: UUID
    tenant_id: UUID
    family_id: UUID
    expires_at: datetime


class RefreshFamilyQuerySet(models.QuerySet["RefreshFamily"]):
    def for_user(self, user: User) -> Self:
        return self.filter(tenant_id=user.tenant_id, user=user)

    def live(self, at: datetime | None = None) -> Self:
        """Families whose newest token could be rotated at the instant (default: now), their tenant's state aside."""
        instant = at or now()
        newest = RefreshToken.objects.filter(family=models.OuterRef("pk"), used_at=None, expires_at__gt=instant)
        valid = models.Q(user__tokens_valid_after=None) | models.Q(created_at__gt=models.F("user__tokens_valid_after"))
        return self.filter(
            valid, models.Exists(newest), revoked_at=None, absolute_expires_at__gt=instant, user__is_active=True
        )

    def with_newest(self) -> Self:
        """With `generation` and `issued_at` of the newest token: how often, and when last, it was rotated."""
        newest = RefreshToken.objects.filter(family=models.OuterRef("pk"), used_at=None)
        return self.annotate(
            **{name: models.Subquery(newest.values(name)[:1]) for name in ("generation", "issued_at", "expires_at")}
        )

    def end(self, code: str, reason: str = "") -> int:
        """Revoke those that are not revoked yet. code: of RefreshFamily.Ended; reason: for the audit log."""
        with audit_context(reason=reason):
            return self.filter(revoked_at=None).update(revoked_at=now(), revoked_reason=code)


class RefreshFamily(models.Model):
    """One sign-in of a user at one client, as the chain of refresh tokens that came of it. One of them is unused.

    Written by issue and rotate. tenant, user, the absolute end and a set revoked_at never change: the database refuses
    it. Older than its user's `tokens_valid_after`, it is as good as revoked. Purged after its absolute end; until then
    its spent tokens are what a stolen one is known by.
    """

    class Ended(models.TextChoices):
        LOGOUT = "logout"
        ALL = "all"
        """All of the user's: on request, or by a new password."""
        LIMIT = "limit"
        REUSE = "reuse"
        USER = "user"
        """The user was deactivated."""

    id = id_field()
    tenant = models.ForeignKey(Tenant, models.PROTECT, db_index=False, related_name="+", db_comment="Whose it is")
    user = models.ForeignKey(
        User, models.PROTECT, swappable=False, db_index=False, db_constraint=False, related_name="families",
        db_comment="Who signed in",
    )  # fmt: skip
    client = models.CharField(max_length=200, default="", blank=True, db_comment="What signed in, for people")
    absolute_expires_at = models.DateTimeField(
        "ends at the latest", editable=False, db_comment="End that no rotation moves"
    )
    revoked_at = models.DateTimeField(null=True, editable=False, db_comment="Set = revoked, for ever")
    revoked_reason = models.CharField(
        max_length=6, choices=Ended, default="", editable=False, db_comment="logout, all, limit, reuse, user"
    )
    created_at = created_at_field()

    objects = RefreshFamilyQuerySet.as_manager()

    class Meta:
        verbose_name = "refresh token family"
        verbose_name_plural = "refresh token families"
        db_table_comment = "One sign-in of a user at one client: a chain of refresh tokens"
        permissions = [("revoke_refreshfamily", "Can end refresh token families")]
        indexes = [
            models.Index(fields=["tenant", "user"], condition=models.Q(revoked_at=None), name="refreshfamily_user_idx"),
            models.Index(fields=["absolute_expires_at"], name="refreshfamily_expires_idx"),
        ]
        constraints = [
            models.UniqueConstraint(fields=["tenant", "id"], name="cp_tenants_refreshfamily_tenant_id"),
            TenantForeignKey(
                fields=("tenant", "user"), to="cp_tenants.User", name="cp_tenants_refreshfamily_user_of_tenant"
            ),
            models.CheckConstraint(
                condition=models.Q(revoked_at__isnull=True, revoked_reason="")
                | models.Q(revoked_at__isnull=False, revoked_reason__in=("logout", "all", "limit", "reuse", "user")),
                name="cp_tenants_refreshfamily_revoked_has_a_reason",
            ),
            models.CheckConstraint(
                condition=models.Q(created_at__lt=models.F("absolute_expires_at")),
                name="cp_tenants_refreshfamily_begins_before_it_ends",
            ),
        ]

    def __str__(self) -> str:
        return self.client or f"session of {self.created_at:%Y-%m-%d %H:%M}Z"

    def check_open(self, newest: RefreshToken | None, at: datetime) -> None:
        """Raise InvalidRefreshToken if no token of this family may be rotated at the instant. Needs `user`, `tenant`.

        newest: its unused token; its idle end is the family's.
        """
        after = self.user.tokens_valid_after
        closed = (
            ("revoked", self.revoked_at is not None or (after is not None and self.created_at <= after)),
            ("expired", newest is None or at >= newest.expires_at or at >= self.absolute_expires_at),
            ("user_disabled", not self.user.is_active),
            ("tenant_disabled", self.tenant.status != Status.ACTIVE),
        )
        for code, failed in closed:
            if failed:
                raise InvalidRefreshToken(code, family_id=self.pk)


class _Reused(Exception):
    """Leaves the savepoint of a rotation, and with it the family's row lock."""


class RefreshTokenManager(models.Manager["RefreshToken"]):
    def issue(self, user: User, client: str = "") -> IssuedRefresh:
        """Begin a family for a user who has just proved who it is. client: what signs in, for people; 200 characters.

        Beyond REFRESH_MAX_FAMILIES live ones the oldest ends. Raises TenantsError("operator"), KeyOperationError
        (contains_token, too_large), InvalidRefreshToken (user_disabled, tenant_disabled).
        """
        client = _checked_client(client)
        if user.tenant_id is None:
            raise TenantsError("operator")
        with audit_context():
            # Locked, so that nobody deactivates it meanwhile, and two issues at once count each other.
            users = User.objects.select_for_update(of=("self",), no_key=True).select_related("tenant")
            person = users.filter(pk=user.pk).first()
            if person is None or person.tenant is None:
                raise TenantsError("not_found", http_status=404)
            if not person.is_active:
                raise InvalidRefreshToken("user_disabled")
            if person.tenant.status != Status.ACTIVE:
                raise InvalidRefreshToken("tenant_disabled")
            instant = now()
            self._end_oldest(person, instant)
            family = RefreshFamily.objects.create(
                tenant_id=person.tenant_id,
                user=person,
                client=client,
                absolute_expires_at=instant + timedelta(seconds=conf.REFRESH_ABSOLUTE),
            )
            return self._add(family, 1, instant)

    def verify(self, token: str, at: datetime | None = None) -> VerifiedRefresh:
        """Whose token this is, if it could be rotated at the instant (default: now). Changes nothing.

        Raises InvalidRefreshToken: malformed, unknown, revoked, expired, used (401), user_disabled, tenant_disabled (403).
        """
        shown, newest = self._with_newest(self._find(token))
        family = shown.family
        family.check_open(newest, at or now())
        if shown.used_at is not None:
            raise InvalidRefreshToken("used", family_id=family.pk)
        return VerifiedRefresh(family.user_id, family.tenant_id, family.pk, shown.expires_at)

    def rotate(self, token: str, at: datetime | None = None) -> IssuedRefresh:
        """Spend a token for the next one of its family. Of many at once exactly one gets it.

        Raises InvalidRefreshToken: as `verify`, but for a spent token `already_rotated` (409) if it was spent less than
        REFRESH_REUSE_WINDOW ago and its successor is unused: a parallel tab, and the family lives. Else it is `reused`:
        somebody has a copy. Then the family is revoked, also if the caller rolls back.
        """
        try:
            with audit_context():
                return self._rotate(self._find(token), at)
        except _Reused as reused:
            family_id: UUID = reused.args[0]
        _end_reused(family_id)
        raise InvalidRefreshToken("reused", family_id=family_id)

    def revoke(self, token: str, reason: str = "") -> None:
        """End the family of a token, as signing out does; a spent token, or one of an ended family, will do.

        Raises InvalidRefreshToken: malformed, unknown.
        """
        RefreshFamily.objects.filter(pk=self._find(token).family_id).end(RefreshFamily.Ended.LOGOUT, reason)

    def revoke_all(self, user: User, reason: str = "") -> int:
        """End every family of a user; returns how many were not revoked before. reason: for the audit log."""
        return RefreshFamily.objects.for_user(user).end(RefreshFamily.Ended.ALL, reason)

    def count_active(self, user: User, at: datetime | None = None) -> int:
        """Families of a user that have not ended at the instant (default: now); none of one who is deactivated."""
        return RefreshFamily.objects.for_user(user).live(at).count()

    def purgeable(self, at: datetime | None = None) -> models.QuerySet[RefreshFamily]:
        """Families past their absolute end."""
        return RefreshFamily.objects.filter(absolute_expires_at__lte=at or now())

    def purge_expired(self, at: datetime | None = None, actor: object = None) -> int:
        """Remove the purgeable families with all tokens, a thousand rows in a transaction. Returns the families' number.

        actor: who does it, for the audit log, as in `audit_context`.
        """
        ended = self.purgeable(at)
        _delete_in_batches(self.filter(family__in=ended), actor)
        return _delete_in_batches(ended.filter(tokens=None), actor)

    def versions(self) -> dict[int, int]:
        """Number of tokens that may still be rotated, by the version of the pepper of their digest."""
        live = self.filter(used_at=None, expires_at__gt=now(), family__revoked_at=None).values_list("hash_version")
        return dict(live.annotate(n=models.Count("pk")).order_by("hash_version"))

    def rehash(self, actor: object = None) -> int:
        """Give every digest without pepper the newest one, spent ones too; returns how many. Raises no_pepper.

        Between two peppers nothing needs to be run: the next token of a family has the newest.
        """
        return rehash(self.all(), actor)

    def _find(self, token: str) -> RefreshToken:
        if not tokens.well_formed_refresh(token):
            raise InvalidRefreshToken("malformed")
        candidates = tokens.digests(tokens.sha256(token), conf.API_KEY_PEPPERS, conf.API_KEY_PEPPER_WRITES)
        for row in self.filter(digest__in=[digest for _, digest in candidates]):
            stored = bytes(row.digest)
            if any(
                version == row.hash_version and hmac.compare_digest(digest, stored) for version, digest in candidates
            ):
                return row
        raise InvalidRefreshToken("unknown")

    def _with_newest(self, found: RefreshToken) -> tuple[RefreshToken, RefreshToken | None]:
        """The token as it is now, with its family, user and tenant; and the unused token of the family."""
        rows = self.select_related("family__user", "family__tenant").filter(family=found.family_id)
        both = list(rows.filter(models.Q(pk=found.pk) | models.Q(used_at=None)))
        shown = next((row for row in both if row.pk == found.pk), None)
        if shown is None:  # purged meanwhile
            raise InvalidRefreshToken("unknown")
        return shown, next((row for row in both if row.used_at is None), None)

    def _rotate(self, found: RefreshToken, at: datetime | None) -> IssuedRefresh:
        family = RefreshFamily.objects.select_for_update(no_key=True).filter(pk=found.family_id)
        list(family.values_list("pk"))  # the statements below see what was committed before the lock was had
        shown, newest = self._with_newest(found)
        instant = at or now()
        shown.family.check_open(newest, instant)
        if newest is not None and shown.used_at is None:
            self.filter(pk=shown.pk).update(used_at=instant)
            return self._add(shown.family, shown.generation + 1, instant)
        return self._refuse_spent(shown, newest, instant)

    def _refuse_spent(self, shown: RefreshToken, newest: RefreshToken | None, at: datetime) -> IssuedRefresh:
        window = timedelta(seconds=conf.REFRESH_REUSE_WINDOW)
        recent = shown.used_at is not None and at - shown.used_at <= window
        if recent and newest is not None and newest.generation == shown.generation + 1:
            raise InvalidRefreshToken("already_rotated", family_id=shown.family_id)
        raise _Reused(shown.family_id)

    def _end_oldest(self, user: User, at: datetime) -> None:
        live = RefreshFamily.objects.for_user(user).live(at).order_by("-created_at", "-pk")
        oldest = list(live.values_list("pk", flat=True)[max(conf.REFRESH_MAX_FAMILIES, 1) - 1 :])
        if oldest:
            reason = f"more than {conf.REFRESH_MAX_FAMILIES} sessions"
            RefreshFamily.objects.filter(pk__in=oldest).end(RefreshFamily.Ended.LIMIT, reason)

    def _add(self, family: RefreshFamily, generation: int, at: datetime) -> IssuedRefresh:
        token = tokens.new_refresh()
        version, digest = tokens.digests(tokens.sha256(token), conf.API_KEY_PEPPERS, conf.API_KEY_PEPPER_WRITES)[0]
        row = RefreshToken(
            tenant_id=family.tenant_id,
            family=family,
            generation=generation,
            digest=digest,
            hash_version=version,
            issued_at=at,
            expires_at=min(at + timedelta(seconds=conf.REFRESH_IDLE), family.absolute_expires_at),
        )
        row.save(force_insert=True)
        return IssuedRefresh(token, row, family)


class RefreshToken(models.Model):
    """One token of a family, as a digest. Spent by the rotation that makes the next; kept, so that a copy is noticed.

    Written by issue and rotate. That it was used never changes.
    """

    id = id_field()
    tenant = models.ForeignKey(Tenant, models.PROTECT, db_index=False, related_name="+", db_comment="Whose it is")
    family = models.ForeignKey(
        RefreshFamily, models.PROTECT, db_index=False, db_constraint=False, related_name="tokens",
        db_comment="Sign-in it came of",
    )  # fmt: skip
    generation = models.IntegerField(editable=False, db_comment="1, 2, 3 …: which of its family")
    digest = models.BinaryField(max_length=32, db_comment="SHA-256 of the token, or its HMAC with a pepper")
    hash_version = models.SmallIntegerField(
        default=0, editable=False, db_comment="0: no pepper, else the pepper's version"
    )
    issued_at = models.DateTimeField(default=now, editable=False, db_comment="When it was given out")
    expires_at = models.DateTimeField(editable=False, db_comment="Its end if it is not used")
    used_at = models.DateTimeField(null=True, editable=False, db_comment="When it was spent for the next one")

    objects = RefreshTokenManager()

    class Meta:
        db_table_comment = "One token of a family, as a digest"
        constraints = [
            # global on purpose: it is asked before a tenant is known
            models.UniqueConstraint(fields=["digest"], name="cp_tenants_refreshtoken_digest_once"),
            models.UniqueConstraint(fields=["family", "generation"], name="cp_tenants_refreshtoken_generation_once"),
            # what a rotation stands on: of two at once one would make a second unused token
            models.UniqueConstraint(
                fields=["family"], condition=models.Q(used_at=None), name="cp_tenants_refreshtoken_one_unused"
            ),
            TenantForeignKey(
                fields=("tenant", "family"),
                to="cp_tenants.RefreshFamily",
                name="cp_tenants_refreshtoken_family_of_tenant",
            ),
            models.CheckConstraint(
                condition=models.Q(
                    models.lookups.Exact(
                        models.Func("digest", function="octet_length", output_field=models.IntegerField()), 32
                    )
                ),
                name="cp_tenants_refreshtoken_digest_is_32_bytes",
            ),
        ]

    def __str__(self) -> str:
        return f"token {self.generation}"


def _checked_client(client: str) -> str:
    if tokens.holds_token(client):
        raise KeyOperationError("contains_token")
    kept = clean(client)
    if len(kept) > 200:
        raise KeyOperationError("too_large", f"client has {len(kept)} characters, but may have 200.")
    return kept


def _delete_in_batches(rows: models.QuerySet[Any], actor: object) -> int:
    """What another purge has locked is left to it."""
    removed, ids = 0, [None]
    while ids:
        with audit_context(actor=actor, reason="ended long ago"):
            ids = list(rows.select_for_update(skip_locked=True, of=("self",)).values_list("pk", flat=True)[:1000])
            rows.model._default_manager.filter(pk__in=ids).delete()
        removed += len(ids)
    return removed


def _end_reused(family_id: UUID) -> None:
    """Revoke for good, whatever the caller's transaction comes to. What it alone knows of is revoked inside it."""

    def end() -> bool:
        family = RefreshFamily.objects.filter(pk=family_id)
        family.end(RefreshFamily.Ended.REUSE, "a spent refresh token was used again")
        return family.exists()

    try:
        ended = apart(end)
    except OperationalError:  # the caller has locked the family itself
        ended = False
    if not ended:
        end()
