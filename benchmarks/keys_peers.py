"""The two peers of the verification of keys, as they ship: nothing of theirs is cached."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django.db.models import QuerySet
from django.utils import timezone
from knox.auth import TokenAuthentication
from knox.models import AuthToken, get_digest_token
from rest_framework_api_key.models import APIKey as PeerKey

from tenants.models import User

_knox = TokenAuthentication()


@dataclass(frozen=True, slots=True)
class Tokens:
    api_keys: list[str]
    knox: list[bytes]


def make(count: int, users: QuerySet[User]) -> Tokens:
    """As many keys of each as ours; of knox one for each user, because it looks through all of a user's at each call."""
    api_keys, rows = [], []
    for _ in range(count):
        row = PeerKey(name="bench")
        api_keys.append(PeerKey.objects.assign_key(row))
        rows.append(row)
    PeerKey.objects.bulk_create(rows, batch_size=10_000)
    knox, tokens = [], []
    for user in users.only("pk")[:count]:
        digest, token = get_digest_token()
        knox.append(token.encode())
        tokens.append(AuthToken(digest=digest, token_key=token[:15], user=user, created=timezone.now()))
    AuthToken.objects.bulk_create(tokens, batch_size=10_000)
    return Tokens(api_keys, knox)


def is_valid(key: str) -> None:
    assert PeerKey.objects.is_valid(key)  # noqa: S101 - a refusal would be another path


def authenticate(token: bytes) -> Any:
    return _knox.authenticate_credentials(token)
