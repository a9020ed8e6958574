from __future__ import annotations

from typing import ClassVar
from uuid import UUID

from controlplane.core.errors import ControlPlaneError


class TenantsError(ControlPlaneError):
    """An operation on tenants, apps, users or access that is refused. Nothing was written."""

    code = "tenants_error"
    http_status = 422
    messages: ClassVar[dict[str, str]] = {
        "slug_taken": "This slug is taken, also by what was deleted. Choose another.",
        "name_taken": "This name is taken. Choose another.",
        "invalid_slug": "A slug has 2 to 63 lower-case letters, digits and single hyphens inside, as acme or acme-eu.",
        "unknown_time_zone": "This is no IANA time zone. Use a name as Europe/Berlin or UTC.",
        "already_suspended": "This is suspended already.",
        "not_suspended": "This is not suspended.",
        "not_active": "This is deleted. Restore it first.",
        "not_deleted": "This is not deleted.",
        "last_owner": "A tenant keeps one active owner. Make somebody else an owner first.",
        "wrong_tenant": "This row belongs to another tenant. Choose one of the same tenant.",
        "reason_required": "Say why: this is kept in the audit log.",
        "operator": "An operator belongs to no tenant and holds no access or key. Choose a tenant's user.",
        "unknown_role": "There is no such role.",
        "not_found": "There is no such row.",
        "password_too_long": "A password has at most 1,024 bytes. Choose a shorter one.",
        "password_unreadable": "This password holds half a character. Write it whole.",
    }


class InvalidCredential(TenantsError):
    """A credential that opens nothing."""

    code = "invalid_credential"
    http_status = 401
    messages: ClassVar[dict[str, str]] = {
        "conflicting_credentials": "Authorization and x-api-key hold different keys. Send one of them.",
    }


class InvalidKey(InvalidCredential):
    """An API key is refused. code: why; public_code: what its bearer may be told.

    key_id, kid: which key, where it is known. Catching InvalidKey fails closed: AuthUnavailable is one too.
    """

    code = "invalid_api_key"
    messages: ClassVar[dict[str, str]] = {
        "malformed": "This is no API key.",
        "unknown": "This API key is unknown.",
        "revoked": "This API key is revoked. Use another one.",
        "disabled": "This API key is disabled. An administrator can enable it.",
        "not_yet_valid": "This API key is not valid yet.",
        "expired": "This API key has expired. Rotate or replace it.",
        "tenant_disabled": "The organisation of this API key is suspended.",
        "app_disabled": "The app of this API key is suspended.",
        "branch_disabled": "The branch of this API key is suspended.",
        "user_disabled": "The user of this API key is deactivated.",
        "wrong_environment": "This API key is of another environment.",
        "insufficient_scope": "This API key lacks the scope that is asked for.",
        "model_not_allowed": "This API key may not use this model.",
        "auth_unavailable": "API keys cannot be checked now. Try again in a second.",
    }

    def __init__(self, code: str, *, key_id: UUID | None = None, kid: str = "", http_status: int = 401) -> None:
        super().__init__(code, http_status=http_status)
        self.key_id, self.kid = key_id, kid

    @property
    def public_code(self) -> str:
        """`malformed` and `unknown` look alike to the bearer; the other codes go to holders of a real secret only."""
        return "invalid_api_key" if self.code in ("malformed", "unknown") else self.code


class AuthUnavailable(InvalidKey):
    """The database gave no answer: nobody is let in, and nobody is told that the key is wrong."""

    retry_after = 1

    def __init__(self) -> None:
        super().__init__("auth_unavailable", http_status=503)


class InvalidRefreshToken(InvalidCredential):
    """A refresh token is refused. code: why; family_id: whose, where it is known.

    `already_rotated` (409) is no attack: another tab was quicker, and its answer holds the new token. All others end what
    the token was for: sign in again.
    """

    code = "invalid_refresh_token"
    messages: ClassVar[dict[str, str]] = {
        "malformed": "This is no refresh token.",
        "unknown": "This refresh token is unknown. Sign in again.",
        "revoked": "This session has ended. Sign in again.",
        "expired": "This session has expired. Sign in again.",
        "user_disabled": "The user of this refresh token is deactivated.",
        "tenant_disabled": "The organisation of this refresh token is suspended.",
        "used": "This refresh token has been used. Use the one that came after it.",
        "already_rotated": "This refresh token has just been used, by another tab perhaps. Use the one that it was given.",
        "reused": "This refresh token was used a second time, so its session has been ended. Sign in again.",
    }
    statuses: ClassVar[dict[str, int]] = {"user_disabled": 403, "tenant_disabled": 403, "already_rotated": 409}

    def __init__(self, code: str, *, family_id: UUID | None = None) -> None:
        super().__init__(code, http_status=self.statuses.get(code))
        self.family_id = family_id


class SignInRefused(TenantsError):
    """A sign-in that is not even tried. retry_after: seconds until it is worth another attempt."""

    code = "too_many_failures"
    http_status = 429

    def __init__(self, retry_after: int) -> None:
        minutes = -(-retry_after // 60)
        super().__init__(
            message="Too many attempts failed under this name or from this address. "
            f"Try again in {minutes} minute{'' if minutes == 1 else 's'}."
        )
        self.retry_after = retry_after


class PasswordsBusy(SignInRefused):
    """As many passwords are being hashed as this machine has cores, and none of them ended in time."""

    code = "passwords_busy"
    http_status = 503
    messages: ClassVar[dict[str, str]] = {
        "passwords_busy": "Too many people are signing in at this moment. Try again in a few seconds."
    }

    def __init__(self) -> None:
        TenantsError.__init__(self)
        self.retry_after = 5


class KeyOperationError(TenantsError):
    """An operation on a key that is refused. Nothing was written."""

    code = "key_operation"
    messages: ClassVar[dict[str, str]] = {
        **TenantsError.messages,
        "operator": "An operator holds no key. Choose a user of the tenant, or none.",
        "naive_datetime": "This time has no time zone. Use an aware datetime.",
        "bad_expiry": "This end lies in the past, or before the beginning. Choose a later one.",
        "bad_grace": "The grace is outside 0 to the longest that is allowed (API_KEY_MAX_GRACE).",
        "bad_scope": "A scope has lower-case letters, digits and _.:- after a letter, at most 64 characters; "
        "64 scopes at most.",
        "too_large": "This is too large for a key.",
        "bad_text": "This holds something that cannot be stored, as NUL, half a character or NaN. Leave it out.",
        "contains_token": "This text holds a token. Remove it: what is written here is shown to others.",
        "revoked": "This key is revoked: that is final. Issue another one.",
        "expired": "This key has expired. Issue another one.",
        "already_rotated": "This key has been rotated meanwhile. Look at its secrets before you rotate it again.",
        "duplicate_secret": "A secret with this digest is there already. It keeps opening the key that it opens.",
        "no_pepper": "There is no pepper to give: set API_KEY_PEPPERS first, with 0: beside it.",
        "bad_import": "Some rows of this file cannot be imported. Mend them, or take them out: it is all or nothing.",
        "bad_digest": "This is no SHA-256: give 32 bytes, or 64 hexadecimal digits.",
        "too_many_live_secrets": "This key has as many live secrets as it may have. "
        "Revoke one, or rotate with grace 0.",
    }
