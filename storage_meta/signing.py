"""Secrets of hooks, and the signatures that Standard Webhooks asks for."""

from __future__ import annotations

import base64
import secrets

SECRET_BYTES = 32


def new_secret() -> str:
    """A new signing secret, as receivers write it down: `whsec_` and the base64 of 32 random bytes."""
    return "whsec_" + base64.b64encode(secrets.token_bytes(SECRET_BYTES)).decode()
