"""From a token to the key it is: from the cache or in one statement, with the checks in one fixed order, on every call."""

from __future__ import annotations

import hmac
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from typing import Any, NoReturn
from uuid import UUID

from asgiref.sync import sync_to_async
from django.db import InterfaceError, InternalError, OperationalError

from controlplane.core.caches import MISSING, Ask, CacheUnavailable, RecordCache, on_this_thread
from controlplane.core.conf import conf
from controlplane.core.ids import now
from tenants import lastuse, rehashing, tokens
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
    """What the statement tells of a secret: the key, and why it may not be used whatever the time is.

    stopped: revoked, disabled or "". closed: the first of tenant_disabled, app_disabled, branch_disabled, user_disabled, or "".
    """

    key: VerifiedKey
    stopped: str
    closed: str


def verify(
    token: str,
    environment: str | None = None,
    scope: str | None = None,
    model: str | None = None,
    at: datetime | None = None,
) -> VerifiedKey:
    """The key that a token opens at the instant `at` (None: now), or InvalidKey; see APIKey.objects.verify."""
    hashed = _hashed(token)
    found = cache.cached(hashed)
    if found is MISSING:
        found = _look_up(token, hashed)
    return _opened(found, at, environment, scope, model)


async def averify(
    token: str, environment: str | None = None, scope: str | None = None, model: str | None = None
) -> VerifiedKey:
    """As `verify`; what is not cached is looked up in a thread, so that the loop does not wait."""
    hashed = _hashed(token)
    found = cache.cached(hashed)
    if found is MISSING:
        found = await sync_to_async(_look_up)(token, hashed)
    return _opened(found, None, environment, scope, model)


def _hashed(token: str) -> bytes:
    try:
        return sha256(token.encode()).digest()
    except (AttributeError, UnicodeEncodeError):  # no string, or half of a surrogate pair
        raise InvalidKey("malformed") from None


def _look_up(token: str, hashed: bytes) -> Found | None:
    """What is cached was looked at before, as an equal hash is the identical string; the rest has to look like a token."""
    if not tokens.may_open(token, conf.API_KEY_FOREIGN_PATTERNS):
        raise InvalidKey("malformed")
    try:
        return cache.get(hashed)
    except CacheUnavailable as error:
        raise AuthUnavailable from error


def _opened(
    found: Found | None, at: datetime | None, environment: str | None, scope: str | None, model: str | None
) -> VerifiedKey:
    if found is None:
        raise InvalidKey("unknown")
    check(found, at, environment, scope, model)
    lastuse.note(found.key.secret_id, at)
    return found.key


def check(
    found: Found,
    at: datetime | None = None,
    environment: str | None = None,
    scope: str | None = None,
    model: str | None = None,
) -> None:
    """Raise InvalidKey for the first check, in their fixed order, that fails at the instant `at` (None: now)."""
    key = found.key
    if found.stopped:
        _refuse(found.stopped, 401, key)
    if key.not_before is not None or key.expires_at is not None:
        instant = at or now()
        if key.not_before is not None and instant < key.not_before:
            _refuse("not_yet_valid", 401, key)
        if key.expires_at is not None and instant >= key.expires_at:
            _refuse("expired", 401, key)
    if found.closed:
        _refuse(found.closed, 403, key)
    if environment is not None and environment != key.environment:
        _refuse("wrong_environment", 403, key)
    if scope is not None and scope not in key.scopes:
        _refuse("insufficient_scope", 403, key)
    if model is not None and key.allowed_models is not None and model not in key.allowed_models:
        _refuse("model_not_allowed", 403, key)


def _refuse(code: str, status: int, key: VerifiedKey) -> NoReturn:
    raise InvalidKey(code, key_id=key.key_id, kid=key.kid, http_status=status)


