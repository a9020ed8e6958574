"""Secrets of hooks, and the signatures that Standard Webhooks asks for."""

from __future__ import annotations

import base64
import secrets
from collections.abc import Sequence
from datetime import UTC, datetime

from standardwebhooks import Webhook

SECRET_BYTES = 32


def new_secret() -> str:
    """A new signing secret, as receivers write it down: `whsec_` and the base64 of 32 random bytes."""
    return "whsec_" + base64.b64encode(secrets.token_bytes(SECRET_BYTES)).decode()


def headers(event_id: str, at: datetime, body: str, whsecs: Sequence[str]) -> dict[str, str]:
    """The three headers of Standard Webhooks 1.0: id, time of this attempt, and one signature per secret, newest first.

    A receiver that knows any of the secrets accepts them, so a rotation needs no moment that both sides agree on. The id is
    the same on every attempt: receivers drop what they have seen. at: aware; it is signed, and receivers refuse 5 minutes.
    """
    at = at.astimezone(UTC)
    return {
        "webhook-id": event_id,
        "webhook-timestamp": str(int(at.timestamp())),
        "webhook-signature": " ".join(Webhook(whsec).sign(event_id, at, body) for whsec in whsecs),
    }
