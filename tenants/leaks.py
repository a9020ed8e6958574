"""What a token that turned up somewhere opens: asked of the database, without leaving a use, and never shown again."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from controlplane.core.conf import conf
from controlplane.core.ids import now
from tenants import tokens, verification
from tenants.errors import InvalidKey, InvalidRefreshToken
from tenants.models import APIKeySecret, RefreshFamily, RefreshToken
from tenants.models.secret import check_reason


@dataclass(frozen=True, slots=True)
class Leak:
    """One token: what may be shown of it, and what it opens. state: active, or the code of why it is refused.

    secret: of a key; session: of a refresh token, whose last use is that of its newest token.
    """

    hint: str
    state: str
    secret: APIKeySecret | None = None
    session: RefreshFamily | None = None
    last_used_at: datetime | None = None

    @property
    def live(self) -> bool:
        """Whether somebody who has it can do something with it, now or once a pause or suspension ends."""
        opens = self.secret is not None or self.session is not None
        return opens and self.state not in ("revoked", "expired", "used")


def inspect(token: str) -> Leak:
    """What a token opens now. Raises AuthUnavailable when the database gives no answer."""
    if tokens.well_formed_refresh(token):
        return _session(token)
    if not tokens.may_open(token, conf.API_KEY_FOREIGN_PATTERNS):
        return Leak(hint(token), "malformed")
    found = verification.find(tokens.sha256(token))
    if found is None:
        return Leak(hint(token), "unknown")
    try:
        verification.check(found, now())
        state = "active"
    except InvalidKey as refusal:
        state = refusal.code
    rows = APIKeySecret.objects.select_related("key__tenant", "key__app", "key__user", "use")
    secret = rows.filter(pk=found.key.secret_id).first()
    used_at = secret.last_used_at if secret else None
    return Leak(secret.prefix if secret else hint(token), state, secret, last_used_at=used_at)


def end(leaks: Iterable[Leak], reason: str, by: str = "") -> int:
    """Revoke the secrets and sessions among them that are live; returns how many. Raises reason_required, contains_token."""
    check_reason(reason)
    live = [leak for leak in leaks if leak.live]
    secrets = {leak.secret.pk: leak.secret for leak in live if leak.secret is not None}
    for secret in secrets.values():
        secret.revoke(reason, by=by)
    sessions = RefreshFamily.objects.filter(pk__in={leak.session.pk for leak in live if leak.session is not None})
    return len(secrets) + sessions.end(RefreshFamily.Ended.LOGOUT, reason)


def _session(token: str) -> Leak:
    try:
        family_id, state = RefreshToken.objects.verify(token).family_id, "active"
    except InvalidRefreshToken as refusal:
        if refusal.family_id is None:
            return Leak(hint(token), refusal.code)
        family_id, state = refusal.family_id, refusal.code
    rows = RefreshFamily.objects.with_newest().select_related("tenant", "user")
    session = rows.filter(pk=family_id).first()
    return Leak(hint(token), state, session=session, last_used_at=getattr(session, "issued_at", None))


def hint(token: str) -> str:
    """What may be shown of a token that opens nothing: the public part of one of ours, else its first four characters."""
    public = tokens.public_part(token)
    return public or (f"{token[:4]}…" if len(token) >= 20 and token[:4].isprintable() else "…")
