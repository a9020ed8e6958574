"""What a token that turned up somewhere opens: asked of the database, without leaving a use, and never shown again."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from controlplane.core.conf import conf
from controlplane.core.ids import now
from tenants import tokens, verification
from tenants.errors import InvalidKey
from tenants.models import APIKeySecret


@dataclass(frozen=True, slots=True)
class Leak:
    """One token: what may be shown of it, and what it opens. state: active, or the code of why it is refused."""

    hint: str
    state: str
    secret: APIKeySecret | None = None
    last_used_at: datetime | None = None

    @property
    def live(self) -> bool:
        """Whether somebody who has it can do something with it, now or once a pause or suspension ends."""
        return self.secret is not None and self.state not in ("revoked", "expired")


def inspect(token: str) -> Leak:
    """What a token opens now. Raises AuthUnavailable when the database gives no answer."""
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
    rows = APIKeySecret.objects.select_related("key__tenant", "key__app", "use")
    secret = rows.filter(pk=found.key.secret_id).first()
    return Leak(secret.prefix if secret else hint(token), state, secret, secret.last_used_at if secret else None)


def end(leaks: Iterable[Leak], reason: str, by: str = "") -> int:
    """Revoke the secrets among them that are live; returns how many. Raises reason_required, contains_token."""
    ended = {leak.secret.pk: leak.secret for leak in leaks if leak.live and leak.secret is not None}
    for secret in ended.values():
        secret.revoke(reason, by=by)
    return len(ended)


def hint(token: str) -> str:
    """What may be shown of a token that opens nothing: the public part of one of ours, else its first four characters."""
    public = tokens.public_part(token)
    return public or (f"{token[:4]}…" if len(token) >= 20 and token[:4].isprintable() else "…")