# What is above a key is asked for by itself: by primary keys, so that takes an eighth less of the server's time than joins
# do, and the branch and the user, which a key need not have, nothing where there is none.
_FIND = """
SELECT s.id, s.kid, s.digest, s.hash_version, s.revoked_at IS NOT NULL OR k.revoked_at IS NOT NULL, k.enabled, k.id,
    k.tenant_id, k.app_id, k.branch_id, k.user_id, k.environment, k.scopes, k.allowed_models, k.not_before,
    least(s.expires_at, k.expires_at),
    (SELECT t.status = 'active' FROM cp_tenants_tenant t WHERE t.id = k.tenant_id),
    (SELECT a.status = 'active' FROM cp_tenants_app a WHERE a.tenant_id = k.tenant_id AND a.id = k.app_id),
    k.branch_id IS NULL OR coalesce((SELECT b.status = 'active' FROM cp_tenants_branch b
        WHERE b.tenant_id = k.tenant_id AND b.id = k.branch_id), false),
    k.user_id IS NULL OR coalesce((SELECT u.is_active FROM cp_tenants_user u
        WHERE u.tenant_id = k.tenant_id AND u.id = k.user_id), false)
FROM cp_tenants_apikeysecret s
JOIN cp_tenants_apikey k ON k.tenant_id = s.tenant_id AND k.id = s.key_id
WHERE s.digest {}
"""
FIND_ONE = _FIND.format("= %s")
# Padded to three digests: one text, so one prepared plan, whatever number of peppers is listed. An array would be
# planned anew each time.
_FIND_ANY = _FIND.format("IN (%s, %s, %s)")


def load(hashed: bytes, ask: Ask) -> Found | None:
    """The secret whose token has this SHA-256, and its states, in one statement. An older pepper is noted for later."""
    candidates = tokens.digests(hashed, conf.API_KEY_PEPPERS, conf.API_KEY_PEPPER_WRITES)
    row = _row(candidates, ask)
    if row is None:
        return None
    writes, digest = candidates[0]
    if row[3] < writes:  # a newer one comes from a process that writes it already
        rehashing.note(row[0], row[3], writes, digest)
    return _found(row)


def find(hashed: bytes) -> Found | None:
    """As `load`, on this thread's connection and past the cache; nothing is noted. Raises AuthUnavailable."""
    try:
        row = _row(tokens.digests(hashed, conf.API_KEY_PEPPERS, conf.API_KEY_PEPPER_WRITES), on_this_thread)
    except (OperationalError, InterfaceError, InternalError) as error:  # the last: of a transaction that has failed
        raise AuthUnavailable from error
    return None if row is None else _found(row)


def _row(candidates: Sequence[tuple[int, bytes]], ask: Ask) -> tuple[Any, ...] | None:
    values = [digest for _, digest in candidates]
    query = FIND_ONE if len(values) == 1 else _FIND_ANY
    if len(values) > 1:
        values += [values[-1]] * (3 - len(values))
    for row in ask(query, values):
        for version, digest in candidates:
            if version == row[3] and hmac.compare_digest(digest, bytes(row[2])):
                return row
    return None


def _found(row: tuple[Any, ...]) -> Found:
    (secret_id, kid, _, _, revoked, enabled, key_id, tenant, app, branch, user, environment, scopes, models,
     not_before, expires_at, tenant_active, app_active, branch_active, user_active) = row  # fmt: skip
    key = VerifiedKey(
        key_id=key_id, secret_id=secret_id, kid=kid, tenant_id=tenant, app_id=app, branch_id=branch, user_id=user,
        environment=environment, scopes=frozenset(scopes), allowed_models=None if models is None else frozenset(models),
        not_before=not_before, expires_at=expires_at,
    )  # fmt: skip
    stopped = "revoked" if revoked else "" if enabled else "disabled"
    closed = (
        "tenant_disabled" if not tenant_active
        else "app_disabled" if not app_active
        else "branch_disabled" if not branch_active
        else "user_disabled" if not user_active
        else ""
    )  # fmt: skip
    return Found(key, stopped, closed)


def _refs(found: Found) -> list[tuple[str, UUID]]:
    """The rows that a record depends on, by the kinds of the log (migration 0004)."""
    key = found.key
    refs = [("key", key.key_id), ("tenant", key.tenant_id), ("app", key.app_id)]
    refs += [("branch", key.branch_id)] if key.branch_id else []
    return refs + ([("user", key.user_id)] if key.user_id else [])


cache: RecordCache[bytes, Found] = RecordCache(
    "api_keys",
    size=conf.CACHE_API_KEY_SIZE,
    ttl=conf.CACHE_API_KEY_TTL,
    loader=load,
    kinds={"key", "tenant", "app", "branch", "user"},
    refs=_refs,
)
"""Secrets by the SHA-256 of their tokens; stopped ones too, so that hammering one costs no statement."""
