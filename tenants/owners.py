"""A tenant keeps one active owner: the database refuses to lose the last one; this gives the refusal a name."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from django.db import IntegrityError

from tenants.errors import TenantsError

CONSTRAINT = "cp_tenants_user_last_owner"


@contextmanager
def last_owner_kept() -> Iterator[None]:
    """Turn the database's refusal into TenantsError("last_owner")."""
    try:
        yield
    except IntegrityError as error:
        if CONSTRAINT in str(error):
            raise TenantsError("last_owner", http_status=409) from error
        raise
