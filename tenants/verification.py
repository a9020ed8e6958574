"""From a token to the key it is, in one statement, with the checks in one fixed order."""

from __future__ import annotations

import hmac
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NoReturn
from uuid import UUID

from django.db import InterfaceError, OperationalError, connections

from controlplane.core.conf import conf
from controlplane.core.statements import fetch
from tenants import lastuse, tokens
from tenants.errors import AuthUnavailable, InvalidKey


@dataclass(frozen=True, slots=True)
class VerifiedKey:
    """An API key whose token was checked. allowed_models: None = the key restricts nothing, empty = no model at all."""

    key_id: UUID
    secret_id: UUID
    kid: str
    tenant_id: UUID
    app_id: UUID
    branch_id: UUID | None
    user_id: UUID | None
    environment: str
    scopes: frozenset[str]
    allowed_models: frozenset[str] | None
    not_before: datetime | None
    expires_at: datetime | None

    @property
    def audit_actor(self) -> tuple[str, str, str, str]:
        return ("api_key", str(self.key_id), f"cpk_{self.environment}_{self.kid}", "")

    def allows_model(self, name: str) -> bool:
        """Whether the key itself allows a model, by its canonical id: the whole string, no wildcards."""
        return self.allowed_models is None or name in self.allowed_models

    def has_scope(self, scope: str) -> bool:
        """Whether the key has the scope: the whole string, none implies another."""
        return scope in self.scopes


@dataclass(frozen=True, slots=True)
class Found:
    """What the statement tells of a secret: the key, and the states that may forbid its use."""

    key: VerifiedKey
    revoked: bool
    enabled: bool
    tenant_active: bool
    app_active: bool
    branch_active: bool
    user_active: bool


def verify(
    token: str, *, at: datetime, environment: str | None = None, scope: str | None = None, model: str | None = None
) -> VerifiedKey:
    """The key that a token opens at the instant `at`, or InvalidKey; see APIKey.objects.verify."""
    if not tokens.may_open(token, conf.API_KEY_FOREIGN_PATTERNS):
        raise InvalidKey("malformed")
    found = find(tokens.sha256(token))
    if found is None:
        raise InvalidKey("unknown")
    check(found, at, environment=environment, scope=scope, model=model)
    lastuse.note(found.key.secret_id, at)
    return found.key


def check(
    found: Found, at: datetime, *, environment: str | None = None, scope: str | None = None, model: str | None = None
) -> None:
    """Raise InvalidKey for the first check, in their fixed order, that fails at the instant `at`."""
    key = found.key
    closed = (
        ("revoked", 401, found.revoked),
        ("disabled", 401, not found.enabled),
        ("not_yet_valid", 401, key.not_before is not None and at < key.not_before),
        ("expired", 401, key.expires_at is not None and at >= key.expires_at),
        ("tenant_disabled", 403, not found.tenant_active),
        ("app_disabled", 403, not found.app_active),
        ("branch_disabled", 403, not found.branch_active),
        ("user_disabled", 403, not found.user_active),
        ("wrong_environment", 403, environment is not None and environment != key.environment),
        ("insufficient_scope", 403, scope is not None and not key.has_scope(scope)),
        ("model_not_allowed", 403, model is not None and not key.allows_model(model)),
    )
    for code, status, failed in closed:
        if failed:
            _refuse(code, status, key)


def _refuse(code: str, status: int, key: VerifiedKey) -> NoReturn:
    raise InvalidKey(code, key_id=key.key_id, kid=key.kid, http_status=status)


# Padded to three digests: one text, so one prepared plan, whatever number of peppers is listed. An array would be
# planned anew each time.
_FIND = """
SELECT s.id, s.kid, s.digest, s.hash_version, s.revoked_at IS NOT NULL OR k.revoked_at IS NOT NULL, k.enabled, k.id,
    k.tenant_id, k.app_id, k.branch_id, k.user_id, k.environment, k.scopes, k.allowed_models, k.not_before,
    least(s.expires_at, k.expires_at), t.status = 'active', a.status = 'active',
    k.branch_id IS NULL OR coalesce(b.status = 'active', false), k.user_id IS NULL OR coalesce(u.is_active, false)
FROM cp_tenants_apikeysecret s
JOIN cp_tenants_apikey k ON k.tenant_id = s.tenant_id AND k.id = s.key_id
JOIN cp_tenants_tenant t ON t.id = k.tenant_id
JOIN cp_tenants_app a ON a.tenant_id = k.tenant_id AND a.id = k.app_id
LEFT JOIN cp_tenants_branch b ON b.tenant_id = k.tenant_id AND b.id = k.branch_id
LEFT JOIN cp_tenants_user u ON u.tenant_id = k.tenant_id AND u.id = k.user_id
WHERE s.digest IN (%s, %s, %s)
"""


def find(hashed: bytes) -> Found | None:
    """The secret whose token has this SHA-256, and its states, in one prepared statement. Raises AuthUnavailable."""
    candidates = tokens.digests(hashed, conf.API_KEY_PEPPERS)[:3]
    values = [digest for _, digest in candidates]
    values += [values[-1]] * (3 - len(values))
    try:
        rows = _ask(values)
    except (OperationalError, InterfaceError) as error:
        raise AuthUnavailable from error
    for row in rows:
        if any(version == row[3] and hmac.compare_digest(digest, bytes(row[2])) for version, digest in candidates):
            return _found(row)
    return None


def _ask(values: list[bytes]) -> list[tuple[Any, ...]]:
    """The statement's rows. A connection that the server has closed meanwhile is replaced, and asked once more."""
    connection = connections[conf.DATABASE]
    try:
        return fetch(conf.DATABASE, _FIND, values)
    except (OperationalError, InterfaceError):
        if connection.in_atomic_block or connection.connection is None or not connection.connection.closed:
            raise
    connection.close()
    return fetch(conf.DATABASE, _FIND, values)


def _found(row: tuple[Any, ...]) -> Found:
    (secret_id, kid, _, _, revoked, enabled, key_id, tenant, app, branch, user, environment, scopes, models,
     not_before, expires_at, tenant_active, app_active, branch_active, user_active) = row  # fmt: skip
    key = VerifiedKey(
        key_id=key_id, secret_id=secret_id, kid=kid, tenant_id=tenant, app_id=app, branch_id=branch, user_id=user,
        environment=environment, scopes=frozenset(scopes), allowed_models=None if models is None else frozenset(models),
        not_before=not_before, expires_at=expires_at,
    )  # fmt: skip
    return Found(key, revoked, enabled, tenant_active, app_active, branch_active, user_active)
